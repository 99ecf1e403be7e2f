//! What a frame holds, and the pointers that lead into it.

use std::borrow::Cow;

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Bytes, Raw};

use crate::mapping::{self, Document, Json};

/// What pointers lead into here: one frame.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frames {}

impl Document for Frames {
    const MAPPED: &'static str = "frames";
    const INTO: &'static str = "the frame";
    const EXAMPLE: &'static str = "/data/text";
    const WRITE: &'static str = "write \"/type\" for the field type of the frame, \"/data/0/text\" for the field text of \
                                 the first element of its field data";
}

/// Where a value stands in a frame.
pub type Pointer = mapping::Pointer<Frames>;
/// What a frame of the service becomes.
pub type Mapping = mapping::Mapping<Frames>;

/// What a frame holds.
pub(crate) enum Content<'a> {
    /// An object or an array, in a text frame or in a binary one.
    Json(Json<'a>),
    /// Any other text.
    Text(&'a str),
    /// Binary data.
    Binary(&'a Bytes),
}

impl<'a> Content<'a> {
    /// Reads a frame, and keeps its payload for an event. Only an object or an array counts as JSON: a bare word or
    /// number is more likely text.
    pub(crate) fn of(frame: &'a Frame) -> (Self, Raw) {
        let bytes = frame.bytes();
        if let Ok((text, raw)) = Raw::json_text(bytes)
            && let Ok(object) = serde_json::from_str(text)
        {
            return (Self::Json(Json::object(text, object)), raw);
        }
        match (Raw::document(bytes), frame) {
            (Ok((json, raw)), _) => (Self::Json(Json::new(json)), raw),
            (Err(_), Frame::Binary(_)) => (Self::Binary(bytes), Raw::of_binary(bytes)),
            // The transport has checked that a text is UTF-8.
            (Err(_), Frame::Text(_)) => {
                (Self::Text(std::str::from_utf8(bytes).unwrap_or_default()), frame.raw())
            }
        }
    }

    /// The JSON document that pointers lead into: of a text the text itself as a string, of binary data
    /// `{"base64": …}`.
    pub(crate) fn document(&self) -> Cow<'a, str> {
        match self {
            Self::Json(json) => Cow::Borrowed(json.text),
            Self::Text(text) => Cow::Owned(serde_json::Value::from(*text).to_string()),
            Self::Binary(bytes) => {
                Cow::Owned(String::from_utf8_lossy(Raw::of_binary(bytes).as_bytes()).into_owned())
            }
        }
    }
}
