//! Commands that are sent again with the key of an earlier one: they are not carried out twice.
//!
//! Keys and their answers are kept in memory, and in a [`KeyRecord`] if there is a folder for it, for a time and within
//! bounds; beyond the bounds new keys are refused, and
//! young ones are not forgotten. The key of a command that was certainly not done is free again.

mod record;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_sdk::{Code, Error};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use self::record::Saved;
use super::answer::{Answer, may_be_done};
use super::caller::Caller;
use crate::metrics::Outcome;
use crate::settings::Commands;
pub use record::{Fingerprint, KeyRecord, KeyStore};

/// How long a key may be, in bytes.
const MAX_KEY: usize = 256;
/// How many callers may wait for one answer besides the first.
const MAX_FOLLOWERS: usize = 64;
/// What a key takes in memory besides its text, about, with room for an answer without data.
const KEPT: usize = 256 + ANSWER;
/// The room for an answer that is kept with its key, in bytes; what an answer takes beyond that is counted as it is.
const ANSWER: usize = 512;

/// The keys of one instance.
#[derive(Default)]
pub struct Keys {
    state: RefCell<State>,
    /// A caller has joined, and may have the next deadline.
    joined: Notify,
    /// Where they are kept besides.
    record: OnceCell<KeyRecord>,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Kept>,
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

struct Kept {
    fingerprint: Fingerprint,
    progress: Progress,
}

enum Progress {
    UnderWay(Vec<Follower>),
    Done(Rc<Answer>),
}

/// A caller that waits for the answer to the command of another.
struct Follower {
    number: u64,
    caller: Caller,
}

/// The entry of a key, for one more command that has it.
pub enum Entry {
    /// The command is the first: carry it out. Its caller holds the entry until it is answered.
    First(Caller),
    /// The first command is under way: its answer goes to this caller, too, if it comes before this caller's deadline.
    Joined,
    /// The first command was answered already.
    Answered(Caller, Rc<Answer>),
    /// The command is refused: the key is unusable, was used for another command, or there is no room for it.
    Refused(Caller, Error),
}

/// The entry of a command under way; dropped without an answer, its key is free again.
struct Reservation {
    keys: Rc<Keys>,
    key: String,
    answered: bool,
}

impl Keys {
    /// The keys of this record, with the bounds of these settings. Without a record, none yet, and in memory only.
    pub fn new(settings: &Commands, record: Option<KeyRecord>) -> Rc<Self> {
        let keys = Self::default();
        keys.reconfigure(settings);
        if let Some(record) = record {
            keys.keep_in(record);
        }
        Rc::new(keys)
    }

    /// Takes over the keys of this record, and keeps further ones in it. Only the first call counts.
    pub fn keep_in(&self, mut record: KeyRecord) {
        let left = std::mem::take(&mut record.left);
        if self.record.set(record).is_err() {
            return;
        }
        for (key, saved) in left {
            self.restore(key, saved);
        }
    }

    /// Keeps a key of an earlier run for the rest of its time.
    fn restore(&self, key: String, saved: Saved) {
        let state = &mut *self.state.borrow_mut();
        let age = OffsetDateTime::now_utc().unix_timestamp().saturating_sub(saved.at);
        let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
        let fingerprint = Fingerprint(saved.fingerprint);
        let answered = Instant::now().checked_sub(age).filter(|_| age < state.time && !state.is_full(&key));
        match answered.zip(saved.answer()) {
            Some((at, answer)) => {
                if let Some(record) = self.record.get().filter(|_| answer.outcome == Some(Outcome::Unknown)) {
                    record.keep(&key, &fingerprint, &answer);
                }
                state.keep(&key, fingerprint, answer, at);
            }
            None => self.forget_on_disk(&key),
        }
    }

    fn forget_on_disk(&self, key: &str) {
        if let Some(record) = self.record.get() {
            record.remove(key);
        }
    }

    /// Waits until all of it is on the disk, if it is to be.
    pub async fn written(&self) {
        if let Some(record) = self.record.get() {
            record.written().await;
        }
    }

    /// Other bounds for the keys to come. Those that are kept stay for as long as the settings say now.
    pub fn reconfigure(&self, settings: &Commands) {
        let mut state = self.state.borrow_mut();
        state.most_keys = settings.idempotency_keys;
        state.most_bytes = settings.idempotency_bytes.0;
        state.time = settings.idempotency_time.0;
    }

