//! The server's side of each connection: what it replies by itself, and how it reads what it receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::packet::{self, Head, Packet};
use super::{Connect, Opening, Peer, Rooms, Timers, Welcome};
use crate::websocket::{Connection, Refusal, Request, Service};

#[derive(Debug)]
pub(super) struct Script {
    /// For the tasks that ping.
    own: Weak<Script>,
    state: Mutex<State>,
    pub(super) frozen: OnceLock<watch::Receiver<bool>>,
    /// What stands for a whole service, instead of what a test wants.
    pub(super) rooms: OnceLock<Weak<Rooms>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) opening: Opening,
    pub(super) welcome: Welcome,
    pub(super) pings: bool,
    /// By connection.
    pub(super) sessions: BTreeMap<usize, Session>,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) peer: Peer,
    /// The message whose attachments are awaited.
    partial: Option<Partial>,
    ponged: Arc<Notify>,
}

#[derive(Debug)]
struct Partial {
    text: String,
    head: Head,
    missing: usize,
    attachments: Vec<Bytes>,
}

impl Service for Script {
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        let wrong = |code: u8, message: &str| {
            Err(Refusal::status(400).body(&json!({"code": code, "message": message}).to_string()))
        };
        match (request.parameter("transport"), request.parameter("EIO")) {
            (Some("websocket"), Some("4")) => Ok(None),
            (Some("websocket"), _) => wrong(5, "Unsupported protocol version"),
            _ => wrong(0, "Transport unknown"),
        }
    }

    fn connected(&self, connection: &Arc<Connection>) {
        let mut state = self.state();
        let ponged = Arc::clone(&state.sessions.entry(connection.id()).or_default().ponged);
        match &state.opening {
            Opening::Timers(timers) => {
                connection.send_text(&open_packet(connection.id(), *timers));
                if let Some(script) = self.own.upgrade() {
                    tokio::spawn(keep_alive(script, Arc::downgrade(connection), *timers, ponged));
                }
            }
            Opening::Text(text) => connection.send_text(text),
            Opening::Nothing => {}
        }
    }

    fn text(&self, connection: &Arc<Connection>, text: &str) {
        let connect = self.take(connection, |session| session.text(text));
        let Some(connect) = connect else { return };
        let rooms = self.rooms.get().and_then(Weak::upgrade);
        let welcome = match &rooms {
            Some(rooms) => rooms.welcome(connection, &connect),
            None => self.state().welcome.clone(),
        };
        if let Some(answer) = welcome.packet(&connect.namespace, connection.id()) {
            connection.send_text(&answer);
        }
        if let Some(rooms) = rooms.filter(|_| welcome == Welcome::Confirm) {
            rooms.connected(connection, &connect);
        }
    }

    fn binary(&self, connection: &Arc<Connection>, data: &Bytes) {
        self.take(connection, |session| session.binary(data));
    }
}

