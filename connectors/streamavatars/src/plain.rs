//! Text that goes to a script: some builds of the app cannot read `\/`, which JSON allows for `/`.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// JSON without `\/`, and otherwise the same to the letter. Text that is no JSON is left alone.
pub(crate) fn slashes(text: &str) -> Cow<'_, str> {
    if !text.contains("\\/") || serde_json::from_str::<&RawValue>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    // A backslash and what it escapes go together, so that the second of two escapes nothing.
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let length = 1 + escape.chars().nth(1).map_or(0, char::len_utf8);
        let (escape, after) = escape.split_at(length);
        plain.push_str(if escape == "\\/" { "/" } else { escape });
        rest = after;
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn no_slash_is_escaped_and_nothing_else_is_changed() {
        for (text, plain) in [
            (r#"{"a\/b":"http:\/\/x\/"}"#, r#"{"a/b":"http://x/"}"#),
            (r#"["\\/","\\\/","\"\/"]"#, r#"["\\/","\\/","\"/"]"#),
            (r#"{"n":1e999, "z":"é\u002f\n\/"}"#, r#"{"n":1e999, "z":"é\u002f\n/"}"#),
            (r"no \/ JSON", r"no \/ JSON"),
            (r#""\"#, r#""\"#),
        ] {
            assert_eq!(slashes(text), plain);
            let read = |text: &str| serde_json::from_str::<Value>(text).ok();
            assert_eq!(read(&slashes(text)), read(text));
        }
    }
}
