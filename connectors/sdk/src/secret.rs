//! Values that must never be printed.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{Error, Result};

/// A value that cannot print: `{ env = "NAME" }`, `{ file = "/path" }`, or the text itself.
///
/// It is looked up each time it is needed, so that a file can be replaced while the daemon runs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Plain(String),
    Env(String),
    File(PathBuf),
    /// Texts and secrets, one behind the other.
    Joined(Vec<Param>),
}

impl Secret {
    /// A secret whose text is known already.
    pub fn plain(text: impl Into<String>) -> Self {
        Self(Source::Plain(text.into()))
    }

    /// A secret in a variable of the environment.
    pub fn env(name: impl Into<String>) -> Self {
        Self(Source::Env(name.into()))
    }

    /// Texts and secrets, one behind the other: `Bearer ` and a token.
    pub fn joined(parts: Vec<Param>) -> Self {
        Self(Source::Joined(parts))
    }

    /// Whether the text itself stands in the configuration.
    pub fn is_plain(&self) -> bool {
        matches!(self.0, Source::Plain(_))
    }

    /// Looks the value up. White space at its end is taken off, as editors leave a newline in files.
    ///
    /// # Errors
    /// `Config` if the variable or the file is missing, empty or unreadable; the message names it, never the value.
    pub fn reveal(&self) -> Result<String> {
        let (text, place) = match &self.0 {
            Source::Plain(text) => (Cow::Borrowed(text.as_str()), "the configuration".to_owned()),
            Source::Env(name) => {
                let text = std::env::var(name).map_err(|_| {
                    Error::config(format!("the environment variable {name} is not set; set it to the secret"))
                })?;
                (Cow::Owned(text), format!("the environment variable {name}"))
            }
            Source::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Error::config(format!("the secret's file {} cannot be read: {error}", path.display()))
                })?;
                (Cow::Owned(text), format!("the file {}", path.display()))
            }
            Source::Joined(parts) => {
                let text = parts.iter().map(Param::reveal).collect::<Result<String>>()?;
                (Cow::Owned(text), "the configuration".to_owned())
            }
        };
        let text = text.trim_end();
        if text.is_empty() {
            return Err(Error::config(format!("the secret in {place} is empty")));
        }
        Ok(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Plain(_) => f.write_str("Secret(***)"),
            Source::Env(name) => write!(f, "Secret(env {name})"),
            Source::File(path) => write!(f, "Secret(file {})", path.display()),
            Source::Joined(parts) => f.debug_tuple("Secret").field(parts).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> serde::de::Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret: { env = \"NAME\" }, { file = \"/path\" }, or the text itself")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::plain(text))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        use serde::de::Error as _;
        let Some(key) = map.next_key::<String>()? else {
            return Err(A::Error::custom("a secret names one of `env` and `file`"));
        };
        let source = match key.as_str() {
            "env" => Source::Env(map.next_value()?),
            "file" => Source::File(map.next_value()?),
            other => return Err(A::Error::unknown_field(other, &["env", "file"])),
        };
        match map.next_key::<String>()? {
            None => Ok(Secret(source)),
            Some(_) => Err(A::Error::custom("a secret names one of `env` and `file`, not both")),
        }
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: { env = \"NAME\" }, { file = \"/path\" }, or the text itself (discouraged)",
            "oneOf": [
                { "type": "string", "minLength": 1 },
                { "type": "object", "properties": { "env": { "type": "string" } }, "required": ["env"], "additionalProperties": false },
                { "type": "object", "properties": { "file": { "type": "string" } }, "required": ["file"], "additionalProperties": false }
            ]
        })
    }
}

/// A value that may or may not be secret: a header's, a query parameter's, a subprotocol; of type [`Value`], a field of a
/// sign-in in JSON. As a setting, `{ env = "NAME" }` or `{ file = "/path" }` is a secret, and a text is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param<T = String> {
    /// May be printed.
    Plain(T),
    /// May not.
    Secret(Secret),
}

