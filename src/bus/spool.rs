//! The spool: the one place that keeps, drops and counts events between reading and confirmation by NATS.
//!
//! Events stand in the order in which they were read, bounded in bytes and in count. While it is full, sockets are not read;
//! after `delivery.max_pause` the policy of `delivery.overflow` applies, every dropped event is counted, and a gap says how
//! many there were. The first record of a run is a gap: an earlier run may have read events that it could not publish.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::{End, Event, EventType, LinkKey, Raw};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::bus::dedup::{Identity, Recent};
use crate::envelope::{Envelope, Gap, Record, Start};
use crate::metrics::{DropReason, GapReason, InstanceMetrics};
use crate::settings::{Delivery, Overflow};
use state::{PreviousRun, State};

/// An event was read this long after it came at the most, unless it carries since when a link was down or read late.
pub const READ_WITHIN: Duration = Duration::from_secs(1);

/// The events of one instance between reading and confirmation.
pub struct Spool {
    instance: String,
    envelope: Arc<Envelope>,
    metrics: Arc<InstanceMetrics>,
    recent: Recent,
    state: Mutex<State>,
    filled: Notify,
    freed: Notify,
}

/// How much a spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Events that are on the wire.
    pub sent: usize,
    /// Events that wait to be sent.
    pub waiting: usize,
    /// Bytes of both.
    pub bytes: usize,
    /// When the oldest of both was recorded.
    pub oldest: Option<OffsetDateTime>,
}

/// What became of a record that NATS does not take because of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduced {
    /// It is sent without its payload.
    WithoutRaw,
    /// A gap stands in its place; its body had so many bytes.
    Gap(usize),
    /// It was a gap, and nothing smaller can be published.
    Removed,
}

impl Spool {
    /// An empty spool.
    pub fn new(
        instance: &str,
        envelope: Arc<Envelope>,
        metrics: Arc<InstanceMetrics>,
        delivery: &Delivery,
    ) -> Self {
        let state = State { delivery: delivery.clone(), ..State::default() };
        let (recent, state) = (Recent::default(), Mutex::new(state));
        let (filled, freed) = (Notify::new(), Notify::new());
        let instance = instance.to_owned();
        Self { instance, envelope, metrics, recent, state, filled, freed }
    }

    /// Changes the bounds and the policy. What is over smaller bounds stays: there is no room for more until enough of it is
    /// confirmed.
    pub fn reconfigure(&self, delivery: &Delivery) {
        let mut state = self.state();
        state.delivery = delivery.clone();
        if !state.fits() {
            state.full_since.get_or_insert_with(Instant::now);
        }
        self.after_removal(state);
    }

