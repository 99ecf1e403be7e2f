//! What the daemon hands to an instance, and the clock that both use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pontoon_sdk::{LinkKey, Operation};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::bus::connections::Connections;
use crate::feed::Feed;
use crate::fence::Fences;
use crate::metrics::InstanceMetrics;
use crate::settings::{self, Config};
use crate::status::InstanceStatus;

/// An instance that was checked and waits to be started.
pub trait Run: Send {
    /// Its connector's type.
    fn kind(&self) -> &'static str;
    /// Runs it until it is asked to stop and has drained. Called on its thread, whose connections these are; what
    /// it spawns there ends with it.
    fn run(self: Box<Self>, context: Context, connections: Connections) -> LocalBoxFuture<'static, ()>;
    /// Dials each of its links once and closes it again: the links with their addresses, or why they cannot be connected.
    fn dial(&self, _transport: settings::Transport) -> Vec<(LinkKey, Result<String, String>)> {
        Vec::new()
    }
    /// Its operations, with those that every instance has. `pause` and `resume` are among them with `admin.commands`.
    fn operations(&self, admin_commands: bool) -> Vec<Operation>;
    /// Changes with the files that its settings name.
    fn revision(&self) -> u64 {
        0
    }
}

/// A command, and where its replies go.
pub struct LocalCommand {
    /// The tokens behind the instance in the subject, such as `message.send`.
    pub operation: String,
    /// `Pontoon-Wait` and others.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Bytes,
    /// The bodies of its replies, up to the last.
    pub replies: mpsc::Sender<Bytes>,
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
    /// How jobs are taken.
    pub jobs: settings::Jobs,
    /// How the instance stops.
    pub shutdown: settings::Shutdown,
    /// Whether it can be paused by a command.
    pub admin_commands: bool,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            nats: config.nats.clone(),
            events: config.events.clone(),
            delivery: config.delivery.clone(),
            commands: config.commands.clone(),
            jobs: config.jobs.clone(),
            shutdown: config.shutdown.clone(),
            admin_commands: config.admin.commands,
        }
    }
}

/// What an instance is given. It crosses to the instance's thread, and what changes later is shared with the daemon.
pub struct Context {
    /// The instance.
    pub(super) name: String,
    /// The settings to put in force.
    pub(super) settings: watch::Receiver<Settings>,
    /// How its sockets are made.
    pub(super) transport: settings::Transport,
    /// A digest of the settings of its connector.
    pub(super) digest: Vec<u8>,
    /// Counts.
    pub(super) metrics: Arc<InstanceMetrics>,
    /// What is known of it.
    pub(super) status: watch::Sender<InstanceStatus>,
    /// When it last had its turn, as [`since_start`] counts.
    pub(super) heartbeat: Arc<AtomicU64>,
    /// What people watch.
    pub(super) feed: Feed,
    /// Commands from the page.
    pub(super) commands: mpsc::Receiver<LocalCommand>,
    /// Asks it to drain and end.
    pub(super) stop: CancellationToken,
    /// The epoch of its first events: see [`epoch`].
    pub(super) epoch: u64,
    /// Until when it may act.
    pub(super) fences: Fences,
}

/// Milliseconds since the daemon began to count: a clock that never jumps.
pub fn since_start() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A number that grows with every start: milliseconds since 1970, and more than the last one that was returned.
pub fn epoch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    let next = |last: u64| Some(now.max(last + 1));
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| now.max(last + 1))
}
