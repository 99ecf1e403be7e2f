//! A service's JSON object, read leniently: a field of another type than is asked for counts as absent.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::accumulator::Piece;
use crate::error::{Error, Result};
use crate::event::{Raw, ServiceError};
use crate::json::{self, Key};
use crate::lenient::Timestamp;

/// An object of a service, borrowed from the text that it was read from. Of several fields with one name, the last
/// counts. Text with half a surrogate pair has U+FFFD in its place.
#[derive(Debug, Clone)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object from the bytes of a message, in one pass over them, and keeps them as they are for an event.
    ///
    /// # Errors
    /// `Protocol` if they are not one JSON object, with the place and what stands there.
    pub fn read(bytes: &'a Bytes) -> Result<(Self, Raw)> {
        let (text, raw) = Raw::json_text(bytes)?;
        let object = serde_json::from_str(text);
        Ok((object.map_err(|error| Error::protocol(json::fault(text.as_bytes(), &error)))?, raw))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// `Protocol` if it is another value than an object.
    pub fn of(raw: &'a Raw) -> Result<Self> {
        serde_json::from_slice(raw.as_bytes()).map_err(|_| Error::protocol("the payload is no object"))
    }

    /// Reads a part of a payload; `None` if it is another value than an object.
    pub fn within(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    /// Checks that none of these fields is there twice, where it would be a guess which one is meant.
    ///
    /// # Errors
    /// `Protocol`, with the field.
    pub fn unique(&self, names: &[&str]) -> Result<()> {
        let twice = names.iter().find(|name| self.0.iter().filter(|(key, _)| key == *name).count() > 1);
        twice.map_or(Ok(()), |name| Err(Error::protocol(format!("the object has the field {name:?} twice"))))
    }

    /// A field, `null` included.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// A field that is there and not `null`.
    pub fn field(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get() != "null")
    }

    /// Whether a field is there and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// A text, or a number or truth value as text.
    pub fn words(&self, name: &str) -> Option<String> {
        json::text(self.field(name)?.get())
    }

    /// The same, if it is not empty: an id or a name.
    pub fn text(&self, name: &str) -> Option<String> {
        self.words(name).filter(|text| !text.is_empty())
    }

    /// A text that is one part of a longer one.
    pub fn piece(&self, name: &str) -> Option<Piece> {
        Piece::read(self.field(name)?.get())
    }

    /// An object within.
    pub fn object(&self, name: &str) -> Option<Self> {
        Self::within(self.field(name)?)
    }

    /// The texts of a list; other values in it are left out.
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        let items: Vec<&RawValue> = serde_json::from_str(self.field(name)?.get()).ok()?;
        let texts = items.into_iter().filter_map(|item| json::text(item.get()));
        Some(texts.filter(|text| !text.is_empty()).collect())
    }

    /// A field of this type.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        json::from_str(self.field(name)?.get()).ok()
    }

    /// A time.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        self.value(name)
    }

    /// A list or an object that holds anything, as it is.
    pub fn filled(&self, name: &str) -> Option<Box<RawValue>> {
        let value = self.field(name)?;
        let inner = value.get().get(1..)?.trim_ascii_start();
        (value.get().starts_with(['[', '{']) && !inner.starts_with([']', '}'])).then(|| value.to_owned())
    }

    /// The message and the code of an error, in the object itself or in its field `error`. The daemon takes our
    /// secrets out of the message, and cuts it to 1,000 characters.
    pub fn error(&self) -> ServiceError {
        let inner = self.object("error");
        let inner = |name| inner.as_ref().and_then(|error| error.text(name));
        let text = self.text("error").filter(|text| !matches!(text.as_str(), "true" | "false"));
        ServiceError {
            code: self.text("code").or_else(|| inner("code")).or_else(|| self.text("status")),
            message: self.text("message").or_else(|| inner("message")).or(text),
            details: self.filled("details"),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                // As many as most objects have: one piece of memory for each.
                let mut fields = Vec::with_capacity(8);
                while let Some((Key(key), value)) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Raw {
        Raw::of_bytes(&Bytes::copy_from_slice(json.as_bytes()))
    }

    #[test]
    fn fields_are_read_leniently() {
        let raw = raw(
            r#"{"a":"x","n":1.50,"e":"","z":null,"l":["a",2,{},""],"o":{"b":[]},"a":"last \ud83d","k\udc4d":true}"#,
        );
        let object = Object::of(&raw).unwrap();
        assert_eq!(object.text("a").as_deref(), Some("last \u{FFFD}"));
        assert_eq!(object.text("n").as_deref(), Some("1.50"));
        assert_eq!((object.words("e").as_deref(), object.text("e")), (Some(""), None));
        assert_eq!((object.has("z"), object.get("z").map(RawValue::get)), (false, Some("null")));
        assert_eq!(object.texts("l").unwrap(), ["a", "2"]);
        assert_eq!(object.text("k\u{FFFD}").as_deref(), Some("true"));
        assert!(object.filled("o").is_some() && object.object("o").unwrap().filled("b").is_none());
        assert_eq!(object.value::<u8>("a"), None);
    }

    #[test]
    fn what_is_no_object_is_refused_with_the_place() {
        for (json, words) in [
            ("[1]", "expected a JSON object"),
            ("{\"a\":NaN}", "line 1 column 6, found \"NaN\""),
            ("", "EOF"),
        ] {
            let bytes = Bytes::copy_from_slice(json.as_bytes());
            let error = Object::read(&bytes).unwrap_err();
            assert!(error.message().contains(words), "{json}: {error}");
        }
        let marked = Bytes::from_static(b"\xEF\xBB\xBF{\"a\":1}\0");
        assert_eq!(Object::read(&marked).unwrap().1.as_bytes(), b"{\"a\":1}");
        // The payload shares the memory of the message.
        let plain = Bytes::from_static(b"{\"a\":1}");
        assert_eq!(Object::read(&plain).unwrap().1.as_bytes().as_ptr(), plain.as_ptr());
    }

    #[test]
    fn errors_are_flat_or_nested() {
        for (json, code, message) in [
            (r#"{"message":"no"}"#, None, Some("no")),
            (r#"{"error":"no","code":5}"#, Some("5"), Some("no")),
            (r#"{"error":{"message":"no","code":"E1"},"status":500}"#, Some("E1"), Some("no")),
            (r#"{"error":{"code":"E1"},"message":"no"}"#, Some("E1"), Some("no")),
            (r#"{"error":true,"message":"no \ud83d"}"#, None, Some("no \u{FFFD}")),
            (r#"{"error":{}}"#, None, None),
        ] {
            let raw = raw(json);
            let error = Object::of(&raw).unwrap().error();
            assert_eq!((error.code.as_deref(), error.message.as_deref()), (code, message), "{json}");
        }
    }
}
