//! The discriminator, by which a frame has a kind, and selectors, by which settings select frames.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::settings::text_or_table;
use pontoon_sdk::{Error, Raw, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::mapping::Json;
use crate::websocket::content::{Content, Pointer};

/// Where the kind of a frame stands: the first of these that finds one.
#[derive(Debug, Clone, Default)]
pub struct Discriminator(Vec<KindPlace>);

/// One place where a kind may stand.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
enum KindPlace {
    /// The string, number or truth value here is the kind.
    Pointer(Pointer),
    /// A frame that has something here is of this kind.
    HasField(HasField),
}

/// A kind that frames have because of a field.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HasField {
    /// Where something stands that is not `null`.
    has: Pointer,
    /// The kind of a frame that has it.
    is: String,
}

impl Discriminator {
    /// Whether there is no place to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kind of a frame that is JSON.
    pub(crate) fn kind(&self, json: &Json<'_>) -> Option<String> {
        self.0.iter().find_map(|place| match place {
            KindPlace::Pointer(pointer) => pointer.find(json).and_then(text_of),
            KindPlace::HasField(HasField { has, is }) => {
                has.find(json).filter(|found| *found != "null").map(|_| is.clone())
            }
        })
    }

    /// The places, for a message.
    pub(crate) fn places(&self) -> String {
        let pointers = self.0.iter().map(|place| match place {
            KindPlace::Pointer(pointer) => pointer.as_str(),
            KindPlace::HasField(having) => having.has.as_str(),
        });
        pointers.map(|pointer| format!("\"{pointer}\"")).collect::<Vec<_>>().join(", ")
    }
}

impl<'de> Deserialize<'de> for Discriminator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Discriminator;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON pointer such as \"/type\", { has = \"/error\", is = \"error\" }, or a list of these")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Discriminator, E> {
                KindPlace::deserialize(text.into_deserializer()).map(|one| Discriminator(vec![one]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Discriminator, A::Error> {
                KindPlace::deserialize(MapAccessDeserializer::new(map)).map(|one| Discriminator(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Discriminator, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Discriminator)
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

impl<'de> Deserialize<'de> for KindPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a JSON pointer such as \"/type\", or { has = \"/error\", is = \"error\" }";
        text_or_table(deserializer, expected, |text| text.parse().map(Self::Pointer), Self::HasField)
    }
}

impl JsonSchema for Discriminator {
    fn schema_name() -> Cow<'static, str> {
        "Discriminator".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where the kind of a frame stands: one place, or a list of places to look at in turn",
            "anyOf": [
                generator.subschema_for::<Pointer>(),
                generator.subschema_for::<HasField>(),
                { "type": "array", "items": generator.subschema_for::<KindPlace>() }
            ]
        })
    }
}

/// Selects frames: those of a kind, or those that meet the conditions of a table.
#[derive(Debug, Clone)]
pub struct Selector(Conditions);

/// What a frame must be; all that is given must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Conditions {
    /// Its kind.
    kind: Option<String>,
    /// Its whole text; such a frame is not JSON.
    text: Option<String>,
    /// What stands at these JSON pointers.
    #[serde(default, rename = "where")]
    #[schemars(with = "BTreeMap<String, Value>")]
    at: BTreeMap<Pointer, Value>,
}

impl Selector {
    /// Whether it selects a frame.
    pub(crate) fn matches(&self, content: &Content<'_>, kind: Option<&str>) -> bool {
        let Conditions { kind: wanted, text, at } = &self.0;
        match (text, content) {
            (Some(wanted), Content::Text(text)) => wanted == text,
            (None, Content::Json(json)) => {
                wanted.as_deref().is_none_or(|wanted| kind == Some(wanted))
                    && at.iter().all(|(pointer, wanted)| {
                        let found =
                            pointer.find(json).and_then(|found| Raw::checked(found.to_owned()).parse().ok());
                        found.as_ref() == Some(wanted)
                    })
            }
            _ => false,
        }
    }

    /// Checks that it selects some frames, and not all. `discriminator` says where kinds stand.
    pub(crate) fn check(&self, discriminator: &Discriminator, at: &str) -> Result<()> {
        let wrong = |text: &str| Err(Error::config(text).at(at));
        match &self.0 {
            Conditions { kind: None, text: None, at } if at.is_empty() => wrong(
                "this means every frame; write a kind such as \"welcome\", { text = \"…\" } or { where = { \"/ok\" = true } }",
            ),
            Conditions { text: Some(_), kind, at } if kind.is_some() || !at.is_empty() => wrong(
                "a frame that is only text has no kind and nothing at a pointer; write text alone, or leave it out",
            ),
            Conditions { kind: Some(_), .. } if discriminator.is_empty() => wrong(
                "this names a kind, and nothing says where kinds stand; set kind, such as kind = \"/type\"",
            ),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let of_kind =
            |kind: &str| Ok(Self(Conditions { kind: Some(kind.to_owned()), ..Conditions::default() }));
        text_or_table(deserializer, "a kind, or a table with kind, text and where", of_kind, Self)
    }
}

impl JsonSchema for Selector {
    fn schema_name() -> Cow<'static, str> {
        "Selector".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Which frames: those of a kind, or a table of what must hold",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<Conditions>()]
        })
    }
}
