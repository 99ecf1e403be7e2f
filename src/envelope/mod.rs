//! From an event to what is published: subject, headers and body, made once and together. The only maker of subjects.
//!
//! * [`Envelope`]: makes the records of one instance; [`Record`]: one event as it is published
//! * `stored`: records as bytes on a disk
//! * `attributes`: those of CloudEvents, in both modes; [`subject`]: tokens and subjects
//! * [`Gap`]: between which times events may be missing; `clock`: times as text; [`trace_context`]

mod attributes;
mod clock;
mod gap;
mod record;
mod stored;
pub mod subject;
pub mod trace_context;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use pontoon_sdk::{CommandId, Event, EventType, LinkKey, Raw};
use time::OffsetDateTime;

use crate::envelope::trace_context::traceparent;
use crate::settings::{EventMode, Events};
use attributes::{DOCUMENT, header, push, push_header, push_number};
use clock::Clock;
use record::{Parts, Text, push_data};

pub use attributes::header_value;
pub use clock::{parse as parse_time, rfc3339};
pub use gap::{Gap, Start};
pub use record::{Identity, Record};
pub use subject::Subjects;

/// How much of the memory for a record is kept for the next, in bytes.
const KEPT: usize = 64 * 1024;

/// Makes the records of one instance.
pub struct Envelope {
    kind: String,
    instance: String,
    /// What ids of commands begin with: when this run of the instance began, in milliseconds since 1970. That is the epoch,
    /// unless the stream holds a later one.
    command_id: String,
    source: String,
    /// What message ids begin with, `<type>.<instance>:`.
    message_id: String,
    epoch: Cell<u64>,
    sequence: Cell<u64>,
    form: RefCell<Form>,
    scratch: RefCell<Scratch>,
}

/// The part of the settings that shapes events. A reload may change it.
struct Form {
    subjects: Rc<Subjects>,
    mode: EventMode,
    raw: bool,
}

/// What is written on before its exact size is known.
struct Scratch {
    time: Clock,
    recorded_time: Clock,
    /// When the last record was recorded.
    recorded: OffsetDateTime,
    subject: String,
    headers: Vec<u8>,
    body: Vec<u8>,
    whole: Vec<u8>,
    text: String,
}

/// What a record is made of.
struct Sealing<'a> {
    sequence: u64,
    event: Event,
    link: &'a LinkKey,
    /// When the event was published by the service, else when it was read.
    time: OffsetDateTime,
    read_at: Instant,
    recorded: OffsetDateTime,
    ongoing_gap: Option<OffsetDateTime>,
}

impl Envelope {
    /// The envelope of one instance.
    pub fn new(prefix: &str, kind: &str, instance: &str, epoch: u64, events: &Events) -> Self {
        Self {
            kind: kind.to_owned(),
            instance: instance.to_owned(),
            command_id: format!("{epoch:x}-"),
            source: format!("urn:pontoon:{kind}:{instance}"),
            message_id: format!("{kind}.{instance}:"),
            epoch: Cell::new(epoch),
            sequence: Cell::new(0),
            form: RefCell::new(Form::new(prefix, kind, instance, events)),
            scratch: RefCell::new(Scratch {
                time: Clock::default(),
                recorded_time: Clock::default(),
                recorded: OffsetDateTime::UNIX_EPOCH,
                subject: String::new(),
                headers: Vec::new(),
                body: Vec::new(),
                whole: Vec::new(),
                text: String::new(),
            }),
        }
    }

    /// Changes the form of the records to come, and the prefix of all subjects. Records that are kept follow to the new
    /// prefix with [`Envelope::rehome`].
    pub fn reshape(&self, prefix: &str, events: &Events) {
        *self.form.borrow_mut() = Form::new(prefix, &self.kind, &self.instance, events);
    }

    /// The subjects of the instance.
    pub fn subjects(&self) -> Rc<Subjects> {
        self.form.borrow().subjects.clone()
    }

    /// The epoch of the events that are published from now on. It grows with every run of the instance, and whenever it
    /// takes over a stream from another writer.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Makes the epoch later than this one. Returns whether it changed: records of this run that are kept follow
    /// with [`Envelope::move_to`].
    pub fn follow_epoch(&self, other: u64) -> bool {
        let before = self.epoch.get();
        self.epoch.set(before.max(other.saturating_add(1)));
        self.epoch.get() != before
    }

    /// Goes on behind the records that earlier runs have left: behind this epoch and this number, and never recorded before
    /// this time. To be called before the first record is made.
    pub fn continue_after(&self, (epoch, sequence): (u64, u64), recorded: OffsetDateTime) {
        self.follow_epoch(epoch);
        self.sequence.set(sequence.max(self.sequence.get()));
        self.recorded(recorded);
    }

