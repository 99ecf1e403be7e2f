//! The phases of an instance's links: one value, read by the state subject, readiness, gauges and `status` alike.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::LinkKey;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::metrics::InstanceMetrics;
use crate::status::{LinkStatus, Phase};

/// Tells a link from an earlier one of the same name, which may still be on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u64);

/// Where the links write their phases.
pub struct Board {
    links: Mutex<Links>,
    seats: AtomicU64,
    changed: Notify,
    metrics: Arc<InstanceMetrics>,
}

/// The links, and how many there are of each kind: there may be too many to count them at every change.
#[derive(Default)]
struct Links {
    all: BTreeMap<LinkKey, Entry>,
    ready: usize,
    down: [usize; Phase::DOWN.len()],
}

struct Entry {
    seat: Seat,
    status: LinkStatus,
    /// `Ready`, or what it is at since it failed: dialling again mends nothing yet. `None` while it has done neither.
    standing: Option<Phase>,
}

impl Board {
    /// No links yet.
    pub fn new(metrics: Arc<InstanceMetrics>) -> Self {
        Self { links: Mutex::default(), seats: AtomicU64::new(0), changed: Notify::new(), metrics }
    }

    /// A seat for a link, later than all before it.
    pub fn seat(&self) -> Seat {
        Seat(self.seats.fetch_add(1, Ordering::Relaxed))
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link's phase, and why. Nothing is written over what a later link of that name has written.
    pub fn set(
        &self,
        key: &LinkKey,
        seat: Seat,
        phase: Phase,
        detail: Option<String>,
        retry_at: Option<OffsetDateTime>,
    ) {
        let status = LinkStatus {
            key: key.as_str().to_owned(),
            phase,
            since: OffsetDateTime::now_utc(),
            detail,
            retry_at,
        };
        let mut links = self.links();
        let known = links.all.get(key);
        if known.is_some_and(|known| known.seat > seat) {
            return;
        }
        let before = known.filter(|known| known.seat == seat).and_then(|known| known.standing);
        let standing = match phase {
            Phase::Ready => Some(phase),
            Phase::Connecting => before.filter(|before| *before != Phase::Ready),
            // What waits for something else than its next attempt has not failed.
            _ => retry_at.map(|_| phase),
        };
        links.put(key, Entry { seat, status, standing });
        self.tell(&links);
    }

    /// A link is gone for good.
    pub fn remove(&self, key: &LinkKey, seat: Seat) {
        let mut links = self.links();
        if links.all.get(key).is_some_and(|known| known.seat == seat) {
            links.take(key);
        }
        self.tell(&links);
    }

    /// The phase of a link, if there is one of that name.
    pub fn phase(&self, key: &LinkKey) -> Option<Phase> {
        self.links().all.get(key).map(|link| link.status.phase)
    }

    /// All links.
    pub fn list(&self) -> Vec<LinkStatus> {
        self.links().all.values().map(|link| link.status.clone()).collect()
    }

    /// Waits for a change after this call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell(&self, links: &Links) {
        // A gauge is a float; the number of links is far below what it holds exactly.
        self.metrics.link_wanted.set(links.all.len() as f64);
        self.metrics.link_connected.set(links.ready as f64);
        self.metrics.links_down(links.down);
        self.changed.notify_one();
    }
}

impl Links {
    fn put(&mut self, key: &LinkKey, entry: Entry) {
        self.take(key);
        if let Some(number) = self.number(entry.standing) {
            *number += 1;
        }
        self.all.insert(key.clone(), entry);
    }

    fn take(&mut self, key: &LinkKey) {
        if let Some(entry) = self.all.remove(key)
            && let Some(number) = self.number(entry.standing)
        {
            *number -= 1;
        }
    }

    /// The number of links that stand so.
    fn number(&mut self, standing: Option<Phase>) -> Option<&mut usize> {
        match standing? {
            Phase::Ready => Some(&mut self.ready),
            down => self.down.get_mut(Phase::DOWN.iter().position(|phase| *phase == down)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Links that are ready, and those that are down.
    fn counts(board: &Board) -> (usize, usize, [usize; Phase::DOWN.len()]) {
        let links = board.links();
        (links.all.len(), links.ready, links.down)
    }

    #[test]
    fn a_link_is_down_from_its_first_failure_until_it_is_ready() {
        let board = Board::new(Arc::new(InstanceMetrics::new("a", "sub0", &[])));
        let (one, seat) = (LinkKey::new("one"), board.seat());
        let set = |phase, failed: bool| {
            board.set(&one, seat, phase, None, failed.then_some(OffsetDateTime::UNIX_EPOCH));
            counts(&board)
        };
        // It waits for a place, or for its predecessor, and is dialled for the first time.
        assert_eq!(set(Phase::Waiting, false), (1, 0, [0, 0, 0]));
        assert_eq!(set(Phase::Connecting, false), (1, 0, [0, 0, 0]));
        assert_eq!(set(Phase::CredentialsRefused, true), (1, 0, [0, 1, 0]));
        assert_eq!(set(Phase::Connecting, false), (1, 0, [0, 1, 0]));
        assert_eq!(set(Phase::WrongAddress, true), (1, 0, [0, 0, 1]));
        assert_eq!(set(Phase::Ready, false), (1, 1, [0, 0, 0]));
        // Made anew, as asked.
        assert_eq!(set(Phase::Connecting, false), (1, 0, [0, 0, 0]));
        assert_eq!(set(Phase::Waiting, true), (1, 0, [1, 0, 0]));
        // One that takes its name begins afresh, and the end of the first is not its own.
        let next = board.seat();
        board.set(&one, next, Phase::Connecting, None, None);
        assert_eq!(set(Phase::Waiting, true), (1, 0, [0, 0, 0]));
        board.remove(&one, seat);
        assert_eq!(counts(&board), (1, 0, [0, 0, 0]));
        board.set(&one, next, Phase::Ready, None, None);
        assert_eq!(counts(&board), (1, 1, [0, 0, 0]));
        board.remove(&one, next);
        assert_eq!(counts(&board), (0, 0, [0, 0, 0]));
    }
}
