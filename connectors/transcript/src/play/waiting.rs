//! Commands that the daemon keeps because the session has not taken them yet.

use std::collections::VecDeque;

use pontoon_sdk::OnDemandLimits;
use pontoon_sdk::command::{Command, CommandId};
use pontoon_sdk::error::{Code, Error, Result};

/// The commands that wait, in order.
pub(super) struct WaitingCommands<R>(VecDeque<Waiting<R>>);

/// A command that the session has not taken yet.
pub(super) struct Waiting<R> {
    pub(super) command: Command,
    pub(super) request: R,
    /// Whether it waits for a link that is down.
    pub(super) on_demand: bool,
}

impl<R> Default for WaitingCommands<R> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<R> WaitingCommands<R> {
    /// Adds one more, or refuses it as the daemon does.
    pub(super) fn add(&mut self, waiting: Waiting<R>, bounds: &OnDemandLimits) -> Result<()> {
        let size = |waiting: &Waiting<R>| waiting.command.body.get().len();
        let bytes: usize = self.0.iter().map(size).sum();
        let too_many = self.0.len() >= bounds.commands
            || (bytes > 0 && size(&waiting) > bounds.bytes.saturating_sub(bytes));
        if waiting.on_demand && too_many {
            let waiting = self.0.len();
            return Err(Error::rejected(
                Code::TooMany,
                format!("{waiting} commands wait for this link already"),
            ));
        }
        self.0.push_back(waiting);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<(R, Command)> {
        self.0.pop_front().map(|waiting| (waiting.request, waiting.command))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, id: CommandId) -> bool {
        self.0.iter().any(|waiting| waiting.command.id == id)
    }

    /// Removes a command, and returns whether it waited.
    pub(super) fn remove(&mut self, id: CommandId) -> bool {
        let before = self.0.len();
        self.0.retain(|waiting| waiting.command.id != id);
        self.0.len() < before
    }

    /// The link is down: drops those that do not wait for it.
    pub(super) fn keep_on_demand(&mut self) {
        self.0.retain(|waiting| waiting.on_demand);
    }
}
