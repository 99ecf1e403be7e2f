//! Checkpoints: what outlives the daemon besides events, jobs and keys of commands. That is what callers have joined, what
//! connectors remember, from where a service goes on, and which events were published last.
//!
//! A value is written once every event is accepted that was read before it was set, so that what the next run gets is never
//! ahead of what is stored or on the disk. It may be behind, by `GATHER` and the time that this takes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tokio::sync::{Mutex, Notify};
use tokio::time::sleep;

use super::dedup::Changes;
use super::spool::Spool;
use crate::disk::{Directory, Journal};
use crate::settings::Durability;

/// How long changes are gathered that are written together.
const GATHER: Duration = Duration::from_millis(50);
/// How long the disk is left alone after an error.
const RETRY: Duration = Duration::from_secs(1);
/// Differs from start to start of the host (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How many bytes keys and values of an instance may have, and how many there may be.
const MOST_BYTES: usize = 16 << 20;
const MOST_KEYS: usize = 65_536;
/// Between the parts of a key. The first part is the name of a link, or empty.
const END: char = '\0';
/// What the settings were when the other values were written, and which start of the host it was.
const SETTINGS: &str = "\0settings";
const HOST: &str = "\0host";
/// Set once more than one link was open at a time.
const SEVERAL: &str = "\0several";
/// Identities of events: the head, and with a number behind it each chunk.
const IDENTITIES: &str = "\0identities\0";

/// What is a key for, within a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Something that the service was asked to remember: see [`pontoon_sdk::Join`].
    Join(&'a str),
    /// From where its service goes on.
    Position,
    /// What its connector remembers: see [`pontoon_sdk::Session::memory`].
    Memory,
    /// The command that has opened it, or closed it.
    Command,
}

/// The checkpoints of one instance. None are kept if there is no folder.
#[derive(Default)]
pub struct Checkpoints {
    journal: Option<Journal>,
    state: RefCell<State>,
    changed: Notify,
    /// Whether the host is the one on which an earlier run has written, and was not restarted since, or what was accepted then
    /// outlives that.
    same_host: bool,
    /// Held while a batch is written, so that an older one is never written behind a newer one.
    writing: Mutex<()>,
}

/// A value, or its removal, and its place in the order.
type Change = (u64, Option<Vec<u8>>);

#[derive(Default)]
struct State {
    /// What an earlier run has left, with its place in the order in which it was set first.
    left: BTreeMap<String, (usize, Vec<u8>)>,
    /// Links that commands of an earlier run had opened, until they are open again.
    reopened: BTreeSet<String>,
    /// The size of each value with its key.
    kept: BTreeMap<String, usize>,
    bytes: usize,
    /// What is to be written.
    pending: BTreeMap<String, Change>,
    changes: u64,
    /// Whether it was logged that there is no room.
    is_full: bool,
}

