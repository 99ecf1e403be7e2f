//! Callers that wait: each is answered exactly once at the end, whatever happens, and never told more than is known.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use pontoon_sdk::{Code, CommandId, End, Error, Kind, Promise, Reply};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::idempotency::Slot;
use crate::metrics::{InstanceMetrics, Outcome};
use crate::transport::outbound::Ticket;

/// A reply on its way to the bus.
#[derive(Debug)]
pub struct Outgoing {
    /// Where the caller listens.
    pub subject: String,
    /// What it is told.
    pub answer: Arc<Answer>,
}

/// What a caller is told.
#[derive(Debug)]
pub struct Answer {
    /// The status, for the header.
    pub status: &'static str,
    /// Code and text of an error, for the headers.
    pub error: Option<(u16, String)>,
    /// The command's name for people.
    pub id: String,
    /// The body.
    pub body: Bytes,
}

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
    pub replies: mpsc::Sender<Outgoing>,
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

#[derive(Serialize)]
struct Body<'a> {
    status: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault<'a>>,
}

#[derive(Serialize)]
struct Fault<'a> {
    code: u16,
    message: &'a str,
}

impl Caller {
    /// The last word.
    pub fn answer(mut self, outcome: Outcome, data: Option<&RawValue>, error: Option<&Error>) {
        self.finish(outcome, data, error);
    }

    /// Tells the caller all that it waits for while the command goes on. Returns what the command still holds.
    fn answer_early(mut self, outcome: Outcome) -> Held {
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
            send(&self.replies, subject, &answer);
        }
        Some(answer)
    }

    /// One more part of the answer.
    fn part(&self, data: &RawValue) {
        // Last words must find room: parts take no more than half of it.
        if self.replies.capacity() <= self.replies.max_capacity() / 2 {
            return tracing::warn!(
                id = self.name,
                "a part of an answer was dropped: NATS takes replies too slowly"
            );
        }
        if let (Some(subject), Some(answer)) =
            (self.subject.clone(), compose(&self.name, "part", Some(data), None))
        {
            send(&self.replies, subject, &answer);
        }
    }

    /// Tells this caller what another was told for the same command.
    pub fn repeat(mut self, answer: &Arc<Answer>) {
        self.answered = true;
        if let Some(subject) = self.subject.take() {
            send(&self.replies, subject, answer);
        }
    }

    /// Another caller's answer will come to this one, too.
    pub fn join(mut self) {
        self.answered = true;
    }
}

/// What a command holds while it goes on after its caller has heard what it waited for. Dropped without a word, it
/// counts as possibly done.
struct Held {
    _permit: Option<OwnedSemaphorePermit>,
    /// The key, and what those who ask again with it are told.
    slot: Option<(Slot, Arc<Answer>)>,
    name: String,
    replies: mpsc::Sender<Outgoing>,
}

impl Held {
    /// The command came to no good end: those who asked with its key are told, as its caller would have been.
    fn fail(mut self, outcome: Outcome, error: &Error) {
        if let Some((slot, _)) = self.slot.take()
            && let Some(answer) = compose(&self.name, outcome.as_str(), None, Some(error))
        {
            self.fill(slot, &answer, outcome);
        }
    }

