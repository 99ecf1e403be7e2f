//! What a service sent and received, and what was replied and stored: whether that agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Everything that happened, as the two ends know it.
#[derive(Debug, Default)]
pub(super) struct History {
    /// When the service sent each number, and when the newest connection of the instance was opened at the service.
    pub(super) sent: BTreeMap<u64, (OffsetDateTime, Option<OffsetDateTime>)>,
    /// The status that was replied to each command, if one was.
    pub(super) replied: BTreeMap<u64, Option<String>>,
    /// The commands that the service received, in their order.
    pub(super) received: Vec<u64>,
}

/// What became of the events and commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) stored: usize,
    pub(super) missed: usize,
    pub(super) commands: usize,
    pub(super) answered: usize,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.missed += other.missed;
        self.commands += other.commands;
        self.answered += other.answered;
    }
}

impl History {
    /// Checks everything against the contents of the stream: nothing twice or out of order, what is missing lies in a gap, no
    /// command was carried out twice or out of order, and no reply claims what is not so.
    ///
    /// # Panics
    /// If something is wrong.
    pub(super) fn check(&self, events: &[(String, Value)]) -> Outcome {
        let stored: Vec<u64> = events.iter().filter_map(|(_, body)| body["data"]["n"].as_u64()).collect();
        let in_order = stored.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(in_order, "doubled or out of order: {:?}", stored.windows(2).find(|pair| pair[0] >= pair[1]));
        let gaps: Vec<_> = events.iter().filter(|(kind, _)| kind.contains("gap.detected")).collect();
        let time = |value: &Value| OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok();
        let gaps: Vec<_> = gaps.iter().map(|(_, body)| (time(&body["from"]), time(&body["to"]))).collect();
        let known: BTreeSet<_> = stored.iter().copied().collect();
        let missed: Vec<_> = self.sent.iter().filter(|(number, _)| !known.contains(number)).collect();
        for (number, (at, opened)) in &missed {
            let covered = gaps.iter().any(|(from, to)| {
                let is_behind = to.is_none_or(|to| to < *at);
                // The daemon may have the response to its upgrade before the service sends anything over the connection.
                let is_before_connection = opened.is_none_or(|opened| from.is_some_and(|from| opened < from));
                from.is_none_or(|from| from <= *at) && (!is_behind || is_before_connection)
            });
            let near: Vec<_> = gaps.iter().filter(|(from, _)| from.is_none_or(|from| from <= *at)).collect();
            assert!(
                covered,
                "{number}, sent at {at}, is missing and lies in no gap; the last one is {:?}",
                near.last()
            );
        }
        let disorder = self.received.windows(2).find(|pair| pair[0] >= pair[1]);
        assert!(disorder.is_none(), "commands were carried out twice or out of order: {disorder:?}");
        let received: BTreeSet<_> = self.received.iter().collect();
        let mut answered = 0;
        for (command, status) in &self.replied {
            let times = usize::from(received.contains(command));
            let allowed = match status.as_deref() {
                Some("response" | "acked" | "sent") => 1..=1,
                Some("unknown") | None => 0..=1,
                // Refused, failed, or no instance was there.
                Some(_) => 0..=0,
            };
            assert!(
                allowed.contains(&times),
                "command {command} was answered {status:?} and carried out {times} times"
            );
            answered += usize::from(status.as_deref() == Some("response"));
        }
        let (missed, commands) = (missed.len(), self.replied.len());
        Outcome { stored: stored.len(), missed, commands, answered }
    }
}

#[test]
fn what_is_wrong_is_found() {
    let at = |second: i64| OffsetDateTime::from_unix_timestamp(second).unwrap();
    let event = |n: u64| ("pontoon.resource.broadcast.v1".to_owned(), serde_json::json!({"data": {"n": n}}));
    let gap = |from: i64, to: i64| {
        let text = |second| at(second).format(&Rfc3339).unwrap();
        let body = serde_json::json!({"reason": "restarted", "from": text(from), "to": text(to)});
        ("pontoon.gap.detected.v1".to_owned(), body)
    };
    let sent = (1..=4).map(|n| (n, (at(n as i64), Some(at(0))))).collect::<BTreeMap<_, _>>();
    let replied = [(1, Some("response".to_owned())), (2, Some("rejected".to_owned())), (3, None)];
    let history = History { sent: sent.clone(), replied: replied.into(), received: vec![1, 3] };
    let good = [event(1), gap(2, 3), event(4)];
    assert_eq!(history.check(&good), Outcome { stored: 2, missed: 2, commands: 3, answered: 1 });
    let fails = |history: &History, events: &[(String, Value)]| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.check(events))).is_err()
    };
    // What is sent before the service has noted the connection behind a gap.
    let short = [event(1), gap(1, 2), event(4)];
    assert_eq!(history.check(&short).missed, 2);
    let opened_in_it = sent.iter().map(|(n, (sent, _))| (*n, (*sent, Some(at(2))))).collect();
    assert!(fails(&History { sent: opened_in_it, ..History::default() }, &short));
    for bad in [
        vec![event(1), gap(2, 3), event(4), event(4)],
        vec![event(4), gap(2, 3), event(1)],
        vec![event(1), gap(3, 3), event(4)],
    ] {
        assert!(fails(&history, &bad), "{bad:?}");
    }
    for received in [vec![], vec![1, 1], vec![1, 2], vec![3, 1]] {
        let wrong = History { sent: sent.clone(), replied: history.replied.clone(), received };
        assert!(fails(&wrong, &good), "{:?}", wrong.received);
    }
}
