//! The messages that were published last, and in which versions: the service sends changes, and old messages to those
//! who join a room, with the same event as new ones.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::EventType;
use pontoon_sdk::lenient::Timestamp;

use crate::config::MAX_ID;

/// How many messages are kept at most.
const MAX_MESSAGES: usize = 8_192;
/// How many versions of each.
const MAX_VERSIONS: usize = 8;

/// The messages that were published last, over all connections of an instance.
#[derive(Default)]
pub(crate) struct MessageCache {
    keys: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: HashMap<Arc<str>, Message>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
}

struct Message {
    /// When it was written, in nanoseconds since 1970.
    written: Option<i128>,
    /// Its versions, the newest at the end.
    versions: VecDeque<Version>,
}

/// A version of a message.
#[derive(Debug, Clone, Copy)]
struct Version {
    /// The hash of its time and text.
    number: u64,
    /// The hash of its text.
    text: u64,
    kind: EventType,
}

/// A message as the service sent it, as far as it tells versions apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Observation<'a> {
    pub(crate) id: &'a str,
    pub(crate) text: Option<&'a str>,
    pub(crate) created: Option<&'a Timestamp>,
    pub(crate) updated: Option<&'a Timestamp>,
}

/// What an observation is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// `message.created` or `message.updated`.
    pub(crate) kind: EventType,
    /// The same for the same version of the same message.
    pub(crate) identity: String,
    /// Whether this version was observed before.
    pub(crate) repeated: bool,
}

impl MessageCache {
    /// Takes in a message.
    pub(crate) fn observe(&self, observation: Observation<'_>) -> Observed {
        let Observation { id, text, created, updated } = observation;
        let time = updated.or(created).map(moment);
        let is_change = updated.is_some() && updated.map(moment) != created.map(moment);
        let kind = if is_change { EventType::MessageUpdated } else { EventType::MessageCreated };
        let version =
            Version { number: self.keys.hash_one((time, text)), text: self.keys.hash_one(text), kind };
        let mut state = self.state();
        let (version, repeated) = match state.messages.get_mut(id) {
            Some(message) => message.observe(version, updated.is_some()),
            None => {
                state.insert(id, created, version);
                (version, false)
            }
        };
        Observed { kind: version.kind, identity: format!("{id:?} {:016x}", version.number), repeated }
    }

    /// Whether a message was observed.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.state().messages.contains_key(id)
    }

    /// When a message was written, in nanoseconds since 1970.
    pub(crate) fn written(&self, id: &str) -> Option<i128> {
        self.state().messages.get(id)?.written
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, id: &str, created: Option<&Timestamp>, version: Version) {
        if id.len() > MAX_ID {
            return;
        }
        let id: Arc<str> = id.into();
        let written = created.and_then(|created| moment(created).ok());
        self.messages.insert(id.clone(), Message { written, versions: VecDeque::from([version]) });
        self.order.push_back(id);
        if self.order.len() > MAX_MESSAGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.messages.remove(&oldest);
        }
    }
}

impl Message {
    /// The version that is observed, and whether it was observed before.
    fn observe(&mut self, version: Version, is_dated: bool) -> (Version, bool) {
        let known = if is_dated {
            self.versions.iter().find(|known| known.number == version.number)
        } else {
            // A change carries its time. A message without one is the newest version, perhaps with another time of
            // writing than it was first sent with.
            self.versions.back().filter(|newest| newest.text == version.text)
        };
        if let Some(known) = known {
            return (*known, true);
        }
        let version = Version { kind: EventType::MessageUpdated, ..version };
        self.versions.push_back(version);
        if self.versions.len() > MAX_VERSIONS {
            self.versions.pop_front();
        }
        (version, false)
    }
}

/// A time in nanoseconds since 1970, so that all forms of the same moment are equal; its text if it cannot be read.
pub(crate) fn moment(time: &Timestamp) -> Result<i128, &str> {
    time.time.map(|time| time.unix_timestamp_nanos()).ok_or(time.text.as_str())
}
#[cfg(test)]
mod tests {
    use super::*;

