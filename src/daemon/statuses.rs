//! The statuses of all instances: the daemon writes them, the admin endpoint and the service manager's thread read them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pontoon_sdk::Operation;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::cluster::view::{self, ClusterStatus};
use crate::instance::{Handle, LocalCommand, since_start};
use crate::status::InstanceStatus;

/// How many links of an instance are named that are down.
const NAMED_LINKS: usize = 8;

/// The instances, by name, and whether the daemon itself is well.
#[derive(Default)]
pub struct InstanceStatuses {
    instances: Mutex<BTreeMap<String, Entry>>,
    heartbeat: AtomicU64,
    /// Configured instances that are not started yet.
    waiting: Mutex<Vec<String>>,
    started: AtomicBool,
    stopping: AtomicBool,
    cluster: Mutex<Option<view::Source>>,
}

struct Entry {
    status: watch::Receiver<InstanceStatus>,
    heartbeat: Arc<AtomicU64>,
    operations: Arc<[Operation]>,
    commands: Option<mpsc::Sender<LocalCommand>>,
    running: bool,
}

/// The status of an instance, as `/status` shows it.
#[derive(Serialize)]
pub struct InstanceSnapshot {
    /// Whether it runs; `false` between a fault and the next start.
    pub running: bool,
    /// Its latest status.
    #[serde(flatten)]
    pub status: InstanceStatus,
}

/// Why an instance is not ready; `None` if it is.
fn reason(InstanceSnapshot { running, status }: &InstanceSnapshot) -> Option<String> {
    let name = &status.instance;
    if !running {
        Some(format!("{name} ended unexpectedly and is started again"))
    } else if !status.commands.subscribed {
        let known = status.commands.detail.as_deref().or(status.bus.detail.as_deref());
        let why = known.unwrap_or("NATS has not confirmed the subscription");
        Some(format!("{name}: not subscribed to commands yet: {why}"))
    } else if status.bus.fenced {
        Some(format!("{name} is fenced: {}", status.bus.detail.as_deref().unwrap_or_default()))
    } else if !status.bus.connected && !status.room {
        Some(format!("{name}: NATS is away and the buffer is full"))
    } else {
        None
    }
}

/// What is wrong with an instance that is ready.
fn warnings(InstanceSnapshot { status, .. }: &InstanceSnapshot) -> Vec<String> {
    let name = &status.instance;
    let mut warnings = Vec::new();
    if !status.bus.publishing {
        let detail = status.bus.detail.as_deref().unwrap_or("it is not known why");
        warnings.push(format!("{name}: events are not published: {detail}"));
    }
    if let Some(detail) = &status.commands.detail {
        warnings.push(format!("{name}: commands: {detail}"));
    }
    if let Some(detail) = &status.spool.detail {
        warnings.push(format!("{name}: events are in memory only: {detail}"));
    }
    let down = status.links.0.values().filter(|link| link.is_down);
    let shown = down.clone().take(NAMED_LINKS).map(|link| {
        let last = link.last_error.as_ref().map(|error| error.text.as_str());
        let detail = link.detail.as_deref().or(last).unwrap_or_default();
        format!("{name}: link {}: {}: {detail}", link.key, link.phase.as_str())
    });
    warnings.extend(shown);
    if let Some(more) = down.count().checked_sub(NAMED_LINKS).filter(|more| *more > 0) {
        warnings.push(format!("{name}: {more} more links are down"));
    }
    warnings
}

impl InstanceStatuses {
    /// A loop without a heartbeat for this long is stuck.
    pub const STUCK: Duration = Duration::from_secs(10);

    /// The status of every instance, sorted by name.
    pub fn snapshots(&self) -> Vec<InstanceSnapshot> {
        let snapshot = |entry: &Entry| InstanceSnapshot {
            running: entry.running,
            status: entry.status.borrow().clone(),
        };
        self.instances().values().map(snapshot).collect()
    }

    /// The status of the daemon, as `/status` shows it.
    pub fn status(&self) -> Value {
        let mut status = json!({ "version": env!("CARGO_PKG_VERSION"), "instances": self.snapshots() });
        if let Some(cluster) = self.cluster() {
            status["cluster"] = json!(cluster);
        }
        status
    }

