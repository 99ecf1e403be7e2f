//! The spool: the one place that keeps, drops and counts events between reading and confirmation by NATS.
//!
//! Events stand in the order in which they were read, bounded in bytes and in count. While it is full, sockets are not read;
//! after `delivery.max_pause` the policy of `delivery.overflow` applies, every dropped event is counted, and a gap says how
//! many there were. The first record of a run is a gap: an earlier run may have read events that it could not publish.
//!
//! * here: what comes in, and how much is kept; `full`: what happens when there is no room
//! * `accepted`: up to where they are accepted
//! * `disk`: events on disk, which outlive the daemon; `saved`: what an earlier run has left there;
//!   `storage`: what is known of it in memory
//! * `wire`: what is sent and confirmed; `stream`: what is known of records that were published before

mod accepted;
mod disk;
mod full;
mod saved;
mod state;
mod storage;
mod stream;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::mpsc::UnboundedSender;
use pontoon_sdk::{Event, EventType, LinkKey};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::envelope::{Envelope, Gap, Record};
use crate::feed::{self, Feed};
use crate::metrics::{DropReason, GapReason, InstanceMetrics};
use crate::settings::{Delivery, Events};
pub use saved::{Left, Position};
use state::State;
use storage::GROUP;

/// How many events may be on the wire.
pub const WINDOW: usize = 1_024;
/// An event was read this long after it came at the most, unless it carries since when a link was down or read late.
pub const READ_WITHIN: Duration = Duration::from_secs(1);

/// The events of one instance between reading and confirmation.
pub struct Spool {
    pub(super) instance: String,
    pub(super) envelope: Rc<Envelope>,
    pub(super) metrics: Arc<InstanceMetrics>,
    feed: Feed,
    /// Never borrowed over an await.
    state: RefCell<State>,
    filled: Notify,
    freed: Notify,
    /// There may be something to do on the disk.
    work: Notify,
    /// An event with an identity was read.
    identified: Notify,
    /// Why nothing is on the disk in this run.
    disk_refused: RefCell<Option<String>>,
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
    /// Events of both that are not on the disk, if they are to be.
    pub unwritten: usize,
    /// When the oldest of both was recorded.
    pub oldest: Option<OffsetDateTime>,
}

/// Where events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In memory.
    Memory,
    /// On disk.
    Disk,
    /// In memory, as the disk fails for this reason.
    Failed(String),
}

/// What became of a record that NATS does not take because of its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reduced {
    /// It is sent without its payload; a gap without what the service is asked for again.
    Smaller,
    /// A gap stands in its place.
    Gap {
        /// The lines of the headers that it had.
        headers: Vec<u8>,
        /// The body that it had.
        body: Vec<u8>,
    },
    /// It was a gap, and nothing smaller can be published.
    Removed,
}

impl Spool {
    /// An empty spool.
    pub fn new(
        instance: &str,
        envelope: Rc<Envelope>,
        metrics: Arc<InstanceMetrics>,
        delivery: &Delivery,
    ) -> Self {
        let state = State { delivery: delivery.clone(), ..State::default() };
        let (instance, state) = (instance.to_owned(), RefCell::new(state));
        let [filled, freed, work, identified] = [(); 4].map(|()| Notify::new());
        let (feed, disk_refused) = (Feed::default(), RefCell::default());
        Self { instance, envelope, metrics, feed, state, filled, freed, work, identified, disk_refused }
    }

    /// The same, which shows its events in this feed.
    pub fn watched(self, feed: Feed) -> Self {
        Self { feed, ..self }
    }

    /// Changes the bounds and the policy. Records over smaller bounds stay: there is no room for more until enough of them
    /// are confirmed.
    pub fn reconfigure(&self, delivery: &Delivery) {
        let mut state = self.state.borrow_mut();
        state.delivery = delivery.clone();
        if let Some(disk) = &mut state.disk {
            disk.reconfigure(&delivery.spool);
        }
        if !state.fits() {
            state.full_since.get_or_insert_with(Instant::now);
        }
        self.after_removal(state);
    }

