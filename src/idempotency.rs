//! Commands that are sent again with the key of an earlier one: they are not carried out twice.
//!
//! Kept in memory, for ten minutes and within bounds. A command that was certainly not done leaves no trace, so that
//! it can be tried again under its key.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::replies::Answer;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(600);
/// How many keys are kept.
const MAX_KEYS: usize = 4_096;
/// How many bytes of answers are kept.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// How long a key may be.
const MAX_KEY: usize = 256;
/// How many callers may wait for one answer besides the first.
const MAX_FOLLOWERS: usize = 64;

/// The keys of one instance.
#[derive(Default)]
pub struct Keys(Mutex<State>);

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// Keys that were answered, in that order. Those under way are as many as commands may be, and stay.
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

struct Entry {
    body: [u8; 32],
    progress: Progress,
}

enum Progress {
    UnderWay(Vec<String>),
    Done(Arc<Answer>),
}

/// What a key says of a command.
pub enum Claim {
    /// It is the first: carry it out, and fill the slot.
    First(Slot),
    /// The first is under way: its answer goes to this caller, too.
    Joined,
    /// It was answered already.
    Answered(Arc<Answer>),
    /// The key was used for another command.
    Clash,
    /// The key is empty or too long, or too many wait for it.
    Unusable,
}

/// The place for an answer; a slot that is dropped frees its key.
pub struct Slot {
    keys: Arc<Keys>,
    key: String,
    filled: bool,
}

impl Keys {
    /// Looks a command up: `what` is its operation with its argument and its body.
    pub fn claim(self: &Arc<Self>, key: &str, what: [&[u8]; 2], reply: Option<&str>) -> Claim {
        if key.is_empty() || key.len() > MAX_KEY {
            return Claim::Unusable;
        }
        let mut digest = Sha256::new();
        for part in what {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        let body: [u8; 32] = digest.finalize().into();
        let mut state = self.state();
        state.forget_old();
        match state.entries.get_mut(key) {
            Some(entry) if entry.body != body => Claim::Clash,
            Some(Entry { progress: Progress::Done(answer), .. }) => Claim::Answered(answer.clone()),
            Some(Entry { progress: Progress::UnderWay(followers), .. }) => {
                if followers.len() >= MAX_FOLLOWERS {
                    return Claim::Unusable;
                }
                followers.extend(reply.map(str::to_owned));
                Claim::Joined
            }
            None => {
                let entry = Entry { body, progress: Progress::UnderWay(Vec::new()) };
                state.entries.insert(key.to_owned(), entry);
                Claim::First(Slot { keys: self.clone(), key: key.to_owned(), filled: false })
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_old(&mut self) {
        while let Some((at, _)) = self.order.front() {
            if at.elapsed() < KEPT && self.order.len() <= MAX_KEYS && self.bytes <= MAX_BYTES {
                break;
            }
            let Some((_, key)) = self.order.pop_front() else { break };
            if let Some(Entry { progress: Progress::Done(answer), .. }) = self.entries.remove(&key) {
                self.bytes -= answer.body.len();
            }
        }
    }
}

impl Slot {
    /// The answer. Returns where else it must go; it is kept only if something may have been done.
    pub fn fill(mut self, answer: &Arc<Answer>, keep: bool) -> Vec<String> {
        self.filled = true;
        let mut state = self.keys.state();
        let Some(Entry { body, progress: Progress::UnderWay(followers) }) = state.entries.remove(&self.key)
        else {
            return Vec::new();
        };
        if keep {
            state.bytes += answer.body.len();
            state.order.push_back((Instant::now(), self.key.clone()));
            state.entries.insert(self.key.clone(), Entry { body, progress: Progress::Done(answer.clone()) });
            state.forget_old();
        }
        followers
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.filled {
            self.keys.state().entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Arc<Answer> {
        Arc::new(Answer { status: "response", error: None, id: "1".into(), body: text.to_owned().into() })
    }

    fn claim(keys: &Arc<Keys>, key: &str, body: &str, reply: &str) -> Claim {
        keys.claim(key, [b"call.x", body.as_bytes()], Some(reply))
    }

    #[test]
    fn a_key_is_carried_out_once() {
        let keys = Arc::new(Keys::default());
        let Claim::First(slot) = claim(&keys, "k", "{}", "a") else { panic!("not the first") };
        assert!(matches!(claim(&keys, "k", "{}", "b"), Claim::Joined));
        assert!(matches!(claim(&keys, "k", "[]", "c"), Claim::Clash));
        assert_eq!(slot.fill(&answer("done"), true), ["b"]);
        let Claim::Answered(kept) = claim(&keys, "k", "{}", "d") else { panic!("not answered") };
        assert_eq!(kept.body, "done");
    }

    #[test]
    fn what_was_not_done_can_be_tried_again() {
        let keys = Arc::new(Keys::default());
        let Claim::First(slot) = claim(&keys, "k", "{}", "a") else { panic!("not the first") };
        assert!(slot.fill(&answer("failed"), false).is_empty());
        let Claim::First(slot) = claim(&keys, "k", "{}", "a") else { panic!("not free") };
        drop(slot);
        assert!(matches!(claim(&keys, "k", "[]", "a"), Claim::First(_)));
    }

    #[test]
    fn it_is_bounded() {
        let keys = Arc::new(Keys::default());
        for number in 0..MAX_KEYS * 2 {
            let Claim::First(slot) = claim(&keys, &number.to_string(), "{}", "a") else {
                panic!("not the first")
            };
            slot.fill(&answer(&"x".repeat(10_000)), true);
        }
        let state = keys.state();
        assert!(state.entries.len() <= MAX_KEYS && state.bytes <= MAX_BYTES);
        assert_eq!(state.bytes, state.entries.len() * 10_000);
        drop(state);
        assert!(matches!(claim(&keys, "", "{}", "a"), Claim::Unusable));
        assert!(matches!(claim(&keys, &"k".repeat(300), "{}", "a"), Claim::Unusable));
    }
}
