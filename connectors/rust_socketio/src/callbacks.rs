//! What the crate calls back with, as frames and as what they mean to the link.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::socketio::{Event, Frame, Malformed};
use pontoon_sdk::{End, Raw};
use rust_socketio::asynchronous::{ClientBuilder, ReconnectSettings};
use rust_socketio::{Event as Name, Payload};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use pontoon::transport::socketio::codec;

/// How many frames wait for the session.
const QUEUE: usize = 1_024;
/// How long the crate is held up when they find no room. It answers no pings meanwhile, so this is half of what a
/// service that was not told otherwise waits for the answer.
const HOLD_LIMIT: Duration = Duration::from_secs(10);
/// How the crate begins the words of a refusal.
const REFUSED: &str = "Received an ConnectError frame: ";
/// How the crate begins its own errors, which it tells as it tells an event named `error`.
const OWN: [&str; 16] = [
    "A lock was poisoned",
    "An error occurred while decoding the utf-8 text: ",
    "An error occurred while encoding/decoding base64: ",
    "Called an action before the connection was established",
    "EngineIO Error",
    "Error while parsing an incomplete packet",
    "Error while parsing an integer",
    "Got an IO-Error: ",
    "Got an invalid packet which did not follow the protocol format",
    "Got illegal handshake response: ",
    "Invalid packet id: ",
    "Invalid packet type while reading attachments",
    "Invalid Url during parsing",
    "Invalid Url Scheme: ",
    "Underlying Engine.IO connection has closed",
    "string is not json serializable: ",
];

/// A frame on its way to the session.
pub(crate) struct Queued {
    /// The frame.
    pub(crate) frame: Frame,
    /// Its bytes, which others may take once it is gone.
    _room: OwnedSemaphorePermit,
}

/// What the crate says of the connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Signal {
    /// The namespace is confirmed.
    Confirmed,
    /// It is refused, for this reason.
    Refused(String),
    /// It is over.
    Over(End),
}

/// The callbacks.
#[derive(Clone)]
pub(crate) struct Callbacks {
    frames: mpsc::Sender<Queued>,
    signals: mpsc::Sender<Signal>,
    room: Arc<Semaphore>,
    limit: usize,
    confirmed: Arc<AtomicBool>,
}

/// What a callback means.
#[derive(Debug, PartialEq)]
enum Outcome {
    Frame(Frame),
    /// The frame, and then the end.
    Final(Frame, End),
    Signal(Signal),
}

impl Callbacks {
    /// Frames of at most `limit` bytes, of which no more than that waits, and the signals beside them.
    pub(crate) fn new(limit: usize) -> (Self, mpsc::Receiver<Queued>, mpsc::Receiver<Signal>) {
        let (frames, queue) = mpsc::channel(QUEUE);
        // A confirmation and an end: what comes behind them changes nothing.
        let (signals, said) = mpsc::channel(2);
        let limit = limit.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let room = Arc::new(Semaphore::new(limit));
        (Self { frames, signals, room, limit, confirmed: Arc::default() }, queue, said)
    }

    /// Has the crate call back.
    pub(crate) fn listen(self, builder: ClientBuilder) -> ClientBuilder {
        let builder = [Name::Connect, Name::Close, Name::Error].into_iter().fold(builder, |builder, name| {
            let callbacks = self.clone();
            builder
                .on(name.clone(), move |payload, _| callbacks.clone().called(name.clone(), payload).boxed())
        });
        let (any, lost) = (self.clone(), self);
        builder.on_any(move |name, payload, _| any.clone().called(name, payload).boxed()).on_reconnect(
            move || {
                // The crate would dial now: it is held here until it is gone.
                let lost = lost.clone();
                async move {
                    lost.over("the connection was closed").await;
                    ReconnectSettings::new()
                }
                .boxed()
            },
        )
    }

    async fn called(self, name: Name, payload: Payload) {
        match outcome(name, payload, self.confirmed.load(Ordering::Relaxed)) {
            Outcome::Frame(frame) => self.pass_on(frame).await,
            Outcome::Final(frame, end) => {
                self.pass_on(frame).await;
                self.last(Signal::Over(end)).await;
            }
            Outcome::Signal(Signal::Confirmed) => {
                self.confirmed.store(true, Ordering::Relaxed);
                let _ = self.signals.try_send(Signal::Confirmed);
            }
            Outcome::Signal(signal) => self.last(signal).await,
        }
    }

