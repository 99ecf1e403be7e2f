//! Replies out, and the reports of NATS about parts that had no subscriber.
//!
//! They leave as protocol lines on the connection that events are published on: in a burst, a reply over the NATS client
//! costs twice as much.

use std::rc::Rc;
use std::time::{Duration, Instant};

use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{Client, HeaderMap};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connect::Connection;
use super::connections::Opener;
use super::protocol::Publish;
use super::publish_connection::{ConnectionError, Received};
use super::shared_connection::Channel;
use crate::backoff;
use crate::fence::Fence;
use crate::log::Throttle;
use crate::reply::{Answer, Liveness, Outgoing, ReplyReceiver, Space};
use crate::transport::deadline::within;

const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take at the end to process the last replies.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// A connection to NATS, and what opens channels beside it.
#[derive(Clone)]
pub struct Target {
    /// The client.
    pub client: Client,
    /// Its connection.
    pub connection: watch::Receiver<Connection>,
    /// Opens channels to its server.
    pub opener: Opener,
}

/// Where replies go: to the server that their commands came from, for their callers are there; to the instance's current one
/// while that is down.
pub struct Route {
    /// Where the commands come from.
    pub target: Target,
    /// Where the instance is now.
    pub current: watch::Receiver<Target>,
    /// What the subjects of replies begin with, and no others: for the errors of the server.
    pub prefixes: Vec<String>,
}

