//! From a frame of the service to the event that it becomes, or to the error that it reports.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::json::text as text_of;
use pontoon_sdk::streams::Streams;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Error, Event, Object, Raw, Result};

use crate::mapping::{Json, Payload, Unmapped, unmapped};
use crate::websocket::config::{Call, Config};
use crate::websocket::content::Content;
use crate::websocket::selector::{Discriminator, Selector};

/// Where services write the text of an error, and its code.
const TEXTS: [&str; 6] = ["message", "msg", "description", "reason", "detail", "error"];
/// See [`TEXTS`].
const CODES: [&str; 5] = ["code", "status_code", "errno", "status", "type"];

/// A frame that was received.
pub(crate) struct Received<'a> {
    frame: &'a Frame,
    pub(crate) content: Content<'a>,
    pub(crate) kind: Option<String>,
    pub(crate) raw: Raw,
}

impl<'a> Received<'a> {
    /// Reads a frame; only JSON has a kind.
    pub(crate) fn read(frame: &'a Frame, discriminator: &Discriminator) -> Self {
        let (content, raw) = Content::of(frame);
        let kind = if let Content::Json(json) = &content { discriminator.kind(json) } else { None };
        Self { frame, content, kind, raw }
    }

    /// Whether a setting selects it.
    pub(crate) fn is(&self, selector: &Selector) -> bool {
        selector.matches(&self.content, self.kind.as_deref())
    }

    /// The event that `events` makes of it.
    pub(crate) fn listed(&self, config: &Config, streams: &mut Streams) -> Option<Event> {
        let (Content::Json(json), Some(kind)) = (&self.content, &self.kind) else { return None };
        let event = config.events.get(kind)?.event(Payload::Json(json), self.raw.clone(), streams);
        Some(event.upstream(kind.clone()))
    }

    /// The event that `text` or `binary` makes of it.
    pub(crate) fn unlisted(&self, config: &Config, streams: &mut Streams) -> Option<Event> {
        let (mapping, document, raw) = match (self.frame, &self.content) {
            // `binary` covers JSON in a binary frame, too.
            (Frame::Binary(bytes), _) => {
                (&config.binary, Content::Binary(bytes).document(), Raw::of_binary(bytes))
            }
            (Frame::Text(_), content @ Content::Text(_)) => {
                (&config.text, content.document(), self.raw.clone())
            }
            (Frame::Text(_), _) => return None,
        };
        Some(mapping.as_ref()?.event(Payload::Json(&Json::new(&document)), raw, streams))
    }

    /// What becomes of it where no mapping covers it.
    ///
    /// # Errors
    /// `Protocol` if it has no kind: what is missing to understand it.
    pub(crate) fn unmapped(self, config: &Config) -> Result<Option<Event>> {
        let fault = || Raw::document(self.frame.bytes()).err().map(|error| error.message().to_owned());
        let reason = match (&self.content, &self.kind) {
            (Content::Json(_), Some(_)) => {
                let published = config.unmapped == Unmapped::Publish;
                return Ok(published.then(|| unmapped(self.kind, self.raw)));
            }
            (Content::Json(_), None) if config.kind.is_empty() => {
                "nothing says where the kind of a frame stands (kind)".to_owned()
            }
            (Content::Json(_), None) => format!("the frame has no kind at {}", config.kind.places()),
            (Content::Text(_), _) => {
                format!("{}, and nothing says what a text becomes (text)", fault().unwrap_or_default())
            }
            (Content::Binary(_), _) => format!(
                "the frame is binary, and nothing says what that becomes (binary): {}",
                fault().unwrap_or_default()
            ),
        };
        Err(Error::protocol(reason))
    }

    /// The error that it reports as the answer to a call, if it does.
    pub(crate) fn failure(&self, call: &Call, json: &Json<'_>) -> Option<ServiceError> {
        let found = call.error.as_ref().and_then(|error| error.find(json));
        match found.filter(|error| !is_no_error(error)) {
            // `"error":true` says nothing by itself.
            Some("true") => Some(error_of(json.text)),
            Some(error) => Some(error_of(error)),
            None => self.is(call.failed_when.as_ref()?).then(|| error_of(json.text)),
        }
    }
}

/// Whether a value is not an error: `null`, `false`, `0` or an empty string.
fn is_no_error(json: &str) -> bool {
    matches!(json.trim_ascii(), "null" | "false" | "0" | "\"\"")
}

/// The text and the code of an error: a text itself; of an object, or of its field `error`, what stands where services
/// write them; else the whole as JSON.
pub(crate) fn error_of(json: &str) -> ServiceError {
    if let Some(text) = text_of(json) {
        return ServiceError { code: None, message: Some(text), details: None };
    }
    let object = serde_json::from_str::<Object<'_>>(json).ok();
    let own = object.as_ref().map(within);
    match (own, object.and_then(|object| object.object("error")).as_ref().map(within)) {
        (Some(own), _) if own.message.is_some() => own,
        (_, Some(nested)) if nested.message.is_some() => nested,
        (own, _) => {
            ServiceError { code: own.and_then(|own| own.code), message: Some(json.to_owned()), details: None }
        }
    }
}

/// What an object has of an error.
fn within(object: &Object<'_>) -> ServiceError {
    let first = |names: &[&str]| {
        let values = names.iter().filter_map(|name| object.field(name).map(|value| value.get()));
        let mut texts = values.filter(|json| !is_no_error(json) && *json != "true").filter_map(text_of);
        texts.next()
    };
    ServiceError { code: first(&CODES), message: first(&TEXTS), details: None }
}

/// An error as one sentence.
pub(crate) fn sentence(error: &ServiceError) -> String {
    match (&error.message, &error.code) {
        (Some(message), Some(code)) if !message.contains(code.as_str()) => format!("{message} ({code})"),
        (Some(text), _) | (None, Some(text)) => text.clone(),
        (None, None) => "the service gave no reason".to_owned(),
    }
}
