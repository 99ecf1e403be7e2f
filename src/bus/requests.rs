//! Requests that connectors send over NATS, to the subjects that their settings list.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use pontoon_sdk::{Code, Error, Raw, Result, Subjects};
use tokio::sync::watch;

use super::jetstream::{self, StreamError};
use super::replies::Target;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request, and the largest answer, in bytes.
const LARGEST: usize = 1 << 20;

/// Sends requests for the sessions of an instance.
#[derive(Default)]
pub struct Requester {
    /// Where they may go.
    subjects: Subjects,
    /// The connection of the instance, once there is one.
    target: RefCell<Option<watch::Receiver<Target>>>,
}

impl Requester {
    /// Sends requests to these subjects only.
    pub fn new(subjects: Subjects) -> Self {
        Self { subjects, target: RefCell::default() }
    }

    /// Sends them over this connection from now on.
    pub fn send_over(&self, target: watch::Receiver<Target>) {
        self.target.replace(Some(target));
    }

    /// Sends a request, and waits for the first answer.
    pub fn request(&self, subject: String, body: &Raw) -> impl Future<Output = Result<Raw>> + use<> {
        let client = self.target.borrow().as_ref().map(|target| target.borrow().client.clone());
        let allowed = self.subjects.allow(&subject);
        let body = Bytes::copy_from_slice(body.as_bytes());
        async move {
            if !allowed {
                let text = format!("the settings do not list the subject {subject}; add it to ask");
                return Err(Error::rejected(Code::Forbidden, text));
            }
            let too_large = |what: &str| {
                Error::rejected(Code::TooLarge, format!("the {what} is larger than {LARGEST} bytes"))
            };
            if body.len() > LARGEST {
                return Err(too_large("request"));
            }
            let client = client
                .ok_or_else(|| Error::rejected(Code::NotConnected, "there is no connection to NATS yet"))?;
            let answer =
                jetstream::exchange(&client, subject, None, body, TIMEOUT).await.map_err(|error| {
                    let code = match error {
                        StreamError::NoResponders(_) => Code::NotFound,
                        StreamError::TooLarge => Code::TooLarge,
                        StreamError::TimedOut(_) => Code::NoAnswer,
                        _ => Code::NotConnected,
                    };
                    Error::rejected(code, error.to_string())
                })?;
            let refused = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
            if let Some(refused) = refused {
                Err(Error::rejected(Code::Refused, refused.as_str()))
            } else if answer.payload.len() > LARGEST {
                Err(too_large("answer"))
            } else {
                Ok(Raw::of_bytes(&answer.payload))
            }
        }
    }
}
