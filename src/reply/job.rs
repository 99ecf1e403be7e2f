//! What makes a command a job: it is tried again while it is certainly not done, and what may have been done once is not
//! reported as not done.

use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use pontoon_sdk::{Code, Error};

use super::answer::{Answer, may_be_done};
use crate::metrics::Outcome;

/// Writes that a command may be sent from now on.
pub type Begin = LocalBoxFuture<'static, Result<(), Error>>;

/// The part of a caller that a job has besides.
pub struct Job {
    /// Until when it may be sent.
    pub expires: Instant,
    /// How long an answer is waited for once it is sent.
    pub timeout: Duration,
    /// Whether it may be sent again where it may have been done.
    pub repeatable: bool,
    /// Whether an earlier attempt may have been done.
    pub begun: bool,
    /// Must be done before it is sent.
    pub begin: Option<Begin>,
}

/// What is known of a job when an attempt of it ends.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) error: Option<Error>,
    /// Whether it is tried again.
    pub(super) repeated: bool,
}

impl Job {
    /// What is known of the job when an attempt of it ends so.
    pub(super) fn judge(&self, outcome: Outcome, error: Option<&Error>, now: Instant) -> Verdict {
        let code = error.map(Error::code);
        let repeated = now < self.expires && is_repeatable(outcome, code, self.repeatable);
        if !self.begun || repeated || may_be_done(outcome) {
            return Verdict { outcome, error: error.cloned(), repeated };
        }
        let last = error.map(ToString::to_string).unwrap_or_default();
        let text = format!("an earlier attempt may have been carried out; the last one was not: {last}");
        let error = Some(Error::rejected(Code::NoAnswer, text));
        Verdict { outcome: Outcome::Unknown, error, repeated }
    }
}

impl Answer {
    /// Whether the command was certainly not done.
    pub fn is_not_done(&self) -> bool {
        self.outcome.is_some_and(|outcome| !may_be_done(outcome))
    }
}

/// Whether an attempt may be repeated: it was not done for want of a connection or of room, which may come, or it may be
/// done twice.
fn is_repeatable(outcome: Outcome, code: Option<Code>, repeatable: bool) -> bool {
    match outcome {
        Outcome::Failed | Outcome::Rejected => {
            matches!(code, Some(Code::NotConnected | Code::TooMany | Code::SpoolFull))
        }
        Outcome::Unknown => repeatable && code == Some(Code::NoAnswer),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(repeatable: bool, begun: bool, expires: Instant) -> Job {
        Job { expires, timeout: Duration::ZERO, repeatable, begun, begin: None }
    }

    #[test]
    fn an_attempt_is_repeated_only_where_that_cannot_do_the_job_twice() {
        use Outcome::*;
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for (outcome, code, once, repeatable) in [
            (Failed, Code::NotConnected, true, true),
            (Rejected, Code::TooMany, true, true),
            (Rejected, Code::SpoolFull, true, true),
            (Unknown, Code::NoAnswer, false, true),
            (Unknown, Code::Bug, false, false),
            (Failed, Code::Refused, false, false),
            (Rejected, Code::BadBody, false, false),
            (Expired, Code::Expired, false, false),
            (Response, Code::NotConnected, false, false),
        ] {
            let error = Error::rejected(code, "");
            let repeated = |repeatable, expires| {
                job(repeatable, false, expires).judge(outcome, Some(&error), now).repeated
            };
            assert_eq!(
                (repeated(false, later), repeated(true, later)),
                (once, repeatable),
                "{outcome:?} {code:?}"
            );
            assert!(!repeated(true, now), "its time is over");
        }
    }

    #[test]
    fn a_job_that_may_have_been_done_is_not_reported_as_not_done() {
        let now = Instant::now();
        let expired = Error::rejected(Code::Expired, "its time ran out");
        let Verdict { outcome, error, repeated } =
            job(true, true, now).judge(Outcome::Expired, Some(&expired), now);
        assert_eq!((outcome, error.map(|error| error.code())), (Outcome::Unknown, Some(Code::NoAnswer)));
        assert!(!repeated);
        let first = job(true, false, now).judge(Outcome::Expired, Some(&expired), now);
        assert_eq!((first.outcome, first.error), (Outcome::Expired, Some(expired)));
        let down = Error::disconnected("down");
        let last = job(true, true, now).judge(Outcome::Failed, Some(&down), now);
        assert_eq!(last.outcome, Outcome::Unknown);
        assert_eq!(job(true, true, now).judge(Outcome::Response, None, now).outcome, Outcome::Response);
    }
}
