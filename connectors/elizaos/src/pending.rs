//! Requests that the service has not answered: it answers each in its own way, and refusals name none.

use std::collections::BTreeMap;

use pontoon_sdk::CommandId;

/// How many requests that nobody waits for are still known for what they are.
const MAX_UNATTENDED: usize = 4_096;

/// The requests of one connection that were not answered yet, the oldest first.
#[derive(Default)]
pub(crate) struct Pending {
    requests: BTreeMap<u64, Request>,
    next: u64,
    /// How many of them nobody waits for.
    unattended: usize,
    /// The errors of which it is not known yet which requests they are about.
    errors: Vec<String>,
    /// The number of the first request that was not sent yet when the last of them came.
    before: u64,
    /// Whether a request was forgotten: then an error may always be about that.
    forgot: bool,
}

/// A request.
pub(crate) struct Request {
    /// The command that it carries out; none if it is our own.
    pub(crate) command: Option<CommandId>,
    /// Whether its caller waits.
    pub(crate) waits: bool,
    pub(crate) asked: Asked,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To join this room.
    Join(String),
    /// To take a message.
    Message {
        /// The id that is given back.
        id: String,
        /// Whether its caller waits for the agent's answer.
        streamed: bool,
    },
    /// To tell the log, or no longer.
    Logs(bool),
    /// To tell less of it.
    Filter,
}

impl Asked {
    /// Whether `messageError` can be about it.
    fn is_open(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Message { .. })
    }
}

impl Pending {
    /// A request is about to be sent.
    pub(crate) fn add(&mut self, command: Option<CommandId>, asked: Asked) {
        self.unattended += usize::from(command.is_none());
        self.requests.insert(self.next, Request { command, waits: command.is_some(), asked });
        self.next += 1;
    }

    /// Whether a message of this id is on its way.
    pub(crate) fn has_message(&self, wanted: &str) -> bool {
        let is_it = |asked: &Asked| matches!(asked, Asked::Message { id, .. } if id == wanted);
        self.requests.values().any(|request| is_it(&request.asked))
    }

    /// The service answered the oldest request that is so.
    pub(crate) fn answered(&mut self, is_it: impl Fn(&Asked) -> bool) -> Option<Request> {
        let (number, _) = self.requests.iter().find(|(_, request)| is_it(&request.asked))?;
        self.remove(*number)
    }

    /// The service refused one of the requests, and did not say which. See [`Pending::refused`].
    pub(crate) fn error(&mut self, words: String) {
        self.before = self.next;
        if self.errors.len() < self.suspects().count() {
            self.errors.push(words);
        }
    }

    /// The requests of which it is certain by now that they were refused, each with the service's words: those that are
    /// left when there are no more of them than errors. The last comes first.
    pub(crate) fn refused(&mut self) -> Vec<(Request, String)> {
        if self.errors.is_empty() || self.forgot || self.suspects().nth(self.errors.len()).is_some() {
            return Vec::new();
        }
        let numbers: Vec<_> = self.suspects().rev().collect();
        let errors = std::mem::take(&mut self.errors);
        let words = match errors.as_slice() {
            [only] => only.clone(),
            several => format!("one of these: {}", several.join(" / ")),
        };
        numbers.into_iter().filter_map(|number| Some((self.remove(number)?, words.clone()))).collect()
    }

    /// What the errors can be about.
    fn suspects(&self) -> impl DoubleEndedIterator<Item = u64> {
        let sent = self.requests.range(..self.before);
        sent.filter(|(_, request)| request.asked.is_open()).map(|(number, _)| *number)
    }

    /// A caller waits no more. `sent` is whether the request may have been written; if not, it is none.
    pub(crate) fn abandon(&mut self, command: CommandId, sent: bool) {
        let is_it = |request: &Request| request.waits && request.command == Some(command);
        let Some((&number, request)) = self.requests.iter_mut().find(|(_, request)| is_it(request)) else {
            return;
        };
        request.waits = false;
        self.unattended += 1;
        if !sent {
            self.remove(number);
        } else if self.unattended > MAX_UNATTENDED {
            let oldest = self.requests.iter().find(|(_, request)| !request.waits).map(|(number, _)| *number);
            self.forgot |= oldest.and_then(|number| self.remove(number)).is_some();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Request> {
        let request = self.requests.remove(&number)?;
        self.unattended -= usize::from(!request.waits);
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Asked {
        Asked::Message { id: id.to_owned(), streamed: false }
    }

    fn refused(pending: &mut Pending) -> Vec<(u64, String)> {
        let refused = pending.refused().into_iter();
        refused.map(|(request, words)| (request.command.unwrap().0, words)).collect()
    }

    #[test]
    fn an_error_is_about_a_request_once_it_can_be_about_no_other() {
        let mut pending = Pending::default();
        pending.error("about nothing".into());
        pending.add(Some(CommandId(1)), message("a"));
        pending.add(Some(CommandId(2)), Asked::Join("r".into()));
        pending.add(Some(CommandId(3)), Asked::Filter);
        pending.error("no".into());
        assert_eq!(refused(&mut pending), []);
        assert!(pending.answered(|asked| *asked == message("a")).is_some());
        assert_eq!(refused(&mut pending), [(2, "no".into())]);
        // All of it has been dealt with: the next error finds the next request.
        pending.add(Some(CommandId(4)), message("b"));
        assert_eq!(refused(&mut pending), []);
        pending.error("not again".into());
        assert_eq!(refused(&mut pending), [(4, "not again".into())]);
    }

    #[test]
    fn as_many_errors_as_requests_are_about_all_of_them() {
        let mut pending = Pending::default();
        for number in 1..=3 {
            pending.add(Some(CommandId(number)), message("a"));
        }
        pending.error("no".into());
        pending.error("never".into());
        // What is sent later is not what they are about.
        pending.add(Some(CommandId(4)), message("b"));
        assert_eq!(refused(&mut pending), []);
        assert!(pending.answered(|asked| *asked == message("a")).is_some());
        let words = "one of these: no / never".to_owned();
        assert_eq!(refused(&mut pending), [(3, words.clone()), (2, words)]);
        assert!(pending.has_message("b"));
    }

    #[test]
    fn what_was_never_sent_or_is_forgotten_is_not_blamed() {
        let mut pending = Pending::default();
        pending.add(Some(CommandId(1)), message("a"));
        pending.add(Some(CommandId(2)), message("b"));
        pending.error("no".into());
        pending.abandon(CommandId(1), false);
        assert_eq!(refused(&mut pending), [(2, "no".into())]);

        for number in 0..=MAX_UNATTENDED as u64 {
            pending.add(Some(CommandId(number)), Asked::Filter);
            pending.abandon(CommandId(number), true);
        }
        assert_eq!((pending.requests.len(), pending.unattended), (MAX_UNATTENDED, MAX_UNATTENDED));
        pending.add(Some(CommandId(9_999)), message("c"));
        pending.error("no".into());
        assert_eq!(refused(&mut pending), []);
    }
}
