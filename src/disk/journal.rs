//! Keys with values in one file: every change is appended, and the file is written again once most of it is outdated.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};

use super::directory::{linked, options};
use super::frames::{self, Found, Frames};
use super::{Directory, sync_folder};
use crate::settings::Durability;

/// A file is written again once it has this many bytes, and twice as many as after it was last.
const SMALL: usize = 64 * 1024;

/// Keys and values of one instance that outlive the daemon. They are not kept in memory here.
pub struct Journal {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
    is_damaged: bool,
}

#[derive(Default)]
struct Shared {
    /// What is to be written.
    pending: RefCell<Vec<u8>>,
    /// How many changes were made, and how many of them are written.
    made: Cell<u64>,
    written: Cell<u64>,
    /// Why the last write failed.
    failed: RefCell<Option<String>>,
    changed: Notify,
    done: Notify,
}

/// The file, on the threads that may wait for the disk.
struct Log {
    directory: Arc<Directory>,
    path: PathBuf,
    file: File,
    durability: Durability,
    /// Its bytes, and those that it had when it was last written as a whole.
    length: usize,
    after_rewrite: usize,
}

/// What a file holds.
struct Kept {
    all: Vec<(String, Vec<u8>)>,
    is_damaged: bool,
}

impl Journal {
    /// Opens a file of this folder, and shows the keys that it has with their values, in the order in which they were put.
    /// Runs as a task of the `LocalSet` in which it is opened.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub async fn open(
        directory: Arc<Directory>,
        name: &'static str,
        durability: Durability,
        mut show: impl FnMut(String, Vec<u8>),
    ) -> io::Result<Self> {
        let read = move || {
            let path = directory.path().join(name);
            let file = options().truncate(false).open(&path)?;
            let mut log = Log { directory, path, file, durability, length: 0, after_rewrite: 0 };
            // What is torn or damaged would stand before what is appended.
            let kept = log.rewrite()?;
            Ok::<_, io::Error>((log, kept))
        };
        let (log, Kept { all, is_damaged }) = spawn_blocking(read).await.map_err(io::Error::other)??;
        for (key, value) in all {
            show(key, value);
        }
        let shared = Rc::new(Shared::default());
        let task = spawn_local(run(shared.clone(), Arc::new(Mutex::new(log))));
        Ok(Self { shared, task, is_damaged })
    }

    /// Whether something is missing: the file was damaged, and not only torn at its end.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Sets the value of a key. Returns at once.
    pub fn put(&self, key: &str, value: &[u8]) {
        self.change(key, Some(value));
    }

    /// Removes a key. Returns at once.
    pub fn remove(&self, key: &str) {
        self.change(key, None);
    }

    fn change(&self, key: &str, value: Option<&[u8]>) {
        frames::push(&mut self.shared.pending.borrow_mut(), |to| {
            let length = u32::try_from(key.len()).unwrap_or_default();
            to.push(u8::from(value.is_some()));
            to.extend_from_slice(&length.to_le_bytes());
            to.extend_from_slice(key.as_bytes());
            to.extend_from_slice(value.unwrap_or_default());
        });
        self.shared.made.set(self.shared.made.get() + 1);
        self.shared.changed.notify_one();
    }

    /// Waits until every change so far is on the disk.
    ///
    /// # Errors
    /// If one of them, or of those written with it, could not be written. Later changes are tried again.
    pub async fn written(&self) -> Result<(), String> {
        let made = self.shared.made.get();
        loop {
            let done = self.shared.done.notified();
            if self.shared.written.get() >= made {
                return self.shared.failed.borrow().clone().map_or(Ok(()), Err);
            }
            done.await;
        }
    }
}

/// What is not written yet is given up: await [`Journal::written`] before.
impl Drop for Journal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes what is pending, all of it at once, without end.
async fn run(shared: Rc<Shared>, log: Arc<Mutex<Log>>) {
    loop {
        shared.changed.notified().await;
        let batch = shared.pending.take();
        let made = shared.made.get();
        let log = log.clone();
        let append = move || log.lock().unwrap_or_else(PoisonError::into_inner).append(&batch);
        let failed = match spawn_blocking(append).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &failed {
            tracing::warn!(error, "a journal of the spool cannot be written");
        }
        *shared.failed.borrow_mut() = failed;
        shared.written.set(made);
        shared.done.notify_waiters();
    }
}

