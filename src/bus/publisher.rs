//! From the spool to NATS: publishes records, and confirms them to the spool when NATS has confirmed them.
//!
//! Events go out on a `Channel`. In `core` mode a ping follows them, which the server answers once it has taken
//! what came before. Where a stream confirms, every publish names a reply subject of ours, `<inbox>.<attempt>.<sequence>`, so
//! that one subscription of the same connection carries all PubAcks. Anything else ends the attempt: it is read back which
//! events the stream holds, and the rest is sent again from the oldest.

mod dead_letter;

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::ErrorCode;
use pontoon_sdk::Size;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::dead_letter::{DeadLetters, Limit, TooLarge};
use super::acks::{Acks, Blocked, Tracker};
use super::connect::{Connection, not_allowed};
use super::connections::Opener;
use super::jetstream::PubAck;
use super::protocol::{Message, Publish};
use super::publish_connection::{ConnectionError, Received};
use super::shared_connection::{Channel, ROUND_TRIP};
use super::spool::{Spool, WINDOW};
use crate::backoff;
use crate::envelope::Record;
use crate::fence::NOT_CERTAIN;
use crate::status::BusStatus;
use crate::transport::deadline::within;

/// The detail while the first connection is made.
const CONNECTING: &str = "connecting to NATS";
/// The header of an event that another daemon's events came before: the spool of a former owner had it.
const LATE: &[u8] = b"ce-pontoonlate: true\r\n";
/// How long the oldest event on the wire may wait for any sign of progress.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes the events of one instance.
pub struct Publisher {
    client: Client,
    connection: watch::Receiver<Connection>,
    opener: Opener,
    spool: Rc<Spool>,
    status: watch::Sender<BusStatus>,
    tracker: Tracker,
    dead_letters: DeadLetters,
    inbox: String,
    attempt: u64,
    /// What the reply subjects of this attempt begin with, `<inbox>.<attempt>.`
    reply: String,
    /// How many events may be on the wire now: one until it is confirmed, at the beginning and after a refusal. What a
    /// killed run had written comes first then, and the gap of this run is stored before its events.
    window: usize,
    /// The generation of the client's connection in which this attempt began: confirmations count within it only.
    generation: u64,
}

/// Why an attempt to publish ended.
struct PublishError(String);

impl From<ConnectionError> for PublishError {
    fn from(error: ConnectionError) -> Self {
        Self(format!("the connection to NATS was lost: {error}"))
    }
}

/// How often a fenced instance looks whether the other writer has stopped.
const FENCED: Duration = Duration::from_secs(1);

impl Publisher {
    /// A publisher for the spool of this instance. Nothing is sent before [`Publisher::run`].
    pub fn new(
        client: Client,
        connection: watch::Receiver<Connection>,
        opener: Opener,
        spool: Rc<Spool>,
        status: watch::Sender<BusStatus>,
        tracker: Tracker,
        message_limit: Size,
    ) -> Self {
        Self {
            inbox: client.new_inbox(),
            client,
            connection,
            opener,
            spool,
            status,
            tracker,
            dead_letters: DeadLetters::new(message_limit),
            attempt: 0,
            reply: String::new(),
            window: 1,
            generation: 0,
        }
    }

    /// What is known of the stream, for a publisher that goes on with other settings.
    pub fn into_tracker(self) -> Tracker {
        self.tracker
    }

    /// Publishes until it is dropped.
    pub async fn run(&mut self) {
        let (mut open, mut failures) = (None, 0);
        loop {
            let (mut acks, mut connection) = self.establish(open).await;
            let before = self.spool.nth(0);
            let Err(PublishError(reason)) = self.flow(&mut acks, &mut connection).await;
            open = Some(connection);
            self.tracker.note(&acks, &self.spool);
            let stuck = before.is_some() && self.spool.nth(0) == before;
            failures = if stuck { failures + 1 } else { 0 };
            tracing::info!(instance = self.spool.instance, %reason, "publishing starts over");
            self.report(false, Some(reason));
            if failures > 0 {
                sleep(backoff::NATS.delay(failures)).await;
            }
        }
    }

