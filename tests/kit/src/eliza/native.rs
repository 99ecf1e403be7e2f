//! What real servers understand: two kinds of messages in two framings, and what is asked of their logs.

use std::sync::Arc;

use serde_json::{Value, json};
use socketioxide::extract::SocketRef;

use super::mind::{Mind, is_uuid};
use super::{AGENT, ElizaVersion};
use crate::oxide::{Emitted, House};

const ROOM_JOINING: u64 = 1;
const SEND_MESSAGE: u64 = 2;

impl Mind {
    pub(super) fn hear_native(self: &Arc<Self>, house: &Arc<House>, socket: &SocketRef, event: &Emitted) {
        let (kind, payload) = match event.name.as_str() {
            "message" => match (event.payload()["type"].as_u64(), event.payload().get("payload")) {
                (Some(kind), Some(payload)) => (kind, Some(payload)),
                // It says in its log that this is malformed, and no more.
                _ => return,
            },
            "1" => (ROOM_JOINING, event.args.first()),
            "2" => (SEND_MESSAGE, event.args.first()),
            name => return self.hear_of_logs(socket, name, event.payload()),
        };
        if !payload.is_some_and(Value::is_object) {
            return self.hear_nothing(house, socket, kind);
        }
        let payload = payload.unwrap_or(&Value::Null);
        match kind {
            ROOM_JOINING => self.join(socket, payload),
            SEND_MESSAGE => self.receive(house, socket, payload),
            // Unknown types are dropped.
            _ => {}
        }
    }

    /// A message without a payload.
    fn hear_nothing(self: &Arc<Self>, house: &Arc<House>, socket: &SocketRef, kind: u64) {
        match kind {
            ROOM_JOINING | SEND_MESSAGE if self.version() == ElizaVersion::V1_2 => {
                self.state().killed = true;
                house.die();
            }
            ROOM_JOINING => self.join(socket, &Value::Null),
            SEND_MESSAGE => self.receive(house, socket, &Value::Null),
            _ => {}
        }
    }

    /// Any text names a channel to join.
    fn join(&self, socket: &SocketRef, payload: &Value) {
        let Some(channel) = channel_of(payload) else {
            return raise(socket, "channelId is required for joining.");
        };
        socket.join(channel.to_owned());
        let old = {
            let mut state = self.state();
            state.joins.push(channel.to_owned());
            let messages = &state.channel(channel).messages;
            messages[messages.len().saturating_sub(self.options.replay)..].to_vec()
        };
        let mut joined = json!({
            "message": format!("{channel} was joined"),
            "channelId": channel,
            "roomId": channel,
        });
        if !payload["agentId"].is_null() {
            joined["agentId"] = payload["agentId"].clone();
        }
        let _ = socket.emit("channel_joined", &joined);
        let _ = socket.emit("room_joined", &joined);
        for message in old {
            let _ = socket.emit("messageBroadcast", &message);
        }
    }

    fn receive(self: &Arc<Self>, house: &Arc<House>, socket: &SocketRef, payload: &Value) {
        let field = self.server_field();
        let uuid = |value: &Value| value.as_str().filter(|text| is_uuid(text)).map(str::to_owned);
        let channel = channel_of(payload).and_then(|channel| uuid(&json!(channel)));
        let text = Some(&payload["message"]).filter(|text| is_truthy(text));
        let (Some(channel), Some(server), Some(sender), Some(text)) =
            (channel, uuid(&payload[field]), uuid(&payload["senderId"]), text)
        else {
            let other = if field == "serverId" { "server_id" } else { "message_server_id" };
            return raise(
                socket,
                &format!(
                    "For SEND_MESSAGE: channelId, {field} ({other}), senderId (author_id), and message are required."
                ),
            );
        };
        if !self.state().servers.contains(&server) {
            return raise(socket, &format!("Server {server} does not exist"));
        }
        // The first message of a conversation between two makes the agent take part in it.
        let target = [&payload["metadata"]["targetUserId"], &payload["targetUserId"]];
        if payload["metadata"]["isDm"] == true && target.contains(&&json!(AGENT)) {
            self.state().channel(&channel).has_agent = true;
        }
        let (id, message) = self.user_message(&channel, &sender, text, payload);
        house.tell(&channel, Some(socket.id), "messageBroadcast", &message);
        // The sender need not have joined to be told.
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
        let _ = socket.emit("messageBroadcast", &echo);
        let _ = socket.emit("messageAck", &ack);
        self.answer(house, &channel, text);
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

fn raise(socket: &SocketRef, error: &str) {
    let _ = socket.emit("messageError", &json!({ "error": error }));
}
