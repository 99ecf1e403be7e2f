//! Checks bodies of commands by the part of JSON Schema that scripts may use (draft 2020-12). A validator of all of it, the crate
//! jsonschema, would bring two dozen crates that nothing else here needs.

use serde_json::Value;

/// What is wrong, and where, as a JSON pointer (RFC 6901).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: String,
    pub(crate) what: String,
}

/// Keywords that only describe.
const DESCRIBE: [&str; 6] = ["title", "description", "default", "examples", "format", "$schema"];
/// Keywords that are checked.
const CHECKED: [&str; 12] = [
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "maxItems",
];
/// How deep a schema may be.
const DEEPEST: usize = 32;

/// Checks that all of a schema is understood, so that nothing that it forbids is let through.
pub(crate) fn check_schema(schema: &Value, at: &str) -> Result<(), Fault> {
    if at.matches('/').count() > DEEPEST {
        return Err(fault(at, "the schema is too deep"));
    }
    let Value::Object(keywords) = schema else {
        return if schema.is_boolean() { Ok(()) } else { Err(fault(at, "a schema is an object")) };
    };
    for (keyword, value) in keywords {
        let at = format!("{at}/{keyword}");
        let good = match keyword.as_str() {
            "type" => {
                value.as_str().is_some_and(is_type)
                    || value
                        .as_array()
                        .is_some_and(|types| types.iter().all(|one| one.as_str().is_some_and(is_type)))
            }
            "enum" => value.is_array(),
            "required" => value.as_array().is_some_and(|names| names.iter().all(Value::is_string)),
            "properties" => {
                let Some(properties) = value.as_object() else {
                    return Err(fault(&at, "this is not an object"));
                };
                properties
                    .iter()
                    .try_for_each(|(name, schema)| check_schema(schema, &format!("{at}/{name}")))?;
                true
            }
            "additionalProperties" | "items" => {
                check_schema(value, &at)?;
                true
            }
            "minLength" | "maxLength" | "maxItems" => value.is_u64(),
            "minimum" | "maximum" => value.is_number(),
            other => DESCRIBE.contains(&other) || CHECKED.contains(&other),
        };
        if !good {
            let text = format!("this is not understood; the keywords are {}", CHECKED.join(", "));
            return Err(fault(&at, &text));
        }
    }
    Ok(())
}

