//! One event as it is published: subject, headers and body, complete, in one allocation.

use std::time::Instant;

use pontoon_sdk::LinkKey;
use time::OffsetDateTime;

use super::Gap;
use super::attributes::{BINARY, STRUCTURED, source_at, without_lead};
use crate::settings::EventMode;

/// What an allocation costs besides its bytes, about.
const ALLOCATION: usize = 16;
/// What stands before the payload.
const RAW: &[u8] = br#""raw":"#;

/// An event's identity, short enough to keep many. Two that differ are the same once in 2^128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub u64, pub u64);

/// One event as it is published. Made by [`Envelope::seal`](super::Envelope::seal), and kept until it is confirmed.
#[derive(Debug)]
pub struct Record {
    /// The epoch of the run that made it, or that it was moved to: see [`Envelope::epoch`](super::Envelope::epoch).
    pub epoch: u64,
    /// Its number within this run of the instance, from 1, or behind those that earlier runs have left on disk.
    pub sequence: u64,
    /// When its frame was read, for latency.
    pub read_at: Instant,
    /// When its frame was read by the wall clock; never before that of the record before it, even if the clock is set back.
    pub recorded: OffsetDateTime,
    /// The link that it came over.
    pub link: LinkKey,
    /// What makes it the same as another.
    pub identity: Option<Identity>,
    /// What a `gap.detected` event is made of.
    pub gap: Option<Box<Gap>>,
    /// It stands for a message that was discarded, of this many bytes.
    pub discarded: Option<u64>,
    /// Since when a link has been down whose gap is not published yet.
    pub(super) ongoing_gap: Option<OffsetDateTime>,
    pub(super) mode: EventMode,
    pub(super) text: Text,
    /// How many bytes of the body are the payload, if it can be left out, else 0.
    pub(super) raw: usize,
}

/// Subject, headers and body as they are sent, one behind the other.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) bytes: Box<[u8]>,
    /// Where the `Nats-Msg-Id` begins, which is not always sent.
    pub(super) headers_at: usize,
    /// Where the other headers begin.
    pub(super) attributes_at: usize,
    pub(super) body_at: usize,
}

/// What of a record depends on neither the prefix, nor the epoch, nor an ongoing gap.
pub(super) struct Parts<'a> {
    /// `<noun>.<verb>.<scope>`
    pub(super) subject: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) body: &'a [u8],
}

impl Record {
    /// Its subject.
    pub fn subject(&self) -> &[u8] {
        self.text.bytes.get(..self.text.headers_at).unwrap_or_default()
    }

    /// Its headers as lines that are sent as they are, with or without its `Nats-Msg-Id`. Values hold nothing but printable
    /// ASCII.
    pub fn header_lines(&self, message_id: bool) -> [&[u8]; 2] {
        let fixed = match self.mode {
            EventMode::Binary => BINARY,
            EventMode::Structured => STRUCTURED,
        };
        let Text { bytes, headers_at, attributes_at, body_at } = &self.text;
        let start = if message_id { *headers_at } else { *attributes_at };
        [fixed, bytes.get(start..*body_at).unwrap_or_default()]
    }

    /// Its body: fields and payload, or in structured mode the document.
    pub fn body(&self) -> &[u8] {
        self.text.bytes.get(self.text.body_at..).unwrap_or_default()
    }

    /// How much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        let gap = self.gap.as_ref().map_or(0, |gap| gap.size() + ALLOCATION);
        size_of::<Self>() + self.text.bytes.len() + ALLOCATION + gap
    }

    /// Epoch and sequence, by which records are in order over all runs.
    pub fn id(&self) -> (u64, u64) {
        (self.epoch, self.sequence)
    }

    /// Since when a link has been down whose gap is not published yet.
    pub fn ongoing_gap(&self) -> Option<OffsetDateTime> {
        self.ongoing_gap
    }

    /// Until when all events of the instance are accounted for, up to this one.
    pub fn covered_until(&self) -> OffsetDateTime {
        self.ongoing_gap.map_or(self.recorded, |since| since.min(self.recorded))
    }

    /// Leaves the payload out of the body and puts its size there instead: `"raw_omitted": <bytes>`. Returns whether it was
    /// there.
    pub fn omit_raw(&mut self) -> bool {
        let raw = std::mem::take(&mut self.raw);
        if raw == 0 {
            return false;
        }
        let bytes = &self.text.bytes;
        let closing = if self.mode == EventMode::Structured { "}}" } else { "}" };
        let (before, _) = bytes.split_at(bytes.len() - closing.len() - raw - RAW.len());
        let omitted = format!("\"raw_omitted\":{raw}{closing}");
        self.text.bytes = [before, omitted.as_bytes()].concat().into();
        true
    }

    /// What of it stays when the prefix, the epoch or the ongoing gap changes.
    pub(super) fn parts(&self) -> Parts<'_> {
        let (subject, body) = (self.subject(), self.body());
        let dots = subject.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.');
        let tail = dots.map(|(at, _)| at + 1).nth(2).unwrap_or_default();
        let [_, headers] = self.header_lines(true);
        let body = if self.mode == EventMode::Structured { &body[source_at(body)..] } else { body };
        Parts { subject: &subject[tail..], headers: without_lead(headers), body }
    }
}

/// Writes the fields and the payload. Returns how many bytes the payload has, 0 if it is not there.
pub(super) fn push_data(body: &mut Vec<u8>, fields: &pontoon_sdk::Fields, raw: Option<&[u8]>) -> usize {
    let start = body.len();
    let written = serde_json::to_writer(&mut *body, fields);
    let Some(raw) = raw.filter(|_| written.is_ok()) else { return 0 };
    // The payload is JSON that was checked when it was read: it is put in as it is.
    body.pop();
    if body.len() > start + 1 {
        body.push(b',');
    }
    body.extend_from_slice(RAW);
    body.extend_from_slice(raw);
    body.push(b'}');
    raw.len()
}
