//! Commands that were given to the session of a connection: the caller of each is sent exactly one last reply, whatever
//! happens, and no reply claims more than is known.

mod backpressure;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::{Code, Command, CommandId, DeliveryLevel, End, Error, Event, Kind, Reply};
use tokio::sync::mpsc;

use self::backpressure::PartRoom;
pub use self::backpressure::{Backpressure, over};
use crate::metrics::Outcome;
use crate::reply::{Caller, Detached, Stream, may_be_done, outcome_of};
use crate::transport::writer::Ticket;

/// How many may be known to be gone and not be given up yet.
const GONE: usize = 64;
/// Commands whose trace is remembered for the events that they cause, the last ones.
const TRACES: usize = 1_024;

/// The commands that were given to the session of one connection.
#[derive(Default)]
pub struct PendingCommands {
    /// Looked up many times for each command, which takes less time than to hash its number. Boxed, as a node of the tree
    /// has room for several.
    waiting: BTreeMap<CommandId, Box<PendingCommand>>,
    deadlines: BTreeSet<(Instant, CommandId)>,
    /// The room for parts, once a caller has asked for any.
    part_room: PartRoom,
    /// The traces of the last commands of this connection.
    traces: BTreeMap<CommandId, Arc<str>>,
    /// Both ends of the channel on which [`crate::reply::Liveness`] reports commands whose caller is gone, once a caller has
    /// asked for parts.
    gone: Option<(mpsc::Sender<CommandId>, mpsc::Receiver<CommandId>)>,
}

struct PendingCommand {
    waiter: Waiter,
    deadline: Instant,
    /// The most that a reply can say.
    delivery: DeliveryLevel,
    /// Its frames that are not known to be written.
    tickets: Vec<Ticket>,
    /// Whether one was written.
    written: bool,
    /// Set while the caller is sent parts.
    stream: Option<Stream>,
}

/// Who is sent the last reply to a command.
enum Waiter {
    /// A caller.
    Caller(Caller),
    /// The caller has its reply already; the command itself goes on.
    Detached(Detached),
}

impl PendingCommands {
    /// A command begins. Past its deadline the caller is answered by [`PendingCommands::expire`].
    pub fn begin(&mut self, command: &Command, caller: Caller, delivery: DeliveryLevel) {
        let (id, deadline) = (command.id, command.deadline);
        self.deadlines.insert((deadline, id));
        if command.stream {
            self.part_room.set(caller.replies.quota());
        }
        if let Some(trace) = &caller.traceparent {
            self.traces.insert(id, trace.clone());
            if self.traces.len() > TRACES {
                self.traces.pop_first();
            }
        }
        let stream = command.stream.then(|| {
            let (gone, _) = self.gone.get_or_insert_with(|| mpsc::channel(GONE));
            Stream::new(caller.replies.liveness(), id, gone.clone())
        });
        let waiter = Waiter::Caller(caller);
        let waiting =
            PendingCommand { waiter, deadline, delivery, tickets: Vec::new(), written: false, stream };
        self.waiting.insert(id, Box::new(waiting));
    }

    /// Set while a caller is sent parts, and what is read now might be one that finds no room.
    pub fn backpressure(&mut self, now: Instant) -> Option<Backpressure> {
        let Self { part_room, waiting, .. } = self;
        part_room.backpressure(now, || waiting.values().any(|pending| pending.stream.is_some()))
    }

    /// The session took the command.
    pub fn accepted(&mut self, command: CommandId) {
        self.reached(command, DeliveryLevel::Accepted, Outcome::Accepted);
        if self.waiting.get(&command).is_some_and(|waiting| waiting.delivery == DeliveryLevel::Accepted) {
            self.take(command);
        }
    }

    /// No reply can say more than this of the command.
    ///
    /// # Errors
    /// `Rejected` with 400 if its caller has named more than that to wait for: the command must not be sent.
    pub fn lower(&mut self, command: CommandId, delivery: DeliveryLevel) -> Result<(), Error> {
        let Some(waiting) = self.waiting.get_mut(&command) else { return Ok(()) };
        waiting.delivery = waiting.delivery.min(delivery);
        let Waiter::Caller(caller) = &mut waiting.waiter else { return Ok(()) };
        if caller.named_wait && caller.wait > delivery {
            return Err(beyond(caller.operation, delivery, caller.wait));
        }
        caller.wait = caller.wait.min(delivery);
        Ok(())
    }

