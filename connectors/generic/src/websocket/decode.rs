//! What the service said: JSON, text or binary, and the words in it.

use std::borrow::Cow;

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::event::ServiceError;
use pontoon_sdk::json::text as text_of;
use pontoon_sdk::object::cut;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Bytes, Event, EventType, Raw};

use crate::mapping::{self, Document};

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

/// Where services write the words of an error, and its code.
const WORDS: [&str; 6] = ["message", "msg", "description", "reason", "detail", "error"];
/// See [`WORDS`].
const CODES: [&str; 5] = ["code", "status_code", "errno", "status", "type"];

/// One frame of the service.
pub(crate) enum Said<'a> {
    /// An object or an array, in a text frame or in a binary one.
    Json(&'a str),
    /// Any other text.
    Text(&'a str),
    /// Binary data.
    Binary(&'a Bytes),
}

impl<'a> Said<'a> {
    /// Looks at a frame, and keeps its payload for an event. Only an object or an array counts as JSON: a bare word or
    /// number is more likely text.
    pub(crate) fn of(frame: &'a Frame) -> (Self, Raw) {
        let bytes = frame.bytes();
        match (Raw::document(bytes), frame) {
            (Ok((json, raw)), _) => (Self::Json(json), raw),
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
            Self::Json(json) => Cow::Borrowed(json),
            Self::Text(text) => Cow::Owned(serde_json::Value::from(*text).to_string()),
            Self::Binary(bytes) => {
                Cow::Owned(String::from_utf8_lossy(Raw::of_binary(bytes).as_bytes()).into_owned())
            }
        }
    }
}

/// Whether a value says that there is no error: `null`, `false`, `0` or an empty string.
pub(crate) fn is_no_error(json: &str) -> bool {
    matches!(json.trim_ascii(), "null" | "false" | "0" | "\"\"")
}

/// The words and the code of an error: of a text itself, of an object what stands where services write them, else the
/// whole as JSON.
pub(crate) struct Words {
    pub(crate) message: Option<String>,
    pub(crate) code: Option<String>,
}

impl Words {
    /// Looks for them in a value, and in its field `error` if that is an object.
    pub(crate) fn of(json: &str) -> Self {
        let nested: Option<Pointer> = "/error".parse().ok();
        let nested = nested.and_then(|error| error.find(json)).filter(|error| error.starts_with('{'));
        match (text_of(json), Self::within(json), nested.map(Self::within)) {
            (Some(text), ..) => Self { message: Some(cut(&text)), code: None },
            (_, Self { message: None, .. }, Some(error @ Self { message: Some(_), .. })) => error,
            (_, Self { message: None, code }, _) => Self { message: Some(cut(json)), code },
            (_, words, _) => words,
        }
    }

    /// What an object has of them.
    fn within(json: &str) -> Self {
        let first = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| {
                let pointer: Pointer = format!("/{key}").parse().ok()?;
                pointer.find(json).filter(|found| !is_no_error(found) && *found != "true").and_then(text_of)
            });
            found.map(|text| cut(&text))
        };
        Self { message: first(&WORDS), code: first(&CODES) }
    }

    /// One sentence.
    pub(crate) fn sentence(&self) -> String {
        match (&self.message, &self.code) {
            (Some(message), Some(code)) if !message.contains(code.as_str()) => format!("{message} ({code})"),
            (Some(message), _) => message.clone(),
            (None, Some(code)) => code.clone(),
            (None, None) => "the service refused without a word".to_owned(),
        }
    }

    /// What the service's refusal of our credentials becomes where no entry of `events` speaks of it.
    pub(crate) fn refusal(self, raw: Raw) -> Event {
        let mut event = Event::new(EventType::ErrorRaised, raw);
        let Self { message, code } = self;
        event.fields.error = Some(ServiceError { code, message, details: None });
        event
    }
}
