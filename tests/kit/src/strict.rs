//! Strict services of public protocols: what is sent in a wrong order, or twice, ends the connection with the documented code.
//!
//! A [`Protocol`] says what a service sends and expects, as its public documentation does; [`Strict`] is the server.

mod protocols;
mod texts;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

pub use self::protocols::{DISCORD, GRAPHQL, HOME_ASSISTANT, JSON_RPC, MARKET, PHOENIX, PUSHER, SIGNALR};
pub use self::texts::{EVENTSUB, IRC, SLACK, STOMP};
use crate::wait::until_some;
use crate::websocket::{Connection, Refusal, Request, Service, WebSocketServer};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// The token that is accepted.
const TOKEN: &str = "hunter2";

/// What a service of a protocol does.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// The folder of its recipe.
    pub recipe: &'static str,
    /// What it sends to one that has connected.
    opened: fn(&mut Peer),
    /// What it does about a message; one that is not JSON is a text.
    message: fn(&mut Peer, &Value),
    /// The message by which something with this id happens.
    happens: fn(&mut Shared, &str) -> String,
    /// How it refuses the opening request of a wrong token, if it does.
    refuses: Option<fn(&Request) -> bool>,
}

/// What a service knows of all connections.
#[derive(Debug, Default)]
pub struct Shared {
    /// How many have signed in.
    pub sign_ins: usize,
    /// How many have resumed a session.
    pub resumed: usize,
    /// What was against the protocol.
    pub breaches: Vec<String>,
    /// What was sent and is not acknowledged yet, where a service wants that.
    pub unacknowledged: Vec<String>,
    refuses: bool,
    sequence: u64,
    missed: Vec<String>,
}

/// One connection, while a message of it is handled.
pub struct Peer<'a> {
    shared: &'a mut Shared,
    connection: &'a Connection,
    step: &'a mut usize,
}

impl Peer<'_> {
    fn send(&mut self, message: &Value) {
        self.connection.send_text(&message.to_string());
    }

    /// Sign-in, with this token; `false` if that is wrong.
    fn signs_in(&mut self, token: &Value) -> bool {
        let good = !self.shared.refuses && token.as_str().is_some_and(|token| token.ends_with(TOKEN));
        self.shared.sign_ins += usize::from(good);
        *self.step = 1;
        good
    }

    /// An acknowledgement; of what was never sent, or twice, it is against the protocol.
    fn acknowledged(&mut self, id: &str) {
        let known = self.shared.unacknowledged.iter().position(|known| known == id);
        match known {
            Some(place) => drop(self.shared.unacknowledged.remove(place)),
            None => self.breach(1002, &format!("{id} was not to be acknowledged")),
        }
    }

    /// Ends the connection as one that is against the protocol.
    fn breach(&mut self, code: u16, reason: &str) {
        self.shared.breaches.push(format!("{code} {reason}"));
        self.connection.close(code, reason);
    }
}

/// A strict service, on a port of loopback.
pub struct Strict {
    server: WebSocketServer,
    service: Arc<StrictService>,
}

struct StrictService {
    protocol: Protocol,
    state: Mutex<(Shared, HashMap<usize, usize>)>,
}

impl StrictService {
    fn state(&self) -> MutexGuard<'_, (Shared, HashMap<usize, usize>)> {
        self.state.lock().unwrap()
    }

    fn with(&self, connection: &Connection, act: impl FnOnce(&mut Peer)) {
        let (shared, steps) = &mut *self.state();
        act(&mut Peer { shared, connection, step: steps.entry(connection.id()).or_default() });
    }
}

impl Service for StrictService {
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        let (shared, _) = &*self.state();
        match self.protocol.refuses {
            Some(wrong) if shared.refuses || wrong(request) => Err(Refusal::status(403)),
            _ => Ok(request.subprotocols().first().map(|first| (*first).to_owned())),
        }
    }

    fn connected(&self, connection: &Arc<Connection>) {
        self.with(connection, self.protocol.opened);
    }

    fn text(&self, connection: &Arc<Connection>, text: &str) {
        for record in text.split('\u{1e}').filter(|record| !record.is_empty()) {
            let message = serde_json::from_str(record).unwrap_or_else(|_| record.into());
            self.with(connection, |peer| (self.protocol.message)(peer, &message));
        }
    }
}

impl Strict {
    /// Listens.
    pub async fn start(protocol: Protocol) -> Self {
        let service = Arc::new(StrictService { protocol, state: Mutex::default() });
        let server = WebSocketServer::start(service.clone()).await;
        Self { server, service }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("ws://{}/", self.server.address())
    }

    /// Something with this id happens, and is sent to all who are connected.
    pub fn happens(&self, id: &str) {
        let message = (self.service.protocol.happens)(&mut self.service.state().0, id);
        self.server.send_text(&message);
    }

    /// An event while no client is connected; it is sent to clients that resume.
    pub fn is_missed(&self, id: &str) {
        let shared = &mut self.service.state().0;
        let message = (self.service.protocol.happens)(shared, id);
        shared.missed.push(message);
    }

    /// Refuses every token from now on, or no longer.
    pub fn refuse(&self, refuses: bool) {
        self.service.state().0.refuses = refuses;
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        self.server.cut();
    }

    /// Waits until what is known of all connections is as wanted.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn until(&self, wanted: impl Fn(&Shared) -> bool) {
        until_some(DEADLINE, async || wanted(&self.service.state().0).then_some(())).await;
    }

    /// How many have signed in.
    pub fn sign_ins(&self) -> usize {
        self.service.state().0.sign_ins
    }

    /// What was against the protocol.
    pub fn breaches(&self) -> Vec<String> {
        self.service.state().0.breaches.clone()
    }
}
