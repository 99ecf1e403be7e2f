//! What the service says: updates in two envelopes, final messages, errors. No frame says of itself which it is.

use std::borrow::Cow;

use pontoon_sdk::event::{MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::object::cut;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Error, Object, Piece, Raw, Result, json};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// The event that carries a part of an answer.
const UPDATED: &str = "thread-message-text-content-updated";

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
    pub(crate) text: Piece,
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
    let (object, raw) = frame.object()?;
    object.unique(&["event", "channel", "scope", "data", "id", "text", "sender", "status_code"])?;
    Ok((Wire(object).said()?, raw))
}

/// Any frame of the service. A field of a wrong type does not make the frame another.
struct Wire<'a>(Object<'a>);

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
        let signs = ["id", "text", "sender"].into_iter().filter(|name| self.0.has(name)).count();
        if signs < 2 {
            return Err(Error::protocol("the frame is no update, no message and no error"));
        }
        Ok(Said::Message(self.whole()))
    }

    /// What the frame calls itself, in one envelope or the other. The service's own library says `eventName` in its
    /// README.
    fn name(&self) -> Option<String> {
        let nested = || {
            let channel = self.0.object("channel")?;
            channel.value("event_name").or_else(|| channel.value("eventName"))
        };
        self.0.value("event").or_else(nested)
    }

    fn update(&self, name: String) -> Result<Said> {
        let data = self.0.object("data");
        let Some(text) = data.filter(|data| is_string(data, "text")).and_then(|data| data.piece("text"))
        else {
            return Err(Error::protocol(format!("{name} has no text (at /data/text)")));
        };
        let context = self.0.object("scope").and_then(|scope| scope.object("context"));
        let id = |name| context.as_ref().and_then(|context| context.words(name));
        let (task, message) = (id("task_id"), id("message_id"));
        Ok(Said::Update(Update { name, text, task, message, time: self.0.time("timestamp") }))
    }

    fn whole(&self) -> Whole {
        let created_at = self.0.time("created_at");
        let message = MessageObject {
            id: self.plain("id"),
            text: self.plain("text"),
            created_at: created_at.as_ref().map(|time| time.text.clone()),
            ..MessageObject::default()
        };
        let sender = self.0.object("sender").map(|by| Sender {
            id: by.words("id"),
            name: None,
            kind: by.text("type").and_then(|kind| match kind.as_str() {
                "user" => Some(SenderKind::User),
                "agent" => Some(SenderKind::Agent),
                _ => None,
            }),
        });
        Whole { message, sender, created_at }
    }

    /// A string or a number as text.
    fn plain(&self, name: &str) -> Option<String> {
        let value = self.0.field(name)?;
        json::text(value.get()).filter(|_| !matches!(value.get(), "true" | "false"))
    }

    /// The error that the frame tells of, if it does; `named` is whether it is an event.
    fn fault(&self, named: bool) -> Option<Fault> {
        let code = self.plain("status_code");
        let status = code.as_deref().and_then(|code| code.parse::<u16>().ok());
        let is_fault = match (&code, status) {
            (Some(_), Some(status)) => status >= 400,
            (Some(_), None) => true,
            (None, _) => {
                let says_so = ["description", "message", "errors", "detail"];
                !named
                    && !self.0.has("id")
                    && !self.0.has("sender")
                    && says_so.iter().any(|name| self.0.has(name))
            }
        };
        if !is_fault {
            return None;
        }
        let description = self.plain("description");
        let complaints = || self.0.field("errors").or_else(|| self.0.field("detail")).and_then(complaints);
        let message = self.plain("message").or_else(complaints);
        let mut words = match (&description, &message) {
            (Some(short), Some(message)) if short != message => Cow::Owned(format!("{short}: {message}")),
            (_, Some(words)) | (Some(words), None) => Cow::Borrowed(words.as_str()),
            (None, None) => Cow::Borrowed("the service reported an error, and no words of it"),
        };
        if let Some(code) = &code {
            words = Cow::Owned(format!("{words} ({code})"));
        }
        let words = cut(&words);
        let message = message.or(description);
        let error = ServiceError { code, message, details: self.details() };
        Some(Fault { status, error, words })
    }

    /// What an error tells besides its code and its message.
    fn details(&self) -> Option<Box<RawValue>> {
        let [description, extra_data, errors, detail] =
            ["description", "extra_data", "errors", "detail"].map(|name| self.0.field(name));
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
    match json::from_str(raw.get()).ok()? {
        Value::Array(all) => {
            let all: Vec<_> = all.iter().filter_map(one).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        value => one(&value),
    }
}

fn is_string(object: &Object<'_>, name: &str) -> bool {
    object.field(name).is_some_and(|value| value.get().starts_with('"'))
}
