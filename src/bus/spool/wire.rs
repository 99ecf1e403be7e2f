//! What is on the wire: records leave for NATS in order, and the spool when NATS has confirmed them.

use std::cell::RefMut;
use std::time::Instant;

use time::OffsetDateTime;

use super::state::State;
use super::{Reduced, Spool};
use crate::envelope::{Gap, Record, Start};
use crate::metrics::{DropReason, GapReason};

impl Spool {
    /// Holds records back that were not sent yet, or no longer does.
    pub fn hold(&self, held: bool) {
        self.state.borrow_mut().held = held;
        self.filled.notify_one();
    }

    /// Waits until there is something to send.
    pub async fn unsent(&self) {
        loop {
            let filled = self.filled.notified();
            if self.state.borrow().next().is_some() {
                return;
            }
            filled.await;
        }
    }

    /// Shows the next record to `make`; if that makes something of it, the record counts as being on the wire.
    pub fn send_next<T, E>(&self, make: impl FnOnce(&Record) -> Result<T, E>) -> Option<Result<T, E>> {
        let mut state = self.state.borrow_mut();
        let made = make(state.next()?);
        state.sent += usize::from(made.is_ok());
        Some(made)
    }

    /// Makes a record smaller that NATS does not take because of its size: without its payload, or else as a gap.
    pub fn reduce(&self, sequence: u64) -> Option<Reduced> {
        let mut state = self.state.borrow_mut();
        let index = state.index(sequence)?;
        let (size, record) = state.records.get_mut(index).map(|record| (record.size(), record))?;
        let reduced = if record.omit_raw() {
            let smaller = record.size();
            state.bytes = state.bytes + smaller - size;
            Reduced::Smaller
        } else if let Some(gap) = record.gap.as_deref().filter(|gap| gap.rejoins.is_some()) {
            let gap = Gap { rejoins: None, ..gap.clone() };
            self.replace_by_gap(&mut state, index, gap);
            Reduced::Smaller
        } else if record.gap.is_some() {
            state.remove(index);
            Reduced::Removed
        } else {
            let (link, at) = (Some(record.link.clone()), record.recorded);
            let (headers, body) = (record.header_lines(true).concat(), record.body().to_vec());
            let gap = Gap { to: at, dropped: Some(1), ..Gap::new(GapReason::TooLarge, link, Start::At(at)) };
            self.count_gap(&gap);
            self.replace_by_gap(&mut state, index, gap);
            Reduced::Gap { headers, body }
        };
        if matches!(reduced, Reduced::Gap { .. } | Reduced::Removed) {
            self.metrics.dropped(DropReason::TooLarge).increment(1);
        }
        self.after_removal(state);
        Some(reduced)
    }

    /// NATS has confirmed every record up to this number.
    pub fn confirm_through(&self, sequence: u64) {
        let (mut state, now) = (self.state.borrow_mut(), Instant::now());
        while state.records.front().is_some_and(|record| record.sequence <= sequence) {
            self.published(&mut state, 0, now);
        }
        state.confirmed_at = Some(now);
        self.after_removal(state);
    }

    /// NATS has confirmed one record, wherever it stands.
    pub fn confirm(&self, sequence: u64) {
        let mut state = self.state.borrow_mut();
        let Some(index) = state.index(sequence) else { return };
        let now = Instant::now();
        self.published(&mut state, index, now);
        state.confirmed_at = Some(now);
        self.after_removal(state);
    }

    /// The stream holds the record with this epoch and number, if there is one here.
    pub fn confirm_stored(&self, (epoch, sequence): (u64, u64)) {
        let is_here = {
            let state = self.state.borrow();
            let record = state.index(sequence).and_then(|index| state.records.get(index));
            record.is_some_and(|record| record.epoch == epoch)
        };
        if is_here {
            self.confirm(sequence);
        }
    }

    pub(super) fn published(&self, state: &mut State, index: usize, now: Instant) {
        if let Some(record) = state.remove(index) {
            state.confirmed(record.sequence);
            self.metrics.events_published.increment(1);
            self.metrics.event_latency.record(now.saturating_duration_since(record.read_at));
        }
    }

    /// Where there is room again, the gap of what was dropped comes first.
    pub(super) fn after_removal(&self, mut state: RefMut<'_, State>) {
        if state.fits() {
            (state.full_since, state.overflowing) = (None, false);
            if let Some(missing) = state.missing.take() {
                let gap = Gap { to: OffsetDateTime::now_utc(), ..missing };
                self.count_gap(&gap);
                self.push_gap(&mut state, gap);
            }
        }
        let wants_work =
            state.disk.as_ref().is_some_and(|disk| disk.wants_load(&state) || !disk.tail.is_empty());
        drop(state);
        if wants_work {
            self.work.notify_one();
        }
        self.freed.notify_waiters();
    }

    /// No record counts as being on the wire: all are sent again, from the oldest.
    pub fn rewind(&self) {
        self.state.borrow_mut().sent = 0;
        self.filled.notify_one();
        self.freed.notify_waiters();
    }

    /// The number of the record at this place, counted from the oldest.
    pub fn nth(&self, place: usize) -> Option<u64> {
        self.state.borrow().records.get(place).map(|record| record.sequence)
    }

    /// Epoch and number of the record at this place.
    pub fn nth_id(&self, place: usize) -> Option<(u64, u64)> {
        self.state.borrow().records.get(place).map(Record::id)
    }

    /// Waits until nothing is on the wire.
    pub async fn idle(&self) {
        self.freed_until(|state| state.sent == 0).await;
    }
}
