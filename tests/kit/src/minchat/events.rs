//! What the server does with what its clients emit.

use std::sync::Arc;

use serde_json::{Value, json};

use super::state::{Server, chat_room, user_room};
use crate::socketio::{Backend, Emitted, Rooms, emit};
use crate::websocket::Connection;

impl Backend for Arc<Server> {
    fn event(&self, rooms: &Arc<Rooms>, client: &Connection, event: &Emitted) {
        let payload = event.payload();
        let name = event.name.as_str();
        let known = [
            "room.user.join",
            "room.user.leave",
            "room.join",
            "room.leave",
            "message",
            "message.update",
            "message.delete",
            "message.seen",
            "typing.start",
            "typing.stop",
            "user.status",
        ];
        if !known.contains(&name) {
            return;
        }
        if payload["apiKey"] != self.key() {
            emit(client, "error", &json!({"message": "Invalid API key"}));
            return;
        }
        let text = |name: &str| payload[name].as_str().unwrap_or_default();
        match name {
            "room.user.join" => self.join(rooms, client, user_room(text("channelUserId"))),
            "room.user.leave" => rooms.leave(client, &user_room(text("channelUserId"))),
            "room.join" => {
                self.state().chat(text("channelId"));
                self.join(rooms, client, chat_room(text("channelId")));
            }
            "room.leave" => rooms.leave(client, &chat_room(text("channelId"))),
            "message" | "message.update" => self.write(rooms, client, event),
            "message.delete" => {
                let chat = self.state().delete(text("messageId"));
                self.relay(rooms, client, chat, name, &payload["messageId"]);
            }
            "message.seen" => {
                let chat = self.state().chat_of(text("lastMessageId"));
                self.relay(rooms, client, chat, name, &payload["lastMessageId"]);
            }
            // The user is relayed unchanged.
            "typing.start" | "typing.stop" => {
                self.relay(rooms, client, Some(text("channelId").to_owned()), name, &payload["user"]);
            }
            // Release 3.4 of the SDK asks for an acknowledgement; 4.2 announces that it is online, and asks for none.
            _ => {
                let status = json!({"memberId": payload["memberId"], "status": "online"});
                if event.asks_for_ack() {
                    event.acknowledge(client, &status);
                } else {
                    self.relay(rooms, client, Some(text("channelId").to_owned()), name, &status);
                }
            }
        }
    }
}

impl Server {
    fn join(&self, rooms: &Rooms, client: &Connection, room: String) {
        rooms.join(client, &room);
        self.state().joins.push(room);
    }

    /// Emits to a chat's room, but not to the client that it came from.
    fn relay(&self, rooms: &Rooms, client: &Connection, chat: Option<String>, name: &str, payload: &Value) {
        if let Some(chat) = chat {
            rooms.emit(&chat_room(&chat), Some(client), name, payload);
        }
    }

    fn write(&self, rooms: &Rooms, client: &Connection, event: &Emitted) {
        let done = match event.name.as_str() {
            "message" => self.new_message(rooms, client, event.payload()),
            _ => self.update(rooms, client, event.payload()),
        };
        let answer = done.unwrap_or_else(|error| json!({"success": false, "message": error}));
        event.acknowledge(client, &answer);
    }

    fn new_message(&self, rooms: &Rooms, client: &Connection, payload: &Value) -> Result<Value, String> {
        let message = {
            let mut state = self.state();
            let user = payload["user_id"].as_str().ok_or("user_id is required")?;
            let chat = match payload["chat_id"].as_str() {
                Some(chat) if state.has_chat(chat) => chat.to_owned(),
                Some(chat) => return Err(format!("there is no chat {chat}")),
                None => state.new_id("chat"),
            };
            state.new_message(&chat, user, payload)
        };
        self.publish(rooms, &message, Some(client));
        Ok(message)
    }

    fn update(&self, rooms: &Rooms, client: &Connection, payload: &Value) -> Result<Value, String> {
        let id = payload["messageId"].as_str().ok_or("messageId is required")?;
        let updated = self.state().update(id, payload);
        let (chat, message) = updated.ok_or_else(|| format!("there is no message {id}"))?;
        self.relay(rooms, client, Some(chat), "message.update", &message);
        Ok(message)
    }
}
