//! What travels over the socket: `{resource, action, payload}` one way, `{uid, action, data}` and errors the other.

use std::borrow::Cow;

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Bytes, Error, Raw, Result};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The longest text without JSON in it that passes for a keepalive, in bytes.
const MAX_KEEPALIVE: usize = 128;

/// The longest message of an error that a caller is told, in characters.
const MAX_WORDS: usize = 1000;

/// A call of a resource.
#[derive(Serialize)]
struct Call<'a> {
    resource: &'a str,
    action: &'a str,
    payload: &'a RawValue,
}

/// Writes a call; the payload goes untouched.
pub(crate) fn call(resource: &str, action: &str, payload: &RawValue) -> Result<Frame> {
    serde_json::to_string(&Call { resource, action, payload })
        .map(Frame::text)
        .map_err(|error| Error::internal(format!("the call cannot be written: {error}")))
}

/// What the service said.
pub(crate) enum Said<'a> {
    /// A text that only keeps the connection alive.
    Keepalive,
    /// Data of an action: an answer, or a broadcast.
    Data { action: Cow<'a, str>, uid: Option<String>, data: &'a RawValue },
    /// No data, or an error.
    Fault(Fault<'a>),
}

/// A call that went wrong.
pub(crate) struct Fault<'a> {
    pub(crate) action: Option<Cow<'a, str>>,
    pub(crate) uid: Option<String>,
    /// Whether the service says that there was an error. If not, nothing is known but that there is no data.
    pub(crate) certain: bool,
    pub(crate) error: ServiceError,
}

/// Any frame of the service, borrowed.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    action: Option<Name<'a>>,
    #[serde(borrow)]
    uid: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

/// A text within a frame. Serde borrows a `Cow` only where it stands alone, not within an `Option`.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Tells `null`, which is data, from nothing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a frame, in one pass over its bytes if it is of a known shape.
pub(crate) fn read(frame: &Frame) -> Result<(Said<'_>, Raw)> {
    let Frame::Text(text) = frame else {
        return Err(Error::protocol("the frame is binary; Sub0 speaks text"));
    };
    // Serde would read an array into a struct, field by field.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return other(text);
    }
    let (wire, raw) = frame.json::<Wire<'_>>()?;
    Ok((wire.said()?, raw))
}

fn other(text: &Bytes) -> Result<(Said<'static>, Raw)> {
    if serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        return Err(Error::protocol("the frame is JSON, but no object"));
    }
    // A broken frame is not to vanish among keepalives.
    if text.len() > MAX_KEEPALIVE || text.trim_ascii_start().starts_with(b"[") {
        return Err(Error::protocol("the frame is neither JSON nor a short keepalive"));
    }
    Ok((Said::Keepalive, Raw::null()))
}

impl<'a> Wire<'a> {
    fn said(self) -> Result<Said<'a>> {
        let error = self.error.map(value).filter(|error| !is_nothing(error));
        let refused = error.is_some() || self.status.is_some_and(is_refusal);
        let uid = self.uid.and_then(text);
        let action = self.action.map(|Name(name)| name);
        let mut data = self.data;
        if self.message.is_some() && data.is_some_and(|data| data.get() == "null") {
            data = None;
        }
        match (action, data) {
            (Some(action), Some(data)) if !refused => Ok(Said::Data { action, uid, data }),
            (None, Some(_)) if !refused => Err(Error::protocol("the frame has data but names no action")),
            (action, _) => {
                let certain = refused || (self.message.is_some() && self.status.is_none());
                if !certain && action.is_none() {
                    return Err(Error::protocol("the frame has no action, no data and no error"));
                }
                let error = describe(error, self.message, self.code.or(self.status));
                Ok(Said::Fault(Fault { action, uid, certain, error }))
            }
        }
    }
}

impl Fault<'_> {
    /// What the caller is told, in the service's own words where it gave any.
    pub(crate) fn refusal(&self) -> Error {
        let words = match (&self.error.message, &self.error.code) {
            (Some(message), Some(code)) => format!("{message} ({code})"),
            (Some(message), None) => message.clone(),
            (None, Some(code)) => format!("the service answered with {code} and no data"),
            (None, None) => "the service answered without data".to_owned(),
        };
        Error::refused(words.chars().take(MAX_WORDS).collect::<String>())
    }
}

/// Gathers what the service says of an error; it documents no shape, and its HTTP side has several.
fn describe(error: Option<Value>, message: Option<&RawValue>, code: Option<&RawValue>) -> ServiceError {
    let mut described =
        ServiceError { code: code.and_then(text), message: message.and_then(text), details: None };
    match error {
        Some(Value::String(words)) => match &described.message {
            // The short word and the sentence: `"error":"Unauthorized","message":"The token has expired"`.
            Some(message) if *message != words => described.message = Some(format!("{words}: {message}")),
            _ => described.message = Some(words),
        },
        Some(Value::Bool(_)) | None => {}
        Some(object) => {
            let field = |name: &str| object.get(name).filter(|value| !is_nothing(value)).map(plain);
            described.message = field("message").or(described.message);
            described.code = field("code").or(described.code);
            described.details = serde_json::value::to_raw_value(&object).ok();
        }
    }
    described
}

fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false)) || value.as_str() == Some("")
}

/// Whether a status speaks of an error: from 400, or a word for failure.
fn is_refusal(status: &RawValue) -> bool {
    let Some(status) = text(status) else { return false };
    match status.parse::<f64>() {
        Ok(number) => number >= 400.0,
        Err(_) => ["error", "fail", "failed", "failure"].iter().any(|word| status.eq_ignore_ascii_case(word)),
    }
}

/// A string or a number as text; nothing else has one.
fn text(raw: &RawValue) -> Option<String> {
    match value(raw) {
        Value::String(text) => Some(text),
        // As the service wrote it, so that a long number keeps its digits.
        Value::Number(_) => Some(raw.get().to_owned()),
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A part of a frame that was checked already; only numbers out of range fail, and those say nothing here.
fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}
