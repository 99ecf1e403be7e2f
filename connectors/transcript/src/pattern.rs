//! Compares what a transcript expects with what came: JSON as JSON, and `${name}` as a text to be learned.

use std::collections::BTreeMap;

use serde_json::Value;

/// What the names in a transcript (`${name}`) stand for.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// Puts in what the names stand for, escaped as within a JSON string.
    ///
    /// # Errors
    /// The name that stands for nothing yet.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_name(rest) {
            let value = self.0.get(name).ok_or_else(|| format!("${{{name}}} stands for nothing yet"))?;
            let quoted = Value::from(value.as_str()).to_string();
            filled.push_str(before);
            filled.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Whether a text is what is expected: as JSON where both are JSON, else exactly.
    pub fn matches(&mut self, expected: &str, got: &str) -> bool {
        match (serde_json::from_str(expected), serde_json::from_str(got)) {
            (Ok(expected), Ok(got)) => self.matches_json(&expected, &got),
            _ => self.matches_text(expected, got),
        }
    }

    /// Whether a JSON value is what is expected, with all that is in it.
    pub fn matches_json(&mut self, expected: &Value, got: &Value) -> bool {
        match (expected, got) {
            (Value::String(expected), Value::String(got)) => self.matches_text(expected, got),
            (Value::Array(expected), Value::Array(got)) => {
                expected.len() == got.len()
                    && expected.iter().zip(got).all(|(expected, got)| self.matches_json(expected, got))
            }
            (Value::Object(expected), Value::Object(got)) => {
                expected.len() == got.len()
                    && expected
                        .iter()
                        .all(|(key, value)| got.get(key).is_some_and(|got| self.matches_json(value, got)))
            }
            (expected, got) => expected == got,
        }
    }

    /// Whether an event's body has the fields that are expected.
    pub fn matches_fields(&mut self, expected: &Value, got: &Value) -> bool {
        let Value::Object(expected) = expected else { return self.matches_json(expected, got) };
        expected.iter().all(|(key, expected)| match (expected, got.get(key)) {
            (Value::Null, None) => true,
            (_, None) => false,
            (Value::Object(_), Some(got)) if matches!(key.as_str(), "message" | "sender" | "error") => {
                self.matches_fields(expected, got)
            }
            (_, Some(got)) => self.matches_json(expected, got),
        })
    }

    /// Whether a text is what is expected; a name that stands for nothing yet takes what is in its place.
    pub fn matches_text(&mut self, expected: &str, got: &str) -> bool {
        let (mut expected, mut got) = (expected, got);
        while let Some((before, name, after)) = next_name(expected) {
            let Some(rest) = got.strip_prefix(before) else { return false };
            let known = self.0.get(name).cloned();
            let value = known.as_deref().or_else(|| place(rest, after));
            let Some(remains) = value.and_then(|value| rest.strip_prefix(value)) else { return false };
            if let Some(value) = value {
                self.0.insert(name.to_owned(), value.to_owned());
            }
            (expected, got) = (after, remains);
        }
        expected == got
    }
}

/// What stands in a name's place: all up to the text that follows the name.
fn place<'a>(got: &'a str, after: &str) -> Option<&'a str> {
    let value = match next_name(after) {
        None => got.strip_suffix(after)?,
        Some(("", ..)) => return None,
        Some((literal, ..)) => got.split_once(literal)?.0,
    };
    if value.is_empty() { None } else { Some(value) }
}

/// The text before the first `${name}`, the name, and the text after it.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find("${")?;
        let (name, after) = text.get(start + 2..)?.split_once('}')?;
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Some((text.get(..start)?, name, after));
        }
        from = start + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_compared_as_json_and_text_as_text() {
        let mut names = Names::default();
        assert!(names.matches(r#"{"a":1,"b":[2]}"#, r#"{ "b": [2], "a": 1 }"#));
        assert!(!names.matches(r#"{"a":1}"#, r#"{"a":1,"b":2}"#));
        assert!(names.matches("ping 1", "ping 1"));
        assert!(!names.matches("ping 1", "ping  1"));
    }

    #[test]
    fn a_name_is_learned_once_and_holds_from_then_on() {
        let mut names = Names::default();
        assert!(names.matches(r#"{"id":"a-${n}.x"}"#, r#"{"id":"a-\"7.x"}"#));
        assert_eq!(names.fill(r#"{"id":"${n}"}"#).unwrap(), r#"{"id":"\"7"}"#);
        assert!(names.matches_text("${n}", "\"7"));
        assert!(!names.matches_text("${n}", "8"));
        assert!(names.matches_text("${p}/${q}", "one/two"));
        assert!(names.matches_text("$PAYLOAD ${not a name}", "$PAYLOAD ${not a name}"));
        assert!(names.fill("${unheard}").unwrap_err().contains("unheard"));
    }

    #[test]
    fn an_event_may_have_more_fields_but_not_more_in_a_payload() {
        let mut names = Names::default();
        let got = json!({"message": {"id": "1", "text": "x"}, "data": {"a": 1, "b": 2}, "uid": "u"});
        assert!(names.matches_fields(&json!({"message": {"id": "1"}, "server": null}), &got));
        assert!(!names.matches_fields(&json!({"data": {"a": 1}}), &got));
        assert!(!names.matches_fields(&json!({"uid": null}), &got));
    }
}
