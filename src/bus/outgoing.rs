//! One event as the NATS client sends it.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;

use crate::envelope::Record;

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
    /// The record as it is sent: `limit` is the server's `max_payload`, which counts headers, too; `expected` is the
    /// sequence that the stream must be at.
    pub(super) fn new(record: &Record, limit: usize, expected: Option<u64>) -> Result<Self, TooLarge> {
        let (mut headers, body) = (HeaderMap::new(), record.body());
        let mut size = body.len() + HEADERS_FRAME;
        for (name, value) in record.headers() {
            size += name.len() + value.len() + 4;
            put(&mut headers, name, value);
        }
        let sequence = record.sequence;
        if let Some(discarded) = record.discarded {
            let size = usize::try_from(discarded).unwrap_or(usize::MAX);
            return Err(TooLarge { sequence, size, discarded: true, headers });
        }
        if size > limit {
            return Err(TooLarge { sequence, size, discarded: false, headers });
        }
        if let Some(expected) = expected {
            headers
                .insert(HeaderName::from_static("Nats-Expected-Last-Sequence"), HeaderValue::from(expected));
        }
        Ok(Self { sequence, subject: record.subject(), headers, body })
    }
}

/// Adds a header. A record holds no value that a header cannot hold; one that cannot is left out.
pub(super) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = value.parse::<HeaderValue>() {
        headers.insert(HeaderName::from_static(name), value);
    }
}
