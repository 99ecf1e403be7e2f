//! Values of settings that may be secret: `{ env = "…" }` or `{ file = "…" }` in the place of a text.

use std::borrow::Cow;

use pontoon_sdk::{Param, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The value of a header or of a query's parameter, or a subprotocol: a secret, or a text.
#[derive(Debug, Clone)]
pub struct TextOrSecret(pub(crate) Param);

impl<'de> Deserialize<'de> for TextOrSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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

    // The daemon finds secrets by their schema. A text is listed before them, as it is no secret here.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text, or a secret { env = \"NAME\" } or { file = \"/path\" }",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<Secret>()]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
