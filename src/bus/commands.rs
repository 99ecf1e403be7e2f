//! Commands in, and the micro service that tools see (ADR-32).
//!
//! One subscription takes every operation of an instance, so that the caller of an unknown one gets an error that lists them.

use std::rc::Rc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, HeaderValue, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::select_all};
use pontoon_sdk::Operation;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::timeout;

use super::connect::Connection;
use crate::envelope::subject::reply_allowed;
use crate::reply::Stats;

const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
const ROUND_TRIP: Duration = Duration::from_secs(5);

/// A command as it was received.
pub struct Request {
    message: Message,
    tokens: String,
}

impl Request {
    /// A command that does not come over NATS.
    pub fn local(
        tokens: String,
        reply: String,
        headers: Vec<(&'static str, String)>,
        payload: Bytes,
    ) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // A value with a line break is not one of a header.
            if let Ok(value) = value.parse::<HeaderValue>() {
                map.insert(name, value);
            }
        }
        let message = Message {
            subject: tokens.as_str().into(),
            reply: Some(reply.into()),
            length: payload.len(),
            payload,
            headers: Some(map),
            status: None,
            description: None,
        };
        Self { message, tokens }
    }

    /// A message below `subject`, such as `<prefix>.command.<type>.<instance>`; `None` if it is not.
    pub(super) fn new(message: Message, subject: &str) -> Option<Self> {
        let tokens = message.subject.strip_prefix(subject)?.strip_prefix('.')?.to_owned();
        Some(Self { message, tokens })
    }

    /// What follows the instance in the subject.
    pub fn tokens(&self) -> &str {
        &self.tokens
    }

    /// Where the caller receives replies.
    pub fn reply(&self) -> Option<&str> {
        self.message.reply.as_ref().map(|reply| reply.as_str())
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.message.payload
    }

    /// All headers; of several values of one name, the first.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.message.headers.iter().flat_map(HeaderMap::iter);
        all.filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str())))
    }

    /// A header, by name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The commands of one instance.
pub struct Requests {
    subscriber: Subscriber,
    prefix: String,
}

impl Requests {
    /// Subscribes to `<subject>.>`, in this queue group.
    ///
    /// # Errors
    /// If the client was closed.
    pub async fn listen(
        client: &Client,
        subject: &str,
        group: String,
    ) -> Result<Self, async_nats::SubscribeError> {
        let subscriber = client.queue_subscribe(format!("{subject}.>"), group).await?;
        Ok(Self { subscriber, prefix: format!("{subject}.") })
    }

    /// The next command; `None` once the client is closed.
    pub async fn next(&mut self) -> Option<Request> {
        let message = self.subscriber.next().await?;
        let tokens = message.subject.strip_prefix(self.prefix.as_str()).unwrap_or_default().to_owned();
        Some(Request { message, tokens })
    }

    /// A command that has arrived already, if there is one. Not held to the runtime's budget for one turn of a task: what
    /// arrives together must be taken together, or the client's queue overflows while it reads on.
    pub fn arrived(&mut self) -> Option<Request> {
        unconstrained(self.next()).now_or_never().flatten()
    }

    /// Takes no more commands, and calls `each` with those that have arrived and those that are on their way from the
    /// server, as far as they come within `wait`: zero where there is no connection.
    pub async fn take_last(mut self, wait: Duration, mut each: impl FnMut(&Request)) {
        let last = async {
            // The server ends the subscription before it answers the ping that goes with this: what it has sent comes first.
            if !wait.is_zero() && self.subscriber.drain().await.is_ok() {
                while let Some(request) = self.next().await {
                    each(&request);
                }
            }
        };
        let _ = timeout(wait, last).await;
        while let Some(request) = self.arrived() {
            each(&request);
        }
    }
}

/// A round trip: everything published before it has reached the server when it returns.
pub async fn barrier(client: &Client, wait: Duration) -> bool {
    let round = async {
        let inbox = client.new_inbox();
        let mut back = client.subscribe(inbox.clone()).await.ok()?;
        client.publish(inbox, Bytes::new()).await.ok()?;
        back.next().await
    };
    timeout(wait, round).await.is_ok_and(|message| message.is_some())
}

