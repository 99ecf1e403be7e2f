//! From a frame of the service to the event that it becomes, or to the error that it reports.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::streams::Streams;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Error, Event, Raw, Result};

use crate::answer::{error_of, is_no_error};
use crate::mapping::{Json, Payload, Unmapped, unmapped};
use crate::rules::{self, Seen};
use crate::websocket::config::{Call, Config};
use crate::websocket::content::{Content, Mapping};
use crate::websocket::discriminator::Discriminator;

/// What the messages of a frame are, as if it were the first of a connection, and which pointers find nothing in them.
pub(crate) fn notes(frame: &Frame, config: &Config) -> Vec<String> {
    let frame = match config.encoding().first(frame) {
        Ok(Some(frame)) => frame,
        Ok(None) => return vec!["is a part of a message that goes on in the next frame".to_owned()],
        // What is wrong with it is what becomes of it.
        Err(_) => return Vec::new(),
    };
    let messages = match config.split {
        Some(split) => split.messages(&frame).unwrap_or_default(),
        None => vec![frame.into_owned()],
    };
    let count = messages.len();
    let of = |(place, message): (usize, &Frame)| {
        let inner = config.unfolded(message);
        let notes = Received::read(message, inner.as_deref(), &config.kind).notes(config);
        let which = if count > 1 { format!("message {} ", place + 1) } else { String::new() };
        notes.into_iter().map(|note| format!("{which}{note}")).collect::<Vec<_>>()
    };
    messages.iter().enumerate().flat_map(of).collect()
}

/// A frame that was received.
pub(crate) struct Received<'a> {
    frame: &'a Frame,
    pub(crate) content: Content<'a>,
    pub(crate) kind: Option<String>,
    pub(crate) raw: Raw,
}

impl<'a> Received<'a> {
    /// Reads a frame; only JSON has a kind. `inner` is the frame with JSON unfolded, where it has some.
    pub(crate) fn read(frame: &'a Frame, inner: Option<&'a str>, discriminator: &Discriminator) -> Self {
        let (mut content, raw) = Content::of(frame);
        if let Some(inner) = inner {
            content = Content::Json(Json::new(inner));
        }
        let kind = if let Content::Json(json) = &content { discriminator.kind(json) } else { None };
        Self { frame, content, kind, raw }
    }

    /// What a rule sees of it.
    pub(crate) fn seen(&self) -> Seen<'_, 'a> {
        let content = match &self.content {
            Content::Json(json) => rules::Content::Json(Payload::Json(json)),
            Content::Text(text) => rules::Content::Text(text),
            Content::Binary(_) => rules::Content::Other,
        };
        Seen { kind: self.kind.as_deref(), content }
    }

    /// What its kind is, and which pointers of its entry in `events` find nothing in it.
    fn notes(&self, config: &Config) -> Vec<String> {
        let (Content::Json(json), Some(kind)) = (&self.content, &self.kind) else {
            return vec!["has no kind".to_owned()];
        };
        let Some(mapping) = config.events.get(kind) else {
            return vec![format!("is of the kind {kind}, which events does not list")];
        };
        let lacking = mapping.lacking(json).into_iter();
        let finds_nothing =
            lacking.map(|(field, pointer)| format!("{field} = \"{}\" finds nothing", pointer.as_str()));
        std::iter::once(format!("is of the kind {kind}")).chain(finds_nothing).collect()
    }

    /// Its entry in `events`.
    pub(crate) fn mapping<'c>(&self, config: &'c Config) -> Option<&'c Mapping> {
        let (Content::Json(_), Some(kind)) = (&self.content, &self.kind) else { return None };
        config.events.get(kind)
    }

    /// The event that an entry of `events` without `each` makes of it.
    pub(crate) fn event(&self, mapping: &Mapping, streams: &mut Streams) -> Option<Event> {
        let (Content::Json(json), Some(kind)) = (&self.content, &self.kind) else { return None };
        let event = mapping.event(Payload::Json(json), self.raw.clone(), streams);
        Some(event.upstream(kind.clone()))
    }

    /// All events that an entry of `events` makes of it.
    pub(crate) fn events(&self, mapping: &Mapping, streams: &mut Streams) -> Vec<Event> {
        let (Content::Json(json), Some(kind)) = (&self.content, &self.kind) else { return Vec::new() };
        let events = mapping.events(Payload::Json(json), self.raw.clone(), streams).unwrap_or_else(|error| {
            let mut event = unmapped(Some(kind.clone()), self.raw.clone());
            event.fields.reason = Some(error.message().to_owned());
            vec![event]
        });
        events.into_iter().map(|event| event.upstream(kind.clone())).collect()
    }

    /// All events that `events` makes of it.
    pub(crate) fn mapped(&self, config: &Config, streams: &mut Streams) -> Vec<Event> {
        self.mapping(config).map(|mapping| self.events(mapping, streams)).unwrap_or_default()
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
            None => call.failed_when.matches(&self.seen()).then(|| error_of(json.text)),
        }
    }
}
