//! Commands that are sent again with the key of an earlier one: they are not carried out twice.
//!
//! Kept in memory, for a time and within bounds; where those are reached, new keys are refused rather than young ones
//! forgotten. A command that was certainly not done leaves no trace, so that it can be tried again under its key.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::{Code, Error};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::reply::{Answer, Caller};
use crate::settings::Commands;

/// How long a key may be, in bytes.
const MAX_KEY: usize = 256;
/// How many callers may wait for one answer besides the first.
const MAX_FOLLOWERS: usize = 64;
/// What a key takes in memory besides its text, about, with room for an answer without data.
const ENTRY: usize = 256 + ANSWER;
/// The room for an answer that is kept with its key, in bytes; what an answer takes beyond that is counted as it is.
const ANSWER: usize = 512;

/// The keys of one instance.
#[derive(Default)]
pub struct Keys {
    state: Mutex<State>,
    /// A caller has joined, and may be the next whose time runs out.
    joined: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// Keys that were answered, in that order.
    order: VecDeque<(Instant, String)>,
    /// Bytes of all entries.
    bytes: usize,
    /// How many there may be (`commands.idempotency_keys`).
    most_keys: usize,
    /// How many bytes they may have (`commands.idempotency_bytes`).
    most_bytes: usize,
    /// How long an answer is kept (`commands.idempotency_time`).
    time: Duration,
    /// When the time of each follower runs out, and of which key it is.
    deadlines: BTreeMap<(Instant, u64), String>,
    /// How many followers there were so far.
    followers: u64,
}

struct Entry {
    what: What,
    progress: Progress,
}

enum Progress {
    UnderWay(Vec<Follower>),
    Done(Arc<Answer>),
}

/// A caller that waits for the answer to the command of another.
struct Follower {
    number: u64,
    caller: Caller,
}

/// What a command asks for, so that two can be compared.
#[derive(Clone, PartialEq, Eq)]
pub struct What([u8; 32]);

impl What {
    /// By the tokens that name the operation, the body, and the headers that change what is done.
    pub fn new<'a>(tokens: &str, body: &str, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        headers.sort_unstable();
        let mut digest = Sha256::new();
        let mut add = |part: &str| {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        };
        add(tokens);
        add(body);
        for (name, value) in headers {
            add(&name);
            add(value);
        }
        Self(digest.finalize().into())
    }
}

/// What a key says of a command.
pub enum Claim {
    /// It is the first: carry it out. Its caller holds the place for the answer.
    First(Caller),
    /// The first is under way: its answer goes to this caller, too, if it comes before this caller's deadline.
    Joined,
    /// It was answered already.
    Answered(Caller, Arc<Answer>),
    /// It is refused: the key is unusable, was used for another command, or finds no room.
    Refused(Caller, Error),
}

/// The place for an answer; a slot that is dropped frees its key.
pub struct Slot {
    keys: Arc<Keys>,
    key: String,
    filled: bool,
}

impl Keys {
    /// No keys yet, with the bounds of these settings.
    pub fn new(settings: &Commands) -> Arc<Self> {
        let keys = Self::default();
        keys.reconfigure(settings);
        Arc::new(keys)
    }

    /// Other bounds for the keys to come. Those that are kept stay for as long as the settings say now.
    pub fn reconfigure(&self, settings: &Commands) {
        let mut state = self.state();
        state.most_keys = settings.idempotency_keys;
        state.most_bytes = settings.idempotency_bytes.0;
        state.time = settings.idempotency_time.0;
    }

    /// Looks a command up.
    pub fn claim(self: &Arc<Self>, key: &str, what: What, mut caller: Caller) -> Claim {
        if key.is_empty() || key.len() > MAX_KEY {
            let text = format!("the Idempotency-Key must have 1 to {MAX_KEY} bytes");
            return Claim::Refused(caller, Error::rejected(Code::BadBody, text));
        }
        let mut state = self.state();
        state.forget();
        let is_full = state.is_full(key);
        let State { entries, deadlines, followers, bytes, time, .. } = &mut *state;
        match entries.get_mut(key) {
            Some(entry) if entry.what != what => {
                let text = "the Idempotency-Key was used for another operation, action or body";
                Claim::Refused(caller, Error::rejected(Code::KeyReused, text))
            }
            Some(Entry { progress: Progress::Done(answer), .. }) => Claim::Answered(caller, answer.clone()),
            Some(Entry { progress: Progress::UnderWay(waiting), .. }) => {
                if waiting.len() >= MAX_FOLLOWERS {
                    let text = format!("{MAX_FOLLOWERS} callers wait for the answer to this key already");
                    return Claim::Refused(caller, Error::rejected(Code::TooMany, text));
                }
                *followers += 1;
                deadlines.insert((caller.deadline, *followers), key.to_owned());
                waiting.push(Follower { number: *followers, caller });
                self.joined.notify_one();
                Claim::Joined
            }
            None => {
                if is_full {
                    return Claim::Refused(caller, full(entries.len(), *time));
                }
                *bytes += cost(key);
                entries.insert(key.to_owned(), Entry { what, progress: Progress::UnderWay(Vec::new()) });
                caller.slot = Some(Slot { keys: self.clone(), key: key.to_owned(), filled: false });
                Claim::First(caller)
            }
        }
    }

