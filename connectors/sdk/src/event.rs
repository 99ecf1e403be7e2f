//! What a service sent, in a form that is the same for every service.

mod custom;
mod fields;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::command::id::CommandId;
use crate::error::{Error, Result};
use crate::joins::Joined;
use crate::json;

pub use custom::CustomType;
pub use fields::{Message, MessageObject, Sender, SenderKind, ServiceError};

/// Declares the closed set of event types with their names.
macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $noun:literal . $verb:literal,)*) => {
        /// The type of an event: a noun and a verb. The set is closed, and all services share it, but for those that an
        /// operator names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventType {
            $($(#[$doc])* $name,)*
            /// A type that the configuration names: its noun begins with `x-`.
            Custom(CustomType),
        }

        impl EventType {
            /// Every type that services share.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// `noun.verb`, as it stands in subjects.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($noun, ".", $verb),)*
                    Self::Custom(custom) => custom.name,
                }
            }

            /// `pontoon.noun.verb.v1`, as it stands in `ce-type`.
            pub const fn ce_type(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("pontoon.", $noun, ".", $verb, ".v1"),)*
                    Self::Custom(custom) => custom.ce_type,
                }
            }
        }
    };
}

event_types! {
    /// A message was written.
    MessageCreated = "message"."created",
    /// A message was changed.
    MessageUpdated = "message"."updated",
    /// A message that came in parts is whole.
    MessageCompleted = "message"."completed",
    /// One more part of a message.
    MessageDelta = "message"."delta",
    /// A message was deleted.
    MessageDeleted = "message"."deleted",
    /// A message was read.
    MessageSeen = "message"."seen",
    /// The service took a message of ours.
    MessageAccepted = "message"."accepted",
    /// A conversation's properties changed.
    ChannelUpdated = "channel"."updated",
    /// We joined a conversation.
    ChannelJoined = "channel"."joined",
    /// We left a conversation.
    ChannelLeft = "channel"."left",
    /// A conversation's messages were removed.
    ChannelCleared = "channel"."cleared",
    /// A conversation was removed.
    ChannelDeleted = "channel"."deleted",
    /// A user began to type.
    TypingStarted = "typing"."started",
    /// A user stopped typing.
    TypingStopped = "typing"."stopped",
    /// A user came or went.
    PresenceChanged = "presence"."changed",
    /// The state of the service as a whole.
    StateSnapshot = "state"."snapshot",
    /// A line of the service's log.
    LogEntry = "log"."entry",
    /// The answer to a resource call.
    ResourceResponded = "resource"."responded",
    /// A resource sent something to all of its clients.
    ResourceBroadcast = "resource"."broadcast",
    /// A titled socket opened.
    SocketOpened = "socket"."opened",
    /// A titled socket sent a message.
    SocketMessage = "socket"."message",
    /// A titled socket closed.
    SocketClosed = "socket"."closed",
    /// A titled socket failed.
    SocketFailed = "socket"."failed",
    /// The service reported an error.
    ErrorRaised = "error"."raised",
    /// Something may have been missed.
    GapDetected = "gap"."detected",
    /// Something that the connector does not know.
    FrameUnrecognised = "frame"."unrecognised",
}

impl std::str::FromStr for EventType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with(CustomType::LEAD) {
            return CustomType::of(text).map(Self::Custom);
        }
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            Error::config(format!("\"{text}\" is no event type; the types are {}", known.join(", ")))
        })
    }
}

/// One thing that a service sent.
#[derive(Debug, Clone)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventType,
    /// The conversation: room, chat, task, action, title. Becomes the last token of the subject.
    pub scope: Option<String>,
    /// The service's own name for it.
    pub upstream: Option<Cow<'static, str>>,
    /// The service's own time; the time of reading stands in where there is none.
    pub time: Option<OffsetDateTime>,
    /// The normalized fields.
    pub fields: Fields,
    /// The payload exactly as received; `None` where the fields hold all of it, as those of `message.delta` do.
    pub raw: Option<Raw>,
    /// The trace it belongs to (W3C Trace Context), where the service gave one.
    pub traceparent: Option<String>,
    /// What makes it the same happening as another that was sent twice: the service's id for it with its version, and what
    /// kind of thing it is. Of several events of an instance with one identity, the first is published.
    pub identity: Option<String>,
    /// The command that it is about, which the daemon names in the field `command` as its caller knows it.
    pub command: Option<CommandId>,
    /// The size in bytes of a message over `transport.message_limit`, which was discarded as it was received: a gap is
    /// published in its place. For the daemon.
    pub discarded: Option<u64>,
    /// The command that caused it, where that is certain: the event belongs to the command's trace.
    pub caused_by: Option<CommandId>,
    /// Asks for [`Session::stored`](crate::Session::stored) with this number once NATS has confirmed the event.
    pub stored: Option<u64>,
}

