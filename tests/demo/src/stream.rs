//! What the stream holds in the end.

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use async_nats::jetstream::{self, consumer};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

const READ: Duration = Duration::from_secs(15);

/// What a stream holds.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// How many carry an id that another one carries too.
    pub(crate) duplicates: usize,
    /// How many have a `ce-sequence` that is not greater than that before.
    pub(crate) out_of_order: usize,
    /// The numbers of the broadcasts, in the stream's order.
    pub(crate) broadcasts: Vec<u64>,
}

/// Reads a stream from its first message to its last.
pub(crate) async fn read(client: &Client, name: &str) -> Result<Kept, Box<dyn Error>> {
    timeout(READ, read_all(client, name)).await?
}

async fn read_all(client: &Client, name: &str) -> Result<Kept, Box<dyn Error>> {
    let mut stream = jetstream::new(client.clone()).get_stream(name).await?;
    let state = stream.info().await?.state.clone();
    let mut kept =
        Kept { name: name.to_owned(), messages: state.messages, bytes: state.bytes, ..Kept::default() };
    let config = consumer::pull::Config { ack_policy: consumer::AckPolicy::None, ..Default::default() };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    let mut ids = HashSet::new();
    let mut last = String::new();
    for _ in 0..state.messages {
        let message = messages.next().await.ok_or("the stream ended early")??;
        let headers = message.headers.clone().unwrap_or_default();
        if !ids.insert(header(&headers, "Nats-Msg-Id")) {
            kept.duplicates += 1;
        }
        let sequence = header(&headers, "ce-sequence");
        if sequence <= last {
            kept.out_of_order += 1;
        }
        last = sequence;
        let body: Value = serde_json::from_slice(&message.payload)?;
        kept.broadcasts.extend(number(&body));
    }
    Ok(kept)
}

/// The number that the demo gave a broadcast; `None` for every other event.
pub(crate) fn number(body: &Value) -> Option<u64> {
    body["data"]["number"].as_u64()
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default()
}
