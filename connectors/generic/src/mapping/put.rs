//! Puts a value where a pointer points, and leaves everything around it as it was written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::pointer::{Document, Pointer, Token};

/// What stands around a name: a comma, quotes, a colon and braces.
const AROUND: usize = 6;

impl<D: Document> Pointer<D> {
    /// The JSON text with a value put in: in the place of a `null`, or of a field that is not there. All else keeps
    /// every byte.
    ///
    /// # Errors
    /// Why it cannot stand there, as the end of a sentence about the place.
    pub fn put(&self, json: &str, value: &str) -> Result<String, &'static str> {
        let way: usize = self.way.iter().map(|token| token.key.len() + AROUND).sum();
        let mut out = String::with_capacity(json.len() + way + value.len());
        place(json, &self.way, value, &mut out)?;
        Ok(out)
    }
}

fn place(json: &str, way: &[Token], value: &str, out: &mut String) -> Result<(), &'static str> {
    let Some((token, rest)) = way.split_first() else {
        if json.trim() != "null" {
            return Err("stands something already");
        }
        out.push_str(value);
        return Ok(());
    };
    if let Ok(Fields(fields)) = serde_json::from_str(json) {
        into_fields(&fields, token, rest, value, out)
    } else if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(json) {
        into_elements(&elements, token, rest, value, out)
    } else {
        Err("nothing can stand, as it leads through neither an object nor an array")
    }
}

fn into_fields(
    fields: &[(Cow<'_, str>, &RawValue)],
    token: &Token,
    rest: &[Token],
    value: &str,
    out: &mut String,
) -> Result<(), &'static str> {
    if fields.iter().filter(|(key, _)| *key == token.key).count() > 1 {
        return Err("stand several values");
    }
    out.push('{');
    let mut found = false;
    for (key, inner) in fields {
        name(key, out);
        if *key == token.key {
            found = true;
            place(inner.get(), rest, value, out)?;
        } else {
            out.push_str(inner.get());
        }
    }
    if !found {
        name(&token.key, out);
        missing(rest, value, out);
    }
    out.push('}');
    Ok(())
}

fn into_elements(
    elements: &[&RawValue],
    token: &Token,
    rest: &[Token],
    value: &str,
    out: &mut String,
) -> Result<(), &'static str> {
    if token.place.is_none_or(|place| place >= elements.len()) {
        return Err("nothing can stand, as the list is too short; write null in its place");
    }
    out.push('[');
    for (index, inner) in elements.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        if token.place == Some(index) {
            place(inner.get(), rest, value, out)?;
        } else {
            out.push_str(inner.get());
        }
    }
    out.push(']');
    Ok(())
}

/// The objects that lead to a value where there was nothing.
fn missing(way: &[Token], value: &str, out: &mut String) {
    for token in way {
        out.push('{');
        name(&token.key, out);
    }
    out.push_str(value);
    out.extend(way.iter().map(|_| '}'));
}

/// Writes a field's name, and the comma before it.
fn name(key: &str, out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
    let is_plain = |byte| byte >= b' ' && byte != b'"' && byte != b'\\';
    if key.bytes().all(is_plain) {
        out.push('"');
        out.push_str(key);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(key).to_string());
    }
    out.push(':');
}

/// The fields of an object, in order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A key, as its caller wrote it. Serde borrows a `Cow` only with this attribute.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            fields.push((key, map.next_value()?));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Frames;
    use super::*;

    fn put(json: &str, at: &str) -> Result<String, &'static str> {
        at.parse::<Pointer<Frames>>().unwrap().put(json, "7")
    }

    #[test]
    fn a_value_is_put_in_and_the_rest_keeps_every_byte() {
        for (json, at, wanted) in [
            (r#"{"z": 1.0, "a":1e999}"#, "/id", r#"{"z":1.0,"a":1e999,"id":7}"#),
            ("{}", "/id", r#"{"id":7}"#),
            (r#"{ "id" : null , "a": { "x" : 1 }}"#, "/id", r#"{"id":7,"a":{ "x" : 1 }}"#),
            (r#"{"a":1}"#, "/meta/ref/id", r#"{"a":1,"meta":{"ref":{"id":7}}}"#),
            (r#"{"meta":{"b":2}}"#, "/meta/id", r#"{"meta":{"b":2,"id":7}}"#),
            (r#"[2,null,"Heartbeat",{}]"#, "/1", r#"[2,7,"Heartbeat",{}]"#),
            (r#"[{"a":1}]"#, "/0/id", r#"[{"a":1,"id":7}]"#),
            (r#"{"\u00e9":1}"#, "/x~1\"y", r#"{"é":1,"x/\"y":7}"#),
        ] {
            assert_eq!(put(json, at).as_deref(), Ok(wanted), "{json} {at}");
        }
    }

    #[test]
    fn nothing_is_put_over_a_value_or_nowhere() {
        for (json, at, words) in [
            (r#"{"id":5}"#, "/id", "something already"),
            (r#"{"id":false}"#, "/id", "something already"),
            (r#"{"id":null,"id":null}"#, "/id", "several values"),
            (r#"{"meta":5}"#, "/meta/id", "neither an object nor an array"),
            ("\"text\"", "/id", "neither an object nor an array"),
            ("1e999", "/id", "neither an object nor an array"),
            ("null", "/id", "neither an object nor an array"),
            ("[2]", "/1", "the list is too short"),
            ("[2]", "/id", "the list is too short"),
            ("[5]", "/0", "something already"),
        ] {
            let error = put(json, at).unwrap_err();
            assert!(error.contains(words), "{json} {at}: {error}");
        }
    }
}
