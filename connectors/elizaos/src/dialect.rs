//! The frames that are sent, in each of the two dialects: the one that ElizaOS's page on Socket.IO describes has an event
//! for each thing, released servers take an event `message` with a type and a payload.

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::{Error, Raw, Result};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::config::{Dialect, Setup};
use crate::operations::{Filter, Membership, Message, Metadata};
use crate::uuid::Uuid;

/// Where frames are sent.
pub(crate) type Outbox = pontoon_sdk::Outbox<Frame>;

/// `SOCKET_MESSAGE_TYPE` of released servers: a room is joined.
const ROOM_JOINING: u8 = 1;
/// A message is written.
const SEND_MESSAGE: u8 = 2;

#[derive(Serialize)]
struct Payload<'a> {
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachments: Option<&'a [Box<RawValue>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
}

/// Joins a room.
pub(crate) fn join(setup: &Setup, dialect: Dialect, room: &Membership) -> Result<Frame> {
    if dialect == Dialect::Documented {
        return frame("join", room);
    }
    let name = &setup.config.name;
    let fields = [
        ("agentId", json!(room.agent_id)),
        ("entityId", json!(setup.entity)),
        ("username", json!(name)),
        ("displayName", json!(name)),
    ];
    let fields = native_fields(setup, &room.room_id, fields);
    let payload = Payload { fields, attachments: None, metadata: metadata(None, room.agent_id)? };
    native_frame(ROOM_JOINING, &payload)
}

/// Leaves a room. Released servers have no such event.
pub(crate) fn leave(room: &Membership) -> Result<Frame> {
    frame("leave", room)
}

/// Writes a message, in a room with this agent. It has its writer, natively also the id that is repeated in the
/// acknowledgement.
pub(crate) fn message(
    setup: &Setup,
    dialect: Dialect,
    message: &Message,
    agent: Option<Uuid>,
) -> Result<Frame> {
    if dialect == Dialect::Documented {
        return frame("message", message);
    }
    let fields = [
        ("senderId", json!(message.user_id)),
        ("senderName", json!(message.name)),
        ("message", json!(message.text)),
        ("messageId", json!(message.message_id)),
        ("source", json!(message.source)),
    ];
    let payload = Payload {
        fields: native_fields(setup, &message.room_id, fields),
        attachments: message.attachments.as_deref(),
        metadata: metadata(message.metadata.as_ref(), agent)?,
    };
    native_frame(SEND_MESSAGE, &payload)
}

/// Requests the state of a room. Released servers have no such event.
pub(crate) fn world_state(body: &impl Serialize) -> Result<Frame> {
    frame("request-world-state", body)
}

/// Subscribes to the log, or ends that. The service ignores the payload, but an event without one can end it.
pub(crate) fn logs(on: bool) -> Result<Frame> {
    frame(if on { "subscribe_logs" } else { "unsubscribe_logs" }, &json!({}))
}

/// Narrows which lines of the log are sent.
pub(crate) fn filter(filter: &Filter) -> Result<Frame> {
    frame("update_log_filters", filter)
}

fn frame(name: &str, payload: &impl Serialize) -> Result<Frame> {
    Ok(Frame::event(name, Raw::json(payload)?))
}

fn native_frame(r#type: u8, payload: &Payload<'_>) -> Result<Frame> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        r#type: u8,
        payload: &'a Payload<'a>,
    }
    frame("message", &Envelope { r#type, payload })
}

/// These fields, without those that are absent, and the room. Releases differ in the names that they read, so both are
/// sent.
fn native_fields(
    setup: &Setup,
    room: &str,
    fields: impl IntoIterator<Item = (&'static str, Value)>,
) -> Map<String, Value> {
    let server = json!(setup.config.server_id);
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    let room = [
        ("channelId", json!(room)),
        ("roomId", json!(room)),
        ("messageServerId", server.clone()),
        ("serverId", server),
    ];
    room.into_iter().chain(fields).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The caller's metadata, and what makes a room a conversation with an agent, so that the agent answers in it. A field
/// that the caller gives stays.
fn metadata(given: Option<&Metadata>, agent: Option<Uuid>) -> Result<Option<Metadata>> {
    let Some(agent) = agent else { return Ok(given.cloned()) };
    let mut metadata = given.cloned().unwrap_or_default();
    for (field, value) in
        [("isDm", json!(true)), ("channelType", json!("DM")), ("targetUserId", json!(agent))]
    {
        let value = to_raw_value(&value).map_err(|error| Error::internal(error.to_string()))?;
        metadata.entry(field.to_owned()).or_insert(value);
    }
    Ok(Some(metadata))
}
