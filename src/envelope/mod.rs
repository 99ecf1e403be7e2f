//! From an event to what is published: subject, headers, body. The only maker of subjects.

mod clock;
pub mod subject;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use pontoon_sdk::{CommandId, Event, EventType, Fields, LinkKey};
use time::OffsetDateTime;

use crate::config::{EventMode, Events};
use crate::dedup::Identity;
use clock::Clock;
pub use clock::rfc3339;
pub use subject::Subjects;

/// Wraps the events of one instance.
pub struct Envelope {
    /// The subjects of the instance.
    pub subjects: Subjects,
    /// This start of the instance: milliseconds since 1970, so that it grows with every start.
    pub epoch: u64,
    mode: EventMode,
    raw: bool,
    source: String,
    message_id: String,
    sequence: AtomicU64,
    desk: Mutex<Desk>,
}

/// What is written on before its exact size is known.
#[derive(Default)]
struct Desk {
    clock: Clock,
    subject: String,
    body: Vec<u8>,
}

/// How much of the memory for a body is kept for the next.
const SCRATCH: usize = 64 * 1024;
/// What an allocation costs besides its bytes, about.
const ALLOCATION: usize = 16;

/// An event as it is published, without what only a bus knows. Kept until it is confirmed.
#[derive(Debug)]
pub struct Record {
    /// Its number within this start of the instance, from 1.
    pub sequence: u64,
    /// What kind of event.
    pub kind: EventType,
    /// Where it is published.
    pub subject: Bytes,
    /// What is published.
    pub body: Bytes,
    /// When the frame was read, for latency.
    pub read_at: Instant,
    read: OffsetDateTime,
    time: OffsetDateTime,
    scope: Option<Box<str>>,
    upstream: Option<Box<str>>,
    link: LinkKey,
    traceparent: Option<Box<str>>,
    /// What makes it the same as another.
    pub identity: Option<Identity>,
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

    /// When it was read.
    pub fn read(&self) -> OffsetDateTime {
        self.read
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
            subjects: Subjects::new(prefix, kind, instance),
            epoch,
            mode: events.mode,
            raw: events.raw,
            source: format!("urn:pontoon:{kind}:{instance}"),
            message_id: format!("{kind}.{instance}:"),
            sequence: AtomicU64::new(0),
            desk: Mutex::default(),
        }
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
        let mut desk = self.desk();
        let Desk { clock, subject, body } = &mut *desk;
        subject.clear();
        self.subjects.push_event(subject, event.kind.as_str(), event.scope.as_deref().unwrap_or_default());
        let boxed = |text: &str| header_value(text).into_boxed_str();
        let mut record = Record {
            sequence,
            kind: event.kind,
            subject: Bytes::copy_from_slice(subject.as_bytes()),
            body: Bytes::new(),
            read_at,
            read,
            time: event.time.filter(clock::sensible).unwrap_or(read),
            scope: event.scope.as_deref().filter(|scope| !scope.is_empty()).map(boxed),
            upstream: event.upstream.as_deref().map(boxed),
            link: event.fields.link.as_deref().map_or_else(|| link.clone(), LinkKey::new),
            traceparent: event.traceparent.as_deref().filter(|text| text.len() <= 128).map(boxed),
            identity: None,
        };
        body.clear();
        self.push_data(body, &event.fields, event.raw.as_bytes());
        record.body = match self.mode {
            EventMode::Binary => Bytes::copy_from_slice(body),
            EventMode::Structured => self.structured(&record, clock.format(record.time), &event, body).into(),
        };
        // One large event must not keep its memory for ever.
        body.shrink_to(SCRATCH);
        record
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event that says that something may have been missed.
    pub fn gap(&self, fields: Fields, read_at: Instant) -> Record {
        self.gap_as(self.sequence.fetch_add(1, Ordering::Relaxed) + 1, fields, read_at)
    }

