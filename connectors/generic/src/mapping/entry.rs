//! What one of a service's names becomes: an entry of a table in the configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::pointer::{Document, Pointer};
use super::template::Template;
use super::time::TimeUnit;
use pontoon_sdk::error::{Error, Result};
use pontoon_sdk::event::{CustomType, EventType, Fields};
use pontoon_sdk::settings::escaped;

/// What one of a service's names becomes. What is not where it is pointed to is absent from the event.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    bound = "D: Document",
    expecting = "a table such as { type = \"message.created\", text = \"/0/text\" }"
)]
#[schemars(rename = "Mapping", bound = "D: Document", transform = without_acknowledge::<D>)]
pub struct Mapping<D> {
    /// What it becomes: a noun and a verb, such as `message.created`; or a type that you name yourself, with `x-` before
    /// its noun, such as `x-trade.executed`.
    #[serde(rename = "type")]
    pub kind: MappedType<D>,
    /// Where a list stands of which each element becomes an event. What leads through it leads into the element: with
    /// `each = "/data"`, `/data/id` is `id` of the element.
    pub each: Option<Pointer<D>>,
    /// Where its conversation stands; becomes `channel` and the last token of the subject.
    pub channel: Option<Pointer<D>>,
    /// Where the server or space of the conversation stands.
    pub server: Option<Pointer<D>>,
    /// Where its id stands; becomes `message.id` for messages.
    pub id: Option<Pointer<D>>,
    /// Where its version stands. Of several events with one channel, id and version, the first is published.
    pub version: Option<Pointer<D>>,
    /// Where the sender's id stands.
    pub sender: Option<Pointer<D>>,
    /// Where the sender's name stands.
    pub sender_name: Option<Pointer<D>>,
    /// Where its text stands: the message's, the log line's, the error's, the reason. For a part of a message, all of its
    /// text so far.
    pub text: Option<Pointer<D>>,
    /// Where what is new stands in a part of a message. Where `text` finds something, too, that is used.
    pub delta: Option<Pointer<D>>,
    /// Where its time stands: RFC 3339, or a number of milliseconds since 1970.
    pub time: Option<Pointer<D>>,
    /// What the number counts, if it is not milliseconds or is written as a text.
    pub time_unit: Option<TimeUnit>,
    /// Where the title of a conversation or a socket stands.
    pub title: Option<Pointer<D>>,
    /// Where the presence stands, in the service's own word.
    pub status: Option<Pointer<D>>,
    /// Where the level of a log line stands.
    pub level: Option<Pointer<D>>,
    /// Where the code of an error stands.
    pub code: Option<Pointer<D>>,
    /// Where the resource's name stands.
    pub resource: Option<Pointer<D>>,
    /// Where the action's name stands.
    pub action: Option<Pointer<D>>,
    /// Where the client stands that the service addressed.
    pub uid: Option<Pointer<D>>,
    /// Where the data of a resource stands; any JSON.
    pub data: Option<Pointer<D>>,
    /// Of a type that you name yourself: further fields, and where they stand; any JSON.
    #[serde(default = "no_fields::<D>")]
    pub fields: BTreeMap<String, Pointer<D>>,
    /// What to acknowledge it with where the service asks for that; `[]` is an acknowledgement without arguments. Left
    /// out, it is never acknowledged.
    pub acknowledge: Option<Vec<Value>>,
}

fn no_fields<D>() -> BTreeMap<String, Pointer<D>> {
    BTreeMap::new()
}

/// Takes the setting `acknowledge` out of the schema where nothing is acknowledged.
fn without_acknowledge<D: Document>(schema: &mut Schema) {
    if !D::ACKNOWLEDGED
        && let Some(Value::Object(properties)) = schema.get_mut("properties")
    {
        properties.remove("acknowledge");
    }
}

/// An event type that something can be mapped to: any but those that the daemon gives itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedType<D>(pub EventType, PhantomData<D>);

/// The types that something can be mapped to.
fn mapped_types() -> Vec<&'static str> {
    let own = |kind: &EventType| matches!(kind, EventType::GapDetected | EventType::FrameUnrecognised);
    EventType::ALL.iter().filter(|kind| !own(kind)).map(|kind| kind.as_str()).collect()
}