    /// Holds back what was not sent yet, or no longer does.
    pub fn hold(&self, held: bool) {
        self.state().held = held;
        self.filled.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event that was read just now, unless it is a duplicate, or there is no room and the policy drops it.
    pub fn offer(&self, link: &LinkKey, mut event: Box<Event>, read_at: Instant, read: OffsetDateTime) {
        self.metrics.events_read.increment(1);
        let identity = event.identity.as_deref().map(|text| self.recent.identity(event.kind, text));
        if identity.is_some_and(|identity| !self.recent.remember(identity)) {
            self.metrics.events_deduplicated.increment(1);
            return;
        }
        if let Some(command) = event.command {
            event.fields.command = Some(self.envelope.command(command));
        }
        if event.kind == EventType::FrameUnrecognised {
            self.metrics.events_unrecognised.increment(1);
        }
        let mut state = self.state();
        if !self.makes_room(&mut state) {
            return self.drop_new(&mut state, link, read, identity);
        }
        self.begin(&mut state, None);
        let mut record = self.envelope.seal(*event, link, read_at, read);
        record.identity = identity;
        self.push(&mut state, record);
    }

    /// An event was read that has been published already, from another frame.
    pub fn duplicate(&self) {
        self.metrics.events_read.increment(1);
        self.metrics.events_deduplicated.increment(1);
    }

    /// Takes a gap, and ends the ongoing gap of its link.
    pub fn gap(&self, mut gap: Gap) {
        let mut state = self.state();
        if let Some(link) = &gap.link {
            state.ongoing.end(link);
        }
        self.count_gap(&gap);
        if !self.makes_room(&mut state) {
            // The gap that follows once there is room covers this one, too.
            self.metrics.dropped(DropReason::Overflow).increment(1);
            return state.miss(gap);
        }
        self.begin(&mut state, Some(&mut gap));
        self.push_gap(&mut state, gap);
    }

    /// A link is down since this time; a gap will say so once it is over. Until then the events of other links carry the
    /// time, so that a gap after the death of the daemon can begin there.
    pub fn gap_begins(&self, link: &LinkKey, since: OffsetDateTime) {
        self.state().ongoing.begin(link, since);
    }

    /// The link is up again, and nothing was missed on it.
    pub fn gap_is_void(&self, link: &LinkKey) {
        self.state().ongoing.end(link);
    }

    /// Since when a link is down or behind whose gap is not published yet.
    #[cfg(test)]
    pub(crate) fn ongoing_gap(&self) -> Option<OffsetDateTime> {
        self.state().ongoing.since()
    }

    /// The first record of a run says that earlier runs may have lost something, on any link.
    fn begin(&self, state: &mut State, first: Option<&mut Gap>) {
        if std::mem::replace(&mut state.begun, true) {
            return;
        }
        match first {
            Some(gap) if gap.reason == GapReason::Restarted => gap.link = None,
            _ => {
                let gap = Gap::restarted(None);
                self.count_gap(&gap);
                self.push_gap(state, gap);
            }
        }
    }

    fn count_gap(&self, gap: &Gap) {
        self.metrics.gap(gap.reason).increment(1);
        self.metrics.events_read.increment(1);
    }

    fn push_gap(&self, state: &mut State, gap: Gap) {
        let record = self.envelope.gap(gap, state.previous());
        self.push(state, record);
    }

    fn push(&self, state: &mut State, mut record: Record) {
        record.ongoing_gap = state.uncovered_since();
        state.bytes += record.size();
        state.records.push_back(record);
        if !state.fits() {
            state.full_since.get_or_insert_with(Instant::now);
        }
        self.filled.notify_one();
    }

    /// Whether one more record may come in. Before the policy applies it always may: then there are only those of the frames
    /// that were read already.
    fn makes_room(&self, state: &mut State) -> bool {
        if !state.overflowing && !state.is_overdue() {
            return true;
        }
        while state.delivery.overflow == Overflow::DropOldest && !state.fits() {
            if !self.drop_oldest(state) {
                break;
            }
        }
        state.fits()
    }

    /// Drops the oldest event that is not on the wire: the gap in its place grows by it. Gaps stay.
    fn drop_oldest(&self, state: &mut State) -> bool {
        let may_go = |record: &Record| record.kind != EventType::GapDetected;
        let Some(index) = state.records.range(state.sent..).position(may_go) else { return false };
        let index = state.sent + index;
        let before = index.checked_sub(1).filter(|before| *before >= state.sent);
        let Some(oldest) = state.records.get(index) else { return false };
        let (link, at, identity) = (oldest.link().clone(), oldest.recorded(), oldest.identity);
        self.count_dropped(identity);
        let previous = state.previous();
        let grows = before
            .and_then(|before| state.records.get_mut(before))
            .filter(|record| record.gap.as_ref().is_some_and(|gap| gap.reason == GapReason::Overflow));
        let change = match grows {
            Some(record) => {
                let size = record.size();
                if let Some(gap) = &record.gap {
                    let mut gap = Gap { to: at, dropped: gap.dropped.map(|n| n + 1), ..(**gap).clone() };
                    gap.link = gap.link.filter(|known| *known == link);
                    self.envelope.replace_by_gap(record, gap, previous);
                }
                (size, record.size())
            }
            None => {
                let gap = Gap {
                    to: at,
                    dropped: Some(1),
                    ..Gap::new(GapReason::Overflow, Some(link), Start::At(at))
                };
                self.count_gap(&gap);
                let Some(record) = state.records.get_mut(index) else { return false };
                let size = record.size();
                self.envelope.replace_by_gap(record, gap, previous);
                state.bytes = state.bytes + record.size() - size;
                return true;
            }
        };
        state.bytes = state.bytes + change.1 - change.0;
        if let Some(record) = state.records.remove(index) {
            state.bytes -= record.size();
        }
        true
    }

    fn drop_new(&self, state: &mut State, link: &LinkKey, read: OffsetDateTime, identity: Option<Identity>) {
        self.count_dropped(identity);
        let gap = Gap::new(GapReason::Overflow, Some(link.clone()), Start::At(read));
        state.miss(Gap { dropped: Some(1), ..gap });
    }

    fn count_dropped(&self, identity: Option<Identity>) {
        self.metrics.dropped(DropReason::Overflow).increment(1);
        // It may be published after all if the service sends it again.
        if let Some(identity) = identity {
            self.recent.forget(identity);
        }
    }

    /// Whether sockets must not be read.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.full_since.is_some() && !state.overflowing
    }

