//! A setting that is written once, or as a list.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One of something, or a list of it.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMore<T> {
    items: Vec<T>,
    is_list: bool,
}

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self { items: Vec::new(), is_list: true }
    }
}

impl<T> OneOrMore<T> {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Each with its place in the configuration, where the setting stands at `at`.
    pub(crate) fn places<'a>(&'a self, at: &'a str) -> impl Iterator<Item = (String, &'a T)> {
        let is_list = self.is_list;
        let place = move |place: usize| if is_list { format!("{at}/{place}") } else { at.to_owned() };
        self.items.iter().enumerate().map(move |(number, item)| (place(number), item))
    }
}

/// The schema of one, or of a list.
pub(crate) fn schema_of_one_or_more<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
}

struct OneOrMoreVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMoreVisitor(PhantomData))
    }
}

fn one<T>(item: T) -> OneOrMore<T> {
    OneOrMore { items: vec![item], is_list: false }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one of these, or a list of them")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
        T::deserialize(text.into_deserializer()).map(one)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<OneOrMore<T>, E> {
        T::deserialize(number.into_deserializer()).map(one)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<OneOrMore<T>, E> {
        T::deserialize(number.into_deserializer()).map(one)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<OneOrMore<T>, E> {
        T::deserialize(value.into_deserializer()).map(one)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMore<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(one)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMore<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(|items| OneOrMore { items, is_list: true })
    }
}
