//! The way of replies to the bus. Parts take only some of it, so that last words find room whatever is streamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::answer::Answer;
use super::interest::{Interest, Stream};

/// Replies that may wait for NATS.
const REPLIES: usize = 8_192;
/// Parts that may be on their way, until they have left for NATS: no more than half of what its client holds.
const PARTS: usize = 1_024;
/// Their bytes. One alone may have more.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// There is room while a part of this size finds a place; NATS takes none that is larger unless it is told to.
const ROOM: u32 = 1024 * 1024;

/// A reply on its way to the bus.
pub struct Outgoing {
    /// Where the caller listens.
    pub subject: String,
    /// What it is told.
    pub answer: Arc<Answer>,
    /// Set if more will come.
    pub part: Option<Part>,
}

/// What makes a reply a part.
pub struct Part {
    /// Its name for [`Interest::nobody`]: two tokens of a subject.
    pub name: String,
    /// Its share of the way, given back when the reply has left for NATS.
    pub space: Space,
}

/// A share of the way.
pub struct Space {
    _part: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    left: Arc<AtomicU64>,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }
}

/// The end of the way that callers are at. The other end is at its end when all of these are gone.
#[derive(Clone)]
pub struct Outlet {
    queue: mpsc::Sender<Outgoing>,
    quota: Quota,
    interest: Arc<Interest>,
}

/// How much of the way parts may take.
#[derive(Clone)]
pub(super) struct Quota {
    parts: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// How many parts have left so far.
    left: Arc<AtomicU64>,
}

impl Outlet {
    /// A way, and what comes out of it at the other end.
    pub fn new() -> (Self, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(REPLIES);
        let (parts, bytes) = (Arc::new(Semaphore::new(PARTS)), Arc::new(Semaphore::new(PART_BYTES)));
        let quota = Quota { parts, bytes, left: Arc::default() };
        (Self { queue, quota, interest: Arc::default() }, outgoing)
    }

    /// Where it is known who listens to parts.
    pub fn interest(&self) -> Arc<Interest> {
        self.interest.clone()
    }

    /// How much of it parts may take.
    pub(super) fn quota(&self) -> Quota {
        self.quota.clone()
    }

    pub(super) fn send(&self, subject: String, answer: &Arc<Answer>) {
        if self.queue.try_send(Outgoing { subject, answer: answer.clone(), part: None }).is_err() {
            tracing::warn!(
                id = answer.id,
                "a reply was dropped: NATS takes nothing, and too many wait already"
            );
        }
    }

    pub(super) fn send_part(&self, subject: String, answer: Arc<Answer>, stream: &mut Stream) {
        let id = answer.id.clone();
        let sent = self.quota.space(answer.body.len()).and_then(|space| {
            let part = Some(Part { name: stream.next(), space });
            self.queue.try_send(Outgoing { subject, answer, part }).ok()
        });
        if sent.is_none() && !std::mem::replace(&mut stream.lossy, true) {
            tracing::warn!(id, "parts of an answer are dropped: NATS takes replies too slowly");
        }
    }
}

impl Quota {
    /// Whether one more part finds a place.
    pub(super) fn has_room(&self) -> bool {
        self.parts.available_permits() > 0 && self.bytes.available_permits() >= ROOM as usize
    }

    /// Waits until one may.
    pub(super) async fn room(&self) {
        drop(self.parts.acquire().await);
        drop(self.bytes.acquire_many(ROOM).await);
    }

    /// How many parts have left so far: it shows whether any do.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    fn space(&self, bytes: usize) -> Option<Space> {
        let bytes = u32::try_from(bytes.min(PART_BYTES)).unwrap_or(u32::MAX);
        let part = self.parts.clone().try_acquire_owned().ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Space { _part: part, _bytes: bytes, left: self.left.clone() })
    }
}
