//! What the service says, read leniently: a field of a wrong type is taken for absent, and the rest still counts.

use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::{Error, Object, Raw, Result, json};
use serde_json::value::RawValue;

/// What the service says of its success, if anything.
pub(crate) fn success(object: &Object<'_>) -> Option<bool> {
    object.field("success").map(|value| !is_falsy(value))
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
            text: object.words("text"),
            attachments: object.field("file").and_then(attachments),
            metadata: object.field("metadata").map(ToOwned::to_owned),
            created: object.time("created_at"),
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
    let alone = argument.text().filter(|text| !text.is_empty());
    let within = || {
        let object = Object::of(argument).ok()?;
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
    json::text(value.get()).filter(|text| !text.is_empty())
}
