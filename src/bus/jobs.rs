//! Jobs: commands that a work queue of JetStream keeps until each has a result, and the results.
//!
//! An instance has one durable consumer. Its description names the record of intents under which jobs are taken, so that a
//! process knows what it cannot know: whether a job that was delivered before may have been sent by another one.

mod delivery;
mod intents;
mod streams;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

pub use self::delivery::{Delivery, LONGEST_ID};
pub use self::intents::JobIntents;
use super::commands::Request;
use super::connect::Connection;
use super::jetstream::{ConsumerInfo, JetStream, StreamError};
use super::replies;
use crate::envelope::Subjects;
use crate::reply::Answer;
use crate::settings::{Delivery as DeliverySettings, Jobs};
use crate::status::JobStatus;

/// How long a job that was delivered may be held without a word before it is delivered again.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// How often the server is told that a job is still held.
pub const PROGRESS: Duration = Duration::from_millis(1_500);
/// How long one request for jobs waits for them.
const PULL_EXPIRES: Duration = Duration::from_secs(5);
/// Added to it: the server reports its end, and the report takes time to arrive.
const PULL_GRACE: Duration = Duration::from_secs(5);
/// How many jobs may be delivered and not acknowledged, those of a former process included.
const MOST_UNACKNOWLEDGED: usize = 1_024;
/// How long after an error the queue is set up again.
const RETRY: Duration = Duration::from_secs(5);
/// How long after an error a result is published again, or a job acknowledged.
const REPEAT: Duration = Duration::from_secs(1);
/// What the description of a consumer begins with.
const DESCRIPTION: &str = "jobs of Pontoon, ";
/// What it goes on with if all jobs were returned or ended; else it is the name of the record of intents.
const RELEASED: &str = "released";
/// What it is while it is found out what another process may have sent.
const TAKEN_OVER: &str = "taken over";
/// What it ends with: the sequence up to which another process may have sent what it did not end.
const SUSPECT: &str = ", others up to ";

/// The work queue of one instance.
pub struct WorkQueue {
    /// The connection.
    pub client: Client,
    /// What is known of it.
    pub connection: watch::Receiver<Connection>,
    /// What subjects of the JetStream API begin with.
    pub api: String,
    /// The instance, which its consumer is named after.
    pub instance: String,
    /// Its subjects.
    pub subjects: Rc<Subjects>,
    /// Names and bounds of the streams.
    pub jobs: Jobs,
    /// Whether missing streams are created, and with how many replicas.
    pub delivery: DeliverySettings,
    /// Which jobs may have been sent.
    pub intents: Rc<JobIntents>,
    /// Why no jobs are taken, or no results stored.
    pub status: watch::Sender<JobStatus>,
    /// Up to this sequence, another process may have sent what it did not end.
    pub suspect: Cell<u64>,
    /// Whether jobs were taken already.
    pub owned: Cell<bool>,
}

/// How a job ended, for the stream of results.
pub struct JobResult {
    /// `<prefix>.result.<type>.<instance>.<operation>`
    pub subject: String,
    /// The last status.
    pub answer: Rc<Answer>,
    /// The trace that the job belongs to.
    pub traceparent: Option<Arc<str>>,
}

