//! The events that the documentation describes. No released server understands them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::state::Server;
use super::{AGENT, AGENT_NAME};
use crate::socketio::{Emitted, Rooms, emit};
use crate::websocket::Connection;

impl Server {
    pub(super) fn documented_event(
        self: &Arc<Self>,
        rooms: &Arc<Rooms>,
        client: &Connection,
        event: &Emitted,
    ) {
        let payload = event.payload();
        let Some(room) = payload["roomId"].as_str().filter(|room| !room.is_empty()) else {
            if ["join", "leave", "message", "request-world-state"].contains(&event.name.as_str()) {
                let details = json!({ "event": event.name });
                emit(client, "error", &json!({"error": "roomId is required", "details": details}));
            }
            return;
        };
        match event.name.as_str() {
            "join" => {
                rooms.join(client, room);
                let mut state = self.state();
                state.joins.push(room.to_owned());
                state.channel(room).has_agent |= payload["agentId"] == AGENT;
            }
            "leave" => rooms.leave(client, room),
            "message" => {
                let given = json!({ "senderName": payload["name"] });
                let sender = payload["userId"].as_str().unwrap_or_default();
                let (_, message) = self.user_message(room, sender, &payload["text"], &given);
                rooms.emit(room, None, "messageBroadcast", &message);
                self.answer(rooms, room, &payload["text"]);
            }
            "request-world-state" => {
                emit(client, "world-state", &self.world());
            }
            _ => {}
        }
    }

    fn world(&self) -> Value {
        let state = self.state();
        let mut users = Map::new();
        let mut channels = Map::new();
        let mut messages = Map::new();
        for (id, channel) in &state.channels {
            channels.insert(id.clone(), json!({"id": id, "name": id}));
            messages.insert(id.clone(), json!(channel.messages));
            for message in &channel.messages {
                if let Some(sender) = message["senderId"].as_str().filter(|sender| *sender != AGENT) {
                    users.insert(sender.to_owned(), json!({"name": message["senderName"]}));
                }
            }
        }
        json!({
            "agents": {AGENT: {"name": AGENT_NAME}},
            "users": users,
            "channels": channels,
            "messages": messages,
        })
    }
}
