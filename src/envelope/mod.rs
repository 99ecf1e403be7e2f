//! From an event to what is published: subject, headers, body. The only maker of subjects.

mod clock;
mod gap;
pub mod subject;
pub mod trace_context;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use pontoon_sdk::{CommandId, Event, EventType, Fields, LinkKey, Raw};
use time::OffsetDateTime;

use crate::bus::dedup::Identity;
use crate::envelope::trace_context::traceparent;
use crate::settings::{EventMode, Events};
use clock::Clock;
pub use clock::{parse as parse_time, rfc3339};
pub use gap::{Gap, Start};
pub use subject::Subjects;

/// Wraps the events of one instance.
pub struct Envelope {
    kind: String,
    instance: String,
    form: Mutex<Form>,
    /// When this run of the instance began, in milliseconds since 1970: the epoch, unless the stream holds a later one.
    start: u64,
    epoch: AtomicU64,
    source: String,
    message_id: String,
    sequence: AtomicU64,
    scratch: Mutex<Scratch>,
}

/// The part of the settings that shapes events. A reload may change it.
#[derive(Clone)]
struct Form {
    subjects: Arc<Subjects>,
    mode: EventMode,
    raw: bool,
}

/// What is written on before its exact size is known.
struct Scratch {
    time: Clock,
    recorded_time: Clock,
    subject: String,
    body: Vec<u8>,
    /// When the last event was recorded.
    recorded: OffsetDateTime,
}

/// How much of the memory for a body is kept for the next.
const KEPT: usize = 64 * 1024;
/// What an allocation costs besides its bytes, about.
const ALLOCATION: usize = 16;

/// An event as it is published, without what only a bus knows. Kept until it is confirmed.
#[derive(Debug)]
pub struct Record {
    /// Its number within this start of the instance, from 1.
    pub sequence: u64,
    /// What kind of event.
    pub kind: EventType,
    /// Its subject behind the instance's own tokens, `<noun>.<verb>.<scope>`: the prefix may change while it waits.
    pub subject: Bytes,
    /// The data that is published: fields and `raw`.
    pub body: Bytes,
    /// When the frame was read, for latency.
    pub read_at: Instant,
    /// Where `raw` begins in `body`, with the comma before it, if it is there.
    raw_at: Option<usize>,
    recorded: OffsetDateTime,
    time: OffsetDateTime,
    /// Since when a link has been down whose gap is not published yet.
    pub ongoing_gap: Option<OffsetDateTime>,
    scope: Option<Box<str>>,
    upstream: Option<Box<str>>,
    link: LinkKey,
    traceparent: Option<Box<str>>,
    /// What makes it the same as another.
    pub identity: Option<Identity>,
    /// What a `gap.detected` event is made of.
    pub gap: Option<Box<Gap>>,
    /// It stands for a message that was discarded, of this many bytes.
    pub discarded: Option<u64>,
}

impl Record {
    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        let texts = [&self.scope, &self.upstream, &self.traceparent].into_iter().flatten();
        let texts: usize = texts.map(|text| text.len() + ALLOCATION).sum();
        size_of::<Self>() + self.body.len() + self.subject.len() + 2 * ALLOCATION + texts
    }

    /// The link that it came over.
    pub fn link(&self) -> &LinkKey {
        &self.link
    }

    /// When its frame was read by the wall clock; never before that of the event before it, even if the clock is set back.
    pub fn recorded(&self) -> OffsetDateTime {
        self.recorded
    }

    /// Leaves the payload out of the body and puts its size there instead: `"raw_omitted": <bytes>`. Returns whether it was
    /// there.
    pub fn omit_raw(&mut self) -> bool {
        let Some(at) = self.raw_at.take() else { return false };
        let (fields, raw) = self.body.split_at(at);
        let comma = if at > 1 { "," } else { "" };
        let size = raw.len() - comma.len() - r#""raw":}"#.len();
        self.body = [fields, format!("{comma}\"raw_omitted\":{size}}}").as_bytes()].concat().into();
        true
    }

    /// When it was said, or else read.
    pub fn time(&self) -> OffsetDateTime {
        self.time
    }
}

impl Envelope {
    /// The envelope of one instance.
    pub fn new(prefix: &str, kind: &str, instance: &str, epoch: u64, events: &Events) -> Self {
        Self {
            kind: kind.to_owned(),
            instance: instance.to_owned(),
            form: Mutex::new(Form::new(prefix, kind, instance, events)),
            start: epoch,
            epoch: AtomicU64::new(epoch),
            source: format!("urn:pontoon:{kind}:{instance}"),
            message_id: format!("{kind}.{instance}:"),
            sequence: AtomicU64::new(0),
            scratch: Mutex::new(Scratch {
                time: Clock::default(),
                recorded_time: Clock::default(),
                subject: String::new(),
                body: Vec::new(),
                recorded: OffsetDateTime::UNIX_EPOCH,
            }),
        }
    }

