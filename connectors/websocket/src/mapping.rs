//! What a frame of the service becomes: an entry of `events`.

use std::borrow::Cow;

use pontoon_sdk::{Error, EventType, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::pointer::Pointer;

/// What a frame of the service becomes.
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
    /// Where its time stands: RFC 3339, or a number of milliseconds since 1970.
    #[serde(default)]
    pub time: Option<Pointer>,
    /// What the number counts, if it is not milliseconds or is written as a text.
    #[serde(default)]
    pub time_unit: Option<TimeUnit>,
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
    /// Where the resource's name stands.
    #[serde(default)]
    pub resource: Option<Pointer>,
    /// Where the action's name stands.
    #[serde(default)]
    pub action: Option<Pointer>,
    /// Where the client stands that the service addressed.
    #[serde(default)]
    pub uid: Option<Pointer>,
    /// Where the data of a resource stands; any JSON.
    #[serde(default)]
    pub data: Option<Pointer>,
}

/// What a number counts that is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TimeUnit {
    /// Seconds since 1970, with or without a fraction.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds since 1970.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds since 1970.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds since 1970.
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// An event type that frames of a service can be mapped to: any but those that the daemon gives itself.
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
                "\"{}\" is no type that frames can be mapped to; the types are {}",
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
        json_schema!({ "description": "What a frame becomes", "type": "string", "enum": Self::words() })
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
        EventType::ResourceResponded | EventType::ResourceBroadcast => &["resource", "action", "uid", "data"],
        EventType::StateSnapshot | EventType::GapDetected | EventType::FrameUnrecognised => &[],
    }
}

pub(crate) fn is_message(kind: EventType) -> bool {
    kind.as_str().starts_with("message.")
}

impl Mapping {
    /// Everything that is pointed to, with the name of its setting.
    pub(crate) fn pointers(&self) -> [(&'static str, Option<&Pointer>); 17] {
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
            ("resource", self.resource.as_ref()),
            ("action", self.action.as_ref()),
            ("uid", self.uid.as_ref()),
            ("data", self.data.as_ref()),
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
        if self.time_unit.is_some() && self.time.is_none() {
            let text = "nothing is counted without a time; point to the time too, or leave the unit out";
            return Err(Error::config(text).at(format!("{at}/time_unit")));
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

    /// Checks the mapping of frames that have but one place to point to.
    pub(crate) fn check_only(&self, place: &str, what: &str, at: &str) -> Result<()> {
        self.check(at)?;
        for (field, pointer) in self.pointers() {
            if pointer.is_some_and(|pointer| pointer.as_str() != place) {
                let text = format!("{what}; write {field} = \"{place}\", or leave it out");
                return Err(Error::config(text).at(format!("{at}/{field}")));
            }
        }
        Ok(())
    }
}