impl Route {
    /// Waits until one of the two is up.
    async fn up(&mut self) -> Target {
        loop {
            let mut current = self.current.borrow_and_update().clone();
            tokio::select! {
                biased;
                true = is_up(&mut self.target.connection) => return self.target.clone(),
                true = is_up(&mut current.connection) => return current,
                Ok(()) = self.current.changed() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Opens a channel with this inbox, however long that takes.
    async fn open(&mut self, inbox: &str) -> (Channel, watch::Receiver<Connection>) {
        let mut failures = 0;
        loop {
            let Target { client, connection, opener } = self.up().await;
            let prefixes: Vec<&str> = self.prefixes.iter().map(String::as_str).collect();
            match opener.channel(&client, Some(inbox), &prefixes, Fence::default()).await {
                Ok(channel) => return (channel, connection),
                Err(reason) => tracing::debug!(reason, "replies wait for a connection"),
            }
            failures += 1;
            sleep(backoff::NATS.delay(failures)).await;
        }
    }
}

/// Waits until a connection is up. Returns whether it is: one whose client is gone never will be.
async fn is_up(connection: &mut watch::Receiver<Connection>) -> bool {
    connection.wait_for(|connection| connection.up).await.is_ok()
}

/// Publishes replies until the last sender of any is gone, and the server has processed them. `liveness` gets the parts that
/// had no subscriber.
pub async fn publish(mut route: Route, mut replies: ReplyReceiver, liveness: Rc<Liveness>) {
    let inbox = format!("{}.", route.target.client.new_inbox());
    let refused = Throttle::default();
    let mut next = None;
    loop {
        if next.is_none() {
            // No channel is opened before there is a reply: most instances have no callers.
            next = replies.next().await;
        }
        if next.is_none() {
            return;
        }
        let (channel, connection) = route.open(&inbox).await;
        let (lines, spaces, pinged) = (Vec::new(), Vec::new(), Vec::new());
        let (inbox, liveness, refused) = (&inbox, &liveness, &refused);
        let mut outlet = Outlet { channel, connection, inbox, liveness, refused, lines, spaces, pinged };
        match outlet.publish(&mut next, &mut replies).await {
            Ok(()) => return,
            Err(error) => {
                tracing::info!(%error, "replies go over another connection; those that were being sent may be lost");
            }
        }
    }
}

/// A channel that replies are published on.
struct Outlet<'a> {
    channel: Channel,
    /// That of the client to the same server.
    connection: watch::Receiver<Connection>,
    inbox: &'a str,
    liveness: &'a Liveness,
    refused: &'a Throttle,
    /// The lines of the headers of one reply.
    lines: Vec<u8>,
    /// The shares of the queue of parts that were written since the last ping, and of those that were before.
    spaces: Vec<Space>,
    pinged: Vec<Space>,
}

impl Outlet<'_> {
    /// Publishes `next` and all that follow, until there are no more, or the channel is of no more use.
    async fn publish(
        &mut self,
        next: &mut Option<Outgoing>,
        replies: &mut ReplyReceiver,
    ) -> Result<(), ConnectionError> {
        loop {
            while !self.channel.is_full()
                && let Some(outgoing) = next.take().or_else(|| replies.try_next())
            {
                self.write(outgoing);
            }
            // Parts give their shares back when the server has taken them: else they could fill its connection.
            if self.pinged.is_empty() && !self.spaces.is_empty() {
                std::mem::swap(&mut self.pinged, &mut self.spaces);
                self.channel.ping();
            }
            tokio::select! {
                biased;
                () = self.channel.ready() => {}
                Ok(()) = self.connection.changed() => {
                    if !self.connection.borrow().up {
                        return Err(ConnectionError::Lost("its client has none".to_owned()));
                    }
                }
                outgoing = replies.next(), if !self.channel.is_full() => match outgoing {
                    Some(outgoing) => *next = Some(outgoing),
                    None => {
                        let _ = within(ROUND_TRIP, self.channel.round_trip()).await;
                        return Ok(());
                    }
                }
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), ConnectionError> {
        while let Some(received) = self.channel.next()? {
            match received {
                Received::Pong(_) => self.pinged.clear(),
                // The server replies in the place of a subscriber that is not there; a message of another client does not
                // count.
                Received::Message(message) if message.has_status => {
                    let name = message.subject.strip_prefix(self.inbox.as_bytes());
                    if let Some(Ok(name)) = name.map(std::str::from_utf8) {
                        self.liveness.no_responders(name, Instant::now());
                    }
                }
                Received::Refused(text) => self.refused.log(move |count| {
                    tracing::warn!(count, %text, "NATS does not allow a reply");
                }),
                Received::Message(_) | Received::Other => {}
            }
        }
        Ok(())
    }

    /// Adds a reply to what is written next.
    fn write(&mut self, outgoing: Outgoing) {
        let bytes = outgoing.answer.body.len();
        if !self.fits(&outgoing, &outgoing.answer) {
            let why = format!("the answer has {bytes} bytes, more than the max_payload of NATS");
            if !self.fits(&outgoing, &outgoing.answer.without_data(why)) {
                tracing::warn!(id = outgoing.answer.id, "a reply is larger than NATS takes");
            }
        }
        self.spaces.extend(outgoing.part.map(|part| part.space));
    }

    /// Adds an answer to what is written next, if the server takes one of that size.
    fn fits(&mut self, outgoing: &Outgoing, answer: &Answer) -> bool {
        let Outgoing { subject, traceparent, part, .. } = outgoing;
        let report = part.as_ref().map(|part| (format!("{}{}.", self.inbox, part.secret), part.number));
        self.lines.clear();
        let lines = &mut self.lines;
        each_header(answer, traceparent.as_deref(), |name, value| {
            for text in [name, ": ", value, "\r\n"] {
                lines.extend_from_slice(text.as_bytes());
            }
        });
        let publish = Publish {
            subject: subject.as_bytes(),
            reply: report.as_ref().map(|(subject, number)| (subject.as_str(), *number)),
            headers: &[&self.lines],
            expected: None,
            body: &answer.body,
        };
        let fits = publish.size() <= self.channel.max_payload();
        if fits {
            self.channel.publish(&publish);
        }
        fits
    }
}

/// Publishes a reply of which nothing else depends.
pub async fn publish_one(client: &Client, subject: &str, answer: &Answer) {
    let sent = client.publish_with_headers(subject.to_owned(), headers(answer, None), answer.body.clone());
    match timeout(PUBLISH_TIMEOUT, sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(id = answer.id, %error, "a reply could not be published"),
        Err(_) => tracing::warn!(id = answer.id, "a reply could not be published in time"),
    }
}

/// The headers of a reply, each a line of printable text.
fn each_header(answer: &Answer, traceparent: Option<&str>, mut each: impl FnMut(&'static str, &str)) {
    each("Pontoon-Status", answer.status());
    if let Some(trace) = traceparent {
        each("traceparent", trace);
    }
    if let Some((code, text)) = &answer.error {
        each("Nats-Service-Error-Code", itoa::Buffer::new().format(*code));
        each("Nats-Service-Error", &one_line(text));
    }
}

/// The same for the client.
fn headers(answer: &Answer, traceparent: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    each_header(answer, traceparent, |name, value| {
        if let Ok(value) = value.parse::<HeaderValue>() {
            headers.insert(HeaderName::from_static(name), value);
        }
    });
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

#[cfg(test)]
mod tests {
    use pontoon_sdk::{Code, Error};

    use super::*;
    use crate::metrics::Outcome;
    use crate::reply::compose;

    #[test]
    fn no_text_of_an_error_ends_its_header() {
        let error = Error::rejected(Code::BadBody, "a\r\nPontoon-Status: b\u{85}");
        let answer = compose("1", Some(Outcome::Rejected), None, Some(&error)).unwrap();
        let mut lines = Vec::new();
        each_header(&answer, Some("00-1"), |name, value| lines.push(format!("{name}: {value}")));
        let text = error.to_string().replace(['\r', '\n', '\u{85}'], " ");
        let text = format!("Nats-Service-Error: {text}");
        let wanted =
            ["Pontoon-Status: rejected", "traceparent: 00-1", "Nats-Service-Error-Code: 400", text.as_str()];
        assert_eq!(lines, wanted);
    }
}