    /// Changes the form of events and the prefix of all subjects. Those that were sealed before follow, but for `raw`.
    pub fn reshape(&self, prefix: &str, events: &Events) {
        let form = Form::new(prefix, &self.kind, &self.instance, events);
        *self.form.lock().unwrap_or_else(PoisonError::into_inner) = form;
    }

    fn form(&self) -> Form {
        self.form.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The subjects of the instance.
    pub fn subjects(&self) -> Arc<Subjects> {
        self.form().subjects
    }

    /// The epoch of the events that are published from now on. It grows with every run of the instance, and whenever it
    /// takes over a stream from another writer.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Makes the epoch later than this one.
    pub fn follow_epoch(&self, other: u64) {
        self.epoch.fetch_max(other.saturating_add(1), Ordering::Relaxed);
    }

    /// Gives an event its place in the sequence, and makes what is published of it.
    pub fn seal(&self, event: Event, link: &LinkKey, read_at: Instant, read: OffsetDateTime) -> Record {
        self.seal_as(self.sequence.fetch_add(1, Ordering::Relaxed) + 1, event, link, read_at, read)
    }

    fn seal_as(
        &self,
        sequence: u64,
        event: Event,
        link: &LinkKey,
        read_at: Instant,
        read: OffsetDateTime,
    ) -> Record {
        let mut scratch = self.scratch();
        let Scratch { subject, body, recorded, .. } = &mut *scratch;
        *recorded = read.max(*recorded);
        subject.clear();
        subject::push_event(subject, event.kind.as_str(), event.scope.as_deref().unwrap_or_default());
        body.clear();
        let raw = event.raw.as_ref().filter(|_| self.form().raw).map(Raw::as_bytes);
        let raw_at = push_data(body, &event.fields, raw);
        // Without it, what stands for a discarded message would be published all the same.
        let raw_at = raw_at.filter(|_| event.discarded.is_none());
        let record = Record {
            sequence,
            kind: event.kind,
            subject: Bytes::copy_from_slice(subject.as_bytes()),
            body: Bytes::copy_from_slice(body),
            read_at,
            raw_at,
            recorded: *recorded,
            time: event.time.filter(clock::sensible).unwrap_or(read),
            ongoing_gap: None,
            scope: event.scope.filter(|scope| !scope.is_empty()).map(String::into_boxed_str),
            upstream: event.upstream.map(|name| name.into_owned().into_boxed_str()),
            link: event.fields.link.as_deref().map_or_else(|| link.clone(), LinkKey::new),
            traceparent: event
                .traceparent
                .filter(|text| traceparent(text).is_some())
                .map(String::into_boxed_str),
            identity: None,
            gap: None,
            discarded: event.discarded,
        };
        // One large event must not keep its memory for ever.
        body.shrink_to(KEPT);
        record
    }

    fn scratch(&self) -> MutexGuard<'_, Scratch> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gap as an event, with the next number of the sequence. `previous` is when the last event of an earlier run of the
    /// instance was recorded, if that is known.
    pub fn gap(&self, gap: Gap, previous: Option<OffsetDateTime>) -> Record {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let at = gap.to;
        self.gap_as(sequence, gap, previous, at)
    }

    /// Puts a gap in the place of a record: with its number, and recorded when it was.
    pub fn replace_by_gap(&self, record: &mut Record, gap: Gap, previous: Option<OffsetDateTime>) {
        let recorded = record.recorded;
        *record = Record { recorded, ..self.gap_as(record.sequence, gap, previous, recorded) };
    }

    fn gap_as(
        &self,
        sequence: u64,
        gap: Gap,
        previous: Option<OffsetDateTime>,
        at: OffsetDateTime,
    ) -> Record {
        let link = gap.link.clone().unwrap_or_else(|| LinkKey::new("_"));
        let mut event = Event::new(EventType::GapDetected, Raw::null());
        event.fields = gap.fields(previous);
        let mut record = self.seal_as(sequence, event, &link, Instant::now(), at);
        record.raw_at = None;
        record.gap = Some(Box::new(gap));
        record
    }

    /// A command as its caller is told it: unique over all starts of the instance.
    pub fn command(&self, id: CommandId) -> String {
        format!("{:x}-{}", self.start, id.0)
    }

    /// `<epoch>-<sequence>`
    pub fn id(&self, record: &Record) -> String {
        format!("{}-{}", self.epoch(), record.sequence)
    }

    /// `<type>.<instance>:<epoch>-<sequence>`
    pub fn message_id(&self, record: &Record) -> String {
        format!("{}{}-{}", self.message_id, self.epoch(), record.sequence)
    }

    /// Epoch and sequence of a message id of this instance, whatever start of it made it.
    pub fn parse_message_id(&self, id: &str) -> Option<(u64, u64)> {
        let (epoch, sequence) = id.strip_prefix(self.message_id.as_str())?.split_once('-')?;
        Some((epoch.parse().ok()?, sequence.parse().ok()?))
    }

    /// Calls `put` with every header of the event, name and value. Values hold nothing but printable ASCII.
    pub fn headers(&self, record: &Record, mut put: impl FnMut(&'static str, &str)) {
        let mut text = self.message_id(record);
        put("Nats-Msg-Id", &text);
        if self.form().mode == EventMode::Structured {
            return put("Content-Type", "application/cloudevents+json");
        }
        put("ce-specversion", "1.0");
        put("ce-id", text.get(self.message_id.len()..).unwrap_or_default());
        put("ce-source", &self.source);
        put("ce-type", record.kind.ce_type());
        {
            let Scratch { time, recorded_time, .. } = &mut *self.scratch();
            let (time, recorded_time) = (time.format(record.time), recorded_time.format(record.recorded));
            put("ce-time", time);
            if recorded_time != time {
                put("ce-recordedtime", recorded_time);
            }
        }
        if let Some(since) = record.ongoing_gap {
            put("ce-ongoinggap", &rfc3339(since));
        }
        put("ce-datacontenttype", "application/json");
        put("Content-Type", "application/json");
        text.clear();
        self.push_sequence(&mut text, record.sequence);
        put("ce-sequence", &text);
        put("ce-link", &header_value(record.link.as_str()));
        let optional = [
            ("ce-subject", &record.scope),
            ("ce-upstreamevent", &record.upstream),
            ("traceparent", &record.traceparent),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                put(name, &header_value(value));
            }
        }
    }

    /// The body as it is published.
    pub fn body(&self, record: &Record) -> Bytes {
        match self.form().mode {
            EventMode::Binary => record.body.clone(),
            EventMode::Structured => self.document(record).into(),
        }
    }

    /// The sequence as text that sorts, over all starts of the instance.
    fn push_sequence(&self, text: &mut String, sequence: u64) {
        let _ = write!(text, "{:015}-{sequence:012}", self.epoch());
    }

    fn document(&self, record: &Record) -> Vec<u8> {
        let mut sequence = String::new();
        self.push_sequence(&mut sequence, record.sequence);
        let mut document = serde_json::Map::new();
        let mut put = |name: &str, value: &str| document.insert(name.to_owned(), value.into());
        let (time, recorded) = (rfc3339(record.time), rfc3339(record.recorded));
        put("specversion", "1.0");
        put("id", &self.id(record));
        put("source", &self.source);
        put("type", record.kind.ce_type());
        put("time", &time);
        put("datacontenttype", "application/json");
        put("sequence", &sequence);
        put("link", record.link.as_str());
        let ongoing_gap = record.ongoing_gap.map(rfc3339);
        let optional = [
            ("recordedtime", Some(recorded.as_str()).filter(|recorded| *recorded != time)),
            ("ongoinggap", ongoing_gap.as_deref()),
            ("subject", record.scope.as_deref()),
            ("upstreamevent", record.upstream.as_deref()),
            ("traceparent", record.traceparent.as_deref()),
        ];
        for (name, value) in optional {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                put(name, value);
            }
        }
        let mut body = Vec::with_capacity(record.body.len() + 512);
        if serde_json::to_writer(&mut body, &document).is_ok() {
            body.pop();
            body.extend_from_slice(b",\"data\":");
            body.extend_from_slice(&record.body);
            body.push(b'}');
        }
        body
    }
}

