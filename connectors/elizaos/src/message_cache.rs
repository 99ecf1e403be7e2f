//! Which messages were told already, and in which version: the service tells of changes, and of old messages to those
//! who join a room, by the same event as of new ones. And what the server last said that it speaks.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use pontoon_sdk::EventType;
use pontoon_sdk::lenient::Timestamp;

use crate::config::MAX_ID;
use crate::session::Tongue;

/// How many messages are known at most.
const MAX_MESSAGES: usize = 8_192;
/// How many versions of each.
const MAX_VERSIONS: usize = 8;

/// The messages that were told last and what the server speaks, over all connections of an instance.
#[derive(Default)]
pub(crate) struct Known {
    keys: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: HashMap<Arc<str>, Message>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
    /// What the server last said itself that it speaks.
    spoken: Option<Tongue>,
}

struct Message {
    /// When it was written, in milliseconds since 1970.
    written: Option<i64>,
    /// The text of the version that was told last.
    text: u64,
    /// Its versions, the last told at the end.
    versions: VecDeque<Version>,
}

/// A version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    number: u64,
    kind: EventType,
}

/// What the service says of a message, as far as it tells versions apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look<'a> {
    pub(crate) id: &'a str,
    pub(crate) text: Option<&'a str>,
    pub(crate) created: Option<&'a Timestamp>,
    pub(crate) updated: Option<&'a Timestamp>,
    /// When it was written, in milliseconds since 1970.
    pub(crate) written: Option<i64>,
}

/// A time, such that all forms of the same moment are equal. A text that is no moment is equal to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum When<'a> {
    /// In nanoseconds since 1970.
    Moment(i128),
    Text(&'a str),
}

impl<'a> When<'a> {
    fn of(time: &'a Timestamp) -> Self {
        time.time.map_or(Self::Text(&time.text), |time| Self::Moment(time.unix_timestamp_nanos()))
    }
}

/// What is to be told of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// That it is new, or that it changed.
    pub(crate) kind: EventType,
    /// What makes it the same happening as another.
    pub(crate) identity: String,
    /// Whether this very version was told before.
    pub(crate) again: bool,
}

impl Known {
    /// Notes what is said of a message.
    pub(crate) fn tell(&self, look: Look<'_>) -> Told {
        let (created, updated) = (look.created.map(When::of), look.updated.map(When::of));
        let number = self.keys.hash_one((updated.or(created), look.text));
        let text = self.keys.hash_one(look.text);
        let changed = updated.is_some() && updated != created;
        let first = if changed { EventType::MessageUpdated } else { EventType::MessageCreated };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, again) = match state.messages.get_mut(look.id) {
            Some(message) => message.tell(look.updated.is_some(), number, text),
            None => {
                let version = Version { number, kind: first };
                state.learn(look, text, version);
                (version, false)
            }
        };
        let identity = format!("{:?} {:016x}", look.id, version.number);
        Told { kind: version.kind, identity, again }
    }

    /// The server has said what it speaks.
    pub(crate) fn speaks(&self, tongue: Tongue) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).spoken = Some(tongue);
    }

    /// What the server last said that it speaks, over all connections of the instance.
    pub(crate) fn spoken(&self) -> Option<Tongue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).spoken
    }

    /// Whether anything was told of a message.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).messages.contains_key(id)
    }

    /// When a message was written, in milliseconds since 1970.
    pub(crate) fn written(&self, id: &str) -> Option<i64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).messages.get(id)?.written
    }
}

impl State {
    fn learn(&mut self, look: Look<'_>, text: u64, version: Version) {
        if look.id.len() > MAX_ID {
            return;
        }
        let id: Arc<str> = look.id.into();
        let versions = VecDeque::from([version]);
        self.messages.insert(id.clone(), Message { written: look.written, text, versions });
        self.order.push_back(id);
        if self.order.len() > MAX_MESSAGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.messages.remove(&oldest);
        }
    }
}