    /// Waits for the server, finds out what of the unconfirmed is stored already, and makes ready to send the rest. A
    /// connection that is open is kept, if everything that was written on it has reached the server.
    async fn establish(&mut self, mut open: Option<Channel>) -> (Acks, Channel) {
        let mut failures = 0;
        loop {
            self.connected().await;
            let generation = self.connection.borrow().generation;
            open = open.filter(|_| generation == self.generation);
            self.generation = generation;
            self.attempt += 1;
            self.reply = format!("{}.{}.", self.inbox, self.attempt);
            let mut lost = self.connection.clone();
            let attempt = async {
                let connection = self.connect(open.take()).await?;
                let resynced = self.tracker.resync(&self.client, &self.spool).await;
                Ok::<_, Blocked>((connection, resynced))
            };
            // The client may notice only now that the server is gone: the attempt would wait for its answer.
            let attempted = tokio::select! {
                attempted = attempt => attempted,
                Ok(_) = lost.wait_for(|connection| connection.generation != generation) => continue,
            };
            let blocked = match attempted {
                Ok((connection, Ok(acks))) => {
                    self.spool.rewind();
                    self.report(true, None);
                    return (acks, connection);
                }
                Ok((connection, Err(blocked))) => {
                    open = Some(connection);
                    blocked
                }
                Err(blocked) => blocked,
            };
            match blocked {
                Blocked { reason, fenced: true } => {
                    self.report_as(BusStatus { fenced: true, detail: Some(reason), ..BusStatus::default() });
                    let _ = timeout(FENCED, self.connection.changed()).await;
                }
                Blocked { reason, fenced: false } => {
                    failures += 1;
                    // What the server refused, such as a subscription, explains more than its silence.
                    let detail = self.connection.borrow().detail.clone();
                    let detail = detail.map_or(reason.clone(), |detail| format!("{reason}; {detail}"));
                    self.report(false, Some(detail));
                    let delay = backoff::NATS.delay(failures) + Duration::from_millis(250);
                    let _ = timeout(delay, self.connection.changed()).await;
                }
            }
        }
    }

    async fn connected(&mut self) {
        while !self.connection.borrow_and_update().up {
            let detail = self.connection.borrow().detail.clone();
            self.report(false, Some(detail.unwrap_or_else(|| CONNECTING.into())));
            if self.connection.changed().await.is_err() {
                // The client is gone, and with it all who would wait for this.
                return std::future::pending().await;
            }
        }
    }

    async fn connect(&self, open: Option<Channel>) -> Result<Channel, String> {
        if let Some(mut open) = open {
            match within(ROUND_TRIP, open.round_trip()).await {
                Some(Ok(())) => return Ok(open),
                Some(Err(_)) => {}
                None => open.give_up("it does not answer"),
            }
        }
        let inbox = format!("{}.", self.inbox);
        let inbox = (!self.tracker.is_core()).then_some(inbox.as_str());
        let subjects = self.spool.envelope.subjects();
        let own = [subjects.events(), &subjects.dead("")];
        self.opener.channel(&self.client, inbox, &own, self.tracker.fence().clone()).await
    }

