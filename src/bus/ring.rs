//! Events that were read and are not confirmed yet, in order, bounded in bytes and in count.
//!
//! The only place that keeps events. It is a deque in memory; a spool on disk can stand in its place.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pontoon_sdk::EventType;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::envelope::Record;

/// The events of one instance between reading and confirmation.
pub struct Ring {
    state: Mutex<State>,
    max_bytes: usize,
    max_events: usize,
    filled: Notify,
    freed: Notify,
}

#[derive(Default)]
struct State {
    records: VecDeque<Record>,
    bytes: usize,
    /// How many of the records, from the front, are on the wire.
    sent: usize,
}

/// How much a ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Events that are on the wire.
    pub sent: usize,
    /// Events that wait to be sent.
    pub waiting: usize,
    /// Bytes of both.
    pub bytes: usize,
    /// When the oldest of both was read.
    pub oldest: Option<OffsetDateTime>,
}

impl Ring {
    /// An empty ring with these bounds. The last event that fits may reach over the bound in bytes.
    pub fn new(max_bytes: usize, max_events: usize) -> Self {
        Self { state: Mutex::default(), max_bytes, max_events, filled: Notify::new(), freed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more event may come in.
    pub fn has_room(&self) -> bool {
        let state = self.state();
        state.bytes < self.max_bytes && state.records.len() < self.max_events
    }

    /// Waits until there is room.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }

    /// Takes in an event. Whoever calls this has seen that there is room.
    pub fn push(&self, record: Record) {
        let mut state = self.state();
        state.bytes += record.size();
        state.records.push_back(record);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until something waits to be sent.
    pub async fn unsent(&self) {
        loop {
            let filled = self.filled.notified();
            if self.level().waiting > 0 {
                return;
            }
            filled.await;
        }
    }

    /// Shows the next event to `make`; if that makes something of it, the event counts as being on the wire.
    pub fn send_next<T, E>(&self, make: impl FnOnce(&Record) -> Result<T, E>) -> Option<Result<T, E>> {
        let mut state = self.state();
        let made = make(state.records.get(state.sent)?);
        state.sent += usize::from(made.is_ok());
        Some(made)
    }

    /// Changes one event in place.
    pub fn amend(&self, sequence: u64, change: impl FnOnce(&mut Record)) {
        let mut state = self.state();
        let Ok(index) = state.records.binary_search_by_key(&sequence, |record| record.sequence) else {
            return;
        };
        let Some(record) = state.records.get_mut(index) else { return };
        let before = record.size();
        change(record);
        let after = record.size();
        state.bytes = state.bytes + after - before;
    }

    /// Removes every event up to this number, and calls `confirmed` with each.
    pub fn confirm_through(&self, sequence: u64, mut confirmed: impl FnMut(&Record)) {
        let mut state = self.state();
        while let Some(record) = state.records.pop_front_if(|record| record.sequence <= sequence) {
            state.bytes -= record.size();
            state.sent = state.sent.saturating_sub(1);
            confirmed(&record);
        }
        drop(state);
        self.freed.notify_waiters();
    }

    /// Removes one event, wherever it stands.
    pub fn confirm(&self, sequence: u64, confirmed: impl FnOnce(&Record)) {
        let mut state = self.state();
        let Ok(index) = state.records.binary_search_by_key(&sequence, |record| record.sequence) else {
            return;
        };
        let Some(record) = state.records.remove(index) else { return };
        state.bytes -= record.size();
        if index < state.sent {
            state.sent -= 1;
        }
        confirmed(&record);
        drop(state);
        self.freed.notify_waiters();
    }

    /// Nothing counts as being on the wire any more: everything is sent again, from the oldest.
    pub fn rewind(&self) {
        self.state().sent = 0;
        self.filled.notify_one();
    }

    /// Makes room by removing the oldest event that is not on the wire. Gaps stay: what they say would be lost.
    pub fn drop_oldest(&self) -> Option<Record> {
        let mut state = self.state();
        let may_go = |record: &Record| record.kind != EventType::GapDetected;
        let oldest = state.sent + state.records.iter().skip(state.sent).position(may_go)?;
        let record = state.records.remove(oldest)?;
        state.bytes -= record.size();
        Some(record)
    }

    /// The number of the event at this place, counted from the oldest.
    pub fn nth(&self, place: usize) -> Option<u64> {
        self.state().records.get(place).map(|record| record.sequence)
    }

    /// How full it is.
    pub fn level(&self) -> Level {
        let state = self.state();
        Level {
            sent: state.sent,
            waiting: state.records.len() - state.sent,
            bytes: state.bytes,
            oldest: state.records.front().map(Record::read),
        }
    }

    /// Waits until nothing is left.
    pub async fn empty(&self) {
        loop {
            let freed = self.freed.notified();
            if self.state().records.is_empty() {
                return;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pontoon_sdk::{Event, LinkKey, Raw};

    use super::*;
    use crate::config::Events;
    use crate::envelope::Envelope;

    fn filled(ring: &Ring, number: usize) {
        let envelope = Envelope::new("p", "t", "i", 1, &Events::default());
        for _ in 0..number {
            let event = Event::new(EventType::LogEntry, Raw::null());
            ring.push(envelope.seal(
                event,
                &LinkKey::new("main"),
                Instant::now(),
                OffsetDateTime::UNIX_EPOCH,
            ));
        }
    }

    fn send(ring: &Ring, number: usize) -> Vec<u64> {
        let next = |_| ring.send_next(|record| Ok::<_, ()>(record.sequence))?.ok();
        (0..number).filter_map(next).collect()
    }

    #[test]
    fn events_leave_when_they_are_confirmed_and_not_before() {
        let ring = Ring::new(1 << 20, 100);
        filled(&ring, 5);
        assert_eq!(send(&ring, 3), [1, 2, 3]);
        assert_eq!((ring.level().sent, ring.level().waiting), (3, 2));
        assert_eq!(ring.level().oldest, Some(OffsetDateTime::UNIX_EPOCH));
        ring.confirm(2, |record| assert_eq!(record.sequence, 2));
        assert_eq!(ring.level().sent, 2);
        assert_eq!((ring.nth(0), ring.nth(1)), (Some(1), Some(3)));
        ring.rewind();
        assert_eq!(send(&ring, 9), [1, 3, 4, 5]);
        let mut confirmed = Vec::new();
        ring.confirm_through(4, |record| confirmed.push(record.sequence));
        assert_eq!(confirmed, [1, 3, 4]);
        assert_eq!((ring.level().sent, ring.nth(0)), (1, Some(5)));
        assert!(ring.send_next(|_| Err::<(), _>(())).is_none());
        ring.confirm_through(5, |_| {});
        assert_eq!(ring.level(), Level { sent: 0, waiting: 0, bytes: 0, oldest: None });
    }

    #[test]
    fn it_is_bounded_in_count_and_in_bytes() {
        let ring = Ring::new(1 << 20, 3);
        filled(&ring, 3);
        assert!(!ring.has_room());
        assert_eq!(send(&ring, 1), [1]);
        // What is on the wire may have arrived: only what was not sent is dropped.
        assert_eq!(ring.drop_oldest().unwrap().sequence, 2);
        assert!(ring.has_room());
        let ring = Ring::new(1, 100);
        filled(&ring, 1);
        assert!(!ring.has_room());
    }

    #[tokio::test]
    async fn whoever_waits_for_room_gets_it() {
        let ring = Ring::new(1 << 20, 1);
        filled(&ring, 1);
        let waited = async {
            ring.room().await;
            ring.has_room()
        };
        let freed = async {
            tokio::task::yield_now().await;
            ring.confirm_through(1, |_| {});
        };
        assert!(tokio::join!(waited, freed).0);
    }
}
