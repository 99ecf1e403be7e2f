//! What callers ask for: the bodies of the operations, checked before anything is sent. An event that real servers do
//! not expect, such as one without a payload, can end them.

use std::borrow::Cow;

use pontoon_sdk::{Code, Command, DeliveryLevel, Error, Operation, Request, Result, Uuid};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::{Dialect, MAX_ID, is_id};

/// What can be asked for.
pub enum Order {
    /// To hear what is said in a room.
    Join { room: String, agent: Option<Uuid> },
    /// To hear it no longer.
    Leave { room: String, agent: Option<Uuid> },
    /// To write a message.
    Message(Draft),
    /// To be told the state of a room.
    WorldState { room: String },
    /// To be told the server's log, or no longer.
    Logs(bool),
    /// To be told less of it.
    Filter(Filter),
}

/// A message to be written.
pub struct Draft {
    pub(crate) room: String,
    pub(crate) text: String,
    pub(crate) user: Option<Uuid>,
    pub(crate) name: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) metadata: Option<Box<RawValue>>,
    pub(crate) attachments: Option<Box<RawValue>>,
    pub(crate) source: Option<String>,
}

/// The body of `logs.filter`: an agent's name, a level, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only lines of the agent with this name; "all" for those of every one.
    #[serde(rename = "agentName", skip_serializing_if = "Option::is_none")]
    pub(crate) agent_name: Option<String>,
    /// Only lines of this level and above: trace, debug, success, progress, log, info, warn, error, fatal; or "all".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<String>,
}

/// The body of `join` and `leave`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Membership {
    /// The room.
    #[serde(rename = "roomId")]
    room_id: String,
    /// The agent that is talked to in it.
    #[serde(rename = "agentId")]
    agent_id: Option<Uuid>,
}

/// The body of `message`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Message {
    /// What it says.
    text: String,
    /// The room; a UUID.
    #[serde(rename = "roomId")]
    room_id: String,
    /// Who says it; the instance's own entity if absent.
    #[serde(rename = "userId")]
    user_id: Option<Uuid>,
    /// The name that others see; the setting `name` if absent.
    name: Option<String>,
    /// The caller's own id of it, which the service gives back to the sender; made up if absent.
    #[serde(rename = "messageId")]
    message_id: Option<String>,
    /// What the service keeps with it.
    metadata: Option<Json<'{'>>,
    /// Files and the like, in the service's own form.
    attachments: Option<Json<'['>>,
    /// Where it comes from, in a word of the caller's.
    source: Option<String>,
}

/// The body of `message.send`, which is the same for every service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Send {
    /// The room; a UUID.
    channel: String,
    /// What it says.
    text: String,
}

/// The body of `request-world-state`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WorldState {
    /// The room.
    #[serde(rename = "roomId")]
    room_id: String,
}

/// The body of `logs.subscribe` and `logs.unsubscribe`: nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// JSON that goes out as it came; it begins with this character.
struct Json<const FIRST: char>(Box<RawValue>);

impl<'de, const FIRST: char> Deserialize<'de> for Json<FIRST> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if json.get().starts_with(FIRST) {
            return Ok(Self(json));
        }
        let kind = if FIRST == '{' { "an object" } else { "a list" };
        Err(serde::de::Error::custom(format!("this is {kind}, or left out")))
    }
}

impl<const FIRST: char> JsonSchema for Json<FIRST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": if FIRST == '{' { "object" } else { "array" } })
    }
}

/// Every operation there is.
fn operations() -> Vec<Operation> {
    let operation = |name, summary, body, delivery, idempotent| Operation {
        name,
        argument: None,
        summary,
        body,
        delivery,
        idempotent,
    };
    use DeliveryLevel::{Acked, Sent};
    vec![
        operation(
            "join",
            "Joins a room, now and after every reconnect",
            schema_for!(Membership),
            Acked,
            true,
        ),
        operation("leave", "Leaves a room", schema_for!(Membership), Sent, true),
        operation(
            "message",
            "Writes a message to a room; with Pontoon-Stream the agent's answer comes in parts",
            schema_for!(Message),
            Acked,
            false,
        ),
        operation(
            "message.send",
            "Writes a text to a room, as for every service",
            schema_for!(Send),
            Acked,
            false,
        ),
        operation(
            "request-world-state",
            "Asks for the state of a room, which comes as an event",
            schema_for!(WorldState),
            Sent,
            true,
        ),
        operation("logs.subscribe", "Subscribes to the server's log", schema_for!(Nothing), Acked, true),
        operation("logs.unsubscribe", "Ends that subscription", schema_for!(Nothing), Acked, true),
        operation("logs.filter", "Narrows what of the log is told", schema_for!(Filter), Acked, true),
    ]
}

