//! What the service says: updates in two envelopes, final messages, errors. No frame says of itself which it is.

use std::borrow::Cow;

use pontoon_sdk::event::{MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::lenient::{Text, Timestamp};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Error, Raw, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// The event that carries a part of an answer.
const UPDATED: &str = "thread-message-text-content-updated";

/// The longest message of an error that a caller is told, in characters.
const MAX_WORDS: usize = 1000;

/// What the service said.
pub(crate) enum Said {
    /// A part of an answer.
    Update(Update),
    /// A whole message.
    Message(Whole),
    /// A request went wrong, or the connection.
    Fault(Fault),
    /// An event that is not known.
    Other {
        /// The service's name for it.
        name: String,
    },
}

/// A part of an answer.
pub(crate) struct Update {
    /// The service's name for it.
    pub(crate) name: String,
    /// The text so far, or what is new in it.
    pub(crate) text: String,
    /// The task, where the envelope names it.
    pub(crate) task: Option<String>,
    /// The message, where the envelope names it.
    pub(crate) message: Option<String>,
    pub(crate) time: Option<Timestamp>,
}

/// A whole message.
pub(crate) struct Whole {
    pub(crate) message: MessageObject,
    pub(crate) sender: Option<Sender>,
    pub(crate) created_at: Option<Timestamp>,
}

/// An error, as the service tells it.
pub(crate) struct Fault {
    /// Its status, as of HTTP.
    pub(crate) status: Option<u16>,
    pub(crate) error: ServiceError,
    /// What the caller is told.
    words: String,
}

/// Any frame of the service, borrowed. A field of a wrong type does not make the frame another.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    created_at: Option<&'a RawValue>,
    #[serde(borrow)]
    sender: Option<&'a RawValue>,
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    extra_data: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

/// `channel` of the fuller envelope. The service's own library says `eventName` in its README.
#[derive(Deserialize)]
struct Channel {
    #[serde(alias = "eventName")]
    event_name: String,
}

/// `scope` of the fuller envelope.
#[derive(Deserialize)]
struct Scope {
    context: ScopeContext,
}

#[derive(Deserialize)]
struct ScopeContext {
    task_id: Option<Text>,
    message_id: Option<Text>,
}

/// `data` of both envelopes.
#[derive(Deserialize)]
struct Data {
    text: String,
}

#[derive(Deserialize)]
struct SentBy {
    id: Option<Text>,
    #[serde(rename = "type")]
    kind: Option<Text>,
}

/// What an event tells of an error besides its code and its message.
#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a RawValue>,
}

/// Reads a frame.
///
/// # Errors
/// `Protocol` if it is none of those that the service is known to send.
pub(crate) fn read(frame: &Frame) -> Result<(Said, Raw)> {
    let Frame::Text(text) = frame else {
        return Err(Error::protocol("the frame is binary; AUI speaks text"));
    };
    // Serde would read an array into a struct, field by field.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Error::protocol("the frame is no JSON object"));
    }
    let (wire, raw) = frame.json::<Wire<'_>>()?;
    Ok((wire.said()?, raw))
}

