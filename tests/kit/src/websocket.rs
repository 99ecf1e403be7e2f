//! A WebSocket server that does what a test asks for: it refuses, answers, closes, breaks and freezes.
//!
//! The upgrade and the reading are tokio-tungstenite's. Frames are written here, as bytes, so that a test can send
//! many at once, or wrong ones.

// The shape of tungstenite's callback.
#![allow(clippy::result_large_err)]

mod connection;
mod frames;
mod request;
mod wire;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::server as upgrade;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

use crate::wait::{eventually, until_some};

pub use connection::Connection;
pub(crate) use request::percent_decoded;
pub use request::{Refusal, Request};
use request::{answer, read_request};

/// What a simulated service does with those who connect.
pub trait Service: Send + Sync + 'static {
    /// Judges an upgrade. Returns the subprotocol to echo, if any.
    ///
    /// # Errors
    /// How it is refused.
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        let _ = request;
        Ok(None)
    }

    /// A client was upgraded.
    fn connected(&self, connection: &Arc<Connection>) {
        let _ = connection;
    }

    /// A text message came. It has been recorded already.
    fn text(&self, connection: &Arc<Connection>, text: &str);

    /// A binary message came. It has been recorded already.
    fn binary(&self, connection: &Arc<Connection>, data: &Bytes) {
        let _ = (connection, data);
    }
}

/// What happens to those who connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// The service judges them.
    Open,
    /// They are refused.
    Refuse(Refusal),
    /// Their TCP connection is made, and then nothing is sent.
    Silent,
    /// Their TCP connection is made, and ended at once.
    Slam,
}

/// A frame that came from a client.
#[derive(Debug, Clone)]
pub struct Received {
    /// Which connection it came over, from 0 in the order of upgrades.
    pub connection: usize,
    /// When it was read.
    pub at: Instant,
    /// What it is.
    pub message: Message,
}

/// How long a connection was open.
#[derive(Debug, Clone)]
pub struct Lifetime {
    /// Its upgrade request.
    pub request: Request,
    /// When it was upgraded.
    pub opened: Instant,
    /// When its end was seen; `None` while it is open.
    pub closed: Option<Instant>,
}

/// A WebSocket server on a port of loopback. It is gone when it is dropped.
pub struct WebSocketServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    service: Arc<dyn Service>,
    state: Mutex<State>,
    frozen: watch::Sender<bool>,
}

struct State {
    listener: Listener,
    dials: Vec<Instant>,
    requests: Vec<Request>,
    received: Vec<Received>,
    lifetimes: Vec<Lifetime>,
    open: Vec<Arc<Connection>>,
    most_open: usize,
    tasks: Vec<JoinHandle<()>>,
}

