//! What a service is asked to do, and the reply to the caller.

pub(crate) mod id;

use std::time::Instant;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Code, Error, Result};
use crate::event::Fields;

pub use self::id::CommandId;

/// How much is known when a reply is sent, in rising order (`Pontoon-Wait`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryLevel {
    /// Checked and queued.
    Accepted,
    /// Written to the socket.
    Sent,
    /// The service acknowledged it.
    Acked,
    /// The service answered it.
    Response,
}

impl DeliveryLevel {
    /// The word for it in headers, replies and metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Acked => "acked",
            Self::Response => "response",
        }
    }
}

impl std::str::FromStr for DeliveryLevel {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        [Self::Accepted, Self::Sent, Self::Acked, Self::Response]
            .into_iter()
            .find(|delivery| delivery.as_str() == word)
            .ok_or_else(|| {
                Error::rejected(
                    Code::BadBody,
                    format!("Pontoon-Wait is \"{word}\"; it can be accepted, sent, acked or response"),
                )
            })
    }
}

/// One message from the bus to a service.
#[derive(Debug)]
pub struct Command {
    /// Its name while it is under way.
    pub id: CommandId,
    /// The operation as the connector lists it, such as `call`.
    pub operation: &'static str,
    /// What follows the operation in the subject, decoded: the resource of `call.<resource>`.
    pub argument: Option<String>,
    /// The body, checked to be JSON; an empty message is `{}`.
    pub body: Box<RawValue>,
    /// The `Pontoon-*` headers that the daemon does not use up itself.
    pub headers: Vec<(String, String)>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Whether the caller wants parts before the answer.
    pub stream: bool,
}

impl Command {
    /// The first value of a header, by name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// `Rejected` with code 400 that says what is wrong.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        let mut json = serde_json::Deserializer::from_str(self.body.get());
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (pointer, error) = (pointer(error.path()), error.into_inner());
            // The pointer says where.
            let place = format!(" at line {} column {}", error.line(), error.column());
            let text = error.to_string();
            let text = text.strip_suffix(&place).unwrap_or(&text);
            let text = format!("the body is not what {} takes: {text}", self.operation);
            Error::rejected(Code::BadBody, text).at(pointer)
        })
    }
}

/// What a session replies to a command. All but `Part` are final.
#[derive(Debug)]
pub enum Reply {
    /// One more part of a streamed answer.
    Part(Box<RawValue>),
    /// The service acknowledged the command, with this.
    Acked(Box<RawValue>),
    /// The service's answer.
    Response(Box<RawValue>),
    /// It was certainly not done.
    Failed(Error),
    /// It was written, and it is not known what became of it.
    Unknown(Error),
}

impl Reply {
    /// One more part of a streamed answer, as [`Streams::push`](crate::streams::Streams::push) returns it.
    ///
    /// # Errors
    /// `Internal` if it cannot be written as JSON.
    pub fn part(part: &Fields) -> Result<Self> {
        to_raw_value(part).map(Self::Part).map_err(|error| Error::internal(error.to_string()))
    }
}

/// The JSON pointer (RFC 6901) of a place in a body.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        let token = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&token);
    }
    pointer
}
