//! What is sent as the configuration writes it, with `${name}` in the place of what is known later.
//!
//! * A string that is `${name}` and nothing else becomes the value: a number keeps its digits, an object its bytes.
//! * Within a longer string the text of the value is put in, escaped as the string needs it; of an object or array its JSON.
//! * A text that is a JSON object or array is filled in as JSON, and keeps its order and its `null`s; any other text is
//!   filled in as it is.
//! * What is not known, such as a value that was not remembered yet, is `null`.
//! * `$${` stands for `${`. What is filled in is never looked at for names. Keys of objects have no names.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use pontoon_sdk::error::{Error, Result};
use pontoon_sdk::event::Raw;
use pontoon_sdk::json::text as text_of;
use pontoon_sdk::settings::escaped;

/// Any JSON to send, with `${name}` in its strings.
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

    /// The names in a text.
    pub fn names(text: &str) -> impl Iterator<Item = &str> {
        parts(text).into_iter().filter_map(|part| if let Part::Name(name) = part { Some(name) } else { None })
    }

    /// A text with every name replaced by what it stands for.
    pub fn fill(text: &str, text_of: ValueOf<'_>) -> String {
        let part = |part| match part {
            Part::Text(text) => text.to_owned(),
            Part::Name(name) => text_of(name).unwrap_or_default(),
        };
        parts(text).into_iter().map(part).collect()
    }

    /// Checks that every `${name}` is known. `at` is where the template stands in the configuration.
    ///
    /// # Errors
    /// `Config`, with the place of the string.
    pub fn check(&self, known: Known<'_>, at: &str) -> Result<()> {
        check(&self.0, known, at)?;
        match &self.0 {
            Value::String(text) if begins_as_json(text) && !is_json(text) && has_names(text) => {
                Err(Error::config(
                    "this begins as JSON and is not, so it would be sent as text; write \"${name}\" with its quotes, which \
                     a number and null lose when they are put in",
                )
                .at(at))
            }
            _ => Ok(()),
        }
    }

    /// Whether any string has `${wanted}` in it.
    pub fn uses(&self, wanted: &str) -> bool {
        uses(&self.0, wanted)
    }

    /// Whether it is sent as text that is not JSON.
    pub fn is_text(&self) -> bool {
        self.0.as_str().is_some_and(|text| !is_json(text))
    }

    /// The base64 of a binary frame, which is written as `{ base64 = "…" }` and nothing else.
    pub fn base64(&self) -> Option<&str> {
        let fields = self.0.as_object().filter(|fields| fields.len() == 1)?;
        fields.get("base64")?.as_str()
    }

    /// The JSON to send, with every name replaced by what it stands for; `null` where that is not known.
    pub fn json(&self, value_of: ValueOf<'_>) -> Raw {
        Raw::checked(fill_json(&self.0.to_string(), value_of))
    }

    /// The same for services that take texts: a string by itself is that text, without quotes.
    pub fn text(&self, value_of: ValueOf<'_>) -> String {
        match &self.0 {
            Value::String(text) if is_json(text) => fill_json(text, value_of),
            Value::String(text) => fill_text(text, value_of),
            value => fill_json(&value.to_string(), value_of),
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
        json_schema!({ "description": "Any JSON; \"${name}\" in its strings is replaced" })
    }
}

/// A part of a string.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// This text.
    Text(&'a str),
    /// What this name stands for.
    Name(&'a str),
}

/// The parts of a string.
pub(super) fn parts(mut text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find("${")).map(|at| from + at) {
        let (before, behind) = (&text[..found], &text[found + 2..]);
        let name =
            behind.split_once('}').filter(|(name, _)| Template::is_name(name) || name.starts_with('/'));
        match (before.strip_suffix('$'), name) {
            (Some(before), Some(_)) => {
                parts.push(Part::Text(before));
                text = &text[found..];
                from = 2;
            }
            (None, Some((name, rest))) => {
                parts.extend([Part::Text(before), Part::Name(name)]);
                text = rest;
                from = 0;
            }
            (_, None) => from = found + 2,
        }
    }
    parts.push(Part::Text(text));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

fn has_names(text: &str) -> bool {
    Template::names(text).next().is_some()
}

fn begins_as_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// Whether a text is a JSON object or array.
fn is_json(text: &str) -> bool {
    begins_as_json(text) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A text with every name replaced by its text.
fn fill_text(text: &str, value_of: ValueOf<'_>) -> String {
    let mut filled = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Name(name) => {
                let json = value_of(name).unwrap_or_else(|| "null".to_owned());
                filled.push_str(&text_of(&json).unwrap_or(json));
            }
        }
    }
    filled
}

