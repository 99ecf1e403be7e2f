//! The pace of parts: while they find no room on their way to NATS, no more of them are read.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::Replies;
use crate::reply::outbox::Quota;

/// How long nothing is read for that while none leaves. From then on, parts are left out until one does.
const PATIENCE: Duration = Duration::from_secs(1);

/// There is no room for a part.
pub struct Full {
    quota: Quota,
    until: Instant,
}

impl Full {
    /// Waits until there may be room, or until it is time to look whether any part leaves.
    pub async fn over(&self) {
        let _ = timeout_at(self.until.into(), self.quota.room()).await;
    }
}

impl Replies {
    /// Set while somebody is told parts, and what is read now might be one that finds no room.
    pub fn full(&mut self, now: Instant) -> Option<Full> {
        let streams = || self.waiting.values().any(|waiting| waiting.stream.is_some());
        let full = self.quota.as_ref().filter(|quota| !quota.has_room() && streams());
        let Some(quota) = full.cloned() else {
            self.full_since = None;
            return None;
        };
        let left = quota.left();
        let known = self.full_since.filter(|(_, known)| *known == left);
        let (since, _) = *self.full_since.insert(known.unwrap_or((now, left)));
        let until = since + PATIENCE;
        (until > now).then_some(Full { quota, until })
    }
}
