//! The same loop as `minimal.rs` on the crate rust_socketio, which awaits its callback before it reads on.

#[expect(dead_code, reason = "this loop has one task")]
mod job;
mod publish;

use std::sync::Arc;

use async_nats::header::HeaderValue;
use futures_util::FutureExt as _;
use rust_socketio::asynchronous::{Client, ClientBuilder};
use rust_socketio::{Payload, TransportType};
use serde::Deserialize;
use tokio::sync::mpsc;

use job::{Job, Result};
use publish::{Publisher, body};

#[derive(Deserialize)]
struct Chat<'a> {
    room: &'a str,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let job = Job::read()?;
    let publisher = Arc::new(Publisher::connect(&job).await?);
    let (broken, mut failure) = mpsc::channel(1);
    let callback = move |payload: Payload, _: Client| {
        let (publisher, broken) = (Arc::clone(&publisher), broken.clone());
        async move {
            if let Err(error) = publish(&publisher, payload).await {
                let _ = broken.send(error).await;
            }
        }
        .boxed()
    };
    let builder = ClientBuilder::new(&job.url).transport_type(TransportType::Websocket).reconnect(false);
    let _client = builder.on("message", callback).connect().await?;
    match failure.recv().await {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

async fn publish(publisher: &Publisher, payload: Payload) -> Result<()> {
    let Payload::Text(values) = payload else { return Ok(()) };
    let raw = values.first().ok_or("an event without an argument")?.to_string();
    let chat: Chat<'_> = serde_json::from_str(&raw)?;
    publisher.publish(&HeaderValue::from("main"), chat.room, body(chat.room, &raw)?).await
}