impl<'de, D: Document> Deserialize<'de> for MappedType<D> {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> std::result::Result<Self, T::Error> {
        let word = String::deserialize(deserializer)?;
        let is_custom = word.starts_with(CustomType::LEAD);
        if is_custom {
            let kind =
                word.parse::<EventType>().map_err(|error| serde::de::Error::custom(error.message()))?;
            return Ok(Self(kind, PhantomData));
        }
        let kind = if mapped_types().contains(&word.as_str()) { word.parse().ok() } else { None };
        kind.map(|kind| Self(kind, PhantomData)).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "\"{}\" is not a type that {} can be mapped to; the types are {}, and those that you name yourself, such as \
                 x-trade.executed",
                word.escape_debug(),
                D::MAPPED,
                mapped_types().join(", ")
            ))
        })
    }
}

impl<D: Document> JsonSchema for MappedType<D> {
    fn schema_name() -> Cow<'static, str> {
        "MappedType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What it becomes",
            "anyOf": [
                { "type": "string", "enum": mapped_types() },
                { "type": "string", "pattern": "^x-[a-z0-9-]+[.][a-z0-9-]+$" }
            ]
        })
    }
}

/// What becomes of what no entry maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmapped {
    /// It is published as `frame.unrecognised`.
    #[default]
    Publish,
    /// Nothing: it is read and forgotten.
    Drop,
}

/// The names of the fields that events of every service have; no field of a type that an operator names has one of these.
pub fn shared_fields() -> Vec<String> {
    let schema = schemars::schema_for!(Fields);
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// How many fields an entry may name.
const MAX_FIELDS: usize = 64;
/// The longest name of one.
const MAX_FIELD: usize = 64;

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
        EventType::Custom(_) => &["server", "sender", "sender_name", "text", "title", "status"],
        EventType::StateSnapshot | EventType::GapDetected | EventType::FrameUnrecognised => &[],
    }
}

pub(super) fn is_message(kind: EventType) -> bool {
    kind.as_str().starts_with("message.")
}

