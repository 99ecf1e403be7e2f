//! One configured use of a service. Instances share threads, and hurt each other no more than their turns allow.
//!
//! * [`context`]: what the daemon hands to an instance; [`shared`]: what its parts share
//! * [`worker`]: the threads that instances run on; `run`: an instance from start to drain
//! * `bus`: its NATS connection, which a reload may move while the links stay
//! * [`router`]: from a command to its link; [`links`]: the links
//! * `local`: commands that do not come over NATS
//! * `listener`: connections that services open to us; `refusals`: those that were refused
//! * [`status`]: what is known of the instance; [`state`]: publishes it

mod bus;
pub mod context;
mod jobs;
pub mod links;
mod listener;
mod local;
mod refusals;
pub mod router;
mod run;
pub mod shared;
pub mod state;
pub mod status;
pub mod worker;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use pontoon_sdk::{LinkKey, LinkSpec, Operation};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::context::epoch;
pub use self::context::{Context, LocalCommand, Run, Settings, since_start};
pub use self::shared::Shared;
use self::worker::{Running, Worker};
use crate::bus::connections::Connections;
use crate::feed::Feed;
use crate::fence::Fences;
use crate::link::erased::ErasedConnector;
use crate::link::supervisor;
use crate::metrics::InstanceMetrics;
use crate::settings::{self, Config};
use crate::status::{BusStatus, CommandStatus, Counts, InstanceStatus, JobStatus, Links, Rates, SpoolStatus};
use crate::transport::{self, Dial};

/// Commands from the page that may wait.
const LOCAL_COMMANDS: usize = 16;

/// An instance that was built and not started: its connector.
pub struct Built<T>(pub Box<dyn ErasedConnector<T>>);

impl<T: Dial> Run for Built<T> {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn dial(&self, transport: settings::Transport) -> Vec<(LinkKey, Result<String, String>)> {
        let settings = transport::Settings::new(transport);
        let runtime = Builder::new_current_thread().enable_all().build();
        let outcomes = self.0.links().into_iter().map(|LinkSpec { key, endpoint, .. }| {
            let endpoint = self.0.endpoint(&key, &endpoint).unwrap_or(endpoint);
            let outcome = match &runtime {
                Ok(runtime) => runtime.block_on(supervisor::dial_once::<T>(&endpoint, &settings)),
                Err(error) => Err(format!("the runtime cannot start: {error}")),
            };
            (key, outcome)
        });
        outcomes.collect()
    }

    fn operations(&self, admin_commands: bool) -> Vec<Operation> {
        router::operations(&*self.0, admin_commands)
    }

    fn revision(&self) -> u64 {
        self.0.revision()
    }

    fn run(self: Box<Self>, context: Context, connections: Connections) -> LocalBoxFuture<'static, ()> {
        run::run(Rc::from(self.0), context, connections).boxed_local()
    }
}

/// Differs where the connector would be made otherwise.
fn digest(instance: Option<&settings::Instance>) -> Vec<u8> {
    let Some(settings::Instance { kind, revision, settings, .. }) = instance else { return Vec::new() };
    let mut digest = Sha256::new_with_prefix(format!("1 {kind} {revision} "));
    digest.update(serde_json::to_vec(settings).unwrap_or_default());
    digest.finalize().to_vec()
}

/// A running instance.
pub struct Handle {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub status: watch::Receiver<InstanceStatus>,
    /// When it last had its turn, as [`since_start`] counts.
    pub heartbeat: Arc<AtomicU64>,
    /// What callers can ask for.
    pub operations: Arc<[Operation]>,
    /// Where commands from the page go.
    pub commands: mpsc::Sender<LocalCommand>,
    settings: watch::Sender<Settings>,
    stop: CancellationToken,
    running: Running,
}

impl Handle {
    /// Starts an instance on a worker. With a lease it has this epoch, and acts while these fences are open.
    pub fn start(
        name: &str,
        run: Box<dyn Run>,
        config: &Config,
        transport: &settings::Transport,
        feed: &Feed,
        worker: Arc<Worker>,
        lease: Option<(u64, Fences)>,
    ) -> Self {
        let (epoch, fences) = lease.unwrap_or_else(|| (epoch(), Fences::default()));
        let initial = InstanceStatus {
            instance: name.to_owned(),
            kind: run.kind().to_owned(),
            epoch,
            bus: BusStatus::default(),
            commands: CommandStatus { subscribed: false, dropped: 0, detail: None },
            jobs: JobStatus::default(),
            links: Links::default(),
            unconfirmed_events: 0,
            unconfirmed_bytes: 0,
            room: true,
            counts: Counts::default(),
            rates: Rates::default(),
            spool: SpoolStatus::default(),
        };
        let (sender, status) = watch::channel(initial);
        let heartbeat = Arc::new(AtomicU64::new(since_start()));
        let stop = CancellationToken::new();
        let (settings, in_force) = watch::channel(Settings::from(config));
        let operations: Arc<[Operation]> = run.operations(config.admin.commands).into();
        // A reload may allow those of operators.
        let mut names: Vec<_> = run.operations(true).iter().map(|operation| operation.name).collect();
        names.push(router::UNKNOWN);
        let (commands, local) = mpsc::channel(LOCAL_COMMANDS);
        let context = Context {
            name: name.to_owned(),
            settings: in_force,
            transport: transport.clone(),
            digest: digest(config.connectors.get(name)),
            metrics: Arc::new(InstanceMetrics::new(name, run.kind(), &names)),
            status: sender,
            heartbeat: heartbeat.clone(),
            feed: feed.clone(),
            commands: local,
            stop: stop.clone(),
            epoch,
            fences,
        };
        let running = worker.run(epoch, move |connections| run.run(context, connections));
        Self { name: name.to_owned(), status, heartbeat, operations, commands, settings, stop, running }
    }

    /// Has it go over to these settings, even while it drains. Links stay, and events that are kept move on. Returns at
    /// once.
    pub fn apply(&self, settings: Settings) {
        self.settings.send_replace(settings);
    }

    /// Asks it to drain and end. Returns at once.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether it has ended, or was given up.
    pub fn is_finished(&self) -> bool {
        self.running.is_finished()
    }

    /// Whether it is the reason why this worker is stuck.
    pub fn blocks(&self, worker: &Arc<Worker>) -> bool {
        self.running.is_on(worker) && self.running.has_turn()
    }

    /// Gives it up if it is on this worker, which is stuck, unless it is the reason. Returns whether it did.
    pub fn abandon_on(&self, worker: &Arc<Worker>) -> bool {
        let is_affected = self.running.is_on(worker) && !self.blocks(worker) && !self.is_finished();
        if is_affected {
            self.running.abandon();
        }
        is_affected
    }
}
