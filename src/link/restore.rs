//! What of a link outlives the daemon: what its service was asked to remember, and from where it goes on.

use pontoon_sdk::{Join, LinkKey};
use serde_json::value::RawValue;

use super::Link;
use super::context::Context;
use super::lifetime::Lifetime;
use crate::bus::checkpoints::Part;

/// What an earlier run has kept for this link.
pub(super) fn joins(context: &Context, key: &LinkKey, lifetime: Lifetime) -> Vec<Join> {
    if !outlives(lifetime) {
        return Vec::new();
    }
    let left = context.checkpoints.take_joins(key.as_str()).into_iter();
    let join = |(key, data)| {
        let data = RawValue::from_string(String::from_utf8(data).ok()?).ok()?;
        Some(Join { key, data })
    };
    left.filter_map(join).collect()
}

/// Whether the next run has a link of this kind, too.
fn outlives(lifetime: Lifetime) -> bool {
    lifetime.redials() && !lifetime.is_on_demand()
}

impl Link {
    /// Keeps a join for the next connection, in the place of one with the same key. The outbox bounds how many there are.
    pub fn remember(&mut self, join: Join) {
        if outlives(self.lifetime) {
            let data = join.data.get().as_bytes().to_owned();
            self.context.checkpoints.set(self.key.as_str(), Part::Join(&join.key), Some(data));
        }
        if let Some(known) = self.joins.iter_mut().find(|known| known.key == join.key) {
            *known = join;
        } else {
            self.joins.push(join);
        }
        self.phase.joined(&self.joins);
    }

    /// Drops a join.
    pub fn forget(&mut self, key: &str) {
        if outlives(self.lifetime) {
            self.context.checkpoints.set(self.key.as_str(), Part::Join(key), None);
        }
        self.joins.retain(|join| join.key != key);
        self.phase.joined(&self.joins);
    }

    /// What its connector remembered in an earlier run.
    pub fn restored_memory(&self) -> Option<Vec<u8>> {
        outlives(self.lifetime).then(|| self.context.checkpoints.take(self.key.as_str(), Part::Memory))?
    }

    /// Keeps what its connector remembers now that everything before was handled.
    pub fn keep_memory(&self, memory: Vec<u8>) {
        if outlives(self.lifetime) {
            self.context.checkpoints.set(self.key.as_str(), Part::Memory, Some(memory));
        }
    }

    /// From where the service goes on, as an earlier run has kept it.
    pub fn restored_position(&mut self) -> Option<Vec<u8>> {
        if !outlives(self.lifetime) {
            return None;
        }
        let checkpoints = &self.context.checkpoints;
        let mut left = checkpoints.take(self.key.as_str(), Part::Position)?;
        let is_whole = left.pop()? == 1;
        self.gaps.restored(is_whole && checkpoints.is_certain());
        Some(left)
    }

    /// Keeps from where the service goes on, now that everything before was handled.
    pub fn keep_position(&self, position: Option<Vec<u8>>) {
        if !outlives(self.lifetime)
            || position.is_none() && !self.context.checkpoints.has(self.key.as_str(), Part::Position)
        {
            return;
        }
        let is_whole = u8::from(self.gaps.is_whole());
        let position = position.map(|mut position| {
            position.push(is_whole);
            position
        });
        self.context.checkpoints.set(self.key.as_str(), Part::Position, position);
    }
}
