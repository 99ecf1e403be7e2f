//! How pointers are followed: all at once, in one pass, and no deeper than they lead.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize as _, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::pointer::{Document, Pointer, Token};
use pontoon_sdk::{Object, Raw};

/// JSON whose top level was read once, for all that looks into it.
#[derive(Debug)]
pub struct Json<'a> {
    /// The text.
    pub text: &'a str,
    /// The fields, if it is an object.
    object: Option<Object<'a>>,
}

impl<'a> Json<'a> {
    /// Reads the top level of a text that is JSON.
    pub fn new(text: &'a str) -> Self {
        Self { text, object: serde_json::from_str(text).ok() }
    }

    /// An object that was read from this text.
    pub fn object(text: &'a str, object: Object<'a>) -> Self {
        Self { text, object: Some(object) }
    }
}

/// A payload to follow pointers into.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'j, 'a> {
    /// One JSON value.
    Json(&'j Json<'a>),
    /// A list, of which every element stands by itself.
    List(&'a [Raw]),
}

/// The JSON text of what each pointer points to, where there is something, in one pass.
pub fn find<'a, D, const N: usize>(
    payload: Payload<'_, 'a>,
    pointers: [Option<&Pointer<D>>; N],
) -> [Option<&'a str>; N] {
    let mut found = [None; N];
    let trails = pointers.iter().enumerate().filter_map(|(slot, pointer)| {
        let way = (*pointer)?.way.as_slice();
        Some(Trail { slot, way })
    });
    match payload {
        Payload::Json(Json { text, object: Some(object) }) => {
            let mut deeper = Vec::new();
            for trail in trails {
                let here = match trail.way {
                    [] => Some(*text),
                    [token] => object.get(&token.key).map(RawValue::get),
                    _ => {
                        deeper.push(trail);
                        None
                    }
                };
                if let Some(slot) = found.get_mut(trail.slot) {
                    *slot = here;
                }
            }
            fields(object, &deeper, &mut found);
        }
        Payload::Json(Json { text, object: None }) => follow(text, &trails.collect::<Vec<_>>(), &mut found),
        Payload::List(elements) => {
            let trails: Vec<_> = trails.collect();
            for (place, element) in elements.iter().enumerate() {
                let within = enter(&trails, |token| token.place == Some(place));
                if !within.is_empty()
                    && let Ok(json) = std::str::from_utf8(element.as_bytes())
                {
                    follow(json, &within, &mut found);
                }
            }
        }
    }
    found
}

impl<D: Document> Pointer<D> {
    /// The JSON text of what stands there, if something does.
    pub fn find<'a>(&self, json: &Json<'a>) -> Option<&'a str> {
        let [found] = find(Payload::Json(json), [Some(self)]);
        found
    }
}

/// What is left of a pointer.
#[derive(Clone, Copy)]
struct Trail<'p> {
    /// Whose it is.
    slot: usize,
    way: &'p [Token],
}

/// What is left of those whose next step is the chosen one.
fn enter<'p>(trails: &[Trail<'p>], chosen: impl Fn(&Token) -> bool) -> Vec<Trail<'p>> {
    let further = trails.iter().filter_map(|trail| {
        let (first, way) = trail.way.split_first()?;
        chosen(first).then_some(Trail { slot: trail.slot, way })
    });
    further.collect()
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

/// Follows pointers into the fields of an object; each is read once.
fn fields<'a>(object: &Object<'a>, trails: &[Trail<'_>], found: &mut [Option<&'a str>]) {
    let mut keys: Vec<_> = trails.iter().filter_map(|trail| Some(&trail.way.first()?.key)).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        if let Some(inner) = object.get(key) {
            follow(inner.get(), &enter(trails, |token| token.key == *key), found);
        }
    }
}

/// The fields or elements of one value, each looked at once.
struct Level<'p, 'f, 'a> {
    trails: &'p [Trail<'p>],
    found: &'f mut [Option<&'a str>],
}

impl<'p, 'a> Level<'p, '_, 'a> {
    fn enter(&mut self, inner: &'a RawValue, chosen: impl Fn(&Token) -> bool) {
        follow(inner.get(), &enter(self.trails, chosen), self.found);
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

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let object = Object::deserialize(MapAccessDeserializer::new(map))?;
        fields(&object, self.trails, self.found);
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

#[cfg(test)]
mod tests {
    use super::super::tests::{Arguments, Frames};
    use super::*;

    fn pointer(text: &str) -> Pointer<Frames> {
        text.parse().unwrap()
    }

    #[test]
    fn pointers_lead_into_a_value() {
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
            assert_eq!(pointer(text).find(&Json::new(frame)), wanted, "{text}");
            assert_eq!(pointer(text).as_str(), text);
        }
        assert_eq!(pointer("/1/0").find(&Json::new(" [1, [2 ]]")), Some("2"));
    }

    #[test]
    fn several_are_followed_at_once_and_none_disturbs_another() {
        let frame = r#"{"a":{"b":1},"n":1e999,"z":"last"}"#;
        let (whole, part, lost, last) = (pointer("/a"), pointer("/a/b"), pointer("/n/x"), pointer("/z"));
        let found = find(
            Payload::Json(&Json::new(frame)),
            [Some(&whole), None, Some(&part), Some(&lost), Some(&last)],
        );
        assert_eq!(found, [Some("{\"b\":1}"), None, Some("1"), None, Some("\"last\"")]);
    }

    #[test]
    fn deep_frames_are_followed_no_deeper_than_the_pointer() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(pointer("/0/0").find(&Json::new(&deep)).map(str::len), Some(deep.len() - 4));
        assert_eq!(pointer(&"/0".repeat(32)).find(&Json::new(&deep)).map(str::len), Some(deep.len() - 64));
        assert_eq!(pointer("/1").find(&Json::new(&deep)), None);
    }

    #[test]
    fn pointers_lead_into_the_elements_of_a_list() {
        let list: Vec<_> = [r#"{"a":{"b":1},"n":1e999}"#, "\"second\"", "[[5]]"]
            .map(|json| Raw::from(RawValue::from_string(json.to_owned()).unwrap()))
            .into();
        for (text, wanted) in [
            ("/0/a/b", Some("1")),
            ("/0/a", Some("{\"b\":1}")),
            ("/1", Some("\"second\"")),
            ("/2/0/0", Some("5")),
            ("/2/00/0", None),
            ("/0/n/x", None),
            ("/1/a", None),
            ("/3", None),
            ("/18446744073709551615", None),
        ] {
            let pointer: Pointer<Arguments> = text.parse().unwrap();
            assert_eq!(find(Payload::List(&list), [Some(&pointer), None]), [wanted, None], "{text}");
        }
        let whole: Pointer<Frames> = "".parse().unwrap();
        assert_eq!(find(Payload::List(&list), [Some(&whole)]), [None]);
    }
}