    async fn flow(&mut self, acks: &mut Acks, connection: &mut Channel) -> Result<Infallible, PublishError> {
        // The oldest event that is not confirmed, and since when it is the oldest.
        let (mut oldest, mut since) = (None, Instant::now());
        let mut alarm = pin!(sleep(CONFIRM_TIMEOUT));
        loop {
            if !self.tracker.fence().is_open() {
                return Err(PublishError(NOT_CERTAIN.to_owned()));
            }
            self.fill(acks, connection);
            let level = self.spool.level();
            let now_oldest = self.spool.nth(0).filter(|_| level.sent > 0);
            if now_oldest != oldest {
                (oldest, since) = (now_oldest, Instant::now());
            }
            self.spool.gauge();
            tokio::select! {
                biased;
                _ = self.connection.changed() => {
                    let client = self.connection.borrow_and_update().clone();
                    if client.generation != self.generation || !client.up {
                        return Err(PublishError("the connection to NATS was lost".into()));
                    }
                    self.report(true, client.detail);
                }
                () = connection.ready() => {}
                () = self.spool.unsent(), if level.sent < self.window && !connection.is_full() => {}
                // One timer, which goes on; a timer for each event would cost more than the event.
                () = alarm.as_mut() => {
                    let now = Instant::now();
                    let is_waiting = level.sent > 0 || connection.is_pinged();
                    if is_waiting && now >= since + CONFIRM_TIMEOUT {
                        return Err(PublishError("NATS has not confirmed an event for 5 s".into()));
                    }
                    if !is_waiting {
                        connection.shrink();
                        // Shows that the connection still is one.
                        connection.ping();
                        since = now;
                    }
                    alarm.as_mut().reset(since + CONFIRM_TIMEOUT);
                }
            }
            self.receive(acks, connection)?;
        }
    }

    /// Writes until the window or the connection's buffer is full, or nothing waits.
    fn fill(&mut self, acks: &mut Acks, connection: &mut Channel) {
        let reply = acks.is_stream().then_some(self.reply.as_str());
        for _ in self.spool.level().sent..self.window {
            if connection.is_full() {
                break;
            }
            let expected = acks.expected();
            let sent = self.spool.send_next(|record| {
                let message_id = self.tracker.message_id(record.sequence);
                let late = self.tracker.is_late(record.epoch);
                write(connection, record, reply, (message_id, late), expected)
            });
            match sent {
                None => break,
                Some(Err(too_large)) => self.dead_letters.reduce(&self.spool, connection, too_large),
                Some(Ok(sequence)) => {
                    acks.sent(sequence);
                    self.tracker.sent(sequence);
                }
            }
        }
        acks.ping(|| connection.ping());
    }

    /// Takes everything that was received.
    fn receive(&mut self, acks: &mut Acks, connection: &mut Channel) -> Result<(), PublishError> {
        while let Some(received) = connection.next()? {
            let too_large = match received {
                Received::Pong(number) => {
                    if let Some(sequence) = acks.pong(number) {
                        self.window = WINDOW;
                        self.spool.confirm_through(sequence);
                    }
                    None
                }
                Received::Message(message) => self.confirmed(acks, &message)?,
                Received::Refused(text) => {
                    self.refused(&text)?;
                    None
                }
                Received::Other => None,
            };
            if let Some(sequence) = too_large {
                let too_large = TooLarge { sequence, size: 0, limit: Limit::Stream, headers: Vec::new() };
                self.dead_letters.reduce(&self.spool, connection, too_large);
                return Err(PublishError("the stream takes no message of that size".into()));
            }
        }
        Ok(())
    }

    /// The server does not allow a publish or the subscription. An event that it refuses is not confirmed, and in core mode
    /// the error comes before the answer to the ping behind it; a dead letter is lost.
    fn refused(&mut self, text: &str) -> Result<(), PublishError> {
        let detail = not_allowed(&format!("nats: {text}"));
        if text.contains(&self.spool.envelope.subjects().dead("")) {
            self.report(true, Some(detail));
            return Ok(());
        }
        self.window = 1;
        Err(PublishError(detail))
    }

