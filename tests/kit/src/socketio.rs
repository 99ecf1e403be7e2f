//! A scripted Socket.IO server: it opens, confirms, refuses, keeps silent, pings, and sends what a test wants, be it wrong.

mod packet;
mod rooms;
mod script;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::websocket;
use serde_json::{Value, json};

use self::script::Script;
use crate::wait::eventually;
use crate::websocket::{Connection, Service, WebSocketServer};

pub(crate) use rooms::{Backend, Emitted, Rooms, emit};

/// A Socket.IO server on loopback. What every WebSocket server can do, it can do too; what that one sends is sent as it
/// is, without a packet around it.
#[derive(Debug)]
pub struct SocketIoServer {
    server: WebSocketServer,
    script: Arc<Script>,
}

/// How a connection begins: the open packet of Engine.IO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// With these numbers, which the server then holds to.
    Timers(Timers),
    /// This text, whatever it is. No pings follow.
    Text(String),
    /// Nothing. No pings follow.
    Nothing,
}

/// The numbers in the open packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// How long the server waits before each ping.
    pub ping_interval: Duration,
    /// How long it waits for the answer.
    pub ping_timeout: Duration,
    /// The size of the largest message that it announces to take, in bytes.
    pub max_payload: u64,
}

impl Default for Timers {
    /// The defaults of Socket.IO 4.
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
        }
    }
}

/// What a CONNECT is answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Welcome {
    /// A confirmation with a session id of its own.
    Confirm,
    /// A confirmation with this object, such as `{"sid": …, "pid": …}` where recovery is offered.
    ConfirmWith(Value),
    /// A refusal with this object; the connection stays open, as real servers leave it. See [`Welcome::refuse`].
    RefuseWith(Value),
    /// Nothing.
    Silence,
}

impl Welcome {
    /// A refusal with these words.
    pub fn refuse(message: &str) -> Self {
        Self::RefuseWith(json!({ "message": message }))
    }
}

/// What came over one connection, read.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Every CONNECT.
    pub connects: Vec<Connect>,
    /// Events and acknowledgements, and packets that are wrong.
    pub frames: Vec<Frame>,
    /// How often it answered a ping.
    pub pongs: usize,
    /// Other packets of the protocol as they came, such as `41`, `1` or `3probe`.
    pub others: Vec<String>,
}

/// A CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// The namespace.
    pub namespace: String,
    /// What came with it.
    pub auth: Option<Value>,
}

impl SocketIoServer {
    /// Starts one that confirms every CONNECT.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        let script = Script::new();
        let server = WebSocketServer::start(Arc::clone(&script) as Arc<dyn Service>).await;
        let _ = script.frozen.set(server.frozen());
        Self { server, script }
    }

    /// What a client is given as its URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address())
    }

    // --- How it greets ---

    /// How connections begin from now on.
    pub fn opening(&self, opening: Opening) {
        self.script.state().opening = opening;
    }

    /// The numbers in the open packet from now on.
    pub fn timers(&self, timers: Timers) {
        self.opening(Opening::Timers(timers));
    }

    /// What a CONNECT is answered with from now on.
    pub fn welcome(&self, welcome: Welcome) {
        self.script.state().welcome = welcome;
    }

    /// Whether it sends pings, on connections that are open too. Without them it drops no one.
    pub fn pings(&self, on: bool) {
        self.script.state().pings = on;
    }

    // --- What it sends ---

    /// Sends a frame to everyone, in the namespace that they are connected to. A malformed one is sent as it is.
    pub fn send(&self, frame: &Frame) {
        for connection in self.connections() {
            self.send_over(&connection, frame);
        }
    }

    /// Sends a frame over one connection.
    pub fn send_over(&self, connection: &Connection, frame: &Frame) {
        for message in packet::write(frame, &self.namespace(connection.id())) {
            match message {
                websocket::Frame::Text(text) => connection.send_text(&String::from_utf8_lossy(&text)),
                websocket::Frame::Binary(bytes) => connection.send_binary(&bytes),
            }
        }
    }

    /// Disconnects everyone from their namespace (`41`), and leaves the connections open.
    pub fn disconnect(&self) {
        for connection in self.connections() {
            connection.send_text(&format!("41{}", packet::prefix(&self.namespace(connection.id()))));
        }
    }

    // --- What it saw ---

    /// What came over a connection, by its number.
    pub fn peer(&self, connection: usize) -> Peer {
        self.script.state().sessions.get(&connection).map(|session| session.peer.clone()).unwrap_or_default()
    }

    /// What came over every connection, in the order of upgrades.
    pub fn peers(&self) -> Vec<Peer> {
        self.script.state().sessions.values().map(|session| session.peer.clone()).collect()
    }

    /// The events and acknowledgements that came, connection by connection.
    pub fn frames(&self) -> Vec<Frame> {
        self.peers().into_iter().flat_map(|peer| peer.frames).collect()
    }

    /// Waits until this many connections are open and have sent a CONNECT, which has been answered.
    ///
    /// # Panics
    /// If that takes longer than `deadline`.
    #[track_caller]
    pub fn joined(&self, count: usize, deadline: Duration) -> impl Future<Output = ()> {
        let joined = move |connection: &Arc<Connection>| !self.peer(connection.id()).connects.is_empty();
        eventually(deadline, async move || {
            let open = self.connections();
            open.len() == count && open.iter().all(joined)
        })
    }

    fn namespace(&self, connection: usize) -> String {
        let state = self.script.state();
        let connect = state.sessions.get(&connection).and_then(|session| session.peer.connects.last());
        connect.map_or_else(|| "/".to_owned(), |connect| connect.namespace.clone())
    }
}

impl Deref for SocketIoServer {
    type Target = WebSocketServer;

    fn deref(&self) -> &WebSocketServer {
        &self.server
    }
}
