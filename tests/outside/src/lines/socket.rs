//! How the daemon dials the transport, reads lines and writes them.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use pontoon::transport::connect::connect;
use pontoon::transport::wire::Wire;
use pontoon::transport::{Dial, DialError, Dialled, Read, Received, Resumed, Settings, Write, deadline};
use pontoon_sdk::{Bytes, End};
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

use super::{Endpoint, Line, Lines};

/// How much is read at a time, and written at the latest.
const CHUNK: usize = 16 * 1024;

impl Dial for Lines {
    type Reader = Reader;
    type Writer = Writer;
    type Memory = ();

    fn secrets(endpoint: &Endpoint) -> Vec<String> {
        // One that cannot be looked up was not sent.
        endpoint.secrets.iter().filter_map(|secret| secret.reveal().ok()).collect()
    }

    async fn dial(
        endpoint: &Endpoint,
        _memory: &mut (),
        settings: &Settings,
    ) -> Result<Dialled<Reader, Writer>, DialError> {
        let Endpoint { address, limit, ping, goodbye, .. } = endpoint.clone();
        let patience = settings.config.connect_timeout;
        let wire = timeout(patience.0, connect(&address, None, settings))
            .await
            .map_err(|_| DialError::unreachable(format!("{address} did not answer within {patience}")))??;
        let (receiving, sending) = io::split(wire);
        let silence = ping.is_some().then_some(settings.config.ping_interval.0 * 2);
        let reader = Reader::new(receiving, settings.config.message_limit.0, silence);
        let writer = Writer { wire: sending, waiting: BytesMut::new(), ping, goodbye };
        Ok(Dialled { reader, writer, resumed: Resumed::No, limit })
    }
}

/// Receives lines, and notices when the peer is silent for two ping intervals.
pub struct Reader {
    wire: ReadHalf<Wire>,
    arrived: BytesMut,
    /// How much of what arrived has no end of a line in it.
    searched: usize,
    limit: usize,
    /// How much was discarded of a line over the limit.
    discarded: usize,
    silence: Option<Duration>,
    received_at: Instant,
}

impl Reader {
    fn new(wire: ReadHalf<Wire>, limit: usize, silence: Option<Duration>) -> Self {
        let arrived = BytesMut::new();
        Self { wire, arrived, searched: 0, limit, discarded: 0, silence, received_at: Instant::now() }
    }

    /// A line that has arrived whole, or the end of one that is too long.
    fn line(&mut self) -> Option<Received<Line>> {
        let rest = self.arrived.get(self.searched..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.arrived.len();
            if self.searched > self.limit {
                self.discarded += self.searched;
                self.arrived.clear();
                self.searched = 0;
            }
            return None;
        };
        let end = self.searched + end;
        let text = self.arrived.get(..end).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let size = std::mem::take(&mut self.discarded) + text.len();
        let line = if size > self.limit {
            Received::TooLarge(u64::try_from(size).unwrap_or(u64::MAX))
        } else {
            // A copy: a line that waits to be published must not hold on to all that was read with it.
            Received::Message(Line(Bytes::copy_from_slice(text)))
        };
        self.arrived.advance(end + 1);
        self.searched = 0;
        Some(line)
    }

    /// Waits for more. What has arrived is kept if this future is dropped.
    async fn more(&mut self) -> Result<(), End> {
        self.arrived.reserve(CHUNK);
        let reading = self.wire.read_buf(&mut self.arrived);
        let read = match self.silence {
            Some(silence) => deadline::by(self.received_at + silence, reading)
                .await
                .ok_or_else(|| End::disconnected(format!("nothing was received for {silence:?}")))?,
            None => reading.await,
        };
        self.received_at = Instant::now();
        match read {
            Ok(0) => Err(End::disconnected("the connection was closed")),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(&error)),
        }
    }
}

impl Read<Line> for Reader {
    async fn read(&mut self) -> Result<Received<Line>, End> {
        loop {
            if let Some(line) = self.line() {
                return Ok(line);
            }
            self.more().await?;
        }
    }
}

/// Sends lines.
pub struct Writer {
    wire: WriteHalf<Wire>,
    waiting: BytesMut,
    ping: Option<Line>,
    goodbye: Option<Line>,
}

impl Writer {
    fn put(&mut self, Line(text): &Line) {
        self.waiting.put_slice(text);
        self.waiting.put_slice(b"\r\n");
    }
}

impl Write<Line> for Writer {
    async fn feed(&mut self, line: Line) -> Result<(), End> {
        self.put(&line);
        if self.waiting.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.wire.write_all_buf(&mut self.waiting).await.map_err(|error| broken(&error))?;
        self.wire.flush().await.map_err(|error| broken(&error))
    }

    async fn ping(&mut self) -> Result<(), End> {
        let Some(ping) = self.ping.clone() else { return Ok(()) };
        self.feed(ping).await?;
        self.flush().await
    }

    async fn close(&mut self) -> Result<(), End> {
        if let Some(goodbye) = self.goodbye.take() {
            self.feed(goodbye).await?;
        }
        self.flush().await?;
        self.wire.shutdown().await.map_err(|error| broken(&error))
    }
}

fn broken(error: &io::Error) -> End {
    End::disconnected(format!("the connection broke: {error}"))
}