    /// One message on the subscription of confirmations. Returns the event that the stream does not take because of its size.
    fn confirmed(&mut self, acks: &mut Acks, message: &Message<'_>) -> Result<Option<u64>, PublishError> {
        let Some(sequence) = self.sequence_of(message.subject) else { return Ok(None) };
        if message.has_status {
            return Err(PublishError(format!(
                "no stream takes {}",
                self.spool.envelope.subjects().all_events()
            )));
        }
        // Subscribers see where the confirmation of an event goes, and may send there, too.
        let Ok(ack) = serde_json::from_slice::<PubAck<'_>>(message.payload) else { return Ok(None) };
        if ack.error.is_none() && (ack.stream != self.tracker.stream() || ack.seq == 0) {
            return Ok(None);
        }
        self.window = if ack.error.is_none() && !ack.duplicate { WINDOW } else { 1 };
        match ack.error {
            None => {
                let stored = acks.stored(sequence, &ack, &self.spool);
                // Not only at the end: this may be dropped while it waits.
                self.tracker.note(acks, &self.spool);
                stored.map(|()| None).map_err(PublishError)
            }
            Some(error) if error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                Ok(Some(sequence))
            }
            Some(error) if error.error_code() == ErrorCode::STREAM_STORE_FAILED => {
                let text = error.to_string();
                Err(PublishError(if text.contains("no such file") {
                    format!("the stream has lost its files: {text}; restart nats-server")
                } else {
                    format!("the stream is full: {text}; raise its limits or remove messages")
                }))
            }
            Some(error) => Err(PublishError(format!("the stream refused an event: {}", error))),
        }
    }

    /// The event that a confirmation of this attempt is about.
    fn sequence_of(&self, subject: &[u8]) -> Option<u64> {
        std::str::from_utf8(subject.strip_prefix(self.reply.as_bytes())?).ok()?.parse().ok()
    }

    fn report(&self, publishing: bool, detail: Option<String>) {
        self.report_as(BusStatus { publishing, detail, ..BusStatus::default() });
    }

    /// Publishes the status of the bus, completed by what is known here.
    fn report_as(&self, status: BusStatus) {
        let (connected, foreign) = (self.connection.borrow().up, self.tracker.foreign());
        let status = BusStatus {
            connected,
            publishing: status.publishing && connected,
            foreign_messages: foreign.messages,
            reordered_events: foreign.reordered,
            ..status
        };
        let gauge = |on: bool| f64::from(u8::from(on));
        self.spool.metrics.nats_connected.set(gauge(connected));
        self.spool.metrics.nats_fenced.set(gauge(status.fenced));
        let changed = self.status.send_if_modified(|current| {
            let changed = *current != status;
            *current = status.clone();
            changed
        });
        let publishing = status.publishing;
        match &status.detail {
            _ if !changed => {}
            Some(detail) if detail == CONNECTING => {
                tracing::info!(instance = self.spool.instance, "{CONNECTING}");
            }
            Some(detail) => {
                tracing::warn!(instance = self.spool.instance, connected, publishing, %detail, "NATS");
            }
            None => tracing::info!(instance = self.spool.instance, connected, publishing, "NATS"),
        }
        self.spool.gauge();
    }
}

/// Adds a record to what is written next, unless it is larger than the server takes. `reply` is what the subject of its
/// confirmation begins with, `expected` the sequence that the stream must be at. Returns the record's sequence.
fn write(
    connection: &mut Channel,
    record: &Record,
    reply: Option<&str>,
    (message_id, late): (bool, bool),
    expected: Option<u64>,
) -> Result<u64, TooLarge> {
    let sequence = record.sequence;
    let lost = |size, limit| {
        let headers = record.header_lines(true).concat();
        Err(TooLarge { sequence, size, limit, headers })
    };
    if let Some(discarded) = record.discarded {
        return lost(usize::try_from(discarded).unwrap_or(usize::MAX), Limit::Message);
    }
    let [same, own] = record.header_lines(message_id);
    let publish = Publish {
        subject: record.subject(),
        reply: reply.map(|reply| (reply, sequence)),
        headers: &[same, own, if late { LATE } else { b"" }],
        expected,
        body: record.body(),
    };
    if publish.size() > connection.max_payload() {
        return lost(publish.size(), Limit::Server);
    }
    connection.publish(&publish);
    Ok(sequence)
}

#[cfg(test)]
mod tests;
