//! What the stream holds of records that were published before: by an earlier run, or out of order, or lost again.

use std::time::Instant;

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::{Event, EventType, LinkKey, Raw};
use time::OffsetDateTime;

use super::state::PreviousRun;
use super::{READ_WITHIN, Spool};
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
        state.previous = PreviousRun::Read(recorded.map(|recorded| recorded - READ_WITHIN));
        for index in 0..state.records.len() {
            let gap = state.records.get(index).and_then(|record| record.gap.as_deref());
            if let Some(gap) = gap.filter(|gap| gap.from == Start::PreviousRun).cloned() {
                self.replace_by_gap(&mut state, index, gap);
            }
        }
    }

    /// The epoch is later than this one from now on, also that of the records that are kept.
    pub fn follow_epoch(&self, other: u64) {
        if self.envelope.follow_epoch(other) {
            self.rehome();
        }
    }

    /// The stream has lost what it had confirmed. The records that are kept come first in what takes its place, and carry,
    /// until the gap follows, that everything before them may be missing.
    pub fn stream_reset(&self) {
        self.change_all(|record| self.envelope.set_ongoing_gap(record, OffsetDateTime::UNIX_EPOCH));
        self.gap(Gap::new(GapReason::StreamReset, None, Start::Unknown));
    }

    /// The stream holds this record, and other clients wrote to it: older records that it does not hold will stand behind newer
    /// ones. Returns how many, each counted once, and publishes an event about them.
    pub fn passed_over(&self, newest: u64, stream: &str) -> u64 {
        let mut state = self.state.borrow_mut();
        let before = |sequence: u64| state.records.partition_point(|record| record.sequence < sequence);
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