    /// What callers can ask for, by instance.
    pub fn operations(&self) -> BTreeMap<String, Arc<[Operation]>> {
        self.instances().iter().map(|(name, entry)| (name.clone(), entry.operations.clone())).collect()
    }

    /// Where commands for an instance go.
    pub fn commands(&self, instance: &str) -> Option<mpsc::Sender<LocalCommand>> {
        self.instances().get(instance)?.commands.clone()
    }

    /// The loops without a heartbeat for longer than `limit`, by name. An instance that is being restarted has no loop, and
    /// does not count: ending the whole daemon for it would hurt the others.
    pub fn stuck(&self, limit: Duration) -> Vec<String> {
        let now = since_start();
        let late = |beat: &AtomicU64| {
            Duration::from_millis(now.saturating_sub(beat.load(Ordering::Relaxed))) > limit
        };
        let daemon = late(&self.heartbeat).then(|| "the daemon".to_owned());
        let instances = self.instances();
        let stuck = instances.iter().filter(|(_, entry)| entry.running && late(&entry.heartbeat));
        daemon.into_iter().chain(stuck.map(|(name, _)| name.clone())).collect()
    }

    /// Why the daemon is not ready. A service that is away is not a reason.
    pub fn unready(&self) -> Vec<String> {
        let daemon = if self.stopping.load(Ordering::Relaxed) {
            Some("the daemon is stopping".to_owned())
        } else {
            (!self.started.load(Ordering::Relaxed)).then(|| "the daemon is starting".to_owned())
        };
        // Else the next one could be stopped in an update, and no daemon would run what this one is to take.
        let joins = self.cluster().is_some_and(|cluster| !cluster.joined);
        let joins =
            joins.then(|| "the daemon joins the cluster: it waits for heartbeats of others".to_owned());
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let waiting = waiting.into_iter().map(|name| format!("{name}: waits to be started"));
        let instances = self.snapshots().into_iter().filter_map(|snapshot| reason(&snapshot));
        daemon.into_iter().chain(joins).chain(waiting).chain(instances).collect()
    }

    /// What is wrong while the daemon may be ready: events that are not published, and links that have failed.
    pub fn degraded(&self) -> Vec<String> {
        self.snapshots().iter().filter(|snapshot| reason(snapshot).is_none()).flat_map(warnings).collect()
    }

    pub(super) fn started(&self, handle: &Handle) {
        let entry = Entry {
            status: handle.status.clone(),
            heartbeat: handle.heartbeat.clone(),
            operations: handle.operations.clone(),
            commands: Some(handle.commands.clone()),
            running: true,
        };
        self.instances().insert(handle.name.clone(), entry);
    }

    pub(super) fn ended(&self, name: &str) {
        if let Some(entry) = self.instances().get_mut(name) {
            entry.running = false;
        }
    }

    pub(super) fn remove(&self, name: &str) {
        self.instances().remove(name);
    }

    pub(super) fn beat(&self) {
        self.heartbeat.store(since_start(), Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Sets the instances that wait to be started; from the first call on, the daemon counts as started.
    pub(super) fn wait<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let instances = self.instances();
        let waiting = names.filter(|name| !instances.contains_key(*name)).cloned().collect();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        self.started.store(true, Ordering::Relaxed);
    }

    /// Sets where the view of the cluster is read.
    pub(super) fn set_cluster(&self, cluster: Option<view::Source>) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = cluster;
    }

    /// What is known of the cluster, if there is one.
    pub fn cluster(&self) -> Option<ClusterStatus> {
        let source = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone();
        source.map(|source| source.read())
    }

