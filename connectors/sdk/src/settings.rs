//! Settings that can be written in two ways, and how headers are checked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::secret::{Param, Secret};

/// The value of a header or of a query's parameter, or a subprotocol: a text, or a secret `{ env = "NAME" }` or
/// `{ file = "/path" }`.
#[derive(Debug, Clone)]
pub struct TextOrSecret(pub Param);

impl<'de> Deserialize<'de> for TextOrSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let secret = value.is_object().then(|| Secret::deserialize(&value).ok()).flatten();
        match (secret, value) {
            (Some(secret), _) => Ok(Self(Param::Secret(secret))),
            (None, Value::String(text)) => Ok(Self(Param::Plain(text))),
            // The value is not repeated: it may be a secret that is written wrongly.
            _ => Err(D::Error::custom(
                "this is neither a text nor a secret; write \"text\", { env = \"NAME\" } or { file = \"/path\" }",
            )),
        }
    }
}

impl JsonSchema for TextOrSecret {
    fn schema_name() -> Cow<'static, str> {
        "TextOrSecret".into()
    }

    // The daemon finds secrets by their schema. A text is listed before them, as it is not a secret here.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text, or a secret { env = \"NAME\" } or { file = \"/path\" }",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<Secret>()]
        })
    }
}

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

/// What an endpoint takes of a table of such settings.
pub fn params(table: &BTreeMap<String, TextOrSecret>) -> Vec<(String, Param)> {
    table.iter().map(|(name, TextOrSecret(param))| (name.clone(), param.clone())).collect()
}

/// Headers that belong to the opening of a WebSocket; so does all that begins with `sec-websocket-`.
const HEADERS_TAKEN: [&str; 4] = ["host", "connection", "upgrade", "content-length"];

/// Checks the setting `headers`: names and values that a header can have, and none that the daemon sets itself.
///
/// # Errors
/// `Config`, with the place.
pub fn check_headers(headers: &BTreeMap<String, TextOrSecret>) -> Result<()> {
    for (name, TextOrSecret(value)) in headers {
        let at = format!("/headers/{}", escaped(name));
        let lower = name.to_ascii_lowercase();
        let named = "this is no name of a header; write letters, digits and hyphens, such as X-Client";
        check(is_token(name), &at, named)?;
        let taken = HEADERS_TAKEN.contains(&lower.as_str()) || lower.starts_with("sec-websocket-");
        check(!taken, &at, &format!("the header {name} is set by pontoon itself; leave it out"))?;
        if let Param::Plain(text) = value {
            let printable = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            let wrong = format!("the value of {name} holds what a header cannot; write printable ASCII");
            check(printable, &at, &wrong)?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use serde_json::json;

    #[test]
    fn only_the_exact_shape_is_a_secret() {
        let read =
            |value: Value| serde_json::from_value::<TextOrSecret>(value).map(|TextOrSecret(param)| param);
        assert_eq!(read(json!("a")).unwrap(), Param::Plain("a".to_owned()));
        assert!(matches!(read(json!({"env": "X"})).unwrap(), Param::Secret(_)));
        assert!(matches!(read(json!({"file": "/x"})).unwrap(), Param::Secret(_)));
        for wrong in
            [json!(5), json!({}), json!({"env": "hunter2", "file": "/x"}), json!({"text": "hunter2"})]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("{ env = \"NAME\" }") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn headers_are_checked_with_their_place() {
        let headers = |name: &str, value: &str| {
            check_headers(&BTreeMap::from([(name.to_owned(), TextOrSecret(value.into()))]))
        };
        assert!(headers("X-Key", "a b\t~").is_ok());
        for (name, value, words) in [
            ("", "x", "no name of a header"),
            ("X Key", "x", "such as X-Client"),
            ("Host", "x", "set by pontoon itself"),
            ("Sec-WebSocket-Key", "x", "set by pontoon itself"),
            ("X-A", "a\r\nX-B: b", "printable ASCII"),
        ] {
            let error = headers(name, value).unwrap_err();
            assert_eq!(
                (error.kind(), error.pointer()),
                (Kind::Config, Some(format!("/headers/{name}").as_str()))
            );
            assert!(error.message().contains(words), "{error}");
        }
    }
}
