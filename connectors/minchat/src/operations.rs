//! The operations, their bodies, and the Socket.IO events that are sent for them. Each of these carries the API key.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pontoon_sdk::{Code, Command, Error, Raw, Result, operations};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::config::{Config, Id};

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Subscribes to the user's events.
        JoinUser(Body<UserRoom>) = "room.user.join", Sent, idempotent;
        /// Ends the subscription to the user's events.
        LeaveUser(Body<UserRoom>) = "room.user.leave", Sent, idempotent;
        /// Joins a chat, now and after every reconnect.
        JoinChat(Body<Chat>) = "room.join", Sent, idempotent;
        /// Leaves a chat.
        LeaveChat(Body<Chat>) = "room.leave", Sent, idempotent;
        /// Writes a message to a chat.
        Message(Body<NewMessage>) = "message", Acked;
        /// Writes a text to a chat, with the body that all services share.
        MessageSend(Body<MessageSend>) = "message.send", Acked;
        /// Changes a message.
        Update(Body<Update>) = "message.update", Acked, idempotent;
        /// Deletes a message.
        Delete(Body<Delete>) = "message.delete", Sent, idempotent;
        /// Marks messages as read.
        Seen(Body<Seen>) = "message.seen", Sent, idempotent;
        /// Shows that the user types.
        TypingStart(Body<Chat>) = "typing.start", Sent, idempotent;
        /// Shows that the user types no longer.
        TypingStop(Body<Chat>) = "typing.stop", Sent, idempotent;
    }
}

/// The body of `room.user.join` and `room.user.leave`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRoom {
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    #[serde(skip_serializing)]
    channel: Option<Id>,
}

/// The body of `room.join`, `room.leave`, `typing.start` and `typing.stop`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// The chat.
    #[serde(rename = "channelId")]
    pub(crate) channel_id: Id,
}

/// The body of `message`: a text, metadata, or both.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// The chat.
    chat_id: Id,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// What the service keeps with it; each value a text, a number or a truth value.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
}

/// The body of `message.send`, which is the same for every service.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageSend {
    /// The chat.
    #[serde(rename(serialize = "chat_id"))]
    channel: Id,
    /// The text.
    text: String,
}

/// The body of `message.update`: a text, metadata, or both.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The message.
    #[serde(rename = "messageId")]
    pub(crate) message_id: Id,
    /// The new text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// What the service keeps with it; each value a text, a number or a truth value.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    #[serde(skip_serializing)]
    channel: Option<Id>,
}

/// The body of `message.delete`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The message.
    #[serde(rename = "messageId")]
    message_id: Id,
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    #[serde(skip_serializing)]
    channel: Option<Id>,
}

/// The body of `message.seen`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The message up to which all were read.
    #[serde(rename = "lastMessageId")]
    last_message_id: Id,
    /// The chat over whose link it is sent; not sent itself. Absent: the user's link.
    #[serde(skip_serializing)]
    channel: Option<Id>,
}

/// What the service keeps with a message and gives back: an object, as its caller wrote it.
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

/// A body without the fields that are added to it.
pub struct Body<B>(pub(crate) B);

/// Fields that a body must not have, and why.
const REFUSED: [(&str, &str); 5] = [
    ("apiKey", "the key is added from the setting api_key; leave it out"),
    ("user_id", "the user is added from the setting user_id; leave it out"),
    ("channelUserId", "the user is added from the setting user_id; leave it out"),
    ("user", "the profile is added from the setting user; leave it out"),
    ("file", "uploads are binary and not supported by this bridge; send a link in the text instead"),
];

impl<B: DeserializeOwned + JsonSchema> pontoon_sdk::operations::Body for Body<B> {
    fn schema() -> Schema {
        schema_for!(B)
    }

    fn read(command: &Command) -> Result<Self> {
        <B as pontoon_sdk::operations::Body>::read(command).map(Self).map_err(|error| {
            let fields: BTreeMap<String, IgnoredAny> = command.parse().unwrap_or_default();
            match REFUSED.iter().find(|(field, _)| fields.contains_key(*field)) {
                Some((field, why)) => wrong(format!("\"{field}\" is not taken: {why}"), &format!("/{field}")),
                None => error,
            }
        })
    }
}

