//! What the service says, read leniently: a field of a wrong type is taken for absent, and the rest still counts.

use std::collections::BTreeMap;

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::lenient::{Text, Timestamp};
use pontoon_sdk::{Error, Raw, Result};
use serde_json::value::RawValue;

/// How much of what the service says of a failure callers are told, in characters.
pub(crate) const MAX_WORDS: usize = 1_000;

/// An object of the service.
pub(crate) struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// Reads an argument of an event.
    ///
    /// # Errors
    /// `Protocol` if it is no object.
    pub(crate) fn read(argument: &'a Raw) -> Result<Self> {
        argument.parse().map(Self).map_err(|_| Error::protocol("the payload is no object"))
    }

    fn within(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok().map(Self)
    }

    /// A field that is there and not `null`.
    pub(crate) fn field(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A text, or a number or truth value as text; never an empty one.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        text(self.field(name)?)
    }

    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        Self::within(self.field(name)?)
    }

    /// A list's texts.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let items: Vec<&RawValue> = serde_json::from_str(self.field(name)?.get()).ok()?;
        Some(items.into_iter().filter_map(text).collect())
    }

    /// What the service says of its success, if anything.
    pub(crate) fn success(&self) -> Option<bool> {
        self.0.get("success").filter(|value| value.get() != "null").map(|value| !is_falsy(value))
    }

    /// What it says of a failure.
    pub(crate) fn fault(&self) -> ServiceError {
        let inner = self.object("error");
        let inner = |name| inner.as_ref().and_then(|error| error.text(name));
        let message = self.text("message").or_else(|| inner("message")).or_else(|| self.text("error"));
        ServiceError {
            code: self.text("code").or_else(|| inner("code")).or_else(|| self.text("status")),
            message,
            details: None,
        }
    }
}

/// A message.
pub(crate) struct Message {
    pub(crate) id: Option<String>,
    pub(crate) chat: Option<String>,
    pub(crate) text: Option<String>,
    /// A list, as other services have several.
    pub(crate) attachments: Option<Box<RawValue>>,
    pub(crate) metadata: Option<Box<RawValue>>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) author: Option<User>,
}

impl Message {
    /// Reads a message. What it lacks, it lacks.
    pub(crate) fn read(object: &Object<'_>) -> Self {
        // The page shows `user_id` where the SDK shows `user`.
        let author = object.field("user").and_then(User::read);
        let author = author.or_else(|| Some(User { id: Some(object.text("user_id")?), name: None }));
        Self {
            id: object.text("id"),
            chat: object.text("chat_id"),
            text: object
                .field("text")
                .and_then(|text| serde_json::from_str::<Text>(text.get()).ok())
                .map(String::from),
            attachments: object.field("file").and_then(attachments),
            metadata: object.field("metadata").map(ToOwned::to_owned),
            created: object.field("created_at").and_then(|time| serde_json::from_str(time.get()).ok()),
            author,
        }
    }
}

/// A user.
pub(crate) struct User {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

impl User {
    /// Reads a user, or an id alone.
    pub(crate) fn read(value: &RawValue) -> Option<Self> {
        let Some(object) = Object::within(value) else {
            return text(value).map(|id| Self { id: Some(id), name: None });
        };
        let user =
            Self { id: object.text("id"), name: object.text("name").or_else(|| object.text("username")) };
        (user.id.is_some() || user.name.is_some()).then_some(user)
    }
}

/// The id of a message: alone, as the service sends it, or in an object.
///
/// # Errors
/// `Protocol` if there is none.
pub(crate) fn message_id(argument: &Raw) -> Result<String> {
    let alone = argument.parse::<&RawValue>().ok().and_then(text);
    let within = || {
        let object = Object::read(argument).ok()?;
        object.text("id").or_else(|| object.text("messageId"))
    };
    alone.or_else(within).ok_or_else(|| Error::protocol("the payload names no message"))
}

/// Whether a value counts as false in JavaScript, by which the service's own clients judge.
pub(crate) fn is_falsy(value: &RawValue) -> bool {
    match value.get() {
        "false" | "null" | "\"\"" => true,
        number => number.parse::<f64>().is_ok_and(|number| number == 0.0),
    }
}

/// A file, which is an object or an address alone, as a list.
fn attachments(file: &RawValue) -> Option<Box<RawValue>> {
    match file.get() {
        empty if is_falsy(file) || empty == "{}" => None,
        list if list.starts_with('[') => Some(file.to_owned()),
        one => RawValue::from_string(format!("[{one}]")).ok(),
    }
}

fn text(value: &RawValue) -> Option<String> {
    let Text(text) = serde_json::from_str(value.get()).ok()?;
    (!text.is_empty()).then_some(text)
}
