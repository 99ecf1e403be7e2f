//! One configured use of a service: a thread with a runtime and a NATS connection of its own, so that no other
//! instance can be hurt.
//!
//! * `run`: what runs on that thread, from start to drain
//! * `bus`: its NATS connection, which a reload may move while the links stay
//! * [`router`]: from a command to its link; [`links`]: the links
//! * `listener`: connections that services open to us; `refusals`: those that were refused
//! * [`status`]: what is known of the instance

mod bus;
pub mod links;
mod listener;
mod refusals;
pub mod router;
mod run;
pub mod status;

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use pontoon_sdk::Connector;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::spool::Spool;
use crate::envelope::Envelope;
use crate::link::gaps::ReadyLinks;
use crate::link::phases::Board;
use crate::link::received::Activity;
use crate::log::Throttle;
use crate::metrics::InstanceMetrics;
use crate::settings::{self, Config};
use crate::status::{BusStatus, CommandStatus, InstanceStatus};
use crate::transport::{self, Dial};

/// An instance that was checked and waits to be started.
pub trait Run: Send {
    /// Its connector's type.
    fn kind(&self) -> &'static str;
    /// Runs it on this thread until it is asked to stop and has drained.
    fn run(self: Box<Self>, context: Context);
    /// Names of its operations, for metrics.
    fn operations(&self) -> Vec<&'static str>;
}

/// The settings that every instance shares. A reload may change them while an instance runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How to reach NATS.
    pub nats: settings::Nats,
    /// The form of events.
    pub events: settings::Events,
    /// How events are kept.
    pub delivery: settings::Delivery,
    /// How commands are taken.
    pub commands: settings::Commands,
    /// How the instance stops.
    pub shutdown: settings::Shutdown,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            nats: config.nats.clone(),
            events: config.events.clone(),
            delivery: config.delivery.clone(),
            commands: config.commands.clone(),
            shutdown: config.shutdown.clone(),
        }
    }
}

/// What an instance is given.
pub struct Context {
    name: String,
    settings: watch::Receiver<Settings>,
    transport: settings::Transport,
    metrics: Arc<InstanceMetrics>,
    status: watch::Sender<InstanceStatus>,
    heartbeat: Arc<AtomicU64>,
    stop: CancellationToken,
    epoch: u64,
}

/// What the parts of an instance share.
pub struct Shared {
    /// The instance.
    pub name: String,
    /// Events on their way to NATS.
    pub spool: Rc<Spool>,
    /// What is made of events.
    pub envelope: Rc<Envelope>,
    /// Counts.
    pub metrics: Arc<InstanceMetrics>,
    /// Phases of the links.
    pub board: Board,
    /// Whether NATS has processed the subscription to commands in this start of the instance.
    pub subscribed: watch::Sender<bool>,
    /// The settings in force.
    settings: Mutex<Arc<Settings>>,
    /// How sockets are made.
    pub transport: transport::Settings,
    /// The links that were ready in this run of the instance.
    pub ready_links: ReadyLinks,
    /// When the instance's thread ran.
    pub activity: Arc<Activity>,
    /// Log lines that others can cause as often as they like.
    pub throttles: Throttles,
    /// A part of the instance has failed as none should: all of it starts over.
    pub fault: CancellationToken,
}

impl Shared {
    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other settings in force, as far as the bus need not move for them. Events that are kept stay as they are; only
    /// the prefix of their subjects follows.
    fn adopt(&self, settings: Settings) {
        let delivery = &settings.delivery;
        self.spool.reconfigure(delivery);
        self.metrics.spool_max_bytes.set(delivery.buffer.0 as f64);
        self.metrics.spool_max_events.set(delivery.buffer_events as f64);
        self.spool.reshape(&settings.nats.prefix, &settings.events);
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// Log lines that others can cause as often as they like.
#[derive(Default)]
pub struct Throttles {
    /// Connections to the listener that were not let in.
    pub handshakes: Throttle,
    /// Commands whose reply subject is not allowed.
    pub replies: Throttle,
}

/// A connector with its Rust types.
pub struct Typed<C> {
    connector: Arc<C>,
}

impl<C: Connector> Typed<C> {
    /// Wraps a connector.
    pub fn new(connector: C) -> Self {
        Self { connector: Arc::new(connector) }
    }
}

impl<C: Connector> Run for Typed<C>
where
    C::Transport: Dial,
{
    fn kind(&self) -> &'static str {
        C::TYPE
    }

    fn operations(&self) -> Vec<&'static str> {
        let mut names: Vec<_> =
            router::operations(&*self.connector).iter().map(|operation| operation.name).collect();
        names.push(router::UNKNOWN);
        names
    }

    fn run(self: Box<Self>, context: Context) {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                return tracing::error!(instance = context.name, %error, "no runtime for the instance");
            }
        };
        runtime.block_on(run::live(self.connector, context));
        // A name that is being looked up on a thread of the runtime's must not hold up the end.
        runtime.shutdown_background();
    }
}

/// A running instance.
pub struct Handle {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub status: watch::Receiver<InstanceStatus>,
    /// When its thread last had time to itself, as [`since_start`] counts.
    pub heartbeat: Arc<AtomicU64>,
    settings: watch::Sender<Settings>,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Handle {
    /// Starts an instance on a thread of its own.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn start(
        name: &str,
        run: Box<dyn Run>,
        config: &Config,
        transport: &settings::Transport,
    ) -> io::Result<Self> {
        let epoch = epoch();
        let initial = InstanceStatus {
            instance: name.to_owned(),
            kind: run.kind().to_owned(),
            epoch,
            bus: BusStatus::default(),
            commands: CommandStatus { subscribed: false, dropped: 0, detail: None },
            links: Vec::new(),
            unconfirmed_events: 0,
            unconfirmed_bytes: 0,
            room: true,
        };
        let (sender, status) = watch::channel(initial);
        let heartbeat = Arc::new(AtomicU64::new(since_start()));
        let stop = CancellationToken::new();
        let (settings, in_force) = watch::channel(Settings::from(config));
        let context = Context {
            name: name.to_owned(),
            settings: in_force,
            transport: transport.clone(),
            metrics: Arc::new(InstanceMetrics::new(name, run.kind(), &run.operations())),
            status: sender,
            heartbeat: heartbeat.clone(),
            stop: stop.clone(),
            epoch,
        };
        let thread =
            std::thread::Builder::new().name(format!("instance {name}")).spawn(move || run.run(context))?;
        Ok(Self { name: name.to_owned(), status, heartbeat, settings, stop, thread })
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

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Milliseconds since the daemon began to count: a clock that never jumps.
pub fn since_start() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A number that grows with every start: milliseconds since 1970, and more than the last one that was given out.
fn epoch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    let next = |last: u64| Some(now.max(last + 1));
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| now.max(last + 1))
}
