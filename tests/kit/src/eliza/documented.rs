//! What the documentation says that the server understands. No server that was ever released does.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use socketioxide::extract::SocketRef;

use super::mind::Mind;
use super::{AGENT, AGENT_NAME};
use crate::oxide::{Emitted, House};

impl Mind {
    pub(super) fn hear_documented(self: &Arc<Self>, house: &Arc<House>, socket: &SocketRef, event: &Emitted) {
        let payload = event.payload();
        let Some(room) = payload["roomId"].as_str().filter(|room| !room.is_empty()) else {
            if ["join", "leave", "message", "request-world-state"].contains(&event.name.as_str()) {
                let details = json!({ "event": event.name });
                let _ = socket.emit("error", &json!({"error": "roomId is required", "details": details}));
            }
            return;
        };
        match event.name.as_str() {
            "join" => {
                socket.join(room.to_owned());
                let mut state = self.state();
                state.joins.push(room.to_owned());
                state.channel(room).has_agent |= payload["agentId"] == AGENT;
            }
            "leave" => socket.leave(room.to_owned()),
            "message" => {
                let given = json!({ "senderName": payload["name"] });
                let sender = payload["userId"].as_str().unwrap_or_default();
                let (_, message) = self.user_message(room, sender, &payload["text"], &given);
                house.tell(room, None, "messageBroadcast", &message);
                self.answer(house, room, &payload["text"]);
            }
            "request-world-state" => {
                let _ = socket.emit("world-state", &self.world());
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