impl Param {
    /// Looks the value up.
    ///
    /// # Errors
    /// As [`Secret::reveal`].
    pub fn reveal(&self) -> Result<String> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Secret(secret) => secret.reveal(),
        }
    }
}

impl From<&str> for Param {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Param<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let secret = value.is_object().then(|| Secret::deserialize(&value).ok()).flatten();
        match secret {
            Some(secret) => Ok(Self::Secret(secret)),
            // The value is not repeated: it may be a secret that is written wrongly.
            None => T::deserialize(value).map(Self::Plain).map_err(|_| {
                serde::de::Error::custom(
                    "this is neither a text nor a secret; write \"text\", { env = \"NAME\" } or { file = \"/path\" }",
                )
            }),
        }
    }
}

// The daemon finds secrets by their schema, and takes the first form that fits. A text is listed before them, as it is not
// a secret here; an object after them, so that an object of a secret's shape is one.
impl JsonSchema for Param {
    fn schema_name() -> Cow<'static, str> {
        "TextOrSecret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text, or a secret { env = \"NAME\" } or { file = \"/path\" }",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<Secret>()]
        })
    }
}

impl JsonSchema for Param<Value> {
    fn schema_name() -> Cow<'static, str> {
        "JsonOrSecret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret { env = \"NAME\" } or { file = \"/path\" }, or any JSON",
            "anyOf": [
                { "type": ["string", "number", "boolean", "array"] },
                generator.subschema_for::<Secret>(),
                { "type": "object" }
            ]
        })
    }
}

impl From<Secret> for Param {
    fn from(secret: Secret) -> Self {
        Self::Secret(secret)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_never_prints_its_text() {
        let secret = Secret::plain("hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(!format!("{:?}", Param::from(secret)).contains("hunter2"));
    }

    #[test]
    fn a_secret_is_text_or_one_source() {
        let parse = serde_json::from_str::<Secret>;
        assert_eq!(parse(r#""x""#).unwrap(), Secret::plain("x"));
        assert_eq!(parse(r#"{"env":"X"}"#).unwrap(), Secret(Source::Env("X".into())));
        assert!(parse(r#"{"env":"X","file":"y"}"#).is_err());
        assert!(parse(r#"{"var":"X"}"#).unwrap_err().to_string().contains("`env`"));
    }

    #[test]
    fn only_the_exact_shape_of_a_secret_is_one() {
        for secret in [json!({"env": "X"}), json!({"file": "/x"})] {
            assert!(matches!(serde_json::from_value(secret.clone()), Ok(Param::<String>::Secret(_))));
            assert!(matches!(serde_json::from_value(secret), Ok(Param::<Value>::Secret(_))));
        }
        assert_eq!(serde_json::from_value::<Param>(json!("a")).unwrap(), Param::Plain("a".to_owned()));
        for other in [
            json!(5),
            json!({}),
            json!({"env": 1}),
            json!({"env": "hunter2", "file": "/x"}),
            json!({"in": {"env": "hunter2"}}),
        ] {
            let error = serde_json::from_value::<Param>(other.clone()).unwrap_err().to_string();
            assert!(error.contains("{ env = \"NAME\" }") && !error.contains("hunter2"), "{error}");
            assert_eq!(serde_json::from_value::<Param<Value>>(other.clone()).unwrap(), Param::Plain(other));
        }
    }

    #[test]
    fn a_missing_or_empty_source_is_named() {
        let missing = Secret(Source::Env("PONTOON_NO_SUCH_VARIABLE".into()));
        assert!(missing.reveal().unwrap_err().to_string().contains("PONTOON_NO_SUCH_VARIABLE"));
        assert!(Secret::plain(" \n").reveal().is_err());
        assert_eq!(Secret::plain("x\n").reveal().unwrap(), "x");
    }
}
