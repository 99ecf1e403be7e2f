//! Fields of `auth`, which may be secret: `{ env = "…" }` or `{ file = "…" }` in the place of any JSON.

use std::borrow::Cow;

use pontoon_sdk::Secret;
use pontoon_sdk::socketio::AuthValue;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A field of `auth`: a secret, or any JSON.
#[derive(Debug, Clone)]
pub struct AuthField(pub(crate) AuthValue);

/// Reads a secret if a value has exactly its shape.
fn secret(value: &Value) -> Option<Secret> {
    // A text would be one too, in plain sight.
    value.as_object()?;
    Secret::deserialize(value).ok()
}

impl<'de> Deserialize<'de> for AuthField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self(secret(&value).map_or(AuthValue::Plain(value), AuthValue::Secret)))
    }
}

impl JsonSchema for AuthField {
    fn schema_name() -> Cow<'static, str> {
        "AuthField".into()
    }

    // The daemon finds secrets by their schema. A text is listed before them, as it is not a secret here; an object after
    // them, so that an object of a secret's shape is one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_exact_shape_is_a_secret() {
        let field = |value: Value| serde_json::from_value::<AuthField>(value).unwrap().0;
        assert!(matches!(field(json!({"env": "X"})), AuthValue::Secret(_)));
        assert!(matches!(field(json!({"file": "/x"})), AuthValue::Secret(_)));
        for plain in [
            json!("env"),
            json!({}),
            json!({"env": 1}),
            json!({"env": "X", "file": "/x"}),
            json!({"in": {"env": "X"}}),
        ] {
            assert_eq!(field(plain.clone()), AuthValue::Plain(plain));
        }
    }
}