/// What an instance that is held to a dialect promises of an operation.
///
/// # Errors
/// As [`check`].
pub(crate) fn offers(operation: &Operation, dialect: Dialect) -> Result<DeliveryLevel> {
    check(operation.name, dialect)?;
    let most = match dialect {
        // It acknowledges nothing.
        Dialect::Documented => DeliveryLevel::Sent,
        // There is no leaving: nothing is sent.
        Dialect::Native if operation.name == "leave" => DeliveryLevel::Accepted,
        Dialect::Native | Dialect::Auto => operation.delivery,
    };
    Ok(operation.delivery.min(most))
}

/// Refuses what servers of a dialect do not have.
///
/// # Errors
/// `Rejected` with 404.
pub(crate) fn check(operation: &str, dialect: Dialect) -> Result<()> {
    let text = match (dialect, operation) {
        (Dialect::Native, "request-world-state") => {
            "this server has no world state; ask its REST API. Only servers of the documented dialect have one"
        }
        (Dialect::Documented, "logs.subscribe" | "logs.unsubscribe" | "logs.filter") => {
            "this server's log cannot be subscribed to; what it tells unasked is published with logs = true"
        }
        _ => return Ok(()),
    };
    Err(Error::rejected(Code::NotFound, text))
}

impl Request for Order {
    fn operations() -> Vec<Operation> {
        operations()
    }

    fn parse(command: &Command) -> Result<Self> {
        Ok(match command.operation {
            "join" => {
                let Membership { room_id, agent_id } = command.parse()?;
                Self::Join { room: id(room_id, "/roomId")?, agent: agent_id }
            }
            "leave" => {
                let Membership { room_id, agent_id } = command.parse()?;
                Self::Leave { room: id(room_id, "/roomId")?, agent: agent_id }
            }
            "message" => Self::Message(command.parse::<Message>()?.draft()?),
            "message.send" => {
                let Send { channel, text } = command.parse()?;
                let (room, text) = (uuid(channel, "/channel")?, words(text)?);
                let (user, name, id, source) = (None, None, None, None);
                let (metadata, attachments) = (None, None);
                Self::Message(Draft { room, text, user, name, id, metadata, attachments, source })
            }
            "request-world-state" => {
                let WorldState { room_id } = command.parse()?;
                Self::WorldState { room: id(room_id, "/roomId")? }
            }
            "logs.subscribe" => command.parse().map(|Nothing {}| Self::Logs(true))?,
            "logs.unsubscribe" => command.parse().map(|Nothing {}| Self::Logs(false))?,
            "logs.filter" => Self::Filter(command.parse::<Filter>()?.checked()?),
            other => {
                return Err(Error::internal(format!("the operation {other} is listed, but not known")));
            }
        })
    }
}

impl Message {
    fn draft(self) -> Result<Draft> {
        let optional = |text: Option<String>, pointer| text.map(|text: String| id(text, pointer)).transpose();
        Ok(Draft {
            text: words(self.text)?,
            room: uuid(self.room_id, "/roomId")?,
            user: self.user_id,
            name: optional(self.name, "/name")?,
            id: optional(self.message_id, "/messageId")?,
            metadata: self.metadata.map(|Json(json)| json),
            attachments: self.attachments.map(|Json(json)| json),
            source: optional(self.source, "/source")?,
        })
    }
}

/// The levels that the server knows. For any other it tells nothing at all.
const LEVELS: [&str; 10] =
    ["trace", "debug", "success", "progress", "log", "info", "warn", "error", "fatal", "all"];

impl Filter {
    fn checked(self) -> Result<Self> {
        if self == Self::default() {
            return Err(wrong("there is nothing to filter by; give agentName, level, or both", ""));
        }
        let level = match self.level.map(|level| level.to_lowercase()) {
            Some(level) if !LEVELS.contains(&level.as_str()) => {
                let known = LEVELS.join(", ");
                return Err(wrong(format!("the server knows no such level; it knows {known}"), "/level"));
            }
            level => level,
        };
        let agent_name = self.agent_name.map(|name| id(name, "/agentName")).transpose()?;
        Ok(Self { agent_name, level })
    }

    /// This one with what another says over it, as the server puts them together.
    pub(crate) fn with(self, other: &Self) -> Self {
        Self {
            agent_name: other.agent_name.clone().or(self.agent_name),
            level: other.level.clone().or(self.level),
        }
    }
}

fn id(text: String, pointer: &str) -> Result<String> {
    if is_id(&text) {
        return Ok(text);
    }
    Err(wrong(format!("this has 1 to {MAX_ID} bytes, and no control characters"), pointer))
}

/// A room that can be written to. Its id is sent as it was given: to the service, a room is its text.
fn uuid(text: String, pointer: &str) -> Result<String> {
    match text.parse::<Uuid>() {
        Ok(_) => Ok(text),
        Err(error) => Err(wrong(error, pointer)),
    }
}

fn words(text: String) -> Result<String> {
    if text.is_empty() { Err(wrong("the text is empty; ElizaOS takes none", "/text")) } else { Ok(text) }
}

fn wrong(text: impl Into<String>, pointer: &str) -> Error {
    Error::rejected(Code::BadBody, text).at(pointer)
}
