//! Up to where events are accepted: on the disk, or confirmed by NATS.

use super::Spool;
use super::state::State;
use super::storage::Disk;
use crate::bus::dedup::{Changes, Chunk};

impl Spool {
    /// Takes a value that goes with everything that was read so far, and returns it once all of that is accepted, or is covered
    /// by a gap that is.
    pub async fn once_accepted<T>(&self, take: impl FnOnce() -> T) -> T {
        self.freed_until(|state| state.missing.is_none()).await;
        let (taken, newest) = (take(), self.state.borrow().newest.0);
        self.freed_until(|state| state.accepted() >= newest).await;
        taken
    }

    /// The identities of events that were read since this was called last: see [`crate::bus::dedup::Recent::take_changes`].
    pub fn take_identities(&self) -> Option<Changes> {
        self.state.borrow_mut().recent.take_changes()
    }

    /// Knows the events of an earlier run again.
    pub fn restore_identities(&self, head: &[u8], chunks: impl Iterator<Item = Chunk>) {
        self.state.borrow_mut().recent.restore(head, chunks);
    }

    /// Waits until there may be new identities.
    pub async fn identified(&self) {
        self.identified.notified().await;
    }
}

impl State {
    /// Every record up to this number is accepted.
    fn accepted(&self) -> u64 {
        let first = self.records.front().map(|record| record.sequence);
        match &self.disk {
            Some(disk) => disk.written.max(disk.front(self).saturating_sub(1)),
            None => first.map_or(self.newest.0, |first| first.saturating_sub(1)),
        }
    }
}

impl Disk {
    /// The number of the oldest record that is not confirmed, or of the next one.
    pub(super) fn front(&self, state: &State) -> u64 {
        let unloaded = self.spilled.map(|_| self.loaded + 1);
        let first = state.records.front().map(|record| record.sequence).or(unloaded);
        first.or(self.tail.front().map(|record| record.sequence)).unwrap_or(state.newest.0 + 1)
    }
}
