//! Which confirmations are expected, and how to find out what the stream holds after an error.
//!
//! In strict order, each publish carries `Nats-Expected-Last-Sequence`: the stream takes an event only behind the one
//! before it (ADR-8; the header pipelines). So nothing is stored twice or out of order, if messages are lost or repeated on
//! the way. Which events are stored is never concluded, but read back: the message of another client can take the place of
//! an event that was refused, and the stream then takes the events behind it.

mod reader;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::Info;
use time::OffsetDateTime;
use tokio::time::sleep;

use self::reader::{ReadBack, Reader};
use super::advice;
use super::jetstream::{JetStream, NO_JETSTREAM, PubAck};
use super::spool::Spool;
use crate::envelope::Envelope;
use crate::fence::{Fence, NOT_CERTAIN};
use crate::settings::{Delivery, DeliveryMode, Ordering};

/// A fenced instance takes the stream over once its other writer has written nothing for this long.
const TAKEOVER: Duration = Duration::from_secs(15);
/// How long a stream that was there is left deleted. nats-server 2.9 may remove its files only after it has forgotten it, and with
/// them those of a stream of its name that is created meanwhile, which then takes nothing.
const DELETED: Duration = Duration::from_secs(1);

/// Which confirmations are expected in one attempt to publish.
pub enum Acks {
    /// A round trip to the server behind a batch, one at a time.
    Core {
        /// The last event that was sent behind the last ping.
        last: Option<u64>,
        /// The number of the ping that is not answered, and the last event before it.
        ping: Option<(u64, u64)>,
    },
    /// A PubAck for each event, in any order.
    BestEffort,
    /// A PubAck for each event, with the sequence that follows the one before.
    Strict {
        /// The stream's sequence of the last event that was confirmed.
        confirmed: u64,
        /// The stream's sequence of the last event that was sent.
        last: u64,
        /// Events on the wire and the stream's sequences they must get.
        expected: VecDeque<(u64, u64)>,
    },
}

impl Acks {
    /// Whether a stream confirms.
    pub fn is_stream(&self) -> bool {
        !matches!(self, Self::Core { .. })
    }

    /// The sequence that the stream must be at when the next event comes.
    pub fn expected(&self) -> Option<u64> {
        match self {
            Self::Strict { last, .. } => Some(*last),
            Self::Core { .. } | Self::BestEffort => None,
        }
    }

    /// An event was sent.
    pub fn sent(&mut self, sequence: u64) {
        match self {
            Self::Core { last, .. } => *last = Some(sequence),
            Self::BestEffort => {}
            Self::Strict { last, expected, .. } => {
                *last += 1;
                expected.push_back((sequence, *last));
            }
        }
    }

    /// Has a ping follow what was sent, if no other is under way. `send` returns its number.
    pub fn ping(&mut self, send: impl FnOnce() -> u64) {
        if let Self::Core { last, ping: ping @ None } = self
            && let Some(sequence) = last.take()
        {
            *ping = Some((send(), sequence));
        }
    }

    /// The ping of this number was answered. Returns up to which event the server has processed them, if one is behind it.
    pub fn pong(&mut self, number: u64) -> Option<u64> {
        let Self::Core { ping, .. } = self else { return None };
        ping.take_if(|(ping, _)| *ping == number).map(|(_, sequence)| sequence)
    }

