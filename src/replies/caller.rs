//! One caller: told parts while its command goes on, and one last word, even when it is dropped.

use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::{Error, Promise};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Answer, compose, may_be_done, outcome_of};
use super::interest::Stream;
use super::{Outlet, Tally};
use crate::idempotency::Slot;
use crate::metrics::{InstanceMetrics, Outcome};

/// Somebody who waits for the end of a command. Dropped without an answer, it says that nobody knows.
pub struct Caller {
    /// The command's name for people.
    pub name: String,
    /// Where the caller listens, if anywhere.
    pub subject: Option<String>,
    /// What it waits for.
    pub wait: Promise,
    /// The operation.
    pub operation: &'static str,
    /// When the command came.
    pub started: Instant,
    /// Where replies go.
    pub replies: Outlet,
    /// Counts.
    pub metrics: Arc<InstanceMetrics>,
    /// Counts for the micro service.
    pub tally: Arc<Tally>,
    /// Its place among the commands under way.
    pub permit: Option<OwnedSemaphorePermit>,
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
    pub(super) fn answer_early(mut self, outcome: Outcome) -> Held {
        let (permit, slot) = (self.permit.take(), self.slot.take());
        let answer = self.finish(outcome, None, None);
        let (name, replies) = (self.name.clone(), self.replies.clone());
        Held { _permit: permit, slot: slot.zip(answer), name, replies }
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
        if std::mem::replace(&mut self.answered, true) {
            return None;
        }
        self.permit = None;
        self.metrics.command(self.operation, outcome).increment(1);
        self.metrics.command_duration(self.operation).record(self.started.elapsed());
        self.tally.count(self.operation, self.started, error);
        let answer = compose(&self.name, outcome.as_str(), data, error)?;
        let kept = may_be_done(outcome);
        let followers = self.slot.take().map(|slot| slot.fill(&answer, kept)).unwrap_or_default();
        for subject in self.subject.take().into_iter().chain(followers) {
            self.replies.send(subject, &answer);
        }
        Some(answer)
    }

    /// One more part of the answer.
    pub(super) fn part(&self, data: &RawValue, stream: &mut Stream) {
        if let (Some(subject), Some(answer)) =
            (self.subject.clone(), compose(&self.name, "part", Some(data), None))
        {
            self.replies.send_part(subject, answer, stream);
        }
    }

    /// Tells this caller what another was told for the same command.
    pub fn repeat(mut self, answer: &Arc<Answer>) {
        self.answered = true;
        if let Some(subject) = self.subject.take() {
            self.replies.send(subject, answer);
        }
    }

    /// Another caller's answer will come to this one, too.
    pub fn join(mut self) {
        self.answered = true;
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
pub(super) struct Held {
    _permit: Option<OwnedSemaphorePermit>,
    /// The key, and what those who ask again with it are told.
    slot: Option<(Slot, Arc<Answer>)>,
    name: String,
    replies: Outlet,
}

impl Held {
    /// The command came to no good end: those who asked with its key are told, as its caller would have been.
    pub(super) fn fail(mut self, outcome: Outcome, error: &Error) {
        if let Some((slot, _)) = self.slot.take()
            && let Some(answer) = compose(&self.name, outcome.as_str(), None, Some(error))
        {
            self.fill(slot, &answer, outcome);
        }
    }

    fn fill(&self, slot: Slot, answer: &Arc<Answer>, outcome: Outcome) {
        for subject in slot.fill(answer, may_be_done(outcome)) {
            self.replies.send(subject, answer);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((slot, answer)) = self.slot.take() {
            self.fill(slot, &answer, Outcome::Accepted);
        }
    }
}