    /// When [`Spool::overflow`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        state.full_since.filter(|_| !state.overflowing).map(|since| since + state.delivery.max_pause.0)
    }

    /// There was no room for too long: from now on the policy applies, until there is room.
    ///
    /// # Errors
    /// If the policy is to close the connection.
    pub fn overflow(&self) -> Result<(), End> {
        let mut state = self.state();
        let dropped = match state.delivery.overflow {
            Overflow::Disconnect => {
                return Err(End::disconnected("NATS does not take events, and there is no room for more"));
            }
            Overflow::DropNewest => "new events",
            Overflow::DropOldest => "the oldest events",
        };
        if state.full_since.is_some() && !std::mem::replace(&mut state.overflowing, true) {
            tracing::warn!(
                instance = self.instance,
                "no room for events: {dropped} are dropped until there is"
            );
        }
        drop(state);
        self.freed.notify_waiters();
        Ok(())
    }

    /// Waits until sockets may be read again, or until the policy applies.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    /// Whether there is room for more events.
    pub fn has_room(&self) -> bool {
        self.state().full_since.is_none()
    }

    /// Waits until something waits to be sent.
    pub async fn unsent(&self) {
        loop {
            let filled = self.filled.notified();
            let level = self.level();
            if level.waiting > 0 && !self.state().held {
                return;
            }
            filled.await;
        }
    }

    /// Shows the next record to `make`; if that makes something of it, the record counts as being on the wire.
    pub fn send_next<T, E>(&self, make: impl FnOnce(&Record) -> Result<T, E>) -> Option<Result<T, E>> {
        let mut state = self.state();
        let made = make(state.records.get(state.sent).filter(|_| !state.held)?);
        state.sent += usize::from(made.is_ok());
        Some(made)
    }

    /// Makes a record smaller that NATS does not take because of its size: without its payload, or else as a gap.
    pub fn reduce(&self, sequence: u64) -> Option<Reduced> {
        let mut state = self.state();
        let previous = state.previous();
        let index = state.index(sequence)?;
        let record = state.records.get_mut(index)?;
        let (size, body) = (record.size(), record.body.len());
        let reduced = if record.omit_raw() {
            Reduced::WithoutRaw
        } else if record.kind == EventType::GapDetected {
            Reduced::Removed
        } else {
            let (link, at) = (Some(record.link().clone()), record.recorded());
            let gap = Gap { to: at, dropped: Some(1), ..Gap::new(GapReason::TooLarge, link, Start::At(at)) };
            self.count_gap(&gap);
            self.envelope.replace_by_gap(record, gap, previous);
            Reduced::Gap(body)
        };
        state.bytes = state.bytes + state.records.get(index).map_or(0, Record::size) - size;
        if reduced != Reduced::WithoutRaw {
            self.metrics.dropped(DropReason::TooLarge).increment(1);
        }
        if reduced == Reduced::Removed {
            self.remove(&mut state, index);
        }
        self.after_removal(state);
        Some(reduced)
    }

    /// NATS has confirmed every record up to this number.
    pub fn confirm_through(&self, sequence: u64) {
        let mut state = self.state();
        while state.records.front().is_some_and(|record| record.sequence <= sequence) {
            if let Some(record) = self.remove(&mut state, 0) {
                self.count_published(&record);
            }
        }
        self.after_removal(state);
    }

    /// NATS has confirmed one record, wherever it stands.
    pub fn confirm(&self, sequence: u64) {
        let mut state = self.state();
        let Some(index) = state.index(sequence) else { return };
        if let Some(record) = self.remove(&mut state, index) {
            self.count_published(&record);
        }
        self.after_removal(state);
    }

    fn count_published(&self, record: &Record) {
        self.metrics.events_published.increment(1);
        self.metrics.event_latency.record(record.read_at.elapsed());
    }

    fn remove(&self, state: &mut State, index: usize) -> Option<Record> {
        let record = state.records.remove(index)?;
        state.bytes -= record.size();
        if index < state.sent {
            state.sent -= 1;
        }
        Some(record)
    }

    /// Where there is room again, the gap of what was dropped comes first.
    fn after_removal(&self, mut state: MutexGuard<'_, State>) {
        if state.fits() {
            (state.full_since, state.overflowing) = (None, false);
            if let Some(missing) = state.missing.take() {
                let gap = Gap { to: OffsetDateTime::now_utc(), ..missing };
                self.count_gap(&gap);
                self.push_gap(&mut state, gap);
            }
        }
        drop(state);
        self.freed.notify_waiters();
    }

    /// No record counts as being on the wire: all are sent again, from the oldest.
    pub fn rewind(&self) {
        self.state().sent = 0;
        self.filled.notify_one();
        self.freed.notify_waiters();
    }

    /// What the stream says of earlier runs: when its last event was recorded, if it holds one. What the service sent shortly
    /// before may have been lost, too. Only the first answer counts.
    pub fn previous_run(&self, recorded: Option<OffsetDateTime>) {
        let mut state = self.state();
        if !matches!(state.previous, PreviousRun::NotRead) {
            return;
        }
        let complete = recorded.map(|recorded| recorded - READ_WITHIN);
        state.previous = PreviousRun::Read(complete);
        let State { records, bytes, .. } = &mut *state;
        for record in records {
            if let Some(gap) = record.gap.take_if(|gap| gap.from == Start::PreviousRun) {
                let size = record.size();
                self.envelope.replace_by_gap(record, *gap, complete);
                *bytes = *bytes + record.size() - size;
            }
        }
    }

    /// The stream has lost what it had confirmed. The records that are kept come first in what takes its place, and carry
    /// that everything before them may be missing, until the gap follows.
    pub fn stream_reset(&self) {
        let mut state = self.state();
        for record in &mut state.records {
            record.ongoing_gap = Some(OffsetDateTime::UNIX_EPOCH);
        }
        drop(state);
        self.gap(Gap::new(GapReason::StreamReset, None, Start::Unknown));
    }

    /// The stream holds this record, and other clients wrote to it: older records that it does not hold will stand behind newer
    /// ones. Returns how many, each counted once, and publishes an event that says so.
    pub fn passed_over(&self, newest: u64, stream: &str) -> u64 {
        let mut state = self.state();
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

    /// The number of the record at this place, counted from the oldest.
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
            oldest: state.records.front().map(Record::recorded),
        }
    }

    /// Waits until nothing is left, and every gap is published.
    pub async fn empty(&self) {
        self.freed_until(|state| state.records.is_empty()).await;
    }

    /// Waits until nothing is on the wire.
    pub async fn idle(&self) {
        self.freed_until(|state| state.sent == 0).await;
    }

    async fn freed_until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let freed = self.freed.notified();
            if reached(&self.state()) {
                return;
            }
            freed.await;
        }
    }

    /// Shows in the metrics what is kept just now.
    pub fn gauge(&self) {
        let level = self.level();
        // A gauge is a float; counts and bytes here are far below what it holds exactly.
        self.metrics.publish_inflight.set(level.sent as f64);
        self.metrics.spool_events.set(level.waiting as f64);
        self.metrics.spool_bytes.set(level.bytes as f64);
        let oldest = level.oldest.map_or(0.0, |time| time.unix_timestamp_nanos() as f64 / 1e9);
        self.metrics.spool_oldest_timestamp.set(oldest);
    }

    /// The instance ends: what NATS has not confirmed is lost with this memory, unless NATS holds it all the same.
    pub fn abandon(&self) {
        let mut state = self.state();
        let lost = u64::try_from(state.records.len()).unwrap_or(u64::MAX);
        self.metrics.dropped(DropReason::Shutdown).increment(lost);
        *state = State::default();
        drop(state);
        self.gauge();
    }
}

#[cfg(test)]
mod tests;