    /// Changes the form of the events to come, and the prefix of all subjects, also of the records that are kept. These stay
    /// in the mode in which they were made.
    pub fn reshape(&self, prefix: &str, events: &Events) {
        let before = self.envelope.subjects();
        self.envelope.reshape(prefix, events);
        if *before != *self.envelope.subjects() {
            self.rehome();
        }
    }

    /// Has all records follow the prefix in force.
    fn rehome(&self) {
        self.change_all(|record| self.envelope.rehome(record));
    }

    fn change_all(&self, change: impl Fn(&mut Record)) {
        let state = &mut *self.state.borrow_mut();
        state.records.iter_mut().for_each(&change);
        state.bytes = state.records.iter().map(Record::size).sum();
        if let Some(disk) = &mut state.disk {
            disk.tail.iter_mut().for_each(change);
            disk.tail_bytes = disk.tail.iter().map(Record::size).sum();
        }
    }

    /// Takes an event that was read just now, unless it is a duplicate, or there is no room and the policy drops it.
    pub fn offer(&self, link: &LinkKey, event: Box<Event>, read_at: Instant, read: OffsetDateTime) {
        self.offer_noting(link, event, read_at, read, None);
    }

    /// The same; `stored` is sent [`Event::stored`] once NATS has confirmed the event. Of a duplicate that is when all events
    /// are confirmed that were taken before it, the first of its kind among them.
    pub fn offer_noting(
        &self,
        link: &LinkKey,
        mut event: Box<Event>,
        read_at: Instant,
        read: OffsetDateTime,
        stored: Option<&UnboundedSender<u64>>,
    ) {
        let note = event.stored.and_then(|number| Some((stored?.clone(), number)));
        self.metrics.events_read.increment(1);
        let state = &mut *self.state.borrow_mut();
        let identity = event.identity.as_deref().map(|text| state.recent.identity(event.kind, text));
        if identity.is_some_and(|identity| !state.recent.remember(identity)) {
            self.metrics.events_deduplicated.increment(1);
            return state.note_last(note);
        }
        if let Some(command) = event.command {
            event.fields.command = Some(self.envelope.command(command));
        }
        if event.kind == EventType::FrameUnrecognised {
            self.metrics.events_unrecognised.increment(1);
        }
        if !self.makes_room(state) {
            return self.drop_new(state, link, read, identity);
        }
        self.begin(state, None);
        let mut record = self.envelope.seal(*event, link, read_at, read, state.uncovered_since());
        record.identity = identity;
        self.push(state, record);
        state.note_last(note);
        if identity.is_some() {
            self.identified.notify_one();
        }
    }

    /// An event was read that has been published already, from another frame.
    pub fn duplicate(&self) {
        self.metrics.events_read.increment(1);
        self.metrics.events_deduplicated.increment(1);
    }

    /// Takes a gap, and ends the ongoing gap of its link.
    pub fn gap(&self, mut gap: Gap) {
        let state = &mut *self.state.borrow_mut();
        if let Some(link) = &gap.link {
            state.ongoing.end(link);
        }
        self.count_gap(&gap);
        if !self.makes_room(state) {
            // The gap that follows once there is room covers this one, too.
            self.metrics.dropped(DropReason::Overflow).increment(1);
            return state.miss(gap);
        }
        self.begin(state, Some(&mut gap));
        self.push_gap(state, gap);
    }

    /// A link is down since this time; its gap is published once it is up again. Until then the events of other links carry
    /// the time, so that a gap after a crash of the daemon can begin there.
    pub fn gap_begins(&self, link: &LinkKey, since: OffsetDateTime) {
        self.state.borrow_mut().ongoing.begin(link, since);
    }

    /// The link is up again, and nothing was missed on it.
    pub fn gap_is_void(&self, link: &LinkKey) {
        self.state.borrow_mut().ongoing.end(link);
    }

    /// Whether the only link of the instance goes on where an earlier run has ended. To be called before its first event.
    pub fn resumes_run(&self, resumed: bool) {
        self.state.borrow_mut().resumed = resumed;
    }

    /// Since when a link is down or behind whose gap is not published yet.
    #[cfg(test)]
    pub(crate) fn ongoing_gap(&self) -> Option<OffsetDateTime> {
        self.state.borrow().ongoing.since()
    }

