//! What the stream must answer to each event, and how to find out what it holds after something went wrong.
//!
//! With one writer, each publish carries `Nats-Expected-Last-Sequence`: the stream takes an event only behind the one
//! before it (ADR-8; the header pipelines). So nothing is stored twice or out of order, whatever is lost or repeated on
//! the way. Which events are stored is never concluded, but read back: a stranger's message can take the place of one
//! that was refused, and let those behind it in.

use std::collections::VecDeque;
use std::sync::atomic;

use async_nats::Client;
use futures_util::{StreamExt as _, stream};
use pontoon_sdk::Fields;
use time::OffsetDateTime;

use super::ring::Ring;
use super::stream::{self as jetstream, Answer, Info, code};
use crate::config::{Delivery, DeliveryMode, Ordering};
use crate::envelope::{Envelope, Record, rfc3339};
use crate::instance::Shared;
use crate::metrics::GapReason;

/// How far the stream is read back for events of ours. No more than a quarter of it can have been on the wire.
const READ_BACK: u64 = 4_096;
/// How many messages are asked for at once.
const READ_AHEAD: usize = 32;

/// What is expected of the confirmations of one attempt.
pub enum Track {
    /// The server's round trip behind each batch.
    Core,
    /// A PubAck for each event, in any order.
    Loose,
    /// A PubAck for each event, with the sequence that follows the one before.
    Chained {
        /// The stream's sequence of the last event that was confirmed.
        confirmed: u64,
        /// The stream's sequence of the last event that was sent.
        last: u64,
        /// Events on the wire and the stream's sequences they must get.
        expected: VecDeque<(u64, u64)>,
    },
}

impl Track {
    /// Whether a stream confirms.
    pub fn is_stream(&self) -> bool {
        !matches!(self, Self::Core)
    }

    /// The sequence that the stream must be at when the next event comes.
    pub fn expected(&self) -> Option<u64> {
        match self {
            Self::Chained { last, .. } => Some(*last),
            Self::Core | Self::Loose => None,
        }
    }

    /// An event was sent.
    pub fn sent(&mut self, sequence: u64) {
        if let Self::Chained { last, expected, .. } = self {
            *last += 1;
            expected.push_back((sequence, *last));
        }
    }

    /// The stream says that it stored an event.
    ///
    /// # Errors
    /// If it stored it somewhere else than it should have: the chain is broken, and the stream must be read back.
    pub fn stored(
        &mut self,
        sequence: u64,
        answer: &Answer,
        ring: &Ring,
        confirmed: impl FnMut(&Record),
    ) -> Result<(), String> {
        let Self::Chained { expected, confirmed: accounted, .. } = self else {
            ring.confirm(sequence, confirmed);
            return Ok(());
        };
        // It is stored, wherever; if that is not where it should be, the others must be looked for.
        ring.confirm(sequence, confirmed);
        match expected.pop_front() {
            Some((sent, place)) if sent == sequence && place == answer.seq && !answer.duplicate => {
                *accounted = place;
                Ok(())
            }
            _ => Err("the stream stored an event at another place".into()),
        }
    }
}

/// What is known of the stream from one attempt to the next.
pub struct Tracker {
    delivery: Delivery,
    instance: String,
    stream: String,
    known: Option<Known>,
}

struct Known {
    created: String,
    /// The stream's sequence up to which everything is accounted for.
    accounted: u64,
}

impl Tracker {
    /// Knows nothing of the stream yet.
    pub fn new(delivery: Delivery, instance: &str) -> Self {
        let stream =
            delivery.stream.clone().unwrap_or_else(|| format!("PONTOON_{}", instance.to_uppercase()));
        Self { delivery, instance: instance.to_owned(), stream, known: None }
    }

    /// The stream that confirms, if one does.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Keeps what an attempt that ended has confirmed.
    pub fn note(&mut self, track: &Track) {
        if let (Some(known), Track::Chained { confirmed, .. }) = (&mut self.known, track) {
            known.accounted = *confirmed;
        }
    }

