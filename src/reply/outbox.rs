//! Replies on their way to the bus. Replies to commands that were taken always find room: there are no more of them than
//! commands may be under way. Parts take only a share of the queue, and refusals another queue, so that neither displaces them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use pontoon_sdk::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::answer::{Answer, compose, outcome_of};
use super::liveness::{Liveness, Stream};
use crate::log::Throttle;

/// Parts that may be on their way, until NATS has taken them.
const PARTS: usize = 1_024;
/// Their bytes. One alone may have more.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// There is room while a part of this size finds a place; NATS takes none that is larger unless it is configured to.
const ROOM: u32 = 1024 * 1024;
/// Refusals that may wait for NATS. Enough for a burst of that many commands; later ones are dropped and counted.
const REFUSALS: usize = 131_072;
/// Their bytes.
const REFUSAL_BYTES: usize = 32 * 1024 * 1024;
/// What a refusal takes in memory besides its texts, about.
const REFUSAL: usize = 128;

/// A command's place among those under way. It is held until the last reply has been handed to NATS, which bounds how
/// many of those can wait.
pub type Permit = Arc<OwnedSemaphorePermit>;

/// A reply on its way to the bus.
pub struct Outgoing {
    /// The subject that the caller receives replies on.
    pub subject: String,
    /// What is published.
    pub answer: Rc<Answer>,
    /// The trace that the command belongs to.
    pub traceparent: Option<Arc<str>>,
    /// Set if more will come.
    pub part: Option<Part>,
    /// Given back once the reply was published.
    pub permit: Option<Permit>,
}

/// What makes a reply a part.
pub struct Part {
    /// The secret of its answer, a token of a subject: see [`Liveness`].
    pub secret: String,
    /// Its number in the answer.
    pub number: u64,
    /// Its share of the queue, given back when NATS has taken the reply.
    pub space: Space,
}

/// A share of the queue.
pub struct Space {
    _part: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    left: Rc<Cell<u64>>,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.left.set(self.left.get() + 1);
    }
}

/// The reply to a command that was refused before it had a place among those under way. Its body is made when it is
/// published, as there can be many.
pub(crate) struct Refusal {
    pub(crate) subject: String,
    /// The command's id in replies.
    pub(crate) name: String,
    pub(crate) error: Error,
    pub(crate) traceparent: Option<Arc<str>>,
}

impl Refusal {
    fn size(&self) -> u32 {
        let texts = [self.subject.len(), self.name.len(), self.error.message().len()];
        u32::try_from(REFUSAL + texts.into_iter().sum::<usize>()).unwrap_or(u32::MAX)
    }

    fn outgoing(self) -> Option<Outgoing> {
        let Self { subject, name, error, traceparent } = self;
        let answer = compose(&name, Some(outcome_of(&error)), None, Some(&error))?;
        Some(Outgoing { subject, answer, traceparent, part: None, permit: None })
    }
}

/// Sends replies to the bus. The receiver ends when all of these are gone. Cheap to clone: each command has one.
#[derive(Clone)]
pub struct ReplySender(Rc<Queues>);

/// The sending ends of the queues.
struct Queues {
    queue: mpsc::Sender<Outgoing>,
    /// Boxed, as an empty queue has room for 32.
    refusals: mpsc::Sender<Box<(Refusal, OwnedSemaphorePermit)>>,
    refusal_bytes: Arc<Semaphore>,
    drops: Throttle,
    quota: Quota,
    liveness: Rc<Liveness>,
}

/// How much of the queue parts may take.
#[derive(Clone)]
pub(crate) struct Quota {
    parts: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// How many parts have left so far.
    left: Rc<Cell<u64>>,
}

/// Receives replies for the bus.
pub struct ReplyReceiver {
    queue: mpsc::Receiver<Outgoing>,
    refusals: mpsc::Receiver<Box<(Refusal, OwnedSemaphorePermit)>>,
}

impl ReplySender {
    /// For the replies to this many commands under way.
    pub fn new(commands: usize) -> (Self, ReplyReceiver) {
        let (queue, outgoing) = mpsc::channel(commands + PARTS);
        let (refusals, refused) = mpsc::channel(REFUSALS);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let queues = Queues {
            queue,
            refusals,
            refusal_bytes: semaphore(REFUSAL_BYTES),
            drops: Throttle::default(),
            quota: Quota { parts: semaphore(PARTS), bytes: semaphore(PART_BYTES), left: Rc::default() },
            liveness: Rc::default(),
        };
        (Self(Rc::new(queues)), ReplyReceiver { queue: outgoing, refusals: refused })
    }

    /// Which callers still receive parts.
    pub fn liveness(&self) -> Rc<Liveness> {
        self.0.liveness.clone()
    }

    /// How much of the queue parts may take.
    pub(crate) fn quota(&self) -> Quota {
        self.0.quota.clone()
    }

