//! What a stream holds in the end.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, consumer};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::event::Event;

const READ: Duration = Duration::from_secs(30);

/// What a stream holds.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) events: Vec<Event>,
    pub(crate) bytes: u64,
}

impl Kept {
    /// Whether no two events have one id.
    pub(crate) fn is_unique(&self) -> bool {
        let ids: HashSet<&str> = self.events.iter().map(|event| event.id.as_str()).collect();
        ids.len() == self.events.len()
    }

    /// Whether sequences only grow.
    pub(crate) fn grows(&self) -> bool {
        self.events.is_sorted_by(|before, after| before.sequence < after.sequence)
    }
}

/// Reads an instance's stream from its first message to its last.
pub(crate) async fn read(client: &Client, instance: &str) -> Result<Kept, async_nats::Error> {
    timeout(READ, read_all(client, &format!("PONTOON_{}", instance.to_uppercase()))).await?
}

async fn read_all(client: &Client, name: &str) -> Result<Kept, async_nats::Error> {
    let mut stream = jetstream::new(client.clone()).get_stream(name).await?;
    let state = stream.info().await?.state.clone();
    let config = consumer::pull::Config { ack_policy: consumer::AckPolicy::None, ..Default::default() };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    let mut kept = Kept { events: Vec::new(), bytes: state.bytes };
    for _ in 0..state.messages {
        let message = messages.next().await.ok_or("the stream ended early")??;
        kept.events.push(Event::read(message.subject.as_str(), message.headers.as_ref(), &message.payload));
    }
    Ok(kept)
}
