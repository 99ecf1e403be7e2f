//! The caller of one command: it gets parts while the command goes on, and one last reply, even when it is dropped.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::{Code, Command, DeliveryLevel, Error};
use serde_json::value::RawValue;

use super::answer::{Answer, compose, outcome_of};
use super::job::{Begin, Job, Verdict};
use super::liveness::Stream;
use super::outbox::{Outgoing, Permit, Refusal, ReplySender};
use super::stats::Stats;
use crate::metrics::{InstanceMetrics, Outcome};

/// Called with the last reply to a command. Dropped, if there is none.
pub type OnAnswer = Box<dyn FnOnce(&Rc<Answer>)>;

/// Waits for the end of a command. Dropped without an answer, it replies `unknown`.
pub struct Caller {
    /// The command's id in replies.
    pub name: String,
    /// The subject that the caller receives replies on, if it wants any; of a job, its sequence.
    pub subject: Option<String>,
    /// What it waits for.
    pub wait: DeliveryLevel,
    /// Whether it named what it waits for: then it is refused where no reply can claim as much.
    pub named_wait: bool,
    /// The operation.
    pub operation: &'static str,
    /// When the command was received.
    pub started: Instant,
    /// When it stops waiting.
    pub deadline: Instant,
    /// The trace that the command belongs to (W3C Trace Context), given back in every reply.
    pub traceparent: Option<Arc<str>>,
    /// Where replies go.
    pub replies: ReplySender,
    /// Counts.
    pub metrics: Arc<InstanceMetrics>,
    /// Counts for the micro service.
    pub stats: Rc<Stats>,
    /// Its place among the commands under way; without one, the command is refused.
    pub permit: Option<Permit>,
    /// Must be done before the command is sent, besides what its job demands. Few have it.
    pub begin: Option<Box<Begin>>,
    /// Keeps the answer for commands with the same key.
    pub on_answer: Option<OnAnswer>,
    /// Set if the command is a job.
    pub job: Option<Box<Job>>,
    /// Whether it was answered.
    pub answered: bool,
}

impl Caller {
    /// Sends the last reply.
    pub fn answer(mut self, outcome: Outcome, data: Option<&RawValue>, error: Option<&Error>) {
        self.finish(outcome, data, error);
    }

    /// What must be done before the command is sent.
    pub(crate) fn begin(&mut self) -> Option<Begin> {
        let job = self.job.as_mut().and_then(|job| job.begin.take());
        match (self.begin.take().map(|begin| *begin), job) {
            (Some(own), Some(job)) => Some(Box::pin(async move {
                own.await?;
                job.await
            })),
            (own, job) => own.or(job),
        }
    }

    /// The command is about to be sent. From now on a job waits for its answer, and no longer for its turn.
    pub(crate) fn sends(&mut self, command: &mut Command) {
        if let Some(job) = &self.job {
            self.deadline = Instant::now() + job.timeout;
            command.deadline = self.deadline;
        }
    }

    /// Sends all that the caller waits for while the command goes on. Returns what the command still holds.
    pub(crate) fn answer_early(mut self, outcome: Outcome) -> Detached {
        let (permit, on_answer) = (self.permit.clone(), self.on_answer.take());
        let answer = self.finish(outcome, None, None);
        Detached { _permit: permit, on_answer: on_answer.zip(answer), name: self.name.clone() }
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
    ) -> Option<Rc<Answer>> {
        if self.answered {
            return None;
        }
        let judged = self.job.as_ref().map(|job| job.judge(outcome, error, Instant::now()));
        let (outcome, error, repeated) = match &judged {
            Some(Verdict { outcome, error, repeated }) => (*outcome, error.as_ref(), *repeated),
            None => (outcome, error, false),
        };
        if let (None, None, Some(error)) = (&self.permit, &self.job, error) {
            self.count(outcome, Some((error.code().number(), &error.to_string())));
            self.refuse_briefly(error);
            return None;
        }
        let Some(mut answer) = compose(&self.name, Some(outcome), data, error) else {
            self.count(outcome, None);
            return None;
        };
        if let Some(answer) = Rc::get_mut(&mut answer) {
            answer.repeated = repeated;
        }
        self.deliver(&answer);
        if let Some(on_answer) = self.on_answer.take() {
            on_answer(&answer);
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
    fn deliver(&mut self, answer: &Rc<Answer>) {
        let Some(outcome) = answer.outcome else { return };
        self.answered = true;
        // A job is counted once, however often it is tried.
        if !answer.repeated {
            self.count(outcome, answer.error.as_ref().map(|(code, text)| (*code, text.as_str())));
        }
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
        let took = self.started.elapsed();
        self.metrics.command_answered(self.operation, outcome, took, self.traceparent.as_deref());
        self.stats.count(self.operation, took, error);
    }

    /// Sends one more part of the answer.
    pub(crate) fn part(&self, data: &RawValue, stream: &mut Stream) {
        if let (Some(subject), Some(answer)) =
            (self.subject.clone(), compose(&self.name, None, Some(data), None))
        {
            self.replies.send_part(subject, answer, self.traceparent.clone(), stream);
        }
    }

    /// Sends the answer that another caller got for the same command.
    pub fn repeat(mut self, answer: &Rc<Answer>) {
        // However often a job with a key is tried, it gets this answer.
        let last = answer.repeated.then(|| Rc::new(Answer { repeated: false, ..(**answer).clone() }));
        self.deliver(last.as_ref().unwrap_or(answer));
    }

    /// The deadline of a caller is over that waited for the answer to the command of another, which goes on: it may still be
    /// done, even if it was not sent yet.
    pub fn leave(self) {
        let text = "its time ran out while the first command with this Idempotency-Key was under way, which goes on; the \
                    same key returns its answer";
        self.answer(Outcome::Unknown, None, Some(&Error::rejected(Code::NoAnswer, text)));
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let error =
            Error::internal("the command was lost in the daemon; it is not known whether it was carried out");
        self.finish(Outcome::Unknown, None, Some(&error));
    }
}

/// What a command holds while it goes on after its caller was answered. Dropped, the command counts as possibly done.
#[derive(Default)]
pub(crate) struct Detached {
    _permit: Option<Permit>,
    /// Keeps the answer that its caller got, unless the command fails.
    on_answer: Option<(OnAnswer, Rc<Answer>)>,
    name: String,
}

impl Detached {
    /// The command failed: commands with the same key get this answer.
    pub(crate) fn fail(mut self, outcome: Outcome, error: &Error) {
        if let Some((on_answer, _)) = self.on_answer.take()
            && let Some(answer) = compose(&self.name, Some(outcome), None, Some(error))
        {
            on_answer(&answer);
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some((on_answer, answer)) = self.on_answer.take() {
            on_answer(&answer);
        }
    }
}

/// A caller whose inbox has this number.
#[cfg(test)]
pub(crate) fn test_caller(replies: &ReplySender, number: u64) -> Caller {
    let now = Instant::now();
    let permits = Arc::new(tokio::sync::Semaphore::new(1));
    Caller {
        name: number.to_string(),
        subject: Some(format!("_INBOX.{number}")),
        wait: DeliveryLevel::Response,
        named_wait: false,
        operation: "message",
        started: now,
        deadline: now + std::time::Duration::from_secs(60),
        traceparent: None,
        replies: replies.clone(),
        metrics: Arc::new(InstanceMetrics::new("test", "test", &["message"])),
        stats: Rc::default(),
        permit: permits.try_acquire_owned().ok().map(Arc::new),
        begin: None,
        on_answer: None,
        job: None,
        answered: false,
    }
}
