//! What is known of an instance, published on every change and every ten seconds, and kept for the admin endpoint.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::context::since_start;
use super::shared::Shared;
use super::state::State;
use crate::bus::connect::Connection;
use crate::bus::spool::{Spool, Storage};
use crate::link::gaps::{Activity, BEAT};
use crate::log::Throttle;
use crate::status::{BusStatus, CommandStatus, Counts, InstanceStatus, Rates, SpoolStatus};

/// How often it is checked, for levels that change all the time.
const CHECK: Duration = Duration::from_secs(1);
/// The time that rates are computed over.
const WINDOW: Duration = Duration::from_secs(5);
/// How often it is logged that nothing is published.
const STILL_AWAY: Duration = Duration::from_secs(30);
/// How long changes are collected before they are published together.
const SETTLE: Duration = Duration::from_millis(50);

/// Keeps the status up to date, and publishes it.
pub async fn keep(
    shared: Rc<Shared>,
    bus: watch::Sender<BusStatus>,
    mut connection: watch::Receiver<Connection>,
    status: watch::Sender<InstanceStatus>,
    client: Client,
) {
    let mut bus = bus.subscribe();
    let mut checks = interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut subscribed = shared.subscribed.subscribe();
    let mut jobs = shared.jobs.subscribe();
    let (mut breaks, mut dropped) = (0, 0);
    let drops = Throttle::default();
    let mut logged = Instant::now();
    let mut state = State::default();
    let mut rates = RateWindow::default();
    loop {
        tokio::select! {
            () = shared.link.phases.changed() => sleep(SETTLE).await,
            changed = bus.changed() => match changed {
                Ok(()) => sleep(SETTLE).await,
                Err(_) => return,
            },
            changed = connection.changed() => if changed.is_err() { return },
            Ok(()) = subscribed.changed() => {}
            Ok(()) = jobs.changed() => sleep(SETTLE).await,
            _ = checks.tick() => {}
        }
        // Here as well as where events are sent: while NATS is away, nothing is.
        shared.link.spool.gauge();
        let now = connection.borrow_and_update().clone();
        if now.up && now.generation > breaks {
            shared.link.metrics.nats_reconnects.increment(now.generation - breaks);
            breaks = now.generation;
        }
        let more = now.dropped.saturating_sub(dropped);
        dropped = now.dropped;
        shared.link.metrics.nats_messages_dropped.increment(more);
        let instance = shared.link.instance.clone();
        drops.log_many(more, move |messages| {
            tracing::warn!(
                instance,
                messages,
                "messages from NATS were dropped: they came faster than they were taken (slow consumer)"
            );
        });
        let changes = shared.link.phases.take_changes();
        let bus = bus.borrow_and_update().clone();
        if bus.publishing {
            logged = Instant::now();
        } else if logged.elapsed() >= STILL_AWAY {
            logged = Instant::now();
            let detail = bus.detail.as_deref().unwrap_or_default();
            let level = shared.link.spool.level();
            tracing::warn!(
                instance = shared.link.instance,
                connected = bus.connected,
                unconfirmed_events = level.sent + level.waiting,
                %detail,
                "NATS still takes no events"
            );
        }
        status.send_modify(|status| {
            status.links.apply(&changes);
            status.bus = bus;
            status.commands = commands(&shared, &now);
            status.jobs = shared.jobs.borrow().clone();
            set_levels(status, &shared.link.spool);
            status.counts = shared.link.metrics.counts();
            status.rates = rates.next(status.counts, Instant::now());
        });
        state.add(changes);
        if now.up && shared.fence.is_open() {
            let due = state.due(&status.borrow(), client.server_info().max_payload);
            state.publish(&client, &shared.envelope, due).await;
        }
    }
}

/// Sets how much waits for NATS.
pub fn set_levels(status: &mut InstanceStatus, spool: &Spool) {
    let level = spool.level();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    status.unconfirmed_events = number(level.sent + level.waiting);
    status.unconfirmed_bytes = number(level.bytes);
    status.room = spool.has_room();
    let storage = spool.storage();
    let on_disk = storage == Storage::Disk;
    let detail = if let Storage::Failed(reason) = storage { Some(reason) } else { None };
    status.spool = SpoolStatus { on_disk, unwritten_events: number(level.unwritten), detail };
}

/// What was counted in the last seconds.
#[derive(Default)]
struct RateWindow(VecDeque<(Instant, Counts)>);

impl RateWindow {
    /// The rates since the oldest counts that are kept.
    fn next(&mut self, counts: Counts, now: Instant) -> Rates {
        if self.0.back().is_none_or(|(last, _)| *last + CHECK / 2 <= now) {
            self.0.push_back((now, counts));
        }
        while self.0.get(1).is_some_and(|(second, _)| *second + WINDOW <= now) {
            self.0.pop_front();
        }
        let (since, before) = self.0.front().copied().unwrap_or((now, counts));
        let seconds = (now - since).as_secs_f64();
        let rate = |now: u64, before: u64| {
            // A count is far below what a float holds exactly.
            let more = now.saturating_sub(before) as f64;
            if seconds > 0.0 { (more / seconds * 10.0).round() / 10.0 } else { 0.0 }
        };
        Rates {
            frames_received: rate(counts.frames_received, before.frames_received),
            events_published: rate(counts.events_published, before.events_published),
            commands: rate(counts.commands, before.commands),
        }
    }
}

fn commands(shared: &Shared, connection: &Connection) -> CommandStatus {
    let subscribed = *shared.subscribed.borrow();
    let detail = if connection.commands_refused {
        let subject = shared.envelope.subjects().commands();
        Some(format!("NATS refuses the subscription; allow the daemon's user to subscribe to {subject}.>"))
    } else if subscribed {
        None
    } else {
        connection.detail.clone()
    };
    CommandStatus { subscribed, dropped: connection.dropped, detail }
}

/// Shows that the instance gets its turn.
pub async fn beat(heartbeat: Arc<AtomicU64>, activity: Rc<Activity>) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        activity.beat(std::time::Instant::now());
        heartbeat.store(since_start(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let (mut window, start) = (RateWindow::default(), Instant::now());
        let counts = |events_published| Counts { events_published, ..Counts::default() };
        let mut next = |second: u64, events| {
            window.next(counts(events), start + Duration::from_secs(second)).events_published
        };
        assert_eq!(next(0, 1_000), 0.0);
        assert_eq!(next(2, 1_020), 10.0);
        for second in 3..=20 {
            next(second, 1_020);
        }
        assert_eq!(next(21, 1_025), 1.0);
    }
}
