//! Several events of one payload: one for each element of a list.

use pontoon_sdk::error::{Error, Result};
use pontoon_sdk::event::{Event, Raw};
use pontoon_sdk::streams::Streams;
use serde_json::value::RawValue;

use super::entry::Mapping;
use super::find::{Json, Payload, find};
use super::pointer::{Document, Pointer};

/// How many elements of a list become events.
const MAX_ELEMENTS: usize = 4_096;
/// How many bytes what stands beside the list may have in all of its events together.
const MAX_REPEATED: usize = 8 << 20;

impl<D: Document> Mapping<D> {
    /// The events that a payload becomes: one; with `each` one for each element of the list that stands there, and the element
    /// is the payload of its event.
    ///
    /// # Errors
    /// `Protocol` if there is no list, or too much for so many events.
    pub fn events(&self, payload: Payload<'_, '_>, raw: Raw, streams: &mut Streams) -> Result<Vec<Event>> {
        let Some(each) = &self.each else { return Ok(vec![self.event(payload, raw, streams)]) };
        let [list] = find(payload, [Some(each)]);
        let elements = list.and_then(elements).ok_or_else(|| {
            Error::protocol(format!(
                "no list stands at {} (each), so it is published as a whole",
                each.as_str()
            ))
        })?;
        let inside = self.pointers().map(|(_, pointer)| pointer?.within(each));
        let outside = self.pointers().map(|(_, pointer)| pointer.filter(|it| it.within(each).is_none()));
        let outside = find(payload, outside);
        let fields = self.fields.iter().map(|(name, pointer)| match pointer.within(each) {
            Some(inside) => (name, Some(inside), None),
            None => {
                let [outside] = find(payload, [Some(pointer)]);
                (name, None, outside)
            }
        });
        let fields: Vec<_> = fields.collect();
        let repeated = outside.iter().chain(fields.iter().map(|(.., outside)| outside));
        let repeated: usize = repeated.flatten().map(|found| found.len()).sum();
        if elements.len() > MAX_ELEMENTS || repeated.saturating_mul(elements.len()) > MAX_REPEATED {
            return Err(Error::protocol(format!(
                "the list at {} (each) has {} elements, or too much stands beside it, so it is published as a whole",
                each.as_str(),
                elements.len()
            )));
        }
        let event = |element: &RawValue| {
            let json = Json::new(element.get());
            let mut found = find(Payload::Json(&json), inside.each_ref().map(Option::as_ref));
            for (found, outside) in found.iter_mut().zip(outside) {
                *found = found.or(outside);
            }
            let fields = fields.iter().map(|(name, inside, outside)| {
                (*name, inside.as_ref().and_then(|inside| inside.find(&json)).or(*outside))
            });
            self.made(found, fields, element.to_owned().into(), streams)
        };
        Ok(elements.into_iter().map(event).collect())
    }

    /// What this entry points to that is not in a payload, each with its setting; with `each` in the first element.
    pub fn lacking(&self, json: &Json<'_>) -> Vec<(&'static str, &Pointer<D>)> {
        let first = self.each.as_ref().and_then(|each| elements(each.find(json)?)?.first().copied());
        let first = first.map(|first| Json::new(first.get()));
        let is_there = |pointer: &Pointer<D>| match self.each.as_ref().and_then(|each| pointer.within(each)) {
            Some(inside) => first.as_ref().is_some_and(|first| inside.find(first).is_some()),
            None => pointer.find(json).is_some(),
        };
        let pointers = self.pointers().into_iter().chain([("each", self.each.as_ref())]);
        pointers
            .filter_map(|(field, pointer)| Some((field, pointer?)))
            .filter(|(_, it)| !is_there(it))
            .collect()
    }
}

