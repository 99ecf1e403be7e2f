//! Backpressure of parts: while there is no room for them on their way to NATS, no more of them are read.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use crate::reply::Quota;

/// How long nothing is read for that while none leaves. From then on, parts are left out until one does.
const PAUSE: Duration = Duration::from_secs(1);

/// There is no room for a part.
pub struct Backpressure {
    quota: Quota,
    until: Instant,
}

/// Waits until there may be room for a part, or until it is time to check whether any leaves.
pub async fn over(backpressure: Option<&Backpressure>) {
    match backpressure {
        Some(Backpressure { quota, until }) => drop(timeout_at((*until).into(), quota.room()).await),
        None => std::future::pending().await,
    }
}

/// The room that one connection has for parts.
#[derive(Default)]
pub(super) struct PartRoom {
    quota: Option<Quota>,
    /// Since when there is none, and how many parts had left then.
    full_since: Option<(Instant, u64)>,
}

impl PartRoom {
    /// Parts may take this much of the outbox.
    pub(super) fn set(&mut self, quota: Quota) {
        self.quota = Some(quota);
    }

    /// Set if there is no room, and `wanted`.
    pub(super) fn backpressure(
        &mut self,
        now: Instant,
        wanted: impl FnOnce() -> bool,
    ) -> Option<Backpressure> {
        let Some(quota) = self.quota.as_ref().filter(|quota| !quota.has_room() && wanted()).cloned() else {
            self.full_since = None;
            return None;
        };
        let left = quota.left();
        let known = self.full_since.filter(|(_, known)| *known == left);
        let (since, _) = *self.full_since.insert(known.unwrap_or((now, left)));
        let until = since + PAUSE;
        (until > now).then_some(Backpressure { quota, until })
    }
}
