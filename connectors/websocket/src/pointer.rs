//! JSON pointers (RFC 6901) into a frame, how they are followed, and how a value is put where one points.

mod put;

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub(crate) use put::put;

/// How many steps a pointer may have. Following one takes a look at the value for each of them.
const MAX_STEPS: usize = 32;

/// Where a value stands in a frame.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    text: String,
    way: Vec<Token>,
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Token {
    /// The key, if the value is an object.
    key: String,
    /// The place, if it is an array and the key can name one.
    place: Option<usize>,
}

impl Pointer {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it points to the whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.way.is_empty()
    }

    /// The JSON text of what stands there.
    pub(crate) fn find<'a>(&self, json: &'a str) -> Option<&'a str> {
        let [found] = find(json, [Some(self)]);
        found
    }
}

impl std::str::FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{}\" is no JSON pointer; write \"/type\" for the field type of the frame, \"/data/0/text\" for the \
                 field text of the first element of its field data",
                text.escape_debug()
            )
        };
        let way = match text.split_once('/') {
            None if text.is_empty() => Vec::new(),
            Some(("", steps)) => steps.split('/').map(token).collect::<Option<Vec<_>>>().ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        if way.len() > MAX_STEPS {
            return Err(format!("the pointer has {} steps; at most {MAX_STEPS} are followed", way.len()));
        }
        Ok(Self { text: text.to_owned(), way })
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
            "description": "A JSON pointer into the frame, such as \"/data/text\"",
            "type": "string",
            "pattern": "^(/.*)?$"
        })
    }
}

/// The JSON text of what each pointer points to, where there is something, in one pass.
pub(crate) fn find<'a, const N: usize>(
    json: &'a str,
    pointers: [Option<&Pointer>; N],
) -> [Option<&'a str>; N] {
    let mut found = [None; N];
    let wanted = pointers.iter().enumerate();
    let trails: Vec<_> =
        wanted.filter_map(|(slot, pointer)| Some(Trail { slot, way: &(*pointer)?.way })).collect();
    if !trails.is_empty() {
        follow(json, &trails, &mut found);
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

    pub(super) fn pointer(text: &str) -> Pointer {
        text.parse().unwrap()
    }

    #[test]
    fn pointers_lead_into_a_frame() {
        let frame = r#"{"a":{"b":[10,{"c":"deep"}],"":"empty"},"x/y":1,"m~n":2,"\u0061b":3,"7":4,"l":[[5]]}"#;
        for (text, wanted) in [
            ("", Some(frame)),
            ("/a/b/0", Some("10")),
            ("/a/b/1/c", Some("\"deep\"")),
            ("/a/b", Some(r#"[10,{"c":"deep"}]"#)),
            ("/a/", Some("\"empty\"")),
            ("/x~1y", Some("1")),
            ("/m~0n", Some("2")),
            ("/ab", Some("3")),
            ("/7", Some("4")),
            ("/l/0/0", Some("5")),
            ("/l/00/0", None),
            ("/l/-", None),
            ("/l/0/1", None),
            ("/a/b/0/c", None),
            ("/3", None),
            ("/l/18446744073709551616", None),
        ] {
            assert_eq!(pointer(text).find(frame), wanted, "{text}");
            assert_eq!(pointer(text).as_str(), text);
        }
        assert_eq!(pointer("/1/0").find(" [1, [2 ]]"), Some("2"));
    }

    #[test]
    fn several_are_followed_at_once_and_none_disturbs_another() {
        let frame = r#"{"a":{"b":1},"n":1e999,"z":"last"}"#;
        let (whole, part, lost, last) = (pointer("/a"), pointer("/a/b"), pointer("/n/x"), pointer("/z"));
        let found = find(frame, [Some(&whole), None, Some(&part), Some(&lost), Some(&last)]);
        assert_eq!(found, [Some("{\"b\":1}"), None, Some("1"), None, Some("\"last\"")]);
    }

    #[test]
    fn what_is_no_pointer_is_refused_with_an_example() {
        for wrong in ["text", "0", " /a", "/a~", "/a~2", "a/b"] {
            let error = wrong.parse::<Pointer>().unwrap_err();
            assert!(error.contains("\"/type\""), "{wrong}: {error}");
        }
        assert!("/a".repeat(32).parse::<Pointer>().is_ok());
        assert!("/a".repeat(33).parse::<Pointer>().unwrap_err().contains("at most 32"));
    }

    #[test]
    fn deep_frames_are_followed_no_deeper_than_the_pointer() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(pointer("/0/0").find(&deep).map(str::len), Some(deep.len() - 4));
        assert_eq!(pointer(&"/0".repeat(32)).find(&deep).map(str::len), Some(deep.len() - 64));
        assert_eq!(pointer("/1").find(&deep), None);
    }
}
