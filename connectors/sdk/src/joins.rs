//! What a service was asked to remember, kept beside the link, and taken back where it turns out that it was never asked.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::command::id::CommandId;
use crate::error::{Code, Error, Result};

/// How many joins a link keeps.
const MAX_JOINS: usize = 16_384;
/// How many bytes the keys and the data of these have together.
const MAX_BYTES: usize = 16 << 20;
/// How many changes of commands can still be undone.
const MAX_UNDO: usize = 256;
/// How many keys of joins are shown, and how many characters of each.
const MOST_KEYS: usize = 20;
/// See [`MOST_KEYS`].
const LONGEST_KEY: usize = 64;

/// Something that the service was asked to remember (a room, a user), kept by the daemon beside the link and given
/// back to [`Session::open`](crate::Session::open) after every reconnect, and after a restart of the daemon if that keeps events
/// on disk and the settings are the same.
#[derive(Debug, Clone)]
pub struct Join {
    /// Two joins with one key are one.
    pub key: String,
    /// What the session needs to ask again.
    pub data: Box<RawValue>,
}

impl Join {
    fn size(&self) -> usize {
        self.key.len() + self.data.get().len()
    }
}

/// Joins as people see them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Joined {
    /// How many there are.
    pub count: usize,
    /// The keys of the first of them, shortened; none that is JSON, as it may be the body of a command.
    pub keys: Vec<String>,
}

impl Joined {
    /// Adds the join of this key.
    pub fn add(&mut self, key: &str) {
        self.count += 1;
        if self.keys.len() < MOST_KEYS && !key.starts_with(['{', '[', '"']) {
            self.keys.push(key.chars().take(LONGEST_KEY).collect());
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The joins of a link, in the order in which their keys were remembered first.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    kept: Vec<Join>,
    /// What stood under a key before a command changed it.
    undo: VecDeque<(CommandId, Change)>,
}

/// What a key is to stand for.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Remember(Join),
    Forget(String),
}

impl Change {
    fn key(&self) -> &str {
        match self {
            Self::Remember(Join { key, .. }) | Self::Forget(key) => key,
        }
    }
}

impl Joins {
    pub(crate) fn new(kept: Vec<Join>) -> Self {
        Self { kept, undo: VecDeque::new() }
    }

    pub(crate) fn kept(&self) -> &[Join] {
        &self.kept
    }

    /// Makes a change; one of a command can be undone.
    ///
    /// # Errors
    /// `Rejected` with 429 if there are too many joins.
    pub(crate) fn change(&mut self, change: Change, command: Option<CommandId>) -> Result<()> {
        if let Change::Remember(join) = &change {
            let others = || self.kept.iter().filter(|known| known.key != join.key);
            if others().count() >= MAX_JOINS
                || others().map(Join::size).sum::<usize>() + join.size() > MAX_BYTES
            {
                let text = format!(
                    "the link remembers as much as it can: {MAX_JOINS} rooms and the like, {MAX_BYTES} bytes; leave some"
                );
                return Err(Error::rejected(Code::TooMany, text));
            }
        }
        let before = self.apply(change);
        if let Some(command) = command {
            self.undo.push_back((command, before));
            if self.undo.len() > MAX_UNDO {
                self.undo.pop_front();
            }
        }
        Ok(())
    }

    /// Takes back what a command changed, the last change first. Returns what that changed.
    pub(crate) fn undo(&mut self, command: CommandId) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(index) = self.undo.iter().rposition(|(id, _)| *id == command) {
            let Some((_, before)) = self.undo.remove(index) else { break };
            changes.push(before.clone());
            self.apply(before);
        }
        changes
    }

    /// Returns what undoes it.
    fn apply(&mut self, change: Change) -> Change {
        let index = self.kept.iter().position(|known| known.key == change.key());
        match (change, index.and_then(|index| self.kept.get_mut(index).map(|known| (index, known)))) {
            (Change::Remember(join), Some((_, known))) => Change::Remember(std::mem::replace(known, join)),
            (Change::Remember(join), None) => {
                let key = join.key.clone();
                self.kept.push(join);
                Change::Forget(key)
            }
            (Change::Forget(_), Some((index, _))) => Change::Remember(self.kept.remove(index)),
            (Change::Forget(key), None) => Change::Forget(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(key: &str, data: &str) -> Change {
        Change::Remember(Join { key: key.to_owned(), data: RawValue::from_string(data.to_owned()).unwrap() })
    }

    fn shown(joins: &Joins) -> String {
        let shown = joins.kept().iter().map(|join| format!("{}={}", join.key, join.data));
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_a_command_changed_is_taken_back_as_it_was() {
        let mut joins = Joins::default();
        joins.change(join("a", "1"), None).unwrap();
        joins.change(join("b", "1"), Some(CommandId(1))).unwrap();
        joins.change(join("a", "2"), Some(CommandId(2))).unwrap();
        joins.change(Change::Forget("a".to_owned()), Some(CommandId(2))).unwrap();
        joins.change(Change::Forget("c".to_owned()), Some(CommandId(3))).unwrap();
        assert_eq!(shown(&joins), "b=1");
        assert_eq!(joins.undo(CommandId(2)).len(), 2);
        assert_eq!(shown(&joins), "b=1 a=1");
        assert_eq!((joins.undo(CommandId(3)).len(), joins.undo(CommandId(2)).len()), (1, 0));
        joins.undo(CommandId(1));
        assert_eq!(shown(&joins), "a=1");
    }

    #[test]
    fn joins_are_bounded_in_number_and_in_bytes() {
        let mut joins = Joins::default();
        for number in 0..MAX_JOINS {
            joins.kept.push(Join { key: number.to_string(), data: RawValue::TRUE.to_owned() });
        }
        assert_eq!(joins.change(join("new", "1"), None).unwrap_err().code(), Code::TooMany);
        joins.change(join("0", "1"), None).unwrap();
        joins.change(Change::Forget("0".to_owned()), None).unwrap();
        joins.change(join("new", "1"), None).unwrap();
        let mut joins = Joins::default();
        let large = format!("\"{}\"", "x".repeat(MAX_BYTES / 2));
        joins.change(join("a", &large), None).unwrap();
        joins.change(join("a", &large), None).unwrap();
        assert_eq!(joins.change(join("b", &large), None).unwrap_err().code(), Code::TooMany);
    }

    #[test]
    fn what_is_shown_of_joins_is_bounded_and_has_no_bodies() {
        let mut joined = Joined::default();
        for key in ["{\"room\":1}", "[1]", "\"room\"", "5"] {
            joined.add(key);
        }
        assert_eq!(joined, Joined { count: 4, keys: vec!["5".to_owned()] });
        for _ in 0..30 {
            joined.add(&"é".repeat(100));
        }
        let Joined { count, keys } = joined;
        assert_eq!((count, keys.len(), keys[1].len()), (34, MOST_KEYS, LONGEST_KEY * 2));
    }

    #[test]
    fn only_the_last_changes_can_be_undone() {
        let mut joins = Joins::default();
        for number in 0..=MAX_UNDO as u64 {
            joins.change(join(&number.to_string(), "1"), Some(CommandId(number))).unwrap();
        }
        assert!(joins.undo(CommandId(0)).is_empty() && joins.undo(CommandId(1)).len() == 1);
    }
}
