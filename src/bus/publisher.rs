//! From the spool to NATS: publishes records, and confirms them to the spool when NATS has confirmed them.
//!
//! Every publish names a reply subject of ours, `<inbox>.<attempt>.<sequence>`, so that one subscription carries all
//! confirmations: the PubAcks of a stream, and in `core` mode a message to ourselves behind each batch, which the
//! server can only have sent after it took the batch. Anything else ends the attempt: it is read back which events the
//! stream holds, and the rest is sent again from the oldest.

use std::rc::Rc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_sdk::Size;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::acks::{Acks, Blocked, Tracker, WINDOW};
use super::connect::Connection;
use super::jetstream::PubAck;
use super::outgoing::{Outgoing, TooLarge, put};
use super::spool::{Reduced, Spool};
use crate::backoff;
use crate::log::Throttle;
use crate::metrics::DropReason;
use crate::status::BusStatus;

/// How long the oldest event on the wire may wait for any sign of progress.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes the events of one instance.
pub struct Publisher {
    client: Client,
    connection: watch::Receiver<Connection>,
    spool: Rc<Spool>,
    status: watch::Sender<BusStatus>,
    tracker: Tracker,
    /// `transport.message_limit`.
    message_limit: Size,
    inbox: String,
    attempt: u64,
    /// How many events may be on the wire now: one until it is confirmed, at the beginning and after a refusal. What a
    /// killed run had written comes first then, and the gap of this run is stored before its events.
    window: usize,
    /// That in which this attempt began.
    epoch: ConnectionEpoch,
    too_large: Throttle,
}

/// Why an attempt to publish ended.
struct PublishError(String);

/// Confirmations count within one of these only.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct ConnectionEpoch {
    /// Generation of the connection.
    generation: u64,
    /// How many events its server has refused.
    refusals: u64,
}

impl ConnectionEpoch {
    fn of(connection: &Connection) -> Self {
        Self { generation: connection.generation, refusals: connection.refusals }
    }
}

/// How often a fenced instance looks whether the other writer has stopped.
const FENCED: Duration = Duration::from_secs(1);

impl Publisher {
    /// A publisher for the spool of this instance. Nothing is sent before [`Publisher::run`].
    pub fn new(
        client: Client,
        connection: watch::Receiver<Connection>,
        spool: Rc<Spool>,
        status: watch::Sender<BusStatus>,
        tracker: Tracker,
        message_limit: Size,
    ) -> Self {
        Self {
            inbox: client.new_inbox(),
            client,
            connection,
            spool,
            status,
            tracker,
            message_limit,
            attempt: 0,
            window: 1,
            epoch: ConnectionEpoch::default(),
            too_large: Throttle::default(),
        }
    }

    /// What is known of the stream, for a publisher that goes on with other settings.
    pub fn into_tracker(self) -> Tracker {
        self.tracker
    }

    /// Publishes until it is dropped, or until the client is closed.
    pub async fn run(&mut self) {
        let Ok(mut confirmations) = self.client.subscribe(format!("{}.>", self.inbox)).await else { return };
        let mut failures = 0;
        loop {
            let mut acks = self.establish(&mut confirmations).await;
            let before = self.spool.nth(0);
            let PublishError(reason) = self.flow(&mut acks, &mut confirmations).await;
            self.tracker.note(&acks);
            let stuck = before.is_some() && self.spool.nth(0) == before;
            failures = if stuck { failures + 1 } else { 0 };
            tracing::info!(instance = self.spool.instance, %reason, "publishing starts over");
            self.report(false, Some(reason));
            if failures > 0 {
                sleep(backoff::NATS.delay(failures)).await;
            }
        }
    }

