//! Who said what, where, and in which order: what the services said is held against what was heard of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Event;

/// What is in order by itself. Between two of them no order is promised: they may come over different sockets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Voice {
    /// `message.created`; `typing` for both of its kinds.
    what: String,
    /// The channel, or what else is the event's scope.
    place: String,
    /// What kind of sender, and its id: `user u1`. Or what else tells this voice from others in the same place.
    by: String,
}

/// Every voice, and its words in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Voices(BTreeMap<Voice, Vec<String>>);

impl Voice {
    pub(crate) fn new(what: &str, place: &str, by: &str) -> Self {
        Self { what: what.to_owned(), place: place.to_owned(), by: by.to_owned() }
    }

    /// Whose words an event has, and the words.
    pub(crate) fn of(event: &Event) -> (Self, String) {
        let kind = event.kind();
        let sender = format!("{} {}", event.text("/sender/kind"), event.text("/sender/id"));
        let (what, by, words) = match kind.as_str() {
            "message.accepted" => (kind.as_str(), "", event.text("/message/id")),
            "message.delta" => (kind.as_str(), event.text("/message/id"), event.text("/delta")),
            "typing.started" => ("typing", sender.trim(), "started"),
            "typing.stopped" => ("typing", sender.trim(), "stopped"),
            "resource.broadcast" => (kind.as_str(), "", event.text("/data/text")),
            _ => (kind.as_str(), sender.trim(), event.text("/message/text")),
        };
        let place = match event.text("/channel") {
            channel if channel.is_empty() || channel == event.scope() => event.scope().to_owned(),
            channel => format!("{} in the subject, {channel} in the body", event.scope()),
        };
        (Self::new(what, &place, by), words.to_owned())
    }
}

impl Voices {
    /// Something was said.
    pub(crate) fn say(&mut self, voice: Voice, words: impl Into<String>) {
        self.0.entry(voice).or_default().push(words.into());
    }

    /// One more part of words. `length` is how many characters they have by now; then they stand there once.
    pub(crate) fn grow(&mut self, voice: Voice, delta: &str, length: Option<u64>) {
        let words = self.0.entry(voice).or_default();
        let so_far = words.last().map(String::as_str).unwrap_or_default().to_owned() + delta;
        let fits = length == Some(so_far.chars().count() as u64);
        match words.last_mut() {
            Some(last) if fits => *last = so_far,
            None if fits => words.push(so_far),
            _ => words.push(format!("{delta} after something else than the part before it")),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is any of one kind.
    pub(crate) fn has(&self, what: &str) -> bool {
        self.0.keys().any(|voice| voice.what == what)
    }

    /// Whether what was heard of one kind is what was said.
    pub(crate) fn agree_on(&self, what: &str, heard: &Self) -> bool {
        let of = |voices: &Self| {
            let mut voices = voices.0.clone();
            voices.retain(|voice, _| voice.what == what);
            voices
        };
        of(self) == of(heard)
    }

    /// Where what was heard begins to differ from what was said, a sentence for each voice.
    pub(crate) fn differences(&self, heard: &Self) -> Vec<String> {
        let none = Vec::new();
        let mut voices: Vec<&Voice> = self.0.keys().chain(heard.0.keys()).collect();
        voices.sort_unstable();
        voices.dedup();
        let differing = voices.into_iter().filter_map(|voice| {
            let (said, heard) = (self.0.get(voice).unwrap_or(&none), heard.0.get(voice).unwrap_or(&none));
            if said == heard {
                return None;
            }
            let place = said.iter().zip(heard).take_while(|(said, heard)| said == heard).count();
            let at = |words: &[String]| {
                words.get(place).map_or("nothing".to_owned(), |words| format!("{words:?}"))
            };
            Some(format!("{voice}: after {place} alike, {} was said, and {} heard", at(said), at(heard)))
        });
        differing.collect()
    }
}

impl fmt::Display for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.what, self.place)?;
        if self.by.is_empty() { Ok(()) } else { write!(f, " by {}", self.by) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voices(words: &[&str]) -> Voices {
        let mut voices = Voices::default();
        for words in words {
            voices.say(Voice::new("message.created", "c1", "user u1"), *words);
        }
        voices
    }

    #[test]
    fn what_is_missing_doubled_or_out_of_order_is_noticed() {
        let said = voices(&["1", "2", "3"]);
        assert!(said.differences(&voices(&["1", "2", "3"])).is_empty());
        for heard in [&["1", "3"][..], &["1", "2", "2", "3"], &["2", "1", "3"], &["1", "2", "3", "4"], &[]] {
            assert_eq!(said.differences(&voices(heard)).len(), 1, "{heard:?}");
            assert!(!said.agree_on("message.created", &voices(heard)), "{heard:?}");
        }
        let elsewhere = Voice::new("message.created", "c2", "user u1");
        let mut heard = said.clone();
        heard.say(elsewhere, "1");
        let told = "message.created in c2 by user u1: after 0 alike, nothing was said, and \"1\" heard";
        assert_eq!(said.differences(&heard), [told]);
    }

    #[test]
    fn parts_are_words_once_they_are_put_together() {
        let voice = || Voice::new("message.delta", "c1", "m1");
        let mut said = Voices::default();
        said.say(voice(), "abc");
        let mut heard = Voices::default();
        for (delta, length) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_ne!(heard, said);
            heard.grow(voice(), delta, Some(length));
        }
        assert_eq!(heard, said);
        for wrong in [[("a", 1), ("c", 3)], [("ab", 2), ("bc", 3)], [("b", 2), ("c", 3)]] {
            let mut heard = Voices::default();
            for (delta, length) in wrong {
                heard.grow(voice(), delta, Some(length));
            }
            assert_ne!(heard, said, "{wrong:?}");
        }
    }

    #[test]
    fn a_channel_that_is_not_the_subjects_is_another_place() {
        let body =
            |channel: &str| format!(r#"{{"channel":"{channel}","sender":{{"id":"u1","kind":"user"}}}}"#);
        let subject = "pontoon.event.minchat.support.typing.started.c1";
        let (right, words) = Voice::of(&Event::read(subject, None, body("c1").as_bytes()));
        assert_eq!((right.clone(), words.as_str()), (Voice::new("typing", "c1", "user u1"), "started"));
        let (wrong, _) = Voice::of(&Event::read(subject, None, body("c2").as_bytes()));
        assert_ne!(wrong, right);
    }
}
