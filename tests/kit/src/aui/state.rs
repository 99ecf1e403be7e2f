//! What the service keeps, whom it lets in, and how it goes through an answer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use serde_json::Value;
use tokio::time::sleep;

use super::answer::{End, error, whole};
use super::{AuiAnswer, AuiRefusal, AuiTurn, PATH};
use crate::websocket::{Connection, Refusal, Request, Service};

/// Closes for what a client did wrong, and for what the service did.
const POLICY: u16 = 1008;
const INTERNAL: u16 = 1011;

/// What the service keeps.
#[derive(Debug)]
pub(super) struct Server {
    key: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) refusal: AuiRefusal,
    pub(super) one_at_a_time: bool,
    pub(super) answer: AuiAnswer,
    pub(super) answers: HashMap<String, AuiAnswer>,
    pub(super) turns: Vec<AuiTurn>,
    /// The connections that are about to be closed, which are not listened to any more.
    closed: HashSet<usize>,
    ids: u64,
}

impl Server {
    pub(super) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), state: Arc::default() }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("68e78d0dc5a4b19a{:08x}", self.ids)
    }

    /// A message of the agent's, which was not sent yet.
    pub(super) fn new_message(&mut self, text: &str) -> Value {
        whole(&self.new_id(), text)
    }

    /// Sends an error, and closes the connection.
    fn fail(&mut self, connection: &Connection, status: u16, words: &str) {
        connection.send_text(&error(status, words).to_string());
        self.close(connection, if status < 500 { POLICY } else { INTERNAL });
    }

    fn close(&mut self, connection: &Connection, code: u16) {
        self.closed.insert(connection.id());
        connection.close(code, "");
    }

    /// Takes in a message. Returns its place among the turns, and how it is answered.
    fn take(&mut self, connection: &Connection, text: &str) -> Option<(usize, AuiAnswer)> {
        let id = connection.id();
        if self.closed.contains(&id) {
            return None;
        }
        let Ok(body) = serde_json::from_str::<Value>(text) else {
            self.fail(connection, 500, "the message is not JSON");
            return None;
        };
        let (Some(task), Some(text)) = (body["task_id"].as_str(), body["text"].as_str()) else {
            self.fail(connection, 422, "task_id and text are required");
            return None;
        };
        let is_busy = self.turns.iter().any(|turn| turn.connection == id && !turn.is_over);
        if self.one_at_a_time && is_busy {
            self.fail(connection, 409, "another message is being answered");
            return None;
        }
        let answer = self.answers.get(task).unwrap_or(&self.answer).clone();
        let (task, text, at) = (task.to_owned(), text.to_owned(), Instant::now());
        let turn = AuiTurn { connection: id, task, text, body, at, updates: 0, answer: None, is_over: false };
        self.turns.push(turn);
        Some((self.turns.len() - 1, answer))
    }
}

impl Service for Server {
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        if request.path == PATH { Ok(None) } else { Err(Refusal::status(403)) }
    }

    fn connected(&self, connection: &Arc<Connection>) {
        let request = connection.request();
        let key = request.parameter("network_api_key").or_else(|| request.header("x-network-api-key"));
        if key == Some(&self.key) {
            return;
        }
        let mut state = self.state();
        match state.refusal {
            AuiRefusal::Close => state.close(connection, POLICY),
            AuiRefusal::Error => state.fail(connection, 401, "Invalid API key"),
            AuiRefusal::ErrorWithKey => {
                let words = format!("Invalid API key: {}", key.unwrap_or_default());
                state.fail(connection, 401, &words);
            }
        }
    }

    fn text(&self, connection: &Arc<Connection>, text: &str) {
        let taken = self.state().take(connection, text);
        if let Some((place, answer)) = taken {
            tokio::spawn(go_through(Arc::downgrade(&self.state), Arc::clone(connection), place, answer));
        }
    }
}

/// Answers a message, unless the service is gone before that.
async fn go_through(
    state: Weak<Mutex<State>>,
    connection: Arc<Connection>,
    place: usize,
    answer: AuiAnswer,
) -> Option<()> {
    let upgraded = state.upgrade()?;
    let (message, updates) = {
        let mut state = upgraded.lock().unwrap();
        let AuiTurn { task, text, .. } = state.turns[place].clone();
        let message = state.new_message(answer.text_for(&text));
        let id = message["id"].as_str().unwrap_or_default();
        let updates = answer.updates_of(answer.text_for(&text), &task, id);
        (message, updates)
    };
    drop(upgraded);
    for update in updates {
        sleep(answer.pace()).await;
        connection.send_text(&update.to_string());
        state.upgrade()?.lock().unwrap().turns[place].updates += 1;
    }
    sleep(answer.pace()).await;
    let state = state.upgrade()?;
    let mut state = state.lock().unwrap();
    match answer.end() {
        End::Whole => {
            connection.send_text(&message.to_string());
            state.turns[place].answer = Some(message);
        }
        End::Error(status, words) => state.fail(&connection, *status, words),
        End::Close(code) => state.close(&connection, *code),
        End::Break => connection.cut(),
        End::Silence => {}
    }
    state.turns[place].is_over = !matches!(answer.end(), End::Silence);
    Some(())
}