    fn fill(&self, slot: Slot, answer: &Arc<Answer>, outcome: Outcome) {
        for subject in slot.fill(answer, may_be_done(outcome)) {
            send(&self.replies, subject, answer);
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

/// Whether a key is used up by a command that ended so.
fn may_be_done(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Rejected | Outcome::Failed | Outcome::Expired | Outcome::BadReply)
}

/// What an error says of its command.
fn outcome_of(error: &Error) -> Outcome {
    match error.code() {
        Code::NotConnected | Code::Bug | Code::Refused => Outcome::Failed,
        Code::Expired => Outcome::Expired,
        Code::NoAnswer => Outcome::Unknown,
        _ => Outcome::Rejected,
    }
}

fn compose(
    name: &str,
    status: &'static str,
    data: Option<&RawValue>,
    error: Option<&Error>,
) -> Option<Arc<Answer>> {
    let text = error.map(ToString::to_string);
    let fault = error.zip(text.as_deref());
    let fault = fault.map(|(error, message)| Fault { code: error.code().number(), message });
    let body = serde_json::to_vec(&Body { status, id: name, data, error: fault }).ok()?;
    let error = error.zip(text).map(|(error, text)| (error.code().number(), text));
    Some(Arc::new(Answer { status, error, id: name.to_owned(), body: body.into() }))
}

fn send(replies: &mpsc::Sender<Outgoing>, subject: String, answer: &Arc<Answer>) {
    if replies.try_send(Outgoing { subject, answer: answer.clone() }).is_err() {
        tracing::warn!(id = answer.id, "a reply was dropped: NATS takes nothing, and too many wait already");
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let error =
            Error::internal("the command was lost in the daemon; nobody knows whether it was carried out");
        self.finish(Outcome::Unknown, None, Some(&error));
    }
}

/// Figures of each operation, as the micro service shows them.
#[derive(Default)]
pub struct Tally(Mutex<HashMap<&'static str, Figures>>);

/// Figures of one operation.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Commands that ended.
    pub requests: u64,
    /// How many of them with an error.
    pub errors: u64,
    /// The last error.
    pub last_error: String,
    /// Time from command to answer, summed.
    pub nanoseconds: u64,
}

impl Tally {
    fn count(&self, operation: &'static str, started: Instant, error: Option<&Error>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = all.entry(operation).or_default();
        figures.requests += 1;
        let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        figures.nanoseconds = figures.nanoseconds.saturating_add(spent);
        if let Some(error) = error {
            figures.errors += 1;
            figures.last_error = format!("{}:{error}", error.code().number());
        }
    }

    /// The figures of an operation so far.
    pub fn figures(&self, operation: &str) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(operation).cloned().unwrap_or_default()
    }
}

/// The callers of one connection.
#[derive(Default)]
pub struct Replies {
    waiting: HashMap<CommandId, Waiting>,
    deadlines: BTreeSet<(Instant, CommandId)>,
}

struct Waiting {
    party: Party,
    deadline: Instant,
    /// The most that the operation can say.
    promise: Promise,
    /// Its frames that are not known to be written.
    tickets: Vec<Ticket>,
    /// Whether one was written.
    written: bool,
}

/// Who waits for the end of a command.
enum Party {
    /// A caller.
    Caller(Caller),
    /// Nobody any more; the command itself is still under way.
    Nobody(Held),
}

impl Replies {
    /// A command begins. Past its deadline the caller is answered by [`Replies::expire`].
    pub fn begin(&mut self, command: CommandId, caller: Caller, promise: Promise, deadline: Instant) {
        self.deadlines.insert((deadline, command));
        let party = Party::Caller(caller);
        let waiting = Waiting { party, deadline, promise, tickets: Vec::new(), written: false };
        self.waiting.insert(command, waiting);
    }

    /// The session took the command.
    pub fn accepted(&mut self, command: CommandId) {
        self.reached(command, Promise::Accepted, Outcome::Accepted);
        if self.waiting.get(&command).is_some_and(|waiting| waiting.promise == Promise::Accepted) {
            self.take(command);
        }
    }

    /// Nobody can say more than this of the command.
    pub fn lower(&mut self, command: CommandId, promise: Promise) {
        if let Some(waiting) = self.waiting.get_mut(&command) {
            waiting.promise = waiting.promise.min(promise);
            if let Party::Caller(caller) = &mut waiting.party {
                caller.wait = caller.wait.min(promise);
            }
        }
    }

    /// A frame of the command waits to be written.
    pub fn queued(&mut self, command: CommandId, ticket: Ticket) {
        if let Some(waiting) = self.waiting.get_mut(&command) {
            waiting.tickets.push(ticket);
        }
    }

    /// The oldest frame of the command that waited was written.
    pub fn written(&mut self, command: CommandId) {
        let Some(waiting) = self.waiting.get_mut(&command) else { return };
        waiting.written = true;
        if !waiting.tickets.is_empty() {
            waiting.tickets.remove(0);
        }
        if !waiting.tickets.is_empty() {
            return;
        }
        let last = waiting.promise <= Promise::Sent;
        self.reached(command, Promise::Sent, Outcome::Sent);
        if last {
            self.take(command);
        }
    }

