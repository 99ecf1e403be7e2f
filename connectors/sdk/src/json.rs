//! JSON as services write it: a byte order mark before it, NUL bytes behind it, escapes of half a surrogate pair in it.
//!
//! JSON permits `"\ud83d"` without its other half (RFC 8259 §8.2), and JavaScript writes it where a text is cut in two.
//! A Rust string cannot hold it, so U+FFFD stands in its place, as `TextDecoder` and Go's `encoding/json` do it. Only a
//! text in which the strict reader fails is searched for such halves; what is read without a fault costs the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";
/// What stands in the place of half a surrogate pair, as an escape. It is as long as the escape of a half.
const REPLACEMENT: &str = "\\ufffd";
/// Length of an escape `\uXXXX`.
const ESCAPE: usize = REPLACEMENT.len();
/// The longest part of a wrong text that an error shows, in bytes.
const SHOWN: usize = 24;

/// The JSON in a message: without a byte order mark before it and NUL bytes behind it, which some services add.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let end =
        bytes.iter().rposition(|byte| *byte != 0 && !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    match bytes.split_at_checked(end) {
        Some((json, behind)) if behind.contains(&0) => json,
        _ => bytes,
    }
}

/// Reads a value. Text with half a surrogate pair has U+FFFD in its place.
///
/// # Errors
/// As `serde_json::from_str`.
pub(crate) fn from_str<T: DeserializeOwned>(json: &str) -> serde_json::Result<T> {
    serde_json::from_str(json).or_else(|error| match paired(json) {
        Cow::Owned(json) => serde_json::from_str(&json),
        Cow::Borrowed(_) => Err(error),
    })
}

/// Reads a value from bytes, as [`from_str`].
///
/// # Errors
/// As `serde_json::from_slice`.
pub(crate) fn from_slice<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json).or_else(|error| std::str::from_utf8(json).map_or(Err(error), from_str))
}

/// A string, a number or a truth value as text; a number keeps its digits. `None` for any other value.
pub fn text(json: &str) -> Option<String> {
    match json.trim_ascii_start().as_bytes().first()? {
        b'"' => from_str(json).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(json.trim_ascii().to_owned()),
    }
}

/// The JSON with `\ufffd` in the place of every escape of half a surrogate pair.
pub(crate) fn paired(json: &str) -> Cow<'_, str> {
    let mut paired = String::new();
    let mut from = 0;
    for half in halves(json) {
        paired.push_str(json.get(from..half.at).unwrap_or_default());
        paired.push_str(REPLACEMENT);
        from = half.at + ESCAPE;
    }
    if paired.is_empty() {
        return Cow::Borrowed(json);
    }
    paired.push_str(json.get(from..).unwrap_or_default());
    Cow::Owned(paired)
}

/// An escape of half a surrogate pair, without the other half beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Half {
    /// Where it begins, in bytes.
    pub(crate) at: usize,
    /// The half: U+D800 to U+DFFF.
    pub(crate) unit: u16,
}

impl Half {
    /// Whether it is a first half.
    pub(crate) fn is_high(self) -> bool {
        self.unit < 0xDC00
    }
}

/// The halves in a JSON text, in order.
pub(crate) fn halves(json: &str) -> Vec<Half> {
    let mut halves = Vec::new();
    let mut at = 0;
    while let Some(step) = json.get(at..).and_then(|rest| rest.find('\\')) {
        at += step;
        let Some(unit) = unit(json, at) else {
            // A backslash and what it escapes go together, so that the second of two escapes nothing.
            at += 1 + json.get(at + 1..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
            continue;
        };
        let is_low = |unit| (0xDC00..0xE000).contains(&unit);
        if (0xD800..0xDC00).contains(&unit) && self::unit(json, at + ESCAPE).is_some_and(is_low) {
            at += ESCAPE;
        } else if (0xD800..0xE000).contains(&unit) {
            halves.push(Half { at, unit });
        }
        at += ESCAPE;
    }
    halves
}

/// The UTF-16 unit that an escape at this place stands for.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
    // `from_str_radix` would take a sign.
    if digits.starts_with('+') { None } else { u16::from_str_radix(digits, 16).ok() }
}

/// What is wrong with a text that is not the JSON that was wanted, with the place and what stands there, such as
/// `expected value at line 1 column 6, found "NaN"`.
pub(crate) fn fault(json: &[u8], error: &serde_json::Error) -> String {
    if !error.is_syntax() {
        return error.to_string();
    }
    let lines = json.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let at = before + error.column().saturating_sub(1);
    let in_word =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'\\');
    let (left, right) = json.split_at_checked(at).unwrap_or((json, b""));
    let start = at - left.iter().rev().take(SHOWN).take_while(|byte| in_word(byte)).count();
    let end = at + right.iter().take(SHOWN).take_while(|byte| in_word(byte)).count();
    let end = if start == end { end + right.len().min(1) } else { end };
    let found = String::from_utf8_lossy(json.get(start..end).unwrap_or_default());
    format!("{error}, found {found:?}")
}

/// A key of an object. Text with half a surrogate pair has U+FFFD in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;

        impl<'de> Visitor<'de> for AnyText {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(
                    Key(std::str::from_utf8(bytes)
                        .map_or_else(|_| Cow::Owned(replaced(bytes)), Cow::Borrowed)),
                )
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key<'de>, E> {
                let text = std::str::from_utf8(bytes).map_or_else(|_| replaced(bytes), str::to_owned);
                Ok(Key(Cow::Owned(text)))
            }
        }

        // As bytes, serde_json gives a text with half a pair as well: the half in the form of UTF-8 (WTF-8).
        deserializer.deserialize_bytes(AnyText)
    }
}

