//! What is sent to the service: events whose payloads carry the API key.

use pontoon_sdk::{Raw, Result};
use serde::Serialize;

use crate::config::{Config, User};
use crate::operations::{Metadata, Order, Room};

/// Every payload is a choice of these fields. It has no `Debug`: the key must not print.
#[derive(Default, Serialize)]
struct Payload<'a> {
    #[serde(rename = "channelUserId", skip_serializing_if = "Option::is_none")]
    channel_user_id: Option<&'a str>,
    #[serde(rename = "channelId", skip_serializing_if = "Option::is_none")]
    channel_id: Option<&'a str>,
    #[serde(rename = "messageId", skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(rename = "lastMessageId", skip_serializing_if = "Option::is_none")]
    last_message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
    #[serde(rename = "apiKey")]
    api_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
}

/// The event that carries out an order, and its payload. `chat` is the chat that the order is about.
pub(crate) fn emit(
    order: &Order,
    chat: Option<&str>,
    config: &Config,
    api_key: &str,
) -> Result<(&'static str, Raw)> {
    let base = Payload { api_key, ..Payload::default() };
    let (name, payload) = match order {
        Order::Enter { room, join } => return enter(room, *join, config, api_key),
        Order::Message { text, metadata } => (
            "message",
            Payload {
                text: text.as_deref(),
                metadata: metadata.as_ref(),
                chat_id: chat,
                user_id: Some(&config.user_id),
                ..base
            },
        ),
        Order::Update { message, text, metadata } => (
            "message.update",
            Payload { message_id: Some(message), text: text.as_deref(), metadata: metadata.as_ref(), ..base },
        ),
        Order::Delete { message } => ("message.delete", Payload { message_id: Some(message), ..base }),
        Order::Seen { message } => {
            ("message.seen", Payload { last_message_id: Some(message), user: Some(config.profile()), ..base })
        }
        Order::Typing { starts } => (
            if *starts { "typing.start" } else { "typing.stop" },
            Payload { channel_id: chat, user: Some(config.profile()), ..base },
        ),
    };
    Ok((name, Raw::json(&payload)?))
}

/// The event that joins a room or leaves it, and its payload.
pub(crate) fn enter(room: &Room, join: bool, config: &Config, api_key: &str) -> Result<(&'static str, Raw)> {
    let base = Payload { api_key, ..Payload::default() };
    let (name, payload) = match room {
        Room::User => (
            if join { "room.user.join" } else { "room.user.leave" },
            Payload { channel_user_id: Some(&config.user_id), ..base },
        ),
        Room::Chat(chat) => {
            (if join { "room.join" } else { "room.leave" }, Payload { channel_id: Some(chat), ..base })
        }
    };
    Ok((name, Raw::json(&payload)?))
}
