//! Replies out, and the reports of NATS about parts that had no subscriber.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{Client, HeaderMap, Message, StatusCode};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::Connection;
use crate::reply::{Answer, Liveness, Outgoing, ReplyReceiver, Space};

const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// A part is hardly worth waiting for: last replies are behind it.
const PART_TIMEOUT: Duration = Duration::from_millis(100);

/// Where replies go: over the connection that their commands came by, for their callers are there; over the instance's
/// current one while that is down.
pub struct Route {
    /// The client that the commands came by.
    pub client: Client,
    /// Its connection.
    pub connection: watch::Receiver<Connection>,
    /// The instance's current client.
    pub current: watch::Receiver<Client>,
}

impl Route {
    /// The client to publish with now. A clone takes more time than a reply, so it is made only where it is needed.
    pub fn client(&self) -> Cow<'_, Client> {
        if self.connection.borrow().up {
            Cow::Borrowed(&self.client)
        } else {
            Cow::Owned(self.current.borrow().clone())
        }
    }
}

/// Publishes replies until the last sender of any is gone. `liveness` gets the parts that had no subscriber.
pub async fn publish(route: &Route, mut replies: ReplyReceiver, liveness: Rc<Liveness>) {
    let inbox = route.client.new_inbox();
    let Ok(mut reports) = route.client.subscribe(format!("{inbox}.*.*")).await else { return };
    let (mut spaces, mut written) = (Vec::new(), JoinSet::new());
    loop {
        tokio::select! {
            next = replies.next() => {
                let Some(outgoing) = next else { return };
                let report = outgoing.part.as_ref().map(|part| format!("{inbox}.{}", part.name));
                publish_outgoing(&route.client(), &outgoing, report).await;
                let part = outgoing.part;
                spaces.extend(part.map(|part| part.space));
            }
            Some(message) = reports.next() => report(&message, &inbox, &liveness),
            Some(_) = written.join_next() => {}
        }
        if written.is_empty() && !spaces.is_empty() {
            written.spawn_local(give_back(route.client().into_owned(), std::mem::take(&mut spaces)));
        }
    }
}

/// Gives the parts' share of the queue back when the client has written them: else they could fill the client's queue.
#[expect(
    clippy::disallowed_methods,
    reason = "no round trip is wanted; and this one would not outlive a disconnect"
)]
async fn give_back(client: Client, spaces: Vec<Space>) {
    let _ = client.flush().await;
    drop(spaces);
}

/// The server replies in the place of a subscriber that is not there; a message of another client does not count.
fn report(message: &Message, inbox: &str, liveness: &Liveness) {
    let name = message.subject.strip_prefix(inbox).and_then(|rest| rest.strip_prefix('.'));
    if let Some(name) = name
        && message.status == Some(StatusCode::NO_RESPONDERS)
    {
        liveness.no_responders(name, Instant::now());
    }
}

async fn publish_outgoing(client: &Client, outgoing: &Outgoing, report: Option<String>) {
    let Outgoing { subject, answer, traceparent, .. } = outgoing;
    let (trace, report) = (traceparent.as_deref(), report.as_deref());
    let mut sent = publish_reply(client, subject, answer, trace, report).await;
    if let Err(error) = &sent
        && error.kind() == PublishErrorKind::MaxPayloadExceeded
    {
        let why = format!("the answer has {} bytes, more than the max_payload of NATS", answer.body.len());
        sent = publish_reply(client, subject, &answer.without_data(why), trace, report).await;
    }
    match sent {
        Err(error) if report.is_none() => {
            tracing::warn!(id = answer.id, %error, "a reply could not be published");
        }
        Err(error) => tracing::debug!(id = answer.id, %error, "a part of an answer could not be published"),
        Ok(()) => {}
    }
}

/// Publishes a reply of which nothing else depends.
pub async fn publish_one(client: &Client, subject: &str, answer: &Answer) {
    if let Err(error) = publish_reply(client, subject, answer, None, None).await {
        tracing::warn!(id = answer.id, %error, "a reply could not be published");
    }
}

async fn publish_reply(
    client: &Client,
    subject: &str,
    answer: &Answer,
    traceparent: Option<&str>,
    report: Option<&str>,
) -> Result<(), PublishError> {
    let headers = headers(answer, traceparent);
    let (subject, body) = (subject.to_owned(), answer.body.clone());
    let in_time = match report {
        Some(report) => {
            let sent = client.publish_with_reply_and_headers(subject, report.to_owned(), headers, body);
            timeout(PART_TIMEOUT, sent).await
        }
        None => timeout(PUBLISH_TIMEOUT, client.publish_with_headers(subject, headers, body)).await,
    };
    in_time.unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::Send)))
}

/// The headers of a reply.
fn headers(answer: &Answer, traceparent: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("Pontoon-Status"), HeaderValue::from(answer.status()));
    if let Some(trace) = traceparent.and_then(|trace| trace.parse::<HeaderValue>().ok()) {
        headers.insert(HeaderName::from_static("traceparent"), trace);
    }
    if let Some((code, text)) = &answer.error {
        let code = HeaderValue::from(u64::from(*code));
        headers.insert(HeaderName::from_static("Nats-Service-Error-Code"), code);
        if let Ok(text) = one_line(text).parse::<HeaderValue>() {
            headers.insert(HeaderName::from_static("Nats-Service-Error"), text);
        }
    }
    headers
}

/// The headers of the result of a job: those of a reply, its id, and the id by which the stream stores it once.
pub(super) fn result_headers(answer: &Answer, traceparent: Option<&str>, message_id: &str) -> HeaderMap {
    let mut headers = headers(answer, traceparent);
    for (name, value) in [("Pontoon-Job", answer.id.as_str()), ("Nats-Msg-Id", message_id)] {
        if let Ok(value) = value.parse::<HeaderValue>() {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// A header holds one line of printable text; the body has it as it is.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(512).collect()
}