    /// Puts an event into the trace of the command that it is about or was caused by.
    pub fn trace(&self, event: &mut Event) {
        if event.traceparent.is_none()
            && let Some(command) = event.command.or(event.caused_by)
        {
            event.traceparent = self.traces.get(&command).map(|trace| trace.to_string());
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
        let last = waiting.delivery <= DeliveryLevel::Sent;
        self.reached(command, DeliveryLevel::Sent, Outcome::Sent);
        if last {
            self.take(command);
        }
    }

    /// Replies to a caller that waits for no more than this.
    fn reached(&mut self, command: CommandId, reached: DeliveryLevel, outcome: Outcome) {
        let Some(waiting) = self.waiting.get_mut(&command) else { return };
        if !matches!(&waiting.waiter, Waiter::Caller(caller) if caller.wait == reached) {
            return;
        }
        let waiter = std::mem::replace(&mut waiting.waiter, Waiter::Detached(Detached::default()));
        if let Waiter::Caller(caller) = waiter {
            waiting.waiter = Waiter::Detached(caller.answer_early(outcome));
            waiting.stream = None;
        }
    }

    /// What the session replies to a command.
    pub fn reply(&mut self, command: CommandId, reply: Reply) {
        if let Reply::Part(data) = &reply {
            if let Some(PendingCommand { waiter: Waiter::Caller(caller), stream: Some(stream), .. }) =
                self.waiting.get_mut(&command).map(|pending| &mut **pending)
            {
                caller.part(data, stream);
            }
            return;
        }
        let Some(waiting) = self.take(command) else { return };
        let caller = match waiting.waiter {
            Waiter::Caller(caller) => caller,
            Waiter::Detached(held) => {
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
            waiting.waiter.end(outcome_of(error), error);
        }
    }

    /// A frame of the command could not be queued. Returns whether another of its frames may have been sent.
    pub fn unsent(&mut self, command: CommandId, error: &Error) -> bool {
        let Some(waiting) = self.take(command) else { return false };
        let sent = waiting.withdraw();
        waiting.waiter.end(if sent { Outcome::Unknown } else { outcome_of(error) }, error);
        sent
    }

    /// When [`PendingCommands::expire`] has something to do.
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
            let late = "it was sent, and no answer came in time";
            let sent = self.give_up(command, late, "its time ran out before it was sent");
            expired.extend(sent.map(|sent| (command, sent)));
        }
        expired
    }

    /// Waits until the caller of a command counts as gone. Dropping the future loses nothing.
    pub async fn gone(&mut self) -> CommandId {
        if let Some((_, gone)) = &mut self.gone
            && let Some(command) = gone.recv().await
        {
            return command;
        }
        std::future::pending().await
    }

    /// Gives up a command whose caller is gone, as at its deadline. Returns, for the session, whether it may have been
    /// sent; nothing if it goes on.
    pub fn dismiss(&mut self, command: CommandId) -> Option<bool> {
        let waiting = self.waiting.get_mut(&command)?;
        waiting.stream.take()?;
        if waiting.has_key() {
            // A caller with a key may ask again, and others may have joined: only the parts stop.
            return None;
        }
        let sent = "it was sent, and its caller is gone";
        self.give_up(command, sent, "its caller was gone before it was sent")
    }

    /// Replies where the session does not. Returns whether the command may have been sent.
    fn give_up(&mut self, command: CommandId, sent: &str, unsent: &str) -> Option<bool> {
        let waiting = self.take(command)?;
        let was_sent = waiting.withdraw();
        let error = match was_sent {
            true => Error::rejected(Code::NoAnswer, sent),
            false => Error::rejected(Code::Expired, unsent),
        };
        waiting.waiter.end(outcome_of(&error), &error);
        Some(was_sent)
    }

    /// The connection is gone: what was written may have been done, what was not was not. Returns the commands that were
    /// not.
    pub fn disconnect(&mut self, end: &End) -> Vec<CommandId> {
        self.deadlines.clear();
        let mut unsent = Vec::new();
        for (command, waiting) in std::mem::take(&mut self.waiting) {
            let sent = waiting.withdraw();
            if !sent {
                unsent.push(command);
            }
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
            waiting.waiter.end(if sent { Outcome::Unknown } else { Outcome::Failed }, &error);
        }
        unsent
    }

    fn take(&mut self, command: CommandId) -> Option<Box<PendingCommand>> {
        let Some(waiting) = self.waiting.remove(&command) else {
            self.deadlines.retain(|(_, known)| *known != command);
            return None;
        };
        self.deadlines.remove(&(waiting.deadline, command));
        if self.deadlines.is_empty() {
            // An empty one may keep a node.
            self.deadlines = BTreeSet::new();
        }
        Some(waiting)
    }
}

impl PendingCommand {
    /// Takes back the frames that still wait. Returns whether any was, or may have been, written.
    fn withdraw(&self) -> bool {
        let taken = self.tickets.iter().filter(|ticket| !ticket.cancel()).count();
        self.written || taken > 0
    }

    /// Whether its answer is kept for others than its caller.
    fn has_key(&self) -> bool {
        matches!(&self.waiter, Waiter::Caller(caller) if caller.on_answer.is_some())
    }
}

impl Waiter {
    /// The command ended without a reply of the session.
    fn end(self, outcome: Outcome, error: &Error) {
        match self {
            Self::Detached(held) if may_be_done(outcome) => drop(held),
            Self::Detached(held) => held.fail(outcome, error),
            Self::Caller(caller) => caller.answer(outcome, None, Some(error)),
        }
    }
}

/// The error where `Pontoon-Wait` names more than a reply can say.
pub fn beyond(operation: &str, delivery: DeliveryLevel, wanted: DeliveryLevel) -> Error {
    let (most, wanted) = (delivery.as_str(), wanted.as_str());
    let text =
        format!("{operation} can be waited for up to \"{most}\" here, not \"{wanted}\" (Pontoon-Wait)");
    Error::rejected(Code::BadBody, text)
}

#[cfg(test)]
pub(crate) mod tests;
