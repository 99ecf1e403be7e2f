//! The crate's callbacks: queues frames for the session, and signals the state of the connection.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::socketio::{Event, Frame};
use pontoon_sdk::{End, Raw};
use rust_socketio::asynchronous::{ClientBuilder, ReconnectSettings};
use rust_socketio::{Event as Name, Payload};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use pontoon::transport::socketio::codec;

/// How many frames may be queued for the session.
const QUEUE: usize = 1_024;
/// How long the crate is blocked when the queue is full. It answers no pings meanwhile, so this is half of the default
/// ping timeout of a service.
const HOLD_LIMIT: Duration = Duration::from_secs(10);
/// The prefix of the crate's text for a CONNECT_ERROR.
const REFUSED: &str = "Received an ConnectError frame: ";
/// The prefixes of the crate's errors, which it passes on like an event named `error`.
const ERRORS: [&str; 16] = [
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

/// A frame that is queued for the session.
pub(crate) struct Queued {
    /// The frame.
    pub(crate) frame: Frame,
    /// Its permits: one a byte.
    _room: OwnedSemaphorePermit,
}

/// A change of the connection's state.
#[derive(Debug, PartialEq)]
pub(crate) enum Signal {
    /// The namespace is confirmed.
    Confirmed,
    /// The namespace is refused, for this reason.
    Refused(String),
    /// The connection has ended.
    Ended(End),
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

/// The meaning of a callback.
#[derive(Debug, PartialEq)]
enum Outcome {
    Frame(Frame),
    /// The frame, and then the end.
    Final(Frame, End),
    Signal(Signal),
}

impl Callbacks {
    /// The callbacks, the queue of frames (each, and all together, of at most `limit` bytes), and the signals.
    pub(crate) fn new(limit: usize) -> (Self, mpsc::Receiver<Queued>, mpsc::Receiver<Signal>) {
        let (frames, queue) = mpsc::channel(QUEUE);
        // One confirmation and one end; later signals have no effect.
        let (signals, receiver) = mpsc::channel(2);
        let limit = limit.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let room = Arc::new(Semaphore::new(limit));
        (Self { frames, signals, room, limit, confirmed: Arc::default() }, queue, receiver)
    }

    /// Registers the callbacks.
    pub(crate) fn register(self, builder: ClientBuilder) -> ClientBuilder {
        let builder = [Name::Connect, Name::Close, Name::Error].into_iter().fold(builder, |builder, name| {
            let callbacks = self.clone();
            builder
                .on(name.clone(), move |payload, _| callbacks.clone().receive(name.clone(), payload).boxed())
        });
        let (any, lost) = (self.clone(), self);
        builder.on_any(move |name, payload, _| any.clone().receive(name, payload).boxed()).on_reconnect(
            move || {
                // The crate would redial now: it is blocked here until its thread ends.
                let lost = lost.clone();
                async move {
                    lost.disconnected("the connection was closed").await;
                    ReconnectSettings::new()
                }
                .boxed()
            },
        )
    }

    async fn receive(self, name: Name, payload: Payload) {
        match outcome(name, payload, self.confirmed.load(Ordering::Relaxed)) {
            Outcome::Frame(frame) => self.queue_frame(frame).await,
            Outcome::Final(frame, end) => {
                self.queue_frame(frame).await;
                self.end_with(Signal::Ended(end)).await;
            }
            Outcome::Signal(Signal::Confirmed) => {
                self.confirmed.store(true, Ordering::Relaxed);
                let _ = self.signals.try_send(Signal::Confirmed);
            }
            Outcome::Signal(signal) => self.end_with(signal).await,
        }
    }

    async fn queue_frame(&self, frame: Frame) {
        let size = frame.size();
        if size > self.limit {
            let limit = self.limit;
            let reason = format!("a message of {size} bytes is over transport.message_limit ({limit} bytes)");
            return self.disconnected(reason).await;
        }
        let passing = async {
            let bytes = u32::try_from(size).unwrap_or(u32::MAX);
            let room = self.room.clone().acquire_many_owned(bytes).await.ok()?;
            self.frames.send(Queued { frame, _room: room }).await.ok()
        };
        if timeout(HOLD_LIMIT, passing).await.is_err() {
            let reason = format!(
                "the queue of events was full for {} s; events are lost from here on",
                HOLD_LIMIT.as_secs()
            );
            self.disconnected(reason).await;
        }
    }

    async fn disconnected(&self, reason: impl Into<String>) {
        self.end_with(Signal::Ended(End::disconnected(reason))).await;
    }

    /// Signals the end, and blocks the crate: later callbacks would not be handled.
    async fn end_with(&self, signal: Signal) {
        // If the channel is full, an end was signalled before.
        let _ = self.signals.try_send(signal);
        pending::<()>().await;
    }
}

/// The crate calls back for changes of the connection as for events of the service with certain names; only the payload
/// distinguishes them.
fn outcome(name: Name, payload: Payload, confirmed: bool) -> Outcome {
    let values = match payload {
        Payload::Text(values) => values,
        Payload::Binary(bytes) => return binary(name.as_str(), &bytes),
        // The crate accepts this form, and never passes it.
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
            "an event named \"open\", or a second confirmation: the engine rust-socketio does not distinguish them",
        )),
        (Name::Close, Some("")) => disconnected("the service ended the session"),
        (Name::Error, Some(text)) if text.starts_with(REFUSED) => {
            let text = text.get(REFUSED.len()..).unwrap_or_default().to_owned();
            Outcome::Signal(Signal::Refused(codec::refusal(&Bytes::from(text))))
        }
        (Name::Error, Some(text)) if ERRORS.iter().any(|own| text.starts_with(own)) => {
            disconnected(format!("the connection broke, or the service broke the protocol: {text}"))
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

/// Of a binary event the crate passes the first attachment, and the rest without quotes and placeholders. It takes the
/// byte 0x1E in an attachment for the border to another packet, so a third party whose binary data a service passes on
/// could forge packets: nothing after a binary event is read.
fn binary(rest: &str, bytes: &[u8]) -> Outcome {
    let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
    let frame = malformed(
        json!({ "packet": rest, "attachments": [bytes] }),
        "a binary event, of which the engine rust-socketio passes only a part; the engine native can read it",
    );
    Outcome::Final(
        frame,
        End::disconnected(
            "a binary event was received, after which the engine rust-socketio may read forged packets; write engine = \
             \"native\"",
        ),
    )
}

fn malformed(raw: Value, reason: impl Into<String>) -> Frame {
    // A value is always JSON.
    let raw = Raw::json(&raw).unwrap_or_else(|_| Raw::null());
    Frame::Malformed { raw, reason: reason.into() }
}

fn disconnected(reason: impl Into<String>) -> Outcome {
    Outcome::Signal(Signal::Ended(End::disconnected(reason)))
}

#[cfg(test)]
mod tests;
