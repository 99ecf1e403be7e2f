//! The acknowledgements that a session waits for.

use std::collections::BTreeMap;

use crate::command::CommandId;

/// How many acknowledgements that no caller waits for are still understood when they come.
const MAX_ABANDONED: usize = 1_024;

/// The acknowledgements that are waited for on one connection, each with what was asked.
///
/// One that comes after its caller was given up is still recognised, so that it can be published as an event.
#[derive(Debug)]
pub struct Calls<T> {
    next: u64,
    waiting: BTreeMap<u64, Answered<T>>,
    abandoned: usize,
}

/// A call whose acknowledgement came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// The command that it carries out, unless its caller waits no more.
    pub command: Option<CommandId>,
    /// What was asked.
    pub asked: T,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new(), abandoned: 0 }
    }
}

impl<T> Calls<T> {
    /// Notes a call, and returns the number to ask for its acknowledgement with.
    pub fn begin(&mut self, command: CommandId, asked: T) -> u64 {
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, Answered { command: Some(command), asked });
        id
    }

    /// The call that this acknowledgement belongs to, once.
    pub fn take(&mut self, id: u64) -> Option<Answered<T>> {
        let answered = self.waiting.remove(&id)?;
        self.abandoned -= usize::from(answered.command.is_none());
        Some(answered)
    }

    /// Notes that a caller waits no more. `sent` is whether the call may have been written; if not, no
    /// acknowledgement can come.
    pub fn abandon(&mut self, command: CommandId, sent: bool) {
        let known = self.waiting.iter_mut().find(|(_, call)| call.command == Some(command));
        let Some((&id, call)) = known else { return };
        call.command = None;
        self.abandoned += 1;
        if !sent {
            self.take(id);
        } else if self.abandoned > MAX_ABANDONED {
            let oldest = self.waiting.iter().find(|(_, call)| call.command.is_none()).map(|(id, _)| *id);
            oldest.and_then(|id| self.take(id));
        }
    }

    /// How many are waited for, by callers or not.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_acknowledgement_is_known_and_has_no_caller() {
        let mut calls = Calls::default();
        let first = calls.begin(CommandId(1), "a");
        let second = calls.begin(CommandId(2), "b");
        let third = calls.begin(CommandId(3), "c");
        calls.abandon(CommandId(1), true);
        calls.abandon(CommandId(3), false);
        assert_eq!(calls.take(first), Some(Answered { command: None, asked: "a" }));
        assert_eq!(calls.take(first), None);
        assert_eq!(calls.take(second), Some(Answered { command: Some(CommandId(2)), asked: "b" }));
        assert_eq!(calls.take(third), None);
        assert!(calls.is_empty() && calls.abandoned == 0);
    }

    #[test]
    fn what_nobody_waits_for_is_bounded() {
        let mut calls = Calls::default();
        for number in 0..5_000 {
            calls.begin(CommandId(number), ());
            calls.abandon(CommandId(number), true);
        }
        assert_eq!(calls.len(), MAX_ABANDONED);
        assert!(calls.take(4_999).is_some());
    }
}
