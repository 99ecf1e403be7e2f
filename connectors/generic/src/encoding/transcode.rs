//! From MessagePack and CBOR to JSON text, value by value, and back.
//!
//! What JSON lacks: bytes are `{"base64": "…"}`, an extension of MessagePack is `{"extension": 5, "base64": "…"}`, a tag of CBOR
//! is left out, `undefined` and numbers that are not finite are `null` (RFC 8949 §6.1). Keys that are numbers or truth
//! values are texts; other keys are refused.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde_json::Value;

use super::codec::{Codec, MAX_BYTES};

/// How deep values may be nested.
const MAX_DEPTH: usize = 128;

/// JSON text of the values in a frame, one in a line.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn json(codec: Codec, bytes: &[u8]) -> Result<String, String> {
    let mut json = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if !json.is_empty() {
            json.push('\n');
        }
        match codec {
            Codec::Json => return Err("it is JSON already".to_owned()),
            Codec::Msgpack => {
                let mut reader = rmp_serde::Deserializer::new(rest);
                reader.set_max_depth(MAX_DEPTH);
                Writer(&mut json).deserialize(&mut reader).map_err(|error| error.to_string())?;
                rest = reader.into_inner();
            }
            Codec::Cbor => {
                let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH);
                let Text(value) = value.map_err(|error| match error {
                    ciborium::de::Error::Io(_) => "it ends too early".to_owned(),
                    ciborium::de::Error::Syntax(at) => format!("byte {at} has no meaning"),
                    ciborium::de::Error::Semantic(_, what) => what,
                    ciborium::de::Error::RecursionLimitExceeded => {
                        format!("it is nested deeper than {MAX_DEPTH}")
                    }
                })?;
                json.push_str(&value);
            }
        }
        if json.len() > MAX_BYTES {
            return Err(too_large());
        }
    }
    if json.is_empty() { Err("it is empty".to_owned()) } else { Ok(json) }
}

/// The encoded form of JSON text; `None` if it is not JSON.
pub(super) fn encoded(codec: Codec, json: &str) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_str(json).ok()?;
    match codec {
        Codec::Json => None,
        Codec::Msgpack => rmp_serde::to_vec(&value).ok(),
        Codec::Cbor => {
            let mut bytes = Vec::new();
            ciborium::into_writer(&value, &mut bytes).ok()?;
            Some(bytes)
        }
    }
}

fn too_large() -> String {
    format!("it would be larger than {MAX_BYTES} bytes as JSON")
}

/// JSON text of a value, which is read as any type.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::new();
        Writer(&mut text).deserialize(deserializer)?;
        Ok(Self(text))
    }
}

/// Writes a value behind what is written already.
struct Writer<'a>(&'a mut String);

impl Writer<'_> {
    fn write<E: Error>(self, text: &str) -> Result<(), E> {
        if self.0.len() + text.len() > MAX_BYTES {
            return Err(E::custom(too_large()));
        }
        self.0.push_str(text);
        Ok(())
    }

    fn value<E: Error>(self, value: impl Into<Value>) -> Result<(), E> {
        self.write(&value.into().to_string())
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.value(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.value(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.value(value)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        self.write(&value.to_string())
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<(), E> {
        self.write(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.value(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.value(value)
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<(), E> {
        self.write(&format!("{{\"base64\":\"{}\"}}", STANDARD.encode(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.write("null")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.write("null")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self(text) = self;
        Writer(text).write("[")?;
        let start = text.len();
        loop {
            let separated = text.len();
            if separated > start {
                Writer(text).write(",")?;
            }
            if elements.next_element_seed(Writer(text))?.is_none() {
                text.truncate(separated);
                return Writer(text).write("]");
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self(text) = self;
        Writer(text).write("{")?;
        let start = text.len();
        while let Some(Key(key)) = fields.next_key()? {
            if text.len() > start {
                Writer(text).write(",")?;
            }
            Writer(text).value(key)?;
            Writer(text).write(":")?;
            fields.next_value_seed(Writer(text))?;
        }
        Writer(text).write("}")
    }

    /// An extension of MessagePack: its type, and its data.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Extension(number, data) = Extension::deserialize(deserializer)?;
        self.write(&format!("{{\"extension\":{number},\"base64\":\"{}\"}}", STANDARD.encode(data)))
    }

    /// A tag of CBOR, and what is tagged.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let (_, variant) = access.variant::<String>()?;
        variant.tuple_variant(2, Tagged(self))
    }
}

/// Writes what is tagged.
struct Tagged<'a>(Writer<'a>);

impl<'de> Visitor<'de> for Tagged<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        let _tag: Option<u64> = parts.next_element()?;
        parts.next_element_seed(self.0)?.ok_or_else(|| A::Error::custom("a tag without a value"))
    }
}

/// An extension of MessagePack.
struct Extension(i8, Vec<u8>);

impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Extension;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an extension")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Extension, A::Error> {
                let number = parts.next_element()?;
                let data = parts.next_element::<Data>()?;
                number
                    .zip(data)
                    .map(|(number, Data(data))| Extension(number, data))
                    .ok_or_else(|| A::Error::custom("an extension without data"))
            }
        }
        deserializer.deserialize_any(Parts)
    }
}

/// The data of an extension.
struct Data(Vec<u8>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Data, E> {
                Ok(Data(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

/// The key of a field, as text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(json) = Text::deserialize(deserializer)?;
        let is_value = !json.starts_with(['{', '[', 'n']);
        pontoon_sdk::json::text(&json)
            .filter(|_| is_value)
            .map(Self)
            .ok_or_else(|| D::Error::custom("a key is not a text, a number or a truth value"))
    }
}