    /// Queues a reply that is not a part. Returns whether it found room, which it does if it holds a permit.
    pub(crate) fn send(&self, outgoing: Outgoing) -> bool {
        self.0.queue.try_send(outgoing).is_ok()
    }

    /// Queues the reply to a command that was refused. Returns whether it found room.
    pub(crate) fn refuse(&self, refusal: Refusal) -> bool {
        let space = self.0.refusal_bytes.clone().try_acquire_many_owned(refusal.size());
        let taken = space.is_ok_and(|space| self.0.refusals.try_send(Box::new((refusal, space))).is_ok());
        if !taken {
            self.0.drops.log(|replies| {
                tracing::warn!(
                    replies,
                    "replies to refused commands were dropped: too many wait for NATS already"
                );
            });
        }
        taken
    }

    /// Queues a part, unless there is no room for it.
    pub(crate) fn send_part(
        &self,
        subject: String,
        answer: Rc<Answer>,
        traceparent: Option<Arc<str>>,
        stream: &mut Stream,
    ) {
        let id = answer.id.clone();
        let sent = self.0.quota.space(answer.body.len()).and_then(|space| {
            let (secret, number) = stream.next();
            let part = Some(Part { secret, number, space });
            self.0.queue.try_send(Outgoing { subject, answer, traceparent, part, permit: None }).ok()
        });
        if sent.is_none() && !std::mem::replace(&mut stream.lossy, true) {
            tracing::warn!(id, "parts of an answer are dropped: NATS takes replies too slowly");
        }
    }
}

impl Quota {
    /// Whether there is room for one more part.
    pub(crate) fn has_room(&self) -> bool {
        self.parts.available_permits() > 0 && self.bytes.available_permits() >= ROOM as usize
    }

    /// Waits until there may be.
    pub(crate) async fn room(&self) {
        drop(self.parts.acquire().await);
        drop(self.bytes.acquire_many(ROOM).await);
    }

    /// How many parts have left so far: it shows whether any do.
    pub(crate) fn left(&self) -> u64 {
        self.left.get()
    }

    fn space(&self, bytes: usize) -> Option<Space> {
        let bytes = u32::try_from(bytes.min(PART_BYTES)).unwrap_or(u32::MAX);
        let part = self.parts.clone().try_acquire_owned().ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Space { _part: part, _bytes: bytes, left: self.left.clone() })
    }
}

impl ReplyReceiver {
    /// The next reply: refusals come when nothing else waits. `None` once every [`ReplySender`] is gone and all replies were
    /// taken. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Outgoing> {
        loop {
            let refusal = tokio::select! {
                biased;
                Some(outgoing) = self.queue.recv() => return Some(outgoing),
                Some(refused) = self.refusals.recv() => refused.0,
                else => return None,
            };
            if let Some(outgoing) = refusal.outgoing() {
                return Some(outgoing);
            }
        }
    }

    /// The next reply, if there is one.
    pub(crate) fn try_next(&mut self) -> Option<Outgoing> {
        self.queue.try_recv().ok().or_else(|| self.refusals.try_recv().ok()?.0.outgoing())
    }
}

#[cfg(test)]
mod tests {
    use pontoon_sdk::Code;

    use super::*;

    fn refusal(number: usize) -> Refusal {
        let error = Error::rejected(Code::TooMany, "too many");
        Refusal { subject: "_INBOX.a".into(), name: number.to_string(), error, traceparent: None }
    }

    fn reply(permits: &Arc<Semaphore>, name: &str) -> Outgoing {
        let answer = compose(name, Some(crate::metrics::Outcome::Response), None, None).unwrap();
        let permit = Some(Arc::new(permits.clone().try_acquire_owned().unwrap()));
        Outgoing { subject: "_INBOX.b".into(), answer, traceparent: None, part: None, permit }
    }

    #[test]
    fn a_flood_of_refusals_displaces_no_reply_and_is_bounded() {
        let (sender, mut receiver) = ReplySender::new(2);
        let taken = (0..REFUSALS * 2).filter(|number| sender.refuse(refusal(*number))).count();
        assert!((1..=REFUSALS).contains(&taken));
        let permits = Arc::new(Semaphore::new(2));
        assert!(sender.send(reply(&permits, "one")) && sender.send(reply(&permits, "two")));
        assert_eq!(permits.available_permits(), 0, "a reply that waits keeps its place");
        for wanted in ["one", "two", "0", "1"] {
            assert_eq!(receiver.try_next().unwrap().answer.id, wanted);
        }
        assert_eq!(permits.available_permits(), 2);
        assert!(sender.refuse(refusal(0)), "what was taken makes room");
    }

    #[test]
    fn the_bytes_of_refusals_are_bounded_too() {
        let (sender, _replying) = ReplySender::new(1);
        let large = || Refusal { name: "x".repeat(1 << 20), ..refusal(0) };
        let taken = (0..1_000).filter(|_| sender.refuse(large())).count();
        assert!(taken < 32, "{taken}");
    }
}
