//! Callers who wait for an agent's answer. The service does not say what a message answers; the answer is by definition
//! the next message of an agent in the room after ours was acknowledged.

use std::collections::HashMap;

use pontoon_sdk::{Code, CommandId, Error, Result, Uuid};

/// One caller in each room.
#[derive(Default)]
pub(crate) struct Answers(HashMap<String, Answer>);

struct Answer {
    command: CommandId,
    /// Who wrote the message: what he says is no answer to it.
    writer: Uuid,
    since: Option<Since>,
    /// The message that is coming in parts.
    message: Option<String>,
}

/// What can be the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since {
    /// No message that came in parts before this one did.
    pub(crate) stream: u64,
    /// None that was written before this, in milliseconds since 1970.
    pub(crate) written: Option<i64>,
}

/// A message of somebody else, for the first time.
pub(crate) struct Candidate<'a> {
    pub(crate) room: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) sender: Option<&'a str>,
    /// Its number among all that came in parts, if it did.
    pub(crate) stream: Option<u64>,
    pub(crate) written: Option<i64>,
}

impl Answers {
    /// A caller will wait in this room.
    pub(crate) fn claim(&mut self, room: &str, command: CommandId, writer: Uuid) -> Result<()> {
        if self.0.contains_key(room) {
            let text =
                "another caller waits for the agent's answer in this room; answers could not be told apart";
            return Err(Error::rejected(Code::TooMany, text));
        }
        self.0.insert(room.to_owned(), Answer { command, writer, since: None, message: None });
        Ok(())
    }

    /// The message of this caller was taken: what comes from now on can be its answer.
    pub(crate) fn listen(&mut self, command: CommandId, since: Since) {
        if let Some(answer) = self.0.values_mut().find(|answer| answer.command == command) {
            answer.since = Some(since);
        }
    }

    /// Whose answer this part belongs to. The first part of a message decides which message it is.
    pub(crate) fn part(&mut self, room: &str, id: &str, stream: u64) -> Option<CommandId> {
        let answer = self.0.get_mut(room)?;
        let since = answer.since?;
        match &answer.message {
            Some(message) => (message == id).then_some(answer.command),
            None if stream >= since.stream => {
                answer.message = Some(id.to_owned());
                Some(answer.command)
            }
            None => None,
        }
    }

    /// Whose answer this message is.
    pub(crate) fn message(&mut self, candidate: &Candidate<'_>) -> Option<CommandId> {
        let answer = self.0.get(candidate.room)?;
        let since = answer.since?;
        let is_it = match &answer.message {
            Some(message) => candidate.id == Some(message.as_str()),
            None => {
                let other = candidate.sender.is_none_or(|sender| sender.parse() != Ok(answer.writer));
                let late = candidate.stream.is_none_or(|stream| stream >= since.stream);
                let written = candidate.written.zip(since.written);
                other && late && written.is_none_or(|(written, ours)| written >= ours)
            }
        };
        if is_it { self.0.remove(candidate.room).map(|answer| answer.command) } else { None }
    }

    /// Whose answer broke off with this message.
    pub(crate) fn broke(&mut self, room: &str, id: Option<&str>, stream: Option<u64>) -> Option<CommandId> {
        self.message(&Candidate { room, id, sender: None, stream, written: None })
    }

    /// Nobody waits any more, of those who did.
    pub(crate) fn clear(&mut self) -> Vec<CommandId> {
        self.0.drain().map(|(_, answer)| answer.command).collect()
    }

    /// A caller waits no more.
    pub(crate) fn release(&mut self, command: CommandId) {
        self.0.retain(|_, answer| answer.command != command);
    }
}
