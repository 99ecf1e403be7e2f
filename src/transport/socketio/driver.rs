//! Socket.IO over an open WebSocket: reads packets, answers pings, writes frames.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pontoon_sdk::End;
use pontoon_sdk::socketio::Frame;
use pontoon_sdk::websocket;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::codec::{Decoder, Packet, disconnect, encode, pong};
use super::recovery::Recovery;
use crate::transport::websocket::socket::{Reader as WebSocketReader, Writer as WebSocketWriter};
use crate::transport::{Read, Received, Write, deadline};

/// How long the attachments of a packet may take.
const ATTACHMENTS: Duration = Duration::from_secs(10);
/// How many pings may wait for their pongs; of more, some are not answered.
const PONGS: usize = 8;

/// Receives frames.
pub struct Reader {
    socket: WebSocketReader,
    decoder: Decoder,
    /// When the packet arrived whose attachments are missing.
    partial: Option<Instant>,
    /// The size of a message over the limit that was not reported yet.
    too_large: Option<u64>,
    /// What was received before the namespace was confirmed.
    early: VecDeque<Received<Packet>>,
    recovery: Recovery,
    pongs: Pongs,
}

impl Reader {
    /// A reader for what follows the handshake.
    pub fn new(socket: WebSocketReader, decoder: Decoder, recovery: Recovery, pongs: Pongs) -> Self {
        Self { socket, decoder, partial: None, too_large: None, early: VecDeque::new(), recovery, pongs }
    }

    /// The next packet. Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Result<Received<Packet>, End> {
        loop {
            if let Some(packet) = self.decoder.take() {
                return Ok(Received::Message(packet));
            }
            if let Some(size) = self.too_large.take() {
                return Ok(Received::TooLarge(size));
            }
            let message = match self.partial {
                None => self.socket.read().await?,
                Some(since) => match deadline::by(since + ATTACHMENTS, self.socket.read()).await {
                    Some(message) => message?,
                    None => {
                        self.partial = None;
                        self.decoder.give_up("its attachments did not come within 10 s");
                        continue;
                    }
                },
            };
            match message {
                Received::Message(websocket::Frame::Text(text)) => self.decoder.text(text),
                Received::Message(websocket::Frame::Binary(bytes)) => self.decoder.binary(bytes),
                // It may have been the missing attachment, so later ones would be out of place.
                Received::TooLarge(size) => {
                    self.decoder
                        .give_up("a message over transport.message_limit came before all of its attachments");
                    self.too_large = Some(size);
                }
            }
            self.partial = self.decoder.is_partial().then(|| self.partial.unwrap_or_else(Instant::now));
        }
    }

    /// The next packet, answering pings meanwhile: for the handshake, when the link has no writer task yet.
    pub async fn receive_and_answer(&mut self, writer: &mut Writer) -> Result<Received<Packet>, End> {
        let receiving = self.receive();
        tokio::pin!(receiving);
        loop {
            tokio::select! {
                packet = &mut receiving => return packet,
                () = writer.due() => writer.flush().await?,
            }
        }
    }

    /// Keeps what was received before the namespace was confirmed: it is read first.
    pub fn keep(&mut self, early: Received<Packet>) {
        self.early.push_back(early);
    }

    /// From now on a peer that is silent for this long counts as dead.
    pub fn expect_within(&mut self, silence: Duration) {
        self.socket.expect_within(silence);
    }
}

impl Read<Frame> for Reader {
    async fn read(&mut self) -> Result<Received<Frame>, End> {
        loop {
            let received = match self.early.pop_front() {
                Some(early) => early,
                None => self.receive().await?,
            };
            let packet = match received {
                Received::Message(packet) => packet,
                Received::TooLarge(size) => return Ok(Received::TooLarge(size)),
            };
            match packet {
                Packet::Frame(frame) => {
                    if let Frame::Event(event) = &frame {
                        self.recovery.read(event);
                    }
                    return Ok(Received::Message(frame));
                }
                Packet::Ping(payload) => self.pongs.push(payload),
                // A repeated CONNECT has no effect.
                Packet::Connect(_) => {}
                Packet::ConnectError(reason) => {
                    return Err(End::disconnected(format!("the service refused the namespace: {reason}")));
                }
                Packet::Disconnect(reason) => return Err(End::disconnected(reason)),
            }
        }
    }

    fn position(&self) -> Option<Vec<u8>> {
        self.recovery.position()
    }

    fn suspend(&mut self) {
        self.recovery.suspend();
    }

    async fn drain(&mut self) {
        self.socket.drain().await;
    }
}

/// Sends frames.
pub struct Writer {
    socket: WebSocketWriter,
    namespace: String,
    recovery: Recovery,
    pongs: Pongs,
}

impl Writer {
    /// A writer for one namespace.
    pub fn new(socket: WebSocketWriter, namespace: &str, recovery: Recovery, pongs: Pongs) -> Self {
        Self { socket, namespace: namespace.to_owned(), recovery, pongs }
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: String) -> Result<(), End> {
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

    /// Does nothing: in Engine.IO 4 the server pings, and its silence is noticed by its ping interval.
    async fn ping(&mut self) -> Result<(), End> {
        Ok(())
    }

    async fn due(&mut self) {
        tokio::select! {
            () = self.pongs.due() => {}
            () = self.socket.due() => {}
        }
    }

    async fn close(&mut self) -> Result<(), End> {
        // The reference server keeps no session that the client has ended.
        if self.socket.is_open() && !self.recovery.is_suspended() {
            self.send_text(disconnect(&self.namespace)).await?;
        }
        self.socket.close().await
    }
}

/// The queue of pongs from the reader to the writer.
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
