//! Which chat a message is in: MinChat names a message that was deleted or seen by its id alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::MAX_ID;

/// How many messages are known at most.
const MAX_MESSAGES: usize = 8_192;

/// The chats of the messages that were last heard of, over all links of an instance.
#[derive(Default)]
pub(crate) struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    chats: HashMap<Arc<str>, Arc<str>>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
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

    /// The chat of a message, if it is known.
    pub(crate) fn chat(&self, message: &str) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.chats.get(message).map(|chat| chat.as_ref().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