impl<D: Document> Mapping<D> {
    /// Everything that is pointed to, with the name of its setting.
    pub fn pointers(&self) -> [(&'static str, Option<&Pointer<D>>); 17] {
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

    fn check_fields(&self, at: &str) -> Result<()> {
        let is_custom = matches!(self.kind.0, EventType::Custom(_));
        for name in self.fields.keys() {
            let at = format!("{at}/fields/{}", escaped(name));
            let wrong = |text: String| Err(Error::config(text).at(&at));
            if !is_custom {
                let kind = self.kind.0.as_str();
                return wrong(format!(
                    "{kind} has the same fields for every service; write a type such as x-{kind}, or leave this out"
                ));
            }
            if !Template::is_name(name) || name.len() > MAX_FIELD {
                return wrong(format!(
                    "this is not a name for a field; write up to {MAX_FIELD} letters, digits and _"
                ));
            }
            if name == "raw" || name == "raw_omitted" || shared_fields().contains(name) {
                return wrong(format!(
                    "the field {name} has a meaning for every service; write another name"
                ));
            }
        }
        if self.fields.len() > MAX_FIELDS {
            let text = format!(
                "these are {} fields; at most {MAX_FIELDS} are put in, and raw has all",
                self.fields.len()
            );
            return Err(Error::config(text).at(format!("{at}/fields")));
        }
        Ok(())
    }

    /// Checks that everything that is pointed to has a place in the event. `at` is where the entry stands in the
    /// configuration.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn check(&self, at: &str) -> Result<()> {
        let kind = self.kind.0;
        let given = self.pointers().into_iter().filter(|(_, pointer)| pointer.is_some());
        for (field, _) in given {
            if !ALWAYS.contains(&field) && !takes(kind).contains(&field) {
                let known: Vec<_> = ALWAYS.iter().chain(takes(kind)).copied().collect();
                let text = format!("{} has no {field}; it has {}", kind.as_str(), known.join(", "));
                return Err(Error::config(text).at(format!("{at}/{field}")));
            }
        }
        self.check_fields(at)?;
        if self.acknowledge.is_some() && !D::ACKNOWLEDGED {
            let text = format!("the service asks for no acknowledgement of {}; leave this out", D::MAPPED);
            return Err(Error::config(text).at(format!("{at}/acknowledge")));
        }
        if self.time_unit.is_some() && self.time.is_none() {
            let text = "nothing is counted without a time; point to the time too, or leave the unit out";
            return Err(Error::config(text).at(format!("{at}/time_unit")));
        }
        if let (Some(each), Some(_)) = (&self.each, &self.id)
            && ![&self.id, &self.version].into_iter().flatten().any(|it| it.within(each).is_some())
        {
            let text = format!(
                "all elements would have the same id, and all but the first would be left out; point to what differs, through {}",
                each.as_str()
            );
            return Err(Error::config(text).at(format!("{at}/id")));
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{Arguments, Frames};
    use super::*;

    #[test]
    fn every_type_but_the_daemons_own_can_be_mapped_to() {
        for kind in EventType::ALL {
            let read = serde_json::from_value::<Mapping<Frames>>(json!({"type": kind.as_str()}));
            let own = matches!(kind, EventType::GapDetected | EventType::FrameUnrecognised);
            assert_eq!(read.is_err(), own, "{}", kind.as_str());
        }
        let wrong = serde_json::from_value::<Mapping<Arguments>>(json!({"type": "message.made"}));
        let words = wrong.unwrap_err().to_string();
        assert!(
            words.contains("not a type that events can be mapped to; the types are message.created, "),
            "{words}"
        );
    }

    #[test]
    fn a_type_of_an_operator_has_fields_and_no_name_of_a_shared_one() {
        for (entry, at, words) in [
            (json!({"type": "x-a.b", "fields": {"price": "/p"}}), "", ""),
            (json!({"type": "x-a.b", "fields": {"channel": "/p"}}), "/at/fields/channel", "has a meaning"),
            (json!({"type": "x-a.b", "fields": {"raw": "/p"}}), "/at/fields/raw", "has a meaning"),
            (json!({"type": "x-a.b", "fields": {"a b": "/p"}}), "/at/fields/a b", "not a name for a field"),
            (json!({"type": "x-a.b", "delta": "/p"}), "/at/delta", "x-a.b has no delta"),
            (
                json!({"type": "log.entry", "fields": {"a": "/p"}}),
                "/at/fields/a",
                "write a type such as x-log.entry",
            ),
        ] {
            let mapping: Mapping<Frames> = serde_json::from_value(entry.clone()).unwrap();
            let error = mapping.check("/at").err();
            assert_eq!(error.as_ref().and_then(|error| error.pointer()).unwrap_or_default(), at, "{entry}");
            assert!(error.is_none_or(|error| error.message().contains(words)), "{entry}");
        }
    }

    /// Every field that some type has is a setting, and every setting is a field of some type.
    #[test]
    fn the_settings_are_the_fields_of_the_types() {
        let any: Mapping<Frames> = serde_json::from_value(json!({"type": "message.created"})).unwrap();
        let settings = any.pointers().map(|(name, _)| name);
        let taken = || EventType::ALL.iter().flat_map(|kind| takes(*kind)).chain(&ALWAYS);
        assert!(taken().all(|field| settings.contains(field)));
        assert!(settings.iter().all(|name| taken().any(|field| field == name)));
        let schema = schemars::schema_for!(Mapping<Frames>);
        let Some(Value::Object(properties)) = schema.get("properties") else { panic!("{schema:?}") };
        assert!(properties.values().all(|property| property.get("description").is_some()));
        let unpointed = ["type", "each", "time_unit", "fields"];
        assert!(
            properties
                .keys()
                .all(|key| unpointed.contains(&key.as_str()) || settings.contains(&key.as_str()))
        );
        assert_eq!(properties.len(), settings.len() + unpointed.len());
    }

    #[test]
    fn what_has_no_place_in_the_event_is_refused_with_its_place() {
        for (entry, at, words) in [
            (
                json!({"type": "state.snapshot", "text": ""}),
                "/e/text",
                "state.snapshot has no text; it has channel, id",
            ),
            (json!({"type": "message.created", "version": "/v"}), "/e/version", "point to the id too"),
            (json!({"type": "typing.started", "id": "/i"}), "/e/id", "typing.started shows no id"),
            (
                json!({"type": "message.created", "each": "/data", "id": "/i", "version": "/v"}),
                "/e/id",
                "point to what differs, through /data",
            ),
            (json!({"type": "log.entry", "time_unit": "s"}), "/e/time_unit", "point to the time too"),
        ] {
            let mapping: Mapping<Frames> = serde_json::from_value(entry.clone()).unwrap();
            let error = mapping.check("/e").unwrap_err();
            assert_eq!(error.pointer(), Some(at), "{entry}");
            assert!(error.message().contains(words), "{error}");
        }
    }
}