    /// Waits for the server, finds out what of the unconfirmed is stored already, and makes ready to send the rest.
    async fn establish(&mut self, confirmations: &mut Subscriber) -> Acks {
        let mut failures = 0;
        loop {
            self.connected().await;
            self.attempt += 1;
            let settled = match self.barrier(confirmations).await {
                Ok(()) => self.tracker.resync(&self.client, &self.spool).await,
                Err(PublishError(reason)) => Err(reason.into()),
            };
            match settled {
                Ok(acks) => {
                    self.spool.rewind();
                    self.report(true, None);
                    return acks;
                }
                Err(Blocked { reason, fenced: true }) => {
                    self.report_as(BusStatus { fenced: true, detail: Some(reason), ..BusStatus::default() });
                    let _ = timeout(FENCED, self.connection.changed()).await;
                }
                Err(Blocked { reason, fenced: false }) => {
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
            self.report(false, Some(detail.unwrap_or_else(|| "connecting to NATS".into())));
            if self.connection.changed().await.is_err() {
                // The client is gone, and with it all who would wait for this.
                return std::future::pending().await;
            }
        }
    }

    /// A message to ourselves: when it is back, everything sent before it has reached the server.
    async fn barrier(&mut self, confirmations: &mut Subscriber) -> Result<(), PublishError> {
        let subject = format!("{}.{}.b", self.inbox, self.attempt);
        self.send(subject.clone(), None, Bytes::new()).await?;
        let returned = async {
            while let Some(message) = confirmations.next().await {
                if message.subject.as_str() == subject {
                    return;
                }
            }
        };
        timeout(CONFIRM_TIMEOUT, returned).await.map_err(|_| PublishError("NATS does not answer".into()))
    }

    async fn flow(&mut self, acks: &mut Acks, confirmations: &mut Subscriber) -> PublishError {
        self.epoch = ConnectionEpoch::of(&self.connection.borrow());
        // The oldest event that is not confirmed, and since when it is the oldest.
        let (mut oldest, mut since) = (None, Instant::now());
        loop {
            if let Err(error) = self.fill(acks).await {
                return error;
            }
            let level = self.spool.level();
            let now_oldest = self.spool.nth(0).filter(|_| level.sent > 0);
            if now_oldest != oldest {
                (oldest, since) = (now_oldest, Instant::now());
            }
            self.spool.gauge();
            tokio::select! {
                biased;
                // Before any confirmation counts: it may come from another connection, and confirm what was lost with the former one.
                _ = self.connection.changed() => {
                    let connection = self.connection.borrow_and_update().clone();
                    if let Err(error) = self.unchanged(acks) {
                        return error;
                    }
                    self.report(true, connection.detail);
                }
                message = confirmations.next() => {
                    let mut next = message;
                    while let Some(message) = next {
                        if let Err(error) = self.confirmed(acks, &message).await {
                            return error;
                        }
                        next = confirmations.next().now_or_never().flatten();
                    }
                }
                () = self.spool.unsent(), if level.sent < self.window => {}
                () = sleep_until(since + CONFIRM_TIMEOUT), if level.sent > 0 => {
                    return PublishError("NATS has not confirmed an event for 5 s".into());
                }
            }
        }
    }

    /// Sends until the window is full or nothing waits.
    async fn fill(&mut self, acks: &mut Acks) -> Result<(), PublishError> {
        let mut last = None;
        for _ in self.spool.level().sent..self.window {
            let limit = self.client.max_payload();
            let expected = acks.expected();
            match self.spool.send_next(|record| Outgoing::new(record, limit, expected)) {
                None => break,
                Some(Err(too_large)) => self.reduce(too_large).await?,
                Some(Ok(outgoing)) => {
                    let reply = acks.is_stream().then(|| self.confirmation(outgoing.sequence));
                    last = Some(outgoing.sequence);
                    acks.sent(outgoing.sequence);
                    self.send_with_headers(outgoing, reply).await?;
                }
            }
        }
        match last {
            Some(sequence) if !acks.is_stream() => {
                self.send(self.confirmation(sequence), None, Bytes::new()).await
            }
            _ => Ok(()),
        }
    }

    fn confirmation(&self, sequence: u64) -> String {
        format!("{}.{}.{sequence}", self.inbox, self.attempt)
    }

    async fn send_with_headers(&self, outgoing: Outgoing, reply: Option<String>) -> Result<(), PublishError> {
        let subject = Subject::try_from(outgoing.subject).map_err(|error| PublishError(error.to_string()))?;
        let sent = async {
            match reply {
                Some(reply) => {
                    self.client
                        .publish_with_reply_and_headers(subject, reply, outgoing.headers, outgoing.body)
                        .await
                }
                None => self.client.publish_with_headers(subject, outgoing.headers, outgoing.body).await,
            }
        };
        in_time(sent).await
    }

    async fn send(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<(), PublishError> {
        match headers {
            Some(headers) => in_time(self.client.publish_with_headers(subject, headers, body)).await,
            None => in_time(self.client.publish(subject, body)).await,
        }
    }

    /// One message on the subscription of confirmations.
    async fn confirmed(&mut self, acks: &mut Acks, message: &Message) -> Result<(), PublishError> {
        let Some(sequence) = self.sequence_of(message.subject.as_str()) else { return Ok(()) };
        if !acks.is_stream() {
            // A server that refuses a publish sends an error, and confirms what is behind it all the same; the error is on
            // its way through another part of the client.
            tokio::task::yield_now().await;
            self.unchanged(acks)?;
            self.window = WINDOW;
            self.spool.confirm_through(sequence);
            return Ok(());
        }
        if message.status.is_some() {
            return Err(PublishError(format!(
                "no stream takes {}",
                self.spool.envelope.subjects().all_events()
            )));
        }
        // Subscribers see where the confirmation of an event goes, and may send there, too.
        let Ok(ack) = serde_json::from_slice::<PubAck>(&message.payload) else { return Ok(()) };
        if ack.error.is_none() && (ack.stream != self.tracker.stream() || ack.seq == 0) {
            return Ok(());
        }
        self.window = if ack.error.is_none() { WINDOW } else { 1 };
        match ack.error {
            None => {
                let stored = acks.stored(sequence, &ack, &self.spool);
                // Not only at the end: this may be dropped while it waits.
                self.tracker.note(acks);
                stored.map_err(PublishError)
            }
            Some(error) if error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                self.reduce(TooLarge { sequence, size: 0, discarded: false, headers: HeaderMap::new() })
                    .await?;
                Err(PublishError("the stream takes no message of that size".into()))
            }
            Some(error) if error.error_code() == ErrorCode::STREAM_STORE_FAILED => Err(PublishError(
                format!("the stream is full: {}; raise its limits or remove messages", error),
            )),
            Some(error) => Err(PublishError(format!("the stream refused an event: {}", error))),
        }
    }

    /// The event that a confirmation of this attempt is about.
    fn sequence_of(&self, subject: &str) -> Option<u64> {
        let (attempt, sequence) = subject.strip_prefix(&self.inbox)?.strip_prefix('.')?.split_once('.')?;
        if attempt.parse() == Ok(self.attempt) { sequence.parse().ok() } else { None }
    }

    /// Makes an event smaller that NATS does not take because of its size. If a gap takes its place, it is dead-lettered.
    async fn reduce(&self, too_large: TooLarge) -> Result<(), PublishError> {
        let TooLarge { sequence, size, discarded, headers } = too_large;
        let Some(reduced) = self.spool.reduce(sequence) else { return Ok(()) };
        let size = if let Reduced::Gap(body) = reduced { size.max(body) } else { size };
        if reduced == Reduced::WithoutRaw {
            let instance = &self.spool.instance;
            tracing::debug!(
                instance,
                sequence,
                size,
                "an event is published without raw, as NATS takes no more"
            );
            return Ok(());
        }
        self.dead_letter(TooLarge { sequence, size, discarded, headers }).await
    }

    /// Publishes the headers of an event that is lost, with size and reason, to the dead-letter subject.
    async fn dead_letter(&self, lost: TooLarge) -> Result<(), PublishError> {
        let TooLarge { sequence, size, discarded, mut headers } = lost;
        let instance = self.spool.instance.clone();
        let detail = if discarded {
            let limit = self.message_limit;
            format!("a message of {size} bytes was discarded; transport.message_limit is {limit}")
        } else {
            "an event is larger than NATS takes; raise its max_payload".to_owned()
        };
        put(&mut headers, "Pontoon-Detail", &detail);
        self.too_large.log(move |count| {
            tracing::warn!(instance, sequence, size, count, detail, "an event is not published");
        });
        let reason = DropReason::TooLarge.as_str();
        put(&mut headers, "Pontoon-Size", &size.to_string());
        put(&mut headers, "Pontoon-Reason", reason);
        self.send(self.spool.envelope.subjects().dead(reason), Some(headers), Bytes::new()).await
    }

    /// Whether confirmations still count.
    fn unchanged(&self, acks: &Acks) -> Result<(), PublishError> {
        let connection = self.connection.borrow();
        let now = ConnectionEpoch::of(&connection);
        if now.generation != self.epoch.generation || !connection.up {
            return Err(PublishError("the connection to NATS was lost".into()));
        }
        if now.refusals != self.epoch.refusals && !acks.is_stream() {
            return Err(PublishError(connection.detail.clone().unwrap_or_default()));
        }
        Ok(())
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
            Some(detail) => {
                tracing::warn!(instance = self.spool.instance, connected, publishing, detail = %detail.escape_debug(), "NATS");
            }
            None => tracing::info!(instance = self.spool.instance, connected, publishing, "NATS"),
        }
        self.spool.gauge();
    }
}

async fn in_time(
    sent: impl Future<Output = Result<(), async_nats::PublishError>>,
) -> Result<(), PublishError> {
    match timeout(CONFIRM_TIMEOUT, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(PublishError(format!("NATS: {error}"))),
        Err(_) => Err(PublishError("NATS takes nothing".into())),
    }
}
