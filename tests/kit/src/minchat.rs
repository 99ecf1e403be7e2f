//! MinChat's socket server, as its SDK and its documentation show it; its source is not public.
//!
//! Taken from the facts: a connection needs no key, but every event carries it, and a wrong one is answered
//! with `error`; joins are not confirmed; `message` and `message.update` are acknowledged with the message as it is
//! stored; the room receives it, but not the socket that it came from; the participants of the chat receive `chat`;
//! `message.delete` and `message.seen` are bare texts, typing is a bare user, and none of these names its chat; rooms
//! are lost with the connection.
//!
//! Not known, and made up: the texts of errors and the rest of a refusal, whether the sender's own socket gets `chat`
//! (here: no), and what becomes of an event with a wrong key that asks for an acknowledgement (here: none comes).

mod events;
mod state;

use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Value, json};

use self::state::{Server, chat_room, user_room};
use crate::socketio::{Rooms, SocketIoServer, Timers};

/// A MinChat server on loopback. What every [`SocketIoServer`] can do, it can do too.
#[derive(Debug)]
pub struct MinChat {
    rooms: Arc<Rooms>,
    server: Arc<Server>,
}

impl MinChat {
    /// Starts one with this key.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(key: &str) -> Self {
        let server = Arc::new(Server::new(key));
        let rooms = Rooms::start(Arc::clone(&server), Timers::default()).await;
        Self { rooms, server }
    }

    /// The key that every event must carry.
    pub fn api_key(&self) -> &str {
        self.server.key()
    }

    // --- What it knows ---

    /// There is a user: an object with `id`, `username`, `name` and whatever else. A user that is not known is made of
    /// its id.
    pub fn add_user(&self, user: &Value) {
        self.server.state().add_user(user);
    }

    /// There is a chat, in which these users take part.
    pub fn add_chat(&self, id: &str, title: &str, participants: &[&str]) {
        let mut state = self.server.state();
        let chat = state.chat(id);
        title.clone_into(&mut chat.title);
        chat.participants.extend(participants.iter().map(|user| (*user).to_owned()));
    }

    // --- What others send ---

    /// Another user sends a message. Returns the message's id.
    pub fn post(&self, chat: &str, user: &str, text: &str) -> String {
        let message = self.server.state().new_message(chat, user, &json!({ "text": text }));
        self.server.publish(&self.rooms, &message, None);
        message["id"].as_str().unwrap_or_default().to_owned()
    }

    /// A user begins to type, or stops.
    pub fn typing(&self, chat: &str, user: &str, starts: bool) {
        let user = self.server.state().user(user);
        let name = if starts { "typing.start" } else { "typing.stop" };
        self.rooms.emit(&chat_room(chat), None, name, &user);
    }

    // --- What it saw ---

    /// How often a chat was joined, by all connections together.
    pub fn joins(&self, chat: &str) -> usize {
        self.server.state().joins.iter().filter(|room| **room == chat_room(chat)).count()
    }

    /// How often a user was joined.
    pub fn user_joins(&self, user: &str) -> usize {
        self.server.state().joins.iter().filter(|room| **room == user_room(user)).count()
    }

    /// How many connections are in a chat.
    pub fn members(&self, chat: &str) -> usize {
        self.rooms.members(&chat_room(chat))
    }

    /// How many connections are in a user's room.
    pub fn user_members(&self, user: &str) -> usize {
        self.rooms.members(&user_room(user))
    }

    /// The messages of a chat, as they are stored.
    pub fn messages(&self, chat: &str) -> Vec<Value> {
        self.server.state().chat(chat).messages.clone()
    }
}

impl Deref for MinChat {
    type Target = SocketIoServer;

    fn deref(&self) -> &SocketIoServer {
        self.rooms.server()
    }
}