/// Checks a value.
pub(crate) fn check(schema: &Value, value: &Value, at: &str) -> Result<(), Fault> {
    let Value::Object(keywords) = schema else {
        return if schema == &Value::Bool(false) { Err(fault(at, "nothing may stand here")) } else { Ok(()) };
    };
    let number = |keyword: &str| keywords.get(keyword).and_then(Value::as_f64);
    let count = |keyword: &str| keywords.get(keyword).and_then(Value::as_u64);
    let types = match keywords.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|one| is_of(value, one)) {
        return Err(fault(at, &format!("expected {}", types.join(" or "))));
    }
    if let Some(Value::Array(values)) = keywords.get("enum")
        && !values.contains(value)
    {
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        return Err(fault(at, &format!("expected one of {}", values.join(", "))));
    }
    if let Some(only) = keywords.get("const")
        && only != value
    {
        return Err(fault(at, &format!("expected {only}")));
    }
    match value {
        Value::Object(fields) => {
            let required = keywords.get("required").and_then(Value::as_array);
            let missing = required
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .find(|name| !fields.contains_key(*name));
            if let Some(name) = missing {
                return Err(fault(at, &format!("missing field `{name}`")));
            }
            let properties = keywords.get("properties").and_then(Value::as_object);
            let others = keywords.get("additionalProperties");
            for (name, field) in fields {
                let at = format!("{at}/{}", pontoon_sdk::settings::escaped(name));
                match (properties.and_then(|properties| properties.get(name)), others) {
                    (None, Some(Value::Bool(false))) => {
                        return Err(fault(&at, &format!("unknown field `{name}`")));
                    }
                    (None, None) => {}
                    (Some(schema), _) | (None, Some(schema)) => check(schema, field, &at)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            if count("maxItems").is_some_and(|most| items.len() as u64 > most) {
                return Err(fault(at, "too many items"));
            }
            let Some(schema) = keywords.get("items") else { return Ok(()) };
            items
                .iter()
                .enumerate()
                .try_for_each(|(place, item)| check(schema, item, &format!("{at}/{place}")))
        }
        Value::String(text) => {
            let length = text.chars().count() as u64;
            match () {
                () if count("minLength").is_some_and(|least| length < least) => {
                    Err(fault(at, "the text is too short"))
                }
                () if count("maxLength").is_some_and(|most| length > most) => {
                    Err(fault(at, "the text is too long"))
                }
                () => Ok(()),
            }
        }
        Value::Number(given) => {
            let given = given.as_f64().unwrap_or(f64::NAN);
            match () {
                () if number("minimum").is_some_and(|least| given < least) => {
                    Err(fault(at, "the number is too small"))
                }
                () if number("maximum").is_some_and(|most| given > most) => {
                    Err(fault(at, "the number is too large"))
                }
                () => Ok(()),
            }
        }
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn fault(at: &str, what: &str) -> Fault {
    Fault { at: at.to_owned(), what: what.to_owned() }
}

fn is_type(name: &str) -> bool {
    matches!(name, "object" | "array" | "string" | "number" | "integer" | "boolean" | "null")
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_held_to_its_schema() {
        let schema = json!({
            "type": "object",
            "required": ["symbol"],
            "additionalProperties": false,
            "properties": {
                "symbol": { "type": "string", "minLength": 1, "maxLength": 3 },
                "side": { "enum": ["buy", "sell"] },
                "count": { "type": ["integer", "null"], "minimum": 1, "maximum": 9 },
                "tags": { "type": "array", "maxItems": 2, "items": { "type": "string" } },
            },
        });
        check_schema(&schema, "").unwrap();
        for good in
            [json!({"symbol": "é"}), json!({"symbol": "a", "side": "buy", "count": 9.0, "tags": ["x"]})]
        {
            assert_eq!(check(&schema, &good, ""), Ok(()), "{good}");
        }
        for (bad, at, what) in [
            (json!([]), "", "expected object"),
            (json!({}), "", "missing field `symbol`"),
            (json!({"symbol": ""}), "/symbol", "the text is too short"),
            (json!({"symbol": "abcd"}), "/symbol", "the text is too long"),
            (json!({"symbol": "a", "side": "hold"}), "/side", "expected one of \"buy\", \"sell\""),
            (json!({"symbol": "a", "count": 1.5}), "/count", "expected integer or null"),
            (json!({"symbol": "a", "count": 0}), "/count", "the number is too small"),
            (json!({"symbol": "a", "count": 10}), "/count", "the number is too large"),
            (json!({"symbol": "a", "tags": ["x", 1]}), "/tags/1", "expected string"),
            (json!({"symbol": "a", "tags": ["x", "y", "z"]}), "/tags", "too many items"),
            (json!({"symbol": "a", "a/b": 1}), "/a~1b", "unknown field `a/b`"),
        ] {
            assert_eq!(check(&schema, &bad, ""), Err(fault(at, what)), "{bad}");
        }
    }

    #[test]
    fn a_schema_that_would_not_be_checked_is_refused() {
        for (schema, at) in [
            (json!({"oneOf": []}), "/oneOf"),
            (json!({"properties": {"a": {"pattern": "x"}}}), "/properties/a/pattern"),
            (json!({"type": "text"}), "/type"),
            (json!({"items": 5}), "/items"),
        ] {
            assert_eq!(check_schema(&schema, "").unwrap_err().at, at, "{schema}");
        }
    }
}
