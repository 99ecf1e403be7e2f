//! The requests that the service has not answered: it answers each kind in another way, all in the order in which they
//! were sent, and its errors name none of them.

use std::collections::BTreeMap;

use pontoon_sdk::CommandId;

/// How many requests are kept whose command was abandoned, or that carry out none.
const MAX_UNATTENDED: usize = 4_096;

/// The requests of one connection that were not answered yet, the oldest first.
#[derive(Default)]
pub(crate) struct Pending {
    requests: BTreeMap<u64, Request>,
    next: u64,
    /// The errors that could not be attributed to requests yet.
    errors: Vec<String>,
    /// The number of the first request that was sent after the last of them.
    before: u64,
    /// Whether a request was dropped: an error can always belong to that.
    is_incomplete: bool,
}

/// A request.
pub(crate) struct Request {
    /// The command that it carries out; `None` for one of the session's own.
    pub(crate) command: Option<CommandId>,
    /// Whether the command was abandoned.
    is_abandoned: bool,
    expected: Expected,
}

/// The answer that a request gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// `channel_joined` or `room_joined` for this room.
    Joined(String),
    /// `messageAck` with this id.
    Acknowledged(String),
    /// `log_subscription_confirmed`, subscribed or not.
    Subscribed(bool),
    /// `log_filters_updated`.
    Filtered,
}

impl Expected {
    /// Whether `messageError` can be the answer instead.
    fn can_fail(&self) -> bool {
        matches!(self, Self::Joined(_) | Self::Acknowledged(_))
    }
}

impl Request {
    /// The command whose caller waits.
    pub(crate) fn caller(&self) -> Option<CommandId> {
        self.command.filter(|_| !self.is_abandoned)
    }
}

impl Pending {
    /// Adds a request that is about to be sent.
    pub(crate) fn add(&mut self, command: Option<CommandId>, expected: Expected) {
        self.requests.insert(self.next, Request { command, is_abandoned: false, expected });
        self.next += 1;
    }

    /// Whether a message with this id was not acknowledged yet.
    pub(crate) fn has_message(&self, id: &str) -> bool {
        let is_it = |expected: &Expected| matches!(expected, Expected::Acknowledged(sent) if sent == id);
        self.requests.values().any(|request| is_it(&request.expected))
    }

    /// Takes the oldest request that an answer belongs to.
    pub(crate) fn answered(&mut self, answer: &Expected) -> Option<Request> {
        let (&number, _) = self.requests.iter().find(|(_, request)| request.expected == *answer)?;
        self.requests.remove(&number)
    }

    /// Takes in an error. See [`Pending::refused`].
    pub(crate) fn error(&mut self, text: String) {
        self.before = self.next;
        if self.errors.len() < self.suspects().count() {
            self.errors.push(text);
        }
    }

    /// Takes the requests that were certainly refused, each with the service's text: those that an error can belong to,
    /// once there are as many errors. The newest comes first.
    pub(crate) fn refused(&mut self) -> Vec<(Request, String)> {
        if self.errors.is_empty() || self.is_incomplete || self.suspects().count() > self.errors.len() {
            return Vec::new();
        }
        let numbers: Vec<_> = self.suspects().rev().collect();
        let errors = std::mem::take(&mut self.errors);
        let text = match errors.as_slice() {
            [only] => only.clone(),
            several => format!("one of these: {}", several.join(" / ")),
        };
        numbers.iter().filter_map(|number| Some((self.requests.remove(number)?, text.clone()))).collect()
    }

    /// The requests that an error can belong to.
    fn suspects(&self) -> impl DoubleEndedIterator<Item = u64> {
        let sent = self.requests.range(..self.before);
        sent.filter(|(_, request)| request.expected.can_fail()).map(|(number, _)| *number)
    }

    /// The command was abandoned. A request that was not sent is dropped; another is kept, for its answer comes late.
    pub(crate) fn abandoned(&mut self, command: CommandId, sent: bool) {
        let is_it = |request: &Request| request.caller() == Some(command);
        let Some((&number, request)) = self.requests.iter_mut().find(|(_, request)| is_it(request)) else {
            return;
        };
        request.is_abandoned = true;
        if !sent {
            self.requests.remove(&number);
            return;
        }
        let mut unattended = self.requests.iter().filter(|(_, request)| request.caller().is_none());
        if let Some((&oldest, _)) = unattended.next()
            && unattended.count() >= MAX_UNATTENDED
        {
            self.requests.remove(&oldest);
            self.is_incomplete = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Expected {
        Expected::Acknowledged(id.to_owned())
    }

    fn refused(pending: &mut Pending) -> Vec<(u64, String)> {
        let refused = pending.refused().into_iter();
        refused.map(|(request, text)| (request.command.unwrap().0, text)).collect()
    }

    #[test]
    fn an_error_belongs_to_a_request_once_it_can_belong_to_no_other() {
        let mut pending = Pending::default();
        pending.error("of nothing".into());
        pending.add(Some(CommandId(1)), message("a"));
        pending.add(Some(CommandId(2)), Expected::Joined("r".into()));
        pending.add(Some(CommandId(3)), Expected::Filtered);
        pending.error("no".into());
        assert_eq!(refused(&mut pending), []);
        assert!(pending.answered(&message("a")).is_some());
        assert_eq!(refused(&mut pending), [(2, "no".into())]);
        // Errors and requests are even: the next error belongs to the next request.
        pending.add(Some(CommandId(4)), message("b"));
        assert_eq!(refused(&mut pending), []);
        pending.error("not again".into());
        assert_eq!(refused(&mut pending), [(4, "not again".into())]);
    }

    #[test]
    fn as_many_errors_as_requests_belong_to_all_of_them() {
        let mut pending = Pending::default();
        for number in 1..=3 {
            pending.add(Some(CommandId(number)), message("a"));
        }
        pending.error("no".into());
        pending.error("never".into());
        // They do not belong to a request that was sent later.
        pending.add(Some(CommandId(4)), message("b"));
        assert_eq!(refused(&mut pending), []);
        assert!(pending.answered(&message("a")).is_some());
        let text = "one of these: no / never".to_owned();
        assert_eq!(refused(&mut pending), [(3, text.clone()), (2, text)]);
        assert!(pending.has_message("b"));
    }

    #[test]
    fn an_error_belongs_to_no_request_that_was_not_sent_or_was_dropped() {
        let mut pending = Pending::default();
        pending.add(Some(CommandId(1)), message("a"));
        pending.add(Some(CommandId(2)), message("b"));
        pending.error("no".into());
        pending.abandoned(CommandId(1), false);
        assert_eq!(refused(&mut pending), [(2, "no".into())]);

        for number in 0..=MAX_UNATTENDED as u64 {
            pending.add(Some(CommandId(number)), Expected::Filtered);
            pending.abandoned(CommandId(number), true);
        }
        assert_eq!(pending.requests.len(), MAX_UNATTENDED);
        pending.add(Some(CommandId(9_999)), message("c"));
        pending.error("no".into());
        assert_eq!(refused(&mut pending), []);
    }
}
