//! What the service sends: updates in two envelopes, messages, errors. No frame has a field that says which it is.

use std::collections::BTreeMap;

use pontoon_sdk::event::{Message, MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Error, Event, EventType, Object, Piece, Raw, Result};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// The event that carries a part of an answer.
const UPDATED: &str = "thread-message-text-content-updated";

/// A frame of the service.
pub(crate) enum Received {
    /// A part of an answer.
    Update(Update),
    /// The final message of an answer: its event, and the whole of it.
    Answer(Event, Box<RawValue>),
    /// A message of the user, which is not an answer even if the service repeats it.
    UserMessage(Event),
    /// An error of a request, or of the connection.
    Error(RequestError),
    /// An event that the connector does not know, by the service's name.
    Other(String),
}

/// A part of an answer.
pub(crate) struct Update {
    /// The service's name for it.
    pub(crate) name: String,
    /// The text so far, or what is new in it.
    pub(crate) text: Piece,
    /// The task, where the envelope names it.
    pub(crate) task: Option<String>,
    /// The message, where the envelope names it.
    pub(crate) message: Option<String>,
    pub(crate) time: Option<Timestamp>,
}

/// An error of a request, or of the connection.
pub(crate) struct RequestError {
    /// Its status, as of HTTP.
    pub(crate) status: Option<u16>,
    pub(crate) event: Event,
    /// What is replied to the caller, in the service's own text.
    pub(crate) refusal: Error,
}

/// Reads a frame.
///
/// # Errors
/// `Protocol` if it is none of those above.
pub(crate) fn decode(frame: &Frame) -> Result<Received> {
    let (object, raw) = frame.object()?;
    object.unique(&["event", "channel", "scope", "data", "id", "text", "sender", "status_code"])?;
    let name = event_name(&object);
    // An error may come in place of anything.
    if let Some(error) = request_error(&object, name.is_some(), &raw) {
        return Ok(Received::Error(error));
    }
    match name {
        Some(name) if name == UPDATED => Ok(Received::Update(update(&object, name)?)),
        Some(name) => Ok(Received::Other(name)),
        None if ["id", "text", "sender"].into_iter().filter(|name| object.has(name)).count() >= 2 => {
            message(&object, &raw)
        }
        None => Err(Error::protocol("the frame is not an update, a message or an error")),
    }
}

/// The name of an event, in one envelope or the other. The README of the service's own library says `eventName`.
fn event_name(object: &Object<'_>) -> Option<String> {
    let nested = || {
        let channel = object.object("channel")?;
        channel.value("event_name").or_else(|| channel.value("eventName"))
    };
    object.value("event").or_else(nested)
}

fn update(object: &Object<'_>, name: String) -> Result<Update> {
    let is_text = |data: &Object<'_>| data.field("text").is_some_and(|text| text.get().starts_with('"'));
    let data = object.object("data").filter(is_text);
    let Some(text) = data.and_then(|data| data.piece("text")) else {
        return Err(Error::protocol(format!("{name} has no text (at /data/text)")));
    };
    let context = object.object("scope").and_then(|scope| scope.object("context"));
    let id = |name| context.as_ref().and_then(|context| context.words(name));
    Ok(Update { name, text, task: id("task_id"), message: id("message_id"), time: object.time("timestamp") })
}

fn message(object: &Object<'_>, raw: &Raw) -> Result<Received> {
    let created_at = object.time("created_at");
    let message = MessageObject {
        id: text(object, "id"),
        text: text(object, "text"),
        created_at: created_at.as_ref().map(|time| time.text.clone()),
        ..MessageObject::default()
    };
    let sender = object.object("sender").map(|sender| Sender {
        id: sender.words("id"),
        name: None,
        kind: match sender.text("type").as_deref() {
            Some("user") => Some(SenderKind::User),
            Some("agent") => Some(SenderKind::Agent),
            _ => None,
        },
    });
    let by_user = sender.as_ref().is_some_and(|sender| sender.kind == Some(SenderKind::User));
    let kind = if by_user { EventType::MessageCreated } else { EventType::MessageCompleted };
    let mut event = Event::new(kind, raw.clone());
    event.time = created_at.and_then(|time| time.time);
    (event.fields.message, event.fields.sender) = (Some(Message::Object(message)), sender);
    Ok(if by_user { Received::UserMessage(event) } else { Received::Answer(event, raw.parse()?) })
}

/// The error in a frame, if there is one; `is_event` is whether the frame names an event.
fn request_error(object: &Object<'_>, is_event: bool, raw: &Raw) -> Option<RequestError> {
    let code = text(object, "status_code");
    let status = code.as_deref().and_then(|code| code.parse::<u16>().ok());
    let is_error = match &code {
        Some(_) => status.is_none_or(|status| status >= 400),
        None => {
            let is_message = object.has("id") || object.has("sender");
            let names = ["description", "message", "errors", "detail"];
            !is_event && !is_message && names.iter().any(|name| object.has(name))
        }
    };
    if !is_error {
        return None;
    }
    let description = text(object, "description");
    let invalid = || object.field("errors").or_else(|| object.field("detail")).and_then(validation_errors);
    let message = text(object, "message").or_else(invalid);
    let mut refusal = match (&description, &message) {
        (Some(description), Some(message)) if description != message => format!("{description}: {message}"),
        (_, Some(text)) | (Some(text), None) => text.clone(),
        (None, None) => "the service reported an error without a text".to_owned(),
    };
    if let Some(code) = &code {
        refusal = format!("{refusal} ({code})");
    }
    let error = ServiceError { code, message: message.or(description), details: details(object) };
    let event = Event::error(error, raw.clone());
    Some(RequestError { status, event, refusal: Error::refused(refusal) })
}

/// What an error has besides its code and its message.
fn details(object: &Object<'_>) -> Option<Box<RawValue>> {
    let names = ["description", "extra_data", "errors", "detail"];
    let fields = names.into_iter().filter_map(|name| Some((name, object.field(name)?)));
    let fields: BTreeMap<_, _> = fields.collect();
    if fields.is_empty() { None } else { to_raw_value(&fields).ok() }
}

/// The text of the errors in a request: `[{"loc":["body","text"],"msg":"field required"}]`, or only texts.
fn validation_errors(raw: &RawValue) -> Option<String> {
    let text_of = |error: &Value| {
        let text = error.get("msg").unwrap_or(error).as_str()?;
        let places = error.get("loc").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let place = |place: &Value| place.as_str().map_or_else(|| place.to_string(), str::to_owned);
        let places: Vec<_> = places.iter().map(place).collect();
        Some(if places.is_empty() { text.to_owned() } else { format!("{}: {text}", places.join(".")) })
    };
    match Raw::from(raw.to_owned()).parse().ok()? {
        Value::Array(errors) => {
            let texts: Vec<_> = errors.iter().filter_map(text_of).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        error => text_of(&error),
    }
}

/// A string, or a number as text.
fn text(object: &Object<'_>, name: &str) -> Option<String> {
    object.words(name).filter(|text| !matches!(text.as_str(), "true" | "false"))
}
