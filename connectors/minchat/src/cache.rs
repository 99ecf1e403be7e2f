//! What the links of an instance know together: which chat a message is in, as MinChat names a message that was deleted
//! or seen by its id alone; and how often each link heard the same words.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use pontoon_sdk::LinkKey;

use crate::config::MAX_ID;

/// How many messages are known at most.
const MAX_MESSAGES: usize = 8_192;

/// How many words are counted at most, over all links.
const MAX_COUNTED: usize = 8_192;

/// The chats of the messages that were last heard of, and what the links heard, over all links of an instance.
#[derive(Default)]
pub(crate) struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    chats: HashMap<Arc<str>, Arc<str>>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
    /// Links and hashes of words, with how often they were heard there.
    counts: HashMap<(LinkKey, u64), u64>,
    /// Grows whenever the counts begin anew, so that what is counted then is not taken for what was counted before.
    generation: u64,
    hasher: RandomState,
}

impl Known {
    /// Notes the chat of a message.
    pub(crate) fn learn(&self, message: &str, chat: &str) {
        if message.len().max(chat.len()) > MAX_ID {
            return;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = state.chats.get_mut(message) {
            if **known != *chat {
                *known = chat.into();
            }
            return;
        }
        let message: Arc<str> = message.into();
        state.chats.insert(message.clone(), chat.into());
        state.order.push_back(message);
        if state.order.len() > MAX_MESSAGES
            && let Some(oldest) = state.order.pop_front()
        {
            state.chats.remove(&oldest);
        }
    }

    /// How often a link has heard these words, this time included, and since when that is counted. Words that come over
    /// every link are the same happening where both numbers are the same: a link that hears them again hears of another.
    pub(crate) fn heard(&self, link: &LinkKey, words: &[u8]) -> (u64, u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (link.clone(), state.hasher.hash_one(words));
        if state.counts.len() >= MAX_COUNTED && !state.counts.contains_key(&key) {
            state.begin_anew();
        }
        let count = state.counts.entry(key).or_default();
        *count += 1;
        (*count, state.generation)
    }

    /// A link begins to listen, and has not heard what the others have: counts that differ for that reason would have it
    /// swallow what it alone hears. Better that something is told twice.
    pub(crate) fn listens(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).begin_anew();
    }

    /// The chat of a message, if it is known.
    pub(crate) fn chat(&self, message: &str) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.chats.get(message).map(|chat| chat.as_ref().to_owned())
    }
}

impl State {
    fn begin_anew(&mut self) {
        self.counts.clear();
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_counts_for_itself_and_the_counts_are_bounded() {
        let known = Known::default();
        let (one, two) = (LinkKey::new("c1"), LinkKey::new("c2"));
        let heard = |link, words: &[u8]| known.heard(link, words);
        assert_eq!([heard(&one, b"x"), heard(&one, b"y"), heard(&one, b"x")], [(1, 0), (1, 0), (2, 0)]);
        assert_eq!([heard(&two, b"x"), heard(&two, b"x")], [(1, 0), (2, 0)]);
        // Counts that are lost are never mistaken for new ones.
        for number in 0..MAX_COUNTED {
            heard(&two, number.to_string().as_bytes());
        }
        assert_eq!(heard(&one, b"x"), (1, 1));
        known.listens();
        assert_eq!(heard(&one, b"x"), (1, 2));
        assert!(known.0.lock().unwrap().counts.len() <= MAX_COUNTED);
    }

    #[test]
    fn the_oldest_is_forgotten_and_what_is_too_long_never_learned() {
        let known = Known::default();
        for number in 0..=MAX_MESSAGES {
            known.learn(&number.to_string(), "c1");
            known.learn(&number.to_string(), "c1");
        }
        known.learn("1", "c2");
        known.learn(&"x".repeat(MAX_ID + 1), "c1");
        assert_eq!(known.chat("0"), None);
        assert_eq!(known.chat("1").as_deref(), Some("c2"));
        assert_eq!(known.chat(&"x".repeat(MAX_ID + 1)), None);
        let state = known.0.lock().unwrap();
        assert_eq!((state.chats.len(), state.order.len()), (MAX_MESSAGES, MAX_MESSAGES));
    }
}