/// JSON with the names in its strings replaced; all else keeps every byte.
fn fill_json(json: &str, value_of: ValueOf<'_>) -> String {
    let mut filled = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, string, behind)) = next_string(rest) {
        filled.push_str(before);
        rest = behind;
        let is_key = behind.trim_start().starts_with(':');
        let text: Option<String> = if is_key { None } else { serde_json::from_str(string).ok() };
        match text.as_deref().map(|text| (text, parts(text))) {
            Some((_, ref parts)) if let [Part::Name(name)] = parts.as_slice() => {
                let json =
                    value_of(name).filter(|json| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok());
                filled.push_str(json.as_deref().unwrap_or("null"));
            }
            Some((text, _)) if text.contains("${") => {
                filled.push_str(&Value::from(fill_text(text, value_of)).to_string());
            }
            _ => filled.push_str(string),
        }
    }
    filled.push_str(rest);
    filled
}

/// The next string of a JSON text with its quotes, what stands before it, and what behind.
fn next_string(json: &str) -> Option<(&str, &str, &str)> {
    let start = json.find('"')?;
    let mut escaped = false;
    let end = json.bytes().enumerate().skip(start + 1).find(|(_, byte)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    let (string, rest) = json.split_at_checked(end?.0 + 1)?;
    Some((string.get(..start)?, string.get(start..)?, rest))
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

/// Checks that every name in a text is known. `at` is where it stands in the configuration.
pub(super) fn check_text(text: &str, known: Known<'_>, at: &str) -> Result<()> {
    let wrong = |text: String| Err(Error::config(text).at(at));
    for name in Template::names(text) {
        if name.starts_with('/') {
            (known.answered)(name).or_else(wrong)?;
        } else if !known.names.contains(&name) {
            let names: Vec<_> = known.names.iter().map(|name| format!("${{{name}}}")).collect();
            let hint = match names.as_slice() {
                [] => "none is known here; list it under `secrets`".to_owned(),
                names => format!("known are {}", names.join(", ")),
            };
            return wrong(format!(
                "${{{name}}} stands for nothing; {hint}; to send it as it is, write $${{{name}}}"
            ));
        }
    }
    Ok(())
}

fn uses(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => parts(text).contains(&Part::Name(wanted)),
        Value::Array(items) => items.iter().any(|item| uses(item, wanted)),
        Value::Object(fields) => fields.values().any(|value| uses(value, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_filled_in_as_values_and_within_strings_as_text() {
        let value_of = |name: &str| match name {
            "token" => Some("\"a \\\"b\\\"\"".to_owned()),
            "n" => Some("123456789012345678901234567890".to_owned()),
            "/ping" => Some("1.50".to_owned()),
            "evil" => Some("\"${token} \\\"}\"".to_owned()),
            _ => None,
        };
        for (template, wanted) in [
            (json!({"t": "<${evil}>"}), r#"{"t":"<${token} \"}>"}"#),
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
            (json!("Bearer ${token}, ${n} ${lost}"), "Bearer a \"b\", 123456789012345678901234567890 null"),
            (
                json!(["<${token}>", "$${token}", "${ token }", "${"]),
                r#"["<a \"b\">","${token}","${ token }","${"]"#,
            ),
            (
                json!(r#"{"z": null, "a":"${n}","${n}" : "x\n${token}", "e":"\u00e9"}"#),
                r#"{"z": null, "a":123456789012345678901234567890,"${n}" : "x\na \"b\"", "e":"\u00e9"}"#,
            ),
            (json!("$${n}$${"), "${n}$${"),
            (json!("[broken"), "[broken"),
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
            (json!("Bearer ${kee}"), "/at", "to send it as it is, write $${kee}"),
            (json!("{\"n\": ${key}}"), "/at", "begins as JSON and is not"),
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
