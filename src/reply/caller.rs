//! One caller: told parts while its command goes on, and one last word, even when it is dropped.

use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::{Code, DeliveryLevel, Error};
use serde_json::value::RawValue;

use super::answer::{Answer, compose, may_be_done, outcome_of};
use super::liveness::Stream;
use super::outbox::{Outgoing, Permit, Refusal};
use super::{Outlet, Tally};
use crate::metrics::{InstanceMetrics, Outcome};
use crate::reply::idempotency::Slot;

/// Somebody who waits for the end of a command. Dropped without an answer, it says that nobody knows.
pub struct Caller {
    /// The command's name for people.
    pub name: String,
    /// Where the caller listens, if anywhere.
    pub subject: Option<String>,
    /// What it waits for.
    pub wait: DeliveryLevel,
    /// Whether it named what it waits for: then it is refused where no reply can say as much.
    pub named_wait: bool,
    /// The operation.
    pub operation: &'static str,
    /// When the command came.
    pub started: Instant,
    /// When it stops waiting.
    pub deadline: Instant,
    /// The trace that the command belongs to (W3C Trace Context), given back in every reply.
    pub traceparent: Option<Arc<str>>,
    /// Where replies go.
    pub replies: Outlet,
    /// Counts.
    pub metrics: Arc<InstanceMetrics>,
    /// Counts for the micro service.
    pub tally: Arc<Tally>,
    /// Its place among the commands under way; a command that found none is refused.
    pub permit: Option<Permit>,
    /// Where the answer is kept for those who ask again with its key.
    pub slot: Option<Slot>,
    /// Whether it was answered.
    pub answered: bool,
}

impl Caller {
    /// The last word.
    pub fn answer(mut self, outcome: Outcome, data: Option<&RawValue>, error: Option<&Error>) {
        self.finish(outcome, data, error);
    }

    /// Tells the caller all that it waits for while the command goes on. Returns what the command still holds.
    pub(crate) fn answer_early(mut self, outcome: Outcome) -> Held {
        let (permit, slot) = (self.permit.clone(), self.slot.take());
        let answer = self.finish(outcome, None, None);
        Held { _permit: permit, slot: slot.zip(answer), name: self.name.clone() }
    }

    /// Refused before anything was sent.
    pub fn refuse(self, error: &Error) {
        self.answer(outcome_of(error), None, Some(error));
    }

    fn finish(
        &mut self,
        outcome: Outcome,
        data: Option<&RawValue>,
        error: Option<&Error>,
    ) -> Option<Arc<Answer>> {
        if self.answered {
            return None;
        }
        if let (None, Some(error)) = (&self.permit, error) {
            self.count(outcome, Some((error.code().number(), &error.to_string())));
            self.refuse_briefly(error);
            return None;
        }
        let Some(answer) = compose(&self.name, Some(outcome), data, error) else {
            self.count(outcome, None);
            return None;
        };
        let slot = self.slot.take();
        self.deliver(&answer);
        for follower in slot.map(|slot| slot.fill(&answer, may_be_done(outcome))).unwrap_or_default() {
            follower.repeat(&answer);
        }
        Some(answer)
    }

    /// Refuses a command that has no place among those under way: where too many wait, the reply is dropped.
    fn refuse_briefly(&mut self, error: &Error) {
        let Some(subject) = self.subject.take() else { return };
        let (name, traceparent) = (self.name.clone(), self.traceparent.clone());
        if !self.replies.refuse(Refusal { subject, name, error: error.clone(), traceparent }) {
            self.metrics.replies_dropped.increment(1);
        }
    }

    /// Counts the end of the command, and publishes it. The caller's place is free once that has left for NATS.
    fn deliver(&mut self, answer: &Arc<Answer>) {
        let Some(outcome) = answer.outcome else { return };
        self.count(outcome, answer.error.as_ref().map(|(code, text)| (*code, text.as_str())));
        let permit = self.permit.take();
        let Some(subject) = self.subject.take() else { return };
        let (answer, traceparent) = (answer.clone(), self.traceparent.clone());
        if !self.replies.send(Outgoing { subject, answer, traceparent, part: None, permit }) {
            self.metrics.replies_dropped.increment(1);
            tracing::error!(id = self.name, "a reply was dropped: nothing publishes replies any more");
        }
    }

    fn count(&mut self, outcome: Outcome, error: Option<(u16, &str)>) {
        self.answered = true;
        self.metrics.command(self.operation, outcome).increment(1);
        self.metrics.command_duration(self.operation).record(self.started.elapsed());
        self.tally.count(self.operation, self.started, error);
    }

    /// One more part of the answer.
    pub(crate) fn part(&self, data: &RawValue, stream: &mut Stream) {
        if let (Some(subject), Some(answer)) =
            (self.subject.clone(), compose(&self.name, None, Some(data), None))
        {
            self.replies.send_part(subject, answer, self.traceparent.clone(), stream);
        }
    }

    /// Gives this caller the answer that another got for the same command.
    pub fn repeat(mut self, answer: &Arc<Answer>) {
        self.deliver(answer);
    }

    /// The time of a caller ran out that waited for the answer to another's command, which goes on: that it will not be
    /// done cannot be said, even if it was not sent yet.
    pub fn leave(self) {
        let text = "its time ran out while the first command with this Idempotency-Key was under way, which goes on; the \
                    same key returns its answer";
        self.answer(Outcome::Unknown, None, Some(&Error::rejected(Code::NoAnswer, text)));
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let error =
            Error::internal("the command was lost in the daemon; nobody knows whether it was carried out");
        self.finish(Outcome::Unknown, None, Some(&error));
    }
}

/// What a command holds while it goes on after its caller has heard what it waited for. Dropped without a word, it
/// counts as possibly done.
pub(crate) struct Held {
    _permit: Option<Permit>,
    /// The key, and what those who ask again with it are told.
    slot: Option<(Slot, Arc<Answer>)>,
    name: String,
}

impl Held {
    /// The command came to no good end: those who asked with its key are told, as its caller would have been.
    pub(crate) fn fail(mut self, outcome: Outcome, error: &Error) {
        if let Some((slot, _)) = self.slot.take()
            && let Some(answer) = compose(&self.name, Some(outcome), None, Some(error))
        {
            fill(slot, &answer, outcome);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((slot, answer)) = self.slot.take() {
            fill(slot, &answer, Outcome::Accepted);
        }
    }
}

fn fill(slot: Slot, answer: &Arc<Answer>, outcome: Outcome) {
    for follower in slot.fill(answer, may_be_done(outcome)) {
        follower.repeat(answer);
    }
}
