//! JSON that goes to a script: some builds of the app read neither `\/` nor `\u00e9`, which JSON allows for `/` and `é`.

use std::borrow::Cow;
use std::str::Chars;

use pontoon_sdk::{Code, Error, Result};
use serde_json::value::RawValue;

/// JSON without `\/` and `\u…`, and otherwise the same to the letter. Text that is no JSON is left alone.
///
/// # Errors
/// `Rejected` with 400 if it holds what can be written in no other way: a control character, or half a character.
pub(crate) fn json(text: &str) -> Result<Cow<'_, str>> {
    if !(text.contains("\\/") || text.contains("\\u")) || serde_json::from_str::<&RawValue>(text).is_err() {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    // A backslash and what it escapes go together, so that the second of two escapes nothing.
    while let Some(c) = rest.next() {
        match (c, if c == '\\' { rest.next() } else { None }) {
            ('\\', Some('/')) => plain.push('/'),
            ('\\', Some('u')) => plain.push(character(&mut rest)?),
            (c, Some(escaped)) => plain.extend([c, escaped]),
            (c, None) => plain.push(c),
        }
    }
    Ok(Cow::Owned(plain))
}

/// The character that `\u` and what follows stands for (RFC 8259 §7).
fn character(rest: &mut Chars<'_>) -> Result<char> {
    let mut units = vec![unit(rest)?];
    if matches!(units[..], [0xD800..=0xDBFF]) {
        let mut behind = rest.clone();
        if behind.next() == Some('\\') && behind.next() == Some('u') {
            units.push(unit(&mut behind)?);
            *rest = behind;
        }
    }
    match char::decode_utf16(units).collect::<Vec<_>>()[..] {
        [Ok(c)] if !c.is_control() && c != '"' && c != '\\' => Ok(c),
        _ => Err(unreadable()),
    }
}

fn unit(rest: &mut Chars<'_>) -> Result<u16> {
    let digits = rest.as_str().get(..4).ok_or_else(unreadable)?;
    let unit = u16::from_str_radix(digits, 16).map_err(|_| unreadable())?;
    *rest = rest.as_str().get(4..).unwrap_or_default().chars();
    Ok(unit)
}

fn unreadable() -> Error {
    let text = "it holds a character that the app cannot read as JSON, such as a control character";
    Error::rejected(Code::BadBody, text)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn nothing_is_escaped_that_the_app_cannot_read_and_nothing_else_is_changed() {
        for (text, plain) in [
            (r#"{"a\/b":"http:\/\/x\/"}"#, r#"{"a/b":"http://x/"}"#),
            (r#"["\\/","\\\/","\"\/","\\u00e9"]"#, r#"["\\/","\\/","\"/","\\u00e9"]"#),
            (r#"{"n":1e999, "z":"\u00e9\u002F\n\/"}"#, "{\"n\":1e999, \"z\":\"é/\\n/\"}"),
            (r#"["\ud83d\ude00é"]"#, r#"["😀é"]"#),
            (r"no \/ JSON \u00e9", r"no \/ JSON \u00e9"),
            (r#""\"#, r#""\"#),
        ] {
            assert_eq!(json(text).unwrap(), plain);
            let read = |text: &str| serde_json::from_str::<Value>(text).ok();
            assert_eq!(read(&json(text).unwrap()), read(text));
        }
    }

    #[test]
    fn what_can_be_written_in_no_other_way_is_refused() {
        for text in [
            r#"["\u0000"]"#,
            r#"["\u001b[31m"]"#,
            r#"["\ud83d"]"#,
            r#"["\ud83dx"]"#,
            r#"["\ud83d\u0041"]"#,
            r#"["\ude00"]"#,
            r#"["\u0022"]"#,
            r#"["\u005c"]"#,
        ] {
            assert_eq!(json(text).unwrap_err().code(), Code::BadBody, "{text}");
        }
    }
}
