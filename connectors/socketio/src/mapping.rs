//! What an event of the service becomes: an entry of `events`, and the event that is made by it.

use std::borrow::Cow;

use pontoon_sdk::event::{Message, MessageObject, Sender, ServiceError};
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::{Error, Event, EventType, Fields, Raw, Result, socketio};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::pointer::{self, Pointer};

/// What one event of the service becomes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What it becomes: a noun and a verb, such as `message.created`.
    #[serde(rename = "type")]
    pub kind: MappedType,
    /// Where its conversation stands; becomes `channel` and the last token of the subject.
    #[serde(default)]
    pub channel: Option<Pointer>,
    /// Where the server or space of the conversation stands.
    #[serde(default)]
    pub server: Option<Pointer>,
    /// Where its id stands; becomes `message.id` for messages.
    #[serde(default)]
    pub id: Option<Pointer>,
    /// Where its version stands. Of several events with one channel, id and version, the first is published.
    #[serde(default)]
    pub version: Option<Pointer>,
    /// Where the sender's id stands.
    #[serde(default)]
    pub sender: Option<Pointer>,
    /// Where the sender's name stands.
    #[serde(default)]
    pub sender_name: Option<Pointer>,
    /// Where its words stand: the message's, the log line's, the error's, the reason.
    #[serde(default)]
    pub text: Option<Pointer>,
    /// Where the new part of a message stands that comes in parts.
    #[serde(default)]
    pub delta: Option<Pointer>,
    /// Where its time stands: RFC 3339, or milliseconds since 1970.
    #[serde(default)]
    pub time: Option<Pointer>,
    /// Where the title of a conversation or a socket stands.
    #[serde(default)]
    pub title: Option<Pointer>,
    /// Where the presence stands, in the service's own word.
    #[serde(default)]
    pub status: Option<Pointer>,
    /// Where the level of a log line stands.
    #[serde(default)]
    pub level: Option<Pointer>,
    /// Where the code of an error stands.
    #[serde(default)]
    pub code: Option<Pointer>,
    /// What to acknowledge it with where the service asks for that; `[]` is an acknowledgement without arguments. Left
    /// out, it is never acknowledged.
    #[serde(default)]
    pub acknowledge: Option<Vec<Value>>,
}

/// An event type that events of a service can be mapped to: any but those that the daemon gives itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedType(pub EventType);

impl MappedType {
    fn words() -> Vec<&'static str> {
        let own = |kind: &EventType| matches!(kind, EventType::GapDetected | EventType::FrameUnrecognised);
        EventType::ALL.iter().filter(|kind| !own(kind)).map(|kind| kind.as_str()).collect()
    }
}

impl<'de> Deserialize<'de> for MappedType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let kind = if Self::words().contains(&word.as_str()) { word.parse().ok() } else { None };
        kind.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "\"{}\" is no type that events can be mapped to; the types are {}",
                word.escape_debug(),
                Self::words().join(", ")
            ))
        })
    }
}

impl JsonSchema for MappedType {
    fn schema_name() -> Cow<'static, str> {
        "MappedType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "What an event becomes", "type": "string", "enum": Self::words() })
    }
}

/// What every event type takes.
const ALWAYS: [&str; 4] = ["channel", "id", "version", "time"];

/// What an event type takes beyond that.
fn takes(kind: EventType) -> &'static [&'static str] {
    match kind {
        EventType::MessageCreated | EventType::MessageUpdated | EventType::MessageCompleted => {
            &["server", "sender", "sender_name", "text"]
        }
        EventType::MessageDelta => &["server", "sender", "sender_name", "text", "delta"],
        EventType::MessageDeleted | EventType::MessageSeen | EventType::MessageAccepted => {
            &["server", "sender", "sender_name"]
        }
        EventType::ChannelUpdated
        | EventType::ChannelJoined
        | EventType::ChannelLeft
        | EventType::ChannelCleared
        | EventType::ChannelDeleted => &["server", "title"],
        EventType::TypingStarted | EventType::TypingStopped => &["sender", "sender_name"],
        EventType::PresenceChanged => &["sender", "sender_name", "status"],
        EventType::LogEntry => &["sender", "sender_name", "level", "text"],
        EventType::SocketOpened => &["title"],
        EventType::SocketMessage | EventType::SocketClosed | EventType::SocketFailed => &["title", "text"],
        EventType::ErrorRaised => &["code", "text"],
        EventType::StateSnapshot
        | EventType::ResourceResponded
        | EventType::ResourceBroadcast
        | EventType::GapDetected
        | EventType::FrameUnrecognised => &[],
    }
}

fn is_message(kind: EventType) -> bool {
    kind.as_str().starts_with("message.")
}

