//! The WebSocket transport, on tokio-tungstenite: one message is one frame of the SDK.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use pontoon_sdk::door::Door;
use pontoon_sdk::websocket::{Endpoint, Frame};
use pontoon_sdk::{End, Param, WebSocket};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::connect::{Wire, connect};
use super::listen::{self, Admitted, Judge};
use super::upgrade::Upgrade;
use super::{Dial, DialError, Dialled, Read, Resumed, Settings, Write};

/// Enough for a read to bring many small messages, and little enough for thousands of idle links.
const READ_BUFFER: usize = 8 * 1024;
/// Messages are written once this much waits, or when nothing more is ready.
const WRITE_BUFFER: usize = 16 * 1024;

impl Dial for WebSocket {
    type Reader = Reader;
    type Writer = Writer;
    type Memory = ();

    fn secrets(endpoint: &Endpoint) -> Vec<String> {
        let Endpoint { query, headers, subprotocols, .. } = endpoint;
        let named = query.iter().chain(headers).map(|(_, value)| value);
        let all = named.chain(subprotocols).filter(|param| matches!(param, Param::Secret(_)));
        let told = endpoint.secrets.iter().filter_map(|secret| secret.reveal().ok());
        // One that cannot be looked up was not sent.
        all.filter_map(|param| param.reveal().ok()).chain(told).collect()
    }

    async fn dial(
        endpoint: &Endpoint,
        _memory: &mut (),
        settings: &Settings,
    ) -> Result<Dialled<Reader, Writer>, DialError> {
        let guard = endpoint.guard.as_ref();
        if let Some(guard) = guard {
            guard.check_url(&endpoint.url).map_err(|error| DialError::forbidden(error.message()))?;
        }
        let upgrade = Upgrade::new(endpoint, settings.user_agent())?;
        let limit = settings.config.connect_timeout.0;
        let handshake = async {
            let mut wire = connect(&upgrade.address, guard, settings).await?;
            let rest = upgrade.perform(&mut wire).await?;
            Ok::<_, DialError>((wire, rest))
        };
        let (wire, rest) = timeout(limit, handshake).await.map_err(|_| {
            DialError::unreachable(format!(
                "{} did not answer within {}",
                upgrade.address, settings.config.connect_timeout
            ))
        })??;
        let arrived = wire.arrived();
        let socket =
            WebSocketStream::from_partially_read(wire, rest, Role::Client, Some(limits(settings))).await;
        let (reader, writer) = listen_over(socket, arrived, settings.config.ping_interval.0 * 2);
        Ok(Dialled { reader, writer, resumed: Resumed::No, limit: None })
    }

    async fn accept(
        wire: Wire,
        door: &Door,
        settings: &Settings,
        judge: &Judge<'_, Frame>,
    ) -> Result<Admitted<Reader, Writer>, String> {
        listen::accept(wire, door, settings, judge).await
    }
}

/// The two halves of a connection whose peer is gone when it is silent for this long. `arrived` counts its bytes.
pub(super) fn listen_over(
    socket: WebSocketStream<Wire>,
    arrived: Arc<AtomicU64>,
    silence: Duration,
) -> (Reader, Writer) {
    let (sink, stream) = socket.split();
    (Reader { stream, arrived, heard: 0, silence, since: Instant::now() }, Writer { sink })
}

pub(super) fn limits(settings: &Settings) -> WebSocketConfig {
    let message = settings.config.message_limit.0;
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + settings.config.send_buffer.0 * 2)
        .max_message_size(Some(message))
        .max_frame_size(Some(message))
}

/// Receives messages, and notices when the peer is silent for two ping intervals.
pub struct Reader {
    stream: SplitStream<WebSocketStream<Wire>>,
    arrived: Arc<AtomicU64>,
    heard: u64,
    silence: Duration,
    since: Instant,
}

impl Read<Frame> for Reader {
    async fn read(&mut self) -> Result<Frame, End> {
        loop {
            let Ok(next) = timeout_at(self.since + self.silence, self.stream.next()).await else {
                self.listen()?;
                continue;
            };
            self.since = Instant::now();
            self.heard = self.arrived.load(Ordering::Relaxed);
            match next {
                Some(Ok(Message::Text(text))) => return Ok(Frame::Text(text.into())),
                Some(Ok(Message::Binary(bytes))) => return Ok(Frame::Binary(bytes)),
                Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(broken(&error)),
                None => return Err(End::disconnected("the connection was closed")),
            }
        }
    }
}

impl Reader {
    /// From now on a peer that is silent for this long is gone.
    pub(super) fn expect_within(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// No message for too long: a part of one that is still arriving is a sign of life, too.
    fn listen(&mut self) -> Result<(), End> {
        let heard = self.arrived.load(Ordering::Relaxed);
        if heard == self.heard {
            return Err(End::disconnected(format!(
                "nothing was heard for {:?}, not even a pong",
                self.silence
            )));
        }
        self.heard = heard;
        self.since = Instant::now();
        Ok(())
    }
}

/// Sends messages.
pub struct Writer {
    sink: SplitSink<WebSocketStream<Wire>, Message>,
}

impl Writer {
    /// Says goodbye, and waits until the peer has read it, as far as that can be known.
    pub(super) async fn close_with(mut self, frame: CloseFrame, mut reader: Reader) {
        if self.sink.send(Message::Close(Some(frame))).await.is_ok() {
            while reader.read().await.is_ok() {}
        }
    }
}

impl Write<Frame> for Writer {
    async fn feed(&mut self, frame: Frame) -> Result<(), End> {
        let message = match frame {
            Frame::Text(bytes) => Message::Text(
                Utf8Bytes::try_from(bytes)
                    .map_err(|_| End::disconnected("a text message of ours is not UTF-8"))?,
            ),
            Frame::Binary(bytes) => Message::Binary(bytes),
        };
        self.sink.feed(message).await.map_err(|error| broken(&error))
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.sink.flush().await.map_err(|error| broken(&error))
    }

    async fn ping(&mut self) -> Result<(), End> {
        self.sink.send(Message::Ping(Bytes::new())).await.map_err(|error| broken(&error))
    }

    async fn close(&mut self) -> Result<(), End> {
        let away = CloseFrame { code: CloseCode::Away, reason: Utf8Bytes::default() };
        self.sink.send(Message::Close(Some(away))).await.map_err(|error| broken(&error))
    }
}

/// The service said goodbye. What a code means depends on the service and the moment: see `Session::ended`.
fn closed(frame: Option<CloseFrame>) -> End {
    match frame {
        None => End::closed(None, "closed by the service without a code"),
        Some(frame) => End::closed(Some(frame.code.into()), frame.reason.as_str()),
    }
}

fn broken(error: &Error) -> End {
    End::disconnected(match error {
        Error::ConnectionClosed | Error::AlreadyClosed => "the connection was closed".to_owned(),
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            format!("a message of {size} bytes is over transport.message_limit ({max_size} bytes)")
        }
        Error::Io(error) => format!("the connection broke: {error}"),
        error => format!("the service broke the protocol: {error}"),
    })
}
