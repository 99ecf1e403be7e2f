//! The end of the daemon: every instance drains, and the leases are given up.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep_until, timeout_at};

use super::signals::Signals;
use super::{Daemon, TICK};
use crate::instance::Handle;

/// Exit code for an end that was not a drain.
const UNAVAILABLE: u8 = 69;
/// How long giving up the leases may take at the end; what is left ends by age.
const LEAVE: Duration = Duration::from_secs(2);

impl Daemon {
    /// Drains every instance; a second signal or the deadline ends the process at once.
    pub(super) async fn drain(mut self, signals: &mut Signals) -> ExitCode {
        self.statuses.stop();
        self.notify.stopping(self.config.shutdown.timeout.0);
        tracing::info!("stopping; instances drain");
        let deadline = Instant::now() + self.config.shutdown.timeout.0;
        let running = std::mem::take(&mut self.running).into_values().map(|running| running.handle);
        let mut left: Vec<Handle> = running.collect();
        for handle in &left {
            handle.stop();
        }
        left.extend(self.ending.drain(..).map(|ending| ending.handle));
        if let Some(cluster) = &self.cluster {
            cluster.leave();
        }
        let mut ticks = interval(TICK / 10);
        let mut unconfirmed = 0;
        while !left.is_empty() {
            let why = tokio::select! {
                _ = ticks.tick() => {
                    self.statuses.beat();
                    for handle in left.extract_if(.., |handle| handle.is_finished()) {
                        let status = handle.status.borrow();
                        if let Some(cluster) = &self.cluster {
                            cluster.ended(&handle.name);
                        }
                        unconfirmed += if status.spool.on_disk { 0 } else { status.unconfirmed_events };
                        // Else it would count as stuck while others drain.
                        self.statuses.remove(&handle.name);
                    }
                    continue;
                }
                () = sleep_until(deadline) => "not drained within shutdown.timeout",
                () = signals.stop() => "a second signal: stopped without a drain",
            };
            for Handle { name, status, .. } in &left {
                let events = status.borrow().unconfirmed_events;
                tracing::error!(instance = name, unconfirmed_events = events, "{why}");
            }
            return ExitCode::from(UNAVAILABLE);
        }
        if let Some(cluster) = &mut self.cluster {
            let _ = timeout_at(deadline.min(Instant::now() + LEAVE), cluster.left()).await;
        }
        if unconfirmed > 0 {
            tracing::error!(events = unconfirmed, "stopped, but NATS did not confirm all events");
            return ExitCode::from(UNAVAILABLE);
        }
        tracing::info!("drained");
        ExitCode::SUCCESS
    }
}