impl Mapping {
    fn pointers(&self) -> [(&'static str, Option<&Pointer>); 13] {
        [
            ("channel", self.channel.as_ref()),
            ("server", self.server.as_ref()),
            ("id", self.id.as_ref()),
            ("version", self.version.as_ref()),
            ("sender", self.sender.as_ref()),
            ("sender_name", self.sender_name.as_ref()),
            ("text", self.text.as_ref()),
            ("delta", self.delta.as_ref()),
            ("time", self.time.as_ref()),
            ("title", self.title.as_ref()),
            ("status", self.status.as_ref()),
            ("level", self.level.as_ref()),
            ("code", self.code.as_ref()),
        ]
    }

    /// Checks that everything that is pointed to has a place in the event.
    pub(crate) fn check(&self, at: &str) -> Result<()> {
        let kind = self.kind.0;
        let given = self.pointers().into_iter().filter(|(_, pointer)| pointer.is_some());
        for (field, _) in given {
            if !ALWAYS.contains(&field) && !takes(kind).contains(&field) {
                let known: Vec<_> = ALWAYS.iter().chain(takes(kind)).copied().collect();
                let text = format!("{} has no {field}; it has {}", kind.as_str(), known.join(", "));
                return Err(Error::config(text).at(format!("{at}/{field}")));
            }
        }
        match (&self.id, &self.version) {
            (None, Some(_)) => Err(Error::config(
                "a version tells nothing apart without an id; point to the id too, or leave the version out",
            )
            .at(format!("{at}/version"))),
            (Some(_), None) if !is_message(kind) => Err(Error::config(format!(
                "{} shows no id; point to a version too, so that what comes twice is published once, or leave the id \
                 out",
                kind.as_str()
            ))
            .at(format!("{at}/id"))),
            _ => Ok(()),
        }
    }

    /// The event that an event of the service becomes.
    pub(crate) fn event(&self, said: &socketio::Event) -> Event {
        let kind = self.kind.0;
        let pointers = self.pointers().map(|(_, pointer)| pointer);
        let [
            channel,
            server,
            id,
            version,
            sender,
            sender_name,
            text,
            delta,
            time,
            title,
            status,
            level,
            code,
        ] = pointer::find(said.args.values(), pointers).map(|json| Found(json.unwrap_or("null")));
        let time = time.time();
        let (id, version, words) = (id.text(), version.text(), text.text());
        let mut event = Event::new(kind, said.args.payload()).upstream(said.name.clone());
        event.time = time.as_ref().and_then(|time| time.time);
        let fields = &mut event.fields;
        fields.channel = channel.text();
        fields.server = server.text();
        fields.sender = sender_of(sender.text(), sender_name.text());
        fields.delta = delta.text();
        fields.title = title.text();
        fields.status = status.text();
        fields.level = level.text();
        place_words(fields, kind, words, code.text());
        if is_message(kind) {
            place_message(fields, kind, id.clone(), time.as_ref());
        } else if kind == EventType::LogEntry {
            fields.time = time.map(|time| time.text);
        }
        event.scope.clone_from(&event.fields.channel);
        // An array is JSON, so that no part of it can run into the next.
        event.identity = id.zip(version).map(|(id, version)| {
            Value::from_iter([event.fields.channel.clone(), Some(id), Some(version)]).to_string()
        });
        event
    }
}

/// The JSON text of what a pointer found; `null` for nothing.
struct Found<'a>(&'a str);

impl Found<'_> {
    /// A string, a number or a truth value as text; a number keeps its digits.
    fn text(&self) -> Option<String> {
        match self.0.as_bytes().first()? {
            b'"' => serde_json::from_str(self.0).ok(),
            b'{' | b'[' | b'n' => None,
            _ => Some(self.0.to_owned()),
        }
    }

    fn time(&self) -> Option<Timestamp> {
        serde_json::from_str(self.0).ok()
    }
}

fn sender_of(id: Option<String>, name: Option<String>) -> Option<Sender> {
    (id.is_some() || name.is_some()).then_some(Sender { id, name, kind: None })
}

/// Puts words, and the code of an error, where the event's type has them.
fn place_words(fields: &mut Fields, kind: EventType, words: Option<String>, code: Option<String>) {
    match kind {
        EventType::ErrorRaised if code.is_some() || words.is_some() => {
            fields.error = Some(ServiceError { code, message: words, details: None });
        }
        EventType::SocketMessage => fields.message = words.map(Message::Text),
        EventType::SocketClosed | EventType::SocketFailed => fields.reason = words,
        EventType::ErrorRaised => {}
        // Those of a message are moved to the message.
        _ => fields.text = words,
    }
}

fn place_message(fields: &mut Fields, kind: EventType, id: Option<String>, time: Option<&Timestamp>) {
    let text = fields.text.take();
    // Only then is the time of the event surely that of the message.
    let created_at = time.filter(|_| kind == EventType::MessageCreated).map(|time| time.text.clone());
    if id.is_some() || text.is_some() || created_at.is_some() {
        let message = MessageObject { id, text, created_at, ..MessageObject::default() };
        fields.message = Some(Message::Object(message));
    }
}

/// What an event becomes that no entry of `events` speaks of.
pub(crate) fn unmapped(name: &str, payload: Raw) -> Event {
    let mut event = Event::new(EventType::FrameUnrecognised, payload).upstream(name.to_owned());
    event.fields.name = Some(name.to_owned());
    event
}
