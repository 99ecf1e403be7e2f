//! The reply to a command whose answer has come, and the error that a service reports in one.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::json::text as text_of;
use pontoon_sdk::{DeliveryLevel, Object, Reply};
use serde_json::value::RawValue;

/// Where services write the text of an error, and its code.
const TEXTS: [&str; 6] = ["message", "msg", "description", "reason", "detail", "error"];
/// See [`TEXTS`].
const CODES: [&str; 5] = ["code", "status_code", "errno", "status", "type"];

/// The reply with the data of an answer, to a command that is promised no more than `delivery`.
pub(crate) fn reply(delivery: DeliveryLevel, data: Box<RawValue>) -> Reply {
    match delivery {
        DeliveryLevel::Response => Reply::Response(data),
        DeliveryLevel::Accepted | DeliveryLevel::Sent | DeliveryLevel::Acked => Reply::Acked(data),
    }
}

/// Whether a value is not an error: `null`, `false`, `0` or an empty string.
pub(crate) fn is_no_error(json: &str) -> bool {
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
