//! What each service sent, where, and in which order, compared with what was received of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Event;

/// What is in order by itself. Between two of them no order is promised: they may come over different sockets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    /// `message.created`; `typing` for both of its kinds.
    what: String,
    /// The channel, or what else is the event's scope.
    place: String,
    /// What kind of sender, and its id: `user u1`. Or what else distinguishes this flow from others in the same place.
    by: String,
}

/// Every flow, and its texts in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Flows(BTreeMap<Flow, Vec<String>>);

impl Flow {
    pub(crate) fn new(what: &str, place: &str, by: &str) -> Self {
        Self { what: what.to_owned(), place: place.to_owned(), by: by.to_owned() }
    }

    /// The flow that an event belongs to, and its text.
    pub(crate) fn of(event: &Event) -> (Self, String) {
        let kind = event.kind();
        let sender = format!("{} {}", event.text("/sender/kind"), event.text("/sender/id"));
        let (what, by, text) = match kind.as_str() {
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
        (Self::new(what, &place, by), text.to_owned())
    }
}

impl Flows {
    /// Something was sent.
    pub(crate) fn push(&mut self, flow: Flow, text: impl Into<String>) {
        self.0.entry(flow).or_default().push(text.into());
    }

    /// One more part of a text, which is kept as one. `length` is how many characters it has by now.
    pub(crate) fn grow(&mut self, flow: Flow, delta: &str, length: Option<u64>) {
        let texts = self.0.entry(flow).or_default();
        let so_far = texts.last().map(String::as_str).unwrap_or_default().to_owned() + delta;
        let fits = length == Some(so_far.chars().count() as u64);
        match texts.last_mut() {
            Some(last) if fits => *last = so_far,
            None if fits => texts.push(so_far),
            _ => texts.push(format!("{delta} after something else than the part before it")),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is any of one kind.
    pub(crate) fn has(&self, what: &str) -> bool {
        self.0.keys().any(|flow| flow.what == what)
    }

    /// Whether what was received of one kind is what was sent.
    pub(crate) fn agree_on(&self, what: &str, received: &Self) -> bool {
        let of = |flows: &Self| {
            let mut flows = flows.0.clone();
            flows.retain(|flow, _| flow.what == what);
            flows
        };
        of(self) == of(received)
    }

    /// Where what was received begins to differ from what was sent, a sentence for each flow.
    pub(crate) fn differences(&self, received: &Self) -> Vec<String> {
        let none = Vec::new();
        let mut flows: Vec<&Flow> = self.0.keys().chain(received.0.keys()).collect();
        flows.sort_unstable();
        flows.dedup();
        let differing = flows.into_iter().filter_map(|flow| {
            let (expected, received) =
                (self.0.get(flow).unwrap_or(&none), received.0.get(flow).unwrap_or(&none));
            if expected == received {
                return None;
            }
            let place =
                expected.iter().zip(received).take_while(|(expected, received)| expected == received).count();
            let at =
                |texts: &[String]| texts.get(place).map_or("nothing".to_owned(), |text| format!("{text:?}"));
            Some(format!(
                "{flow}: after {place} alike, {} was sent, and {} received",
                at(expected),
                at(received)
            ))
        });
        differing.collect()
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.what, self.place)?;
        if self.by.is_empty() { Ok(()) } else { write!(f, " by {}", self.by) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flows(texts: &[&str]) -> Flows {
        let mut flows = Flows::default();
        for text in texts {
            flows.push(Flow::new("message.created", "c1", "user u1"), *text);
        }
        flows
    }

    #[test]
    fn what_is_missing_doubled_or_out_of_order_is_noticed() {
        let expected = flows(&["1", "2", "3"]);
        assert!(expected.differences(&flows(&["1", "2", "3"])).is_empty());
        for received in [&["1", "3"][..], &["1", "2", "2", "3"], &["2", "1", "3"], &["1", "2", "3", "4"], &[]]
        {
            assert_eq!(expected.differences(&flows(received)).len(), 1, "{received:?}");
            assert!(!expected.agree_on("message.created", &flows(received)), "{received:?}");
        }
        let elsewhere = Flow::new("message.created", "c2", "user u1");
        let mut received = expected.clone();
        received.push(elsewhere, "1");
        let difference =
            "message.created in c2 by user u1: after 0 alike, nothing was sent, and \"1\" received";
        assert_eq!(expected.differences(&received), [difference]);
    }

    #[test]
    fn parts_are_words_once_they_are_put_together() {
        let flow = || Flow::new("message.delta", "c1", "m1");
        let mut expected = Flows::default();
        expected.push(flow(), "abc");
        let mut received = Flows::default();
        for (delta, length) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_ne!(received, expected);
            received.grow(flow(), delta, Some(length));
        }
        assert_eq!(received, expected);
        for wrong in [[("a", 1), ("c", 3)], [("ab", 2), ("bc", 3)], [("b", 2), ("c", 3)]] {
            let mut received = Flows::default();
            for (delta, length) in wrong {
                received.grow(flow(), delta, Some(length));
            }
            assert_ne!(received, expected, "{wrong:?}");
        }
    }

    #[test]
    fn a_channel_that_is_not_the_subjects_is_another_place() {
        let body =
            |channel: &str| format!(r#"{{"channel":"{channel}","sender":{{"id":"u1","kind":"user"}}}}"#);
        let subject = "pontoon.event.minchat.support.typing.started.c1";
        let (right, text) = Flow::of(&Event::read(subject, None, body("c1").as_bytes()));
        assert_eq!((right.clone(), text.as_str()), (Flow::new("typing", "c1", "user u1"), "started"));
        let (wrong, _) = Flow::of(&Event::read(subject, None, body("c2").as_bytes()));
        assert_ne!(wrong, right);
    }
}
