//! An event as the daemon published it: its subject, headers and body.

use async_nats::HeaderMap;
use serde_json::Value;

/// An event.
pub(crate) struct Event {
    pub(crate) subject: String,
    /// `ce-id`.
    pub(crate) id: String,
    /// `ce-sequence`, which sorts as text.
    pub(crate) sequence: String,
    pub(crate) body: Value,
}

impl Event {
    /// Reads it from a message. What cannot be read is empty, and so not what was expected.
    pub(crate) fn read(subject: &str, headers: Option<&HeaderMap>, payload: &[u8]) -> Self {
        let header = |name| {
            let value = headers.and_then(|headers| headers.get(name));
            value.map(|value| value.as_str().to_owned()).unwrap_or_default()
        };
        Self {
            subject: subject.to_owned(),
            id: header("ce-id"),
            sequence: header("ce-sequence"),
            body: serde_json::from_slice(payload).unwrap_or_default(),
        }
    }

    /// The instance whose event it is.
    pub(crate) fn instance(&self) -> &str {
        self.token(3)
    }

    /// What happened: `message.created`.
    pub(crate) fn kind(&self) -> String {
        format!("{}.{}", self.token(4), self.token(5))
    }

    /// Where it happened: the subject's last token.
    pub(crate) fn scope(&self) -> &str {
        self.token(6)
    }

    /// A text in the body, or nothing.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its content, for people.
    pub(crate) fn gist(&self) -> String {
        let who = match self.text("/sender/name") {
            "" => self.text("/sender/id"),
            name => name,
        };
        match self.kind().as_str() {
            "message.delta" => format!("+ {:?}", self.text("/delta")),
            "message.accepted" => self.text("/message/id").to_owned(),
            "channel.updated" => self.text("/title").to_owned(),
            "typing.started" | "typing.stopped" => who.to_owned(),
            "resource.broadcast" => self.body["data"].to_string(),
            "socket.message" => self.text("/message").to_owned(),
            "socket.closed" | "socket.failed" => self.text("/reason").to_owned(),
            "frame.unrecognised" | "error.raised" | "gap.detected" => self.body.to_string(),
            _ if self.body["message"].is_object() => format!("{who}: {}", self.text("/message/text")),
            _ => String::new(),
        }
    }

    fn token(&self, place: usize) -> &str {
        self.subject.split('.').nth(place).unwrap_or_default()
    }
}
