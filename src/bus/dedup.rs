//! The identities of the events published last: an event that a service sends twice is published once.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};

use pontoon_sdk::EventType;
use serde::{Deserialize, Serialize};

use crate::envelope::Identity;

/// How many events an instance remembers.
const REMEMBERED: usize = 16_384;
/// How many identities are written together.
const CHUNK: usize = 64;
/// The place of an event that was forgotten.
const NONE: Identity = Identity(0, 0);

/// Some identities, and their number in the ring.
pub type Chunk = (usize, Vec<u8>);

/// What has changed of the identities.
pub struct Changes {
    /// What is needed besides the ring to go on with it.
    pub head: Vec<u8>,
    /// The parts of the ring that have changed.
    pub chunks: Vec<Chunk>,
}

/// The identities of the last events of an instance.
pub struct Recent {
    head: Head,
    /// The place of each.
    known: HashMap<Identity, usize>,
    /// A ring of at most [`REMEMBERED`].
    ring: Vec<Identity>,
    /// The chunks of the ring that have changed since they were taken.
    changed: BTreeSet<usize>,
}

/// What is needed besides the ring to go on with it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Head {
    /// Random, so that a service cannot choose what collides.
    secrets: (u64, u64),
    /// Where the next one is put.
    next: usize,
}

impl Default for Recent {
    fn default() -> Self {
        let random = || RandomState::new().hash_one(());
        let head = Head { secrets: (random(), random()), next: 0 };
        Self { head, known: HashMap::new(), ring: Vec::new(), changed: BTreeSet::new() }
    }
}

impl Recent {
    /// The identity of an event of this kind.
    pub fn identity(&self, kind: EventType, text: &str) -> Identity {
        let hash = |secret: u64| {
            let mut hasher = DefaultHasher::new();
            (secret, kind.as_str(), text).hash(&mut hasher);
            hasher.finish()
        };
        Identity(hash(self.head.secrets.0), hash(self.head.secrets.1))
    }

    /// Remembers an event. `false` if it was known.
    pub fn remember(&mut self, identity: Identity) -> bool {
        if self.known.contains_key(&identity) {
            return false;
        }
        let place = self.head.next;
        self.head.next = (place + 1) % REMEMBERED;
        match self.ring.get_mut(place) {
            Some(oldest) => drop(self.known.remove(&std::mem::replace(oldest, identity))),
            None => self.ring.push(identity),
        }
        self.known.insert(identity, place);
        self.changed.insert(place / CHUNK);
        true
    }

    /// Forgets an event that was dropped, so that it is published if the service sends it again.
    pub fn forget(&mut self, identity: Identity) {
        if let Some(place) = self.known.remove(&identity) {
            self.ring.iter_mut().skip(place).take(1).for_each(|known| *known = NONE);
            self.changed.insert(place / CHUNK);
        }
    }

    /// What has changed since this was called last.
    pub fn take_changes(&mut self) -> Option<Changes> {
        if self.changed.is_empty() {
            return None;
        }
        let bytes = |chunk: &[Identity]| -> Vec<u8> {
            let both = |Identity(first, second): &Identity| [first.to_le_bytes(), second.to_le_bytes()];
            chunk.iter().flat_map(both).flatten().collect()
        };
        let changed = std::mem::take(&mut self.changed).into_iter();
        let chunks = changed.filter_map(|number| Some((number, bytes(self.ring.chunks(CHUNK).nth(number)?))));
        Some(Changes {
            head: postcard::to_allocvec(&self.head).unwrap_or_default(),
            chunks: chunks.collect(),
        })
    }

    /// Goes on with what an earlier run has taken: the last head, and the last of each chunk in the order of their numbers.
    pub fn restore(&mut self, head: &[u8], chunks: impl Iterator<Item = Chunk>) {
        let Ok(head) = postcard::from_bytes::<Head>(head) else { return };
        *self = Self { head: Head { next: 0, ..head }, ..Self::default() };
        for (number, bytes) in chunks {
            // A chunk that is missing leaves its places free.
            let start = number.saturating_mul(CHUNK);
            if start < self.ring.len() || start >= REMEMBERED {
                continue;
            }
            self.ring.resize(start, NONE);
            let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
            let (numbers, _) = bytes.as_chunks::<8>();
            let (pairs, _) = numbers.as_chunks::<2>();
            self.ring.extend(
                pairs.iter().take(CHUNK).map(|[first, second]| Identity(number(first), number(second))),
            );
        }
        let places = self.ring.iter().copied().enumerate().filter(|(_, identity)| *identity != NONE);
        self.known = places.map(|(place, identity)| (identity, place)).collect();
        self.head.next = head.next.min(self.ring.len()) % REMEMBERED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_until_it_is_forgotten_or_too_old() {
        let mut recent = Recent::default();
        let (kind, hashes) = (EventType::MessageCreated, Recent { head: recent.head, ..Recent::default() });
        let identity = |number: usize| hashes.identity(kind, &number.to_string());
        assert!(recent.remember(identity(0)));
        assert!(!recent.remember(identity(0)));
        recent.forget(identity(0));
        assert!(recent.remember(identity(0)));
        assert!(recent.remember(hashes.identity(EventType::MessageUpdated, "0")));
        assert!((1..=REMEMBERED).all(|number| recent.remember(identity(number))));
        assert!(recent.remember(identity(0)));
        assert!(!recent.remember(identity(REMEMBERED)));
        assert!(recent.ring.len() <= REMEMBERED && recent.known.len() <= REMEMBERED);
    }

    #[test]
    fn what_was_taken_is_known_to_the_next_run_and_what_was_forgotten_is_not() {
        let (mut recent, mut saved) = (Recent::default(), std::collections::BTreeMap::new());
        let mut head = Vec::new();
        let identity =
            |recent: &Recent, number: usize| recent.identity(EventType::MessageCreated, &number.to_string());
        // Twice around the ring, taken at odd places.
        for number in 0..2 * REMEMBERED + 100 {
            let identity = identity(&recent, number);
            assert!(recent.remember(identity));
            if number % 1_000 == 7 {
                let changes = recent.take_changes().unwrap();
                head = changes.head;
                saved.extend(changes.chunks);
            }
        }
        let last = identity(&recent, 2 * REMEMBERED + 99);
        recent.forget(last);
        let changes = recent.take_changes().unwrap();
        head.clone_from(&changes.head);
        saved.extend(changes.chunks);
        assert!(recent.take_changes().is_none());
        let mut next = Recent::default();
        next.restore(&head, saved.into_iter());
        let known = |number: usize| next.known.contains_key(&identity(&next, number));
        assert!((REMEMBERED + 100..2 * REMEMBERED + 99).all(known));
        assert!(!known(2 * REMEMBERED + 99) && !known(REMEMBERED + 99));
        assert_eq!(next.head.next, recent.head.next);
        assert!(next.take_changes().is_none());
        // What is damaged is not known.
        let mut next = Recent::default();
        next.restore(&head, [(1, vec![1; 30]), (0, vec![2; 16]), (9_999, vec![3; 16])].into_iter());
        assert_eq!((next.known.len(), next.ring.len()), (1, 65));
    }
}
