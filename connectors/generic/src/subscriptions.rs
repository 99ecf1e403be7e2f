//! What callers subscribe to, for both connectors: a body, and what tells it from others.

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::operations::Body;
use pontoon_sdk::{Code, Command, Error, Join, Outbox, Result};
use schemars::{Schema, json_schema};
use serde_json::value::RawValue;

use crate::mapping::{Json, ValueOf};
use crate::websocket::Pointer;

/// The operations.
pub(crate) const SUBSCRIBE: &str = "subscribe";
/// See [`SUBSCRIBE`].
pub(crate) const UNSUBSCRIBE: &str = "unsubscribe";
/// See [`SUBSCRIBE`].
pub(crate) const SUBSCRIPTIONS: &str = "subscriptions";

/// A body that is sent as it came. It is in [`Command::body`].
pub struct AnyJson;

impl Body for AnyJson {
    fn schema() -> Schema {
        json_schema!({ "description": "Any JSON, sent as it is" })
    }

    fn read(_: &Command) -> Result<Self> {
        Ok(Self)
    }
}

/// Stands for the whole body in what is sent.
pub(crate) const BODY: &str = "body";

/// The join of a caller's body. `key` is where it has what tells it apart; the whole body does without.
///
/// # Errors
/// `Rejected` if the body lacks that.
pub(crate) fn join(key: Option<&Pointer>, body: &RawValue) -> Result<Join> {
    let found = match key {
        None => Some(body.get().to_owned()),
        Some(key) => {
            key.find(&Json::new(body.get())).map(|found| text_of(found).unwrap_or_else(|| found.to_owned()))
        }
    };
    let key = found.ok_or_else(|| {
        let at = key.map_or("", Pointer::as_str);
        Error::rejected(Code::BadBody, format!("the body lacks {at}, which tells subscriptions apart")).at(at)
    })?;
    Ok(Join { key, data: body.to_owned() })
}

/// The bodies of all subscriptions, as a list.
pub(crate) fn list<F>(out: &Outbox<F>) -> Result<Box<RawValue>> {
    let bodies: Vec<_> = out.joins().iter().map(|join| join.data.get()).collect();
    RawValue::from_string(format!("[{}]", bodies.join(",")))
        .map_err(|error| Error::internal(error.to_string()))
}

/// What a name in what is sent stands for: the body, a part of it, or what else is known.
pub(crate) fn value(name: &str, body: &RawValue, named: ValueOf<'_>) -> Option<String> {
    match name {
        BODY => Some(body.get().to_owned()),
        pointer if pointer.starts_with('/') => {
            let pointer = pointer.parse::<Pointer>().ok()?;
            pointer.find(&Json::new(body.get())).map(str::to_owned)
        }
        name => named(name),
    }
}