/// The text with U+FFFD in the place of halves in WTF-8.
fn replaced(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|three| matches!(three, [0xED, 0xA0..=0xBF, _])) {
        text.push_str(&String::from_utf8_lossy(rest.get(..at).unwrap_or_default()));
        text.push(char::REPLACEMENT_CHARACTER);
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    text.push_str(&String::from_utf8_lossy(rest));
    text
}

/// Writes a value that an event's field holds in the service's own form, such that strict readers can read it.
pub(crate) fn write_paired<S: Serializer>(
    value: &Option<Box<RawValue>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(value) = value else { return serializer.serialize_none() };
    match paired(value.get()) {
        Cow::Borrowed(_) => value.serialize(serializer),
        Cow::Owned(json) => RawValue::from_string(json).map_err(S::Error::custom)?.serialize(serializer),
    }
}

/// Writes fields likewise.
pub(crate) fn write_paired_fields<S: Serializer>(
    fields: &BTreeMap<String, Box<RawValue>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    struct Paired<'a>(&'a RawValue);

    impl Serialize for Paired<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            write_paired(&Some(self.0.to_owned()), serializer)
        }
    }

    serializer.collect_map(fields.iter().map(|(name, value)| (name, Paired(value))))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_mark_before_and_nul_behind_are_no_part_of_the_json() {
        for (bytes, json) in [
            (&b"\xEF\xBB\xBF{}"[..], &b"{}"[..]),
            (b"{}\0", b"{}"),
            (b"{}\n\0\0\n", b"{}"),
            (b"\xEF\xBB\xBF [1]\0", b" [1]"),
            (b" {} \n", b" {} \n"),
            (b"", b""),
            (b"\0", b""),
            (b"\xEF\xBB", b"\xEF\xBB"),
        ] {
            assert_eq!(trimmed(bytes), json, "{bytes:?}");
        }
    }

    #[test]
    fn half_a_pair_is_read_as_the_replacement_character() {
        for (json, wanted) in [
            (r#""cut \ud83d""#, "cut \u{FFFD}"),
            (r#""\uDC4D x""#, "\u{FFFD} x"),
            (r#""\ud83d\ud83d\udc4d""#, "\u{FFFD}\u{1F44D}"),
            (r#""\ud83d\udc4d""#, "\u{1F44D}"),
            (r#""\ud83d\n\udc4d""#, "\u{FFFD}\n\u{FFFD}"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\\\ud83dé""#, "\\\u{FFFD}é"),
            (r#""\ud83d\u0041""#, "\u{FFFD}A"),
        ] {
            assert_eq!(from_str::<String>(json).unwrap(), wanted, "{json}");
            assert_eq!(from_slice::<String>(json.as_bytes()).unwrap(), wanted, "{json}");
            assert_eq!(text(json).as_deref(), Some(wanted));
            // What has none left is left alone.
            let once = paired(json);
            assert!(matches!(paired(&once), Cow::Borrowed(_)), "{json}");
        }
        let nested: Value = from_str(r#"{"a\ud83d":[{"b":"\udc4d"}]}"#).unwrap();
        assert_eq!(nested, serde_json::json!({"a\u{FFFD}": [{"b": "\u{FFFD}"}]}));
        for wrong in [r#"{"a":"\ud83d"#, r#""\ud83""#, r#""\u+d83""#, r#"{"a":"\ud83d",}"#] {
            assert!(from_str::<Value>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scalars_are_read_as_texts() {
        for (json, wanted) in [
            ("\"a\\u00e9\"", Some("a\u{e9}")),
            ("123456789012345678901234567890", Some("123456789012345678901234567890")),
            (" 1.50 ", Some("1.50")),
            ("true", Some("true")),
            ("null", None),
            ("{}", None),
            ("[1]", None),
            ("", None),
        ] {
            assert_eq!(text(json).as_deref(), wanted, "{json}");
        }
    }

    #[test]
    fn keys_are_read_as_texts_are() {
        let key = |json| serde_json::from_str::<Key<'_>>(json).unwrap().0;
        assert!(matches!(key(r#""plain é""#), Cow::Borrowed("plain é")));
        assert_eq!(key(r#""a\n\u00e9""#), "a\né");
        assert_eq!(key(r#""\ud83dx\udc4d""#), "\u{FFFD}x\u{FFFD}");
    }

    #[test]
    fn a_fault_names_place_and_what_stands_there() {
        for (json, words) in [
            (r#"{"a":NaN}"#, r#"expected value at line 1 column 6, found "NaN""#),
            ("{\n \"a\": -Infinity}", r#"found "-Infinity""#),
            (r#"{"a":1,}"#, r#"line 1 column 8, found "}""#),
            (r#"{'a':1}"#, r#"key must be a string at line 1 column 2, found "'""#),
            (r#"{"a":1} x"#, r#"trailing characters at line 1 column 9, found "x""#),
            (r#"{"a":nul}"#, r#"found "nul""#),
            (r#"{"a":"#, "EOF while parsing a value at line 1 column 5"),
            ("", "EOF while parsing a value at line 1 column 0"),
        ] {
            let error = serde_json::from_str::<Value>(json).unwrap_err();
            let said = fault(json.as_bytes(), &error);
            assert!(said.contains(words), "{json}: {said}");
        }
    }
}
