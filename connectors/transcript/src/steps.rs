//! A transcript as the player has it: a step for each line.

use std::time::Duration;

use pontoon_sdk::error::Kind;
use pontoon_sdk::event::EventType;
use serde_json::Value;

/// One conversation, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// The file's name, for messages.
    pub name: String,
    /// The instance's settings; `{}` where the file gives none.
    pub config: Value,
    /// The link whose conversation it is, if the file says.
    pub link: Option<String>,
    /// What happens, in order; the first step is [`StepKind::Open`].
    pub steps: Vec<Step>,
}

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its number in the file, from 1.
    pub line: usize,
    /// What happens, or is expected.
    pub kind: StepKind,
}

/// What a line lets happen, or expects.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// `up open`
    Open,
    /// `up <-`: a frame from the service, as text; see [`FrameText`](crate::FrameText).
    FromService(String),
    /// `up ->`: a frame to the service, as text.
    ToService(String),
    /// `up closed`: the service ends the connection.
    Closed {
        /// Its close code.
        code: Option<u16>,
        /// Its reason; may be empty.
        reason: String,
    },
    /// `up close`: the session ends the connection, for a reason with this text in it.
    Close(String),
    /// `ends`: what the session made of the end.
    Ends(Kind),
    /// `ready`
    Ready,
    /// `join`
    Join {
        /// The join's key.
        key: String,
        /// Its data, if the line gives it.
        data: Option<Value>,
    },
    /// `forget`: the key of a join.
    Forget(String),
    /// `ask ->`: a request over NATS.
    Ask {
        /// Where it goes.
        subject: String,
        /// What is asked, as JSON.
        body: Value,
    },
    /// `ask <-` or `ask failed`: the answer to the oldest request that waits for one, as written, or why there is none.
    Answer(Result<String, String>),
    /// `bus <-`
    Command(CommandStep),
    /// `bus ->`
    Event(EventStep),
    /// `reply`
    Reply(ReplyStep),
    /// `sent`: the label of a command.
    Sent(String),
    /// `wait`
    Wait(Duration),
    /// `timeout`: the label of a command.
    Timeout(String),
}

/// A command on the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandStep {
    /// What later lines call it.
    pub label: String,
    /// The operation with its argument, as written.
    pub operation: String,
    /// The body, as written.
    pub body: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

/// An event that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct EventStep {
    /// Its type.
    pub kind: EventType,
    /// Fields of the body, `raw` included.
    pub fields: Value,
    /// Its scope: `Some(None)` where the line says that there is none (`scope=_`).
    pub scope: Option<Option<String>>,
    /// The service's own name for it, if the line gives it.
    pub upstream: Option<String>,
}

/// A reply that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplyStep {
    /// The command's label.
    pub label: String,
    /// The status of the command.
    pub status: Status,
    /// The error's code, where the status has one.
    pub code: Option<u16>,
    /// The data as JSON, or a part of the error's message; empty for any.
    pub text: String,
}

/// The word in the header `Pontoon-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// One more part.
    Part,
    /// Acknowledged by the service.
    Acked,
    /// Answered by the service.
    Response,
    /// Certainly not done.
    Failed,
    /// Written; the outcome is not known.
    Unknown,
    /// Refused before anything was sent.
    Rejected,
    /// Its time ran out before it was sent.
    Expired,
}

impl Status {
    pub(crate) const ALL: [Self; 7] =
        [Self::Part, Self::Acked, Self::Response, Self::Failed, Self::Unknown, Self::Rejected, Self::Expired];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Acked => "acked",
            Self::Response => "response",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }

    /// Whether a reply with this status carries data; the others carry an error.
    pub fn has_data(self) -> bool {
        matches!(self, Self::Part | Self::Acked | Self::Response)
    }
}
