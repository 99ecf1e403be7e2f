//! Conversations written down as text, and a player that holds a session to one, without sockets.
//!
//! A transcript is one conversation over one link. The same file serves a unit test ([`play()`]), a simulator that
//! plays the service, and an end-to-end test against the real daemon: all of them read [`Transcript::steps`].
//!
//! ```text
//! # A balance is requested, and answered.
//! config {"url":"wss://example.test/ws"}
//! bus <- call.fetch-balance {"currency":"EUR"}
//! up  -> {"resource":"fetch-balance","action":"fetch-balance","payload":{"currency":"EUR"}}
//! up  <- {"uid":null,"action":"fetch-balance","data":{"wallet_balance":12}}
//! reply  response {"wallet_balance":12}
//! ```
//!
//! `connectors/README.md` describes the lines that there are.

mod frame_text;
mod parse;
mod pattern;
mod play;
mod sample;

use std::time::Duration;

use serde_json::Value;

use pontoon_sdk::error::Kind;
use pontoon_sdk::event::EventType;

pub use frame_text::FrameText;
pub use pattern::Names;
pub use play::{play, play_folder};
pub use sample::check_sample;

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
    /// What it says.
    pub kind: StepKind,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// `up open`
    Open,
    /// `up <-`: a frame from the service, as text; see [`FrameText`].
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
    /// `up close`: the session ends the connection, for a reason with these words in it.
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
    /// What is said of the command.
    pub status: Status,
    /// The error's code, where the status has one.
    pub code: Option<u16>,
    /// The data as JSON, or words of the error's message; empty for any.
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
    /// Written, and nobody knows.
    Unknown,
    /// Refused before anything was sent.
    Rejected,
    /// Its time ran out before it was sent.
    Expired,
}

impl Status {
    const ALL: [Self; 7] =
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

/// The README of the connectors, whose example is run here.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ConnectorsReadme;
