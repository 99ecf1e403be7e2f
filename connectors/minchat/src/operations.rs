//! What callers ask for: the bodies of the operations, checked before anything is sent.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pontoon_sdk::{Code, Command, DeliveryLevel, Error, Operation, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::{MAX_ID, is_id};

/// A command whose body is right.
pub struct Request {
    /// What is asked for.
    pub(crate) order: Order,
    /// The chat that it is about, or over whose link it is to be sent.
    pub(crate) chat: Option<String>,
}

/// What can be asked for.
pub(crate) enum Order {
    /// To join a room, or to leave it.
    Enter { room: Room, join: bool },
    /// To write a message.
    Message { text: Option<String>, metadata: Option<Metadata> },
    /// To change one.
    Update { message: String, text: Option<String>, metadata: Option<Metadata> },
    /// To delete one.
    Delete { message: String },
    /// To say that it was read.
    Seen { message: String },
    /// To say that the user types, or no longer.
    Typing { starts: bool },
}

/// What the service sends events of to those who joined it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// The user: a new message in any conversation.
    User,
    /// A chat: all that happens in it.
    Chat(String),
}

/// What the service keeps with a message and gives back.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Metadata(Box<RawValue>);

impl JsonSchema for Metadata {
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] }
        })
    }
}

/// The body of `room.user.join` and `room.user.leave`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfUser {
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    channel: Option<String>,
}

/// The body of `room.join`, `room.leave`, `typing.start` and `typing.stop`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfChat {
    /// The chat.
    #[serde(rename = "channelId")]
    channel_id: String,
}

/// The body of `message`: a text, metadata, or both.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    /// The chat.
    chat_id: String,
    /// What it says.
    text: Option<String>,
    /// What the service keeps with it; each value a text, a number or a truth value.
    metadata: Option<Metadata>,
}

/// The body of `message.send`, which is the same for every service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Send {
    /// The chat.
    channel: String,
    /// What it says.
    text: String,
}

/// The body of `message.update`: a text, metadata, or both.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Update {
    /// The message.
    #[serde(rename = "messageId")]
    message_id: String,
    /// What it says from now on.
    text: Option<String>,
    /// What the service keeps with it; each value a text, a number or a truth value.
    metadata: Option<Metadata>,
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    channel: Option<String>,
}

/// The body of `message.delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// The message.
    #[serde(rename = "messageId")]
    message_id: String,
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    channel: Option<String>,
}

/// The body of `message.seen`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// The message up to which all was read.
    #[serde(rename = "lastMessageId")]
    last_message_id: String,
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    channel: Option<String>,
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
        operation("room.user.join", "Subscribes to the user's events", schema_for!(OfUser), Sent, true),
        operation("room.user.leave", "Ends the subscription to them", schema_for!(OfUser), Sent, true),
        operation(
            "room.join",
            "Joins a chat, now and after every reconnect",
            schema_for!(OfChat),
            Sent,
            true,
        ),
        operation("room.leave", "Leaves a chat", schema_for!(OfChat), Sent, true),
        operation("message", "Writes a message to a chat", schema_for!(NewMessage), Acked, false),
        operation(
            "message.send",
            "Writes a text to a chat, as for every service",
            schema_for!(Send),
            Acked,
            false,
        ),
        operation("message.update", "Changes a message", schema_for!(Update), Acked, true),
        operation("message.delete", "Deletes a message", schema_for!(Delete), Sent, true),
        operation("message.seen", "Says that a message was read", schema_for!(Seen), Sent, true),
        operation("typing.start", "Says that the user types", schema_for!(OfChat), Sent, true),
        operation("typing.stop", "Says that the user types no longer", schema_for!(OfChat), Sent, true),
    ]
}

/// What a body must not have, and why.
const REFUSED: [(&str, &str); 5] = [
    ("apiKey", "the key is added from the setting api_key; leave it out"),
    ("user_id", "the user is added from the setting user_id; leave it out"),
    ("channelUserId", "the user is added from the setting user_id; leave it out"),
    ("user", "the profile is added from the setting user; leave it out"),
    ("file", "uploads are binary and not supported by this bridge; send a link in the text instead"),
];

