//! What the server does with what its clients emit.

use std::sync::Arc;

use serde_json::{Value, json};
use socketioxide::extract::{AckSender, SocketRef};

use super::MinChatAcks;
use super::hall::{Hall, chat_room, user_room};
use crate::oxide::{Backend, Emitted, House};

impl Backend for Arc<Hall> {
    fn event(&self, house: &Arc<House>, socket: &SocketRef, event: &Emitted, ack: AckSender) {
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
            let _ = socket.emit("error", &json!({"message": "Invalid API key"}));
            return;
        }
        let text = |name: &str| payload[name].as_str().unwrap_or_default();
        match name {
            "room.user.join" => self.join(socket, user_room(text("channelUserId"))),
            "room.user.leave" => socket.leave(user_room(text("channelUserId"))),
            "room.join" => {
                self.state().chat(text("channelId"));
                self.join(socket, chat_room(text("channelId")));
            }
            "room.leave" => socket.leave(chat_room(text("channelId"))),
            "message" | "message.update" => self.write(house, socket, name, payload, ack),
            "message.delete" => {
                let chat = self.state().delete(text("messageId"));
                self.relay(house, socket, chat, name, &payload["messageId"]);
            }
            "message.seen" => {
                let chat = self.state().chat_of(text("lastMessageId"));
                self.relay(house, socket, chat, name, &payload["lastMessageId"]);
            }
            // The user is relayed as it came: the server adds nothing, and takes nothing away.
            "typing.start" | "typing.stop" => {
                self.relay(house, socket, Some(text("channelId").to_owned()), name, &payload["user"]);
            }
            // The SDK's release 3.4 asks for an answer; 4.2 tells that it is there, and asks for none.
            _ => {
                let status = json!({"memberId": payload["memberId"], "status": "online"});
                if event.asks {
                    let _ = ack.send(&status);
                } else {
                    self.relay(house, socket, Some(text("channelId").to_owned()), name, &status);
                }
            }
        }
    }
}

impl Hall {
    fn join(&self, socket: &SocketRef, room: String) {
        socket.join(room.clone());
        self.state().joins.push(room);
    }

    /// Tells a chat's room, but not the socket that it came from.
    fn relay(&self, house: &House, socket: &SocketRef, chat: Option<String>, name: &str, payload: &Value) {
        if let Some(chat) = chat {
            house.tell(&chat_room(&chat), Some(socket.id), name, payload);
        }
    }

    fn write(&self, house: &House, socket: &SocketRef, name: &str, payload: &Value, ack: AckSender) {
        let acks = self.state().acks.clone();
        let done = match &acks {
            MinChatAcks::Refuse(words) => Err(words.clone()),
            _ if name == "message" => self.new_message(house, socket, payload),
            _ => self.update(house, socket, payload),
        };
        if acks != MinChatAcks::Never {
            let told = done.unwrap_or_else(|words| json!({"success": false, "message": words}));
            let _ = ack.send(&told);
        }
    }

    fn new_message(&self, house: &House, socket: &SocketRef, payload: &Value) -> Result<Value, String> {
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
        self.tell_of(house, &message, Some(socket.id));
        Ok(message)
    }

    fn update(&self, house: &House, socket: &SocketRef, payload: &Value) -> Result<Value, String> {
        let id = payload["messageId"].as_str().ok_or("messageId is required")?;
        let updated = self.state().update(id, payload);
        let (chat, message) = updated.ok_or_else(|| format!("there is no message {id}"))?;
        self.relay(house, socket, Some(chat), "message.update", &message);
        Ok(message)
    }
}