    /// Gives an event the next number of the sequence, and makes what is published of it. `read` is when its frame was
    /// read, `ongoing_gap` since when a link has been down whose gap is not published yet.
    pub fn seal(
        &self,
        event: Event,
        link: &LinkKey,
        read_at: Instant,
        read: OffsetDateTime,
        ongoing_gap: Option<OffsetDateTime>,
    ) -> Record {
        let time = event.time.filter(clock::sensible).unwrap_or(read);
        let (sequence, recorded) = (self.next(), self.recorded(read));
        self.make(Sealing { sequence, event, link, time, read_at, recorded, ongoing_gap })
    }

    /// A gap as an event, with the next number of the sequence. `previous` is when the last event of an earlier run of the
    /// instance was recorded, if that is known.
    pub fn gap(
        &self,
        gap: Gap,
        previous: Option<OffsetDateTime>,
        ongoing_gap: Option<OffsetDateTime>,
    ) -> Record {
        let (sequence, time) = (self.next(), gap.to);
        let recorded = self.recorded(time);
        self.make_gap(sequence, gap, previous, (time, recorded), ongoing_gap)
    }

    /// Puts a gap in the place of a record: with its number, and recorded when it was.
    pub fn replace_by_gap(&self, record: &mut Record, gap: Gap, previous: Option<OffsetDateTime>) {
        let times = (record.recorded, record.recorded);
        let epoch = record.epoch;
        *record = self.make_gap(record.sequence, gap, previous, times, record.ongoing_gap);
        if epoch != record.epoch {
            self.move_to(record, epoch);
        }
    }

    /// A gap in the place of a record of an earlier run that is lost.
    pub fn gap_at(&self, (epoch, sequence): (u64, u64), gap: Gap) -> Record {
        let times = (gap.to, gap.to);
        let mut record = self.make_gap(sequence, gap, None, times, None);
        self.move_to(&mut record, epoch);
        record
    }

    /// Has a record be one of this epoch.
    pub fn move_to(&self, record: &mut Record, epoch: u64) {
        record.epoch = epoch;
        self.rehome(record);
    }

    /// Sets since when a link has been down whose gap is not published yet.
    pub fn set_ongoing_gap(&self, record: &mut Record, since: OffsetDateTime) {
        record.ongoing_gap = Some(since);
        self.rehome(record);
    }

    /// Has a record follow the prefix that is in force now. It stays in the mode in which it was made.
    pub fn rehome(&self, record: &mut Record) {
        let scratch = &mut *self.scratch.borrow_mut();
        let (id, mode, ongoing_gap) = (record.id(), record.mode, record.ongoing_gap);
        let parts = record.parts();
        let text = self.write(&mut scratch.whole, &mut scratch.text, id, mode, ongoing_gap, &parts);
        record.text = text;
    }

    fn next(&self) -> u64 {
        self.sequence.set(self.sequence.get() + 1);
        self.sequence.get()
    }

    /// Times of reading never run backwards.
    fn recorded(&self, read: OffsetDateTime) -> OffsetDateTime {
        let mut scratch = self.scratch.borrow_mut();
        scratch.recorded = read.max(scratch.recorded);
        scratch.recorded
    }

    fn make_gap(
        &self,
        sequence: u64,
        gap: Gap,
        previous: Option<OffsetDateTime>,
        (time, recorded): (OffsetDateTime, OffsetDateTime),
        ongoing_gap: Option<OffsetDateTime>,
    ) -> Record {
        let link = gap.link.clone().unwrap_or_else(|| LinkKey::new("_"));
        let mut event = Event::new(EventType::GapDetected, Raw::null());
        event.fields = gap.fields(previous);
        let read_at = Instant::now();
        let mut record =
            self.make(Sealing { sequence, event, link: &link, time, read_at, recorded, ongoing_gap });
        record.raw = 0;
        record.gap = Some(Box::new(gap));
        record
    }

