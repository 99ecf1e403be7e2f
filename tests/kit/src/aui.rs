//! AUI's socket for messages to tasks, in its first generation, as its page and its own library show it.
//!
//! Taken from the facts: the key stands in the query or in a header, and is looked at only after the upgrade, when a bad
//! one closes the connection with 1008; an answer comes in updates, in one envelope or the other, and then whole; neither
//! the whole nor the plain envelope names its task; an error is sent and closes the connection, with 1008, or with 1011
//! where it is the service's own.
//!
//! Not known, and made up: the texts of errors, that an error of the service's own is one with a status from 500, whether
//! several messages of one connection are answered side by side (here: yes, unless they are refused), what cards there
//! are, and that any task exists.

mod answer;
mod state;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use self::state::Server;
use crate::websocket::WebSocketServer;

pub use answer::{AuiAnswer, AuiEnvelope};

/// Where it listens for messages.
const PATH: &str = "/api/v1/external/session";

/// A network of agents on AUI, on loopback. What every [`WebSocketServer`] can do, it can do too.
#[derive(Debug)]
pub struct Aui {
    socket: WebSocketServer,
    server: Arc<Server>,
}

/// What a client with a bad key is sent before it is closed with 1008.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuiRefusal {
    /// Nothing.
    #[default]
    Close,
    /// An error with status 401.
    Error,
    /// The same, which repeats the key that was given.
    ErrorWithKey,
}

/// A message that came, and what became of it.
#[derive(Debug, Clone)]
pub struct AuiTurn {
    /// Which connection it came over.
    pub connection: usize,
    /// Its task.
    pub task: String,
    /// Its text.
    pub text: String,
    /// All of it.
    pub body: Value,
    /// When it came.
    pub at: Instant,
    /// How many updates were sent.
    pub updates: usize,
    /// The final message, once it was sent.
    pub answer: Option<Value>,
    /// Whether nothing more will be sent for it.
    pub is_over: bool,
}

impl Aui {
    /// Starts one with this key, whose agent echoes what it receives.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(key: &str) -> Self {
        let server = Arc::new(Server::new(key));
        let socket = WebSocketServer::start(Arc::clone(&server) as Arc<_>).await;
        Self { socket, server }
    }

    /// What a client is given as its URL.
    pub fn url(&self) -> String {
        format!("ws://{}{PATH}", self.address())
    }

    /// The key that it was started with.
    pub fn api_key(&self) -> &str {
        self.server.key()
    }

    // --- How it behaves ---

    /// What a client with a bad key is sent from now on.
    pub fn refuses(&self, refusal: AuiRefusal) {
        self.server.state().refusal = refusal;
    }

    /// A message over a connection with another one under way is an error from now on.
    pub fn one_at_a_time(&self) {
        self.server.state().one_at_a_time = true;
    }

    /// How messages are answered from now on.
    pub fn answers(&self, answer: AuiAnswer) {
        self.server.state().answer = answer;
    }

    /// How messages of this task are answered from now on.
    pub fn answers_in(&self, task: &str, answer: AuiAnswer) {
        self.server.state().answers.insert(task.to_owned(), answer);
    }

    /// The agent sends a message without a question, over the last connection of this task if it is open. Returns the message.
    pub fn post(&self, task: &str, text: &str) -> Option<Value> {
        let last = self.turns().iter().rfind(|turn| turn.task == task)?.connection;
        let open = self.connections().into_iter().find(|connection| connection.id() == last)?;
        let message = self.server.state().new_message(text);
        open.send_text(&message.to_string());
        Some(message)
    }

    // --- What it saw ---

    /// The agent's id.
    pub fn agent(&self) -> &'static str {
        answer::AGENT
    }

    /// Every message that was taken, in the order in which they came.
    pub fn turns(&self) -> Vec<AuiTurn> {
        self.server.state().turns.clone()
    }
}

impl Deref for Aui {
    type Target = WebSocketServer;

    fn deref(&self) -> &WebSocketServer {
        &self.socket
    }
}