/// The elements of a list.
fn elements(list: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(list).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{Arguments, Frames};
    use super::*;

    const ENTRY: &str = r#"{"type":"x-trade.executed","each":"/data","channel":"/topic","id":"/data/id","version":"/data/v",
        "fields":{"price":"/data/p/0","whole":"/data","all":"/n"}}"#;

    fn events(entry: &str, json: &str) -> Result<Vec<Event>> {
        let mapping: Mapping<Frames> = serde_json::from_str(entry).unwrap();
        mapping.events(Payload::Json(&Json::new(json)), Raw::null(), &mut Streams::default())
    }

    #[test]
    fn each_element_becomes_an_event_with_what_stands_beside_the_list() {
        let json = r#"{"topic":"BTC","n":7,"data":[{"id":1,"v":2,"p":[1.50]},5,{"topic":"x","data":[0]}]}"#;
        let made = events(ENTRY, json).unwrap();
        let shown = |event: &Event| {
            let raw: Value = event.raw.as_ref().unwrap().parse().unwrap();
            (serde_json::to_value(&event.fields).unwrap(), raw, event.identity.clone())
        };
        let first = json!({"id": 1, "v": 2, "p": [1.5]});
        let last = json!({"topic": "x", "data": [0]});
        assert_eq!(
            made.iter().map(shown).collect::<Vec<_>>(),
            [
                (
                    json!({"channel": "BTC", "price": 1.5, "whole": first, "all": 7}),
                    first,
                    Some("[\"BTC\",\"1\",\"2\"]".to_owned())
                ),
                (json!({"channel": "BTC", "whole": 5, "all": 7}), json!(5), None),
                (json!({"channel": "BTC", "whole": last, "all": 7}), last, None),
            ]
        );
        assert!(events(ENTRY, r#"{"data":[]}"#).unwrap().is_empty());
        // A frame that is a list.
        let made =
            events(r#"{"type":"log.entry","each":"","text":"/t"}"#, r#"[{"t":"a"},{"t":"b"}]"#).unwrap();
        assert_eq!(
            made.iter().map(|event| event.fields.text.as_deref()).collect::<Vec<_>>(),
            [Some("a"), Some("b")]
        );
        let list: Mapping<Arguments> =
            serde_json::from_str(r#"{"type":"log.entry","each":"/1","channel":"/0","text":"/1/t"}"#).unwrap();
        let arguments = [r#""c""#, r#"[{"t":"a"}]"#].map(|json| Raw::checked(json.to_owned()));
        let made = list.events(Payload::List(&arguments), Raw::null(), &mut Streams::default()).unwrap();
        assert_eq!(
            (made[0].fields.channel.as_deref(), made[0].fields.text.as_deref()),
            (Some("c"), Some("a"))
        );
    }

    #[test]
    fn what_has_no_list_or_too_much_is_an_error() {
        let many = format!(r#"{{"data":[{}0]}}"#, "0,".repeat(MAX_ELEMENTS));
        let large = format!(r#"{{"topic":"{}","data":[{}0]}}"#, "x".repeat(1 << 20), "0,".repeat(8));
        for (json, words) in [
            ("{}", "no list stands at /data"),
            (r#"{"data":{"id":1}}"#, "no list stands at /data"),
            (&many, "has 4097 elements"),
            (&large, "too much stands beside it"),
        ] {
            let error = events(ENTRY, json).unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
        assert_eq!(events(ENTRY, &many.replace("[0,", "[")).unwrap().len(), MAX_ELEMENTS);
    }

    #[test]
    fn what_is_lacking_is_looked_for_in_the_first_element() {
        let mapping: Mapping<Frames> = serde_json::from_str(ENTRY).unwrap();
        for (json, wanted) in [
            (r#"{"topic":"a","data":[{"id":1}]}"#, vec!["version"]),
            (r#"{"data":[]}"#, vec!["channel", "id", "version", "each"]),
            (r#"{"topic":"a"}"#, vec!["id", "version", "each"]),
        ] {
            let lacking = mapping.lacking(&Json::new(json)).into_iter().map(|(field, _)| field);
            assert_eq!(lacking.collect::<Vec<_>>(), wanted, "{json}");
        }
    }
}
