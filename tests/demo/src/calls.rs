//! Calls to services, made as any NATS client would make them: a request and its reply, or its parts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap, Message, StatusCode};
use futures_util::StreamExt as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::services::Service;

/// Longer than the daemon lets a call take, so that a silent daemon is seen as one.
const ANSWER: Duration = Duration::from_secs(45);

/// One call.
pub(crate) struct Call {
    pub(crate) subject: String,
    pub(crate) body: Value,
    /// Whether parts of the answer are asked for.
    pub(crate) in_parts: bool,
}

/// One reply to it.
pub(crate) struct Reply {
    /// The status in the reply's header, or what went wrong.
    pub(crate) status: String,
    /// `data`, or else `error`.
    pub(crate) data: Value,
    /// The same as it was written.
    pub(crate) text: String,
    /// Since the call.
    pub(crate) took: Duration,
}

impl Call {
    /// An operation of an instance.
    pub(crate) fn new(kind: &str, instance: &str, operation: &str, body: Value) -> Self {
        let subject = format!("pontoon.command.{kind}.{instance}.{operation}");
        Self { subject, body, in_parts: false }
    }

    /// The one that is the same for every service that has messages.
    pub(crate) fn message_send(kind: &str, instance: &str, channel: &str, text: &str) -> Self {
        Self::new(kind, instance, "message.send", json!({"channel": channel, "text": text}))
    }

    /// Asks for parts.
    pub(crate) fn in_parts(mut self) -> Self {
        self.in_parts = true;
        self
    }

    /// Makes it, and hands on each reply. The one that is not a part is the last, and there always is one.
    pub(crate) async fn make(self, client: Client, mut on_reply: impl FnMut(Reply)) {
        let start = Instant::now();
        let error = match timeout(ANSWER, self.ask(&client, start, &mut on_reply)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no reply".to_owned(),
        };
        on_reply(Reply { status: error, data: Value::Null, text: String::new(), took: start.elapsed() });
    }

    async fn ask(
        &self,
        client: &Client,
        start: Instant,
        on_reply: &mut impl FnMut(Reply),
    ) -> Result<(), async_nats::Error> {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await?;
        let mut headers = HeaderMap::new();
        if self.in_parts {
            headers.insert("Pontoon-Stream", "true");
        }
        let body = self.body.to_string().into();
        client.publish_with_reply_and_headers(self.subject.clone(), inbox, headers, body).await?;
        loop {
            let message = replies.next().await.ok_or("the connection to NATS ended")?;
            let reply = Reply::read(&message, start.elapsed())?;
            let is_last = !reply.is_part();
            on_reply(reply);
            if is_last {
                return Ok(());
            }
        }
    }
}

impl Reply {
    /// Whether more replies follow.
    pub(crate) fn is_part(&self) -> bool {
        self.status == "part"
    }

    /// What is shown of a long reply: what was done, and the text.
    pub(crate) fn gist(&self) -> String {
        let names = ["id", "messageId", "text", "status"].into_iter();
        let fields = names.filter_map(|name| Some(format!("{name:?}:{}", self.data.get(name)?)));
        format!("{{{},…}}", fields.collect::<Vec<_>>().join(","))
    }

    fn read(message: &Message, took: Duration) -> Result<Self, async_nats::Error> {
        if let Some(status) = message.status.filter(|status| *status != StatusCode::OK) {
            return Err(format!("NATS status {status}").into());
        }
        let status = message.headers.as_ref().and_then(|headers| headers.get("Pontoon-Status"));
        let status = status.ok_or("the reply has no status")?.as_str().to_owned();
        let body: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&message.payload)?;
        let content = body.get("data").or_else(|| body.get("error"));
        let text = content.map(|content| content.get().to_owned()).unwrap_or_default();
        Ok(Self { status, data: serde_json::from_str(&text).unwrap_or_default(), text, took })
    }
}

/// Whether the instance takes calls, its links to the service are up, if it has any yet, and its stream confirms what
/// it publishes.
pub(crate) async fn is_ready(client: &Client, service: &dyn Service) -> bool {
    let mut state = Value::Null;
    let call = Call::new(service.kind(), service.instance(), "status", json!({}));
    call.make(client.clone(), |reply| state = reply.data).await;
    let links = state["links"].as_array().map(Vec::as_slice).unwrap_or_default();
    let up = links.is_empty() != service.has_links() && links.iter().all(|link| link["phase"] == "ready");
    up && state["bus"]["publishing"] == true
}

/// Comes back when the server has taken all that was sent before, and has sent us all that it had for us.
pub(crate) async fn round_trip(client: &Client) -> Result<(), async_nats::Error> {
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, "".into()).await?;
    timeout(ANSWER, own.next()).await?;
    Ok(())
}
