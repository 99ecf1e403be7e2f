//! What was published lately, by identity: a service that says the same thing twice is published once.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pontoon_sdk::EventType;

/// How many events an instance remembers.
const REMEMBERED: usize = 16_384;

/// An event's identity, short enough to keep many. Two that differ are the same once in 2^128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u64, u64);

/// The identities of the last events of an instance.
#[derive(Default)]
pub struct Recent {
    keys: (RandomState, RandomState),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashSet<Identity>,
    /// The oldest first. One that was forgotten may still stand here, and then goes without effect.
    order: VecDeque<Identity>,
}

impl Recent {
    /// The identity of an event of this kind.
    pub fn identity(&self, kind: EventType, text: &str) -> Identity {
        let hash = |keys: &RandomState| keys.hash_one((kind.as_str(), text));
        Identity(hash(&self.keys.0), hash(&self.keys.1))
    }

    /// Remembers an event. `false` if it was known.
    pub fn remember(&self, identity: Identity) -> bool {
        let mut state = self.state();
        if !state.known.insert(identity) {
            return false;
        }
        state.order.push_back(identity);
        if state.order.len() > REMEMBERED
            && let Some(oldest) = state.order.pop_front()
        {
            state.known.remove(&oldest);
        }
        true
    }

    /// Forgets an event that was not published after all, so that it can be when it is said again.
    pub fn forget(&self, identity: Identity) {
        self.state().known.remove(&identity);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_until_it_is_forgotten_or_too_old() {
        let recent = Recent::default();
        let identity = |number: usize| recent.identity(EventType::MessageCreated, &number.to_string());
        assert!(recent.remember(identity(0)));
        assert!(!recent.remember(identity(0)));
        recent.forget(identity(0));
        assert!(recent.remember(identity(0)));
        assert!(recent.remember(recent.identity(EventType::MessageUpdated, "0")));
        assert!((1..=REMEMBERED).all(|number| recent.remember(identity(number))));
        assert!(recent.remember(identity(0)));
        assert!(!recent.remember(identity(REMEMBERED)));
        assert!(recent.state().order.len() <= REMEMBERED);
    }
}
