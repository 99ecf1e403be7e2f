//! JSON pointers (RFC 6901) into the list of an event's arguments, and how they are followed.

use std::borrow::Cow;
use std::fmt;

use pontoon_sdk::Raw;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Where a value stands: in which argument, and where within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The argument's place, from 0.
    argument: usize,
    way: Vec<Token>,
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// The key, if the value is an object.
    key: String,
    /// The place, if it is an array and the key can name one.
    place: Option<usize>,
}

impl std::str::FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{}\" is no JSON pointer into the list of arguments; write \"/0\" for the first argument, \
                 \"/0/text\" for its field text",
                text.escape_debug()
            )
        };
        let mut tokens = text.strip_prefix('/').ok_or_else(wrong)?.split('/').map(token);
        let argument = tokens.next().flatten().and_then(|token| token.place).ok_or_else(wrong)?;
        let way = tokens.collect::<Option<_>>().ok_or_else(wrong)?;
        Ok(Self { argument, way })
    }
}

/// Takes the escapes out of a token; `None` if one is broken.
fn token(text: &str) -> Option<Token> {
    let mut pieces = text.split('~');
    let mut key = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = match piece.as_bytes().first()? {
            b'0' => ('~', piece.strip_prefix('0')),
            b'1' => ('/', piece.strip_prefix('1')),
            _ => return None,
        };
        key.push(escaped);
        key.push_str(rest?);
    }
    // `007` is a key, and the place of nothing.
    let digits = key.bytes().all(|byte| byte.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
    let place = if digits { key.parse().ok() } else { None };
    Some(Token { key, place })
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Pointer {
    fn schema_name() -> Cow<'static, str> {
        "Pointer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A JSON pointer into the list of arguments, such as \"/0/text\"",
            "type": "string",
            "pattern": "^/(0|[1-9][0-9]*)(/.*)?$"
        })
    }
}

/// The JSON text of what each pointer points to, where there is something.
pub(crate) fn find<'a, const N: usize>(
    args: &'a [Raw],
    pointers: [Option<&Pointer>; N],
) -> [Option<&'a str>; N] {
    let mut found = [None; N];
    for (place, argument) in args.iter().enumerate() {
        let wanted = pointers.iter().enumerate().filter_map(|(slot, pointer)| {
            let pointer = pointer.filter(|pointer| pointer.argument == place)?;
            Some(Trail { slot, way: &pointer.way })
        });
        let trails: Vec<_> = wanted.collect();
        if !trails.is_empty()
            && let Ok(json) = std::str::from_utf8(argument.as_bytes())
        {
            follow(json, &trails, &mut found);
        }
    }
    found
}

/// What is left of a pointer.
struct Trail<'p> {
    /// Whose it is.
    slot: usize,
    way: &'p [Token],
}

/// Follows pointers into a value. One that leads nowhere finds nothing.
fn follow<'a>(json: &'a str, trails: &[Trail<'_>], found: &mut [Option<&'a str>]) {
    for trail in trails.iter().filter(|trail| trail.way.is_empty()) {
        if let Some(slot) = found.get_mut(trail.slot) {
            *slot = Some(json);
        }
    }
    if trails.iter().any(|trail| !trail.way.is_empty()) {
        // Only what no pointer can lead through fails here: a number that is out of range.
        let _ = serde_json::Deserializer::from_str(json).deserialize_any(Level { trails, found });
    }
}

/// The fields or elements of one value, each looked at once.
struct Level<'p, 'f, 'a> {
    trails: &'p [Trail<'p>],
    found: &'f mut [Option<&'a str>],
}

impl<'p, 'a> Level<'p, '_, 'a> {
    fn enter(&mut self, inner: &'a RawValue, chosen: impl Fn(&Token) -> bool) {
        let further = self.trails.iter().filter_map(|trail| {
            let (first, way) = trail.way.split_first()?;
            chosen(first).then_some(Trail { slot: trail.slot, way })
        });
        follow(inner.get(), &further.collect::<Vec<_>>(), self.found);
    }

    fn wants(&self, chosen: impl Fn(&Token) -> bool) -> bool {
        self.trails.iter().any(|trail| trail.way.first().is_some_and(&chosen))
    }
}

impl<'de> Visitor<'de> for Level<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let chosen = |token: &Token| token.key == key;
            if self.wants(chosen) {
                self.enter(map.next_value()?, chosen);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        for place in 0.. {
            let chosen = |token: &Token| token.place == Some(place);
            if self.wants(chosen) {
                let Some(inner) = seq.next_element()? else { break };
                self.enter(inner, chosen);
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// A key. Serde borrows a `Cow` only where it is told to.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn raws(args: &[&str]) -> Vec<Raw> {
        args.iter().map(|json| Raw::from(RawValue::from_string((*json).to_owned()).unwrap())).collect()
    }

    #[test]
    fn pointers_lead_to_arguments_and_into_them() {
        let args = raws(&[
            r#"{"a":{"b":[10,{"c":"deep"}],"":"empty"},"x/y":1,"m~n":2,"\u0061b":3,"7":4}"#,
            "\"second\"",
            "[[5]]",
        ]);
        for (pointer, wanted) in [
            ("/0/a/b/0", Some("10")),
            ("/0/a/b/1/c", Some("\"deep\"")),
            ("/0/a/b", Some(r#"[10,{"c":"deep"}]"#)),
            ("/0/a/", Some("\"empty\"")),
            ("/0/x~1y", Some("1")),
            ("/0/m~0n", Some("2")),
            ("/0/ab", Some("3")),
            ("/0/7", Some("4")),
            ("/1", Some("\"second\"")),
            ("/2/0/0", Some("5")),
            ("/1/a", None),
            ("/2/00/0", None),
            ("/2/-", None),
            ("/2/0/1", None),
            ("/0/a/b/0/c", None),
            ("/3", None),
            ("/18446744073709551615", None),
        ] {
            let pointer_read: Pointer = pointer.parse().unwrap();
            assert_eq!(find(&args, [Some(&pointer_read)]), [wanted], "{pointer}");
        }
    }

    #[test]
    fn several_are_followed_at_once_and_none_disturbs_another() {
        let args = raws(&[r#"{"a":{"b":1},"n":1e999,"z":"last"}"#]);
        let read = |text: &str| text.parse::<Pointer>().unwrap();
        let (whole, part, lost, last) = (read("/0/a"), read("/0/a/b"), read("/0/n/x"), read("/0/z"));
        let found = find(&args, [Some(&whole), None, Some(&part), Some(&lost), Some(&last)]);
        assert_eq!(found, [Some("{\"b\":1}"), None, Some("1"), None, Some("\"last\"")]);
    }

    #[test]
    fn what_is_no_pointer_is_refused_with_an_example() {
        for wrong in
            ["", "text", "/", "/text", "/-", "/00", "/+1", "/0/a~", "/0/a~2", "/18446744073709551616"]
        {
            let error = wrong.parse::<Pointer>().unwrap_err();
            assert!(error.contains("\"/0/text\""), "{wrong}: {error}");
        }
    }
}
