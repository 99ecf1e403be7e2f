//! What the service sends: `{uid, action, data}`, errors, and texts that only keep the connection alive.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Bytes, Error, Object, Raw, Result};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The longest text without JSON in it that passes for a keepalive, in bytes.
const MAX_KEEPALIVE: usize = 128;

/// A frame of the service.
pub(crate) enum Received<'a> {
    /// A text that only keeps the connection alive.
    Keepalive,
    /// An answer, or a broadcast.
    Data { action: String, uid: Option<String>, data: &'a RawValue },
    /// No data, or an error.
    Error(CallError),
}

/// An error of a call.
pub(crate) struct CallError {
    pub(crate) action: Option<String>,
    pub(crate) uid: Option<String>,
    /// Whether the service reports an error. If not, all that is known is that there are no data.
    pub(crate) certain: bool,
    pub(crate) error: ServiceError,
}

/// Reads a frame, in one pass over its bytes if it is an object.
///
/// # Errors
/// `Protocol` if it is none of those above.
pub(crate) fn decode(frame: &Frame) -> Result<(Received<'_>, Raw)> {
    match frame {
        // A text that is not meant to be an object may be a keepalive.
        Frame::Text(bytes) if !text(bytes).starts_with('{') => keepalive(bytes),
        _ => {
            let (object, raw) = frame.object()?;
            object.unique(&["action", "uid", "data", "error", "message", "status", "code"])?;
            Ok((received(&object)?, raw))
        }
    }
}

/// The text of a text frame, from its first character that is not white space.
fn text(bytes: &Bytes) -> &str {
    Raw::json_text(bytes).map_or("", |(text, _)| text.trim_ascii_start())
}

fn keepalive(bytes: &Bytes) -> Result<(Received<'static>, Raw)> {
    match Raw::read::<IgnoredAny>(bytes) {
        Ok(_) => Err(Error::protocol("the frame is JSON, but not an object")),
        // A broken frame must not vanish among keepalives.
        Err(error) if bytes.len() > MAX_KEEPALIVE || text(bytes).starts_with('[') => {
            let fault = error.message();
            Err(Error::protocol(format!("the frame is neither JSON nor a short keepalive: {fault}")))
        }
        Err(_) => Ok((Received::Keepalive, Raw::null())),
    }
}

fn received<'a>(object: &Object<'a>) -> Result<Received<'a>> {
    let status = object.words("status");
    let refused = object.field("error").is_some_and(is_set) || status.as_deref().is_some_and(is_failure);
    let has_message = object.has("message");
    // `null` is data, unless there is a message in its place.
    let data = object.get("data").filter(|data| !has_message || data.get() != "null");
    let uid = object.words("uid");
    match (object.value("action"), data) {
        (Some(action), Some(data)) if !refused => Ok(Received::Data { action, uid, data }),
        (None, Some(_)) if !refused => Err(Error::protocol("the frame has data but names no action")),
        (action, _) => {
            let certain = refused || (has_message && status.is_none());
            if !certain && action.is_none() {
                return Err(Error::protocol("the frame has no action, no data and no error"));
            }
            Ok(Received::Error(CallError { action, uid, certain, error: service_error(object) }))
        }
    }
}

impl CallError {
    /// What is replied to the caller: the service's own text, where there is one.
    pub(crate) fn refusal(&self) -> Error {
        let text = match (&self.error.message, &self.error.code) {
            (Some(message), Some(code)) => format!("{message} ({code})"),
            (Some(message), None) => message.clone(),
            (None, Some(code)) => format!("the service answered with {code} and no data"),
            (None, None) => "the service answered without data".to_owned(),
        };
        Error::refused(text)
    }
}

/// The error of a frame. Sub0 documents none for WebSockets, and its HTTP side has several shapes.
fn service_error(object: &Object<'_>) -> ServiceError {
    let mut error = object.error();
    error.details = object.filled("error");
    // A name and a sentence: `"error":"Unauthorized","message":"The token has expired"`.
    if let (Some(name), Some(message)) = (object.value::<String>("error"), &error.message)
        && !name.is_empty()
        && name != *message
    {
        error.message = Some(format!("{name}: {message}"));
    }
    error
}

/// Whether a field `error` reports an error.
fn is_set(error: &RawValue) -> bool {
    !matches!(error.get(), "false" | "\"\"")
}

/// Whether a status stands for an error: from 400, or a word for failure.
fn is_failure(status: &str) -> bool {
    match status.parse::<f64>() {
        Ok(number) => number >= 400.0,
        Err(_) => ["error", "fail", "failed", "failure"].iter().any(|word| status.eq_ignore_ascii_case(word)),
    }
}
