//! A connection that events are published on, beside those of the NATS client: protocol lines are written
//! straight from the records, many with one system call, and confirmations are read.
//!
//! After a break it is of no more use: the attempt to publish ends, and the next one opens another.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_nats::ServerInfo;
use tokio::io::AsyncWrite as _;

use super::protocol::{Incoming, Message, Operation, PING, PONG, ProtocolError, Publish};
use crate::transport::wire::Wire;

/// No event is added once this many bytes wait to be written.
const WRITE_BUFFER: usize = 64 * 1024;
/// How many answers to pings may wait: a server that sends pings and reads no answers is given up.
const MAX_ANSWERS: usize = 1_024;
/// How much of an error's text is kept, in bytes.
const MAX_ERROR: usize = 512;

/// Why the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// It broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server does not keep to the protocol.
    #[error("it is not a NATS server: {0}")]
    Protocol(#[from] ProtocolError),
    /// The server's last words: it closes the connection.
    #[error("{0}")]
    Server(String),
    /// Our own settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// It was lost, or given up.
    #[error("{0}")]
    Lost(String),
    /// It takes nothing.
    #[error("the server sends pings and reads nothing")]
    Stalled,
}

/// What the server sends about what was published.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// The server has processed everything before the ping of this number.
    Pong(u64),
    /// A message to our inbox.
    Message(Message<'a>),
    /// The server does not allow something; the connection stays.
    Refused(String),
    /// Something that only the connection needs.
    Other,
}

/// An established connection.
pub(super) struct PublishConnection {
    stream: Wire,
    incoming: Incoming,
    /// What waits to be written, behind what was written of it.
    outgoing: Vec<u8>,
    written: usize,
    /// Whether bytes may be left in the stream's own buffer, which TLS has.
    unflushed: bool,
    /// What the server is.
    server: ServerInfo,
    /// How many bytes were written since it was opened.
    total: u64,
    /// How many answers to pings of the server were added since everything was written.
    answers: usize,
    /// How many pings were sent and answered.
    pings: u64,
    pongs: u64,
}

impl PublishConnection {
    /// A connection on which the server has sent its INFO.
    pub(super) fn new(stream: Wire, server: ServerInfo) -> Self {
        let (incoming, outgoing) = (Incoming::new(), Vec::new());
        Self {
            stream,
            incoming,
            outgoing,
            written: 0,
            unflushed: false,
            server,
            total: 0,
            answers: 0,
            pings: 0,
            pongs: 0,
        }
    }

    /// The most bytes that headers and body may have.
    pub(super) fn max_payload(&self) -> usize {
        self.server.max_payload
    }

    /// Whether it leads to this server, or to one of its cluster.
    pub(super) fn leads_to(&self, server: &ServerInfo) -> bool {
        is_same_cluster(&self.server, server)
    }

    /// How many bytes were written since it was opened.
    pub(super) fn written(&self) -> u64 {
        self.total
    }

    /// How many there are with those that wait.
    pub(super) fn end(&self) -> u64 {
        self.total + self.waiting() as u64
    }

    /// How many pings were sent.
    pub(super) fn pings(&self) -> u64 {
        self.pings
    }