    /// Tells a caller that waits for no more than this.
    fn reached(&mut self, command: CommandId, reached: Promise, outcome: Outcome) {
        let waits =
            |waiting: &Waiting| matches!(&waiting.party, Party::Caller(caller) if caller.wait == reached);
        let Some(mut waiting) = self.waiting.remove(&command) else { return };
        if waits(&waiting)
            && let Party::Caller(caller) = waiting.party
        {
            waiting.party = Party::Nobody(caller.answer_early(outcome));
        }
        self.waiting.insert(command, waiting);
    }

    /// What the session says of a command.
    pub fn reply(&mut self, command: CommandId, reply: Reply) {
        if let Reply::Part(data) = &reply {
            if let Some(Waiting { party: Party::Caller(caller), .. }) = self.waiting.get(&command) {
                caller.part(data);
            }
            return;
        }
        let Some(waiting) = self.take(command) else { return };
        let caller = match waiting.party {
            Party::Caller(caller) => caller,
            Party::Nobody(held) => {
                if let Reply::Failed(error) = &reply {
                    held.fail(outcome_of(error), error);
                }
                return;
            }
        };
        match reply {
            Reply::Part(_) => {}
            Reply::Acked(data) => caller.answer(Outcome::Acked, Some(&data), None),
            Reply::Response(data) => caller.answer(Outcome::Response, Some(&data), None),
            Reply::Failed(error) => caller.refuse(&error),
            Reply::Unknown(error) => caller.answer(Outcome::Unknown, None, Some(&error)),
        }
    }

    /// Refuses a command that the session did not take.
    pub fn refuse(&mut self, command: CommandId, error: &Error) {
        if let Some(waiting) = self.take(command) {
            waiting.party.end(outcome_of(error), error);
        }
    }

    /// A frame of the command found no place. Returns whether another of its frames may have been sent.
    pub fn unsent(&mut self, command: CommandId, error: &Error) -> bool {
        let Some(waiting) = self.take(command) else { return false };
        let sent = waiting.withdraw();
        waiting.party.end(if sent { Outcome::Unknown } else { outcome_of(error) }, error);
        sent
    }

    /// When [`Replies::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Answers those whose time ran out. Returns their commands for the session, and whether each may have been sent.
    pub fn expire(&mut self, now: Instant) -> Vec<(CommandId, bool)> {
        let mut expired = Vec::new();
        while let Some((deadline, command)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            let Some(waiting) = self.take(command) else { continue };
            let sent = waiting.withdraw();
            expired.push((command, sent));
            let error = match sent {
                true => Error::rejected(Code::NoAnswer, "it was sent, and no answer came in time"),
                false => Error::rejected(Code::Expired, "its time ran out before it was sent"),
            };
            waiting.party.end(outcome_of(&error), &error);
        }
        expired
    }

    /// The connection is gone: what was written may have been done, what was not was not.
    pub fn disconnect(&mut self, end: &End) {
        self.deadlines.clear();
        for (_, waiting) in self.waiting.drain() {
            let sent = waiting.withdraw();
            let error = match (sent, end.kind) {
                (_, Kind::Internal) => Error::internal("the daemon failed while the command was under way"),
                (true, _) => {
                    let text =
                        format!("it was sent, and the connection was lost before an answer came: {end}");
                    Error::rejected(Code::NoAnswer, text)
                }
                (false, _) => {
                    Error::disconnected(format!("the connection was lost before it was sent: {end}"))
                }
            };
            waiting.party.end(if sent { Outcome::Unknown } else { Outcome::Failed }, &error);
        }
    }

    fn take(&mut self, command: CommandId) -> Option<Waiting> {
        let Some(waiting) = self.waiting.remove(&command) else {
            self.deadlines.retain(|(_, known)| *known != command);
            return None;
        };
        self.deadlines.remove(&(waiting.deadline, command));
        Some(waiting)
    }
}

impl Waiting {
    /// Takes back the frames that still wait. Returns whether any was, or may have been, written.
    fn withdraw(&self) -> bool {
        let taken = self.tickets.iter().filter(|ticket| !ticket.cancel()).count();
        self.written || taken > 0
    }
}

impl Party {
    /// The command ended without the session's word.
    fn end(self, outcome: Outcome, error: &Error) {
        match self {
            Self::Nobody(held) if may_be_done(outcome) => drop(held),
            Self::Nobody(held) => held.fail(outcome, error),
            Self::Caller(caller) => caller.answer(outcome, None, Some(error)),
        }
    }
}
