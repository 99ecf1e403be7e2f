//! An echo server that greets, as the one of Stream Avatars' page does: the server of a titled socket.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::websocket::{Connection, Refusal, Request, Service, WebSocketServer};

/// What it sends before it echoes anything.
const GREETING: &str = "Request served by 7811941b0e3285";

/// An echo server on loopback. What every WebSocket server can do, it can do too: close, break, refuse, hang.
#[derive(Debug)]
pub struct Echo(WebSocketServer);

impl Echo {
    /// What it sends to every client first.
    pub const GREETING: &str = GREETING;

    /// Starts it.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        Self(WebSocketServer::start(Arc::new(Parrot)).await)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("ws://{}/", self.0.address())
    }
}

impl Deref for Echo {
    type Target = WebSocketServer;

    fn deref(&self) -> &WebSocketServer {
        &self.0
    }
}

struct Parrot;

impl Service for Parrot {
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        Ok(request.subprotocols().first().map(|name| (*name).to_owned()))
    }

    fn connected(&self, connection: &Arc<Connection>) {
        connection.send_text(GREETING);
    }

    fn text(&self, connection: &Arc<Connection>, text: &str) {
        connection.send_text(text);
    }

    fn binary(&self, connection: &Arc<Connection>, data: &Bytes) {
        connection.send_binary(data);
    }
}
