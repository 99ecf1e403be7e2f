//! Selectors, by which settings select frames, and the ends of connections.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pontoon_sdk::settings::text_or_table;
use pontoon_sdk::{Error, Raw, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::one_or_more::{OneOrMore, schema_of_one_or_more};
use crate::mapping::{Document, Payload, Pointer, find};

/// What a rule sees of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'s, 'a> {
    /// Its kind: of a Socket.IO event the name.
    pub kind: Option<&'s str>,
    /// What it holds.
    pub content: Content<'s, 'a>,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy)]
pub enum Content<'s, 'a> {
    /// JSON that pointers lead into.
    Json(Payload<'s, 'a>),
    /// Any other text.
    Text(&'a str),
    /// Nothing that a rule can mean.
    Other,
}

impl<'a> Seen<'_, 'a> {
    /// The whole as JSON.
    pub fn document(&self) -> String {
        match self.content {
            Content::Json(Payload::Json(json)) => json.text.to_owned(),
            Content::Json(Payload::List(values)) => {
                let texts: Vec<_> =
                    values.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
                format!("[{}]", texts.join(","))
            }
            Content::Text(text) => Value::from(text).to_string(),
            Content::Other => "null".to_owned(),
        }
    }

    /// The JSON text of what stands somewhere; of a text, only the whole stands anywhere.
    pub fn find<D: Document>(&self, pointer: &Pointer<D>) -> Option<Cow<'a, str>> {
        match self.content {
            Content::Json(payload) => {
                let [found] = find(payload, [Some(pointer)]);
                found.map(Cow::Borrowed)
            }
            Content::Text(text) if pointer.is_whole() => Some(Cow::Owned(Value::from(text).to_string())),
            Content::Text(_) | Content::Other => None,
        }
    }
}

/// Selects frames: those of a kind, or those that meet the conditions of a table.
#[derive(Debug, Clone)]
pub struct Selector<D>(Conditions<D>);

/// What a frame must be; all that is given must hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "D: Document")]
#[schemars(rename = "Conditions", bound = "D: Document")]
struct Conditions<D> {
    /// Its kind.
    kind: Option<String>,
    /// Its whole text; such a frame is not JSON.
    text: Option<String>,
    /// The close code of the connection, or a list of them; then it is no frame.
    #[serde(default)]
    #[schemars(schema_with = "schema_of_one_or_more::<u16>")]
    code: OneOrMore<u16>,
    /// What stands at these JSON pointers.
    #[serde(default, rename = "where")]
    #[schemars(with = "BTreeMap<String, Value>")]
    at: BTreeMap<Pointer<D>, Value>,
}

impl<D: Document> Selector<D> {
    /// Whether it selects a frame.
    pub fn matches(&self, seen: &Seen<'_, '_>) -> bool {
        let Conditions { kind, text, code, at } = &self.0;
        if !code.is_empty() {
            return false;
        }
        match (text, seen.content) {
            (Some(wanted), Content::Text(text)) => wanted == text,
            (None, Content::Json(_)) => {
                kind.as_deref().is_none_or(|wanted| seen.kind == Some(wanted))
                    && at.iter().all(|(pointer, wanted)| {
                        let found = seen.find(pointer);
                        let found = found.and_then(|found| Raw::checked(found.into_owned()).parse().ok());
                        found.as_ref() == Some(wanted)
                    })
            }
            _ => false,
        }
    }

    /// Whether it selects the end of a connection with this close code.
    pub fn matches_code(&self, code: Option<u16>) -> bool {
        code.is_some_and(|code| self.0.code.iter().any(|wanted| *wanted == code))
    }

    /// Checks that it selects some frames, and not all. `has_kinds` is whether frames have kinds, `ends` whether it may
    /// select the ends of connections.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn check(&self, has_kinds: bool, ends: bool, at: &str) -> Result<()> {
        let wrong = |text: &str| Err(Error::config(text).at(at));
        let Conditions { kind, text, code, at: values } = &self.0;
        match (kind, text) {
            _ if !code.is_empty() && !ends => wrong(
                "a close code ends the connection, and nothing can follow it here; write what a frame has",
            ),
            _ if !code.is_empty() && (kind.is_some() || text.is_some() || !values.is_empty()) => wrong(
                "a close code is not a frame; write code alone, and the frame as a second one in a list",
            ),
            _ if !code.is_empty() => Ok(()),
            (None, None) if values.is_empty() => wrong(
                "this means every frame; write a kind such as \"welcome\", { text = \"…\" } or { where = { \"/ok\" = true } }",
            ),
            (_, Some(_)) if kind.is_some() || !values.is_empty() => wrong(
                "a frame that is only text has no kind and nothing at a pointer; write text alone, or leave it out",
            ),
            (Some(_), None) if !has_kinds => wrong(
                "this names a kind, and nothing says where kinds stand; set kind, such as kind = \"/type\"",
            ),
            _ => Ok(()),
        }
    }
}

impl<'de, D: Document> Deserialize<'de> for Selector<D> {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> Result<Self, T::Error> {
        let of_kind = |kind: &str| {
            let (text, code, at) = (None, OneOrMore::default(), BTreeMap::new());
            Ok(Self(Conditions { kind: Some(kind.to_owned()), text, code, at }))
        };
        text_or_table(deserializer, "a kind, or a table with kind, text, code and where", of_kind, Self)
    }
}

impl<D: Document> JsonSchema for Selector<D> {
    fn schema_name() -> Cow<'static, str> {
        "Selector".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Which frames: those of a kind, or a table of what must hold",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<Conditions<D>>()]
        })
    }
}

/// One selector, or a list of which any selects.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent, bound = "D: Document")]
pub struct Selectors<D>(OneOrMore<Selector<D>>);

impl<D> Default for Selectors<D> {
    fn default() -> Self {
        Self(OneOrMore::default())
    }
}

impl<D: Document> Selectors<D> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any selects a frame.
    pub fn matches(&self, seen: &Seen<'_, '_>) -> bool {
        self.0.iter().any(|selector| selector.matches(seen))
    }

    /// Whether any selects the end of a connection with this close code.
    pub fn matches_code(&self, code: Option<u16>) -> bool {
        self.0.iter().any(|selector| selector.matches_code(code))
    }

    /// Checks each, as [`Selector::check`].
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn check(&self, has_kinds: bool, ends: bool, at: &str) -> Result<()> {
        self.0.places(at).try_for_each(|(at, selector)| selector.check(has_kinds, ends, &at))
    }
}

impl<D: Document> JsonSchema for Selectors<D> {
    fn schema_name() -> Cow<'static, str> {
        "Selectors".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema_of_one_or_more::<Selector<D>>(generator)
    }
}
