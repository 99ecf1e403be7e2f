//! Commands that the daemon keeps because the session has not taken them yet.

use std::collections::VecDeque;

use pontoon_sdk::command::{Command, CommandId};
use pontoon_sdk::connector::OnDemandLimits;
use pontoon_sdk::error::{Code, Error, Result};

/// Held back, in order.
pub(super) struct HeldBack<R>(VecDeque<Held<R>>);

pub(super) struct Held<R> {
    pub(super) command: Command,
    pub(super) request: R,
    /// Whether it waits for a link that is down.
    pub(super) patient: bool,
}

impl<R> Default for HeldBack<R> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<R> HeldBack<R> {
    /// Holds one more back, or refuses it as the daemon does.
    pub(super) fn add(&mut self, held: Held<R>, bounds: &OnDemandLimits) -> Result<()> {
        let size = |held: &Held<R>| held.command.body.get().len();
        let bytes: usize = self.0.iter().map(size).sum();
        let too_many = self.0.len() >= bounds.commands
            || (bytes > 0 && size(&held) > bounds.bytes.saturating_sub(bytes));
        if held.patient && too_many {
            let waiting = self.0.len();
            return Err(Error::rejected(
                Code::TooMany,
                format!("{waiting} commands wait for this link already"),
            ));
        }
        self.0.push_back(held);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<(R, Command)> {
        self.0.pop_front().map(|held| (held.request, held.command))
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
