//! The queue of outgoing messages of a link: bounded in bytes and in count, written in batches, each with a deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use futures_channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures_util::StreamExt as _;
use pontoon_sdk::connector::Frame;
use pontoon_sdk::rate::RateLimiter;
use pontoon_sdk::{Code, CommandId, End, Error};
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::{Settings, Write, deadline};
use crate::fence::Fence;
use crate::metrics::InstanceMetrics;

/// How many messages may be queued.
const QUEUE: usize = 4_096;
/// How many bytes are written before a flush.
const BATCH: usize = 256 * 1024;

const QUEUED: u8 = 0;
const WRITING: u8 = 1;
const CANCELLED: u8 = 2;

/// A handle to a queued message: it is written or cancelled, never both.
#[derive(Debug, Clone)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(QUEUED)))
    }

    /// Cancels the message. `false` if it was or is being written: then it is unknown whether it arrived.
    pub fn cancel(&self) -> bool {
        self.set_state(CANCELLED)
    }

    fn take(&self) -> bool {
        self.set_state(WRITING)
    }

    fn set_state(&self, to: u8) -> bool {
        match self.0.compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(now) => now == to,
        }
    }
}

struct Item<F> {
    frame: F,
    command: Option<(CommandId, Ticket)>,
}

/// What is in the queue.
#[derive(Default)]
struct Waiting {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// Adds a message, if there is room. A single message may be larger than the bound, else it could never be sent.
    fn add(&self, size: usize, limit: usize) -> bool {
        let messages = self.messages.fetch_add(1, Ordering::AcqRel);
        let bytes = self.bytes.fetch_add(size, Ordering::AcqRel);
        let fits = messages < QUEUE && (bytes == 0 || bytes + size <= limit);
        if !fits {
            self.remove(1, size);
        }
        fits
    }

    fn remove(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The sending end of the queue. Dropping it closes the connection after what is queued.
pub struct Outbound<F> {
    /// `None` once it is closed. What may wait is bounded by `waiting`; a bounded channel would take memory for each slot.
    items: Option<UnboundedSender<Item<F>>>,
    waiting: Arc<Waiting>,
    limit: usize,
    frame_limit: Option<usize>,
}

/// Why a message cannot be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full: the peer does not read fast enough.
    Full,
    /// The peer accepts messages of at most this many bytes.
    TooLarge(usize),
    /// The connection is being closed, or cannot be written to any more.
    Closed,
}

impl Refused {
    /// The error for the caller.
    pub fn error(self) -> Error {
        match self {
            Self::Full => Error::rejected(
                Code::TooMany,
                "the service does not read fast enough; the send buffer is full",
            ),
            Self::TooLarge(limit) => {
                Error::rejected(Code::TooLarge, format!("the service accepts no message over {limit} bytes"))
            }
            Self::Closed => Error::disconnected("the connection is closed"),
        }
    }
}

/// The outcome of writing.
#[derive(Debug)]
pub enum Outcome {
    /// The frames of these commands were written to the socket.
    Written(Vec<CommandId>),
    /// The connection cannot be written to any more.
    Broken(End),
}

impl<F: Frame> Outbound<F> {
    /// Starts the task that writes. It sends outcomes to `outcomes`; `frame_limit` is the largest message that the peer
    /// accepts, in bytes.
    pub fn start<W: Write<F>>(
        writer: W,
        frame_limit: Option<usize>,
        settings: &Settings,
        metrics: Arc<InstanceMetrics>,
        outcomes: UnboundedSender<Outcome>,
    ) -> Self {
        let (items, queue) = mpsc::unbounded();
        let waiting = Arc::new(Waiting::default());
        let loop_ = Loop {
            writer,
            queue,
            waiting: waiting.clone(),
            outcomes,
            metrics,
            fence: settings.fence.clone(),
            ping_interval: settings.config.ping_interval.0,
            write_timeout: settings.config.write_timeout.0,
            limiter: settings.config.send_rate.map(RateLimiter::new),
        };
        spawn_local(loop_.run());
        Self { items: Some(items), waiting, limit: settings.config.send_buffer.0, frame_limit }
    }

    /// Closes the connection after what is queued; nothing more can be queued.
    pub fn close(&mut self) {
        self.items = None;
    }

