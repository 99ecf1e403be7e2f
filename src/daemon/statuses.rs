//! What is known of the instances, for whoever asks: the daemon writes it, the admin endpoint reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::instance::{Handle, since_start};
use crate::status::InstanceStatus;

/// The instances, by name, and whether the daemon itself is well.
#[derive(Default)]
pub struct Roster {
    instances: Mutex<BTreeMap<String, Entry>>,
    heartbeat: AtomicU64,
    /// Those that are configured and not started yet.
    waiting: Mutex<Vec<String>>,
    started: AtomicBool,
    stopping: AtomicBool,
}

struct Entry {
    status: watch::Receiver<InstanceStatus>,
    heartbeat: Arc<AtomicU64>,
    running: bool,
}

/// An instance as `/status` shows it.
#[derive(Serialize)]
pub struct Shown {
    /// Whether it runs; `false` between a fault and the next start.
    pub running: bool,
    /// What it said last.
    #[serde(flatten)]
    pub status: InstanceStatus,
}

/// Why nothing should be expected of an instance just now, if there is a reason.
fn reason(Shown { running, status }: &Shown) -> Option<String> {
    let name = &status.instance;
    if !running {
        Some(format!("{name} ended by itself and is started again"))
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

impl Roster {
    /// A loop that has not come round for this long is stuck.
    pub const STUCK: Duration = Duration::from_secs(10);

    /// The state of every instance, by name.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |entry: &Entry| Shown { running: entry.running, status: entry.status.borrow().clone() };
        self.instances().values().map(shown).collect()
    }

    /// Whose loop has not come round for so long. An instance that is being started again has no loop: ending the
    /// whole daemon for it would only hurt the others.
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

    /// Why nothing should be expected of this daemon just now. A service that is away is no reason.
    pub fn unready(&self) -> Vec<String> {
        let own = if self.stopping.load(Ordering::Relaxed) {
            Some("the daemon is stopping".to_owned())
        } else {
            (!self.started.load(Ordering::Relaxed)).then(|| "the daemon is starting".to_owned())
        };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let waiting = waiting.into_iter().map(|name| format!("{name}: waits to be started"));
        let instances = self.shown().into_iter().filter_map(|shown| reason(&shown));
        own.into_iter().chain(waiting).chain(instances).collect()
    }

    pub(super) fn started(&self, handle: &Handle) {
        let (status, heartbeat) = (handle.status.clone(), handle.heartbeat.clone());
        self.instances().insert(handle.name.clone(), Entry { status, heartbeat, running: true });
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

    /// The instances that wait to be started; from the first call on, the daemon counts as started.
    pub(super) fn wait<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let instances = self.instances();
        let waiting = names.filter(|name| !instances.contains_key(*name)).cloned().collect();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        self.started.store(true, Ordering::Relaxed);
    }

    fn instances(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn insert(&self, status: watch::Receiver<InstanceStatus>, heartbeat: Arc<AtomicU64>) {
        let name = status.borrow().instance.clone();
        self.instances().insert(name, Entry { status, heartbeat, running: true });
        self.started.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{BusStatus, CommandStatus, LinkStatus, Phase};

    fn roster(connected: bool, room: bool, subscribed: bool) -> (Roster, Arc<AtomicU64>) {
        let status = InstanceStatus {
            instance: "shop".into(),
            kind: "sub0".into(),
            epoch: 1,
            bus: BusStatus { connected, ..BusStatus::default() },
            commands: CommandStatus { subscribed, dropped: 0, detail: None },
            links: vec![LinkStatus {
                key: "main".into(),
                phase: Phase::CredentialsRefused,
                since: time::OffsetDateTime::UNIX_EPOCH,
                detail: None,
                retry_at: None,
            }],
            unconfirmed_events: 0,
            unconfirmed_bytes: 0,
            room,
        };
        let (roster, beat) = (Roster::default(), Arc::new(AtomicU64::new(since_start())));
        roster.insert(watch::channel(status).1, beat.clone());
        roster.beat();
        (roster, beat)
    }

    #[test]
    fn an_instance_is_ready_once_subscribed_and_while_it_is_connected_or_has_room_whatever_its_service_does()
    {
        for (connected, room, ready) in
            [(true, true, true), (true, false, true), (false, true, true), (false, false, false)]
        {
            for subscribed in [true, false] {
                let (roster, _) = roster(connected, room, subscribed);
                let ready = ready && subscribed;
                assert_eq!(roster.unready().is_empty(), ready, "{connected} {room} {subscribed}");
            }
        }
        let (roster, _) = roster(true, true, true);
        roster.stop();
        assert_eq!(roster.unready(), ["the daemon is stopping"]);
    }

    #[test]
    fn what_is_not_started_yet_is_not_ready() {
        let empty = Roster::default();
        assert_eq!(empty.unready(), ["the daemon is starting"]);
        let (roster, _) = roster(true, true, true);
        let names = ["shop".to_owned(), "new".to_owned()];
        roster.wait(names.iter());
        assert_eq!(roster.unready(), ["new: waits to be started"]);
        roster.wait([].iter());
        assert_eq!(roster.unready(), [""; 0]);
    }

    #[test]
    fn a_loop_that_stands_still_is_named_and_one_that_ended_is_not() {
        let limit = Duration::from_millis(30);
        let (roster, beat) = roster(true, true, true);
        assert!(roster.stuck(limit).is_empty());
        while since_start() < 100 {
            std::thread::yield_now();
        }
        roster.beat();
        beat.store(since_start() - 40, Ordering::Relaxed);
        assert_eq!(roster.stuck(limit), ["shop"]);
        roster.ended("shop");
        assert!(roster.stuck(limit).is_empty());
        assert_eq!(roster.unready(), ["shop ended by itself and is started again"]);
        roster.heartbeat.store(0, Ordering::Relaxed);
        assert_eq!(roster.stuck(limit), ["the daemon"]);
    }
}
