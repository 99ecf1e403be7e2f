//! The operations that a script lists, and their bodies.

use std::collections::BTreeMap;
use std::time::Duration;

use pontoon_sdk::settings::lasting;
use pontoon_sdk::{Code, Command, DeliveryLevel, Error, Operation, Result, Span};
use schemars::Schema;
use serde::Deserialize;
use serde_json::Value;

use crate::body;

/// The most operations that a script may list.
const MOST: usize = 100;

/// A request of a script: its body is read by the script.
pub struct Request;

impl pontoon_sdk::Request for Request {
    fn operations() -> Vec<Operation> {
        Vec::new()
    }

    fn parse(_: &Command) -> Result<Self> {
        Ok(Self)
    }
}

/// An operation as a script writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// One sentence.
    summary: String,
    /// JSON Schema of the body; an object with any fields if it is left out.
    #[serde(default = "any_object")]
    body: Value,
    /// `sent`, `acked` or `response`.
    delivery: Level,
    #[serde(default)]
    idempotent: bool,
    /// The name of what may follow the operation in the subject.
    argument: Option<String>,
    /// How long a caller waits that sets no timeout.
    timeout: Option<Span>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Sent,
    Acked,
    Response,
}

impl From<Level> for DeliveryLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Sent => Self::Sent,
            Level::Acked => Self::Acked,
            Level::Response => Self::Response,
        }
    }
}

/// An operation of a script.
pub(crate) struct Listing {
    pub(crate) operation: Operation,
    pub(crate) timeout: Option<Duration>,
}

impl Listing {
    /// Checks a body.
    ///
    /// # Errors
    /// `Rejected`, with the place in it.
    pub(crate) fn check(&self, command: &Command) -> Result<()> {
        let value: Value = command.parse()?;
        body::check(self.operation.body.as_value(), &value, "").map_err(|fault| {
            let text = format!("the body is not what {} takes: {}", self.operation.name, fault.what);
            Error::rejected(Code::BadBody, text).at(fault.at)
        })
    }
}

/// Reads the operations of a script.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn read(json: Value) -> Result<Vec<Listing>, String> {
    let listed: BTreeMap<String, Value> =
        serde_json::from_value(json).map_err(|error| format!("operations is not an object: {error}"))?;
    if listed.len() > MOST {
        return Err(format!("there are more than {MOST} operations"));
    }
    let read = listed.into_iter().map(|(name, value)| {
        listing(&name, value).map_err(|wrong| format!("the operation \"{name}\": {wrong}"))
    });
    read.collect()
}

fn listing(name: &str, value: Value) -> Result<Listing, String> {
    let listed: Listed = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let is_token = |token: &str| {
        !token.is_empty()
            && token.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    if name.len() > 60 || !name.split('.').all(is_token) {
        return Err("write words of a-z, 0-9 and _, with dots between them".to_owned());
    }
    if matches!(name, "pause" | "reconnect" | "resume" | "status") {
        return Err("every instance has an operation of this name; write another".to_owned());
    }
    body::check_schema(&listed.body, "").map_err(|fault| format!("body{}: {}", fault.at, fault.what))?;
    let body = Schema::try_from(listed.body).map_err(|error| format!("body: {error}"))?;
    let text = |text: &str| lasting(text).map_err(|error| error.message().to_owned());
    let operation = Operation {
        name: text(name)?,
        argument: listed.argument.as_deref().map(text).transpose()?,
        summary: text(&listed.summary)?,
        body: body.into(),
        delivery: listed.delivery.into(),
        idempotent: listed.idempotent,
    };
    Ok(Listing { operation, timeout: listed.timeout.map(|timeout| timeout.0) })
}

fn any_object() -> Value {
    serde_json::json!({ "type": "object" })
}