impl Checkpoints {
    /// Reads the checkpoints in this folder, unless other settings were in force when they were written: `settings` is a digest
    /// of those. To be called in the `LocalSet` in which they are used.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub async fn open(
        directory: Arc<Directory>,
        durability: Durability,
        settings: &[u8],
    ) -> io::Result<Self> {
        let folder = directory.path().to_owned();
        let mut left = Vec::new();
        let journal =
            Journal::open(directory, "checkpoints", durability, |key, value| left.push((key, value))).await?;
        let mut before =
            |name| left.iter().position(|(key, _)| key == name).map(|place| left.remove(place).1);
        let (settings_before, host_before) = (before(SETTINGS), before(HOST));
        let is_same = settings_before.as_deref() == Some(settings);
        let host = if durability == Durability::Power { Some(Vec::new()) } else { fs::read(BOOT_ID).ok() };
        let same_host = host.is_some() && host == host_before;
        if !same_host {
            after_host_failure(&mut left, &journal);
        }
        journal.put(HOST, &host.unwrap_or_default());
        if journal.is_damaged() || !is_same {
            if journal.is_damaged() {
                tracing::error!(
                    ?folder,
                    "the file checkpoints is damaged: what callers had joined and what was remembered is forgotten; join again"
                );
            } else if !left.is_empty() {
                tracing::info!(
                    ?folder,
                    "the settings have changed: what was joined and remembered is forgotten"
                );
            }
            left.drain(..).for_each(|(key, _)| journal.remove(&key));
            journal.put(SETTINGS, settings);
        }
        let kept: BTreeMap<_, _> =
            left.iter().map(|(key, value)| (key.clone(), key.len() + value.len())).collect();
        let left = left.into_iter().enumerate().map(|(place, (key, value))| (key, (place, value))).collect();
        let state = State { left, bytes: kept.values().sum(), kept, ..State::default() };
        let (state, changed, writing) = (RefCell::new(state), Notify::new(), Mutex::new(()));
        Ok(Self { journal: Some(journal), state, changed, same_host, writing })
    }

    /// Whether what is set here outlives the daemon.
    pub fn is_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// More than one link is open. Written at once: too early is on the safe side.
    pub fn several_links(&self) {
        let Some(journal) = &self.journal else { return };
        let state = &mut *self.state.borrow_mut();
        if state.kept.insert(SEVERAL.to_owned(), SEVERAL.len()).is_none() {
            state.bytes += SEVERAL.len();
            journal.put(SEVERAL, &[]);
        }
    }

    /// Whether nothing but what one link may have missed is missing between an earlier run and this one: what was accepted then
    /// is there still, and there was no other link.
    pub fn is_certain(&self) -> bool {
        self.same_host && !self.state.borrow().kept.contains_key(SEVERAL)
    }

    /// Sets a value of a link, or removes it. Returns at once.
    pub fn set(&self, link: &str, part: Part<'_>, value: Option<Vec<u8>>) {
        if self.is_kept() {
            self.change(key(link, part), value);
        }
    }

    /// Removes all values of a link.
    pub fn forget_link(&self, link: &str) {
        let prefix = format!("{link}{END}");
        let all = {
            let state = self.state.borrow();
            let from = state.kept.range(prefix.clone()..).map(|(key, _)| key);
            from.take_while(|key| key.starts_with(&prefix)).cloned().collect::<Vec<_>>()
        };
        all.into_iter().for_each(|key| self.change(key, None));
    }

    /// Whether there is a value.
    pub fn has(&self, link: &str, part: Part<'_>) -> bool {
        self.state.borrow().kept.contains_key(&key(link, part))
    }

    /// What an earlier run has left as a value of a link; once.
    pub fn take(&self, link: &str, part: Part<'_>) -> Option<Vec<u8>> {
        self.state.borrow_mut().left.remove(&key(link, part)).map(|(_, value)| value)
    }

    /// What an earlier run has left as joins of a link, with their keys; once.
    pub fn take_joins(&self, link: &str) -> Vec<(String, Vec<u8>)> {
        self.take_all(&key(link, Part::Join("")), |name| Some(name.to_owned()))
    }

    /// The links that commands have opened or closed in an earlier run, with these commands; once.
    pub fn take_commands(&self) -> Vec<(String, Vec<u8>)> {
        let commands = self.take_all("", |key| link_of(key, Part::Command).map(str::to_owned));
        self.state.borrow_mut().reopened.extend(commands.iter().map(|(link, _)| link.clone()));
        commands
    }

    /// Whether a link was open in an earlier run, by a command; once.
    pub fn take_reopened(&self, link: &str) -> bool {
        self.state.borrow_mut().reopened.remove(link)
    }

    /// Takes what begins with this and this function has a name for, by what follows.
    fn take_all(&self, prefix: &str, name: impl Fn(&str) -> Option<String>) -> Vec<(String, Vec<u8>)> {
        let left = &mut self.state.borrow_mut().left;
        let from = left.range(prefix.to_owned()..).map(|(key, _)| key);
        let all = from.map_while(|key| Some((key.clone(), name(key.strip_prefix(prefix)?))));
        let all: Vec<_> = all.filter_map(|(key, name)| Some((key, name?))).collect();
        let taken = all.into_iter().filter_map(|(key, name)| Some((name, left.remove(&key)?)));
        let mut taken: Vec<_> = taken.collect();
        taken.sort_unstable_by_key(|(_, (place, _))| *place);
        taken.into_iter().map(|(name, (_, value))| (name, value)).collect()
    }

    /// Has the spool know the events of an earlier run.
    pub fn restore_identities(&self, spool: &Spool) {
        let mut all = self.take_all(IDENTITIES, |number| Some(number.to_owned()));
        let number = |text: &str| text.parse::<usize>().ok();
        all.sort_by_key(|(text, _)| number(text));
        let Some(head) = all.iter().find(|(text, _)| text.is_empty()).map(|(_, head)| head.clone()) else {
            return;
        };
        spool.restore_identities(
            &head,
            all.into_iter().filter_map(|(text, chunk)| Some((number(&text)?, chunk))),
        );
    }

    fn change(&self, key: String, value: Option<Vec<u8>>) {
        let state = &mut *self.state.borrow_mut();
        let before = state.kept.remove(&key);
        state.bytes -= before.unwrap_or(0);
        let mut value = value;
        if let Some(size) = value.as_ref().map(|value| key.len() + value.len()) {
            if state.bytes + size > MOST_BYTES || state.kept.len() >= MOST_KEYS {
                value = None;
                if !std::mem::replace(&mut state.is_full, true) {
                    tracing::warn!(
                        "more is joined and remembered than is kept over a restart: {MOST_KEYS} values, {MOST_BYTES} bytes"
                    );
                }
            } else {
                state.bytes += size;
                state.kept.insert(key.clone(), size);
            }
        }
        if value.is_none() && before.is_none() && !state.pending.contains_key(&key) {
            return;
        }
        state.changes += 1;
        let place = state.changes;
        let pending = state.pending.entry(key).or_insert((place, None));
        pending.1 = value;
        self.changed.notify_one();
    }

    /// Writes what is set, without end.
    pub async fn run(&self, spool: &Spool) {
        if !self.is_kept() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                () = spool.identified() => {}
            }
            sleep(GATHER).await;
            if !self.write(spool).await {
                sleep(RETRY).await;
                self.changed.notify_one();
            }
        }
    }

    /// Writes all that is set now. Returns whether that worked.
    pub async fn write(&self, spool: &Spool) -> bool {
        let Some(journal) = &self.journal else { return true };
        let _writing = self.writing.lock().await;
        let batch = spool.once_accepted(|| self.take_pending(spool)).await;
        for (key, (_, value)) in &batch {
            match value {
                Some(value) => journal.put(key, value),
                None => journal.remove(key),
            }
        }
        if journal.written().await.is_ok() {
            return true;
        }
        // What was set meanwhile counts.
        let pending = &mut self.state.borrow_mut().pending;
        for (key, change) in batch {
            pending.entry(key).or_insert(change);
        }
        false
    }

    /// What is to be written, in the order in which it was set first.
    fn take_pending(&self, spool: &Spool) -> Vec<(String, Change)> {
        if let Some(Changes { head, chunks }) = spool.take_identities() {
            self.change(IDENTITIES.to_owned(), Some(head));
            for (number, chunk) in chunks {
                self.change(format!("{IDENTITIES}{number}"), Some(chunk));
            }
        }
        let mut batch: Vec<_> = std::mem::take(&mut self.state.borrow_mut().pending).into_iter().collect();
        batch.sort_unstable_by_key(|(_, (place, _))| *place);
        batch
    }
}