    /// The first record of a run is a gap over all links: earlier runs may have lost something.
    fn begin(&self, state: &mut State, first: Option<&mut Gap>) {
        if std::mem::replace(&mut state.begun, true) {
            return;
        }
        match first {
            Some(gap) if gap.reason == GapReason::Restarted => gap.link = None,
            _ => {
                let gap = Gap { recovered: state.resumed, ..Gap::restarted(None) };
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
        let record = self.envelope.gap(gap, state.previous(), state.uncovered_since());
        self.push(state, record);
    }

    /// Puts a gap in the place of a record.
    fn replace_by_gap(&self, state: &mut State, index: usize, gap: Gap) {
        let previous = state.previous();
        let Some(record) = state.records.get_mut(index) else { return };
        let before = record.size();
        // The event that it was is not stored.
        state.noted.remove(&record.sequence);
        self.envelope.replace_by_gap(record, gap, previous);
        state.bytes = state.bytes + record.size() - before;
        if let Some(disk) = &mut state.disk {
            disk.changed.insert(record.sequence);
        }
    }

    fn push(&self, state: &mut State, record: Record) {
        if self.feed.events.is_watched() {
            let text = |bytes: &[u8]| feed::cut(&String::from_utf8_lossy(bytes));
            let (subject, body) = (text(record.subject()), text(record.body()));
            self.feed.events.send(feed::Event { subject, recorded: record.recorded, body });
        }
        let unwritten = |state: &State| state.disk.as_ref().map(|disk| disk.unwritten_bytes);
        let before = unwritten(state);
        state.push(record);
        // The disk is idle, or gathers, and has enough now.
        if before == Some(0) || before < Some(GROUP) && unwritten(state) >= Some(GROUP) {
            self.work.notify_one();
        }
        if !state.fits() {
            state.full_since.get_or_insert_with(Instant::now);
        }
        self.filled.notify_one();
    }

    /// How full it is.
    pub fn level(&self) -> Level {
        let state = self.state.borrow();
        Level {
            sent: state.sent,
            waiting: state.waiting(),
            unwritten: state.disk.as_ref().map_or(0, |disk| disk.unwritten(&state)),
            bytes: state.bytes + state.disk.as_ref().map_or(0, |disk| disk.bytes()),
            oldest: state.records.front().map(|record| record.recorded),
        }
    }

    /// Waits until nothing is left, and every gap is published.
    pub async fn empty(&self) {
        self.freed_until(|state| state.records.is_empty() && state.waiting() == 0).await;
    }

    async fn freed_until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let freed = self.freed.notified();
            if reached(&self.state.borrow()) {
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
        let state = self.state.borrow();
        let (bytes, events) = state.room();
        self.metrics.spool_max_bytes.set(bytes as f64);
        self.metrics.spool_max_events.set(events as f64);
        if let Some(disk) = &state.disk {
            self.metrics.spool_disk_bytes.set(disk.used.0 as f64);
            self.metrics.spool_segments.set(disk.used.1 as f64);
            self.metrics.spool_on_disk.set(f64::from(u8::from(disk.failed.is_none())));
        }
    }

    /// Events should be on the disk and cannot be in this run, for this reason.
    pub fn refuse_disk(&self, reason: String) {
        *self.disk_refused.borrow_mut() = Some(reason);
    }

    /// Where events are kept.
    pub fn storage(&self) -> Storage {
        match &self.state.borrow().disk {
            None => self.disk_refused.borrow().clone().map_or(Storage::Memory, Storage::Failed),
            Some(disk) => disk.failed.clone().map_or(Storage::Disk, Storage::Failed),
        }
    }

    /// The instance ends: what NATS has not confirmed is lost with this memory if it is not on the disk, unless NATS holds it
    /// all the same.
    pub fn abandon(&self) {
        let mut state = self.state.borrow_mut();
        let written = state.disk.as_ref().map_or(0, |disk| disk.written);
        let tail = state.disk.iter().flat_map(|disk| &disk.tail);
        let lost = state.records.iter().chain(tail).filter(|record| record.sequence > written).count();
        let lost = u64::try_from(lost).unwrap_or(u64::MAX);
        self.metrics.dropped(DropReason::Shutdown).increment(lost);
        *state = State::default();
        drop(state);
        self.gauge();
    }
}

#[cfg(test)]
mod tests;
