//! MinChat's socket server, as its SDK and its documentation show it; its source is not public.
//!
//! Taken from the facts: nobody is asked for a key at the door, but every event carries it, and a wrong one is answered
//! with `error`; joins are taken without a word; `message` and `message.update` are acknowledged with the message as it is
//! stored; the room is told, but not the socket that it came from; those who take part in the chat are told with `chat`;
//! `message.delete` and `message.seen` are bare texts, typing is a bare user, and none of these says in which chat; rooms
//! are lost with the connection.
//!
//! Not known, and made up: the words of errors and the rest of a refusal, whether the sender's own socket gets `chat`
//! (here: no), and what becomes of an event with a wrong key that asks for an acknowledgement (here: none comes).

mod hall;
mod hear;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::hall::{Hall, chat_room, user_room};
use crate::oxide::OxideServer;
use crate::socketio::Timers;

/// A MinChat server on loopback. What every [`OxideServer`] can do, it can do too.
#[derive(Debug)]
pub struct MinChat {
    server: OxideServer,
    hall: Arc<Hall>,
}

/// What becomes of events that ask for an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MinChatAcks {
    /// They are carried out and acknowledged.
    #[default]
    Answer,
    /// They are not, and the acknowledgement says `success: false`, with these words.
    Refuse(String),
    /// They are carried out, and no acknowledgement ever comes.
    Never,
}

impl MinChat {
    /// Starts one with this key.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(key: &str) -> Self {
        Self::start_with(key, Timers::default()).await
    }

    /// Starts one that pings so often.
    ///
    /// # Panics
    /// As [`MinChat::start`].
    pub async fn start_with(key: &str, timers: Timers) -> Self {
        let hall = Arc::new(Hall::new(key));
        let patience = Duration::from_secs(45);
        let server = OxideServer::start(Arc::clone(&hall), timers, patience).await;
        Self { server, hall }
    }

    /// The key that every event must carry.
    pub fn api_key(&self) -> &str {
        self.hall.key()
    }

    // --- What it knows ---

    /// There is a user: an object with `id`, `username`, `name` and whatever else. A user that is not known is made of
    /// its id.
    pub fn add_user(&self, user: &Value) {
        self.hall.state().add_user(user);
    }

    /// There is a chat, in which these users take part.
    pub fn add_chat(&self, id: &str, title: &str, participants: &[&str]) {
        let mut state = self.hall.state();
        let chat = state.chat(id);
        title.clone_into(&mut chat.title);
        chat.participants.extend(participants.iter().map(|user| (*user).to_owned()));
    }

    /// What becomes of events that ask for an acknowledgement, from now on.
    pub fn acks(&self, acks: MinChatAcks) {
        self.hall.state().acks = acks;
    }

    // --- What is said ---

    /// Somebody else says something. Returns the message's id.
    pub fn say(&self, chat: &str, user: &str, text: &str) -> String {
        let message = self.hall.state().new_message(chat, user, &json!({ "text": text }));
        self.hall.tell_of(self.server.house(), &message, None);
        message["id"].as_str().unwrap_or_default().to_owned()
    }

    /// A message is changed, as by `PATCH /v1/messages/:id`. Nothing happens if it is not there.
    pub fn update(&self, message: &str, text: &str) {
        let updated = self.hall.state().update(message, &json!({ "text": text }));
        if let Some((chat, message)) = updated {
            self.emit_to(&chat_room(&chat), "message.update", &message);
        }
    }

    /// A message is there no more. Nothing happens if it never was.
    pub fn delete(&self, message: &str) {
        let chat = self.hall.state().delete(message);
        if let Some(chat) = chat {
            self.emit_to(&chat_room(&chat), "message.delete", &json!(message));
        }
    }

    /// Somebody has seen a message. Nothing happens if it is not there.
    pub fn seen(&self, message: &str) {
        let chat = self.hall.state().chat_of(message);
        if let Some(chat) = chat {
            self.emit_to(&chat_room(&chat), "message.seen", &json!(message));
        }
    }

    /// Somebody begins to type, or stops.
    pub fn typing(&self, chat: &str, user: &str, starts: bool) {
        let user = self.hall.state().user(user);
        let name = if starts { "typing.start" } else { "typing.stop" };
        self.emit_to(&chat_room(chat), name, &user);
    }

    /// Somebody comes or goes, as the server of the 4.2 SDK tells.
    pub fn status(&self, chat: &str, user: &str, status: &str) {
        let payload = json!({"memberId": user, "status": status});
        self.emit_to(&chat_room(chat), "user.status", &payload);
    }

    /// A chatbot does something, as the server of the 4.2 SDK tells.
    pub fn ai_event(&self, chat: &str, bot: &str, event: &str) {
        let payload = json!({"event": event, "chatbotUsername": bot, "chat_id": chat});
        self.emit_to(&chat_room(chat), "ai.event", &payload);
    }

    // --- What it saw ---

    /// How often a chat was joined, by all connections together.
    pub fn joins(&self, chat: &str) -> usize {
        self.hall.state().joins.iter().filter(|room| **room == chat_room(chat)).count()
    }

    /// How often a user was joined.
    pub fn user_joins(&self, user: &str) -> usize {
        self.hall.state().joins.iter().filter(|room| **room == user_room(user)).count()
    }

    /// How many connections are in a chat.
    pub fn members(&self, chat: &str) -> usize {
        self.server.house().members(&chat_room(chat))
    }

    /// How many connections listen for a user.
    pub fn user_members(&self, user: &str) -> usize {
        self.server.house().members(&user_room(user))
    }

    /// The messages of a chat, as they are stored.
    pub fn messages(&self, chat: &str) -> Vec<Value> {
        self.hall.state().chat(chat).messages.clone()
    }
}

impl Deref for MinChat {
    type Target = OxideServer;

    fn deref(&self) -> &OxideServer {
        &self.server
    }
}

#[cfg(test)]
mod tests;
