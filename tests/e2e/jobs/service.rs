//! A publisher of jobs, and what it reads of their results.

use async_nats::jetstream::{self, Context};
use async_nats::{HeaderMap, Message};
use futures_util::StreamExt as _;
use pontoon_testkit::{NatsServer, until_some};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::support::DEADLINE;

/// A publisher of jobs for one instance, and a subscriber of all results.
pub(super) struct Client {
    jetstream: Context,
    subject: String,
    results: Mutex<async_nats::Subscriber>,
}

/// A result as a subscriber sees it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) subject: String,
    pub(super) id: String,
    pub(super) status: String,
    pub(super) code: Option<String>,
    pub(super) body: Value,
    headers: HeaderMap,
}

impl Outcome {
    pub(super) fn of(message: &Message) -> Self {
        let headers = message.headers.clone().expect("a result has headers");
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let body: Value = serde_json::from_slice(&message.payload).expect("a result is JSON");
        let (id, status) =
            (header("Pontoon-Job").expect("an id"), header("Pontoon-Status").expect("a status"));
        assert_eq!((body["id"].as_str(), body["status"].as_str()), (Some(&*id), Some(&*status)));
        let code = header("Nats-Service-Error-Code");
        Self { subject: message.subject.to_string(), id, status, code, body, headers }
    }

    pub(super) fn verdict(&self) -> (&str, Option<&str>) {
        (&self.status, self.code.as_deref())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }

    pub(super) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

impl Client {
    /// `subject` is what the subjects of the jobs begin with. Waits until the instance takes jobs.
    pub(super) async fn new(nats: &NatsServer, subject: &str) -> Self {
        let client = nats.client().await;
        let results = client.subscribe("*.result.>").await.expect("subscribed");
        let this = Self {
            jetstream: jetstream::new(client),
            subject: subject.to_owned(),
            results: Mutex::new(results),
        };
        let instance = subject.rsplit('.').next().expect("an instance").to_owned();
        until_some(DEADLINE, async || {
            let stream = this.jetstream.get_stream("PONTOON_JOBS").await.ok()?;
            stream.consumer_info(&instance).await.ok()
        })
        .await;
        this
    }

    /// Publishes a job. Returns its sequence in the stream.
    pub(super) async fn publish(
        &self,
        operation: &str,
        id: Option<&str>,
        body: &str,
        headers: &[(&str, &str)],
    ) -> u64 {
        let mut map = HeaderMap::new();
        for (name, value) in id.map(|id| ("Nats-Msg-Id", id)).iter().chain(headers) {
            map.insert(*name, *value);
        }
        let subject = format!("{}.{operation}", self.subject);
        let sent = self.jetstream.publish_with_headers(subject, map, body.to_owned().into()).await;
        sent.expect("published").await.expect("stored").sequence
    }

    /// The result of the job of this id.
    pub(super) async fn result(&self, id: &str) -> Outcome {
        self.next(|result| result.id == id).await
    }

    /// The next result that is wanted.
    pub(super) async fn next(&self, wanted: impl Fn(&Outcome) -> bool) -> Outcome {
        let mut results = self.results.lock().await;
        let found = timeout(DEADLINE * 2, async {
            loop {
                let message = results.next().await.expect("the subscription lives");
                let result = Outcome::of(&message);
                if wanted(&result) {
                    return result;
                }
            }
        });
        found.await.expect("the result comes")
    }

    /// All results that are stored.
    pub(super) async fn results(&self) -> Vec<Outcome> {
        let stream = self.jetstream.get_stream("PONTOON_RESULTS").await.expect("the stream is there");
        let total = stream.get_info().await.expect("info").state.messages;
        let consumer = stream.create_consumer(jetstream::consumer::pull::OrderedConfig::default()).await;
        let mut messages = consumer.expect("a consumer").messages().await.expect("messages");
        let mut results = Vec::new();
        for _ in 0..total {
            let message = timeout(DEADLINE, messages.next()).await.expect("in time").expect("more");
            results.push(Outcome::of(&message.expect("a message")));
        }
        results
    }

    /// Waits until the work queue holds no job.
    pub(super) async fn queue_is_empty(&self) {
        until_some(DEADLINE * 10, async || {
            let stream = self.jetstream.get_stream("PONTOON_JOBS").await.ok()?;
            (stream.get_info().await.ok()?.state.messages == 0).then_some(())
        })
        .await;
    }
}