impl WorkQueue {
    fn jetstream(&self) -> JetStream<'_> {
        JetStream { client: &self.client, api: &self.api }
    }

    fn description(&self, state: &str) -> String {
        format!("{DESCRIPTION}{state}{SUSPECT}{}", self.suspect.get())
    }

    /// Fetches jobs into `queue` as far as there is `room`, without end.
    pub async fn fetch(&self, queue: &mpsc::Sender<Delivery>, room: &Arc<Semaphore>) -> Infallible {
        let mut connection = self.connection.clone();
        loop {
            if connection.wait_for(|connection| connection.up).await.is_err() {
                return std::future::pending().await;
            }
            let Err(why) = self.fetch_until_error(queue, room).await;
            if self.connection.borrow().up {
                self.report(Some(why));
            }
            sleep(RETRY).await;
        }
    }

    async fn fetch_until_error(
        &self,
        queue: &mpsc::Sender<Delivery>,
        room: &Arc<Semaphore>,
    ) -> Result<Infallible, String> {
        streams::ensure(self.jetstream(), &self.subjects, &self.jobs, &self.delivery).await?;
        self.take_over().await?;
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(inbox.clone()).await;
        let mut messages = subscribed.map_err(|error| error.to_string())?;
        self.report(None);
        loop {
            let first = room.clone().acquire_owned().await.map_err(|error| error.to_string())?;
            let mut permits = vec![first];
            permits.extend(std::iter::from_fn(|| room.clone().try_acquire_owned().ok()));
            let consumer = self.consumer().await.map_err(|error| self.unusable(&error))?;
            if suspect(consumer.description(), self.intents.owner()).is_none() {
                return Err("another daemon has taken over the jobs of this instance".into());
            }
            self.pull(&inbox, permits.len()).await?;
            self.receive(&mut messages, permits, queue).await?;
        }
    }

    /// Makes the consumer ours, and finds out what another process may have sent.
    async fn take_over(&self) -> Result<(), String> {
        let owner = self.intents.owner();
        let (mut is_foreign, mut waits) = (false, false);
        match self.consumer().await {
            Ok(info) => {
                let ours = suspect(info.description(), owner);
                match ours.or_else(|| suspect(info.description(), RELEASED)) {
                    Some(suspect) => {
                        self.suspect.set(suspect);
                        // What a former process held comes again after a while; what is fetched before would overtake it.
                        waits = ours.is_some() && !self.owned.get() && info.num_ack_pending > 0;
                    }
                    None if self.owned.get() && info.num_waiting > 0 => {
                        return Err("another daemon takes the jobs of this instance".into());
                    }
                    None => is_foreign = true,
                }
            }
            Err(error) if error.is(ErrorCode::CONSUMER_NOT_FOUND) => self.suspect.set(0),
            Err(error) => return Err(self.unusable(&error)),
        }
        if is_foreign {
            self.describe(TAKEN_OVER).await?;
            // The other process looks up whose the consumer is before each request for jobs: its last one is over then.
            sleep(ACK_WAIT.max(PULL_EXPIRES)).await;
            let info = self.consumer().await.map_err(|error| self.unusable(&error))?;
            self.suspect.set(info.delivered.stream_seq);
        }
        self.describe(owner).await?;
        self.owned.set(true);
        if waits {
            sleep(ACK_WAIT).await;
        }
        Ok(())
    }

    /// All jobs that were taken are ended or returned: another process may send what it gets.
    ///
    /// # Errors
    /// Why the consumer could not be changed.
    pub async fn release(&self) -> Result<(), String> {
        let consumer = self.consumer().await.map_err(|error| self.unusable(&error))?;
        let ours = suspect(consumer.description(), self.intents.owner());
        if ours.is_some() { self.describe(RELEASED).await } else { Ok(()) }
    }

    async fn consumer(&self) -> Result<ConsumerInfo, StreamError> {
        self.jetstream().consumer(&self.jobs.stream, &self.instance).await
    }

    /// Creates the consumer, or changes its description.
    async fn describe(&self, state: &str) -> Result<(), String> {
        let config = json!({
            "durable_name": self.instance,
            "name": self.instance,
            "description": self.description(state),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX),
            "max_deliver": -1,
            "filter_subject": self.subjects.all_jobs(),
            "replay_policy": "instant",
            "max_ack_pending": MOST_UNACKNOWLEDGED,
        });
        let (stream, filter) = (&self.jobs.stream, self.subjects.all_jobs());
        let created = self.jetstream().create_consumer(stream, &self.instance, &filter, &config).await;
        created.map(|_| ()).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &StreamError) -> String {
        let Jobs { stream, .. } = &self.jobs;
        format!(
            "the consumer {} of the stream {stream} cannot be used: {error}; allow the daemon's user the subjects in \
             deploy/nats/nats-server.conf, or delete the consumer if it is not Pontoon's",
            self.instance
        )
    }

    async fn pull(&self, inbox: &str, batch: usize) -> Result<(), String> {
        let subject = format!("{}.CONSUMER.MSG.NEXT.{}.{}", self.api, self.jobs.stream, self.instance);
        let expires = u64::try_from(PULL_EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let body = json!({ "batch": batch, "expires": expires }).to_string();
        let sent = self.client.publish_with_reply(subject, inbox.to_owned(), body.into());
        let sent = timeout(PULL_GRACE, sent).await.map_err(|_| "the connection to NATS takes nothing")?;
        sent.map_err(|error| error.to_string())
    }

    /// Receives what one request brings, up to as many jobs as there are permits.
    async fn receive(
        &self,
        messages: &mut Subscriber,
        permits: Vec<OwnedSemaphorePermit>,
        queue: &mpsc::Sender<Delivery>,
    ) -> Result<(), String> {
        let mut permits = permits.into_iter();
        while permits.len() > 0 {
            let Ok(message) = timeout(PULL_EXPIRES + PULL_GRACE, messages.next()).await else {
                // The request was lost with a connection.
                return Ok(());
            };
            let message = message.ok_or("the connection to NATS was closed")?;
            match message.status {
                None => {}
                Some(StatusCode::NO_RESPONDERS) => return Err("nothing answers to requests for jobs".into()),
                // Its time is over.
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => return Ok(()),
                // The consumer has changed, or takes no more requests just now.
                Some(_) => {
                    sleep(REPEAT).await;
                    return Ok(());
                }
            }
            let Some(delivery) = self.delivery(message, &mut permits) else { continue };
            if queue.send(delivery).await.is_err() {
                return std::future::pending().await;
            }
        }
        Ok(())
    }

    /// A message as a job; `None` if it is not one of this consumer.
    fn delivery(
        &self,
        message: Message,
        permits: &mut impl Iterator<Item = OwnedSemaphorePermit>,
    ) -> Option<Delivery> {
        let ack = delivery::ack(&message, &self.jobs.stream, &self.instance)?;
        let reply = message.reply.as_ref()?.to_string();
        let request = Rc::new(Request::new(message, &self.subjects.jobs())?);
        let suspect = ack.delivered > 1 && ack.sequence <= self.suspect.get();
        let delivery::Ack { sequence, stored, pending, .. } = ack;
        Some(Delivery { request, ack: reply, sequence, stored, suspect, pending, _room: permits.next()? })
    }

    /// Publishes the result of a job until it is stored, unless it is known to be, and then acknowledges the job until
    /// that is confirmed. `key` is [`Delivery::key`], `ack` the subject to acknowledge it on.
    pub async fn finish(self: Rc<Self>, key: String, ack: String, result: Option<JobResult>) {
        if let Some(result) = result {
            self.store(&key, result).await;
            self.intents.answer(&key).await;
        }
        self.acknowledge(&ack).await;
        self.intents.end(&key);
    }

    async fn store(&self, key: &str, result: JobResult) {
        let JobResult { subject, mut answer, traceparent } = result;
        let message_id = self.subjects.message_id(key);
        loop {
            self.up().await;
            let headers = replies::result_headers(&answer, traceparent.as_deref(), &message_id);
            match self.jetstream().publish(subject.clone(), headers, answer.body.clone()).await {
                Ok(_) => return,
                Err(StreamError::TooLarge) => {
                    let bytes = answer.body.len();
                    let why = format!("the result has {bytes} bytes, more than the max_payload of NATS");
                    answer = Rc::new(answer.without_data(why));
                }
                Err(error) => {
                    let stream = &self.jobs.results;
                    self.report(Some(format!("a result cannot be stored in the stream {stream}: {error}")));
                    sleep(REPEAT).await;
                }
            }
        }
    }

    /// Takes a job out of the queue.
    async fn acknowledge(&self, ack: &str) {
        loop {
            self.up().await;
            match self.jetstream().acknowledge(ack.to_owned()).await {
                // Without a consumer nothing delivers the job again.
                Ok(()) | Err(StreamError::NoResponders(_)) => return,
                Err(_) => sleep(REPEAT).await,
            }
        }
    }

    /// Reports that a job is still held.
    pub async fn in_progress(&self, ack: &str) {
        self.note(ack, "+WPI").await;
    }

    /// Returns a job to the queue, for another process.
    pub async fn give_back(&self, ack: &str) {
        self.note(ack, "-NAK").await;
    }

    async fn note(&self, ack: &str, word: &'static str) {
        if self.connection.borrow().up {
            let _ = timeout(REPEAT, self.client.publish(ack.to_owned(), word.into())).await;
        }
    }

    async fn up(&self) {
        let mut connection = self.connection.clone();
        if connection.wait_for(|connection| connection.up).await.is_err() {
            std::future::pending().await
        }
    }

    fn report(&self, detail: Option<String>) {
        let taken = detail.is_none();
        self.status.send_if_modified(|status| {
            if status.taken == taken && status.detail == detail {
                return false;
            }
            match &detail {
                Some(detail) => tracing::warn!(instance = self.instance, %detail, "no jobs are taken"),
                None => tracing::info!(instance = self.instance, stream = self.jobs.stream, "jobs are taken"),
            }
            (status.taken, status.detail) = (taken, detail);
            true
        });
    }
}

/// Up to where another process than that of this state may have sent jobs, by the description of a consumer in this state.
fn suspect(description: &str, state: &str) -> Option<u64> {
    let (known, suspect) = description.strip_prefix(DESCRIPTION)?.split_once(SUSPECT)?;
    suspect.parse().ok().filter(|_| known == state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_tells_whose_the_jobs_are() {
        let ours = format!("{DESCRIPTION}0af7{SUSPECT}12");
        assert_eq!(
            (suspect(&ours, "0af7"), suspect(&ours, "0af8"), suspect(&ours, RELEASED)),
            (Some(12), None, None)
        );
        assert_eq!(suspect(&format!("{DESCRIPTION}{RELEASED}{SUSPECT}0"), RELEASED), Some(0));
        for other in ["", "my consumer", DESCRIPTION, &format!("{DESCRIPTION}0af7{SUSPECT}x")] {
            assert_eq!(suspect(other, "0af7"), None);
        }
    }
}