impl Wire<'_> {
    /// Errors are looked for first, as they may come in the place of anything.
    fn said(&self) -> Result<Said> {
        let name = self.name();
        if let Some(fault) = self.fault(name.is_some()) {
            return Ok(Said::Fault(fault));
        }
        if let Some(name) = name {
            return if name == UPDATED { self.update(name) } else { Ok(Said::Other { name }) };
        }
        let signs = [self.id, self.text, self.sender].into_iter().flatten().count();
        if signs < 2 {
            return Err(Error::protocol("the frame is no update, no message and no error"));
        }
        Ok(Said::Message(self.whole()))
    }

    /// What the frame calls itself, in one envelope or the other.
    fn name(&self) -> Option<String> {
        let flat = self.event.and_then(lenient::<String>);
        flat.or_else(|| self.channel.and_then(lenient::<Channel>).map(|channel| channel.event_name))
    }

    fn update(&self, name: String) -> Result<Said> {
        let Some(Data { text }) = self.data.and_then(lenient) else {
            return Err(Error::protocol(format!("{name} has no text (at /data/text)")));
        };
        let context = self.scope.and_then(lenient::<Scope>).map(|scope| scope.context);
        let (task, message) = context.map_or((None, None), |context| (context.task_id, context.message_id));
        let (task, message) = (task.map(String::from), message.map(String::from));
        let time = self.timestamp.and_then(lenient);
        Ok(Said::Update(Update { name, text, task, message, time }))
    }

    fn whole(&self) -> Whole {
        let created_at: Option<Timestamp> = self.created_at.and_then(lenient);
        let message = MessageObject {
            id: self.id.and_then(plain),
            text: self.text.and_then(plain),
            created_at: created_at.as_ref().map(|time| time.text.clone()),
            ..MessageObject::default()
        };
        let sender = self.sender.and_then(lenient::<SentBy>).map(|by| Sender {
            id: by.id.map(String::from),
            name: None,
            kind: by.kind.and_then(|kind| match kind.as_str() {
                "user" => Some(SenderKind::User),
                "agent" => Some(SenderKind::Agent),
                _ => None,
            }),
        });
        Whole { message, sender, created_at }
    }

    /// The error that the frame tells of, if it does; `named` is whether it is an event.
    fn fault(&self, named: bool) -> Option<Fault> {
        let code = self.status_code.and_then(plain);
        let status = code.as_deref().and_then(|code| code.parse::<u16>().ok());
        let is_fault = match (&code, status) {
            (Some(_), Some(status)) => status >= 400,
            (Some(_), None) => true,
            (None, _) => {
                let says_so = [self.description, self.message, self.errors, self.detail];
                !named && self.id.is_none() && self.sender.is_none() && says_so.iter().any(Option::is_some)
            }
        };
        if !is_fault {
            return None;
        }
        let description = self.description.and_then(plain);
        let complaints = || self.errors.or(self.detail).and_then(complaints);
        let message = self.message.and_then(plain).or_else(complaints);
        let mut words = match (&description, &message) {
            (Some(short), Some(message)) if short != message => Cow::Owned(format!("{short}: {message}")),
            (_, Some(words)) | (Some(words), None) => Cow::Borrowed(words.as_str()),
            (None, None) => Cow::Borrowed("the service reported an error, and no words of it"),
        };
        if let Some(code) = &code {
            words = Cow::Owned(format!("{words} ({code})"));
        }
        let words = words.chars().take(MAX_WORDS).collect();
        let message = message.or(description);
        let error = ServiceError { code, message, details: self.details() };
        Some(Fault { status, error, words })
    }

    /// What an error tells besides its code and its message.
    fn details(&self) -> Option<Box<RawValue>> {
        let (description, extra_data, errors, detail) =
            (self.description, self.extra_data, self.errors, self.detail);
        description.or(extra_data).or(errors).or(detail)?;
        to_raw_value(&Details { description, extra_data, errors, detail }).ok()
    }
}

impl Fault {
    /// What the caller is told, in the service's own words.
    pub(crate) fn refusal(&self) -> Error {
        Error::refused(self.words.as_str())
    }
}

/// What a list of faults in a request says: `[{"loc":["body","text"],"msg":"field required"}]`, or only words.
fn complaints(raw: &RawValue) -> Option<String> {
    let one = |complaint: &Value| {
        let words = complaint.get("msg").unwrap_or(complaint).as_str()?.to_owned();
        let places = complaint.get("loc").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let place: Vec<_> = places
            .iter()
            .map(|place| place.as_str().map_or_else(|| place.to_string(), str::to_owned))
            .collect();
        Some(if place.is_empty() { words } else { format!("{}: {words}", place.join(".")) })
    };
    match lenient::<Value>(raw)? {
        Value::Array(all) => {
            let all: Vec<_> = all.iter().filter_map(one).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        value => one(&value),
    }
}

/// A string or a number as text; a long number keeps its digits.
fn plain(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first() {
        Some(b'"') => lenient(raw),
        Some(b'-' | b'0'..=b'9') => Some(raw.get().to_owned()),
        _ => None,
    }
}

/// A part of a frame, if it is of this shape.
fn lenient<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}
