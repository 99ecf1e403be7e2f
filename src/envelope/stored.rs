//! Records as bytes on a disk: what is known of one besides what is published, then its text as it is published.

use std::time::{Duration, Instant};

use pontoon_sdk::LinkKey;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::record::Text;
use super::{Gap, Identity, Record, Start};
use crate::metrics::GapReason;
use crate::settings::EventMode;

/// What stands before the text, in the format of postcard.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    epoch: u64,
    sequence: u64,
    recorded: OffsetDateTime,
    #[serde(borrow)]
    link: &'a str,
    identity: Option<(u64, u64)>,
    gap: Option<StoredGap<'a>>,
    discarded: Option<u64>,
    ongoing_gap: Option<OffsetDateTime>,
    is_structured: bool,
    raw: usize,
    headers_at: usize,
    attributes_at: usize,
    body_at: usize,
}

#[derive(Serialize, Deserialize)]
struct StoredGap<'a> {
    #[serde(borrow)]
    reason: &'a str,
    link: Option<&'a str>,
    from: Option<OffsetDateTime>,
    to: OffsetDateTime,
    recovered: bool,
    dropped: Option<u64>,
}

impl Record {
    /// Appends it as bytes. `previous` is what stands for [`Start::PreviousRun`], which the next run cannot know.
    pub fn store(&self, to: &mut Vec<u8>, previous: Option<OffsetDateTime>) {
        let gap = self.gap.as_deref().map(|gap| StoredGap {
            reason: gap.reason.as_str(),
            link: gap.link.as_ref().map(LinkKey::as_str),
            from: match gap.from {
                Start::At(time) => Some(time),
                Start::PreviousRun => previous,
                Start::Unknown => None,
            },
            to: gap.to,
            recovered: gap.recovered,
            dropped: gap.dropped,
        });
        let head = Head {
            epoch: self.epoch,
            sequence: self.sequence,
            recorded: self.recorded,
            link: self.link.as_str(),
            identity: self.identity.map(|identity| (identity.0, identity.1)),
            gap,
            discarded: self.discarded,
            ongoing_gap: self.ongoing_gap,
            is_structured: self.mode == EventMode::Structured,
            raw: self.raw,
            headers_at: self.text.headers_at,
            attributes_at: self.text.attributes_at,
            body_at: self.text.body_at,
        };
        // Writing to memory cannot fail.
        let _ = postcard::to_io(&head, &mut *to);
        to.extend_from_slice(&self.text.bytes);
    }

    /// The record that was stored.
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let (head, text) = postcard::take_from_bytes::<Head<'_>>(bytes).ok()?;
        let gap = match head.gap {
            None => None,
            Some(gap) => Some(Box::new(Gap {
                reason: GapReason::ALL.into_iter().find(|reason| reason.as_str() == gap.reason)?,
                link: gap.link.map(LinkKey::new),
                from: gap.from.map_or(Start::Unknown, Start::At),
                to: gap.to,
                recovered: gap.recovered,
                dropped: gap.dropped,
                // It is in the text, which is not made again.
                rejoins: None,
            })),
        };
        let Head { headers_at, attributes_at, body_at, raw, .. } = head;
        let is_whole = headers_at <= attributes_at
            && attributes_at <= body_at
            && body_at <= text.len()
            && raw <= text.len() - body_at;
        let age = OffsetDateTime::now_utc() - head.recorded;
        let age = Duration::try_from(age).unwrap_or_default();
        is_whole.then(|| Self {
            epoch: head.epoch,
            sequence: head.sequence,
            read_at: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
            recorded: head.recorded,
            link: LinkKey::new(head.link),
            identity: head.identity.map(|(first, second)| Identity(first, second)),
            gap,
            discarded: head.discarded,
            ongoing_gap: head.ongoing_gap,
            mode: if head.is_structured { EventMode::Structured } else { EventMode::Binary },
            text: Text { bytes: text.into(), headers_at, attributes_at, body_at },
            raw,
        })
    }
}
