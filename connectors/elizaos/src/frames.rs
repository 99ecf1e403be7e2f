//! What the service says, read leniently: a field of a wrong type is taken for absent, and the rest still counts.

use std::collections::BTreeMap;

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::lenient::{Text, Timestamp};
use pontoon_sdk::{Error, Raw, Result, socketio};
use serde_json::value::RawValue;

/// How much of the service's words on a failure callers are told, in characters.
const MAX_WORDS: usize = 1_000;

/// An object of the service.
pub(crate) struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// Reads the argument of an event.
    ///
    /// # Errors
    /// `Protocol` if there is none, or it is no object.
    pub(crate) fn of(event: &'a socketio::Event) -> Result<Self> {
        let argument = event.args.values().first();
        argument
            .and_then(|argument| argument.parse().ok())
            .map(Self)
            .ok_or_else(|| Error::protocol("the payload is no object"))
    }

    /// A field that is there and not `null`.
    pub(crate) fn field(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A text, or a number or truth value as text.
    pub(crate) fn words(&self, name: &str) -> Option<String> {
        words(self.field(name)?)
    }

    /// The same, if it is not empty: an id or a name.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.words(name).filter(|text| !text.is_empty())
    }

    /// An object within.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        serde_json::from_str(self.field(name)?.get()).ok().map(Self)
    }

    /// A list or an object that holds anything, as it is.
    pub(crate) fn filled(&self, name: &str) -> Option<Box<RawValue>> {
        let value = self.field(name)?;
        let inner = value.get().get(1..)?.trim_start();
        (value.get().starts_with(['[', '{']) && !inner.starts_with([']', '}'])).then(|| value.to_owned())
    }

    /// Whether a field holds anything at all: no empty text, list or object.
    pub(crate) fn says(&self, name: &str) -> bool {
        self.text(name).is_some() || self.filled(name).is_some()
    }

    pub(crate) fn number<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.field(name)?.get()).ok()
    }

    pub(crate) fn truth(&self, name: &str) -> Option<bool> {
        serde_json::from_str(self.field(name)?.get()).ok()
    }

    pub(crate) fn time(&self, name: &str) -> Option<Timestamp> {
        serde_json::from_str(self.field(name)?.get()).ok()
    }

    /// The room: newer servers call it a channel, older ones know no other name, and some give both.
    pub(crate) fn channel(&self) -> Option<String> {
        self.text("channelId").or_else(|| self.text("roomId"))
    }

    /// The server that the room is in.
    pub(crate) fn server(&self) -> Option<String> {
        self.text("messageServerId").or_else(|| self.text("serverId"))
    }

    /// What is said of a failure.
    pub(crate) fn fault(&self) -> ServiceError {
        let inner = self.object("error");
        let inner = |name| inner.as_ref().and_then(|error| error.text(name));
        let message = self.text("error").or_else(|| inner("message")).or_else(|| self.text("message"));
        ServiceError {
            code: self.text("code").or_else(|| inner("code")),
            message: message.map(|words| cut(&words)),
            details: self.filled("details"),
        }
    }
}

/// A message that is told to all in its room.
pub(crate) struct Broadcast {
    pub(crate) id: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) sender: Option<String>,
    pub(crate) sender_name: Option<String>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) updated: Option<Timestamp>,
    pub(crate) attachments: Option<Box<RawValue>>,
    pub(crate) metadata: Option<Box<RawValue>>,
    pub(crate) source: Option<String>,
    /// The service says of our own, and of no other, under which id we sent it.
    pub(crate) echo: bool,
    /// It has what only agents have.
    pub(crate) thinks: bool,
}

/// What a message says that tells of an agent's work, and is no answer.
const ACTION: &str = "agent_action";

impl Broadcast {
    /// Reads it. What it lacks, it lacks.
    pub(crate) fn read(object: &Object<'_>) -> Self {
        Self {
            id: object.text("id"),
            channel: object.channel(),
            server: object.server(),
            text: object.words("text"),
            sender: object.text("senderId"),
            sender_name: object.text("senderName"),
            created: object.time("createdAt"),
            updated: object.time("updatedAt"),
            attachments: object.filled("attachments"),
            metadata: object.filled("metadata"),
            source: object.text("source"),
            echo: object.field("clientMessageId").is_some(),
            thinks: object.says("thought") || object.says("actions"),
        }
    }

    /// Whether only an agent can have said it.
    pub(crate) fn is_agents(&self) -> bool {
        self.thinks || self.source.as_deref() == Some("agent_response") || self.is_action()
    }

    /// Whether it tells of an agent's work.
    pub(crate) fn is_action(&self) -> bool {
        self.source.as_deref() == Some(ACTION)
    }

    /// When it was written, in milliseconds since 1970.
    pub(crate) fn written(&self) -> Option<i64> {
        let time = self.created.as_ref()?.time?;
        i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
    }
}

/// The words of an error that may be a text alone.
pub(crate) fn fault(event: &socketio::Event) -> ServiceError {
    match Object::of(event) {
        Ok(object) => object.fault(),
        Err(_) => {
            let argument = event.args.values().first();
            let message = argument.and_then(|argument| words(argument.parse().ok()?));
            ServiceError { message: message.map(|words| cut(&words)), ..ServiceError::default() }
        }
    }
}

fn words(value: &RawValue) -> Option<String> {
    serde_json::from_str::<Text>(value.get()).ok().map(String::from)
}

fn cut(words: &str) -> String {
    words.chars().take(MAX_WORDS).collect()
}

/// A payload, to be handed on as it is.
pub(crate) fn json(raw: &Raw) -> Result<Box<RawValue>> {
    raw.parse()
}