    fn instances(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn insert(&self, status: watch::Receiver<InstanceStatus>, heartbeat: Arc<AtomicU64>) {
        let name = status.borrow().instance.clone();
        let (operations, commands) = (Arc::from([]), None);
        self.instances().insert(name, Entry { status, heartbeat, operations, commands, running: true });
        self.started.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use pontoon_sdk::LinkKey;

    use super::*;
    use crate::status::{
        BusStatus, CommandStatus, Counts, JobStatus, LinkStatus, Links, Phase, Rates, SpoolStatus,
    };

    fn statuses(connected: bool, room: bool, subscribed: bool) -> (InstanceStatuses, Arc<AtomicU64>) {
        let main = LinkStatus {
            key: "main".into(),
            phase: Phase::CredentialsRefused,
            since: time::OffsetDateTime::UNIX_EPOCH,
            detail: None,
            retry_at: None,
            last_error: None,
            joined: pontoon_sdk::Joined::default(),
            is_down: false,
        };
        let status = InstanceStatus {
            instance: "shop".into(),
            kind: "sub0".into(),
            epoch: 1,
            bus: BusStatus { connected, ..BusStatus::default() },
            commands: CommandStatus { subscribed, dropped: 0, detail: None },
            jobs: JobStatus::default(),
            links: Links(BTreeMap::from([(LinkKey::new("main"), main)])),
            unconfirmed_events: 0,
            unconfirmed_bytes: 0,
            room,
            counts: Counts::default(),
            rates: Rates::default(),
            spool: SpoolStatus::default(),
        };
        let (statuses, beat) = (InstanceStatuses::default(), Arc::new(AtomicU64::new(since_start())));
        statuses.insert(watch::channel(status).1, beat.clone());
        statuses.beat();
        (statuses, beat)
    }

    #[test]
    fn an_instance_is_ready_once_subscribed_and_while_it_is_connected_or_has_room_whatever_its_service_does()
    {
        for (connected, room, ready) in
            [(true, true, true), (true, false, true), (false, true, true), (false, false, false)]
        {
            for subscribed in [true, false] {
                let (statuses, _) = statuses(connected, room, subscribed);
                let ready = ready && subscribed;
                assert_eq!(statuses.unready().is_empty(), ready, "{connected} {room} {subscribed}");
            }
        }
        let (statuses, _) = statuses(true, true, true);
        statuses.stop();
        assert_eq!(statuses.unready(), ["the daemon is stopping"]);
    }

    #[test]
    fn a_link_that_has_failed_is_named_until_it_is_ready_also_while_it_is_dialled_again() {
        let metrics = Arc::new(crate::metrics::InstanceMetrics::new("shop", "sub0", &[]));
        let phases = crate::link::phases::LinkPhases::new(metrics);
        let handle = phases.handle(LinkKey::new("main"));
        let warned = |phase, failed: bool| {
            let retry_at = failed.then_some(time::OffsetDateTime::UNIX_EPOCH);
            handle.set(phase, failed.then(|| "no sign-in".to_owned()), retry_at);
            let (statuses, _) = statuses(true, true, true);
            let mut snapshot = statuses.snapshots().remove(0);
            snapshot.status.bus.publishing = true;
            snapshot.status.links.apply(&phases.take_changes());
            warnings(&snapshot)
        };
        assert_eq!(warned(Phase::Connecting, false), [""; 0]);
        assert_eq!(warned(Phase::Waiting, true), ["shop: link main: waiting: no sign-in"]);
        assert_eq!(warned(Phase::Connecting, false), ["shop: link main: connecting: no sign-in"]);
        assert_eq!(warned(Phase::Ready, false), [""; 0]);
    }

    #[test]
    fn what_is_not_started_yet_is_not_ready() {
        let empty = InstanceStatuses::default();
        assert_eq!(empty.unready(), ["the daemon is starting"]);
        let (statuses, _) = statuses(true, true, true);
        let names = ["shop".to_owned(), "new".to_owned()];
        statuses.wait(names.iter());
        assert_eq!(statuses.unready(), ["new: waits to be started"]);
        statuses.wait([].iter());
        assert_eq!(statuses.unready(), [""; 0]);
    }

    #[test]
    fn a_loop_without_a_heartbeat_is_named_and_one_that_ended_is_not() {
        let limit = Duration::from_millis(30);
        let (statuses, beat) = statuses(true, true, true);
        assert!(statuses.stuck(limit).is_empty());
        while since_start() < 100 {
            std::thread::yield_now();
        }
        statuses.beat();
        beat.store(since_start() - 40, Ordering::Relaxed);
        assert_eq!(statuses.stuck(limit), ["shop"]);
        statuses.ended("shop");
        assert!(statuses.stuck(limit).is_empty());
        assert_eq!(statuses.unready(), ["shop ended unexpectedly and is started again"]);
        statuses.heartbeat.store(0, Ordering::Relaxed);
        assert_eq!(statuses.stuck(limit), ["the daemon"]);
    }
}