    /// Finds out which of the unconfirmed events are stored, confirms them, and tells how to go on.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn resync(&mut self, client: &Client, shared: &Shared) -> Result<Track, String> {
        if self.delivery.mode == DeliveryMode::Core {
            return Ok(Track::Core);
        }
        let info = self.ensure(client, &shared.envelope).await?;
        let desk = Desk { client, stream: &self.stream, shared };
        match &self.known {
            None => desk.meet(&info).await?,
            Some(known) if known.created != info.created || info.last_sequence < known.accounted => {
                desk.gap(GapReason::StreamReset, None);
            }
            Some(_) if self.delivery.ordering == Ordering::BestEffort => {}
            Some(known) => desk.read_back(known.accounted, info.last_sequence).await?,
        }
        let last = info.last_sequence;
        self.known = Some(Known { created: info.created, accounted: last });
        if self.delivery.ordering == Ordering::BestEffort {
            return Ok(Track::Loose);
        }
        Ok(Track::Chained { confirmed: last, last, expected: VecDeque::new() })
    }

    /// The stream, made if it is missing and may be made; never changed.
    async fn ensure(&self, client: &Client, envelope: &Envelope) -> Result<Info, String> {
        let (stream, subject) = (&self.stream, envelope.subjects.all_events());
        let info = match jetstream::info(client, stream).await {
            Err(error) if error.is(code::STREAM_NOT_FOUND) && self.delivery.provision => {
                jetstream::create(client, stream, &subject, &self.instance, &self.delivery)
                    .await
                    .map_err(|error| format!("the stream {stream} cannot be created: {error}"))?
            }
            other => other.map_err(|error| match error {
                error if error.is(code::STREAM_NOT_FOUND) => {
                    format!("the stream {stream} is missing; create it for {subject}, or set delivery.provision = true")
                }
                error if error.not_enabled() => {
                    "NATS has no JetStream for this account; enable it in the server's configuration, or set delivery.mode = \"core\"".into()
                }
                error => format!("the stream {stream} cannot be looked up: {error}"),
            })?,
        };
        if self.delivery.ordering == Ordering::Strict && info.subjects != [subject.as_str()] {
            return Err(format!(
                "the stream {stream} takes {} and not just {subject}, so others may write to it; give the instance a stream of its own, or set delivery.ordering = \"best_effort\"",
                info.subjects.join(", ")
            ));
        }
        Ok(info)
    }
}

/// What reading back needs.
struct Desk<'a> {
    client: &'a Client,
    stream: &'a str,
    shared: &'a Shared,
}

impl Desk<'_> {
    /// The first look at the stream: if an earlier start of the instance wrote to it, what came between was missed.
    /// Each link says so when it is ready; for those that were ready before this look, it is said here.
    async fn meet(&self, info: &Info) -> Result<(), String> {
        if info.last_sequence == 0 {
            return Ok(());
        }
        let last = self.message(info.last_sequence).await?.and_then(|stored| stored.time);
        if self.shared.predecessor.set(last).is_ok()
            && self.shared.unannounced.load(atomic::Ordering::Relaxed)
        {
            self.gap(GapReason::Restarted, last);
        }
        Ok(())
    }

    /// Reads what the stream took since, and confirms every event of ours that it holds.
    async fn read_back(&self, accounted: u64, last: u64) -> Result<(), String> {
        let (mut newest, mut gone, mut foreign) = (None, 0_usize, 0_u64);
        let first = last.saturating_sub(READ_BACK).max(accounted) + 1;
        let mut messages =
            stream::iter(first..=last).map(|sequence| self.message(sequence)).buffered(READ_AHEAD);
        while let Some(found) = messages.next().await {
            let Some(stored) = found? else {
                gone += 1;
                continue;
            };
            match stored.message_id.as_deref().and_then(|id| self.shared.envelope.parse_message_id(id)) {
                Some((epoch, sequence)) if epoch == self.shared.envelope.epoch => {
                    newest = newest.max(Some(sequence));
                    self.confirm(sequence);
                }
                Some((epoch, _)) if epoch > self.shared.envelope.epoch => {
                    return Err(format!(
                        "another daemon writes to the stream {}; stop one of the two",
                        self.stream
                    ));
                }
                _ => foreign += 1,
            }
        }
        if foreign > 0 {
            tracing::warn!(
                stream = self.stream,
                foreign,
                "somebody else wrote to the stream; set delivery.ordering = \"best_effort\" if that is meant"
            );
        } else if gone > 0 {
            self.confirm_gone(newest, gone);
        }
        Ok(())
    }

    /// Nobody else writes, so what was stored and is gone again was ours: all before the newest that is there, or the
    /// oldest so many if none is.
    fn confirm_gone(&self, newest: Option<u64>, gone: usize) {
        let newest = newest.or_else(|| self.shared.ring.nth(gone - 1));
        while let Some(oldest) = self.shared.ring.nth(0).filter(|oldest| Some(*oldest) <= newest) {
            self.confirm(oldest);
        }
    }

    async fn message(&self, sequence: u64) -> Result<Option<jetstream::Stored>, String> {
        let found = jetstream::message(self.client, self.stream, sequence).await;
        found.map_err(|error| format!("the stream {} cannot be read back: {error}", self.stream))
    }

    fn confirm(&self, sequence: u64) {
        self.shared.ring.confirm(sequence, |record| {
            self.shared.metrics.events_published.increment(1);
            self.shared.metrics.event_latency.record(record.read_at.elapsed());
        });
    }

    fn gap(&self, reason: GapReason, from: Option<OffsetDateTime>) {
        let fields = Fields {
            reason: Some(reason.as_str().into()),
            from: from.map(rfc3339),
            to: Some(rfc3339(OffsetDateTime::now_utc())),
            recovered: Some(false),
            ..Fields::default()
        };
        self.shared.metrics.gap(reason).increment(1);
        self.shared.metrics.events_read.increment(1);
        self.shared.ring.push(self.shared.envelope.gap(fields, std::time::Instant::now()));
    }
}
