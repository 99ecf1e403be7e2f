//! The two halves of a WebSocket connection: messages, pings, silent peers, the closing handshake.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{End, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{self, OpCode};

use super::control::{Control, Ending, close_payload};
use super::decoder::{Decoder, Item, RECEIVED, Violation, mask};
use crate::transport::wire::Wire;
use crate::transport::{Read, Received, Settings, Write, classify, deadline};

/// Messages are written once this much waits, or when nothing more is ready.
const WRITE_BUFFER: usize = 16 * 1024;
/// How much is read at a time of what is discarded.
const DISCARD_BUFFER: usize = 8 * 1024;

thread_local! {
    /// Where the links of a thread receive, one after the other, so that none needs a buffer while it is idle.
    static RECEIVE_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVED].into());
}

/// The two halves of an upgraded connection. `rest` was received with the handshake; a peer that sends nothing for
/// `silence` is gone.
pub(in crate::transport) fn halves(
    wire: Wire,
    rest: &[u8],
    role: Role,
    silence: Duration,
    settings: &Settings,
) -> (Reader, Writer) {
    let (received, sent) = tokio::io::split(wire);
    let control = Arc::new(Control::default());
    let decoder = Decoder::new(role, settings.config.message_limit.0, rest);
    let reader =
        Reader { wire: received, decoder, control: control.clone(), role, silence, since: Instant::now() };
    (reader, Writer { wire: sent, buffer: BytesMut::new(), control, role })
}

/// Receives messages, and notices when the peer is silent for too long.
pub struct Reader {
    wire: ReadHalf<Wire>,
    decoder: Decoder,
    control: Arc<Control>,
    role: Role,
    silence: Duration,
    /// When bytes were received last.
    since: Instant,
}

impl Read<Frame> for Reader {
    async fn read(&mut self) -> Result<Received<Frame>, End> {
        if self.control.ending() != Ending::Open {
            return Err(End::disconnected("the connection was closed"));
        }
        loop {
            match self.decoder.next() {
                Ok(None) => self.receive().await?,
                Ok(Some(Item::Message(frame))) => return Ok(Received::Message(frame)),
                Ok(Some(Item::TooLarge(size))) => return Ok(Received::TooLarge(size)),
                Ok(Some(Item::Ping(payload))) => self.control.answer(payload),
                Ok(Some(Item::Pong)) => {}
                Ok(Some(Item::Close { code, reason })) => {
                    self.control.end(Ending::Closed(code));
                    return Err(closed(code, reason));
                }
                Err(violation) => {
                    let end = failed(&violation);
                    self.control.end(Ending::Failed(violation));
                    return Err(end);
                }
            }
        }
    }

    async fn drain(&mut self) {
        while self.read().await.is_ok() {}
        match self.control.ending() {
            Ending::Gone => return,
            // The server is the one that ends the stream below (RFC 6455 §7.1.1).
            Ending::Closed(_) if self.role == Role::Server => return,
            Ending::Open | Ending::Closed(_) | Ending::Failed(_) => {}
        }
        // A stream that is ended with bytes in it that were not read is reset, and a reset can destroy the close frame
        // on its way.
        // A buffer in the future would be part of every link's task.
        let mut discarded = vec![0; DISCARD_BUFFER];
        while self.wire.read(&mut discarded).await.is_ok_and(|read| read > 0) {}
    }
}

