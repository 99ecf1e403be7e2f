//! What a spool holds: the records, and the gaps that are not among them yet.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use futures_channel::mpsc::UnboundedSender;
use pontoon_sdk::LinkKey;
use time::OffsetDateTime;

use super::storage::Disk;
use crate::bus::dedup::Recent;
use crate::envelope::{Gap, Record, Start};
use crate::settings::{Delivery, Overflow};

/// Reading does not wait for a server that has confirmed nothing for this long.
pub(super) const PROGRESS: Duration = Duration::from_millis(50);
/// How many links may have an ongoing gap.
const MAX_ONGOING: usize = 16_384;

/// What is sent to a link once a record is confirmed, and where. A link that has ended receives nothing.
pub(super) type Note = (UnboundedSender<u64>, u64);

/// The records of one instance, and what is known of its gaps.
pub(super) struct State {
    pub(super) delivery: Delivery,
    pub(super) records: VecDeque<Record>,
    pub(super) bytes: usize,
    /// The identities of the events published last.
    pub(super) recent: Recent,
    /// How many of the records, from the front, are on the wire.
    pub(super) sent: usize,
    /// Who is sent what once a record is confirmed, by its number.
    pub(super) noted: BTreeMap<u64, Vec<Note>>,
    /// When NATS confirmed an event last.
    pub(super) confirmed_at: Option<Instant>,
    /// Whether no more may be sent for now.
    pub(super) held: bool,
    /// Since when there is no room.
    pub(super) full_since: Option<Instant>,
    /// Whether the policy applies: there was no room for longer than `delivery.max_pause`.
    pub(super) overflowing: bool,
    /// Newer events than those here that were dropped; their gap follows once there is room.
    pub(super) missing: Option<Gap>,
    /// Links that are down and whose gap is not published yet, and since when.
    pub(super) ongoing: OngoingGaps,
    /// When the last event of an earlier run was recorded.
    pub(super) previous: PreviousRun,
    /// Whether this run has a record already.
    pub(super) begun: bool,
    /// Whether the service goes on where an earlier run has ended.
    pub(super) resumed: bool,
    /// The records before this number have been counted if they stand in the stream behind newer ones.
    pub(super) passed_over: (u64, u64),
    /// The number of the newest record, and until when all events are accounted for with it.
    pub(super) newest: (u64, OffsetDateTime),
    /// When the last event of an earlier run was recorded, as the disk has it.
    pub(super) previous_on_disk: Option<OffsetDateTime>,
    /// What is kept on disk, if something is.
    pub(super) disk: Option<Box<Disk>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            delivery: Delivery::default(),
            records: VecDeque::new(),
            bytes: 0,
            recent: Recent::default(),
            sent: 0,
            noted: BTreeMap::new(),
            confirmed_at: None,
            held: false,
            full_since: None,
            overflowing: false,
            missing: None,
            ongoing: OngoingGaps::default(),
            previous: PreviousRun::default(),
            begun: false,
            resumed: false,
            passed_over: (0, 0),
            newest: (0, OffsetDateTime::UNIX_EPOCH),
            previous_on_disk: None,
            disk: None,
        }
    }
}

/// The links that are down and whose gap is not published yet.
#[derive(Default)]
pub(super) struct OngoingGaps {
    pub(super) links: HashMap<LinkKey, OffsetDateTime>,
    /// How many links have been down since each time.
    pub(super) starts: BTreeMap<OffsetDateTime, usize>,
}

/// What is known of earlier runs of the instance.
#[derive(Default, Clone, Copy)]
pub(super) enum PreviousRun {
    /// The stream was not read yet.
    #[default]
    NotRead,
    /// When the last event of the stream was recorded, if it holds one.
    Read(Option<OffsetDateTime>),
}

impl State {
    pub(super) fn fits(&self) -> bool {
        let Delivery { buffer, buffer_events, .. } = &self.delivery;
        let Some(disk) = &self.disk else {
            return self.bytes < buffer.0 && self.records.len() < *buffer_events;
        };
        let bytes = self.bytes + disk.tail_bytes;
        let spilled = disk.spilled.map_or(0, |spilled| spilled.bytes);
        bytes < buffer.0
            && self.records.len() + disk.tail.len() < *buffer_events
            && bytes + spilled < disk.room()
    }

    /// How many bytes of events may be kept, and how many events, 0 if their bytes alone bound them.
    pub(super) fn room(&self) -> (usize, usize) {
        match self.disk.as_ref().filter(|disk| disk.failed.is_none()) {
            Some(disk) => (disk.room(), 0),
            None => (self.delivery.buffer.0, self.delivery.buffer_events),
        }
    }

    /// Whether so little is in memory that records may be read back from the disk.
    pub(super) fn is_half_empty(&self) -> bool {
        self.bytes < self.delivery.buffer.0 / 2 && self.records.len() < self.delivery.buffer_events / 2
    }

    /// Adds a record behind all others.
    pub(super) fn push(&mut self, record: Record) {
        self.newest = (record.sequence, record.covered_until());
        if let Some(mut disk) = self.disk.take() {
            disk.unwritten_bytes += record.size();
            if !disk.is_last() || disk.failed.is_none() && !self.is_half_empty() {
                disk.tail_bytes += record.size();
                disk.tail.push_back(record);
                self.disk = Some(disk);
                return;
            }
            self.disk = Some(disk);
        }
        self.bytes += record.size();
        self.records.push_back(record);
    }

