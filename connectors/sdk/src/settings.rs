//! Settings that can be written in two ways, and checks of settings.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Reads a setting that is a text in its short form and a table in its long one; `expected` says so.
///
/// # Errors
/// That it is neither, or what is wrong with the text or the table.
pub fn text_or_table<'de, D: Deserializer<'de>, Table: Deserialize<'de>, T>(
    deserializer: D,
    expected: &str,
    of_text: fn(&str) -> Result<T, String>,
    of_table: fn(Table) -> T,
) -> Result<T, D::Error> {
    struct TextOrTable<'e, Table, T> {
        expected: &'e str,
        of_text: fn(&str) -> Result<T, String>,
        of_table: fn(Table) -> T,
    }

    impl<'de, Table: Deserialize<'de>, T> Visitor<'de> for TextOrTable<'_, Table, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            (self.of_text)(text).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            Table::deserialize(MapAccessDeserializer::new(map)).map(self.of_table)
        }
    }

    deserializer.deserialize_any(TextOrTable { expected, of_text, of_table })
}

/// Whether a text is a token (RFC 9110 §5.6.2), as the names of headers and subprotocols are.
pub fn is_token(text: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(part)
}

/// Refuses a setting.
///
/// # Errors
/// `Config` with this message and this place, unless it is good.
pub fn check(good: bool, at: &str, wrong: &str) -> Result<()> {
    if good { Ok(()) } else { Err(Error::config(wrong).at(at)) }
}

/// A key as it stands in a JSON pointer.
pub fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
