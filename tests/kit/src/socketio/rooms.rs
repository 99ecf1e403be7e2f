//! Rooms on a Socket.IO server, for simulators of whole services: what clients emit is given to the service, and what it
//! emits goes to the clients that have joined a room.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use pontoon_sdk::socketio::Frame;
use serde_json::{Value, json};

use super::{Connect, SocketIoServer, Timers, Welcome};
use crate::websocket::{Connection, Request};

/// What a service does with what its clients emit. It is called in the order of each connection.
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Judges a CONNECT.
    ///
    /// # Errors
    /// The message of the refusal.
    fn authorize(&self, _request: &Request, _auth: &Value) -> Result<(), String> {
        Ok(())
    }

    /// A CONNECT was confirmed.
    fn connected(&self, _client: &Connection, _auth: &Value) {}

    /// A client emitted an event.
    fn event(&self, rooms: &Arc<Rooms>, client: &Connection, event: &Emitted);
}

/// An event that a client emitted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Emitted {
    pub(crate) name: String,
    pub(crate) args: Vec<Value>,
    /// The number of the acknowledgement, if it asks for one.
    ack: Option<u64>,
}

impl Emitted {
    /// The first argument, or `null`.
    pub(crate) fn payload(&self) -> &Value {
        self.args.first().unwrap_or(&Value::Null)
    }

    pub(crate) fn asks_for_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Acknowledges it, if it asks for that.
    pub(crate) fn acknowledge(&self, client: &Connection, answer: &Value) {
        if let Some(number) = self.ack {
            client.send_text(&format!("43{number}{}", json!([answer])));
        }
    }
}

/// Emits an event to one client.
pub(crate) fn emit(client: &Connection, name: &str, payload: &Value) {
    client.send_text(&format!("42{}", json!([name, payload])));
}

/// The server, and which of its connections are in which rooms.
#[derive(Debug)]
pub(crate) struct Rooms {
    server: SocketIoServer,
    backend: Box<dyn Backend>,
    members: Mutex<BTreeMap<String, BTreeSet<usize>>>,
}

impl Rooms {
    /// Starts a server that gives everything to this service.
    pub(crate) async fn start(backend: impl Backend, timers: Timers) -> Arc<Self> {
        let server = SocketIoServer::start().await;
        server.timers(timers);
        let rooms = Arc::new(Self { server, backend: Box::new(backend), members: Mutex::default() });
        let _ = rooms.server.script.rooms.set(Arc::downgrade(&rooms));
        rooms
    }

    pub(crate) fn server(&self) -> &SocketIoServer {
        &self.server
    }

    pub(crate) fn join(&self, client: &Connection, room: &str) {
        self.rooms().entry(room.to_owned()).or_default().insert(client.id());
    }

    pub(crate) fn leave(&self, client: &Connection, room: &str) {
        self.rooms().entry(room.to_owned()).or_default().remove(&client.id());
    }

    /// Emits to the clients in a room, but for one.
    pub(crate) fn emit(&self, room: &str, but: Option<&Connection>, name: &str, payload: &Value) {
        for client in self.clients(room) {
            if but.is_none_or(|but| but.id() != client.id()) {
                emit(&client, name, payload);
            }
        }
    }

    /// How many clients are in a room.
    pub(crate) fn members(&self, room: &str) -> usize {
        self.clients(room).len()
    }

    /// The process dies: connections break, and the system refuses new ones.
    pub(crate) fn die(self: &Arc<Self>) {
        let rooms = Arc::clone(self);
        tokio::spawn(async move {
            rooms.server.stop_listening().await;
            rooms.server.cut();
        });
    }

    /// What a CONNECT is answered with.
    pub(super) fn welcome(&self, client: &Connection, connect: &Connect) -> Welcome {
        let auth = connect.auth.clone().unwrap_or_default();
        match self.backend.authorize(client.request(), &auth) {
            Ok(()) => Welcome::Confirm,
            Err(message) => Welcome::refuse(&message),
        }
    }

    pub(super) fn connected(&self, client: &Connection, connect: &Connect) {
        self.backend.connected(client, &connect.auth.clone().unwrap_or_default());
    }

    pub(super) fn received(self: &Arc<Self>, client: &Connection, frame: &Frame) {
        if let Frame::Event(event) = frame {
            let args = event.args.values().iter().map(|arg| arg.parse().unwrap_or_default());
            let event = Emitted { name: event.name.clone(), args: args.collect(), ack: event.ack };
            self.backend.event(self, client, &event);
        }
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<usize>>> {
        self.members.lock().unwrap()
    }

    fn clients(&self, room: &str) -> Vec<Arc<Connection>> {
        let members = self.rooms().get(room).cloned().unwrap_or_default();
        let open = self.server.connections().into_iter();
        open.filter(|connection| members.contains(&connection.id())).collect()
    }
}
