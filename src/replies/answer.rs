//! What callers are told, made once for all who are told it.

use std::sync::Arc;

use bytes::Bytes;
use pontoon_sdk::{Code, Error};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::metrics::Outcome;

/// What a caller is told.
#[derive(Debug)]
pub struct Answer {
    /// The status, for the header.
    pub status: &'static str,
    /// Code and text of an error, for the headers.
    pub error: Option<(u16, String)>,
    /// The command's name for people.
    pub id: String,
    /// The body.
    pub body: Bytes,
}

#[derive(Serialize)]
struct Body<'a> {
    status: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault<'a>>,
}

#[derive(Serialize)]
struct Fault<'a> {
    code: u16,
    message: &'a str,
}

/// Whether a key is used up by a command that ended so.
pub(super) fn may_be_done(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Rejected | Outcome::Failed | Outcome::Expired | Outcome::BadReply)
}

/// What an error says of its command.
pub(super) fn outcome_of(error: &Error) -> Outcome {
    match error.code() {
        Code::NotConnected | Code::Bug | Code::Refused => Outcome::Failed,
        Code::Expired => Outcome::Expired,
        Code::NoAnswer => Outcome::Unknown,
        _ => Outcome::Rejected,
    }
}

pub(super) fn compose(
    name: &str,
    status: &'static str,
    data: Option<&RawValue>,
    error: Option<&Error>,
) -> Option<Arc<Answer>> {
    let text = error.map(ToString::to_string);
    let fault = error.zip(text.as_deref());
    let fault = fault.map(|(error, message)| Fault { code: error.code().number(), message });
    let body = serde_json::to_vec(&Body { status, id: name, data, error: fault }).ok()?;
    let error = error.zip(text).map(|(error, text)| (error.code().number(), text));
    Some(Arc::new(Answer { status, error, id: name.to_owned(), body: body.into() }))
}
