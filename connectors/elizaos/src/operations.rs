//! What callers can ask for. Bodies are checked before anything is sent: an event that a server does not expect, such as
//! one without a payload, can end it.

use std::collections::BTreeMap;

use pontoon_sdk::{Code, DeliveryLevel, Error, Result, operations};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config::{Dialect, id, optional_id};
use crate::uuid::Uuid;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Joins a room, now and after every reconnect.
        Join(Membership) = "join", Acked, idempotent;
        /// Leaves a room.
        Leave(Membership) = "leave", Sent, idempotent;
        /// Writes a message to a room; with Pontoon-Stream the agent's answer comes in parts.
        Message(Message) = "message", Acked;
        /// Writes a text to a room, as for every service.
        MessageSend(MessageSend) = "message.send", Acked;
        /// Requests the state of a room, which comes as an event.
        WorldState(WorldState) = "request-world-state", Sent, idempotent;
        /// Subscribes to the server's log.
        Subscribe = "logs.subscribe", Acked, idempotent;
        /// Ends that subscription.
        Unsubscribe = "logs.unsubscribe", Acked, idempotent;
        /// Narrows which lines of the log are sent.
        Filter(Filter) = "logs.filter", Acked, idempotent;
    }
}

/// The body of `join` and `leave`, which the documented dialect sends as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Membership {
    /// The room.
    #[serde(deserialize_with = "id")]
    pub room_id: String,
    /// The agent, if the room is a conversation with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Uuid>,
}

/// Fields that are sent with the digits that the caller wrote.
pub(crate) type Metadata = BTreeMap<String, Box<RawValue>>;

/// The body of `message`, which the documented dialect sends as it is.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Message {
    /// The text.
    #[serde(deserialize_with = "text")]
    pub text: String,
    /// The room; a UUID.
    #[serde(deserialize_with = "uuid_text")]
    pub room_id: String,
    /// The entity that writes it; the instance's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Uuid>,
    /// The name that others see; the setting `name` if absent.
    #[serde(default, deserialize_with = "optional_id", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The caller's own id of it, which the service repeats to the sender; generated if absent.
    #[serde(default, deserialize_with = "optional_id", skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What the service keeps with it.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Files and the like, in the service's own form.
    #[schemars(with = "Option<Vec<Value>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Vec<Box<RawValue>>>,
    /// Where it comes from, in a word of the caller's.
    #[serde(default, deserialize_with = "optional_id", skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The body of `message.send`, which is the same for every service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageSend {
    /// The room; a UUID.
    #[serde(deserialize_with = "uuid_text")]
    channel: String,
    /// The text.
    #[serde(deserialize_with = "text")]
    text: String,
}

impl From<MessageSend> for Message {
    fn from(MessageSend { channel, text }: MessageSend) -> Self {
        Self { room_id: channel, text, ..Self::default() }
    }
}

/// The body of `request-world-state`, which is sent as it is.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorldState {
    /// The room.
    #[serde(deserialize_with = "id")]
    room_id: String,
}

/// The body of `logs.filter`: an agent's name, a level, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// Only lines of the agent with this name; "all" for those of every one.
    #[serde(default, deserialize_with = "optional_id", skip_serializing_if = "Option::is_none")]
    agent_name: Option<String>,
    /// Only lines of this level and above: trace, debug, success, progress, log, info, warn, error, fatal; or "all".
    #[serde(default, deserialize_with = "level", skip_serializing_if = "Option::is_none")]
    level: Option<String>,
}

impl Filter {
    /// Refuses a filter without fields.
    ///
    /// # Errors
    /// `Rejected` with 400.
    pub(crate) fn check(&self) -> Result<()> {
        if *self != Self::default() {
            return Ok(());
        }
        let text = "there is nothing to filter by; give agentName, level, or both";
        Err(Error::rejected(Code::BadBody, text).at(""))
    }

    /// This one with the fields of another over it, as the server merges them.
    pub(crate) fn with(self, other: Self) -> Self {
        Self { agent_name: other.agent_name.or(self.agent_name), level: other.level.or(self.level) }
    }
}

/// What can be promised of an operation in a dialect, where any can promise `most`.
///
/// # Errors
/// `Rejected` with 404 if servers of the dialect do not have it.
pub(crate) fn offers(operation: &str, most: DeliveryLevel, dialect: Dialect) -> Result<DeliveryLevel> {
    let absent = |text| Err(Error::rejected(Code::NotFound, text));
    match (dialect, operation) {
        (Dialect::Native, "request-world-state") => absent(
            "this server has no world state; ask its REST API. Only servers of the documented dialect have one",
        ),
        (Dialect::Documented, "logs.subscribe" | "logs.unsubscribe" | "logs.filter") => absent(
            "this server's log cannot be subscribed to; what it sends unasked is published with logs = true",
        ),
        // There is no leaving: nothing is sent.
        (Dialect::Native, "leave") => Ok(DeliveryLevel::Accepted),
        // It acknowledges nothing.
        (Dialect::Documented, _) => Ok(most.min(DeliveryLevel::Sent)),
        (Dialect::Native | Dialect::Auto, _) => Ok(most),
    }
}

/// A text that is not empty.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match String::deserialize(deserializer)? {
        empty if empty.is_empty() => Err(D::Error::custom("the text is empty; ElizaOS takes none")),
        text => Ok(text),
    }
}

/// A room that can be written to. Its id is sent as it was given: to the service, a room is its text.
fn uuid_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<Uuid>().map_err(D::Error::custom)?;
    Ok(text)
}

/// The levels that the server knows. With any other it sends no lines at all.
const LEVELS: [&str; 10] =
    ["trace", "debug", "success", "progress", "log", "info", "warn", "error", "fatal", "all"];

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.map(|level| level.to_lowercase()) {
        Some(level) if !LEVELS.contains(&level.as_str()) => {
            let levels = LEVELS.join(", ");
            Err(D::Error::custom(format!("the server knows no such level; it knows {levels}")))
        }
        level => Ok(level),
    }
}
