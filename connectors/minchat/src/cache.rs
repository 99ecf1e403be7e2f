//! What the links of an instance know together: which chat a message is in, as MinChat names a message that was deleted
//! or seen by its id alone; and how often each link received the same payload.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::LinkKey;

use crate::config::MAX_ID;

/// How many messages are kept at most.
const MAX_MESSAGES: usize = 8_192;

/// How many payloads are counted at most, over all links.
const MAX_COUNTED: usize = 8_192;

/// The chats of the messages that were received last, and counts of payloads, over all links of an instance.
#[derive(Default)]
pub(crate) struct MessageCache(Mutex<State>);

#[derive(Default)]
struct State {
    chats: HashMap<Arc<str>, Arc<str>>,
    /// The ids of the messages, the oldest first.
    order: VecDeque<Arc<str>>,
    /// How often a link received a payload, by the link and the hash of the payload.
    counts: HashMap<(LinkKey, u64), u64>,
    /// Grows whenever the counts are cleared, so that no count is taken for one from before.
    generation: u64,
    hasher: RandomState,
}

/// That a link received a payload. A payload that every link receives is of the same happening where the observations are
/// equal: a link that receives it again observes another happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observation {
    /// How often the link has received it, this time included.
    pub(crate) count: u64,
    /// The generation of the count.
    pub(crate) generation: u64,
}

impl MessageCache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the chat of a message.
    pub(crate) fn insert(&self, message: &str, chat: &str) {
        if message.len().max(chat.len()) > MAX_ID {
            return;
        }
        let mut state = self.state();
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

    /// The chat of a message, if it is known.
    pub(crate) fn chat(&self, message: &str) -> Option<String> {
        self.state().chats.get(message).map(|chat| chat.as_ref().to_owned())
    }

    /// Counts a payload that a link has received.
    pub(crate) fn observe(&self, link: &LinkKey, payload: &[u8]) -> Observation {
        let mut state = self.state();
        let key = (link.clone(), state.hasher.hash_one(payload));
        if state.counts.len() >= MAX_COUNTED && !state.counts.contains_key(&key) {
            state.clear_counts();
        }
        let count = state.counts.entry(key).or_default();
        *count += 1;
        Observation { count: *count, generation: state.generation }
    }

    /// Clears the counts when a link connects: it has missed what the others have received, and with lower counts its
    /// next events would be taken for theirs and dropped. An event that is published twice is the smaller fault.
    pub(crate) fn connected(&self) {
        self.state().clear_counts();
    }
}

impl State {
    fn clear_counts(&mut self) {
        self.counts.clear();
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_counts_for_itself_and_the_counts_are_bounded() {
        let cache = MessageCache::default();
        let (one, two) = (LinkKey::new("c1"), LinkKey::new("c2"));
        let observe = |link, payload: &[u8]| {
            let Observation { count, generation } = cache.observe(link, payload);
            (count, generation)
        };
        assert_eq!([observe(&one, b"x"), observe(&one, b"y"), observe(&one, b"x")], [(1, 0), (1, 0), (2, 0)]);
        assert_eq!([observe(&two, b"x"), observe(&two, b"x")], [(1, 0), (2, 0)]);
        // Counts that are lost are never mistaken for new ones.
        for number in 0..MAX_COUNTED {
            observe(&two, number.to_string().as_bytes());
        }
        assert_eq!(observe(&one, b"x"), (1, 1));
        cache.connected();
        assert_eq!(observe(&one, b"x"), (1, 2));
        assert!(cache.state().counts.len() <= MAX_COUNTED);
    }

    #[test]
    fn the_oldest_is_dropped_and_what_is_too_long_never_kept() {
        let cache = MessageCache::default();
        for number in 0..=MAX_MESSAGES {
            cache.insert(&number.to_string(), "c1");
            cache.insert(&number.to_string(), "c1");
        }
        cache.insert("1", "c2");
        cache.insert(&"x".repeat(MAX_ID + 1), "c1");
        assert_eq!(cache.chat("0"), None);
        assert_eq!(cache.chat("1").as_deref(), Some("c2"));
        assert_eq!(cache.chat(&"x".repeat(MAX_ID + 1)), None);
        let state = cache.state();
        assert_eq!((state.chats.len(), state.order.len()), (MAX_MESSAGES, MAX_MESSAGES));
    }
}
