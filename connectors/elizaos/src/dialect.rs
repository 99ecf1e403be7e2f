//! What released servers understand: an event `message` with a type and a payload. Each version looks for its own of
//! two names, so both are sent.

use std::collections::BTreeMap;

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::{Raw, Result, Uuid};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::{RawValue, to_raw_value};

use crate::config::Setup;
use crate::operations::{Draft, Filter};

/// `SOCKET_MESSAGE_TYPE` of the service: a room is joined.
const ROOM_JOINING: u8 = 1;
/// A message is written.
const SEND_MESSAGE: u8 = 2;

#[derive(Serialize)]
struct Envelope<T> {
    r#type: u8,
    payload: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Join<'a> {
    channel_id: &'a str,
    room_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<Uuid>,
    entity_id: Uuid,
    message_server_id: Uuid,
    server_id: Uuid,
    username: &'a str,
    display_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    channel_id: &'a str,
    room_id: &'a str,
    message_server_id: Uuid,
    server_id: Uuid,
    sender_id: Uuid,
    sender_name: &'a str,
    message: &'a str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachments: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
}

/// What makes a room a conversation with an agent, so that the agent answers in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Direct {
    is_dm: bool,
    channel_type: &'static str,
    target_user_id: Uuid,
}

/// Joins a room.
pub(crate) fn join(setup: &Setup, room: &str, agent: Option<Uuid>) -> Result<Frame> {
    let Setup { config, entity } = setup;
    let payload = Join {
        channel_id: room,
        room_id: room,
        agent_id: agent,
        entity_id: *entity,
        message_server_id: config.server_id,
        server_id: config.server_id,
        username: &config.name,
        display_name: &config.name,
        metadata: metadata(None, agent)?,
    };
    envelope(ROOM_JOINING, payload)
}

/// Writes a message; `id` is given back with its acknowledgement.
pub(crate) fn message(setup: &Setup, draft: &Draft, agent: Option<Uuid>, id: &str) -> Result<Frame> {
    let Setup { config, entity } = setup;
    let payload = Message {
        channel_id: &draft.room,
        room_id: &draft.room,
        message_server_id: config.server_id,
        server_id: config.server_id,
        sender_id: draft.user.unwrap_or(*entity),
        sender_name: draft.name.as_deref().unwrap_or(&config.name),
        message: &draft.text,
        message_id: id,
        source: draft.source.as_deref(),
        attachments: draft.attachments.as_deref(),
        metadata: metadata(draft.metadata.as_deref(), agent)?,
    };
    envelope(SEND_MESSAGE, payload)
}

/// Subscribes to the log, or ends that. The service looks at no payload here, but there is always one.
pub(crate) fn logs(on: bool) -> Result<Frame> {
    let name = if on { "subscribe_logs" } else { "unsubscribe_logs" };
    Ok(Frame::event(name, Raw::json(&serde_json::json!({}))?))
}

/// Narrows what of the log is told.
pub(crate) fn filter(filter: &Filter) -> Result<Frame> {
    Ok(Frame::event("update_log_filters", Raw::json(filter)?))
}

fn envelope(r#type: u8, payload: impl Serialize) -> Result<Frame> {
    Ok(Frame::event("message", Raw::json(&Envelope { r#type, payload })?))
}

/// The caller's metadata as it came, with what an agent's room needs before it, unless the caller says that otherwise.
fn metadata(given: Option<&RawValue>, agent: Option<Uuid>) -> Result<Option<Box<RawValue>>> {
    let Some(agent) = agent else { return Ok(given.map(ToOwned::to_owned)) };
    let direct = Direct { is_dm: true, channel_type: "DM", target_user_id: agent };
    let direct = to_raw_value(&direct).map_err(internal)?;
    let Some(given) = given else { return Ok(Some(direct)) };
    let said: BTreeMap<String, IgnoredAny> = serde_json::from_str(given.get()).map_err(internal)?;
    let needed: BTreeMap<String, &RawValue> = serde_json::from_str(direct.get()).map_err(internal)?;
    let mut fields: Vec<_> = needed
        .iter()
        .filter(|(field, _)| !said.contains_key(*field))
        .map(|(field, value)| format!("{field:?}:{value}"))
        .collect();
    let inner = given.get().strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default();
    if !said.is_empty() {
        fields.push(inner.to_owned());
    }
    RawValue::from_string(format!("{{{}}}", fields.join(","))).map(Some).map_err(internal)
}

fn internal(error: serde_json::Error) -> pontoon_sdk::Error {
    pontoon_sdk::Error::internal(error.to_string())
}
