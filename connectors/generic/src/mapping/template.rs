//! What is sent as the configuration writes it, with `${name}` in the place of what is known later.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use pontoon_sdk::error::{Error, Result};
use pontoon_sdk::event::Raw;
use pontoon_sdk::settings::escaped;

/// Any JSON to send. A string in it that is `${name}`, and nothing else, stands for what has that name.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Template(Value);

/// What the names in a template may be.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Those without a slash.
    pub names: &'a [&'a str],
    /// Says why a name that begins with a slash, a pointer into what is answered, cannot be filled in; `Ok` if it can.
    pub answered: fn(&str) -> std::result::Result<(), String>,
}

/// The JSON text of what a name stands for.
pub type ValueOf<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Template {
    /// Whether a text can be the name in `${name}`.
    pub fn is_name(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    /// Checks that every `${name}` is known and is a whole string. `at` is where the template stands in the
    /// configuration.
    ///
    /// # Errors
    /// `Config`, with the place of the string.
    pub fn check(&self, known: Known<'_>, at: &str) -> Result<()> {
        check(&self.0, known, at)
    }

    /// Whether any string is `${wanted}`.
    pub fn uses(&self, wanted: &str) -> bool {
        uses(&self.0, wanted)
    }

    /// Whether it is a string by itself.
    pub fn is_text(&self) -> bool {
        self.0.is_string()
    }

    /// The JSON to send, with every name replaced by what it stands for; `null` where that is not known.
    pub fn json(&self, value_of: ValueOf<'_>) -> Raw {
        Raw::checked(Filled { value: &self.0, value_of }.json())
    }

    /// The same for services that take texts: a string by itself is that text, without quotes.
    pub fn text(&self, value_of: ValueOf<'_>) -> String {
        let Value::String(text) = &self.0 else { return Filled { value: &self.0, value_of }.json() };
        match name(text) {
            None => text.clone(),
            Some(name) => {
                let json = value_of(name).unwrap_or_else(|| "null".to_owned());
                serde_json::from_str(&json).unwrap_or(json)
            }
        }
    }
}

/// Shows no text that it holds: a secret may be written where it does not belong.
impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Any JSON; a string in it that is \"${name}\" and nothing else is replaced"
        })
    }
}

/// The name if the whole string is `${name}`.
fn name(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}').filter(|name| Template::is_name(name) || name.starts_with('/'))
}

fn check(value: &Value, known: Known<'_>, at: &str) -> Result<()> {
    match value {
        Value::String(text) => check_text(text, known, at),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(place, item)| check(item, known, &format!("{at}/{place}"))),
        Value::Object(fields) => {
            fields.iter().try_for_each(|(key, value)| check(value, known, &format!("{at}/{}", escaped(key))))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(text: &str, known: Known<'_>, at: &str) -> Result<()> {
    let wrong = |text: String| Err(Error::config(text).at(at));
    match name(text) {
        Some(pointer) if pointer.starts_with('/') => (known.answered)(pointer).or_else(wrong),
        Some(name) if known.names.contains(&name) => Ok(()),
        Some(name) => {
            let names: Vec<_> = known.names.iter().map(|name| format!("${{{name}}}")).collect();
            let hint = match names.as_slice() {
                [] => "none is known here; list it under `secrets`".to_owned(),
                names => format!("known are {}", names.join(", ")),
            };
            wrong(format!("${{{name}}} stands for nothing; {hint}"))
        }
        None => match known.names.iter().find(|name| text.contains(&format!("${{{name}}}"))) {
            Some(name) => wrong(format!(
                "${{{name}}} is put in only where it is the whole string; write \"${{{name}}}\" by itself"
            )),
            None => Ok(()),
        },
    }
}

fn uses(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => name(text) == Some(wanted),
        Value::Array(items) => items.iter().any(|item| uses(item, wanted)),
        Value::Object(fields) => fields.values().any(|value| uses(value, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A template with every name replaced.
struct Filled<'a> {
    value: &'a Value,
    value_of: ValueOf<'a>,
}

impl Filled<'_> {
    fn json(&self) -> String {
        // A value fails to be written only where a key of an object is not a text.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Filled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let value_of = self.value_of;
        let within = |value| Filled { value, value_of };
        match self.value {
            Value::String(text) if let Some(name) = name(text) => {
                let json = value_of(name).and_then(|json| RawValue::from_string(json).ok());
                json.serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(within)),
            Value::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(key, value)| (key, within(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_filled_in_where_they_are_the_whole_string() {
        let value_of = |name: &str| match name {
            "token" => Some("\"a \\\"b\\\"\"".to_owned()),
            "n" => Some("123456789012345678901234567890".to_owned()),
            "/ping" => Some("1.50".to_owned()),
            _ => None,
        };
        for (template, wanted) in [
            (json!("plain \"text\""), "plain \"text\""),
            (json!("${token}"), "a \"b\""),
            (json!("${n}"), "123456789012345678901234567890"),
            (json!("${/ping}"), "1.50"),
            (
                json!({"b": "${token}", "a": ["${n}", 1, "x"]}),
                r#"{"a":[123456789012345678901234567890,1,"x"],"b":"a \"b\""}"#,
            ),
            (json!({"pong": "${/ping}", "q\"": null}), r#"{"pong":1.50,"q\"":null}"#),
            (json!(["${/lost}", true]), "[null,true]"),
            (json!({}), "{}"),
        ] {
            assert_eq!(Template(template.clone()).text(&value_of), wanted, "{template}");
        }
    }

    #[test]
    fn as_json_a_string_by_itself_keeps_its_quotes() {
        let value_of = |name: &str| (name == "n").then(|| "1.50".to_owned());
        for (template, wanted) in
            [(json!("a \"b\""), r#""a \"b\"""#), (json!("${n}"), "1.50"), (json!(["${n}"]), "[1.50]")]
        {
            assert_eq!(
                Template(template.clone()).json(&value_of).as_bytes(),
                wanted.as_bytes(),
                "{template}"
            );
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused_with_its_place() {
        let known = Known { names: &["key"], answered: |pointer| Err(format!("no {pointer} here")) };
        for (template, at, words) in [
            (json!({"b/c": ["${kee}"]}), "/at/b~1c/0", "${kee} stands for nothing; known are ${key}"),
            (json!("Bearer ${key}"), "/at", "write \"${key}\" by itself"),
            (json!(["${/a}"]), "/at/0", "no /a here"),
        ] {
            let error = Template(template.clone()).check(known, "/at").unwrap_err();
            assert_eq!(error.pointer(), Some(at), "{template}");
            assert!(error.message().contains(words), "{error}");
        }
        for plain in ["${ key }", "${}", "$key", "${a-b}", "x"] {
            assert!(Template(json!([plain])).check(known, "/at").is_ok(), "{plain}");
        }
        let nothing = Known { names: &[], ..known };
        let error = Template(json!("${key}")).check(nothing, "/at").unwrap_err();
        assert!(error.message().contains("list it under `secrets`"), "{error}");
    }

    #[test]
    fn a_template_does_not_print_what_it_holds() {
        assert_eq!(format!("{:?}", Template(json!("hunter2"))), "Template");
    }
}