    async fn pass_on(&self, frame: Frame) {
        let size = frame.size();
        if size > self.limit {
            let limit = self.limit;
            let reason = format!("a message of {size} bytes is over transport.message_limit ({limit} bytes)");
            return self.over(reason).await;
        }
        let passing = async {
            let bytes = u32::try_from(size).unwrap_or(u32::MAX);
            let room = self.room.clone().acquire_many_owned(bytes).await.ok()?;
            self.frames.send(Queued { frame, _room: room }).await.ok()
        };
        if timeout(HOLD_LIMIT, passing).await.is_err() {
            let reason =
                format!("events found no room for {} s; they are lost from here on", HOLD_LIMIT.as_secs());
            self.over(reason).await;
        }
    }

    async fn over(&self, reason: impl Into<String>) {
        self.last(Signal::Over(End::disconnected(reason))).await;
    }

    /// Says how it ends. The crate goes no further: what comes behind would not be heard.
    async fn last(&self, signal: Signal) {
        // Where there is no room an end has been said before.
        let _ = self.signals.try_send(signal);
        pending::<()>().await;
    }
}

/// The crate tells what happens to the connection as it tells events of the service that have certain names: apart from
/// the payload, nothing tells them from each other.
fn outcome(name: Name, payload: Payload, confirmed: bool) -> Outcome {
    let values = match payload {
        Payload::Text(values) => values,
        Payload::Binary(bytes) => return binary(name.as_str(), &bytes),
        // The crate takes this form, and never gives it.
        #[allow(deprecated)]
        Payload::String(text) => vec![text.into()],
    };
    let only = match values.as_slice() {
        [Value::String(text)] => Some(text.as_str()),
        _ => None,
    };
    match (&name, only) {
        (Name::Connect, Some("")) if !confirmed => Outcome::Signal(Signal::Confirmed),
        (Name::Connect, Some("")) => Outcome::Frame(malformed(
            json!(["open", ""]),
            "an event named \"open\", or a second confirmation: the engine rust-socketio does not tell which",
        )),
        (Name::Close, Some("")) => over("the service ended the session"),
        (Name::Error, Some(text)) if text.starts_with(REFUSED) => {
            let words = text.get(REFUSED.len()..).unwrap_or_default().to_owned();
            Outcome::Signal(Signal::Refused(codec::refusal(&Bytes::from(words))))
        }
        (Name::Error, Some(text)) if OWN.iter().any(|own| text.starts_with(own)) => {
            over(format!("the connection broke, or the service broke the protocol: {text}"))
        }
        _ => event(&name, values),
    }
}

fn event(name: &Name, values: Vec<Value>) -> Outcome {
    let name = match name {
        Name::Connect => "open",
        name => name.as_str(),
    };
    let raws: Result<_, _> = values.iter().map(Raw::json).collect();
    Outcome::Frame(match raws {
        Ok(raws) => Frame::Event(Event::new(name, raws)),
        Err(error) => malformed(json!([name]), error.message()),
    })
}

/// Of a binary event the crate gives the first attachment, and the rest without quotes and placeholders. It takes the
/// byte 0x1E in an attachment for the border to another packet: whoever has a service pass on binary data could make up
/// what follows, so nothing that follows is heard.
fn binary(rest: &str, bytes: &[u8]) -> Outcome {
    let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
    let frame = malformed(
        json!({ "packet": rest, "attachments": [bytes] }),
        "a binary event, of which the engine rust-socketio tells only a part; the engine native can read it",
    );
    Outcome::Final(
        frame,
        End::disconnected(
            "a binary event came, behind which the engine rust-socketio may hear what nobody said; write engine = \
             \"native\"",
        ),
    )
}

fn malformed(raw: Value, reason: impl Into<String>) -> Frame {
    // A value is always JSON.
    let raw = Raw::json(&raw).unwrap_or_else(|_| Raw::null());
    Frame::Malformed(Malformed { raw, reason: reason.into() })
}

fn over(reason: impl Into<String>) -> Outcome {
    Outcome::Signal(Signal::Over(End::disconnected(reason)))
}

#[cfg(test)]
mod tests;
