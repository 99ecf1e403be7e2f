//! What ElizaOS's page on Socket.IO describes: an event for each thing, with the page's own fields.

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::{Raw, Result, Uuid};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::Setup;
use crate::operations::Draft;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Room<'a> {
    room_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<Uuid>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    text: &'a str,
    room_id: &'a str,
    user_id: Uuid,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachments: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
}

/// Joins a room.
pub(crate) fn join(room_id: &str, agent_id: Option<Uuid>) -> Result<Frame> {
    Ok(Frame::event("join", Raw::json(&Room { room_id, agent_id })?))
}

/// Leaves a room.
pub(crate) fn leave(room_id: &str, agent_id: Option<Uuid>) -> Result<Frame> {
    Ok(Frame::event("leave", Raw::json(&Room { room_id, agent_id })?))
}

/// Writes a message. What the page does not know goes along if the caller gave it, and only then.
pub(crate) fn message(setup: &Setup, draft: &Draft) -> Result<Frame> {
    let payload = Message {
        text: &draft.text,
        room_id: &draft.room,
        user_id: draft.user.unwrap_or(setup.entity),
        name: draft.name.as_deref().unwrap_or(&setup.config.name),
        message_id: draft.id.as_deref(),
        metadata: draft.metadata.as_deref(),
        attachments: draft.attachments.as_deref(),
        source: draft.source.as_deref(),
    };
    Ok(Frame::event("message", Raw::json(&payload)?))
}

/// Asks for the state of a room.
pub(crate) fn world_state(room_id: &str) -> Result<Frame> {
    Ok(Frame::event("request-world-state", Raw::json(&Room { room_id, agent_id: None })?))
}
