//! Socket.IO over an open WebSocket: reads packets, answers pings, writes frames.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pontoon_sdk::End;
use pontoon_sdk::socketio::Frame;
use pontoon_sdk::websocket;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::codec::{Decoder, Heard, disconnect, encode, pong};
use super::recovery::Recovery;
use crate::transport::websocket::{Reader as WebSocketReader, Writer as WebSocketWriter};
use crate::transport::{Read, Write};

/// How long the attachments of a packet may take.
const ATTACHMENTS: Duration = Duration::from_secs(10);
/// How many pings may wait for their answer; a service that asks more often is answered less often.
const PONGS: usize = 8;

/// Receives frames.
pub struct Reader {
    socket: WebSocketReader,
    decoder: Decoder,
    /// Since when attachments are waited for.
    partial: Option<Instant>,
    /// What was said before the namespace was confirmed.
    early: VecDeque<Frame>,
    recovery: Recovery,
    pongs: Pongs,
}

impl Reader {
    /// A reader of what comes behind the handshake.
    pub fn new(socket: WebSocketReader, decoder: Decoder, recovery: Recovery, pongs: Pongs) -> Self {
        Self { socket, decoder, partial: None, early: VecDeque::new(), recovery, pongs }
    }

    /// The next thing that is heard. Dropping the future loses nothing.
    pub async fn hear(&mut self) -> Result<Heard, End> {
        loop {
            if let Some(heard) = self.decoder.take() {
                return Ok(heard);
            }
            let message = match self.partial {
                None => self.socket.read().await?,
                Some(since) => match timeout_at(since + ATTACHMENTS, self.socket.read()).await {
                    Ok(message) => message?,
                    Err(_) => {
                        self.partial = None;
                        self.decoder.give_up("its attachments did not come within 10 s");
                        continue;
                    }
                },
            };
            match message {
                websocket::Frame::Text(text) => self.decoder.text(text),
                websocket::Frame::Binary(bytes) => self.decoder.binary(bytes),
            }
            self.partial = self.decoder.is_partial().then(|| self.partial.unwrap_or_else(Instant::now));
        }
    }

    /// Keeps a frame that came before the namespace was confirmed: it is the first that is read.
    pub fn keep(&mut self, frame: Frame) {
        self.early.push_back(frame);
    }

    /// From now on a peer that is silent for this long is gone.
    pub fn expect_within(&mut self, silence: Duration) {
        self.socket.expect_within(silence);
    }
}

impl Read<Frame> for Reader {
    async fn read(&mut self) -> Result<Frame, End> {
        loop {
            let heard = match self.early.pop_front() {
                Some(frame) => Heard::Frame(frame),
                None => self.hear().await?,
            };
            match heard {
                Heard::Frame(frame) => {
                    if let Frame::Event(event) = &frame {
                        self.recovery.read(event);
                    }
                    return Ok(frame);
                }
                Heard::Ping(payload) => self.pongs.push(payload),
                // Said again, it says nothing new.
                Heard::Connected(_) => {}
                Heard::Refused(words) => {
                    return Err(End::disconnected(format!("the service refused the namespace: {words}")));
                }
                Heard::Closed(words) => return Err(End::disconnected(words)),
            }
        }
    }
}

/// Sends frames.
pub struct Writer {
    socket: WebSocketWriter,
    namespace: String,
    pongs: Pongs,
}

impl Writer {
    /// A writer for one namespace.
    pub fn new(socket: WebSocketWriter, namespace: &str, pongs: Pongs) -> Self {
        Self { socket, namespace: namespace.to_owned(), pongs }
    }

    /// Sends one message.
    pub async fn say(&mut self, text: String) -> Result<(), End> {
        self.socket.feed(websocket::Frame::text(text)).await?;
        self.socket.flush().await
    }
}

impl Write<Frame> for Writer {
    async fn feed(&mut self, frame: Frame) -> Result<(), End> {
        let (text, attachments) = encode(frame, &self.namespace);
        self.socket.feed(websocket::Frame::text(text)).await?;
        for attachment in attachments {
            self.socket.feed(websocket::Frame::Binary(attachment)).await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), End> {
        while let Some(payload) = self.pongs.pop() {
            self.socket.feed(websocket::Frame::text(pong(&payload))).await?;
        }
        self.socket.flush().await
    }

    /// The service asks for signs of life, and we do not: its silence is noticed by its own interval.
    async fn ping(&mut self) -> Result<(), End> {
        Ok(())
    }

    async fn due(&mut self) {
        self.pongs.due().await;
    }

    async fn close(&mut self) -> Result<(), End> {
        self.say(disconnect(&self.namespace)).await?;
        self.socket.close().await
    }
}

/// Answers to pings on their way from the reader to the writer.
#[derive(Clone, Default)]
pub struct Pongs(Arc<(Mutex<VecDeque<Bytes>>, Notify)>);

impl Pongs {
    fn push(&self, payload: Bytes) {
        let mut waiting = self.waiting();
        if waiting.len() < PONGS {
            waiting.push_back(payload);
        }
        drop(waiting);
        self.0.1.notify_one();
    }

    fn pop(&self) -> Option<Bytes> {
        self.waiting().pop_front()
    }

    async fn due(&self) {
        loop {
            let pushed = self.0.1.notified();
            if !self.waiting().is_empty() {
                return;
            }
            pushed.await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