    fn observe(cache: &MessageCache, text: &str, created: Option<&str>, updated: Option<&str>) -> Observed {
        let (created, updated) = (created.map(Timestamp::of_text), updated.map(Timestamp::of_text));
        cache.observe(Observation {
            id: "m",
            text: Some(text),
            created: created.as_ref(),
            updated: updated.as_ref(),
        })
    }

    #[test]
    fn a_version_is_new_once() {
        let cache = MessageCache::default();
        let new = observe(&cache, "a", Some("1"), Some("1"));
        assert_eq!((new.kind, new.repeated), (EventType::MessageCreated, false));
        assert_eq!(observe(&cache, "a", Some("1"), Some("1")), Observed { repeated: true, ..new });

        let changed = observe(&cache, "a", Some("1"), Some("2"));
        assert_eq!((changed.kind, changed.repeated), (EventType::MessageUpdated, false));
        let more = observe(&cache, "b", Some("1"), Some("3"));
        assert_eq!((more.kind, more.repeated), (EventType::MessageUpdated, false));
        assert_ne!(more.identity, changed.identity);
        // Packets that are sent again, and the newest version, sent to those who join.
        assert_eq!(observe(&cache, "a", Some("1"), Some("2")), Observed { repeated: true, ..changed });
        assert_eq!(observe(&cache, "b", Some("7"), None), Observed { repeated: true, ..more });
        // What changed while there was no connection.
        let missed = observe(&cache, "c", Some("7"), None);
        assert_eq!((missed.kind, missed.repeated), (EventType::MessageUpdated, false));
    }

    #[test]
    fn the_same_moment_is_the_same_in_every_form() {
        let forms = ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000Z", "2023-11-15T00:13:20+02:00"];
        let times = forms.iter().map(|form| Timestamp::of_text(form));
        let times: Vec<_> = times.chain([Timestamp::of_millis(1_700_000_000_000)]).collect();
        let late = Timestamp::of_millis(1_700_000_000_001);
        for created in &times {
            let cache = MessageCache::default();
            for (place, updated) in times.iter().enumerate() {
                let observation = Observation {
                    id: "m",
                    created: Some(created),
                    updated: Some(updated),
                    ..Observation::default()
                };
                let observed = cache.observe(observation);
                assert_eq!((observed.kind, observed.repeated), (EventType::MessageCreated, place > 0));
            }
            let observation = Observation {
                id: "n",
                created: Some(created),
                updated: Some(&late),
                ..Observation::default()
            };
            assert_eq!(cache.observe(observation).kind, EventType::MessageUpdated);
        }
    }

    #[test]
    fn a_change_of_an_unknown_message_is_a_change() {
        let cache = MessageCache::default();
        assert_eq!(observe(&cache, "a", Some("1"), Some("2")).kind, EventType::MessageUpdated);
        assert!(cache.contains("m") && !cache.contains("n"));
        let created = Timestamp::of_millis(7);
        let observation = Observation { id: "n", created: Some(&created), ..Observation::default() };
        assert_eq!(cache.observe(observation).kind, EventType::MessageCreated);
        assert!(cache.observe(observation).repeated);
        assert_eq!((cache.written("n"), cache.written("m")), (Some(7_000_000), None));
    }

    #[test]
    fn the_oldest_is_forgotten_and_keeps_its_identity() {
        let cache = MessageCache::default();
        let first = observe(&cache, "a", Some("1"), None);
        for number in 0..MAX_MESSAGES {
            cache.observe(Observation { id: &number.to_string(), ..Observation::default() });
        }
        assert!(!cache.contains("m"));
        assert_eq!(observe(&cache, "a", Some("1"), None), first);
        for version in 0..=MAX_VERSIONS {
            observe(&cache, "a", Some("1"), Some(&format!("2{version}")));
        }
        cache.observe(Observation { id: &"i".repeat(MAX_ID + 1), ..Observation::default() });
        let state = cache.state.lock().unwrap();
        assert_eq!((state.messages.len(), state.order.len()), (MAX_MESSAGES, MAX_MESSAGES));
        assert_eq!(state.messages["m"].versions.len(), MAX_VERSIONS);
    }
}
