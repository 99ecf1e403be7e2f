//! One connection: a reader and a writer that do not wait for each other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::wire::Wire;
use super::{Lifetime, Request, Shared, frames};

/// How many chunks of a blast may wait to be written.
const PACE: u32 = 16;

/// A client that is connected.
pub struct Connection {
    id: usize,
    request: Request,
    opened: Instant,
    out: UnboundedSender<Out>,
    pace: Arc<Semaphore>,
    closing: AtomicBool,
    cut: Notify,
}

/// What is to be written.
pub(super) enum Out {
    /// Whole frames; the permit comes free when they are written.
    Bytes(Bytes, Option<OwnedSemaphorePermit>),
    /// The end of what is written, after which the socket is closed.
    End,
}

impl Connection {
    /// Which connection it is, from 0 in the order of upgrades.
    pub fn id(&self) -> usize {
        self.id
    }

    /// When it was upgraded.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Its upgrade request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Sends a text message.
    pub fn send_text(&self, text: &str) {
        self.send_frame(frames::TEXT, text.as_bytes());
    }

    /// Sends a binary message.
    pub fn send_binary(&self, data: &[u8]) {
        self.send_frame(frames::BINARY, data);
    }

    /// Sends a ping; the pong is among what is received.
    pub fn send_ping(&self, data: &[u8]) {
        self.send_frame(frames::PING, data);
    }

    /// Sends these bytes as they are.
    pub fn send_bytes(&self, bytes: Bytes) {
        // No one reads the queue of a connection that has ended; what is sent to it is lost, as on a real one.
        let _ = self.out.send(Out::Bytes(bytes, None));
    }

    /// Closes with this code; the socket is closed when the client has answered.
    pub fn close(&self, code: u16, reason: &str) {
        self.closing.store(true, Ordering::Relaxed);
        let mut bytes = Vec::new();
        frames::close(&mut bytes, code, reason);
        self.send_bytes(bytes.into());
    }

    /// Ends the TCP connection with a FIN and without a close frame, after what was sent before.
    pub fn hang_up(&self) {
        let _ = self.out.send(Out::End);
    }

    /// Breaks the TCP connection at once (RST).
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    /// Sends bytes when there is room. Returns whether the connection is still there.
    pub(super) async fn send_paced(&self, bytes: Bytes) -> bool {
        let Ok(permit) = Arc::clone(&self.pace).acquire_owned().await else { return false };
        self.out.send(Out::Bytes(bytes, Some(permit))).is_ok()
    }

    /// Waits until all of that is written. Returns whether the connection is still there.
    pub(super) async fn paced_is_written(&self) -> bool {
        self.pace.acquire_many(PACE).await.is_ok()
    }

    fn send_frame(&self, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(payload.len() + 10);
        frames::frame(&mut bytes, opcode, payload);
        self.send_bytes(bytes.into());
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Speaks over an upgraded socket until it ends.
pub(super) async fn run(shared: Arc<Shared>, stream: TcpStream, request: Request, config: WebSocketConfig) {
    let (read, write) = stream.into_split();
    let (out, queue) = mpsc::unbounded_channel();
    let wire = Wire { read, write: out.clone() };
    let socket = WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await;
    let connection = {
        let mut state = shared.state();
        let id = state.lifetimes.len();
        let opened = Instant::now();
        state.lifetimes.push(Lifetime { request: request.clone(), opened, closed: None });
        let pace = Arc::new(Semaphore::new(PACE as usize));
        let (closing, cut) = (AtomicBool::new(false), Notify::new());
        let connection = Arc::new(Connection { id, request, opened, out, pace, closing, cut });
        state.open.push(Arc::clone(&connection));
        state.most_open = state.most_open.max(state.open.len());
        connection
    };
    shared.service.connected(&connection);
    // Taken off the list however this ends, the end of the task included.
    let _open = Open { shared: &shared, connection: &connection };
    tokio::select! {
        () = read_all(&shared, &connection, socket) => {}
        () = write_all(shared.frozen.subscribe(), &connection, write, queue) => {}
    }
}

struct Open<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.connection.pace.close();
        let mut state = self.shared.state();
        state.open.retain(|other| other.id != self.connection.id);
        if let Some(lifetime) = state.lifetimes.get_mut(self.connection.id) {
            lifetime.closed = Some(Instant::now());
        }
    }
}

/// Reads until the connection ends. Returns only when all that is to be written was queued with an end behind it,
/// so that the writer is the one who ends.
async fn read_all(shared: &Shared, connection: &Arc<Connection>, mut socket: WebSocketStream<Wire>) {
    let mut frozen = shared.frozen.subscribe();
    loop {
        let message = tokio::select! {
            biased;
            // The answer is not kept, since it holds a lock.
            _ = async { frozen.wait_for(|frozen| *frozen).await.is_ok() } => {
                shared.while_frozen().await;
                continue;
            }
            message = socket.next() => message,
        };
        let Some(Ok(message)) = message else { break };
        shared.record(connection.id, message.clone());
        match message {
            Message::Text(text) => shared.service.text(connection, &text),
            Message::Binary(data) => shared.service.binary(connection, &data),
            // It answers our own close; an answer to that would be one too many.
            Message::Close(_) if connection.closing.load(Ordering::Relaxed) => break,
            _ => {}
        }
    }
    connection.hang_up();
    std::future::pending().await
}

async fn write_all(
    mut frozen: watch::Receiver<bool>,
    connection: &Connection,
    mut write: OwnedWriteHalf,
    mut queue: UnboundedReceiver<Out>,
) {
    const STEP: usize = 256 * 1024;
    let writing = async {
        while let Some(Out::Bytes(bytes, permit)) = queue.recv().await {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let _ = frozen.wait_for(|frozen| !frozen).await.is_ok();
                match write.write(&rest[..rest.len().min(STEP)]).await {
                    Ok(0) | Err(_) => return,
                    Ok(written) => rest = &rest[written..],
                }
            }
            drop(permit);
        }
    };
    tokio::select! {
        biased;
        () = connection.cut.notified() => {
            let _ = write.as_ref().set_zero_linger();
            // Dropped as it is, it would send a FIN first.
            write.forget();
        }
        () = writing => {}
    }
}
