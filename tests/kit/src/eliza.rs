//! ElizaOS as its servers really are (`@elizaos/server` 1.2.0 to 1.7.2), or as its documentation says it is.
//!
//! Taken from the facts: who is let in and in what words not; both framings of the native messages; which field names the
//! server; rooms joined with two events that say the same; the sender's own message with `clientMessageId` and then
//! `messageAck`; the agent's answer with `roomId` and `serverId` only, from 1.7 on in chunks before it comes whole under
//! the same id, and up to 1.4 followed by `messageComplete`; `messageError` without a word on what it belongs to. Acknowledgements are never sent, unknown events are ignored without a word, rooms are lost with
//! the connection, and an event without a payload kills 1.2.0.
//!
//! Not known, and made up: the words in `message` of the joins, the order in which entity and key are checked, and what a
//! server of the documentation says by itself when a client connects (here: nothing).

mod agent;
mod documented;
mod native;
mod state;

use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Value, json};

use self::state::Server;
use crate::socketio::{Rooms, SocketIoServer, Timers};

pub use agent::AgentReply;

/// The server that exists without being made.
const DEFAULT_SERVER: &str = "00000000-0000-0000-0000-000000000000";
/// The only agent there is.
const AGENT: &str = "b850bc30-45f8-0041-a00a-83df46d8555d";
const AGENT_NAME: &str = "Eliza";

/// An ElizaOS server on loopback. What every [`SocketIoServer`] can do, it can do too.
#[derive(Debug)]
pub struct Eliza {
    rooms: Arc<Rooms>,
    server: Arc<Server>,
}

/// What release it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ElizaVersion {
    /// 1.2.0: it dies of an event without a payload.
    V1_2,
    /// 1.3.2 and 1.4.2.
    V1_4,
    /// 1.6.5: it wants an entity, and a key if it has one.
    V1_6_5,
    /// 1.7.2: it streams.
    #[default]
    V1_7_2,
}

/// What it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ElizaDialect {
    /// What real servers speak.
    #[default]
    Native,
    /// What the documentation says: `join`, `leave`, `message`, `request-world-state`.
    Documented,
}

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct ElizaOptions {
    version: ElizaVersion,
    dialect: ElizaDialect,
    key: Option<String>,
}

impl ElizaOptions {
    /// Which release.
    #[must_use]
    pub fn version(mut self, version: ElizaVersion) -> Self {
        self.version = version;
        self
    }

    /// What it speaks.
    #[must_use]
    pub fn dialect(mut self, dialect: ElizaDialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The key that clients must give (`SERVER_API_KEY`), which only releases from 1.6.5 on look at.
    #[must_use]
    pub fn api_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(self) -> Eliza {
        let server = Arc::new(Server::new(self));
        let rooms = Rooms::start(Arc::clone(&server), Timers::default()).await;
        Eliza { rooms, server }
    }
}

impl Eliza {
    /// Starts the newest release, which speaks natively and has no key.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// How else it can be started.
    pub fn options() -> ElizaOptions {
        ElizaOptions::default()
    }

    /// The id of its only agent.
    pub fn agent(&self) -> &'static str {
        AGENT
    }

    /// The key that it was started with.
    pub fn api_key(&self) -> Option<&str> {
        self.server.options.key.as_deref()
    }

    // --- What it knows ---

    /// How the agent answers from now on.
    pub fn replies(&self, reply: AgentReply) {
        self.server.state().reply = reply;
    }

    /// The agent takes part in a channel, as after `POST …/channels/:id/agents`.
    pub fn add_agent(&self, channel: &str) {
        self.server.state().channel(channel).has_agent = true;
    }

    // --- What others send ---

    /// Another client sends a message to a channel. Returns the message's id.
    pub fn post(&self, channel: &str, sender: &str, text: &str) -> String {
        let (id, message) = self.server.user_message(channel, sender, &json!(text), &json!({}));
        self.rooms.emit(channel, None, "messageBroadcast", &message);
        id
    }

    // --- What it saw ---

    /// How often a channel was joined, by all connections together.
    pub fn joins(&self, channel: &str) -> usize {
        self.server.state().joins.iter().filter(|joined| *joined == channel).count()
    }

    /// How many connections are in a channel.
    pub fn members(&self, channel: &str) -> usize {
        self.rooms.members(channel)
    }

    /// The messages of a channel, as they were broadcast.
    pub fn messages(&self, channel: &str) -> Vec<Value> {
        self.server.state().channels.get(channel).map(|channel| channel.messages.clone()).unwrap_or_default()
    }

    /// Whether a client killed it.
    pub fn was_killed(&self) -> bool {
        self.server.state().killed
    }
}

impl Deref for Eliza {
    type Target = SocketIoServer;

    fn deref(&self) -> &SocketIoServer {
        self.rooms.server()
    }
}
