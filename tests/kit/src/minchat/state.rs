//! The server's state: users, chats and their messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::socketio::Rooms;
use crate::websocket::Connection;

#[derive(Debug)]
pub(super) struct Server {
    key: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The rooms that were joined, in order.
    pub(super) joins: Vec<String>,
    users: BTreeMap<String, Value>,
    chats: BTreeMap<String, Chat>,
    ids: u64,
}

#[derive(Debug, Default)]
pub(super) struct Chat {
    pub(super) title: String,
    pub(super) participants: BTreeSet<String>,
    pub(super) messages: Vec<Value>,
    created_at: String,
}

/// The room of a chat.
pub(super) fn chat_room(chat: &str) -> String {
    format!("chat:{chat}")
}

/// The room of a user.
pub(super) fn user_room(user: &str) -> String {
    format!("user:{user}")
}

impl Server {
    pub(super) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), state: Mutex::default() }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Emits a new message to the chat's room and to its participants, but not to the client that it came from.
    pub(super) fn publish(&self, rooms: &Rooms, message: &Value, from: Option<&Connection>) {
        let chat = message["chat_id"].as_str().unwrap_or_default();
        rooms.emit(&chat_room(chat), from, "message", message);
        let (participants, update) = {
            let mut state = self.state();
            let chat_state = state.chat(chat);
            let participants = chat_state.participants.clone();
            let update = json!({
                "success": true,
                "id": chat,
                "title": chat_state.title,
                "participant_user_ids": participants,
                "last_message": message,
                "created_at": chat_state.created_at,
            });
            (participants, update)
        };
        for user in participants {
            rooms.emit(&user_room(&user), from, "chat", &update);
        }
    }
}

impl State {
    pub(super) fn add_user(&mut self, user: &Value) {
        let id = user["id"].as_str().unwrap_or_default().to_owned();
        self.users.insert(id, user.clone());
    }

    /// A user as others are shown it.
    pub(super) fn user(&mut self, id: &str) -> Value {
        let made = || {
            let now = now();
            json!({"id": id, "username": id, "name": id, "last_active": now, "created_at": now})
        };
        self.users.entry(id.to_owned()).or_insert_with(made).clone()
    }

    /// A chat, which is made if it is not there.
    pub(super) fn chat(&mut self, id: &str) -> &mut Chat {
        let made = || Chat { title: id.to_owned(), created_at: now(), ..Chat::default() };
        self.chats.entry(id.to_owned()).or_insert_with(made)
    }

    pub(super) fn has_chat(&self, id: &str) -> bool {
        self.chats.contains_key(id)
    }

    /// An id that nothing else has.
    pub(super) fn new_id(&mut self, of: &str) -> String {
        self.ids += 1;
        format!("{of}-{}", self.ids)
    }

    /// Stores a message; `given` holds `text`, `file` and `metadata`.
    pub(super) fn new_message(&mut self, chat: &str, user: &str, given: &Value) -> Value {
        let mut message = json!({
            "success": true,
            "id": self.new_id("message"),
            "chat_id": chat,
            "user": self.user(user),
            "seen": false,
            "created_at": now(),
        });
        put(&mut message, given);
        let chat = self.chat(chat);
        chat.participants.insert(user.to_owned());
        chat.messages.push(message.clone());
        message
    }

    /// Changes a message. Returns its chat and how it is now, if it is there.
    pub(super) fn update(&mut self, id: &str, given: &Value) -> Option<(String, Value)> {
        let chat = self.chat_of(id)?;
        let messages = &mut self.chat(&chat).messages;
        let message = messages.iter_mut().find(|message| message["id"] == id)?;
        put(message, given);
        message["updated_at"] = json!(now());
        Some((chat, message.clone()))
    }

    /// Takes a message away. Returns its chat, if it was there.
    pub(super) fn delete(&mut self, id: &str) -> Option<String> {
        let chat = self.chat_of(id)?;
        self.chat(&chat).messages.retain(|message| message["id"] != id);
        Some(chat)
    }

    /// The chat of a message, if it is there.
    pub(super) fn chat_of(&self, id: &str) -> Option<String> {
        let has = |chat: &Chat| chat.messages.iter().any(|message| message["id"] == id);
        self.chats.iter().find(|(_, chat)| has(chat)).map(|(id, _)| id.clone())
    }
}

/// Puts what is given into a message. A file is represented by the address where it is stored.
fn put(message: &mut Value, given: &Value) {
    for name in ["text", "metadata"] {
        if !given[name].is_null() {
            message[name] = given[name].clone();
        }
    }
    if let Some(name) = given["file"]["name"].as_str() {
        let file = [
            ("type", json!("file")),
            ("url", json!(format!("https://files.example/{name}"))),
            ("name", json!(name)),
            ("size", json!("1 KB")),
        ];
        message["file"] = Value::Object(Map::from_iter(file.map(|(key, value)| (key.to_owned(), value))));
    }
}

/// The time as JavaScript writes it: to the millisecond.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_millisecond(now.millisecond()).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}