impl Message {
    /// The version that is told, and whether it was before.
    fn tell(&mut self, dated: bool, number: u64, text: u64) -> (Version, bool) {
        let known = if dated {
            self.versions.iter().find(|version| version.number == number)
        } else {
            // Live changes carry their time. What carries none is the message as it stands, perhaps with another time
            // of writing than it was first told with.
            self.versions.back().filter(|_| self.text == text)
        };
        if let Some(known) = known {
            return (*known, true);
        }
        let version = Version { number, kind: EventType::MessageUpdated };
        self.text = text;
        self.versions.push_back(version);
        if self.versions.len() > MAX_VERSIONS {
            self.versions.pop_front();
        }
        (version, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(known: &Known, text: &str, created: Option<&str>, updated: Option<&str>) -> Told {
        let (created, updated) = (created.map(Timestamp::of_text), updated.map(Timestamp::of_text));
        known.tell(Look {
            id: "m",
            text: Some(text),
            created: created.as_ref(),
            updated: updated.as_ref(),
            written: None,
        })
    }

    #[test]
    fn a_message_is_new_once_and_a_change_is_told_once() {
        let known = Known::default();
        let new = tell(&known, "a", Some("1"), Some("1"));
        assert_eq!((new.kind, new.again), (EventType::MessageCreated, false));
        assert_eq!(tell(&known, "a", Some("1"), Some("1")), Told { again: true, ..new });

        let changed = tell(&known, "a", Some("1"), Some("2"));
        assert_eq!((changed.kind, changed.again), (EventType::MessageUpdated, false));
        let more = tell(&known, "b", Some("1"), Some("3"));
        assert_eq!((more.kind, more.again), (EventType::MessageUpdated, false));
        assert_ne!(more.identity, changed.identity);
        // Packets that are sent again, and the message as it stands, told to those who join.
        assert_eq!(tell(&known, "a", Some("1"), Some("2")), Told { again: true, ..changed });
        assert_eq!(tell(&known, "b", Some("7"), None), Told { again: true, ..more });
        // What happened while nobody listened.
        let missed = tell(&known, "c", Some("7"), None);
        assert_eq!((missed.kind, missed.again), (EventType::MessageUpdated, false));
    }

    #[test]
    fn the_same_moment_is_the_same_in_every_form() {
        let forms = ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000Z", "2023-11-15T00:13:20+02:00"];
        let times = forms.iter().map(|form| Timestamp::of_text(form));
        let times: Vec<_> = times.chain([Timestamp::of_millis(1_700_000_000_000)]).collect();
        let late = Timestamp::of_millis(1_700_000_000_001);
        for created in &times {
            let known = Known::default();
            for (place, updated) in times.iter().enumerate() {
                let look =
                    Look { id: "m", created: Some(created), updated: Some(updated), ..Look::default() };
                let told = known.tell(look);
                assert_eq!((told.kind, told.again), (EventType::MessageCreated, place > 0));
            }
            let look = Look { id: "n", created: Some(created), updated: Some(&late), ..Look::default() };
            assert_eq!(known.tell(look).kind, EventType::MessageUpdated);
        }
    }

    #[test]
    fn a_change_of_what_was_never_heard_of_is_a_change() {
        let known = Known::default();
        assert_eq!(tell(&known, "a", Some("1"), Some("2")).kind, EventType::MessageUpdated);
        assert!(known.has("m") && !known.has("n"));
        let look = Look { id: "n", written: Some(7), ..Look::default() };
        assert_eq!(known.tell(look).kind, EventType::MessageCreated);
        assert!(known.tell(look).again);
        assert_eq!((known.written("n"), known.written("m")), (Some(7), None));
    }

    #[test]
    fn the_oldest_is_forgotten_and_keeps_its_identity() {
        let known = Known::default();
        let first = tell(&known, "a", Some("1"), None);
        for number in 0..MAX_MESSAGES {
            known.tell(Look { id: &number.to_string(), ..Look::default() });
        }
        assert!(!known.has("m"));
        assert_eq!(tell(&known, "a", Some("1"), None), first);
        for version in 0..=MAX_VERSIONS {
            tell(&known, "a", Some("1"), Some(&format!("2{version}")));
        }
        known.tell(Look { id: &"i".repeat(MAX_ID + 1), ..Look::default() });
        let state = known.state.lock().unwrap();
        assert_eq!((state.messages.len(), state.order.len()), (MAX_MESSAGES, MAX_MESSAGES));
        assert_eq!(state.messages["m"].versions.len(), MAX_VERSIONS);
    }
}