impl WebSocketServer {
    /// Listens, and serves those who connect with `service`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(service: Arc<dyn Service>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = State {
            listener: Listener::Open,
            dials: Vec::new(),
            requests: Vec::new(),
            received: Vec::new(),
            lifetimes: Vec::new(),
            open: Vec::new(),
            most_open: 0,
            tasks: Vec::new(),
        };
        let shared =
            Arc::new(Shared { service, state: Mutex::new(state), frozen: watch::Sender::new(false) });
        let listening = tokio::spawn(accept(Arc::clone(&shared), listener));
        Self { shared, address, listening: Mutex::new(Some(listening)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    // --- Who may come in ---

    /// What happens to those who connect from now on.
    pub fn listener(&self, listener: Listener) {
        self.shared.state().listener = listener;
    }

    /// Refuses those who connect from now on.
    pub fn refuse(&self, refusal: Refusal) {
        self.listener(Listener::Refuse(refusal));
    }

    /// Lets the service judge them again.
    pub fn authorize(&self) {
        self.listener(Listener::Open);
    }

    /// Closes the port, so that the system refuses connections. Connections that are open stay.
    pub async fn stop_listening(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(task) = listening {
            task.abort();
            let _ = task.await;
        }
    }

    /// Opens the port again.
    ///
    /// # Panics
    /// If another process keeps it.
    pub async fn listen_again(&self) {
        self.stop_listening().await;
        let listener =
            until_some(Duration::from_secs(10), async || TcpListener::bind(self.address).await.ok()).await;
        let task = tokio::spawn(accept(Arc::clone(&self.shared), listener));
        *self.listening.lock().unwrap() = Some(task);
    }

    /// Stops reading, writing and accepting, while sockets stay open: as a process that was stopped.
    pub fn freeze(&self) {
        self.shared.frozen.send_replace(true);
    }

    /// Continues.
    pub fn thaw(&self) {
        self.shared.frozen.send_replace(false);
    }

    // --- What it sends ---

    /// Sends a text message to every client: JSON, or a keepalive such as `ping`.
    pub fn send_text(&self, text: &str) {
        self.each(|connection| connection.send_text(text));
    }

    /// Sends a binary message to every client.
    pub fn send_binary(&self, data: &[u8]) {
        self.each(|connection| connection.send_binary(data));
    }

    /// Sends these bytes as they are, after the frames that were sent before: a wrong frame, or part of one.
    pub fn send_bytes(&self, bytes: &[u8]) {
        self.each(|connection| connection.send_bytes(Bytes::copy_from_slice(bytes)));
    }

    /// Sends many text messages to every client, as fast as they are read, and waits until they are written.
    /// Returns how many connections took all of them.
    pub async fn blast(&self, count: usize, mut frame: impl FnMut(usize) -> String) -> usize {
        const CHUNK: usize = 256 * 1024;
        let mut open = self.connections();
        let mut next = 0;
        while next < count {
            let mut chunk = Vec::with_capacity(CHUNK + CHUNK / 8);
            while next < count && chunk.len() < CHUNK {
                frames::text(&mut chunk, frame(next).as_bytes());
                next += 1;
            }
            let chunk = Bytes::from(chunk);
            let mut still_open = Vec::new();
            for connection in open {
                if connection.send_paced(chunk.clone()).await {
                    still_open.push(connection);
                }
            }
            open = still_open;
        }
        let mut written = 0;
        for connection in open {
            written += usize::from(connection.paced_is_written().await);
        }
        written
    }

    /// Closes every connection with this code.
    pub fn close(&self, code: u16, reason: &str) {
        self.each(|connection| connection.close(code, reason));
    }

    /// Ends every TCP connection with a FIN and without a close frame, after what was sent before.
    pub fn hang_up(&self) {
        self.each(Connection::hang_up);
    }

    /// Breaks every TCP connection at once (RST).
    pub fn cut(&self) {
        self.each(Connection::cut);
    }

    // --- What it saw ---

    /// The connections that are open.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.shared.state().open.clone()
    }

    /// When TCP connections came, those that were refused included.
    pub fn dials(&self) -> Vec<Instant> {
        self.shared.state().dials.clone()
    }

    /// Every upgrade request, those that were refused included.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// How many upgrades there were.
    pub fn upgrades(&self) -> usize {
        self.shared.state().lifetimes.len()
    }

    /// All connections that there were, in the order of upgrades.
    pub fn lifetimes(&self) -> Vec<Lifetime> {
        self.shared.state().lifetimes.clone()
    }

    /// How many connections were open at a time, at most.
    pub fn most_connections(&self) -> usize {
        self.shared.state().most_open
    }

    /// Every frame that came, pings and closes included, in order for each connection.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.clone()
    }

    /// The text messages that came.
    pub fn texts(&self) -> Vec<String> {
        let state = self.shared.state();
        let texts = state.received.iter().filter_map(|received| match &received.message {
            Message::Text(text) => Some(text.to_string()),
            _ => None,
        });
        texts.collect()
    }

    /// Waits until this many connections are open.
    ///
    /// # Panics
    /// If that takes longer than `deadline`.
    #[track_caller]
    pub fn connected(&self, count: usize, deadline: Duration) -> impl Future<Output = ()> {
        eventually(deadline, async move || self.connections().len() == count)
    }

    /// Whether it is frozen, now and later.
    pub(crate) fn frozen(&self) -> watch::Receiver<bool> {
        self.shared.frozen.subscribe()
    }

    fn each(&self, act: impl Fn(&Connection)) {
        for connection in self.connections() {
            act(&connection);
        }
    }
}

impl fmt::Debug for WebSocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for WebSocketServer {
    fn drop(&mut self) {
        if let Some(task) = self.listening.lock().unwrap().take() {
            task.abort();
        }
        for task in self.shared.state().tasks.drain(..) {
            task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn while_frozen(&self) {
        // The sender lives as long as `self`.
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    fn record(&self, connection: usize, message: Message) {
        self.state().received.push(Received { connection, at: Instant::now(), message });
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        shared.while_frozen().await;
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.while_frozen().await;
        let task = tokio::spawn(serve(Arc::clone(&shared), stream));
        let mut state = shared.state();
        state.dials.push(Instant::now());
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(task);
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let listener = shared.state().listener.clone();
    match listener {
        Listener::Slam => return,
        Listener::Silent => return silence(stream).await,
        Listener::Open | Listener::Refuse(_) => {}
    }
    let mut accepted = None;
    let authorize = |request: &upgrade::Request, response: upgrade::Response| {
        let request = read_request(request);
        shared.state().requests.push(request.clone());
        let verdict = match listener {
            Listener::Refuse(refusal) => Err(refusal),
            _ => shared.service.authorize(&request),
        };
        accepted = Some(request);
        answer(verdict, response)
    };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let upgraded = tokio_tungstenite::accept_hdr_async_with_config(stream, authorize, Some(config)).await;
    if let (Ok(stream), Some(request)) = (upgraded, accepted) {
        connection::run(shared, stream.into_inner(), request, config).await;
    }
}

/// Reads and sends nothing until the client gives up.
async fn silence(mut stream: TcpStream) {
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}
