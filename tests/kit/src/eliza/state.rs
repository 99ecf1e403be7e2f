//! The server's state, and which clients it accepts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{AgentReply, ElizaDialect, ElizaOptions, ElizaVersion};
use crate::socketio::{Backend, Emitted, Rooms, emit};
use crate::websocket::{Connection, Request};

/// What the server keeps.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) options: ElizaOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) reply: AgentReply,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) joins: Vec<String>,
    ids: u64,
    pub(super) killed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) has_agent: bool,
    pub(super) messages: Vec<Value>,
}

impl State {
    pub(super) fn channel(&mut self, id: &str) -> &mut Channel {
        self.channels.entry(id.to_owned()).or_default()
    }

    pub(super) fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.ids)
    }
}

impl Server {
    pub(super) fn new(options: ElizaOptions) -> Self {
        Self { options, state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn version(&self) -> ElizaVersion {
        self.options.version
    }

    /// What messages call the message server's id.
    pub(super) fn server_field(&self) -> &'static str {
        let is_new = self.version() >= ElizaVersion::V1_6_5 && self.options.dialect == ElizaDialect::Native;
        if is_new { "messageServerId" } else { "serverId" }
    }
}

impl Backend for Arc<Server> {
    fn authorize(&self, request: &Request, auth: &Value) -> Result<(), String> {
        if self.options.dialect == ElizaDialect::Documented || self.version() < ElizaVersion::V1_6_5 {
            return Ok(());
        }
        if !auth["entityId"].as_str().is_some_and(is_uuid) {
            return Err("Valid entityId required".to_owned());
        }
        let Some(key) = &self.options.key else { return Ok(()) };
        let given = auth["apiKey"].as_str().or_else(|| request.header("x-api-key"));
        if given == Some(key) { Ok(()) } else { Err("Invalid or missing API Key".to_owned()) }
    }

    fn connected(&self, client: &Connection, auth: &Value) {
        if self.options.dialect == ElizaDialect::Documented {
            return;
        }
        if self.version() >= ElizaVersion::V1_6_5 {
            let authenticated = json!({"entityId": auth["entityId"], "timestamp": now()});
            emit(client, "authenticated", &authenticated);
        }
        let welcome = json!({"message": "Connected to Eliza", "socketId": client.id().to_string()});
        emit(client, "connection_established", &welcome);
    }

    // Acknowledgements are never sent.
    fn event(&self, rooms: &Arc<Rooms>, client: &Connection, event: &Emitted) {
        match self.options.dialect {
            ElizaDialect::Native => self.native_event(rooms, client, event),
            ElizaDialect::Documented => self.documented_event(rooms, client, event),
        }
    }
}

/// A UUID in its usual form (RFC 9562 §4).
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(place, c)| match place {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
