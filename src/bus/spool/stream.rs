//! What the stream holds of records that were published before: by an earlier run, or out of order, or lost again.

use std::time::Instant;

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::{Event, EventType, LinkKey, Raw};
use time::OffsetDateTime;

use super::state::PreviousRun;
use super::{Position, READ_WITHIN, Spool};
use crate::envelope::{Gap, Start};
use crate::metrics::GapReason;

impl Spool {
    /// What the stream holds of earlier runs: when its last event was recorded, if there is one. What the service sent
    /// shortly before may have been lost, too. Only the first call counts.
    pub fn previous_run(&self, recorded: Option<OffsetDateTime>) {
        let mut state = self.state.borrow_mut();
        if !matches!(state.previous, PreviousRun::NotRead) {
            return;
        }
        let recorded = recorded.map(|recorded| recorded - READ_WITHIN);
        state.previous = PreviousRun::Read(recorded.max(state.previous_on_disk));
        for index in 0..state.records.len() {
            let gap = state.records.get(index).and_then(|record| record.gap.as_deref());
            if let Some(gap) = gap.filter(|gap| gap.from == Start::PreviousRun).cloned() {
                self.replace_by_gap(&mut state, index, gap);
            }
        }
    }

    /// The epoch is later than this one from now on, also that of the records that this run has made.
    pub fn follow_epoch(&self, other: u64) {
        let before = self.envelope.epoch();
        if !self.envelope.follow_epoch(other) {
            return;
        }
        let epoch = self.envelope.epoch();
        self.change_all(|record| {
            if record.epoch == before {
                self.envelope.move_to(record, epoch);
            }
        });
        if let Some(disk) = &mut self.state.borrow_mut().disk {
            disk.saved.moved.push((before, epoch));
            disk.saved.epoch = epoch;
        }
    }

    /// Whether this is the epoch of a run of this daemon: of this one, or of one that has left its records on the disk.
    pub fn is_own_epoch(&self, epoch: u64) -> bool {
        let state = self.state.borrow();
        let saved = state.disk.as_ref().map(|disk| &disk.saved);
        epoch == self.envelope.epoch() || saved.is_some_and(|saved| saved.lineage().contains(&epoch))
    }

    /// What the stream had confirmed to the run before this one. `None` if there was none that kept events on the disk.
    pub fn left(&self) -> Option<Option<Position>> {
        let state = self.state.borrow();
        let saved = &state.disk.as_ref()?.saved;
        (!saved.epochs.is_empty()).then(|| saved.position.clone())
    }

    /// The stream has confirmed everything that is not in the spool any more, up to this sequence.
    pub fn accounted(&self, stream: &str, created: OffsetDateTime, accounted: u64) {
        let state = &mut *self.state.borrow_mut();
        let front = state.records.front().map(|record| record.sequence);
        let Some(disk) = &mut state.disk else { return };
        let Some(front) = front.or(disk.is_last().then_some(state.newest.0 + 1)) else { return };
        match &mut disk.saved.position {
            Some(position) if position.created == created && position.stream == stream => {
                (position.accounted, position.front) = (accounted, front);
            }
            position => *position = Some(Position { stream: stream.to_owned(), created, accounted, front }),
        }
    }

    /// The stream has lost what it had confirmed. The records that are kept come first in what takes its place, and carry,
    /// until the gap follows, that everything before them may be missing.
    pub fn stream_reset(&self) {
        self.change_all(|record| self.envelope.set_ongoing_gap(record, OffsetDateTime::UNIX_EPOCH));
        {
            let state = &mut *self.state.borrow_mut();
            if let Some(disk) = &mut state.disk {
                disk.saved.reset = state.newest.0 + 1;
            }
        }
        self.gap(Gap::new(GapReason::StreamReset, None, Start::Unknown));
    }

    /// The stream holds this record, and other clients wrote to it: older records that it does not hold will stand behind newer
    /// ones. Returns how many, each counted once, and publishes an event about them.
    pub fn passed_over(&self, newest: (u64, u64), stream: &str) -> u64 {
        let mut state = self.state.borrow_mut();
        let before = |id: (u64, u64)| state.records.partition_point(|record| record.id() < id);
        let records = before(newest).saturating_sub(before(state.passed_over));
        state.passed_over = newest.max(state.passed_over);
        drop(state);
        if records == 0 {
            return 0;
        }
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        self.metrics.events_reordered.increment(records);
        let mut event = Event::new(EventType::ErrorRaised, Raw::null());
        event.fields.error = Some(ServiceError {
            code: Some("out_of_order".into()),
            message: Some(format!(
                "{records} events stand in the stream {stream} behind newer ones, because another client wrote to it; ce-sequence has their order"
            )),
            details: None,
        });
        self.offer(&LinkKey::new("_"), Box::new(event), Instant::now(), OffsetDateTime::now_utc());
        records
    }
}
