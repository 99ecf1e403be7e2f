//! Settings that can be written in two ways, checks of settings, and names that are read at run time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

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

/// How many texts [`lasting`] keeps.
const MAX_LASTING: usize = 4_096;

/// A name that is read at run time, such as that of an operation, as one that lasts as long as the process. Equal texts are
/// kept once, however often the configuration is read.
///
/// # Errors
/// `Config` if there are too many.
pub fn lasting(name: &str) -> Result<&'static str> {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = known.get(name) {
        return Ok(kept);
    }
    if known.len() >= MAX_LASTING {
        return Err(Error::config(format!("more than {MAX_LASTING} names were read; restart the daemon")));
    }
    let kept: &'static str = Box::leak(name.into());
    known.insert(kept);
    Ok(kept)
}
