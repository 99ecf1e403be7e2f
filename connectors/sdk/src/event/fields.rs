//! The parts that the fields of an event are made of: messages, senders, errors.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json;

/// A message, or the bare text of a titled socket.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Message {
    /// With an id and the like.
    Object(MessageObject),
    /// Only text.
    Text(String),
}

/// A message with an id.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct MessageObject {
    /// The service's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was written, by the service's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Files and the like, in the service's own form.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json::write_paired")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub attachments: Option<Box<RawValue>>,
    /// What else the service attached.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json::write_paired")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub metadata: Option<Box<RawValue>>,
}

/// Who sent or did something.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Sender {
    /// The service's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name that people see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SenderKind>,
}

/// What a sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SenderKind {
    /// A person.
    User,
    /// A program.
    Agent,
    /// This very instance.
    #[serde(rename = "self")]
    Own,
}

/// An error as the service reported it.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct ServiceError {
    /// The service's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The service's message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What else it gave.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json::write_paired")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub details: Option<Box<RawValue>>,
}