impl Form {
    fn new(prefix: &str, kind: &str, instance: &str, events: &Events) -> Self {
        let subjects = Arc::new(Subjects::new(prefix, kind, instance));
        Self { subjects, mode: events.mode, raw: events.raw }
    }
}

/// Writes the fields and the payload. Returns where the payload begins, if it is there.
fn push_data(body: &mut Vec<u8>, fields: &Fields, raw: Option<&[u8]>) -> Option<usize> {
    let written = serde_json::to_writer(&mut *body, fields);
    let raw = raw.filter(|_| written.is_ok())?;
    // The payload is JSON that was checked when it was read: it is put in as it is.
    body.pop();
    let at = body.len();
    body.extend_from_slice(if at > 1 { b",\"raw\":" } else { b"\"raw\":" });
    body.extend_from_slice(raw);
    body.push(b'}');
    Some(at)
}

/// Percent-encodes a header's value as the CloudEvents NATS binding says: space, `"`, `%` and everything outside
/// U+0021 to U+007E. At most 1,024 bytes come out; the true value is in the body.
pub fn header_value(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, 0x21..=0x7E) && byte != b'"' && byte != b'%';
    if text.len() <= 1_024 && text.bytes().all(plain) {
        return text.into();
    }
    let mut value = String::with_capacity(text.len().min(1_024));
    for byte in text.bytes() {
        if value.len() > 1_021 {
            break;
        }
        if plain(byte) {
            value.push(char::from(byte));
        } else {
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value.into()
}

#[cfg(test)]
mod tests;
