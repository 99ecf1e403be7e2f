//! How the kind of a frame is found, and which frames a setting speaks of.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::{Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::websocket::decode::{Pointer, Said};

/// Where the kind of a frame stands: the first of these that finds one.
#[derive(Debug, Clone, Default)]
pub struct Kinds(Vec<KindAt>);

/// One place where a kind may stand.
#[derive(Debug, Clone)]
enum KindAt {
    /// The string, number or truth value here is the kind.
    Pointer(Pointer),
    /// A frame that has something here is of this kind.
    Having(Having),
}

/// A kind that frames have because of a field.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Having {
    /// Where something stands that is not `null`.
    has: Pointer,
    /// The kind of a frame that has it.
    is: String,
}

impl Kinds {
    /// Whether there is no place to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kind of a frame that is JSON.
    pub(crate) fn of(&self, json: &str) -> Option<String> {
        self.0.iter().find_map(|place| match place {
            KindAt::Pointer(pointer) => pointer.find(json).and_then(text_of),
            KindAt::Having(Having { has, is }) => {
                has.find(json).filter(|found| *found != "null").map(|_| is.clone())
            }
        })
    }

    /// The places, in words.
    pub(crate) fn places(&self) -> String {
        let pointers = self.0.iter().map(|place| match place {
            KindAt::Pointer(pointer) => pointer.as_str(),
            KindAt::Having(having) => having.has.as_str(),
        });
        pointers.map(|pointer| format!("\"{pointer}\"")).collect::<Vec<_>>().join(", ")
    }
}

impl<'de> Deserialize<'de> for Kinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Kinds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON pointer such as \"/type\", { has = \"/error\", is = \"error\" }, or a list of these")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Kinds, E> {
                KindVisitor.visit_str(text).map(|one| Kinds(vec![one]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Kinds, A::Error> {
                KindVisitor.visit_map(map).map(|one| Kinds(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kinds, A::Error> {
                let mut places = Vec::new();
                while let Some(place) = seq.next_element()? {
                    places.push(place);
                }
                Ok(Kinds(places))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

impl<'de> Deserialize<'de> for KindAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = KindAt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON pointer such as \"/type\", or { has = \"/error\", is = \"error\" }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<KindAt, E> {
        text.parse().map(KindAt::Pointer).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KindAt, A::Error> {
        Having::deserialize(MapAccessDeserializer::new(map)).map(KindAt::Having)
    }
}

impl JsonSchema for Kinds {
    fn schema_name() -> Cow<'static, str> {
        "Kinds".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({
            "anyOf": [generator.subschema_for::<Pointer>(), generator.subschema_for::<Having>()]
        });
        json_schema!({
            "description": "Where the kind of a frame stands: one place, or a list of places to look at in turn",
            "anyOf": [
                generator.subschema_for::<Pointer>(),
                generator.subschema_for::<Having>(),
                { "type": "array", "items": one }
            ]
        })
    }
}

/// Which frames are meant: those of a kind, or what its settings say.
#[derive(Debug, Clone)]
pub struct Which(Matching);

/// What a frame must be; all that is given must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Matching {
    /// Its kind.
    #[serde(default)]
    kind: Option<String>,
    /// Its whole text; such a frame is no JSON.
    #[serde(default)]
    text: Option<String>,
    /// What stands at these JSON pointers.
    #[serde(default, rename = "where")]
    #[schemars(with = "BTreeMap<String, Value>")]
    at: BTreeMap<Pointer, Value>,
}

impl Which {
    /// Whether a frame is meant.
    pub(crate) fn matches(&self, said: &Said<'_>, kind: Option<&str>) -> bool {
        let Matching { kind: wanted, text, at } = &self.0;
        match (text, said) {
            (Some(wanted), Said::Text(text)) => wanted == text,
            (None, Said::Json(json)) => {
                wanted.as_deref().is_none_or(|wanted| kind == Some(wanted))
                    && at.iter().all(|(pointer, wanted)| {
                        let found =
                            pointer.find(json).and_then(|found| pontoon_sdk::json::from_str(found).ok());
                        found.as_ref() == Some(wanted)
                    })
            }
            _ => false,
        }
    }

    /// Checks that it can mean a frame. `kinds` says where kinds stand.
    pub(crate) fn check(&self, kinds: &Kinds, at: &str) -> Result<()> {
        let wrong = |text: &str| Err(Error::config(text).at(at));
        match &self.0 {
            Matching { kind: None, text: None, at } if at.is_empty() => wrong(
                "this means every frame; write a kind such as \"welcome\", { text = \"…\" } or { where = { \"/ok\" = true } }",
            ),
            Matching { text: Some(_), kind, at } if kind.is_some() || !at.is_empty() => wrong(
                "a frame that is only text has no kind and nothing at a pointer; write text alone, or leave it out",
            ),
            Matching { kind: Some(_), .. } if kinds.is_empty() => wrong(
                "this names a kind, and nothing says where kinds stand; set kind, such as kind = \"/type\"",
            ),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Which {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KindOrTable;

        impl<'de> Visitor<'de> for KindOrTable {
            type Value = Which;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a kind, or a table with kind, text and where")
            }

            fn visit_str<E: serde::de::Error>(self, kind: &str) -> Result<Which, E> {
                Ok(Which(Matching { kind: Some(kind.to_owned()), ..Matching::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Which, A::Error> {
                Matching::deserialize(MapAccessDeserializer::new(map)).map(Which)
            }
        }

        deserializer.deserialize_any(KindOrTable)
    }
}

impl JsonSchema for Which {
    fn schema_name() -> Cow<'static, str> {
        "Which".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Which frames: those of a kind, or a table of what must hold",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<Matching>()]
        })
    }
}