impl Script {
    /// One that confirms every CONNECT.
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            opening: Opening::Timers(Timers::default()),
            welcome: Welcome::Confirm,
            pings: true,
            sessions: BTreeMap::new(),
        };
        Arc::new_cyclic(|own| Self {
            own: own.clone(),
            state: Mutex::new(state),
            frozen: OnceLock::new(),
            rooms: OnceLock::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Takes in a message, and gives the frames that it completes to the service.
    fn take<T>(&self, connection: &Arc<Connection>, take: impl FnOnce(&mut Session) -> T) -> T {
        let (taken, frames) = {
            let mut state = self.state();
            let session = state.sessions.entry(connection.id()).or_default();
            let before = session.peer.frames.len();
            let taken = take(session);
            (taken, session.peer.frames[before..].to_vec())
        };
        if let Some(rooms) = self.rooms.get().and_then(Weak::upgrade) {
            frames.iter().for_each(|frame| rooms.received(connection, frame));
        }
        taken
    }

    /// Returns whether it had to wait.
    async fn thawed(&self) -> bool {
        let Some(mut frozen) = self.frozen.get().cloned() else { return false };
        let waited = *frozen.borrow();
        let _ = frozen.wait_for(|frozen| !frozen).await.is_ok();
        waited
    }
}

impl Welcome {
    fn packet(&self, namespace: &str, connection: usize) -> Option<String> {
        let (kind, body) = match self {
            Self::Confirm => (0, json!({ "sid": format!("socket-{connection}") })),
            Self::ConfirmWith(body) => (0, body.clone()),
            Self::RefuseWith(body) => (4, body.clone()),
            Self::Silence => return None,
        };
        Some(format!("4{kind}{}{body}", packet::prefix(namespace)))
    }
}

impl Session {
    /// Takes in a text message. Returns the CONNECT, if it is one.
    fn text(&mut self, text: &str) -> Option<Connect> {
        if let Some(partial) = self.partial.take() {
            // A ping's answer may stand between attachments; nothing else may.
            if text == "3" {
                self.partial = Some(partial);
            } else {
                let reason = "a text stands where an attachment is awaited".to_owned();
                self.peer.frames.push(packet::malformed(&partial.text, reason));
            }
        }
        match packet::read(text) {
            Ok(Packet::Connect { namespace, auth }) => {
                let connect = Connect { namespace, auth };
                self.peer.connects.push(connect.clone());
                return Some(connect);
            }
            Ok(Packet::Message { namespace, head, attachments }) => {
                let joined = self.peer.connects.iter().any(|connect| connect.namespace == namespace);
                if joined {
                    let partial = Partial {
                        text: text.to_owned(),
                        head,
                        missing: attachments,
                        attachments: Vec::new(),
                    };
                    self.progress(partial);
                } else {
                    let reason = format!("there was no CONNECT to the namespace {namespace}");
                    self.peer.frames.push(packet::malformed(text, reason));
                }
            }
            Ok(Packet::Pong) => {
                self.peer.pongs += 1;
                self.ponged.notify_one();
            }
            Ok(Packet::Other) => self.peer.others.push(text.to_owned()),
            Err(reason) => self.peer.frames.push(packet::malformed(text, reason)),
        }
        None
    }

    fn binary(&mut self, data: &Bytes) {
        match self.partial.take() {
            Some(mut partial) => {
                partial.missing -= 1;
                partial.attachments.push(data.clone());
                self.progress(partial);
            }
            None => {
                let reason = "no attachment is awaited".to_owned();
                self.peer.frames.push(packet::malformed(&String::from_utf8_lossy(data), reason));
            }
        }
    }

    fn progress(&mut self, partial: Partial) {
        if partial.missing > 0 {
            self.partial = Some(partial);
            return;
        }
        let frame = partial.head.with(partial.attachments);
        self.peer.frames.push(frame.unwrap_or_else(|reason| packet::malformed(&partial.text, reason)));
    }
}

fn open_packet(connection: usize, timers: Timers) -> String {
    let open = json!({
        "sid": format!("engine-{connection}"),
        "upgrades": [],
        "pingInterval": timers.ping_interval.as_millis() as u64,
        "pingTimeout": timers.ping_timeout.as_millis() as u64,
        "maxPayload": timers.max_payload,
    });
    format!("0{open}")
}

/// Pings for as long as the connection is there, and ends it when a ping is not answered: just the TCP connection, as
/// real servers do. A frozen server's clock stands still.
async fn keep_alive(script: Arc<Script>, connection: Weak<Connection>, timers: Timers, ponged: Arc<Notify>) {
    loop {
        sleep(timers.ping_interval).await;
        script.thawed().await;
        let Some(open) = connection.upgrade() else { return };
        if !script.state().pings {
            continue;
        }
        open.send_text("2");
        drop(open);
        let answered = timeout(timers.ping_timeout, ponged.notified()).await.is_ok();
        let excused = script.thawed().await || !script.state().pings;
        if !answered && !excused {
            return connection.upgrade().map(|open| open.hang_up()).unwrap_or_default();
        }
    }
}
