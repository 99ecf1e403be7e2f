//! Counts what passes, and judges it in the end.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use async_nats::Message;
use serde_json::Value;

use crate::calls::Outcome;
use crate::stream::{self, Kept};
use crate::view::View;

/// What was said, and what was seen of it.
#[derive(Default)]
pub(crate) struct Tally {
    broadcasts: u64,
    calls: u64,
    /// The numbers of the broadcasts that were seen, in the order in which they came.
    seen: Vec<u64>,
    /// Events by what their subject begins with.
    events: BTreeMap<String, usize>,
    statuses: BTreeMap<String, usize>,
    wrong_answers: usize,
    latencies: Vec<Duration>,
}

impl Tally {
    /// One more broadcast: its number, from 1.
    pub(crate) fn broadcast(&mut self) -> u64 {
        self.broadcasts += 1;
        self.broadcasts
    }

    /// One more call: its number, from 1.
    pub(crate) fn called(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    pub(crate) fn answer(&mut self, view: &View, outcome: Outcome) {
        view.answer(&outcome);
        if outcome.data["wallet_balance"].as_u64() != Some(1000 + outcome.number) {
            self.wrong_answers += 1;
        }
        *self.statuses.entry(outcome.status).or_default() += 1;
        self.latencies.push(outcome.took);
    }

    pub(crate) fn event(&mut self, view: &View, message: &Message) {
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        view.event(message.subject.as_str(), &body);
        self.seen.extend(stream::number(&body));
        // Without the scope: prefix, "event", type, instance, noun, verb.
        let kind: Vec<&str> = message.subject.split('.').take(6).collect();
        *self.events.entry(kind.join(".")).or_default() += 1;
    }

    /// Whether all that was said was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.seen.len() as u64 >= self.broadcasts && self.latencies.len() as u64 >= self.calls
    }

    /// Prints the table. Returns whether everything was as it should be.
    pub(crate) fn report(
        mut self,
        view: &View,
        kept: Result<Kept, Box<dyn Error>>,
        exit: Option<i32>,
    ) -> bool {
        let kept = kept.unwrap_or_else(|error| {
            view.say(&format!("\nthe stream cannot be read: {error}"));
            Kept::default()
        });
        view.say("\nevents");
        view.row("broadcast by Sub0", &self.broadcasts.to_string());
        for (kind, count) in &self.events {
            view.row(&format!("{kind}.*"), &count.to_string());
        }
        view.say("calls");
        view.row("made", &self.calls.to_string());
        for (status, count) in &self.statuses {
            view.row(&format!("answered: {status}"), &count.to_string());
        }
        if let Some(median) = median(&mut self.latencies) {
            view.row("median time", &format!("{:.1} ms", median.as_secs_f64() * 1000.0));
        }
        view.say(&format!("stream {}", kept.name));
        view.row("messages", &format!("{} ({} bytes)", kept.messages, kept.bytes));
        view.say("checks");

        let all: Vec<u64> = (1..=self.broadcasts).collect();
        let published: usize = self.events.values().sum();
        let answered = self.statuses.get("response").copied().unwrap_or_default() as u64;
        let checks = [
            ("every broadcast was seen once, in order", self.seen == all),
            ("the stream has every broadcast once, in order", kept.broadcasts == all),
            ("the stream has every event that was seen", kept.messages == published as u64),
            ("sequences in the stream only grow", kept.out_of_order == 0),
            ("no two messages in the stream have one id", kept.duplicates == 0),
            ("every call was answered by Sub0", answered == self.calls && self.wrong_answers == 0),
            ("pontoon drained and ended with 0", exit == Some(0)),
        ];
        for (what, holds) in checks {
            view.check(what, holds);
        }
        checks.iter().all(|(_, holds)| *holds)
    }
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
