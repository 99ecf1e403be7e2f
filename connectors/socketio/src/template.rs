//! Events to send as the configuration writes them, with `${name}` in the place of what is known later.

use pontoon_sdk::{Error, Raw, Result};
use serde_json::{Map, Value};

/// The name if the whole string is `${name}`.
fn name(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}').filter(|name| is_name(name))
}

/// Whether a text can be the name in `${name}`.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Checks that every `${name}` is known and a string of its own.
pub(crate) fn check(args: &[Value], known: &[&str], at: &str) -> Result<()> {
    args.iter().enumerate().try_for_each(|(place, value)| check_value(value, known, &format!("{at}/{place}")))
}

fn check_value(value: &Value, known: &[&str], at: &str) -> Result<()> {
    match value {
        Value::String(text) => check_text(text, known, at),
        Value::Array(items) => check(items, known, at),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            check_value(value, known, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(text: &str, known: &[&str], at: &str) -> Result<()> {
    if let Some(name) = name(text) {
        if known.contains(&name) {
            return Ok(());
        }
        let known: Vec<_> = known.iter().map(|name| format!("${{{name}}}")).collect();
        let hint = match known.as_slice() {
            [] => "none is known here; list it under `secrets`".to_owned(),
            known => format!("known are {}", known.join(", ")),
        };
        return Err(Error::config(format!("${{{name}}} stands for nothing; {hint}")).at(at));
    }
    match known.iter().find(|name| text.contains(&format!("${{{name}}}"))) {
        Some(name) => Err(Error::config(format!(
            "${{{name}}} is put in only where it is the whole string; write \"${{{name}}}\" by itself"
        ))
        .at(at)),
        None => Ok(()),
    }
}

/// Whether any string is `${wanted}`.
pub(crate) fn uses(args: &[Value], wanted: &str) -> bool {
    args.iter().any(|value| match value {
        Value::String(text) => name(text) == Some(wanted),
        Value::Array(items) => uses(items, wanted),
        Value::Object(fields) => fields.values().any(|value| uses(std::slice::from_ref(value), wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    })
}

/// The arguments with every name replaced by what it stands for.
///
/// # Errors
/// Only those of `value_of`: names were checked with the configuration.
pub(crate) fn fill(args: &[Value], value_of: &dyn Fn(&str) -> Option<Value>) -> Result<Vec<Raw>> {
    args.iter().map(|value| Raw::json(&filled(value, value_of))).collect()
}

fn filled(value: &Value, value_of: &dyn Fn(&str) -> Option<Value>) -> Value {
    match value {
        Value::String(text) => name(text).and_then(value_of).unwrap_or_else(|| value.clone()),
        Value::Array(items) => items.iter().map(|item| filled(item, value_of)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), filled(value, value_of)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
