//! What real servers understand: two kinds of messages in two framings.

use std::sync::Arc;

use serde_json::{Value, json};

use super::state::{Server, is_uuid};
use super::{AGENT, DEFAULT_SERVER, ElizaVersion};
use crate::socketio::{Emitted, Rooms, emit};
use crate::websocket::Connection;

const ROOM_JOINING: u64 = 1;
const SEND_MESSAGE: u64 = 2;

impl Server {
    pub(super) fn native_event(self: &Arc<Self>, rooms: &Arc<Rooms>, client: &Connection, event: &Emitted) {
        let (kind, payload) = match event.name.as_str() {
            "message" => match (event.payload()["type"].as_u64(), event.payload().get("payload")) {
                (Some(kind), Some(payload)) => (kind, Some(payload)),
                // It logs that this is malformed, and does no more.
                _ => return,
            },
            "1" => (ROOM_JOINING, event.args.first()),
            "2" => (SEND_MESSAGE, event.args.first()),
            _ => return,
        };
        if !payload.is_some_and(Value::is_object) {
            return self.empty_payload(rooms, client, kind);
        }
        let payload = payload.unwrap_or(&Value::Null);
        match kind {
            ROOM_JOINING => self.join(rooms, client, payload),
            SEND_MESSAGE => self.receive(rooms, client, payload),
            // Unknown types are dropped.
            _ => {}
        }
    }

    /// A message without a payload.
    fn empty_payload(self: &Arc<Self>, rooms: &Arc<Rooms>, client: &Connection, kind: u64) {
        match kind {
            ROOM_JOINING | SEND_MESSAGE if self.version() == ElizaVersion::V1_2 => {
                self.state().killed = true;
                rooms.die();
            }
            ROOM_JOINING => self.join(rooms, client, &Value::Null),
            SEND_MESSAGE => self.receive(rooms, client, &Value::Null),
            _ => {}
        }
    }

    /// Any text names a channel to join.
    fn join(&self, rooms: &Rooms, client: &Connection, payload: &Value) {
        let Some(channel) = channel_of(payload) else {
            return raise(client, "channelId is required for joining.");
        };
        rooms.join(client, channel);
        self.state().joins.push(channel.to_owned());
        let mut joined = json!({
            "message": format!("{channel} was joined"),
            "channelId": channel,
            "roomId": channel,
        });
        if !payload["agentId"].is_null() {
            joined["agentId"] = payload["agentId"].clone();
        }
        emit(client, "channel_joined", &joined);
        emit(client, "room_joined", &joined);
    }

    fn receive(self: &Arc<Self>, rooms: &Arc<Rooms>, client: &Connection, payload: &Value) {
        let field = self.server_field();
        let uuid = |value: &Value| value.as_str().filter(|text| is_uuid(text)).map(str::to_owned);
        let channel = channel_of(payload).and_then(|channel| uuid(&json!(channel)));
        let text = Some(&payload["message"]).filter(|text| is_truthy(text));
        let (Some(channel), Some(server), Some(sender), Some(text)) =
            (channel, uuid(&payload[field]), uuid(&payload["senderId"]), text)
        else {
            let other = if field == "serverId" { "server_id" } else { "message_server_id" };
            return raise(
                client,
                &format!(
                    "For SEND_MESSAGE: channelId, {field} ({other}), senderId (author_id), and message are required."
                ),
            );
        };
        if server != DEFAULT_SERVER {
            return raise(client, &format!("Server {server} does not exist"));
        }
        // The first message of a conversation between two makes the agent take part in it.
        let target = [&payload["metadata"]["targetUserId"], &payload["targetUserId"]];
        if payload["metadata"]["isDm"] == true && target.contains(&&json!(AGENT)) {
            self.state().channel(&channel).has_agent = true;
        }
        let (id, message) = self.user_message(&channel, &sender, text, payload);
        rooms.emit(&channel, Some(client), "messageBroadcast", &message);
        // The sender receives it without having joined.
        let mut echo = message;
        let mut ack = json!({
            "messageId": id,
            "status": "received_by_server_and_processing",
            "channelId": channel,
            "roomId": channel,
        });
        if !payload["messageId"].is_null() {
            echo["clientMessageId"] = payload["messageId"].clone();
            ack["clientMessageId"] = payload["messageId"].clone();
        }
        emit(client, "messageBroadcast", &echo);
        emit(client, "messageAck", &ack);
        self.answer(rooms, &channel, text);
    }
}

fn channel_of(payload: &Value) -> Option<&str> {
    let names = [&payload["channelId"], &payload["roomId"]];
    names.into_iter().find_map(|name| name.as_str().filter(|name| !name.is_empty()))
}

/// Whether JavaScript takes a value for something: a message may be a number.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn raise(client: &Connection, error: &str) {
    emit(client, "messageError", &json!({ "error": error }));
}