/// The key of a part of a link. The name of a link is before everything else, so that its keys stand together.
fn key(link: &str, part: Part<'_>) -> String {
    match part {
        Part::Join(name) => format!("{link}{END}join{END}{name}"),
        Part::Position => format!("{link}{END}position"),
        Part::Memory => format!("{link}{END}memory"),
        Part::Command => format!("{link}{END}command"),
    }
}

/// The link whose part that is.
fn link_of<'a>(name: &'a str, part: Part<'_>) -> Option<&'a str> {
    // A join may have any name.
    name.strip_suffix(&key("", part)).filter(|link| !link.contains(END))
}

/// What was accepted before the host was restarted may be lost: events that are sent again are not known, and a position says
/// nothing of those before it.
fn after_host_failure(left: &mut Vec<(String, Vec<u8>)>, journal: &Journal) {
    left.retain_mut(|(key, value)| {
        if key.starts_with(IDENTITIES) {
            journal.remove(key);
            return false;
        }
        if link_of(key, Part::Position).is_some()
            && let Some(is_whole) = value.last_mut()
        {
            *is_whole = 0;
            journal.put(key, value);
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Instant;

    use futures_util::FutureExt as _;
    use pontoon_sdk::{Event, EventType, LinkKey, Raw};
    use pontoon_testkit::{Dir, until_some};
    use time::OffsetDateTime;

    use super::*;
    use crate::envelope::Envelope;
    use crate::metrics::InstanceMetrics;
    use crate::settings::{Delivery, Events};

    fn spool() -> Spool {
        let envelope = Rc::new(Envelope::new("p", "t", "i", 1, &Events::default()));
        Spool::new("i", envelope, Arc::new(InstanceMetrics::new("i", "t", &[])), &Delivery::default())
    }

    async fn open(root: &Dir, settings: &str) -> Checkpoints {
        // The task of the one before has to end.
        let free = async || Directory::open(root.path(), "t.i").ok();
        let directory = Arc::new(until_some(Duration::from_secs(30), free).await);
        Checkpoints::open(directory, Durability::Process, settings.as_bytes()).await.unwrap()
    }

    #[tokio::test(flavor = "local")]
    async fn values_of_links_are_read_back_in_their_order_and_once() {
        let (root, spool) = (Dir::new("checkpoints"), spool());
        let checkpoints = open(&root, "s").await;
        assert!(!checkpoints.is_certain(), "nothing is known of an earlier run");
        for (link, key) in [("a", "z"), ("a", "b"), ("b", "c"), ("a", "gone")] {
            checkpoints.set(link, Part::Join(key), Some(key.into()));
        }
        checkpoints.set("a", Part::Join("gone"), None);
        checkpoints.set("a", Part::Position, Some(b"p".to_vec()));
        checkpoints.set("b", Part::Command, Some(b"c".to_vec()));
        assert!(checkpoints.write(&spool).await);
        drop(checkpoints);
        let checkpoints = open(&root, "s").await;
        let keys = |all: Vec<(String, Vec<u8>)>| all.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(checkpoints.take_joins("a")), ["z", "b"]);
        assert!(checkpoints.take_joins("a").is_empty());
        assert_eq!(checkpoints.take("a", Part::Position).as_deref(), Some(&b"p"[..]));
        assert_eq!(keys(checkpoints.take_commands()), ["b"]);
        assert!(checkpoints.take_reopened("b") && !checkpoints.take_reopened("b"));
        assert!(checkpoints.is_certain());
        checkpoints.several_links();
        checkpoints.forget_link("b");
        assert!(!checkpoints.is_certain() && checkpoints.write(&spool).await);
        drop(checkpoints);
        let checkpoints = open(&root, "s").await;
        assert_eq!(keys(checkpoints.take_joins("a")), ["z", "b"], "what was taken is still kept");
        assert!(checkpoints.take_joins("b").is_empty() && checkpoints.take_commands().is_empty());
        assert!(!checkpoints.is_certain());
    }

    #[tokio::test(flavor = "local")]
    async fn after_a_restart_of_the_host_no_event_is_known_and_no_position_is_certain() {
        let (root, spool) = (Dir::new("checkpoints"), spool());
        let checkpoints = open(&root, "s").await;
        checkpoints.set("a", Part::Position, Some(vec![7, 1]));
        checkpoints.set("a", Part::Join("position"), Some(vec![7, 1]));
        checkpoints.change(format!("{IDENTITIES}0"), Some(vec![1]));
        assert!(checkpoints.write(&spool).await);
        checkpoints.journal.as_ref().unwrap().put(HOST, b"another start");
        assert!(checkpoints.journal.as_ref().unwrap().written().await.is_ok());
        drop(checkpoints);
        // Also in the run behind the next one.
        for _ in 0..2 {
            let checkpoints = open(&root, "s").await;
            assert!(checkpoints.take_all(IDENTITIES, |key| Some(key.to_owned())).is_empty());
            assert_eq!(checkpoints.take("a", Part::Position), Some(vec![7, 0]));
            assert_eq!(checkpoints.take_joins("a"), [("position".to_owned(), vec![7, 1])]);
        }
    }

    #[tokio::test(flavor = "local")]
    async fn a_value_is_written_only_once_the_events_before_it_are_accepted() {
        let (root, spool) = (Dir::new("checkpoints"), spool());
        let checkpoints = open(&root, "s").await;
        let file = root.path().join("t.i/checkpoints");
        let holds =
            |text: &str| fs::read(&file).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes());
        let event = Box::new(Event::new(EventType::LogEntry, Raw::null()));
        spool.offer(&LinkKey::main(), event, Instant::now(), OffsetDateTime::now_utc());
        checkpoints.set("a", Part::Position, Some(b"behind-one".to_vec()));
        let mut writing = Box::pin(checkpoints.write(&spool));
        assert!(writing.as_mut().now_or_never().is_none());
        // What is set now is behind more events, and is not written with that.
        checkpoints.set("a", Part::Position, Some(b"behind-more".to_vec()));
        // Before the event is the gap of the run.
        let [gap, event] = [0, 1].map(|place| spool.nth(place).unwrap());
        spool.confirm_through(gap);
        assert!(writing.as_mut().now_or_never().is_none() && !holds("behind-one"));
        spool.confirm_through(event);
        assert!(writing.await && holds("behind-one") && !holds("behind-more"));
        assert!(checkpoints.write(&spool).await && holds("behind-more"));
    }

    #[tokio::test(flavor = "local")]
    async fn what_other_settings_or_a_damaged_file_have_left_is_discarded() {
        let (root, spool) = (Dir::new("checkpoints"), spool());
        let kept = async |settings: &str| {
            let checkpoints = open(&root, settings).await;
            let has = checkpoints.take("a", Part::Memory).is_some();
            checkpoints.set("a", Part::Memory, Some(b"m".repeat(100)));
            checkpoints.set("b", Part::Memory, Some(b"m".repeat(100)));
            assert!(checkpoints.write(&spool).await);
            has
        };
        assert!(!kept("1").await && kept("1").await && !kept("2").await && kept("2").await);
        let file = root.path().join("t.i/checkpoints");
        let mut bytes = fs::read(&file).unwrap();
        let place = bytes.windows(20).position(|window| window == b"m".repeat(20)).unwrap();
        bytes[place] = b'x';
        fs::write(&file, bytes).unwrap();
        assert!(!kept("2").await && kept("2").await);
    }

    #[tokio::test(flavor = "local")]
    async fn no_more_is_kept_than_there_is_room_for_and_an_old_value_does_not_stay_in_its_place() {
        let (root, spool) = (Dir::new("checkpoints"), spool());
        let checkpoints = open(&root, "s").await;
        checkpoints.set("a", Part::Memory, Some(b"old".to_vec()));
        assert!(checkpoints.write(&spool).await);
        checkpoints.set("b", Part::Memory, Some(vec![0; MOST_BYTES / 2]));
        checkpoints.set("a", Part::Memory, Some(vec![0; MOST_BYTES / 2]));
        assert!(checkpoints.write(&spool).await);
        drop(checkpoints);
        let checkpoints = open(&root, "s").await;
        assert!(checkpoints.take("a", Part::Memory).is_none());
        assert!(checkpoints.take("b", Part::Memory).is_some());
        assert!(checkpoints.state.borrow().bytes <= MOST_BYTES);
    }
}