    /// Answers those that have joined when their time runs out; never ends.
    pub async fn expire(self: Arc<Self>) {
        loop {
            let next = self.state().deadlines.first_key_value().map(|((deadline, _), _)| *deadline);
            tokio::select! {
                () = self.joined.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    let late = self.state().late(Instant::now());
                    late.into_iter().for_each(Caller::leave);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full(count: usize, time: Duration) -> Error {
    let text = format!(
        "no room for another Idempotency-Key: {count} are kept, each for {time:?} after its answer \
         (commands.idempotency_keys, idempotency_bytes, idempotency_time)"
    );
    Error::rejected(Code::TooMany, text)
}

impl State {
    /// Whether there is no room for this key.
    fn is_full(&self, key: &str) -> bool {
        self.entries.len() >= self.most_keys || self.bytes + cost(key) > self.most_bytes
    }

    /// Forgets the answers whose time is over.
    fn forget(&mut self) {
        while self.order.front().is_some_and(|(at, _)| at.elapsed() >= self.time) {
            let Some((_, key)) = self.order.pop_front() else { break };
            if let Some(Entry { progress: Progress::Done(answer), .. }) = self.entries.remove(&key) {
                self.bytes -= cost(&key) + beyond(&answer);
            }
        }
    }

    /// Takes the followers whose time has run out.
    fn late(&mut self, now: Instant) -> Vec<Caller> {
        let mut late = Vec::new();
        while let Some(first) = self.deadlines.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, number), key) = first.remove_entry();
            if let Some(Entry { progress: Progress::UnderWay(waiting), .. }) = self.entries.get_mut(&key)
                && let Some(place) = waiting.iter().position(|follower| follower.number == number)
            {
                late.push(waiting.remove(place).caller);
            }
        }
        late
    }

    /// The command of this key has ended. Returns those that wait for its answer, and what it asked for.
    fn end(&mut self, key: &str) -> Option<(What, Vec<Caller>)> {
        let Entry { what, progress: Progress::UnderWay(waiting) } = self.entries.remove(key)? else {
            return None;
        };
        self.bytes -= cost(key);
        for follower in &waiting {
            self.deadlines.remove(&(follower.caller.deadline, follower.number));
        }
        Some((what, waiting.into_iter().map(|follower| follower.caller).collect()))
    }

    /// Keeps an answer for a key.
    fn keep(&mut self, key: &str, what: What, answer: Arc<Answer>) {
        self.bytes += cost(key) + beyond(&answer);
        self.order.push_back((Instant::now(), key.to_owned()));
        self.entries.insert(key.to_owned(), Entry { what, progress: Progress::Done(answer) });
    }
}

/// What a key takes in memory: its text stands in two places.
fn cost(key: &str) -> usize {
    ENTRY + 2 * key.len()
}

/// What an answer takes beyond the room that its key has for one.
fn beyond(answer: &Answer) -> usize {
    answer.size().saturating_sub(ANSWER)
}

impl Slot {
    /// The command was answered. Returns who else gets the answer; it is kept only if something may have been done.
    /// Where there is no room for all of it, it is kept without its data.
    pub fn fill(mut self, answer: &Arc<Answer>, keep: bool) -> Vec<Caller> {
        self.filled = true;
        let mut state = self.keys.state();
        let Some((what, waiting)) = state.end(&self.key) else { return Vec::new() };
        if keep {
            let fits = state.bytes + cost(&self.key) + beyond(answer) <= state.most_bytes;
            let kept = if fits {
                answer.clone()
            } else {
                let why = "the first caller got the data; they were not kept (commands.idempotency_bytes)";
                Arc::new(answer.without_data(why.to_owned()))
            };
            state.keep(&self.key, what, kept);
        }
        waiting
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.filled {
            // Callers answer when they are dropped, and must not find the keys locked.
            let ended = self.keys.state().end(&self.key);
            drop(ended);
        }
    }
}

#[cfg(test)]
mod tests;
