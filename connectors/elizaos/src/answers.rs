//! Callers that wait for an agent's answer. The service does not say which message an answer belongs to; the answer is by
//! definition the next message of an agent in the room after ours was acknowledged.

use std::collections::HashMap;

use pontoon_sdk::{Code, CommandId, Error, Result};

use crate::uuid::Uuid;

/// The callers, one in each room.
#[derive(Default)]
pub(crate) struct Answers(HashMap<String, Answer>);

struct Answer {
    command: CommandId,
    /// The entity that wrote the message: what it writes is no answer to it.
    writer: Uuid,
    after: Option<After>,
    /// The id of the answer, once a part of it was received.
    id: Option<String>,
}

/// What an answer comes after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After {
    /// How many messages had begun to come in parts.
    pub(crate) streams: u64,
    /// When our message was written, in nanoseconds since 1970.
    pub(crate) written: Option<i128>,
}

/// A new message of another entity.
pub(crate) struct Candidate<'a> {
    pub(crate) room: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) sender: Option<&'a str>,
    /// Its number among the messages that came in parts, if it did.
    pub(crate) stream: Option<u64>,
    /// When it was written, in nanoseconds since 1970.
    pub(crate) written: Option<i128>,
}

impl Answers {
    /// Adds a caller, whose message is not acknowledged yet.
    ///
    /// # Errors
    /// `Rejected` with 429 if another waits in the room.
    pub(crate) fn add(&mut self, room: &str, command: CommandId, writer: Uuid) -> Result<()> {
        if self.0.contains_key(room) {
            let text =
                "another caller waits for the agent's answer in this room; answers could not be told apart";
            return Err(Error::rejected(Code::TooMany, text));
        }
        self.0.insert(room.to_owned(), Answer { command, writer, after: None, id: None });
        Ok(())
    }

    /// Whether the caller of a command waits for an answer.
    pub(crate) fn contains(&self, command: CommandId) -> bool {
        self.0.values().any(|answer| answer.command == command)
    }

    /// The message of a command was acknowledged: its answer can come from now on.
    pub(crate) fn acknowledged(&mut self, command: CommandId, after: After) {
        if let Some(answer) = self.0.values_mut().find(|answer| answer.command == command) {
            answer.after = Some(after);
        }
    }

    /// Finds the caller that a part of a message belongs to. The first part decides which message is the answer.
    pub(crate) fn part(&mut self, room: &str, id: &str, stream: u64) -> Option<CommandId> {
        let answer = self.0.get_mut(room)?;
        let begins = answer.id.is_none() && stream >= answer.after?.streams;
        if begins {
            answer.id = Some(id.to_owned());
        }
        (answer.id.as_deref() == Some(id)).then_some(answer.command)
    }

    /// Takes the caller that a message is the answer for.
    pub(crate) fn take(&mut self, candidate: &Candidate<'_>) -> Option<CommandId> {
        let answer = self.0.get(candidate.room)?;
        let after = answer.after?;
        let is_it = match &answer.id {
            Some(id) => candidate.id == Some(id.as_str()),
            None => {
                let is_other = candidate.sender.is_none_or(|sender| sender.parse() != Ok(answer.writer));
                let begun_after = candidate.stream.is_none_or(|stream| stream >= after.streams);
                let times = candidate.written.zip(after.written);
                is_other && begun_after && times.is_none_or(|(written, ours)| written >= ours)
            }
        };
        if is_it { self.0.remove(candidate.room).map(|answer| answer.command) } else { None }
    }

    /// Drops a caller.
    pub(crate) fn remove(&mut self, command: CommandId) {
        self.0.retain(|_, answer| answer.command != command);
    }
}
