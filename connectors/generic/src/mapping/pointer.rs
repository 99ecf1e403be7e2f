//! JSON pointers (RFC 6901) into a payload.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// How many steps a pointer may have. Following one takes a look at the value for each of them.
const MAX_STEPS: usize = 32;

/// What the pointers of a connector lead into, as its errors and its schema name it. Implemented by a type
/// without values.
pub trait Document: fmt::Debug + Clone + Ord + 'static {
    /// What is mapped, in the plural, such as `frames`.
    const MAPPED: &'static str;
    /// What a pointer leads into, such as `the frame`.
    const INTO: &'static str;
    /// A pointer, such as `/data/text`.
    const EXAMPLE: &'static str;
    /// What to write instead of a text that is not a pointer: the end of a sentence, with examples.
    const WRITE: &'static str;
    /// Whether it is a list, so that every pointer begins with the place of an element.
    const LIST: bool = false;
    /// Whether the service may ask for acknowledgements.
    const ACKNOWLEDGED: bool = false;
}

/// Where a value stands in a payload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer<D> {
    text: String,
    pub(super) way: Vec<Token>,
    into: PhantomData<D>,
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    /// The key, if the value is an object.
    pub(super) key: String,
    /// The place, if it is an array and the key can name one.
    pub(super) place: Option<usize>,
}

impl<D: Document> Pointer<D> {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What is left of it within an element of a list, if it leads through the list. The place of the element is not in it.
    pub fn within(&self, list: &Self) -> Option<Self> {
        let way = self.way.strip_prefix(list.way.as_slice())?.to_vec();
        Some(Self { text: self.text.clone(), way, into: PhantomData })
    }

    /// Whether it points to the whole.
    pub fn is_whole(&self) -> bool {
        self.way.is_empty()
    }
}

impl<D: Document> std::str::FromStr for Pointer<D> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            // Any pointer leads into one value; into a list, only one that begins with a place.
            let into = if D::LIST { format!(" into {}", D::INTO) } else { String::new() };
            format!("\"{}\" is not a JSON pointer{into}; {}", text.escape_debug(), D::WRITE)
        };
        let way = match text.split_once('/') {
            None if text.is_empty() => Vec::new(),
            Some(("", steps)) => steps.split('/').map(token).collect::<Option<Vec<_>>>().ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        if D::LIST && way.first().is_none_or(|first| first.place.is_none()) {
            return Err(wrong());
        }
        if way.len() > MAX_STEPS {
            return Err(format!("the pointer has {} steps; at most {MAX_STEPS} are followed", way.len()));
        }
        Ok(Self { text: text.to_owned(), way, into: PhantomData })
    }
}

/// Takes the escapes out of a token; `None` if one is broken.
fn token(text: &str) -> Option<Token> {
    let mut pieces = text.split('~');
    let mut key = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = match piece.as_bytes().first()? {
            b'0' => ('~', piece.strip_prefix('0')),
            b'1' => ('/', piece.strip_prefix('1')),
            _ => return None,
        };
        key.push(escaped);
        key.push_str(rest?);
    }
    // `007` is a key, and the place of nothing.
    let digits = key.bytes().all(|byte| byte.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
    let place = if digits { key.parse().ok() } else { None };
    Some(Token { key, place })
}

impl<'de, D: Document> Deserialize<'de> for Pointer<D> {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> Result<Self, T::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<D: Document> JsonSchema for Pointer<D> {
    fn schema_name() -> Cow<'static, str> {
        "Pointer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("A JSON pointer into {}, such as \"{}\"", D::INTO, D::EXAMPLE),
            "type": "string",
            "format": "json-pointer",
            "pattern": if D::LIST { "^/(0|[1-9][0-9]*)(/.*)?$" } else { "^(/.*)?$" }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Arguments, Frames};
    use super::*;

    #[test]
    fn what_is_not_a_pointer_is_refused_with_an_example() {
        for wrong in ["text", "0", " /a", "/a~", "/a~2", "a/b"] {
            let error = wrong.parse::<Pointer<Frames>>().unwrap_err();
            assert!(error.contains("\"/type\""), "{wrong}: {error}");
        }
        assert!("/a".repeat(32).parse::<Pointer<Frames>>().is_ok());
        assert!("/a".repeat(33).parse::<Pointer<Frames>>().unwrap_err().contains("at most 32"));
    }

    #[test]
    fn into_a_list_every_pointer_begins_with_a_place() {
        for wrong in
            ["", "text", "/", "/text", "/-", "/00", "/+1", "/0/a~", "/0/a~2", "/18446744073709551616"]
        {
            let error = wrong.parse::<Pointer<Arguments>>().unwrap_err();
            assert!(
                error.contains("not a JSON pointer into the list of arguments; write \"/0\""),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn the_schema_says_what_is_pointed_into() {
        let schemas = [schemars::schema_for!(Pointer<Frames>), schemars::schema_for!(Pointer<Arguments>)];
        for (schema, into) in schemas.iter().zip(["into the frame, such as", "into the list of arguments"]) {
            let described = schema.get("description").and_then(|words| words.as_str()).unwrap();
            assert!(described.contains(into), "{described}");
        }
    }
}
