//! The replies to commands, each made once for all callers that get it.

use std::rc::Rc;

use bytes::Bytes;
use pontoon_sdk::{Code, Error};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::metrics::Outcome;

/// A reply to a command.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How the command ended; `None` if this is a part, and more follows.
    pub outcome: Option<Outcome>,
    /// Code and text of an error, for the headers.
    pub error: Option<(u16, String)>,
    /// The command's id in replies.
    pub id: String,
    /// The body.
    pub body: Bytes,
    /// Whether it ends only one attempt of a job, which is tried again.
    pub repeated: bool,
}

impl Answer {
    /// The status, for the header.
    pub fn status(&self) -> &'static str {
        self.outcome.map_or("part", Outcome::as_str)
    }

    /// The same outcome without the data, for `why` they are left out (413).
    pub fn without_data(&self, why: String) -> Self {
        let code = Code::TooLarge.number();
        let fault = Some(Fault { code, message: &why });
        let body =
            serde_json::to_vec(&Body { status: self.status(), id: &self.id, data: None, error: fault });
        let body = body.unwrap_or_default().into();
        Self {
            outcome: self.outcome,
            id: self.id.clone(),
            error: Some((code, why)),
            body,
            repeated: self.repeated,
        }
    }

    /// How many bytes it takes in memory, about.
    pub fn size(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |(_, text)| text.len());
        size_of::<Self>() + self.id.len() + error + self.body.len()
    }
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

/// Whether a command that ended so may have been done, so that its key is used up.
pub(crate) fn may_be_done(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Rejected | Outcome::Failed | Outcome::Expired | Outcome::BadReply)
}

/// How a command ended, by its error.
pub(crate) fn outcome_of(error: &Error) -> Outcome {
    match error.code() {
        Code::NotConnected | Code::Bug | Code::Refused => Outcome::Failed,
        Code::Expired => Outcome::Expired,
        Code::NoAnswer => Outcome::Unknown,
        _ => Outcome::Rejected,
    }
}

/// Makes an answer; a part if it has no outcome.
pub(crate) fn compose(
    name: &str,
    outcome: Option<Outcome>,
    data: Option<&RawValue>,
    error: Option<&Error>,
) -> Option<Rc<Answer>> {
    let text = error.map(ToString::to_string);
    let fault = error.zip(text.as_deref());
    let fault = fault.map(|(error, message)| Fault { code: error.code().number(), message });
    let error = error.map(|error| error.code().number()).zip(text.clone());
    let mut answer = Answer { outcome, error, id: name.to_owned(), body: Bytes::new(), repeated: false };
    let body = Body { status: answer.status(), id: name, data, error: fault };
    answer.body = serde_json::to_vec(&body).ok()?.into();
    Some(Rc::new(answer))
}
