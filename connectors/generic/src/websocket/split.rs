//! Several messages in one frame, taken apart; and JSON within a string of a message, unfolded.

use std::borrow::Cow;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Bytes, Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::mapping::Json;
use crate::websocket::content::Pointer;

/// How many messages one frame may have.
const MAX_MESSAGES: usize = 4_096;

/// How a frame is taken apart that has several messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// It is a JSON array of them.
    Array,
    /// Each is a line.
    Lines,
    /// One JSON value stands behind the other.
    Concatenated,
    /// This character ends each; what is sent ends with it, too.
    Separator(char),
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut chars = text.chars();
        match (text.as_str(), chars.next(), chars.next()) {
            ("array", ..) => Ok(Self::Array),
            ("lines", ..) => Ok(Self::Lines),
            ("concatenated", ..) => Ok(Self::Concatenated),
            (_, Some(separator), None) if separator.is_ascii_control() => Ok(Self::Separator(separator)),
            _ => Err(serde::de::Error::custom(format!(
                "\"{}\" does not say how a frame is taken apart; write \"array\", \"lines\", \"concatenated\", or one control \
                 character such as \"\\u001e\"",
                text.escape_debug()
            ))),
        }
    }
}

impl JsonSchema for Split {
    fn schema_name() -> Cow<'static, str> {
        "Split".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "\"array\", \"lines\", \"concatenated\", or one control character",
            "anyOf": [
                { "enum": ["array", "lines", "concatenated"] },
                { "type": "string", "pattern": "^[\\u0000-\\u001f\\u007f]$" }
            ]
        })
    }
}

impl Split {
    /// The messages of a frame, which share its memory. One that has not the form is a message itself.
    ///
    /// # Errors
    /// `Protocol` if it has too many.
    pub(crate) fn messages(self, frame: &Frame) -> Result<Vec<Frame>> {
        let bytes = frame.bytes();
        let Ok(text) = std::str::from_utf8(bytes) else { return Ok(vec![frame.clone()]) };
        let pieces: Vec<&str> = match self {
            Self::Array => match serde_json::from_str::<Vec<&RawValue>>(text) {
                Ok(elements) => elements.into_iter().map(RawValue::get).collect(),
                Err(_) => vec![text],
            },
            Self::Lines => text.lines().collect(),
            Self::Separator(separator) => text.split(separator).collect(),
            Self::Concatenated => {
                let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
                let values: std::result::Result<Vec<_>, _> = values.take(MAX_MESSAGES + 1).collect();
                values.map_or_else(|_| vec![text], |values| values.into_iter().map(RawValue::get).collect())
            }
        };
        let pieces: Vec<_> = pieces.into_iter().filter(|piece| !piece.trim_ascii().is_empty()).collect();
        if pieces.len() > MAX_MESSAGES {
            return Err(Error::protocol(format!(
                "the frame has more than {MAX_MESSAGES} messages (split), so it is published as a whole"
            )));
        }
        Ok(pieces.into_iter().map(|piece| Frame::Text(Bytes::slice_ref(bytes, piece.as_bytes()))).collect())
    }

    /// A frame as it is sent: with the separator behind it.
    pub(crate) fn ended(self, frame: Frame) -> Frame {
        match (self, frame) {
            (Self::Separator(separator), Frame::Text(bytes)) if !bytes.ends_with(&[separator as u8]) => {
                let mut ended = bytes.to_vec();
                ended.push(separator as u8);
                Frame::Text(ended.into())
            }
            (_, frame) => frame,
        }
    }
}

/// A message in which the strings at these places are replaced by the JSON that they hold. `None` if none of them does.
pub(crate) fn unfolded(json: &str, places: &[Pointer]) -> Option<String> {
    let mut unfolded: Option<String> = None;
    for place in places {
        let text = unfolded.as_deref().unwrap_or(json);
        let Some(found) = place.find(&Json::new(text)).filter(|found| found.starts_with('"')) else {
            continue;
        };
        let Some(inner) = text_of(found).filter(|inner| serde_json::from_str::<&RawValue>(inner).is_ok())
        else {
            continue;
        };
        // What was found is a part of the text.
        let at = (found.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        if let (Some(before), Some(behind)) = (text.get(..at), text.get(at + found.len()..)) {
            unfolded = Some([before, &inner, behind].concat());
        }
    }
    unfolded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart_and_what_is_not_of_the_form_is_whole() {
        let rs = "\u{1e}";
        for (split, frame, wanted) in [
            ("array", r#"[{"a":1}, [2], "x"]"#, vec![r#"{"a":1}"#, "[2]", "\"x\""]),
            ("array", r#"{"a":[1]}"#, vec![r#"{"a":[1]}"#]),
            ("array", "[broken", vec!["[broken"]),
            ("array", "[]", vec![]),
            ("lines", "{}\r\n\n[]\n", vec!["{}", "[]"]),
            ("concatenated", "{\"a\":1}[2] 3", vec!["{\"a\":1}", "[2]", "3"]),
            ("concatenated", "{}{broken", vec!["{}{broken"]),
            (rs, "{}\u{1e}{\"type\":6}\u{1e}", vec!["{}", "{\"type\":6}"]),
        ] {
            let split: Split = serde_json::from_value(split.into()).unwrap();
            let frames = split.messages(&Frame::text(frame)).unwrap();
            let texts: Vec<_> =
                frames.iter().map(|frame| std::str::from_utf8(frame.bytes()).unwrap()).collect();
            assert_eq!(texts, wanted, "{split:?} {frame}");
        }
        for wrong in ["", "words", "ab", "x", "\u{e9}"] {
            assert!(serde_json::from_value::<Split>(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_frame_of_a_million_messages_is_not_taken_apart() {
        for (split, piece) in
            [(Split::Lines, "1\n"), (Split::Concatenated, "1 "), (Split::Separator('\u{1e}'), "1\u{1e}")]
        {
            assert!(split.messages(&Frame::text(piece.repeat(1_000_000))).is_err(), "{split:?}");
        }
        let array = format!("[1{}]", ",1".repeat(1_000_000));
        assert!(Split::Array.messages(&Frame::text(array)).is_err());
    }

    #[test]
    fn what_is_sent_ends_with_the_separator_once() {
        let split = Split::Separator('\u{1e}');
        for text in ["{}", "{}\u{1e}"] {
            assert_eq!(split.ended(Frame::text(text)), Frame::text("{}\u{1e}"));
        }
        assert_eq!(Split::Lines.ended(Frame::text("{}")), Frame::text("{}"));
    }

    #[test]
    fn json_within_strings_is_unfolded_and_all_else_kept() {
        let places: Vec<Pointer> = ["/data", "/data/in"].iter().map(|place| place.parse().unwrap()).collect();
        for (json, wanted) in [
            (r#"{"z":1.0,"data":"{\"a\": 1e999}"}"#, Some(r#"{"z":1.0,"data":{"a": 1e999}}"#)),
            (r#"{"data":"{\"in\":\"[1]\"}"}"#, Some(r#"{"data":{"in":[1]}}"#)),
            (r#"{"data":"no JSON"}"#, None),
            (r#"{"data":{"a":1}}"#, None),
            (r#"{"data":"\ud800"}"#, None),
            ("[]", None),
        ] {
            assert_eq!(unfolded(json, &places).as_deref(), wanted, "{json}");
        }
    }
}
