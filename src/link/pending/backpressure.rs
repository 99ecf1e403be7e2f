//! Backpressure of parts: while there is no room for them on their way to NATS, no more of them are read.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::PendingCommands;
use crate::reply::outbox::Quota;

/// How long nothing is read for that while none leaves. From then on, parts are left out until one does.
const PAUSE: Duration = Duration::from_secs(1);

/// There is no room for a part.
pub struct Backpressure {
    quota: Quota,
    until: Instant,
}

impl Backpressure {
    /// Waits until there may be room, or until it is time to look whether any part leaves.
    pub async fn over(&self) {
        let _ = timeout_at(self.until.into(), self.quota.room()).await;
    }
}

impl PendingCommands {
    /// Set while a caller is sent parts, and what is read now might be one that finds no room.
    pub fn backpressure(&mut self, now: Instant) -> Option<Backpressure> {
        let streams = || self.waiting.values().any(|waiting| waiting.stream.is_some());
        let backpressure = self.quota.as_ref().filter(|quota| !quota.has_room() && streams());
        let Some(quota) = backpressure.cloned() else {
            self.no_room_since = None;
            return None;
        };
        let left = quota.left();
        let known = self.no_room_since.filter(|(_, known)| *known == left);
        let (since, _) = *self.no_room_since.insert(known.unwrap_or((now, left)));
        let until = since + PAUSE;
        (until > now).then_some(Backpressure { quota, until })
    }
}