impl Event {
    /// An event with nothing but its kind and its payload, if it shows that.
    pub fn new(kind: EventType, raw: impl Into<Option<Raw>>) -> Self {
        Self {
            kind,
            scope: None,
            upstream: None,
            time: None,
            fields: Fields::default(),
            raw: raw.into(),
            traceparent: None,
            identity: None,
            command: None,
            discarded: None,
            caused_by: None,
            stored: None,
        }
    }

    /// An error that the service reports.
    pub fn error(error: ServiceError, raw: impl Into<Option<Raw>>) -> Self {
        let mut event = Self::new(EventType::ErrorRaised, raw);
        event.fields.error = Some(error);
        event
    }

    /// Something of this name that the connector does not understand, and why.
    pub fn unrecognised(name: impl Into<String>, reason: impl Into<String>, raw: Raw) -> Self {
        let name = name.into();
        let mut event = Self::new(EventType::FrameUnrecognised, raw).upstream(name.clone());
        event.fields.name = Some(name);
        event.fields.reason = Some(reason.into());
        event
    }

    /// Sets the conversation that it belongs to, where that is known: the scope, and the field `channel`.
    pub fn channel(mut self, channel: impl Into<Option<String>>) -> Self {
        self.scope = channel.into();
        self.fields.channel.clone_from(&self.scope);
        self
    }

    /// Names the message that it is about by its id alone, where there is one.
    pub fn message_id(mut self, id: impl Into<Option<String>>) -> Self {
        let message = |id| Message::Object(MessageObject { id: Some(id), ..MessageObject::default() });
        self.fields.message = id.into().map(message);
        self
    }

    /// Sets the conversation it belongs to.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Sets the service's own name for it.
    pub fn upstream(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.upstream = Some(name.into());
        self
    }
}

/// The normalized fields of an event's body: the same names for every service, absent where a service gives nothing.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(default)]
pub struct Fields {
    /// The conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The server or space that the conversation is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Who sent or did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// The new part of a message that comes in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<String>,
    /// Number of the part, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Length of the message's text up to this part, in characters (Unicode code points).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// `true` where the service rewrote the text: `delta` is all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
    /// The command that this is about, by the id in its reply. Set by the daemon: see [`Event::command`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Title of a conversation or a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Ids of those who take part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participants: Option<Vec<String>>,
    /// Presence in the service's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Level of a log line: trace, debug, info, warn, error, fatal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Level as the service's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level_number: Option<i64>,
    /// Text of a log line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Time of a log line as the service wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The resource that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The action's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The client that the service addressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What a resource returned.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json::write_paired")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub data: Option<Box<RawValue>>,
    /// Close code of a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Why a socket closed, or continuity broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the service reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ServiceError>,
    /// The link over which something may have been missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Since when something may have been missed (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Until when (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether the service sent again what was missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// How many events are known to be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// What callers had joined or subscribed to and the new connection asks the service for again. Whether it accepts that is
    /// not known then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejoins: Option<Box<Joined>>,
    /// Name of something unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The fields that the configuration names, of a [`CustomType`].
    #[serde(flatten, serialize_with = "json::write_paired_fields")]
    #[schemars(skip)]
    pub custom: BTreeMap<String, Box<RawValue>>,
}

/// A payload as it was received, as JSON text. Cheap to clone; a part of a frame shares the frame's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(Bytes);

impl Raw {
    /// `null`, for what has no payload.
    pub fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// Checks that these bytes are one JSON value and reads it. Text with half a surrogate pair has U+FFFD in its place.
    ///
    /// # Errors
    /// `Protocol` if they are not JSON, with the place and what stands there, or not of the wanted shape.
    pub fn read<T: DeserializeOwned>(bytes: &Bytes) -> Result<(T, Self)> {
        let (text, raw) = Self::json_text(bytes)?;
        let value = json::from_str(text);
        Ok((value.map_err(|error| Error::protocol(json::fault(text.as_bytes(), &error)))?, raw))
    }

    /// The JSON text in a message, without a byte order mark or NUL bytes around it, and its payload. Whether it is JSON
    /// is still to be seen.
    ///
    /// # Errors
    /// `Protocol` if it is not UTF-8.
    pub fn json_text(bytes: &Bytes) -> Result<(&str, Self)> {
        let json = json::trimmed(bytes);
        let text = std::str::from_utf8(json).map_err(|error| {
            Error::protocol(format!("the message is not UTF-8: wrong bytes at byte {}", error.valid_up_to()))
        })?;
        Ok((text, Self(bytes.slice_ref(json))))
    }