    /// How many wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        let elsewhere = self
            .disk
            .as_ref()
            .map_or(0, |disk| disk.tail.len() + disk.spilled.map_or(0, |spilled| spilled.events));
        self.records.len() - self.sent + elsewhere
    }

    /// Whether reading waits: more than `most` events wait for NATS, which confirms them, or too much for the disk.
    pub(super) fn is_ahead(&self, most: usize) -> bool {
        self.waiting() > most && self.progresses() || self.disk.as_ref().is_some_and(|disk| disk.is_behind())
    }

    /// Whether reading may wait for publishing: NATS confirms what is published, and nothing is on the disk only.
    fn progresses(&self) -> bool {
        let is_in_memory =
            self.disk.as_ref().is_none_or(|disk| disk.spilled.is_none() && disk.tail.is_empty());
        is_in_memory && self.confirmed_at.is_some_and(|at| at.elapsed() < PROGRESS)
    }

    /// Whether links are closed because there was no room for too long. Nothing that they still publish may pile up.
    pub(super) fn is_overdue(&self) -> bool {
        let overdue = |since: Instant| since.elapsed() >= self.delivery.max_pause.0;
        self.delivery.overflow == Overflow::Disconnect && self.full_since.is_some_and(overdue)
    }

    pub(super) fn index(&self, sequence: u64) -> Option<usize> {
        // Confirmations come in order while nothing fails.
        if self.records.front()?.sequence == sequence {
            return Some(0);
        }
        self.records.binary_search_by_key(&sequence, |record| record.sequence).ok()
    }

    /// The next record to send, if there is one and it may be sent.
    pub(super) fn next(&self) -> Option<&Record> {
        self.records.get(self.sent).filter(|_| !self.held)
    }

    /// Notes what is sent once the last record is confirmed, and with it all before: at once if there is none.
    pub(super) fn note_last(&mut self, note: Option<Note>) {
        let Some((sender, number)) = note else { return };
        let on_disk = self.disk.as_ref().and_then(|disk| disk.last());
        if let Some(last) = on_disk.or(self.records.back().map(|record| record.sequence)) {
            self.noted.entry(last).or_default().push((sender, number));
        } else {
            let _ = sender.unbounded_send(number);
        }
    }

    /// A record with this number is confirmed.
    pub(super) fn confirmed(&mut self, sequence: u64) {
        for (sender, number) in self.noted.remove(&sequence).into_iter().flatten() {
            let _ = sender.unbounded_send(number);
        }
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Record> {
        let record = self.records.remove(index)?;
        self.bytes -= record.size();
        self.sent -= usize::from(index < self.sent);
        if let Some(disk) = self.disk.as_mut().filter(|disk| record.sequence > disk.written) {
            disk.unwritten_bytes = disk.unwritten_bytes.saturating_sub(record.size());
        }
        Some(record)
    }

    /// Adds to the gap that follows once there is room.
    pub(super) fn miss(&mut self, gap: Gap) {
        let Some(missing) = &mut self.missing else {
            self.missing = Some(gap);
            return;
        };
        missing.from = missing.from.min(gap.from);
        missing.recovered &= gap.recovered;
        if let Some(dropped) = gap.dropped {
            missing.reason = gap.reason;
            missing.dropped = Some(missing.dropped.unwrap_or(0) + dropped);
        }
        if missing.link != gap.link {
            missing.link = None;
        }
    }

    /// Since when events may be missing whose gap is not among the records.
    pub(super) fn uncovered_since(&self) -> Option<OffsetDateTime> {
        let missing = self.missing.as_ref().map(|gap| match gap.from {
            Start::At(time) => time,
            Start::PreviousRun => self.previous().unwrap_or(OffsetDateTime::UNIX_EPOCH),
            Start::Unknown => OffsetDateTime::UNIX_EPOCH,
        });
        self.ongoing.since().into_iter().chain(missing).min()
    }

    pub(super) fn previous(&self) -> Option<OffsetDateTime> {
        if let PreviousRun::Read(recorded) = self.previous { recorded } else { self.previous_on_disk }
    }
}

impl OngoingGaps {
    /// Begins with the link's first break. Past the bound it does not end with the link's own gap.
    pub(super) fn begin(&mut self, link: &LinkKey, since: OffsetDateTime) {
        if self.links.contains_key(link) {
            return;
        }
        let link = if self.links.len() < MAX_ONGOING { link.clone() } else { LinkKey::new("_") };
        if self.links.insert(link, since).is_none() {
            *self.starts.entry(since).or_default() += 1;
        }
    }

    pub(super) fn end(&mut self, link: &LinkKey) {
        let Some(since) = self.links.remove(link) else { return };
        if let Some(links) = self.starts.get_mut(&since) {
            *links -= 1;
            if *links == 0 {
                self.starts.remove(&since);
            }
        }
    }

    pub(super) fn since(&self) -> Option<OffsetDateTime> {
        self.starts.first_key_value().map(|(since, _)| *since)
    }
}
