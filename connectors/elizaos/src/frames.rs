//! What the service says, read leniently: a field of a wrong type is taken for absent, and the rest still counts.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::object::cut;
use pontoon_sdk::{Error, Object, Raw, Result, socketio};
use serde_json::value::RawValue;

/// The argument of an event.
///
/// # Errors
/// `Protocol` if there is none, or it is no object.
pub(crate) fn object(event: &socketio::Event) -> Result<Object<'_>> {
    event.args.values().first().map_or_else(|| Err(Error::protocol("the payload is no object")), Object::of)
}

/// The room: newer servers call it a channel, older ones know no other name, and some give both.
pub(crate) fn channel(object: &Object<'_>) -> Option<String> {
    object.text("channelId").or_else(|| object.text("roomId"))
}

/// The server that the room is in.
pub(crate) fn server(object: &Object<'_>) -> Option<String> {
    object.text("messageServerId").or_else(|| object.text("serverId"))
}

/// What is said of a failure.
pub(crate) fn error(object: &Object<'_>) -> ServiceError {
    let error = object.error();
    ServiceError { message: error.message.as_deref().map(cut), ..error }
}

/// A message that is told to all in its room.
pub(crate) struct Broadcast {
    pub(crate) id: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) sender: Option<String>,
    pub(crate) sender_name: Option<String>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) updated: Option<Timestamp>,
    pub(crate) attachments: Option<Box<RawValue>>,
    pub(crate) metadata: Option<Box<RawValue>>,
    pub(crate) source: Option<String>,
    /// The service says of our own, and of no other, under which id we sent it.
    pub(crate) echo: bool,
    /// It has what only agents have.
    pub(crate) thinks: bool,
}

/// What a message says that tells of an agent's work, and is no answer.
const ACTION: &str = "agent_action";

impl Broadcast {
    /// Reads it. What it lacks, it lacks.
    pub(crate) fn read(object: &Object<'_>) -> Self {
        Self {
            id: object.text("id"),
            channel: channel(object),
            server: server(object),
            text: object.words("text"),
            sender: object.text("senderId"),
            sender_name: object.text("senderName"),
            created: object.time("createdAt"),
            updated: object.time("updatedAt"),
            attachments: object.filled("attachments"),
            metadata: object.filled("metadata"),
            source: object.text("source"),
            echo: object.has("clientMessageId"),
            thinks: ["thought", "actions"]
                .iter()
                .any(|name| object.text(name).is_some() || object.filled(name).is_some()),
        }
    }

    /// Whether only an agent can have said it.
    pub(crate) fn is_agents(&self) -> bool {
        self.thinks || self.source.as_deref() == Some("agent_response") || self.is_action()
    }

    /// Whether it tells of an agent's work.
    pub(crate) fn is_action(&self) -> bool {
        self.source.as_deref() == Some(ACTION)
    }

    /// When it was written, in milliseconds since 1970.
    pub(crate) fn written(&self) -> Option<i64> {
        let time = self.created.as_ref()?.time?;
        i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
    }
}

/// The words of an error that may be a text alone.
pub(crate) fn fault(event: &socketio::Event) -> ServiceError {
    let text = || event.args.values().first()?.text();
    match object(event) {
        Ok(object) => error(&object),
        Err(_) => ServiceError { message: text().as_deref().map(cut), ..ServiceError::default() },
    }
}

/// A payload, to be handed on as it is.
pub(crate) fn json(raw: &Raw) -> Result<Box<RawValue>> {
    raw.parse()
}
