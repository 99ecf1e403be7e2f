//! What travels over the socket: `{resource, action, payload}` one way, `{uid, action, data}` and errors the other.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::object::cut;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Bytes, Error, Object, Raw, Result, json};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

/// The longest text without JSON in it that passes for a keepalive, in bytes.
const MAX_KEEPALIVE: usize = 128;

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
    Data { action: String, uid: Option<String>, data: &'a RawValue },
    /// No data, or an error.
    Fault(Fault),
}

/// A call that went wrong.
pub(crate) struct Fault {
    pub(crate) action: Option<String>,
    pub(crate) uid: Option<String>,
    /// Whether the service says that there was an error. If not, nothing is known but that there is no data.
    pub(crate) certain: bool,
    pub(crate) error: ServiceError,
}

/// Reads a frame, in one pass over its bytes if it is of a known shape.
pub(crate) fn read(frame: &Frame) -> Result<(Said<'_>, Raw)> {
    match frame {
        // A text that is not meant to be an object may be a keepalive.
        Frame::Text(text) if !json::trimmed(text).trim_ascii_start().starts_with(b"{") => other(text),
        _ => {
            let (object, raw) = frame.object()?;
            object.unique(&["action", "uid", "data", "error", "message", "status", "code"])?;
            Ok((said(&object)?, raw))
        }
    }
}

fn other(text: &Bytes) -> Result<(Said<'static>, Raw)> {
    let text = json::trimmed(text);
    match serde_json::from_slice::<IgnoredAny>(text) {
        Ok(_) => Err(Error::protocol("the frame is JSON, but no object")),
        // A broken frame is not to vanish among keepalives.
        Err(error) if text.len() > MAX_KEEPALIVE || text.trim_ascii_start().starts_with(b"[") => {
            let fault = json::fault(text, &error);
            Err(Error::protocol(format!("the frame is neither JSON nor a short keepalive: {fault}")))
        }
        Err(_) => Ok((Said::Keepalive, Raw::null())),
    }
}

fn said<'a>(object: &Object<'a>) -> Result<Said<'a>> {
    let [message, status] = [object.field("message"), object.field("status")];
    let error: Option<Value> = object.value("error").filter(|error| !is_nothing(error));
    let refused = error.is_some() || status.is_some_and(is_refusal);
    let uid = object.field("uid").and_then(text);
    // `null` is data, unless there is a message in its place.
    let data = object.get("data").filter(|data| message.is_none() || data.get() != "null");
    match (object.value("action"), data) {
        (Some(action), Some(data)) if !refused => Ok(Said::Data { action, uid, data }),
        (None, Some(_)) if !refused => Err(Error::protocol("the frame has data but names no action")),
        (action, _) => {
            let certain = refused || (message.is_some() && status.is_none());
            if !certain && action.is_none() {
                return Err(Error::protocol("the frame has no action, no data and no error"));
            }
            let error = describe(error, message, object.field("code").or(status));
            Ok(Said::Fault(Fault { action, uid, certain, error }))
        }
    }
}

impl Fault {
    /// What the caller is told, in the service's own words where it gave any.
    pub(crate) fn refusal(&self) -> Error {
        let words = match (&self.error.message, &self.error.code) {
            (Some(message), Some(code)) => format!("{message} ({code})"),
            (Some(message), None) => message.clone(),
            (None, Some(code)) => format!("the service answered with {code} and no data"),
            (None, None) => "the service answered without data".to_owned(),
        };
        Error::refused(cut(&words))
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
    json::text(raw.get()).filter(|_| !matches!(raw.get(), "true" | "false"))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
