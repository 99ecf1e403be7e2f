//! Which commands were begun and are not ended: what a crash of the daemon leaves here may or may not have been done.
//!
//! Write an intent before a frame that may not be sent twice, and end it once its result is kept elsewhere. On the next
//! start, [`Intents::unfinished`] has the commands whose result is `unknown`.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::{Directory, Journal};
use crate::settings::Durability;

/// How many commands may be begun at once.
const MAX_OPEN: usize = 16_384;
/// How long an id may be, in bytes.
const MAX_ID: usize = 256;

/// The intents of one instance. In memory only if there is no folder, as by default.
#[derive(Default)]
pub struct Intents {
    journal: Option<Journal>,
    open: RefCell<HashSet<String>>,
    unfinished: Vec<String>,
}

/// Why a command may not be begun. Nothing is kept of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotBegun {
    /// Another command has this id, or one of an earlier run that is not ended.
    #[error("a command with the id {0:?} is under way")]
    UnderWay(String),
    /// The id is empty, or too long.
    #[error("an id has 1 to {MAX_ID} bytes")]
    Id,
    /// Too many are under way.
    #[error("{MAX_OPEN} commands are under way; send it again later")]
    TooMany,
    /// The intent could not be written.
    #[error("the intent cannot be written: {0}")]
    Disk(String),
}

impl Intents {
    /// Reads the intents of this folder. To be called in the `LocalSet` in which they are used.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub async fn open(directory: Option<Arc<Directory>>, durability: Durability) -> std::io::Result<Self> {
        let Some(directory) = directory else {
            return Ok(Self::default());
        };
        let mut unfinished = Vec::new();
        let journal = Journal::open(directory, "intents", durability, |key, _| unfinished.push(key)).await?;
        let open = RefCell::new(unfinished.iter().cloned().collect());
        Ok(Self { journal: Some(journal), open, unfinished })
    }

    /// Whether intents outlive the process.
    pub fn is_durable(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether [`Intents::unfinished`] has all of them. If not, the file was damaged: a command that arrives again may have
    /// been begun before.
    pub fn is_complete(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| !journal.is_damaged())
    }

    /// The ids that an earlier run has begun and not ended, in the order in which they were begun. [`Intents::end`] them
    /// once their result is kept elsewhere.
    pub fn unfinished(&self) -> &[String] {
        &self.unfinished
    }

    /// Begins the command of this id. Once this returns `Ok`, the intent is on the disk, if [`Intents::is_durable`].
    /// Dropped before, it may be there all the same: end it then, too.
    ///
    /// # Errors
    /// See [`NotBegun`].
    pub async fn begin(&self, id: &str) -> Result<(), NotBegun> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(NotBegun::Id);
        }
        if self.open.borrow().len() >= MAX_OPEN {
            return Err(NotBegun::TooMany);
        }
        if !self.open.borrow_mut().insert(id.to_owned()) {
            return Err(NotBegun::UnderWay(id.to_owned()));
        }
        let Some(journal) = &self.journal else { return Ok(()) };
        journal.put(id, b"");
        let written = journal.written().await;
        written.map_err(|error| {
            self.end(id);
            NotBegun::Disk(error)
        })
    }

    /// Ends the command of this id, which may be unknown. Returns at once; a crash shortly after may leave it unfinished.
    pub fn end(&self, id: &str) {
        if self.open.borrow_mut().remove(id)
            && let Some(journal) = &self.journal
        {
            journal.remove(id);
        }
    }

    /// Waits until everything so far is on the disk.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn written(&self) -> Result<(), String> {
        match &self.journal {
            Some(journal) => journal.written().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pontoon_testkit::{Dir, until_some};

    use super::*;

    async fn in_folder(root: &std::path::Path) -> Intents {
        // The task of the one before has to end.
        let free = async || Directory::open(root, "t.i").ok();
        let directory = Arc::new(until_some(Duration::from_secs(30), free).await);
        Intents::open(Some(directory), Durability::Power).await.unwrap()
    }

    #[tokio::test(flavor = "local")]
    async fn what_was_begun_and_not_ended_is_known_after_a_crash() {
        let root = Dir::new("disk");
        let intents = in_folder(root.path()).await;
        for id in ["c", "a", "b"] {
            intents.begin(id).await.unwrap();
        }
        assert_eq!(intents.begin("a").await, Err(NotBegun::UnderWay("a".into())));
        intents.end("a");
        intents.end("unknown");
        intents.written().await.unwrap();
        drop(intents);
        let intents = in_folder(root.path()).await;
        assert_eq!(intents.unfinished(), ["c", "b"]);
        assert!(intents.is_durable() && intents.is_complete() && intents.begin("c").await.is_err());
        intents.end("c");
        intents.begin("c").await.unwrap();
        intents.end("b");
        intents.written().await.unwrap();
        drop(intents);
        assert_eq!(in_folder(root.path()).await.unfinished(), ["c"]);
    }

    #[tokio::test(flavor = "local")]
    async fn without_a_folder_nothing_is_claimed_and_bounds_hold() {
        let intents = Intents::open(None, Durability::Process).await.unwrap();
        assert!(!intents.is_durable() && intents.unfinished().is_empty());
        for number in 0..MAX_OPEN {
            intents.begin(&number.to_string()).await.unwrap();
        }
        assert_eq!(intents.begin("more").await, Err(NotBegun::TooMany));
        intents.end("0");
        intents.begin("more").await.unwrap();
        assert_eq!(intents.begin("").await, Err(NotBegun::Id));
        assert_eq!(intents.begin(&"x".repeat(257)).await, Err(NotBegun::Id));
    }
}