impl pontoon_sdk::Request for Request {
    fn operations() -> Vec<Operation> {
        operations()
    }

    fn parse(command: &Command) -> Result<Self> {
        let fields: BTreeMap<String, IgnoredAny> = command.parse()?;
        if let Some((field, why)) = REFUSED.iter().find(|(field, _)| fields.contains_key(*field)) {
            return Err(wrong(format!("\"{field}\" is not taken: {why}"), &format!("/{field}")));
        }
        match command.operation {
            "room.user.join" | "room.user.leave" => {
                let OfUser { channel } = command.parse()?;
                let join = command.operation == "room.user.join";
                Self::over(Order::Enter { room: Room::User, join }, channel)
            }
            "room.join" | "room.leave" => {
                let OfChat { channel_id } = command.parse()?;
                let room = Room::Chat(channel_id.clone());
                let order = Order::Enter { room, join: command.operation == "room.join" };
                Self::about(order, channel_id, "/channelId")
            }
            "typing.start" | "typing.stop" => {
                let OfChat { channel_id } = command.parse()?;
                let starts = command.operation == "typing.start";
                Self::about(Order::Typing { starts }, channel_id, "/channelId")
            }
            "message" => {
                let NewMessage { chat_id, text, metadata } = command.parse()?;
                check_content(text.as_ref().filter(|text| !text.is_empty()), metadata.as_ref())?;
                Self::about(Order::Message { text, metadata }, chat_id, "/chat_id")
            }
            "message.send" => {
                let Send { channel, text } = command.parse()?;
                if text.is_empty() {
                    return Err(wrong("the text is empty", "/text"));
                }
                Self::about(Order::Message { text: Some(text), metadata: None }, channel, "/channel")
            }
            "message.update" => {
                let Update { message_id, text, metadata, channel } = command.parse()?;
                check_id(&message_id, "/messageId")?;
                check_content(text.as_ref(), metadata.as_ref())?;
                Self::over(Order::Update { message: message_id, text, metadata }, channel)
            }
            "message.delete" => {
                let Delete { message_id, channel } = command.parse()?;
                check_id(&message_id, "/messageId")?;
                Self::over(Order::Delete { message: message_id }, channel)
            }
            "message.seen" => {
                let Seen { last_message_id, channel } = command.parse()?;
                check_id(&last_message_id, "/lastMessageId")?;
                Self::over(Order::Seen { message: last_message_id }, channel)
            }
            other => Err(Error::internal(format!("the operation {other} is listed, but not known"))),
        }
    }
}

impl Request {
    /// What names its chat to the service.
    fn about(order: Order, chat: String, pointer: &str) -> Result<Self> {
        check_id(&chat, pointer)?;
        Ok(Self { order, chat: Some(chat) })
    }

    /// What may say over which chat's link it goes.
    fn over(order: Order, chat: Option<String>) -> Result<Self> {
        chat.as_deref().map_or(Ok(()), |chat| check_id(chat, "/channel"))?;
        Ok(Self { order, chat })
    }
}

fn check_id(id: &str, pointer: &str) -> Result<()> {
    if is_id(id) {
        return Ok(());
    }
    Err(wrong(format!("an id has 1 to {MAX_ID} bytes, and no control characters"), pointer))
}

fn check_content(text: Option<&String>, metadata: Option<&Metadata>) -> Result<()> {
    let Some(Metadata(metadata)) = metadata else {
        return match text {
            Some(_) => Ok(()),
            None => Err(wrong("there is nothing to say; give a text, or metadata", "")),
        };
    };
    let Ok(values) = serde_json::from_str::<BTreeMap<String, &RawValue>>(metadata.get()) else {
        return Err(wrong("metadata is an object", "/metadata"));
    };
    for (key, value) in values {
        if value.get().starts_with(['{', '[', 'n']) {
            let key = key.replace('~', "~0").replace('/', "~1");
            let text = "a value of metadata is a text, a number or a truth value";
            return Err(wrong(text, &format!("/metadata/{key}")));
        }
    }
    Ok(())
}

fn wrong(text: impl Into<String>, pointer: &str) -> Error {
    Error::rejected(Code::BadBody, text).at(pointer)
}
