//! Events of one connection: WebSocket, and Socket.IO as far as it is needed.

use async_nats::header::HeaderValue;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::job::{Job, Result};
use crate::publish::{Publisher, body};

#[derive(Deserialize)]
struct Chat<'a> {
    r#type: &'a str,
    room: &'a str,
}

/// A connection without TLS.
pub(crate) async fn connect(url: &str) -> Result<WebSocketStream<TcpStream>> {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    Ok(client_async(url, stream).await?.0)
}

/// Publishes what a WebSocket sends.
pub(crate) async fn websocket(job: &Job) -> Result<()> {
    let (publisher, link) = (Publisher::connect(job).await?, HeaderValue::from("main"));
    let mut socket = connect(&job.url).await?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        let chat: Chat<'_> = serde_json::from_str(&text)?;
        if chat.r#type == "message" {
            publisher.publish(&link, chat.room, body(chat.room, &text)?).await?;
        }
    }
    Ok(())
}

/// Publishes what a Socket.IO server sends: Engine.IO 4 and Socket.IO protocol 5 without acknowledgements and binary.
pub(crate) async fn socketio(job: &Job) -> Result<()> {
    let (publisher, link) = (Publisher::connect(job).await?, HeaderValue::from("main"));
    let url = format!("{}/socket.io/?EIO=4&transport=websocket", job.url.replacen("http", "ws", 1));
    let mut socket = connect(&url).await?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        match text.as_bytes() {
            [b'0', ..] => socket.send(Message::text("40")).await?,
            [b'2', ..] => socket.send(Message::text("3")).await?,
            [b'4', b'2', ..] => {
                let (name, raw): (&str, &RawValue) = serde_json::from_str(&text[2..])?;
                if name == "message" {
                    let chat: Chat<'_> = serde_json::from_str(raw.get())?;
                    publisher.publish(&link, chat.room, body(chat.room, raw.get())?).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