    /// Queues a message.
    ///
    /// # Errors
    /// If it cannot be queued; nothing of it was or will be written.
    pub fn push(&self, frame: F, command: Option<CommandId>) -> Result<Ticket, Refused> {
        let size = frame.size();
        if let Some(limit) = self.frame_limit.filter(|limit| frame.largest() > *limit) {
            return Err(Refused::TooLarge(limit));
        }
        let items = self.items.as_ref().ok_or(Refused::Closed)?;
        if !self.waiting.add(size, self.limit) {
            return Err(Refused::Full);
        }
        let ticket = Ticket::new();
        let command = command.map(|command| (command, ticket.clone()));
        if items.unbounded_send(Item { frame, command }).is_err() {
            self.waiting.remove(1, size);
            return Err(Refused::Closed);
        }
        Ok(ticket)
    }
}

struct Loop<F, W> {
    writer: W,
    queue: UnboundedReceiver<Item<F>>,
    waiting: Arc<Waiting>,
    outcomes: UnboundedSender<Outcome>,
    metrics: Arc<InstanceMetrics>,
    fence: Fence,
    ping_interval: Duration,
    write_timeout: Duration,
    /// Limits the rate of messages.
    limiter: Option<RateLimiter>,
}

impl<F: Frame, W: Write<F>> Loop<F, W> {
    async fn run(mut self) {
        let broken = self.write_queue().await;
        if let Err(end) = broken {
            let _ = self.outcomes.unbounded_send(Outcome::Broken(end));
        }
    }

    async fn write_queue(&mut self) -> Result<(), End> {
        let mut pings = interval_at(Instant::now() + self.ping_interval, self.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Messages that the rate does not allow yet, and when it may allow the first.
        let (mut paced, mut allowed) = (VecDeque::new(), Instant::now());
        loop {
            tokio::select! {
                () = sleep_until(allowed), if !paced.is_empty() => match self.token() {
                    Ok(()) => if let Some(item) = paced.pop_front() {
                        self.batch(item).await?;
                    },
                    Err(at) => allowed = at,
                },
                item = self.queue.next() => match item {
                    Some(item) if self.limiter.is_some() => paced.push_back(item),
                    Some(first) => self.batch(first).await?,
                    // What is still to wait is not written.
                    None => return self.in_time(async |writer: &mut W| writer.close().await).await,
                },
                () = self.writer.due() => self.in_time(async |writer: &mut W| writer.flush().await).await?,
                _ = pings.tick() => self.in_time(async |writer: &mut W| writer.ping().await).await?,
            }
        }
    }

    /// Whether a message may be written now, or when the next one may.
    fn token(&self) -> Result<(), Instant> {
        let token = self.limiter.as_ref().map_or(Ok(()), |limiter| limiter.take(std::time::Instant::now()));
        token.map_err(Instant::from_std)
    }

    /// Writes the queued messages, up to [`BATCH`], and flushes once.
    async fn batch(&mut self, first: Item<F>) -> Result<(), End> {
        let (mut written, mut frames, mut bytes) = (Vec::new(), 0_u64, 0);
        let (mut messages, mut taken) = (0, 0);
        let mut next = Some(first);
        let limit = self.write_timeout;
        let writing = async {
            while let Some(Item { frame, command }) = next {
                // Before it is claimed: then it is certain that nothing of it was written.
                self.fence.check().map_err(|error| End::disconnected(error.to_string()))?;
                messages += 1;
                taken += frame.size();
                let claimed = command.as_ref().is_none_or(|(_, ticket)| ticket.take());
                if claimed {
                    bytes += frame.size();
                    frames += 1;
                    self.writer.feed(frame).await?;
                    written.extend(command.map(|(command, _)| command));
                }
                next =
                    if taken < BATCH && self.limiter.is_none() { self.queue.try_recv().ok() } else { None };
            }
            self.writer.flush().await
        };
        deadline::within(limit, writing).await.unwrap_or_else(|| Err(too_slow(limit)))?;
        self.waiting.remove(messages, taken);
        self.metrics.frames_sent.increment(frames);
        self.metrics.bytes_sent.increment(u64::try_from(bytes).unwrap_or(u64::MAX));
        if !written.is_empty() {
            // If the receiver is gone, the link is being closed and replies to its callers itself.
            let _ = self.outcomes.unbounded_send(Outcome::Written(written));
        }
        Ok(())
    }

    async fn in_time(&mut self, act: impl AsyncFnOnce(&mut W) -> Result<(), End>) -> Result<(), End> {
        let limit = self.write_timeout;
        deadline::within(limit, act(&mut self.writer)).await.unwrap_or_else(|| Err(too_slow(limit)))
    }
}

fn too_slow(limit: Duration) -> End {
    End::disconnected(format!("the service accepted no data for {} s", limit.as_secs()))
}