    /// The payload if it is a JSON object or array, in a text message or in a binary one, and its text.
    ///
    /// # Errors
    /// `Protocol` if it is anything else, with the place and what stands there.
    pub fn document(bytes: &Bytes) -> Result<(&str, Self)> {
        let (text, raw) = Self::json_text(bytes)?;
        if !text.trim_ascii_start().starts_with(['{', '[']) {
            return Err(Error::protocol("the frame is not a JSON object or array"));
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Ok((text, raw)),
            Err(error) => {
                let fault = json::fault(text.as_bytes(), &error);
                Err(Error::protocol(format!("the frame is not JSON: {fault}")))
            }
        }
    }

    /// The payload if it is JSON, else its text as a JSON string, else `{"base64": …}`.
    pub fn of_bytes(bytes: &Bytes) -> Self {
        if let Ok((text, raw)) = Self::json_text(bytes)
            && serde_json::from_str::<&RawValue>(text).is_ok()
        {
            return raw;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self(serde_json::Value::from(text).to_string().into()),
            Err(_) => Self::of_binary(bytes),
        }
    }

    /// `{"base64": …}`.
    pub fn of_binary(bytes: &[u8]) -> Self {
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        Self(format!("{{\"base64\":\"{text}\"}}").into())
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// `Internal` if it has no form in JSON, such as a map whose keys are not texts.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self(text.into()))
    }

    /// The elements of a JSON array, in one pass over it; each shares its memory.
    ///
    /// # Errors
    /// `Protocol` if these bytes are not a JSON array, with the place and what stands there.
    pub fn elements(array: &Bytes) -> Result<Vec<Self>> {
        let elements: Vec<&RawValue> =
            serde_json::from_slice(array).map_err(|error| Error::protocol(json::fault(array, &error)))?;
        Ok(elements.into_iter().map(|element| Self(array.slice_ref(element.get().as_bytes()))).collect())
    }

    /// Text that was put together from JSON.
    pub fn checked(text: String) -> Self {
        Self(text.into())
    }

    /// Reads it. Text with half a surrogate pair has U+FFFD in its place.
    ///
    /// # Errors
    /// `Protocol` if it is not of the wanted shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        json::from_slice(&self.0).map_err(|error| Error::protocol(error.to_string()))
    }

    /// A string, a number or a truth value as text; `None` for any other value.
    pub fn text(&self) -> Option<String> {
        json::text(std::str::from_utf8(&self.0).ok()?)
    }

    /// The JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Box<RawValue>> for Raw {
    fn from(value: Box<RawValue>) -> Self {
        Self(String::from(Box::<str>::from(value)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_own_words() {
        for kind in EventType::ALL {
            assert_eq!(kind.as_str().parse::<EventType>().unwrap(), *kind);
            assert_eq!(kind.ce_type(), format!("pontoon.{}.v1", kind.as_str()));
        }
        assert!("message.made".parse::<EventType>().unwrap_err().message().contains("message.created"));
    }

    #[test]
    fn common_fields_are_set_together() {
        let event = Event::unrecognised("ai.event", "unknown", Raw::null()).channel("c1".to_owned());
        assert_eq!((event.upstream.as_deref(), event.scope.as_deref()), (Some("ai.event"), Some("c1")));
        let event = event.message_id("m1".to_owned());
        assert_eq!(
            serde_json::to_value(&event.fields).unwrap(),
            serde_json::json!({"channel": "c1", "message": {"id": "m1"}, "name": "ai.event", "reason": "unknown"})
        );
        let event = event.channel(None).message_id(None);
        assert!(event.scope.is_none() && event.fields.channel.is_none() && event.fields.message.is_none());
    }

    #[test]
    fn any_payload_becomes_json() {
        let raw = |bytes: &'static [u8]| Raw::of_bytes(&Bytes::from_static(bytes));
        assert_eq!(raw(b"{\"a\": 1e999}").as_bytes(), b"{\"a\": 1e999}");
        assert_eq!(raw(b"keep \"alive\"").as_bytes(), br#""keep \"alive\"""#);
        assert_eq!(raw(b"\xff\x00").as_bytes(), br#"{"base64":"/wA="}"#);
        assert_eq!(raw(b"").as_bytes(), b"\"\"");
        assert_eq!(raw(b"\xEF\xBB\xBF{}\0").as_bytes(), b"{}");
    }
}
