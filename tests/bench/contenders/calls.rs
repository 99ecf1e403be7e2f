//! Requests on NATS that a service answers over a WebSocket.

use std::collections::HashMap;

use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{Client, HeaderMap, Message as Request, Subject};
use futures_util::stream::SplitStream;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::events::connect;
use crate::job::{Job, Result};

/// How many requests are written together at most.
const AT_ONCE: usize = 1024;

#[derive(Deserialize)]
struct Answer<'a> {
    id: u64,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// The requests that wait for an answer.
struct Calls {
    client: Client,
    waiting: HashMap<u64, Subject>,
    next: u64,
}

impl Calls {
    /// The frame of a request: the request's body with its own number.
    fn frame(&mut self, request: Request) -> Result<Option<Message>> {
        let Some(reply) = request.reply else { return Ok(None) };
        self.next += 1;
        self.waiting.insert(self.next, reply);
        let body = std::str::from_utf8(&request.payload)?;
        let body = body.strip_suffix('}').ok_or("a request is not a JSON object")?;
        Ok(Some(Message::text(format!("{body},\"id\":{}}}", self.next))))
    }

    /// Answers the request whose answer this is.
    async fn answer(&mut self, text: &Utf8Bytes) -> Result<()> {
        let Answer { id, result } = serde_json::from_str(text)?;
        let Some(reply) = self.waiting.remove(&id) else { return Ok(()) };
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("Pontoon-Status"), HeaderValue::from("response"));
        let body = format!(r#"{{"status":"response","id":"{id}","data":{result}}}"#);
        Ok(self.client.publish_with_headers(reply, headers, body.into()).await?)
    }
}

async fn open(job: &Job) -> Result<(Calls, async_nats::Subscriber, WebSocketStream<TcpStream>)> {
    let client = async_nats::connect(&job.nats).await?;
    let requests = client.subscribe(job.subject.clone()).await?;
    subscribed(&client).await?;
    let socket = connect(&job.url).await?;
    Ok((Calls { client, waiting: HashMap::new(), next: 0 }, requests, socket))
}

/// A round trip, behind which the server knows the subscription.
async fn subscribed(client: &Client) -> Result<()> {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, "".into()).await?;
    back.next().await.ok_or("NATS is gone")?;
    Ok(())
}

/// Each request is written when it comes.
pub(crate) async fn one_by_one(job: &Job) -> Result<()> {
    let (mut calls, mut requests, mut socket) = open(job).await?;
    loop {
        tokio::select! {
            request = requests.next() => {
                let Some(request) = request else { return Ok(()) };
                if let Some(frame) = calls.frame(request)? {
                    socket.send(frame).await?;
                }
            }
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                if let Message::Text(text) = message? {
                    calls.answer(&text).await?;
                }
            }
        }
    }
}

/// All requests that are there are written together.
pub(crate) async fn at_once(job: &Job) -> Result<()> {
    let (mut calls, mut requests, socket) = open(job).await?;
    let (mut writer, mut reader): (_, SplitStream<_>) = socket.split();
    loop {
        tokio::select! {
            request = requests.next() => {
                let mut next = Some(request.ok_or("NATS is gone")?);
                let mut fed = 0;
                while let Some(request) = next.take() {
                    if let Some(frame) = calls.frame(request)? {
                        writer.feed(frame).await?;
                    }
                    fed += 1;
                    if fed < AT_ONCE {
                        next = requests.next().now_or_never().flatten();
                    }
                }
                writer.flush().await?;
            }
            message = reader.next() => {
                let mut next = Some(message.ok_or("the service is gone")?);
                let mut read = 0;
                while let Some(message) = next.take() {
                    if let Message::Text(text) = message? {
                        calls.answer(&text).await?;
                    }
                    read += 1;
                    if read < AT_ONCE {
                        next = reader.next().now_or_never().flatten();
                    }
                }
            }
        }
    }
}