    fn gap_as(&self, sequence: u64, fields: Fields, read_at: Instant) -> Record {
        let link = LinkKey::new(fields.link.as_deref().unwrap_or("_"));
        let mut event = Event::new(EventType::GapDetected, pontoon_sdk::Raw::null());
        event.fields = fields;
        self.seal_as(sequence, event, &link, read_at, OffsetDateTime::now_utc())
    }

    /// Turns a record that cannot be published into a gap at its place, with its number.
    pub fn replace_by_gap(&self, record: &mut Record, reason: &str) {
        let at = Some(rfc3339(record.read));
        let fields = Fields {
            link: Some(record.link.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            from: at.clone(),
            to: at,
            recovered: Some(false),
            dropped: Some(1),
            ..Fields::default()
        };
        *record = self.gap_as(record.sequence, fields, record.read_at);
    }

    /// A command as its caller is told it: unique over all starts of the instance.
    pub fn command(&self, id: CommandId) -> String {
        format!("{:x}-{}", self.epoch, id.0)
    }

    /// `<epoch>-<sequence>`
    pub fn id(&self, record: &Record) -> String {
        format!("{}-{}", self.epoch, record.sequence)
    }

    /// `<type>.<instance>:<epoch>-<sequence>`
    pub fn message_id(&self, record: &Record) -> String {
        format!("{}{}-{}", self.message_id, self.epoch, record.sequence)
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
        if self.mode == EventMode::Structured {
            return put("Content-Type", "application/cloudevents+json");
        }
        put("ce-specversion", "1.0");
        put("ce-id", text.get(self.message_id.len()..).unwrap_or_default());
        put("ce-source", &self.source);
        put("ce-type", record.kind.ce_type());
        put("ce-time", self.desk().clock.format(record.time));
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
                put(name, value);
            }
        }
    }

    /// The sequence as text that sorts, over all starts of the instance.
    fn push_sequence(&self, text: &mut String, sequence: u64) {
        let _ = write!(text, "{:015}-{sequence:012}", self.epoch);
    }

    fn push_data(&self, body: &mut Vec<u8>, fields: &Fields, raw: &[u8]) {
        if serde_json::to_writer(&mut *body, fields).is_err() || !self.raw {
            return;
        }
        // The payload is JSON that was checked when it was read: it is put in as it is.
        body.pop();
        body.extend_from_slice(if body.len() > 1 { b",\"raw\":" } else { b"\"raw\":" });
        body.extend_from_slice(raw);
        body.push(b'}');
    }

    fn structured(&self, record: &Record, time: &str, event: &Event, data: &[u8]) -> Vec<u8> {
        let mut sequence = String::new();
        self.push_sequence(&mut sequence, record.sequence);
        let mut document = serde_json::Map::new();
        let mut put = |name: &str, value: &str| document.insert(name.to_owned(), value.into());
        put("specversion", "1.0");
        put("id", &self.id(record));
        put("source", &self.source);
        put("type", record.kind.ce_type());
        put("time", time);
        put("datacontenttype", "application/json");
        put("sequence", &sequence);
        put("link", record.link.as_str());
        let optional = [
            ("subject", event.scope.as_deref()),
            ("upstreamevent", event.upstream.as_deref()),
            ("traceparent", record.traceparent.as_deref()),
        ];
        for (name, value) in optional {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                put(name, value);
            }
        }
        let mut body = Vec::with_capacity(data.len() + 512);
        if serde_json::to_writer(&mut body, &document).is_ok() {
            body.pop();
            body.extend_from_slice(b",\"data\":");
            body.extend_from_slice(data);
            body.push(b'}');
        }
        body
    }
}

/// Percent-encodes a header's value as the CloudEvents NATS binding says: space, `"`, `%` and everything outside
/// U+0021 to U+007E. At most 1,024 bytes come out; the true value is in the body.
pub fn header_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if value.len() > 1_021 {
            break;
        }
        match byte {
            b'"' | b'%' => {}
            0x21..=0x7E => {
                value.push(char::from(byte));
                continue;
            }
            _ => {}
        }
        let _ = write!(value, "%{byte:02X}");
    }
    value
}

#[cfg(test)]
mod tests;