    fn make(&self, sealing: Sealing<'_>) -> Record {
        let Sealing { sequence, event, link, time, read_at, recorded, ongoing_gap } = sealing;
        let form = self.form.borrow();
        let scratch = &mut *self.scratch.borrow_mut();
        let Scratch { subject, headers, body, whole, text, .. } = scratch;
        subject.clear();
        subject::push_event(subject, event.kind.as_str(), event.scope.as_deref().unwrap_or_default());
        let link = event.fields.link.as_deref().map_or_else(|| link.clone(), LinkKey::new);
        headers.clear();
        body.clear();
        let attributes = if form.mode == EventMode::Binary { &mut *headers } else { &mut *body };
        let mut put = |header: &str, value: &str| push(form.mode, attributes, header, value);
        put(header::SOURCE, &self.source);
        put(header::TYPE, event.kind.ce_type());
        let (time, recorded_time) = (scratch.time.format(time), scratch.recorded_time.format(recorded));
        put(header::TIME, time);
        if recorded_time != time {
            put(header::RECORDED_TIME, recorded_time);
        }
        put(header::LINK, link.as_str());
        let optional = [
            (header::SUBJECT, event.scope.as_deref()),
            (header::UPSTREAM_EVENT, event.upstream.as_deref()),
            (header::TRACEPARENT, event.traceparent.as_deref().and_then(traceparent)),
        ];
        for (header, value) in optional {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                put(header, value);
            }
        }
        let is_document = form.mode == EventMode::Structured;
        if is_document {
            body.extend_from_slice(b",\"data\":");
        }
        let raw = push_data(body, &event.fields, event.raw.as_ref().filter(|_| form.raw).map(Raw::as_bytes));
        if is_document {
            body.push(b'}');
        }
        let parts = Parts { subject: subject.as_bytes(), headers, body };
        let epoch = self.epoch.get();
        let text = self.write(whole, text, (epoch, sequence), form.mode, ongoing_gap, &parts);
        // One large event must not keep its memory for ever.
        body.shrink_to(KEPT);
        whole.shrink_to(KEPT);
        // Without its payload, what stands for a discarded message would be published all the same.
        let raw = if event.discarded.is_some() { 0 } else { raw };
        let (mode, discarded) = (form.mode, event.discarded);
        let (identity, gap) = (None, None);
        Record {
            epoch,
            sequence,
            read_at,
            recorded,
            link,
            identity,
            gap,
            discarded,
            ongoing_gap,
            mode,
            text,
            raw,
        }
    }

    /// Writes a record as a whole: its parts, and what depends on prefix, epoch and an ongoing gap.
    fn write(
        &self,
        whole: &mut Vec<u8>,
        text: &mut String,
        (epoch, sequence): (u64, u64),
        mode: EventMode,
        ongoing_gap: Option<OffsetDateTime>,
        parts: &Parts<'_>,
    ) -> Text {
        whole.clear();
        whole.extend_from_slice(self.form.borrow().subjects.events().as_bytes());
        whole.extend_from_slice(parts.subject);
        let headers_at = whole.len();
        text.clear();
        text.push_str(&self.message_id);
        push_number(text, epoch, 1);
        text.push('-');
        push_number(text, sequence, 1);
        push_header(whole, header::MESSAGE_ID, text);
        let attributes_at = whole.len();
        let mut push_lead = |whole: &mut Vec<u8>| {
            push(mode, whole, header::ID, text.get(self.message_id.len()..).unwrap_or_default());
            text.clear();
            // It sorts as text, over all runs of the instance.
            push_number(text, epoch, 15);
            text.push('-');
            push_number(text, sequence, 12);
            push(mode, whole, header::SEQUENCE, text);
            if let Some(since) = ongoing_gap {
                push(mode, whole, header::ONGOING_GAP, &rfc3339(since));
            }
        };
        let body_at = match mode {
            EventMode::Binary => {
                push_lead(whole);
                whole.extend_from_slice(parts.headers);
                whole.len()
            }
            EventMode::Structured => {
                let body_at = whole.len();
                whole.extend_from_slice(DOCUMENT);
                push_lead(whole);
                body_at
            }
        };
        whole.extend_from_slice(parts.body);
        Text { bytes: whole.as_slice().into(), headers_at, attributes_at, body_at }
    }

    /// The id of a command in replies: unique over all runs of the instance.
    pub fn command(&self, id: CommandId) -> String {
        let mut text = self.command_id.clone();
        push_number(&mut text, id.0, 1);
        text
    }

    /// Epoch and sequence of an event of this instance, of any of its runs: by the `Nats-Msg-Id`, or by source and id.
    pub fn parse_id(
        &self,
        message_id: Option<&str>,
        source: Option<&str>,
        id: Option<&str>,
    ) -> Option<(u64, u64)> {
        let id = match message_id {
            Some(message_id) => message_id.strip_prefix(self.message_id.as_str())?,
            None => id.filter(|_| source == Some(self.source.as_str()))?,
        };
        let (epoch, sequence) = id.split_once('-')?;
        Some((epoch.parse().ok()?, sequence.parse().ok()?))
    }
}

impl Form {
    fn new(prefix: &str, kind: &str, instance: &str, events: &Events) -> Self {
        let subjects = Rc::new(Subjects::new(prefix, kind, instance));
        Self { subjects, mode: events.mode, raw: events.raw }
    }
}

#[cfg(test)]
mod tests;
