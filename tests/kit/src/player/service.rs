//! The service of a transcript that is played, for each transport.

use std::sync::Arc;

use pontoon_sdk::{socketio, websocket};
use pontoon_transcript::FrameText;
use serde_json::Value;
use tokio_tungstenite::tungstenite;

use super::LinkOf;
use crate::socketio::SocketIoServer;
use crate::websocket::{Connection, Refusal, Request, Service, WebSocketServer};

/// One transport, as a transcript is played over it.
pub(super) trait ScriptedService {
    /// What transcripts write.
    type Frame: FrameText;

    fn server(&self) -> &WebSocketServer;
    /// The scheme of the URL that the connector is given.
    fn scheme(&self) -> &'static str;
    /// Whether the handshake of this connection is complete, so that frames can be sent.
    fn is_made(&self, connection: usize) -> bool;
    /// Whether connections can be told apart by their links.
    fn knows_links(&self) -> bool;
    /// The link that a connection belongs to, if it can be told from what came over it.
    fn link_of(&self, connection: usize) -> Option<String>;
    /// Sends what a transcript writes.
    fn send(&self, connection: &Connection, text: &str) -> Result<(), String>;
    /// The frames received over this connection.
    fn received(&self, connection: usize) -> Vec<Self::Frame>;
}

/// Messages of a WebSocket.
pub(super) struct WebSocketScript(WebSocketServer);

impl WebSocketScript {
    pub(super) async fn start() -> Self {
        Self(WebSocketServer::start(Arc::new(Quiet)).await)
    }
}

/// Sends only what the transcript says.
struct Quiet;

impl Service for Quiet {
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        Ok(request.subprotocols().first().map(|first| (*first).to_owned()))
    }

    fn text(&self, _: &Arc<Connection>, _: &str) {}
}

impl ScriptedService for WebSocketScript {
    type Frame = websocket::Frame;

    fn server(&self) -> &WebSocketServer {
        &self.0
    }

    fn scheme(&self) -> &'static str {
        "ws"
    }

    fn is_made(&self, _: usize) -> bool {
        true
    }

    fn knows_links(&self) -> bool {
        false
    }

    fn link_of(&self, _: usize) -> Option<String> {
        None
    }

    fn send(&self, connection: &Connection, text: &str) -> Result<(), String> {
        match websocket::Frame::from_text(text)? {
            websocket::Frame::Text(bytes) => connection.send_text(&String::from_utf8_lossy(&bytes)),
            websocket::Frame::Binary(bytes) => connection.send_binary(&bytes),
        }
        Ok(())
    }

    fn received(&self, connection: usize) -> Vec<websocket::Frame> {
        let received = self.0.received().into_iter().filter(|received| received.connection == connection);
        let frames = received.filter_map(|received| match received.message {
            tungstenite::Message::Text(text) => Some(websocket::Frame::text(text.as_str())),
            tungstenite::Message::Binary(bytes) => Some(websocket::Frame::Binary(bytes)),
            _ => None,
        });
        frames.collect()
    }
}

/// SocketIoScript of Socket.IO.
pub(super) struct SocketIoScript {
    server: SocketIoServer,
    link_of: Option<LinkOf>,
    config: Value,
}

impl SocketIoScript {
    pub(super) async fn start(link_of: Option<LinkOf>, config: &Value) -> Self {
        Self { server: SocketIoServer::start().await, link_of, config: config.clone() }
    }
}

impl ScriptedService for SocketIoScript {
    type Frame = socketio::Frame;

    fn server(&self) -> &WebSocketServer {
        &self.server
    }

    fn scheme(&self) -> &'static str {
        "http"
    }

    fn is_made(&self, connection: usize) -> bool {
        !self.server.peer(connection).connects.is_empty()
    }

    fn knows_links(&self) -> bool {
        self.link_of.is_some()
    }

    fn link_of(&self, connection: usize) -> Option<String> {
        self.link_of?(&self.config, &self.received(connection))
    }

    fn send(&self, connection: &Connection, text: &str) -> Result<(), String> {
        match text.strip_prefix("packet ") {
            Some(packet) => connection.send_text(packet),
            None => self.server.send_over(connection, &socketio::Frame::from_text(text)?),
        }
        Ok(())
    }

    fn received(&self, connection: usize) -> Vec<socketio::Frame> {
        self.server.peer(connection).frames
    }
}