    /// Looks up the key of a command.
    pub fn entry(self: &Rc<Self>, key: &str, fingerprint: Fingerprint, mut caller: Caller) -> Entry {
        if key.is_empty() || key.len() > MAX_KEY {
            let text = format!("the Idempotency-Key must have 1 to {MAX_KEY} bytes");
            return Entry::Refused(caller, Error::rejected(Code::BadBody, text));
        }
        let state = &mut *self.state.borrow_mut();
        state.forget(|key| self.forget_on_disk(key));
        let is_full = state.is_full(key);
        let State { entries, deadlines, followers, bytes, time, .. } = state;
        match entries.get_mut(key) {
            Some(kept) if kept.fingerprint != fingerprint => {
                let text = "the Idempotency-Key was used for another operation, action or body";
                Entry::Refused(caller, Error::rejected(Code::KeyReused, text))
            }
            Some(Kept { progress: Progress::Done(answer), .. }) => Entry::Answered(caller, answer.clone()),
            Some(Kept { progress: Progress::UnderWay(waiting), .. }) => {
                if waiting.len() >= MAX_FOLLOWERS {
                    let text = format!("{MAX_FOLLOWERS} callers wait for the answer to this key already");
                    return Entry::Refused(caller, Error::rejected(Code::TooMany, text));
                }
                *followers += 1;
                deadlines.insert((caller.deadline, *followers), key.to_owned());
                waiting.push(Follower { number: *followers, caller });
                self.joined.notify_one();
                Entry::Joined
            }
            None => {
                if is_full {
                    return Entry::Refused(caller, full(entries.len(), *time));
                }
                *bytes += cost(key);
                let begin = |record: &KeyRecord| Box::new(record.begin(key, &fingerprint, &caller.name));
                caller.begin = self.record.get().map(begin);
                entries
                    .insert(key.to_owned(), Kept { fingerprint, progress: Progress::UnderWay(Vec::new()) });
                let reservation = Reservation { keys: self.clone(), key: key.to_owned(), answered: false };
                caller.on_answer = Some(Box::new(|answer| reservation.answer(answer)));
                Entry::First(caller)
            }
        }
    }

    /// Answers callers that have joined at their deadlines; never ends.
    pub async fn expire(self: Rc<Self>) {
        loop {
            let next = self.state.borrow().deadlines.first_key_value().map(|((deadline, _), _)| *deadline);
            tokio::select! {
                () = self.joined.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    let late = self.state.borrow_mut().late(Instant::now());
                    late.into_iter().for_each(Caller::leave);
                }
            }
        }
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
    fn forget(&mut self, forgotten: impl Fn(&str)) {
        while self.order.front().is_some_and(|(at, _)| at.elapsed() >= self.time) {
            let Some((_, key)) = self.order.pop_front() else { break };
            if let Some(Kept { progress: Progress::Done(answer), .. }) = self.entries.remove(&key) {
                self.bytes -= cost(&key) + beyond(&answer);
                forgotten(&key);
            }
        }
    }

    /// Takes the followers whose deadline is over.
    fn late(&mut self, now: Instant) -> Vec<Caller> {
        let mut late = Vec::new();
        while let Some(first) = self.deadlines.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, number), key) = first.remove_entry();
            if let Some(Kept { progress: Progress::UnderWay(waiting), .. }) = self.entries.get_mut(&key)
                && let Some(place) = waiting.iter().position(|follower| follower.number == number)
            {
                late.push(waiting.remove(place).caller);
            }
        }
        late
    }

    /// The command of this key has ended. Returns its fingerprint, and the callers that wait for its answer.
    fn end(&mut self, key: &str) -> Option<(Fingerprint, Vec<Caller>)> {
        let Kept { fingerprint, progress: Progress::UnderWay(waiting) } = self.entries.remove(key)? else {
            return None;
        };
        self.bytes -= cost(key);
        for follower in &waiting {
            self.deadlines.remove(&(follower.caller.deadline, follower.number));
        }
        Some((fingerprint, waiting.into_iter().map(|follower| follower.caller).collect()))
    }

    /// Keeps an answer for a key, which was given then.
    fn keep(&mut self, key: &str, fingerprint: Fingerprint, answer: Rc<Answer>, at: Instant) {
        self.bytes += cost(key) + beyond(&answer);
        self.order.push_back((at, key.to_owned()));
        self.entries.insert(key.to_owned(), Kept { fingerprint, progress: Progress::Done(answer) });
    }
}

/// What a key takes in memory, in bytes: its text stands in two places.
fn cost(key: &str) -> usize {
    KEPT + 2 * key.len()
}

/// What an answer takes beyond the room that its key has for one, in bytes.
fn beyond(answer: &Answer) -> usize {
    answer.size().saturating_sub(ANSWER)
}

impl Reservation {
    /// Gives the answer to those that have joined, and keeps it if something may have been done: where there is no room for
    /// all of it, without its data.
    fn answer(mut self, answer: &Rc<Answer>) {
        self.answered = true;
        let ended = self.end(|state, key, fingerprint| {
            if !answer.outcome.is_none_or(may_be_done) {
                return self.keys.forget_on_disk(key);
            }
            let fits = state.bytes + cost(key) + beyond(answer) <= state.most_bytes;
            let kept = if fits {
                answer.clone()
            } else {
                let why = "the first caller got the data; they were not kept (commands.idempotency_bytes)";
                Rc::new(answer.without_data(why.to_owned()))
            };
            if let Some(record) = self.keys.record.get() {
                record.keep(key, &fingerprint, &kept);
            }
            state.keep(key, fingerprint, kept, Instant::now());
        });
        ended.into_iter().for_each(|follower| follower.repeat(answer));
    }

    /// Ends the entry. Returns the callers that have joined, which answer when they are dropped: by then, the keys must not be
    /// borrowed any more.
    fn end(&self, then: impl FnOnce(&mut State, &str, Fingerprint)) -> Vec<Caller> {
        let state = &mut *self.keys.state.borrow_mut();
        let Some((fingerprint, waiting)) = state.end(&self.key) else { return Vec::new() };
        then(state, &self.key, fingerprint);
        waiting
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.answered {
            drop(self.end(|_, key, _| self.keys.forget_on_disk(key)));
        }
    }
}

#[cfg(test)]
mod tests;