fn check_content(text: Option<&str>, metadata: Option<&Metadata>) -> Result<()> {
    let Some(Metadata(metadata)) = metadata else {
        let empty = || wrong("there is nothing to say; give a text, or metadata", "");
        return text.map(|_| ()).ok_or_else(empty);
    };
    let Ok(values) = serde_json::from_str::<BTreeMap<String, &RawValue>>(metadata.get()) else {
        return Err(wrong("metadata is an object", "/metadata"));
    };
    match values.iter().find(|(_, value)| value.get().starts_with(['{', '[', 'n'])) {
        Some((key, _)) => {
            let key = key.replace('~', "~0").replace('/', "~1");
            let text = "a value of metadata is a text, a number or a truth value";
            Err(wrong(text, &format!("/metadata/{key}")))
        }
        None => Ok(()),
    }
}

fn wrong(text: impl Into<String>, pointer: &str) -> Error {
    Error::rejected(Code::BadBody, text).at(pointer)
}

/// What the service sends events about to the sockets that joined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Room {
    /// The user: a new message in any conversation.
    User,
    /// A chat: all that happens in it.
    Chat(Id),
}

impl Request {
    /// The chat that it is about, or over whose link it is sent.
    pub(crate) fn chat(&self) -> Option<&Id> {
        match self {
            Self::JoinUser(Body(body)) | Self::LeaveUser(Body(body)) => body.channel.as_ref(),
            Self::JoinChat(Body(body)) | Self::LeaveChat(Body(body)) => Some(&body.channel_id),
            Self::TypingStart(Body(body)) | Self::TypingStop(Body(body)) => Some(&body.channel_id),
            Self::Message(Body(body)) => Some(&body.chat_id),
            Self::MessageSend(Body(body)) => Some(&body.channel),
            Self::Update(Body(body)) => body.channel.as_ref(),
            Self::Delete(Body(body)) => body.channel.as_ref(),
            Self::Seen(Body(body)) => body.channel.as_ref(),
        }
    }

    /// The room that it joins (`true`) or leaves, if it does.
    pub(crate) fn room(&self) -> Option<(Room, bool)> {
        match self {
            Self::JoinUser(_) => Some((Room::User, true)),
            Self::LeaveUser(_) => Some((Room::User, false)),
            Self::JoinChat(Body(body)) => Some((Room::Chat(body.channel_id.clone()), true)),
            Self::LeaveChat(Body(body)) => Some((Room::Chat(body.channel_id.clone()), false)),
            _ => None,
        }
    }

    /// The request that joins a room.
    pub(crate) fn join(room: Room) -> Self {
        match room {
            Room::User => Self::JoinUser(Body(UserRoom { channel: None })),
            Room::Chat(channel_id) => Self::JoinChat(Body(Chat { channel_id })),
        }
    }

    /// Refuses content that the service would not take.
    ///
    /// # Errors
    /// `Rejected` with code 400, and the place in the body.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Message(Body(new)) if new.text.as_deref() == Some("") => {
                check_content(None, new.metadata.as_ref())
            }
            Self::Message(Body(new)) => check_content(new.text.as_deref(), new.metadata.as_ref()),
            Self::MessageSend(Body(new)) if new.text.is_empty() => Err(wrong("the text is empty", "/text")),
            Self::Update(Body(update)) => check_content(update.text.as_deref(), update.metadata.as_ref()),
            _ => Ok(()),
        }
    }

    /// The name and the payload of the event that is sent for it.
    pub(crate) fn event(&self, config: &Config, api_key: &str) -> Result<(&'static str, Raw)> {
        let key = json!({ "apiKey": api_key });
        let member = json!({ "apiKey": api_key, "channelUserId": config.user_id });
        let author = json!({ "apiKey": api_key, "user_id": config.user_id });
        let profile = json!({ "apiKey": api_key, "user": config.profile() });
        match self {
            Self::JoinUser(body) => body.event("room.user.join", member),
            Self::LeaveUser(body) => body.event("room.user.leave", member),
            Self::JoinChat(body) => body.event("room.join", key),
            Self::LeaveChat(body) => body.event("room.leave", key),
            Self::Message(body) => body.event("message", author),
            Self::MessageSend(body) => body.event("message", author),
            Self::Update(body) => body.event("message.update", key),
            Self::Delete(body) => body.event("message.delete", key),
            Self::Seen(body) => body.event("message.seen", profile),
            Self::TypingStart(body) => body.event("typing.start", profile),
            Self::TypingStop(body) => body.event("typing.stop", profile),
        }
    }
}

impl<B: Serialize> Body<B> {
    /// The event of this name, whose payload is the body and what is added to it.
    fn event(&self, name: &'static str, added: Value) -> Result<(&'static str, Raw)> {
        #[derive(Serialize)]
        struct Payload<'a, B> {
            #[serde(flatten)]
            body: &'a B,
            #[serde(flatten)]
            added: Value,
        }
        Ok((name, Raw::json(&Payload { body: &self.0, added })?))
    }
}
