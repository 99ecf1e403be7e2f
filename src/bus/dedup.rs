//! The identities of the events published last: an event that a service sends twice is published once.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use pontoon_sdk::EventType;

use crate::envelope::Identity;

/// How many events an instance remembers.
const REMEMBERED: usize = 16_384;

/// The identities of the last events of an instance.
#[derive(Default)]
pub struct Recent {
    keys: (RandomState, RandomState),
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
    pub fn remember(&mut self, identity: Identity) -> bool {
        if !self.known.insert(identity) {
            return false;
        }
        self.order.push_back(identity);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Forgets an event that was dropped, so that it is published if the service sends it again.
    pub fn forget(&mut self, identity: Identity) {
        self.known.remove(&identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_until_it_is_forgotten_or_too_old() {
        let mut recent = Recent::default();
        let (kind, hashes) =
            (EventType::MessageCreated, Recent { keys: recent.keys.clone(), ..Recent::default() });
        let identity = |number: usize| hashes.identity(kind, &number.to_string());
        assert!(recent.remember(identity(0)));
        assert!(!recent.remember(identity(0)));
        recent.forget(identity(0));
        assert!(recent.remember(identity(0)));
        assert!(recent.remember(hashes.identity(EventType::MessageUpdated, "0")));
        assert!((1..=REMEMBERED).all(|number| recent.remember(identity(number))));
        assert!(recent.remember(identity(0)));
        assert!(!recent.remember(identity(REMEMBERED)));
        assert!(recent.order.len() <= REMEMBERED);
    }
}