    /// The stream has stored an event.
    ///
    /// # Errors
    /// If it was stored at another place than expected: the stream must be read back.
    pub fn stored(&mut self, sequence: u64, ack: &PubAck<'_>, spool: &Spool) -> Result<(), String> {
        // It is stored in any case; at another place than expected, the others must be read back.
        spool.confirm(sequence);
        let Self::Strict { expected, confirmed, .. } = self else { return Ok(()) };
        match expected.pop_front() {
            Some((sent, place)) if sent == sequence && place == ack.seq && !ack.duplicate => {
                *confirmed = place;
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
    api: String,
    known: Option<Known>,
    /// Set while another daemon writes to the stream.
    rival: Option<Rival>,
    foreign: Foreign,
    /// The last event that was sent while the order was not strict.
    last_with_id: u64,
    /// Whether the settings may name another stream since the last look at it.
    moved: bool,
    /// Closed while another daemon may own the instance.
    fence: Fence,
    /// The epoch of the last event that the stream had when this run began, if other daemons may have published it.
    before: Option<u64>,
}

struct Known {
    created: OffsetDateTime,
    /// The stream's sequence up to which everything is accounted for.
    accounted: u64,
    /// Whether everything stored since was confirmed in order, so that `accounted` is exact.
    strict: bool,
}

/// Another writer of a later epoch.
struct Rival {
    epoch: u64,
    /// The stream's last sequence, and since when it has not changed.
    last: u64,
    since: Instant,
}

/// What other writers did to a stream that should have one writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Messages of theirs.
    pub messages: u64,
    /// Events of ours that they put out of order.
    pub reordered: u64,
}

/// Why nothing is published just now.
pub struct Blocked {
    /// A sentence for the operator.
    pub reason: String,
    /// Whether another daemon writes to the stream.
    pub fenced: bool,
}

impl From<String> for Blocked {
    fn from(reason: String) -> Self {
        Self { reason, fenced: false }
    }
}

impl Tracker {
    /// Knows nothing of the stream yet. `api` is what subjects of the JetStream API begin with. Nothing is published while
    /// the fence is closed.
    pub fn new(delivery: Delivery, instance: &str, api: String, fence: Fence) -> Self {
        let stream = stream_of(&delivery, instance);
        let (known, rival, foreign) = (None, None, Foreign::default());
        let (last_with_id, moved, instance) = (0, false, instance.to_owned());
        Self {
            delivery,
            instance,
            stream,
            api,
            known,
            rival,
            foreign,
            last_with_id,
            moved,
            fence,
            before: None,
        }
    }

    /// Goes on with other settings. `elsewhere` is whether they may lead to another server or account: then a stream
    /// other than before is what the operator wants, and not a loss.
    pub fn reconfigure(&mut self, delivery: Delivery, api: String, elsewhere: bool) {
        let stream = stream_of(&delivery, &self.instance);
        self.moved |= elsewhere || stream != self.stream;
        if let Some(known) = &mut self.known {
            known.strict &= delivery.mode == self.delivery.mode;
        }
        (self.delivery, self.stream, self.api) = (delivery, stream, api);
    }

    /// Whether an event of this epoch comes late: another daemon has owned the instance since, and published events.
    pub fn is_late(&self, epoch: u64) -> bool {
        self.before.is_some_and(|before| epoch < before)
    }

    /// Closed while nothing may be published.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The stream that confirms, if one does.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Whether the server confirms, and no stream.
    pub fn is_core(&self) -> bool {
        self.delivery.mode == DeliveryMode::Core
    }

    fn is_strict(&self) -> bool {
        !self.is_core() && self.delivery.ordering == Ordering::Strict
    }

    /// Whether this event carries its `Nats-Msg-Id`. In strict order the sequences exclude doubles, and the server need not
    /// remember ids; but what was sent before the order was strict may be stored under its id.
    pub fn message_id(&self, sequence: u64) -> bool {
        !self.is_strict() || self.delivery.message_id || sequence <= self.last_with_id
    }

    /// An event was sent.
    pub fn sent(&mut self, sequence: u64) {
        if !self.is_strict() {
            self.last_with_id = self.last_with_id.max(sequence);
        }
    }

    /// What other writers did to the stream so far.
    pub fn foreign(&self) -> Foreign {
        self.foreign
    }

    /// Keeps what an attempt has confirmed so far.
    pub fn note(&mut self, acks: &Acks, spool: &Spool) {
        if let (Some(known), Acks::Strict { confirmed, .. }) = (&mut self.known, acks) {
            known.accounted = *confirmed;
            spool.accounted(&self.stream, known.created, *confirmed);
        }
    }

    /// Finds out which of the unconfirmed events are stored, and confirms them. Returns which confirmations are expected
    /// from now on.
    ///
    /// # Errors
    /// See [`Blocked`].
    pub async fn resync(&mut self, client: &Client, spool: &Spool) -> Result<Acks, Blocked> {
        if !self.fence.is_open() {
            return Err(Blocked { reason: NOT_CERTAIN.to_owned(), fenced: true });
        }
        if self.is_core() {
            return Ok(Acks::Core { last: None, ping: None });
        }
        let js = JetStream { client, api: &self.api };
        let info = self.ensure(js, &spool.envelope).await?;
        let strict = self.is_strict();
        let is_leased = self.fence.is_fenced();
        let reader = Reader { js, stream: &self.stream, spool, is_leased };
        match &self.known {
            None => {
                self.before = reader.first_look(&info).await?.filter(|_| is_leased);
                if let Some(left) = spool.left() {
                    reader.recover(left, &info, strict).await?;
                }
            }
            // What the former stream has confirmed is in it; the rest is kept, and goes to this one.
            Some(known) if self.moved && known.created != info.created => {
                self.rival = None;
                reader.first_look(&info).await?;
                let (instance, stream) = (&self.instance, &self.stream);
                tracing::info!(instance, stream, "events go to another stream from now on");
            }
            Some(known) if known.created != info.created || info.state.last_sequence < known.accounted => {
                self.rival = None;
                spool.stream_reset();
            }
            // Also where the order was strict until now: what was sent had no id by which the stream would know it again.
            Some(known) if known.strict => {
                let read = reader.read_back(known.accounted, info.state.last_sequence).await?;
                if strict {
                    self.check_owner(&read, &info, spool)?;
                } else {
                    self.rival = None;
                }
            }
            // Nothing is read back, so a fence of earlier settings would never end.
            Some(_) => self.rival = None,
        }
        self.moved = false;
        let last = info.state.last_sequence;
        self.known = Some(Known { created: info.created, accounted: last, strict });
        spool.accounted(&self.stream, info.created, last);
        // Else the next run would not know what this one has published.
        spool.introduced().await;
        if !strict {
            return Ok(Acks::BestEffort);
        }
        Ok(Acks::Strict { confirmed: last, last, expected: VecDeque::new() })
    }

    /// Decides whether another daemon owns the stream. It does while it writes under a later epoch; once it has written
    /// nothing for a while, this one goes on under a later epoch still.
    fn check_owner(&mut self, read: &ReadBack, info: &Info, spool: &Spool) -> Result<(), Blocked> {
        let last = info.state.last_sequence;
        if let Some(epoch) = read.later_epoch {
            if self.fence.is_fenced() {
                self.fence.revoke();
                let reason = format!(
                    "another daemon has taken the instance over, and writes to the stream {}",
                    self.stream
                );
                return Err(Blocked { reason, fenced: true });
            }
            self.rival = Some(Rival { epoch, last, since: Instant::now() });
        } else if let Some(rival) = &mut self.rival
            && rival.last != last
        {
            (rival.last, rival.since) = (last, Instant::now());
        }
        if let Some(known) = &mut self.known {
            // Nothing of ours is on the wire.
            known.accounted = last;
        }
        let Some(rival) = &self.rival else {
            self.foreign.messages += read.foreign;
            self.foreign.reordered += read.reordered;
            self.report_foreign(read, spool);
            return Ok(());
        };
        if rival.since.elapsed() < TAKEOVER {
            let reason = format!(
                "another daemon writes to the stream {}: stop one of the two; this one keeps its events, and takes over once the other has written nothing for {} s",
                self.stream,
                TAKEOVER.as_secs()
            );
            return Err(Blocked { reason, fenced: true });
        }
        spool.follow_epoch(rival.epoch);
        tracing::warn!(
            instance = self.instance,
            stream = self.stream,
            "the other daemon has stopped writing to the stream; this one takes over"
        );
        self.rival = None;
        Ok(())
    }

    fn report_foreign(&self, read: &ReadBack, spool: &Spool) {
        let ReadBack { foreign, reordered, .. } = *read;
        if foreign == 0 {
            return;
        }
        spool.metrics.stream_foreign_messages.increment(foreign);
        tracing::warn!(
            instance = self.instance,
            stream = self.stream,
            foreign,
            reordered,
            "another client wrote to the stream; take that right from it, or set delivery.ordering = \"best_effort\""
        );
    }

    /// The stream, made if it is missing and may be made; never changed.
    async fn ensure(&self, js: JetStream<'_>, envelope: &Envelope) -> Result<Info, String> {
        let (stream, subject) = (&self.stream, envelope.subjects().all_events());
        let info = match js.info(stream).await {
            Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) && self.delivery.provision => {
                if self.known.is_some() {
                    sleep(DELETED).await;
                }
                match js.create(stream, &subject, &self.instance, &self.delivery).await {
                    Ok(info) => info,
                    Err(error) => {
                        return Err(advice::not_created(js, stream, &subject, &self.delivery, &error).await);
                    }
                }
            }
            other => other.map_err(|error| match error {
                error if error.is(ErrorCode::STREAM_NOT_FOUND) => {
                    format!("the stream {stream} is missing; create it for {subject}, or set delivery.provision = true")
                }
                error if error.not_enabled() => format!("{NO_JETSTREAM}, or set delivery.mode = \"core\""),
                error => format!("the stream {stream} cannot be looked up: {error}"),
            })?,
        };
        if info.config.no_ack {
            return Err(format!(
                "the stream {stream} has no_ack, so that it confirms nothing; set it to false (nats stream edit {stream} --ack)"
            ));
        }
        advice::subjects(stream, &info.config.subjects, &subject, self.delivery.ordering)?;
        Ok(info)
    }
}

/// The stream of an instance.
pub fn stream_of(delivery: &Delivery, instance: &str) -> String {
    delivery.stream.clone().unwrap_or_else(|| format!("PONTOON_{}", instance.to_uppercase()))
}