    /// Whether so much waits to be written that no event should be added.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= WRITE_BUFFER
    }

    /// Whether a ping is not answered yet.
    pub(super) fn is_pinged(&self) -> bool {
        self.pings > self.pongs
    }

    /// Gives back the memory that a burst took. Call it while nothing is on its way.
    pub(super) fn shrink(&mut self) {
        self.outgoing.shrink_to(0);
        self.incoming.shrink();
    }

    /// Adds an event to what is written next. Returns how many bytes it has.
    pub(super) fn publish(&mut self, publish: &Publish<'_>) -> usize {
        let before = self.outgoing.len();
        publish.write(&mut self.outgoing);
        self.outgoing.len() - before
    }

    /// Adds a line, with its end, to what is written next.
    pub(super) fn send_line(&mut self, line: &[u8]) {
        self.outgoing.extend_from_slice(line);
    }

    /// Adds a ping. Returns its number, which [`Received::Pong`] has.
    pub(super) fn ping(&mut self) -> u64 {
        self.send_line(PING);
        self.pings += 1;
        self.pings
    }

    /// Pings, and waits until the server has processed everything before. Messages that come meanwhile do not count.
    ///
    /// # Errors
    /// See [`ConnectionError`]; what the server does not allow ends the wait as well.
    pub(super) async fn round_trip(&mut self) -> Result<(), ConnectionError> {
        let ping = self.ping();
        loop {
            match self.next()? {
                Some(Received::Pong(pong)) if pong == ping => return Ok(()),
                Some(Received::Refused(text)) => return Err(ConnectionError::Server(text)),
                Some(_) => {}
                None => self.ready().await?,
            }
        }
    }

    /// Writes what waits, and reads, until something was read, or there is room for events again. Dropping it loses nothing.
    ///
    /// # Errors
    /// If the connection broke.
    pub(super) async fn ready(&mut self) -> Result<(), ConnectionError> {
        Ok(poll_fn(|cx| self.poll_ready(cx)).await?)
    }

    /// See [`PublishConnection::ready`].
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let was_full = self.is_full();
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Err(error));
        }
        match self.incoming.poll_read(&mut self.stream, cx) {
            Poll::Pending if was_full && !self.is_full() => Poll::Ready(Ok(())),
            read => read,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let waiting = self.outgoing.get(self.written..).unwrap_or_default();
            match Pin::new(&mut self.stream).poll_write(cx, waiting) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.total += written as u64;
                    (self.written, self.unflushed) = (self.written + written, true);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.waiting() == 0 {
            self.outgoing.clear();
            self.outgoing.shrink_to(2 * WRITE_BUFFER);
            (self.written, self.answers) = (0, 0);
        } else if self.written >= WRITE_BUFFER {
            self.outgoing.drain(..self.written);
            self.written = 0;
        }
        if self.unflushed {
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// What was received next; `None` if [`PublishConnection::ready`] must be waited for.
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub(super) fn next(&mut self) -> Result<Option<Received<'_>>, ConnectionError> {
        let pinged = self.is_pinged();
        let Some(operation) = self.incoming.next()? else { return Ok(None) };
        Ok(Some(match operation {
            Operation::Message(message) => Received::Message(message),
            Operation::Pong if pinged => {
                self.pongs += 1;
                Received::Pong(self.pongs)
            }
            Operation::Error(text) => refused(text)?,
            Operation::Ping if self.answers >= MAX_ANSWERS => return Err(ConnectionError::Stalled),
            Operation::Ping => {
                self.answers += 1;
                self.outgoing.extend_from_slice(PONG);
                Received::Other
            }
            // Also of a server in lame duck mode, which takes events until it closes the connection.
            Operation::Info(json) => {
                self.server.max_payload = info(json)?.max_payload;
                Received::Other
            }
            Operation::Pong | Operation::Ok | Operation::Skipped => Received::Other,
        }))
    }

    fn waiting(&self) -> usize {
        self.outgoing.len() - self.written
    }
}

/// What a server refuses: after anything but a publish or a subscription that is not allowed, it closes the connection.
fn refused(text: &[u8]) -> Result<Received<'static>, ConnectionError> {
    let text = text.get(..MAX_ERROR).unwrap_or(text);
    let text = String::from_utf8_lossy(text).trim_matches('\'').to_owned();
    let is_permission = text.to_ascii_lowercase().starts_with("permissions violation");
    if is_permission { Ok(Received::Refused(text)) } else { Err(ConnectionError::Server(text)) }
}

/// Whether two servers are the same, or of one cluster.
fn is_same_cluster(one: &ServerInfo, other: &ServerInfo) -> bool {
    one.server_id == other.server_id || (one.cluster.is_some() && one.cluster == other.cluster)
}

/// Reads the JSON of an INFO.
pub(super) fn info(json: &[u8]) -> Result<ServerInfo, ProtocolError> {
    serde_json::from_slice(json).map_err(|_| ProtocolError::Info)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (PublishConnection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (PublishConnection::new(Wire::plain(ours.unwrap()), ServerInfo::default()), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn a_server_that_sends_pings_and_reads_no_answers_is_given_up() {
        let (mut connection, mut server) = pair().await;
        let flood = tokio::spawn(async move {
            let pings = PING.repeat(1_000);
            while server.write_all(&pings).await.is_ok() {}
        });
        let error = loop {
            match connection.next() {
                Ok(Some(_)) => assert!(connection.waiting() <= MAX_ANSWERS * PONG.len()),
                Ok(None) => connection.ready().await.unwrap(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ConnectionError::Stalled));
        drop(connection);
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_without_a_ping_confirms_nothing() {
        let (mut connection, mut server) = pair().await;
        server.write_all(b"PONG\r\nPONG\r\n+OK\r\n").await.unwrap();
        connection.ready().await.unwrap();
        while let Some(received) = connection.next().unwrap() {
            assert!(matches!(received, Received::Other), "{received:?}");
        }
        assert_eq!(connection.ping(), 1);
        server.write_all(b"PONG\r\nPONG\r\n").await.unwrap();
        connection.ready().await.unwrap();
        assert!(matches!(connection.next(), Ok(Some(Received::Pong(1)))));
        assert!(matches!(connection.next(), Ok(Some(Received::Other))));
        assert!(!connection.is_pinged());
    }

    #[tokio::test]
    async fn an_error_ends_the_connection_except_where_something_is_not_allowed() {
        let (mut connection, mut server) = pair().await;
        server
            .write_all(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n-ERR 'Stale Connection'\r\n")
            .await
            .unwrap();
        connection.ready().await.unwrap();
        assert!(matches!(connection.next(), Ok(Some(Received::Refused(text))) if text.ends_with("to \"a\"")));
        assert!(
            matches!(connection.next(), Err(ConnectionError::Server(text)) if text == "Stale Connection")
        );
    }
}
