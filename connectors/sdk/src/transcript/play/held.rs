//! Commands that the daemon keeps because the session has not taken them yet.

use std::collections::VecDeque;

use crate::command::{Command, CommandId};

/// Held back, in order.
#[derive(Default)]
pub(super) struct HeldBack(VecDeque<Held>);

pub(super) struct Held {
    pub(super) command: Command,
    /// Whether it waits for a link that is down.
    pub(super) patient: bool,
}

impl HeldBack {
    pub(super) fn add(&mut self, held: Held) {
        self.0.push_back(held);
    }

    pub(super) fn take(&mut self) -> Option<Command> {
        self.0.pop_front().map(|held| held.command)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, id: CommandId) -> bool {
        self.0.iter().any(|held| held.command.id == id)
    }

    /// Whether it was held back.
    pub(super) fn remove(&mut self, id: CommandId) -> bool {
        let before = self.0.len();
        self.0.retain(|held| held.command.id != id);
        self.0.len() < before
    }

    /// The link is down: those that do not wait for it are no more.
    pub(super) fn refuse_impatient(&mut self) {
        self.0.retain(|held| held.patient);
    }
}