/// Waits until the server has processed the subscription to commands: until a round trip behind it, however long NATS is
/// away or refuses it.
pub async fn subscribed(client: &Client, mut connection: watch::Receiver<Connection>) {
    let takes = |connection: &Connection| connection.up && !connection.commands_refused;
    loop {
        // While there is no connection, the client would queue what is sent without end.
        if connection.wait_for(takes).await.is_err() {
            return std::future::pending().await;
        }
        if barrier(client, ROUND_TRIP).await && takes(&connection.borrow()) {
            return;
        }
    }
}

/// An instance, or the daemon, as tools see it.
#[derive(Clone)]
pub struct Micro {
    /// Of an instance: its name, and its connector.
    pub metadata: Value,
    /// The service's name, `[A-Za-z0-9_-]+`.
    pub name: String,
    /// What it is.
    pub description: &'static str,
    /// Unique among all that run.
    pub id: String,
    /// `<prefix>.command.<type>.<instance>`
    pub subject: String,
    /// `<prefix>.job.<type>.<instance>`, where operations can also be jobs.
    pub jobs: Option<String>,
    /// Who shares the callers, if not all get each command.
    pub queue_group: Option<String>,
    /// The endpoints.
    pub operations: Vec<Operation>,
    /// Their figures.
    pub stats: Rc<Stats>,
    /// Where responses may go.
    pub reply_prefixes: Vec<String>,
    /// First tokens of our own subjects, where they may not.
    pub own_prefix: String,
    /// When it began (RFC 3339).
    pub started: String,
}

impl Micro {
    /// Responds to `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` until the client is closed.
    pub async fn serve(self, client: Client) {
        let mut requests = Vec::new();
        // One subscription for all verbs: each takes 6 KiB.
        for name in [String::new(), format!(".{}", self.name), format!(".{}.{}", self.name, self.id)] {
            let Ok(subscriber) = client.subscribe(format!("$SRV.*{name}")).await else { return };
            requests.push(subscriber);
        }
        let mut requests = select_all(requests);
        while let Some(message) = requests.next().await {
            let Some(reply) =
                message.reply.filter(|to| reply_allowed(to, &self.reply_prefixes, &self.own_prefix))
            else {
                continue;
            };
            let response = match message.subject.split('.').nth(1) {
                Some("PING") => self.head("ping"),
                Some("INFO") => self.info(),
                Some("STATS") => self.stats(),
                _ => continue,
            };
            let _ = timeout(PUBLISH_TIMEOUT, client.publish(reply, response.to_string().into())).await;
        }
    }

    fn head(&self, kind: &str) -> Value {
        json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": self.name,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": self.metadata,
        })
    }

    fn info(&self) -> Value {
        let endpoint = |operation: &Operation| {
            let mut endpoint = self.endpoint(operation);
            endpoint["metadata"] = json!({
                "summary": operation.summary,
                "schema": operation.body.as_value().to_string(),
                "promise": operation.delivery.as_str(),
                "idempotent": operation.idempotent.to_string(),
            });
            if let Some(jobs) = &self.jobs {
                endpoint["metadata"]["job"] = Self::subject_of(jobs, operation).into();
            }
            endpoint
        };
        let mut info = self.head("info");
        info["description"] = self.description.into();
        info["endpoints"] = self.operations.iter().map(endpoint).collect();
        info
    }

    fn stats(&self) -> Value {
        let endpoint = |operation: &Operation| {
            let mut endpoint = self.endpoint(operation);
            let figures = self.stats.figures(operation.name);
            endpoint["num_requests"] = figures.requests.into();
            endpoint["num_errors"] = figures.errors.into();
            endpoint["last_error"] = figures.last_error.into();
            endpoint["processing_time"] = figures.nanoseconds.into();
            endpoint["average_processing_time"] = (figures.nanoseconds / figures.requests.max(1)).into();
            endpoint
        };
        let mut stats = self.head("stats");
        stats["started"] = self.started.as_str().into();
        stats["endpoints"] = self.operations.iter().map(endpoint).collect();
        stats
    }

    fn endpoint(&self, operation: &Operation) -> Value {
        let mut endpoint = json!({
            "name": operation.name.replace('.', "-"),
            "subject": Self::subject_of(&self.subject, operation),
        });
        if let Some(group) = &self.queue_group {
            endpoint["queue_group"] = group.as_str().into();
        }
        endpoint
    }

    fn subject_of(place: &str, operation: &Operation) -> String {
        let rest = if operation.argument.is_some() { ".>" } else { "" };
        format!("{place}.{}{rest}", operation.name)
    }
}
