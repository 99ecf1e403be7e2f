//! The callers: labels, deadlines, what was sent and what was replied.

use std::time::{Duration, Instant};

use pontoon_sdk::command::{Command, CommandId, DeliveryLevel, Reply};
use pontoon_sdk::operations::Operation;
use pontoon_sdk::units::Span;
use serde_json::value::RawValue;

use crate::steps::CommandStep;

/// How long a caller waits where neither the connector nor the command sets a timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Every command of the transcript so far; a command's id is its place here, from 1.
#[derive(Default)]
pub(super) struct Callers(Vec<Caller>);

struct Caller {
    label: String,
    deadline: Instant,
    /// What its operation promises.
    delivery: DeliveryLevel,
    sent: bool,
    end: Option<Answer>,
}

#[derive(PartialEq)]
enum Answer {
    Given,
    OutOfTime,
}

/// Splits an operation as it is written into one of the list and its argument.
pub(super) fn find(operations: Vec<Operation>, written: &str) -> Option<(Operation, Option<String>)> {
    operations
        .into_iter()
        .filter_map(|operation| match written.strip_prefix(operation.name)? {
            "" => Some((operation, None)),
            rest => {
                operation.argument?;
                let argument = rest.strip_prefix('.')?.to_owned();
                Some((operation, Some(argument)))
            }
        })
        .max_by_key(|(operation, _)| operation.name.len())
}

impl Callers {
    pub(super) fn add(
        &mut self,
        step: &CommandStep,
        operation: &Operation,
        argument: Option<String>,
        body: &str,
        now: Instant,
        timeout: Option<Duration>,
    ) -> Result<Command, String> {
        let header = |name: &str| {
            let found = step.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let span = match header("Pontoon-Timeout") {
            Some(text) => text.parse::<Span>()?.0,
            None => timeout.unwrap_or(DEFAULT_TIMEOUT),
        };
        let deadline = now + span;
        self.0.push(Caller {
            label: step.label.clone(),
            deadline,
            delivery: operation.delivery,
            sent: false,
            end: None,
        });
        Ok(Command {
            id: CommandId(self.0.len() as u64),
            operation: operation.name,
            argument,
            body: RawValue::from_string(body.to_owned()).map_err(|error| error.to_string())?,
            headers: step.headers.clone(),
            deadline,
            stream: header("Pontoon-Stream") == Some("true"),
        })
    }

    /// A command that the daemon refuses by itself.
    pub(super) fn add_refused(&mut self, label: &str) -> String {
        self.0.push(Caller {
            label: label.to_owned(),
            deadline: Instant::now(),
            delivery: DeliveryLevel::Accepted,
            sent: false,
            end: Some(Answer::Given),
        });
        label.to_owned()
    }

    /// Notes that a command's frame was written.
    pub(super) fn sent(&mut self, id: CommandId) -> Result<(), String> {
        let caller = self.of(id)?;
        if caller.end.is_some() {
            return Err(format!("a frame is sent for #{}, whose caller waits no more", caller.label));
        }
        caller.sent = true;
        Ok(())
    }

    /// Notes that no more than this is promised to a command.
    pub(super) fn delivery(&mut self, id: CommandId, delivery: DeliveryLevel) -> Result<(), String> {
        let caller = self.of(id)?;
        caller.delivery = caller.delivery.min(delivery);
        Ok(())
    }

    /// Ends those to whom no more is promised: once their frames are written, or at once.
    pub(super) fn settle_sent(&mut self) {
        let done = |caller: &&mut Caller| {
            caller.delivery == DeliveryLevel::Accepted
                || caller.sent && caller.delivery <= DeliveryLevel::Sent
        };
        for caller in self.0.iter_mut().filter(done) {
            caller.end.get_or_insert(Answer::Given);
        }
    }

    /// Notes a reply, and returns whose it is.
    pub(super) fn reply(&mut self, id: CommandId, reply: &Reply) -> Result<String, String> {
        let caller = self.of(id)?;
        if caller.end.is_some() {
            return Err(format!("the session answers #{}, whose caller waits no more", caller.label));
        }
        if !matches!(reply, Reply::Part(_)) {
            caller.end = Some(Answer::Given);
        }
        Ok(caller.label.clone())
    }

    /// Notes that the daemon answers; `None` if the caller had an answer.
    pub(super) fn answered(&mut self, id: CommandId) -> Option<String> {
        let caller = self.of(id).ok().filter(|caller| caller.end.is_none())?;
        caller.end = Some(Answer::Given);
        Some(caller.label.clone())
    }

    /// When the daemon gives up on a command, or now if it has.
    pub(super) fn deadline(&mut self, label: &str) -> Result<Instant, String> {
        match self.0.iter().find(|caller| caller.label == label) {
            Some(Caller { end: Some(Answer::Given), .. }) => Err(format!("#{label} is answered already")),
            Some(caller) => Ok(caller.deadline),
            None => Err(format!("there is no command #{label}")),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().filter(|caller| caller.end.is_none()).map(|caller| caller.deadline).min()
    }

    /// One command whose time has run out, which is thereby given up on.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<(CommandId, String, bool)> {
        let due = |caller: &&mut Caller| caller.end.is_none() && caller.deadline <= now;
        let (index, caller) = self.0.iter_mut().enumerate().find(|(_, caller)| due(caller))?;
        caller.end = Some(Answer::OutOfTime);
        Some((CommandId(index as u64 + 1), caller.label.clone(), caller.sent))
    }

    /// All that still wait, with whether their frames were written, but for those that wait for the next connection.
    /// They no longer wait.
    pub(super) fn cut_off(&mut self, waits_on: impl Fn(CommandId) -> bool) -> Vec<(CommandId, String, bool)> {
        let mut cut_off = Vec::new();
        for (index, caller) in self.0.iter_mut().enumerate() {
            let id = CommandId(index as u64 + 1);
            if caller.end.is_none() && !waits_on(id) {
                caller.end = Some(Answer::Given);
                cut_off.push((id, caller.label.clone(), caller.sent));
            }
        }
        cut_off
    }

    pub(super) fn expect_sent(&self, label: &str) -> Result<(), String> {
        match self.0.iter().find(|caller| caller.label == label) {
            Some(caller) if caller.sent => Ok(()),
            _ => Err(format!("expected that the frame of #{label} was sent; it was not")),
        }
    }

    fn of(&mut self, id: CommandId) -> Result<&mut Caller, String> {
        let index = usize::try_from(id.0).ok().and_then(|id| id.checked_sub(1));
        index
            .and_then(|index| self.0.get_mut(index))
            .ok_or_else(|| format!("the session names a command that it was never given: {id:?}"))
    }
}
