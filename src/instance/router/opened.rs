//! Links that commands have opened or closed are opened or closed again by the next run.

use std::time::Instant;

use pontoon_sdk::{Command, CommandId, Error, LinkKey, Result, Route};
use serde_json::value::RawValue;

use super::{Lifetime, Router};
use crate::bus::checkpoints::Part;
use crate::transport::Dial;

/// What is kept of a command: its operation, its argument and its body.
type Kept = (String, Option<String>, String);

impl<T: Dial> Router<T> {
    /// A command has opened a link, which the next run opens by it, unless it is `None`.
    pub(super) fn keep_opening(&self, key: &LinkKey, command: Option<&Command>) {
        self.shared.link.checkpoints.set(key.as_str(), Part::Command, command.and_then(kept));
    }

    /// A command closes a link. One that the connector wants stays closed in the next run.
    pub(super) fn keep_closing(&self, key: &LinkKey, command: &Command) {
        let checkpoints = &self.shared.link.checkpoints;
        checkpoints.forget_link(key.as_str());
        if self.connector.links().iter().any(|spec| spec.key == *key) {
            checkpoints.set(key.as_str(), Part::Command, kept(command));
        }
    }

    /// Opens and closes the links that commands of an earlier run have.
    pub fn restore(&mut self) {
        for (link, kept) in self.shared.link.checkpoints.take_commands() {
            if let Err(error) = self.repeat(&kept) {
                let instance = &self.shared.link.instance;
                tracing::warn!(instance, link, %error, "a link that a command had opened or closed is not");
                self.shared.link.checkpoints.forget_link(&link);
            }
        }
    }

    fn repeat(&mut self, kept: &[u8]) -> Result<()> {
        let unreadable = || Error::internal("what is kept of the command cannot be read");
        let (operation, argument, body) = postcard::from_bytes::<Kept>(kept).map_err(|_| unreadable())?;
        let known = self.operations.iter().find(|known| known.name == operation).ok_or_else(unreadable)?;
        let command = Command {
            id: CommandId(0),
            operation: known.name,
            argument,
            body: RawValue::from_string(body).map_err(|_| unreadable())?,
            headers: Vec::new(),
            deadline: Instant::now(),
            stream: false,
        };
        let request = self.connector.parse(&command)?;
        match self.connector.route(&command, &request)? {
            Route::Open(spec) => self.links.open(spec, Lifetime::Permanent),
            Route::Create { spec, most } => self.links.create(spec, most),
            Route::Close(key) => {
                self.links.close(&key);
                Ok(())
            }
            Route::To(_) | Route::OnDemand(_) | Route::Local(_) => Err(unreadable()),
        }
    }
}

fn kept(command: &Command) -> Option<Vec<u8>> {
    let Command { operation, argument, body, .. } = command;
    postcard::to_allocvec(&(operation, argument, body.get())).ok()
}