impl Reader {
    /// From now on a peer that sends nothing for this long counts as dead.
    pub(in crate::transport) fn expect_within(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// Waits for more bytes. Dropping the future loses nothing.
    async fn receive(&mut self) -> Result<(), End> {
        let Self { wire, decoder, .. } = self;
        let receiving = poll_fn(|context| match decoder.large_payload() {
            Some(buffer) => pin!(wire.read_buf(buffer)).poll(context),
            None => RECEIVE_BUFFER.with_borrow_mut(|buffer| {
                let received = ready!(pin!(wire.read(buffer)).poll(context))?;
                decoder.add(buffer.get(..received).unwrap_or_default());
                Poll::Ready(Ok(received))
            }),
        });
        let Some(received) = deadline::by(self.since + self.silence, receiving).await else {
            let silence = self.silence;
            return Err(End::disconnected(format!("nothing was received for {silence:?}, not even a pong")));
        };
        self.since = Instant::now();
        match received {
            Ok(0) => {
                self.control.end(Ending::Gone);
                Err(End::disconnected("the connection was closed"))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.control.end(Ending::Gone);
                Err(broken(&error))
            }
        }
    }
}

/// The next message, answering pings meanwhile: for a handshake, when the link has no writer task yet.
pub(in crate::transport) async fn read_and_answer(
    reader: &mut impl Read<Frame>,
    writer: &mut Writer,
) -> Result<Received<Frame>, End> {
    let reading = reader.read();
    tokio::pin!(reading);
    loop {
        tokio::select! {
            read = &mut reading => return read,
            () = writer.due() => writer.flush().await?,
        }
    }
}

/// Sends messages.
pub struct Writer {
    wire: WriteHalf<Wire>,
    buffer: BytesMut,
    control: Arc<Control>,
    role: Role,
}

impl Writer {
    /// Whether the peer has neither closed the connection nor broken it.
    pub(in crate::transport) fn is_open(&self) -> bool {
        self.control.ending() == Ending::Open
    }

    /// Closes the connection for a reason.
    pub(in crate::transport) async fn close_with(&mut self, code: u16, reason: &str) -> Result<(), End> {
        self.put(OpCode::Control(coding::Control::Close), &close_payload(code, reason));
        self.write().await
    }

    /// Adds a frame to what is to be written.
    fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        let key = (self.role == Role::Client).then(rand::random);
        let header = FrameHeader { opcode, mask: key, ..FrameHeader::default() };
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        self.buffer.reserve(header.len(length) + payload.len());
        // Writing to memory cannot fail.
        let _ = header.format(length, &mut (&mut self.buffer).writer());
        let begin = self.buffer.len();
        self.buffer.extend_from_slice(payload);
        if let Some(key) = key {
            mask(self.buffer.get_mut(begin..).unwrap_or_default(), key);
        }
    }

    async fn write(&mut self) -> Result<(), End> {
        self.wire.write_all_buf(&mut self.buffer).await.map_err(|error| broken(&error))?;
        self.wire.flush().await.map_err(|error| broken(&error))
    }
}

impl Write<Frame> for Writer {
    async fn feed(&mut self, frame: Frame) -> Result<(), End> {
        match &frame {
            Frame::Text(bytes) if std::str::from_utf8(bytes).is_err() => {
                return Err(End::disconnected("a text message to send is not UTF-8"));
            }
            Frame::Text(bytes) => self.put(OpCode::Data(coding::Data::Text), bytes),
            Frame::Binary(bytes) => self.put(OpCode::Data(coding::Data::Binary), bytes),
        }
        if self.buffer.len() >= WRITE_BUFFER { self.write().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        while let Some(ping) = self.control.take_ping() {
            self.put(OpCode::Control(coding::Control::Pong), &ping);
        }
        self.write().await
    }

    async fn ping(&mut self) -> Result<(), End> {
        self.put(OpCode::Control(coding::Control::Ping), &[]);
        self.flush().await
    }

    async fn due(&mut self) {
        self.control.pinged().await;
    }

    /// Sends the close frame that fits how the connection ends: the peer's code if it has closed it, the code of its
    /// violation, else 1001 (going away).
    async fn close(&mut self) -> Result<(), End> {
        let ending = self.control.ending();
        let Some(payload) = ending.close_payload() else { return Ok(()) };
        self.put(OpCode::Control(coding::Control::Close), &payload);
        self.write().await?;
        if self.role == Role::Server && ending != Ending::Open {
            self.wire.shutdown().await.map_err(|error| broken(&error))?;
        }
        Ok(())
    }
}

/// The service has closed the connection. The kind is decided by the code, the settings and the time: see
/// [`classify::end`].
fn closed(code: Option<u16>, reason: String) -> End {
    match code {
        None => End::closed(None, "closed by the service without a code"),
        Some(code) => End::closed(Some(code), reason),
    }
}

fn failed(violation: &Violation) -> End {
    match violation {
        // Redialled slowly, as the next connection may end the same way.
        Violation { code: classify::TOO_LARGE, reason } => Error::throttled(reason.as_str()).into(),
        Violation { reason, .. } => End::disconnected(format!("the service broke the protocol: {reason}")),
    }
}

fn broken(error: &io::Error) -> End {
    End::disconnected(format!("the connection broke: {error}"))
}
