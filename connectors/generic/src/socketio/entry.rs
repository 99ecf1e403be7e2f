//! What an event of the service becomes: an entry of `events`, with what only this protocol has.

use std::borrow::Cow;
use std::fmt;

use pontoon_sdk::accumulator::Streams;
use pontoon_sdk::{Event, socketio};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::mapping::{self, Document, Payload};

/// What pointers lead into here: the arguments of an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arguments {}

impl Document for Arguments {
    const MAPPED: &'static str = "events";
    const INTO: &'static str = "the list of arguments";
    const EXAMPLE: &'static str = "/0/text";
    const WRITE: &'static str = "write \"/0\" for the first argument, \"/0/text\" for its field text";
    const LIST: bool = true;
}

/// What one event of the service becomes.
#[derive(Debug)]
pub struct Mapping {
    /// What it becomes, and where that stands.
    pub common: mapping::Mapping<Arguments>,
    /// What to acknowledge it with where the service asks for that; `[]` is an acknowledgement without arguments. Left
    /// out, it is never acknowledged.
    pub acknowledge: Option<Vec<Value>>,
}

impl Mapping {
    /// The event that an event of the service becomes.
    pub(crate) fn event(&self, said: &socketio::Event, streams: &mut Streams) -> Event {
        let event = self.common.event(Payload::List(said.args.values()), said.args.payload(), streams);
        event.upstream(said.name.clone())
    }
}

/// The setting that other protocols do not have.
const ACKNOWLEDGE: &str = "acknowledge";

impl<'de> Deserialize<'de> for Mapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Mapping;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table such as { type = \"message.created\", text = \"/0/text\" }")
    }

    fn visit_map<A: MapAccess<'de>>(self, settings: A) -> Result<Mapping, A::Error> {
        let mut acknowledge = None;
        let common = Common { settings, acknowledge: &mut acknowledge };
        let common = mapping::Mapping::deserialize(serde::de::value::MapAccessDeserializer::new(common))?;
        Ok(Mapping { common, acknowledge: acknowledge.flatten() })
    }
}

/// The settings of an entry without our own, which is kept when it comes by. Each is read where it stands, so that an
/// error still knows its place.
struct Common<'k, A> {
    settings: A,
    acknowledge: &'k mut Option<Option<Vec<Value>>>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Common<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.settings.next_key::<String>()? {
            if key != ACKNOWLEDGE {
                let key: StrDeserializer<'_, A::Error> = key.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            if self.acknowledge.replace(self.settings.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(ACKNOWLEDGE));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.settings.next_value_seed(seed)
    }
}

impl JsonSchema for Mapping {
    fn schema_name() -> Cow<'static, str> {
        "Mapping".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = mapping::Mapping::<Arguments>::json_schema(generator);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            let described = json!({
                "description": "What to acknowledge it with where the service asks for that; `[]` is an acknowledgement \
                                without arguments. Left out, it is never acknowledged.",
                "type": ["array", "null"],
                "items": true,
                "default": null
            });
            properties.insert(ACKNOWLEDGE.to_owned(), described);
        }
        schema
    }
}