impl Log {
    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.length > SMALL && self.length > 2 * self.after_rewrite {
            self.rewrite()?;
        }
        let appended =
            linked(&self.file).and_then(|()| self.file.write_all(batch)).and_then(|()| self.sync());
        if appended.is_err() {
            // So that nothing is appended behind half a record.
            self.file.set_len(number(self.length))?;
            self.file.seek(SeekFrom::End(0))?;
        } else {
            self.length += batch.len();
        }
        appended
    }

    fn sync(&self) -> io::Result<()> {
        match self.durability {
            Durability::Power => self.file.sync_data(),
            Durability::Memory | Durability::Process => Ok(()),
        }
    }

    /// Writes a file with what is in force alone, and returns it.
    fn rewrite(&mut self) -> io::Result<Kept> {
        let (mut kept, bytes) = (HashMap::new(), fs::read(&self.path)?);
        let (mut is_damaged, mut end) = (false, 0);
        for (place, found) in Frames::new(&bytes).enumerate() {
            let Found::Record(at, record) = found else { continue };
            is_damaged |= at > end;
            end = at + frames::HEAD + record.len();
            let Some((key, value)) = change(record) else { continue };
            match value {
                Some(value) => {
                    // A key that is put again keeps its place.
                    let entry = kept.entry(key).or_insert((place, at, value));
                    (entry.1, entry.2) = (at, value);
                }
                None => drop(kept.remove(key)),
            }
        }
        let mut kept: Vec<_> = kept.into_iter().collect();
        kept.sort_unstable_by_key(|(_, (place, ..))| *place);
        let mut whole = Vec::new();
        for (_, (_, at, _)) in &kept {
            if let Some(record) = bytes.get(*at..).and_then(frames::record) {
                frames::push(&mut whole, |to| to.extend_from_slice(record));
            }
        }
        let new = self.path.with_extension("new");
        let mut file = options().truncate(true).open(&new)?;
        file.write_all(&whole)?;
        if self.durability == Durability::Power {
            file.sync_data()?;
        }
        fs::rename(&new, &self.path)?;
        if self.durability == Durability::Power {
            sync_folder(self.directory.path())?;
        }
        (self.file, self.length, self.after_rewrite) = (file, whole.len(), whole.len());
        let all = kept.into_iter().map(|(key, (_, _, value))| (key.to_owned(), value.to_vec())).collect();
        Ok(Kept { all, is_damaged })
    }
}

/// A change: its key, and its value, or `None` where the key is removed.
fn change(record: &[u8]) -> Option<(&str, Option<&[u8]>)> {
    let (is_put, rest) = record.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((std::str::from_utf8(key).ok()?, (*is_put == 1).then_some(value)))
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pontoon_testkit::{Dir, until_some};

    use super::*;

    async fn open(root: &std::path::Path) -> (Journal, Vec<(String, Vec<u8>)>) {
        // The task of the one before has to end.
        let free = async || Directory::open(root, "t.i").ok();
        let directory = Arc::new(until_some(Duration::from_secs(30), free).await);
        let mut all = Vec::new();
        let journal =
            Journal::open(directory, "j", Durability::Process, |key, value| all.push((key, value))).await;
        let journal = journal.unwrap();
        (journal, all)
    }

    #[tokio::test(flavor = "local")]
    async fn keys_keep_their_last_value_and_the_file_stays_small() {
        let root = Dir::new("disk");
        let (journal, before) = open(root.path()).await;
        assert!(before.is_empty());
        for round in 0..200_u32 {
            for key in 0..50_u32 {
                journal.put(&format!("k{key}"), &[round.to_le_bytes().as_slice(), &[b'x'; 90]].concat());
            }
            journal.remove(&format!("k{}", round % 50));
            journal.written().await.unwrap();
        }
        let length = fs::metadata(root.path().join("t.i/j")).unwrap().len();
        assert!(length < 2 * 64 * 1024, "{length}");
        journal.remove("k3");
        journal.put("k3", b"again");
        journal.written().await.unwrap();
        drop(journal);
        let (_, all) = open(root.path()).await;
        assert_eq!(all.len(), 49, "k49 was removed last");
        assert_eq!(all.last(), Some(&("k3".to_owned(), b"again".to_vec())));
        assert!(all[0].1.starts_with(&199_u32.to_le_bytes()));
    }

    #[tokio::test(flavor = "local")]
    async fn nothing_counts_as_written_once_the_folder_was_removed() {
        let root = Dir::new("disk");
        let (journal, _) = open(root.path()).await;
        fs::remove_dir_all(root.path()).unwrap();
        journal.put("a", b"");
        assert!(journal.written().await.unwrap_err().contains("was removed"));
    }

    #[tokio::test(flavor = "local")]
    async fn what_is_damaged_is_left_out() {
        let root = Dir::new("disk");
        let (journal, _) = open(root.path()).await;
        for key in ["a", "b", "c"] {
            journal.put(key, key.as_bytes());
        }
        journal.written().await.unwrap();
        drop(journal);
        let file = root.path().join("t.i/j");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes.extend_from_slice(b"torn");
        fs::write(&file, bytes).unwrap();
        let (journal, all) = open(root.path()).await;
        assert!(journal.is_damaged());
        assert_eq!(all.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        journal.put("d", b"");
        journal.written().await.unwrap();
        drop(journal);
        let (journal, all) = open(root.path()).await;
        assert!(all.len() == 3 && !journal.is_damaged());
    }
}
