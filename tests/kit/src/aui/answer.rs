//! How the agent answers: in which updates, in which envelope, and to which end.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The only agent there is.
pub(super) const AGENT: &str = "66f2a1b4c5d6e7f801234567";
/// Every user.
const USER: &str = "66f2a1b4c5d6e7f8089abcde";
/// The event that carries an update.
const UPDATED: &str = "thread-message-text-content-updated";

/// How the agent answers a message.
#[derive(Debug, Clone)]
pub struct AuiAnswer {
    text: Option<String>,
    updates: usize,
    pace: Duration,
    envelope: AuiEnvelope,
    end: End,
}

/// How updates are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuiEnvelope {
    /// `{event, data}`, as on the page.
    #[default]
    Flat,
    /// `{channel: {event_name}, scope: {context}, data}`, as in the service's library; it names task and message.
    Full,
}

/// What follows the updates.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The final message.
    Whole,
    /// An error with this status and message, and the connection is closed.
    Error(u16, String),
    /// The connection is closed with this code.
    Close(u16),
    /// The connection breaks.
    Break,
    /// Nothing, ever.
    Silence,
}

impl Default for AuiAnswer {
    /// The text of the message, at once and whole.
    fn default() -> Self {
        let (pace, envelope) = (Duration::ZERO, AuiEnvelope::Flat);
        Self { text: None, updates: 0, pace, envelope, end: End::Whole }
    }
}

impl AuiAnswer {
    /// Always this text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// In so many updates before it comes whole.
    #[must_use]
    pub fn updates(mut self, count: usize) -> Self {
        self.updates = count;
        self
    }

    /// After this time. Each update takes as long.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.pace = time;
        self
    }

    /// With updates in this envelope.
    #[must_use]
    pub fn envelope(mut self, envelope: AuiEnvelope) -> Self {
        self.envelope = envelope;
        self
    }

    /// With an error after the updates. Then the connection is closed: with 1011 from status 500 on, else with 1008.
    #[must_use]
    pub fn fails(mut self, status: u16, words: &str) -> Self {
        self.end = End::Error(status, words.to_owned());
        self
    }

    /// With nothing after the updates but a close of this code.
    #[must_use]
    pub fn closes(mut self, code: u16) -> Self {
        self.end = End::Close(code);
        self
    }

    /// With a connection that breaks after the updates.
    #[must_use]
    pub fn breaks(mut self) -> Self {
        self.end = End::Break;
        self
    }

    /// With nothing after the updates.
    #[must_use]
    pub fn falls_silent(mut self) -> Self {
        self.end = End::Silence;
        self
    }

    /// How long it takes to come to the next update, or to the end.
    pub(super) fn pace(&self) -> Duration {
        self.pace
    }

    pub(super) fn end(&self) -> &End {
        &self.end
    }

    /// The text of the answer to this.
    pub(super) fn text_for<'a>(&'a self, asked: &'a str) -> &'a str {
        self.text.as_deref().unwrap_or(asked)
    }

    /// The updates of this answer, as they are sent; `message` is its id.
    pub(super) fn updates_of(&self, text: &str, task: &str, message: &str) -> Vec<Value> {
        let letters: Vec<char> = text.chars().collect();
        let up_to =
            |number: usize| letters[..letters.len() * number / self.updates].iter().collect::<String>();
        (1..=self.updates).map(|number| self.envelope.wrap(&up_to(number), task, message)).collect()
    }
}

impl AuiEnvelope {
    fn wrap(self, text: &str, task: &str, message: &str) -> Value {
        let data = json!({ "text": text });
        match self {
            Self::Flat => json!({"event": UPDATED, "data": data}),
            Self::Full => json!({
                "channel": {
                    "type": "WEBSOCKET",
                    "channel_name": "3f0e8a52-41c7-4d0e-9b6a-7c52d1f0a9e4",
                    "event_name": UPDATED,
                },
                "scope": {
                    "type": "LLM_ACTIVATION_EXECUTION",
                    "data": {"status": "PENDING"},
                    "context": {
                        "message_id": message,
                        "task_id": task,
                        "interaction_id": "66f2a1b4c5d6e7f80fedcba9",
                        "pillar": "conversation",
                    },
                },
                "data": data,
                "timestamp": now(),
            }),
        }
    }
}

/// A final message. It does not name its task.
pub(super) fn whole(id: &str, text: &str) -> Value {
    json!({
        "id": id,
        "created_at": now(),
        "text": text,
        "sender": {"id": AGENT, "type": "agent"},
        "receiver": {"id": USER, "type": "user"},
        "cards": [{
            "id": "card-1",
            "name": "Microwave",
            "category": "kitchen",
            "parameters": [{"param": "capacity", "title": "Capacity", "value": 20, "type": "numeric"}],
            "is_recommended": true,
        }],
        "followup_suggestions": ["Show me smaller ones"],
    })
}

/// An error, as the page shows it.
pub(super) fn error(status: u16, words: &str) -> Value {
    let description = match status {
        401 => "Not authenticated",
        404 => "Not found",
        409 => "Conflict",
        422 => "Validation error",
        500.. => "Internal server error",
        _ => "Bad request",
    };
    json!({"status_code": status, "description": description, "message": words, "extra_data": {}})
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap()
}
