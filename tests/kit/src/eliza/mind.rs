//! What the server keeps, and who it lets in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::socket::Sid;

use super::logs::Filters;
use super::{AgentReply, DEFAULT_SERVER, ElizaDialect, ElizaOptions, ElizaVersion};
use crate::oxide::{Backend, Emitted, House};

/// What the server keeps.
#[derive(Debug)]
pub(super) struct Mind {
    pub(super) options: ElizaOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) reply: Option<AgentReply>,
    pub(super) servers: HashSet<String>,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) joins: Vec<String>,
    /// Who gets logs, from which level and of which agent.
    pub(super) readers: HashMap<Sid, Filters>,
    ids: u64,
    pub(super) killed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) has_agent: bool,
    pub(super) messages: Vec<Value>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            reply: Some(AgentReply::default()),
            servers: HashSet::from([DEFAULT_SERVER.to_owned()]),
            channels: BTreeMap::new(),
            joins: Vec::new(),
            readers: HashMap::new(),
            ids: 0,
            killed: false,
        }
    }
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

impl Mind {
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

impl Backend for Arc<Mind> {
    fn authorize(&self, socket: &SocketRef, auth: &Value) -> Result<(), String> {
        if self.options.dialect == ElizaDialect::Documented || self.version() < ElizaVersion::V1_6_5 {
            return Ok(());
        }
        if !auth["entityId"].as_str().is_some_and(is_uuid) {
            return Err("Valid entityId required".to_owned());
        }
        let Some(key) = &self.options.key else { return Ok(()) };
        let header = socket.req_parts().headers.get("x-api-key");
        let given = auth["apiKey"].as_str().or_else(|| header?.to_str().ok());
        if given == Some(key) { Ok(()) } else { Err("Invalid or missing API Key".to_owned()) }
    }

    fn connected(&self, socket: &SocketRef, auth: &Value) {
        if self.options.dialect == ElizaDialect::Documented {
            return;
        }
        if self.version() >= ElizaVersion::V1_6_5 {
            let authenticated = json!({"entityId": auth["entityId"], "timestamp": now()});
            let _ = socket.emit("authenticated", &authenticated);
        }
        let welcome = json!({"message": "Connected to Eliza", "socketId": socket.id.to_string()});
        let _ = socket.emit("connection_established", &welcome);
    }

    // Acknowledgements are never sent.
    fn event(&self, house: &Arc<House>, socket: &SocketRef, event: &Emitted, _: AckSender) {
        match self.options.dialect {
            ElizaDialect::Native => self.hear_native(house, socket, event),
            ElizaDialect::Documented => self.hear_documented(house, socket, event),
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
