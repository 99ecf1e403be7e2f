//! Calls to the service, made as any NATS client would make them: a request and its reply.

use std::error::Error;
use std::time::{Duration, Instant};

use async_nats::Client;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Longer than the daemon lets a call take, so that a silent daemon is seen as one.
const ANSWER: Duration = Duration::from_secs(15);

/// One call.
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) subject: String,
    pub(crate) body: Value,
}

/// What became of it.
pub(crate) struct Outcome {
    pub(crate) number: u64,
    /// As the reply's header says, or what went wrong.
    pub(crate) status: String,
    pub(crate) data: Value,
    pub(crate) took: Duration,
}

impl Call {
    pub(crate) fn fetch_balance(instance: &str, number: u64) -> Self {
        let subject = format!("pontoon.command.sub0.{instance}.call.fetch-balance");
        Self { number, subject, body: json!({"currency": "EUR"}) }
    }

    fn status(instance: &str) -> Self {
        Self { number: 0, subject: format!("pontoon.command.sub0.{instance}.status"), body: json!({}) }
    }

    pub(crate) async fn make(self, client: Client) -> Outcome {
        let start = Instant::now();
        let (status, data) = match timeout(ANSWER, self.ask(&client)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => (error.to_string(), Value::Null),
            Err(_) => ("no reply".to_owned(), Value::Null),
        };
        Outcome { number: self.number, status, data, took: start.elapsed() }
    }

    async fn ask(&self, client: &Client) -> Result<(String, Value), async_nats::Error> {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await?;
        client.publish_with_reply(self.subject.clone(), inbox, self.body.to_string().into()).await?;
        let reply = replies.next().await.ok_or("the connection to NATS ended")?;
        if let Some(status) = reply.status
            && status != async_nats::StatusCode::OK
        {
            return Ok((format!("status {status}"), Value::Null));
        }
        let header = reply.headers.as_ref().and_then(|headers| headers.get("Pontoon-Status"));
        let status = header.map_or("no status", |value| value.as_str()).to_owned();
        let mut body: Value = serde_json::from_slice(&reply.payload)?;
        let told = if body["data"].is_null() { body["error"].take() } else { body["data"].take() };
        Ok((status, told))
    }
}

/// Whether the instance takes calls, its link to the service is up, and its stream confirms what it publishes.
pub(crate) async fn ready(client: &Client, instance: &str) -> bool {
    let state = Call::status(instance).make(client.clone()).await.data;
    let linked =
        state["links"].as_array().is_some_and(|links| links.iter().all(|link| link["phase"] == "ready"));
    linked && state["bus"]["publishing"] == true
}

/// Comes back when the server has taken all that was sent before.
pub(crate) async fn round_trip(client: &Client) -> Result<(), Box<dyn Error>> {
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, "".into()).await?;
    timeout(ANSWER, own.next()).await?;
    Ok(())
}
