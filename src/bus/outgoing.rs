//! One event as the NATS client sends it.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;

use super::acks::Track;
use crate::envelope::{Envelope, Record};

/// What headers cost on the wire besides names and values, at the most.
const HEADERS_FRAME: usize = 64;

/// One event, ready to be sent.
pub(super) struct Outgoing {
    pub(super) sequence: u64,
    pub(super) subject: Bytes,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An event that cannot be published: the server would not take it, or it stands for a message that was discarded.
pub(super) struct TooLarge {
    pub(super) sequence: u64,
    pub(super) size: usize,
    pub(super) discarded: bool,
    pub(super) headers: HeaderMap,
}

impl Outgoing {
    /// Makes the headers of an event; `limit` is the server's `max_payload`, which counts them.
    pub(super) fn make(
        envelope: &Envelope,
        record: &Record,
        limit: usize,
        track: &Track,
    ) -> Result<Self, TooLarge> {
        let mut headers = HeaderMap::new();
        let body = envelope.body(record);
        let mut size = body.len() + HEADERS_FRAME;
        envelope.headers(record, |name, value| {
            size += name.len() + value.len() + 4;
            put(&mut headers, name, value);
        });
        let discarded = record.discarded.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if size > limit || discarded.is_some() {
            let (sequence, size) = (record.sequence, discarded.unwrap_or(size));
            return Err(TooLarge { sequence, size, discarded: discarded.is_some(), headers });
        }
        if let Some(expected) = track.expected() {
            headers
                .insert(HeaderName::from_static("Nats-Expected-Last-Sequence"), HeaderValue::from(expected));
        }
        let subject = envelope.subjects().event(&record.subject);
        Ok(Self { sequence: record.sequence, subject, headers, body })
    }
}

/// Adds a header. The envelope makes no value that a header cannot hold; one that cannot is left out.
pub(super) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = value.parse::<HeaderValue>() {
        headers.insert(HeaderName::from_static(name), value);
    }
}
