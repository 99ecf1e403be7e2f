//! ElizaOS as its servers really are (`@elizaos/server` 1.2.0 to 1.7.2), or as its documentation says it is.
//!
//! Taken from the facts: who is let in and in what words not; both framings of the native messages; which field names the
//! server; rooms joined with two events that say the same; the sender's own message with `clientMessageId` and then
//! `messageAck`; the agent's answer with `roomId` and `serverId` only, from 1.7 on in chunks before it comes whole under
//! the same id, and up to 1.4 followed by `messageComplete`; `messageError` without a word on what it belongs to; logs for
//! those who subscribe. Acknowledgements are never sent, unknown events are ignored without a word, rooms are lost with
//! the connection, and an event without a payload kills 1.2.0.
//!
//! Not known, and made up: the words in `message` of the joins, the order in which entity and key are checked, and what a
//! server of the documentation says by itself when a client connects (here: nothing).

mod agent;
mod documented;
mod logs;
mod mind;
mod native;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::mind::Mind;
use crate::oxide::OxideServer;
use crate::socketio::Timers;

pub use agent::AgentReply;

/// The server that exists without being made.
const DEFAULT_SERVER: &str = "00000000-0000-0000-0000-000000000000";
/// The only agent there is.
const AGENT: &str = "b850bc30-45f8-0041-a00a-83df46d8555d";
const AGENT_NAME: &str = "Eliza";

/// An ElizaOS server on loopback. What every [`OxideServer`] can do, it can do too.
#[derive(Debug)]
pub struct Eliza {
    server: OxideServer,
    mind: Arc<Mind>,
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
    timers: Timers,
    key: Option<String>,
    replay: usize,
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

    /// How often it pings.
    #[must_use]
    pub fn timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// The key that clients must give (`SERVER_API_KEY`), which only releases from 1.6.5 on look at.
    #[must_use]
    pub fn api_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Those who join are told this many old messages again, as one development state of the server does.
    #[must_use]
    pub fn replays(mut self, count: usize) -> Self {
        self.replay = count;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(self) -> Eliza {
        // Releases that do not say otherwise have the library's default.
        let patience = if self.version >= ElizaVersion::V1_6_5 { 10 } else { 45 };
        let timers = self.timers;
        let mind = Arc::new(Mind::new(self));
        let server = OxideServer::start(Arc::clone(&mind), timers, Duration::from_secs(patience)).await;
        Eliza { server, mind }
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
        self.mind.options.key.as_deref()
    }

    // --- What it knows ---

    /// How the agent answers from now on.
    pub fn replies(&self, reply: AgentReply) {
        self.mind.state().reply = Some(reply);
    }

    /// The agent answers nothing from now on.
    pub fn is_mute(&self) {
        self.mind.state().reply = None;
    }

    /// The agent takes part in a channel, as after `POST …/channels/:id/agents`.
    pub fn add_agent(&self, channel: &str) {
        self.mind.state().channel(channel).has_agent = true;
    }

    /// There is another message server.
    pub fn add_server(&self, id: &str) {
        self.mind.state().servers.insert(id.to_owned());
    }

    // --- What is said ---

    /// Somebody else says something in a channel. Returns the message's id.
    pub fn say(&self, channel: &str, sender: &str, text: &str) -> String {
        let (id, message) = self.mind.user_message(channel, sender, &json!(text), &json!({}));
        self.tell(channel, &message);
        id
    }

    /// The agent says something in a channel, unasked. Returns the message's id.
    pub fn agent_says(&self, channel: &str, text: &str) -> String {
        let (id, message) = self.mind.agent_message(channel, None, text);
        self.tell(channel, &message);
        id
    }

    /// The agent tells of something that it does, or of how it goes on under the same id. Returns the id.
    pub fn acts(&self, channel: &str, id: Option<&str>, text: &str) -> String {
        let (id, message) = self.mind.action_message(channel, id, text);
        self.tell(channel, &message);
        id
    }

    /// A message is there no more.
    pub fn delete(&self, channel: &str, message: &str) {
        let payload = json!({"messageId": message, "channelId": channel});
        self.emit_to(channel, "messageDeleted", &payload);
    }

    /// A channel's messages are there no more.
    pub fn clear(&self, channel: &str) {
        self.mind.state().channel(channel).messages.clear();
        self.emit_to(channel, "channelCleared", &json!({ "channelId": channel }));
    }

    /// A channel is there no more.
    pub fn delete_channel(&self, channel: &str) {
        self.mind.state().channels.remove(channel);
        self.emit_to(channel, "channelDeleted", &json!({ "channelId": channel }));
    }

    /// A channel has changed.
    pub fn update_channel(&self, channel: &str, updates: &Value) {
        let payload = json!({"channelId": channel, "updates": updates});
        self.emit_to(channel, "channelUpdated", &payload);
    }

    /// The server logs something: a level as the server names it (`info`), and what is said.
    pub fn log(&self, level: &str, text: &str) {
        self.mind.log(self.server.house(), level, text);
    }

    fn tell(&self, channel: &str, message: &Value) {
        self.emit_to(channel, "messageBroadcast", message);
    }

    // --- What it saw ---

    /// How often a channel was joined, by all connections together.
    pub fn joins(&self, channel: &str) -> usize {
        self.mind.state().joins.iter().filter(|joined| *joined == channel).count()
    }

    /// How many connections are in a channel.
    pub fn members(&self, channel: &str) -> usize {
        self.server.house().members(channel)
    }

    /// The messages of a channel, as they were broadcast.
    pub fn messages(&self, channel: &str) -> Vec<Value> {
        self.mind.state().channels.get(channel).map(|channel| channel.messages.clone()).unwrap_or_default()
    }

    /// Whether a client killed it. [`OxideServer::restart`] brings it back.
    pub fn was_killed(&self) -> bool {
        self.mind.state().killed
    }
}

impl Deref for Eliza {
    type Target = OxideServer;

    fn deref(&self) -> &OxideServer {
        &self.server
    }
}

#[cfg(test)]
mod tests;
