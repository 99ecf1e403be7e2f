//! One connection from open to close: the only place where a service and the bus meet.

mod actions;
mod asks;
mod closing;
mod ends;
mod moving;
mod observe;
mod reading;

use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_sdk::connector::Frame;
use pontoon_sdk::rate::RateLimiter;
use pontoon_sdk::{CommandId, End, Error, Kind, Outbox, Raw, Redactor, Result};
use time::OffsetDateTime;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Sleep, sleep_until};

use self::asks::Asks;
pub use self::ends::Ends;
pub use self::moving::Mover;
use self::moving::{Moving, until_made};
use self::observe::show_connection;
use super::Link;
use super::context::Context;
use super::erased::ErasedSession;
use super::pending::{PendingCommands, over};
use super::queue::QueuedCommand;
use super::redact::shown;
use super::slots::Slot;
use crate::feed::Passed;
use crate::reply::Begin;
use crate::transport::deadline::{GRACE, LATE};
use crate::transport::writer::Outcome;
use crate::transport::{Read, classify};

/// A command whose intent is being written.
struct Beginning {
    queued: QueuedCommand,
    begin: Begin,
}

/// One connection of a link.
pub struct Connection<'a, F, R> {
    link: &'a mut Link,
    context: Rc<Context>,
    /// The connector's side of it.
    session: ErasedSession<F>,
    outbox: Outbox<F>,
    ends: Ends<F, R>,
    /// Limits the rate of commands.
    limiter: Option<RateLimiter>,
    /// Takes our secrets out of events, reasons and errors.
    redact: Redactor,
    pending: PendingCommands,
    opened: Instant,
    /// Since when the session may take its time to be ready.
    not_ready_since: Instant,
    /// When a message was received last.
    last_message: Instant,
    /// No timer is due before this: the process went on late, and what was received meanwhile is read first.
    grace: Option<Instant>,
    /// A burst was read since the timer was over.
    has_read: bool,
    ready: bool,
    /// Something was sent before the session was ready, or with the frame that made it so.
    has_sent: bool,
    /// The last frame that was received before the session was ready, shortened and without secrets.
    last_frame: Option<String>,
    /// Why nothing can be written any more, until it is handled.
    write_error: Option<End>,
    /// Nothing can be written any more.
    is_broken: bool,
    /// The service or the network has ended the connection.
    is_lost: bool,
    /// The connection is ended from outside.
    interrupted: bool,
    /// The session does not need the link any more.
    finished: bool,
    /// Makes the next connection while this one is read, once the service asks for that.
    mover: Option<Mover<'a>>,
    /// It is being made.
    moving: Option<Moving<'a>>,
    /// It is made, and this one ends.
    has_moved: bool,
    /// A command whose intent is being written. Others wait behind it.
    beginning: Option<Box<Beginning>>,
    /// A frame that was read and not handled, because there was no room for parts meanwhile.
    held: Option<F>,
    /// The numbers of events that NATS has confirmed, for the session: where they are sent, and where they arrive.
    stored: (UnboundedSender<u64>, UnboundedReceiver<u64>),
    /// The requests over NATS that the session has made.
    asks: Asks,
    interrupt: Pin<Box<dyn Future<Output = End> + 'a>>,
}

impl<'a, F: Frame, R: Read<F>> Connection<'a, F, R> {
    /// A connection that was just made, and of which `first` was read already. `interrupt` ends it from outside, `mover` makes
    /// the next one.
    pub fn new(
        link: &'a mut Link,
        session: ErasedSession<F>,
        (ends, first): (Ends<F, R>, Option<F>),
        redact: Redactor,
        limiter: Option<RateLimiter>,
        interrupt: impl Future<Output = End> + 'a,
        mover: Option<Mover<'a>>,
    ) -> Self {
        let opened = Instant::now();
        Self {
            context: link.context.clone(),
            outbox: Outbox::with_joins(opened, link.joins.clone()),
            link,
            session,
            ends,
            limiter,
            redact,
            pending: PendingCommands::default(),
            opened,
            not_ready_since: opened,
            last_message: opened,
            grace: None,
            has_read: false,
            ready: false,
            has_sent: false,
            last_frame: None,
            write_error: None,
            is_broken: false,
            is_lost: false,
            interrupted: false,
            finished: false,
            mover,
            moving: None,
            has_moved: false,
            beginning: None,
            held: first,
            stored: unbounded(),
            asks: Asks::new(),
            interrupt: Box::pin(interrupt),
        }
    }

    /// Runs until the connection ends. Returns how, and whether the link is not needed any more. One that has moved ends in
    /// order if all that the service sent over it was read. Boxed, as a future keeps a value twice that it takes; so is what
    /// happens at the end: else an open link would keep memory for it.
    pub async fn run(mut self: Box<Self>) -> (End, bool) {
        show_connection(self.link, Passed::Opened, None);
        let opened = self.session.open(&self.link.joins, &mut self.outbox);
        let mut end = match self.settle(opened) {
            Ok(()) => self.serve().await,
            Err(end) => end,
        };
        // The service may close it, too, once it is closed here.
        let passed = if self.is_lost || self.is_broken { Passed::Closed } else { Passed::Ended };
        let _ = self.handle_held();
        if self.context.ends.get() && self.context.checkpoints.is_kept() {
            self.ends.reader.suspend();
        }
        if (self.finished || self.interrupted) && !self.is_broken {
            let is_whole = Box::pin(self.close_and_read()).await;
            end.orderly &= is_whole || !self.has_moved;
        }
        end.reason = shown(&self.redact, &end.reason);
        show_connection(self.link, passed, Some(&end));
        let settings = &self.context.transport.config;
        end.kind = classify::end(&end, self.opened.elapsed(), settings);
        self.outbox.advance(Instant::now());
        let kind = self.session.ended(&end, &mut self.outbox);
        // What the operator has set for a code counts more than what the connector makes of it.
        let listed = end.code.and_then(|code| classify::listed_code(code, settings));
        end.kind = listed.unwrap_or(kind);
        // What the session wants published at the end is published; nothing can be sent any more.
        let _ = self.perform();
        if let Some(beginning) = self.beginning.take() {
            let error = Error::disconnected("the connection was lost before it was sent");
            beginning.queued.caller.refuse(&error);
        }
        for command in self.pending.disconnect(&end) {
            self.outbox.undo(command);
        }
        let _ = self.perform();
        self.keep();
        let finished = self.finished;
        if !self.is_broken {
            let closing = Box::pin(self.ends.close());
            if finished || self.interrupted {
                closing.await;
            } else {
                // The link is down already, and need not wait for the service to be dialled again.
                spawn_local(closing);
            }
        }
        (end, finished)
    }

    async fn serve(&mut self) -> End {
        let mut timer = Box::pin(sleep_until(far()));
        loop {
            let is_full = self.context.spool.is_full();
            let is_ahead = !is_full && self.context.spool.is_ahead();
            if is_full || is_ahead {
                // What is not read cannot make the session ready.
                self.not_ready_since = Instant::now();
            }
            if self.ready
                && self.takes()
                && let Some(mut queued) = self.link.queue.take()
            {
                if let Some(begin) = queued.caller.begin() {
                    self.beginning = Some(Box::new(Beginning { queued, begin }));
                    continue;
                }
                if let Err(end) = self.encode(queued) {
                    return end;
                }
                continue;
            }
            let backpressure = self.pending.backpressure(Instant::now());
            if backpressure.is_none() && self.held.is_some() {
                if let Err(end) = self.handle_held() {
                    return end;
                }
                continue;
            }
            let reads = !is_full && !is_ahead && backpressure.is_none();
            if !reads {
                self.link.gaps.received.pause(OffsetDateTime::now_utc());
                // The service is not silent because nothing is read.
                self.last_message = Instant::now();
            }
            let at = self.next_timer();
            set(&mut timer, at);
            let step = tokio::select! {
                biased;
                end = &mut self.interrupt => {
                    self.interrupted = true;
                    Err(end)
                }
                Some(outcome) = self.ends.outcomes.next() => self.outcome(outcome),
                Some(number) = self.stored.1.next() => self.is_stored(number),
                Some((number, answer)) = self.asks.next(), if !self.asks.is_empty() => self.asked(number, answer),
                begun = begun(self.beginning.as_deref_mut()) => self.begun(begun),
                made = until_made(self.moving.as_mut()) => self.moved(made),
                () = self.link.queue.arrived() => Ok(()),
                command = self.pending.gone() => self.caller_gone(command),
                () = &mut timer, if at.is_some() => {
                    // Lets the runtime look at its sockets, which it has not done yet if it was stopped just now.
                    yield_now().await;
                    self.due(at, reads)
                }
                () = self.context.spool.room(), if is_full => Ok(()),
                () = self.context.spool.caught_up(), if is_ahead => Ok(()),
                () = wanted(self.link.slot.as_ref()), if self.is_idle() => self.release_slot(),
                () = over(backpressure.as_ref()), if backpressure.is_some() => Ok(()),
                read = self.ends.reader.read(), if reads => self.receive(read),
            };
            if let Err(end) = step {
                return end;
            }
            if let Some(error) = self.write_error.take() {
                return Box::pin(self.read_remaining(error)).await;
            }
        }
    }

    /// Whether the link can be spared: the session is idle, and no command waits for it.
    fn is_idle(&self) -> bool {
        self.outbox.is_idle() && self.link.queue.is_empty() && self.beginning.is_none()
    }

    /// Ends an idle link for one that waits for its slot.
    fn release_slot(&mut self) -> Result<(), End> {
        if let Some(slot) = &mut self.link.slot {
            slot.release_soon();
        }
        self.link.queue.close();
        self.finished = true;
        Err(End::disconnected("another link needs its slot"))
    }

    /// The timer for this time is over. A session must not be judged by a time in which this process did not run, so what was
    /// received is read first: for a while if the timer was noticed late, and else one burst.
    fn due(&mut self, at: Option<Instant>, reads: bool) -> Result<(), End> {
        let now = Instant::now();
        if at.is_some_and(|at| at + LATE <= now) {
            self.grace = Some(now + GRACE);
            return Ok(());
        }
        self.grace = None;
        let has_read = std::mem::replace(&mut self.has_read, false);
        if reads
            && !has_read
            && let Some(read) = self.ends.reader.read().now_or_never()
        {
            self.has_read = true;
            return self.receive(read);
        }
        self.tick()
    }

    /// Whether a command waits that the session takes now. One that it does not take waits where it is, and goes on to the
    /// next connection if this one ends.
    fn takes(&mut self) -> bool {
        if self.beginning.is_some() {
            return false;
        }
        let now = Instant::now();
        self.outbox.advance(now);
        if !self.link.queue.is_waiting(now) || !self.session.takes(&mut self.outbox) {
            return false;
        }
        let token = self.limiter.as_ref().map_or(Ok(()), |limiter| limiter.take(now));
        token.map_err(|at| self.outbox.wake_at(at)).is_ok()
    }

    /// The intent of a command is written, or cannot be.
    fn begun(&mut self, begun: Result<()>) -> Result<(), End> {
        let Some(beginning) = self.beginning.take() else { return Ok(()) };
        let queued = beginning.queued;
        match begun {
            Ok(()) => {
                self.outbox.advance(Instant::now());
                if queued.command.deadline > self.outbox.now() {
                    return self.encode(queued);
                }
                queued.expire();
            }
            Err(error) => queued.caller.refuse(&error),
        }
        Ok(())
    }

    /// Gives a command to the session, whose time was set just now.
    fn encode(&mut self, queued: QueuedCommand) -> Result<(), End> {
        let QueuedCommand { request, mut command, delivery, mut caller, .. } = queued;
        caller.sends(&mut command);
        let id = command.id;
        self.pending.begin(&command, caller, delivery);
        self.outbox.busy();
        match self.session.encode(request, command, &mut self.outbox) {
            // Only now is it known whether its frame could be queued.
            Ok(()) => {
                let performed = self.perform();
                self.pending.accepted(id);
                performed
            }
            Err(error) if matches!(error.kind(), Kind::Disconnected | Kind::Throttled | Kind::Auth) => {
                Err(error.into())
            }
            Err(error) => {
                let error = error.map_message(|text| self.redact.text(text).into_owned());
                self.pending.refuse(id, &error);
                self.outbox.undo(id);
                self.perform()
            }
        }
    }

    fn outcome(&mut self, outcome: Outcome) -> Result<(), End> {
        match outcome {
            Outcome::Written(commands) => {
                for command in commands {
                    self.pending.written(command);
                }
                Ok(())
            }
            Outcome::Broken(end) => {
                self.write_error = Some(end);
                Ok(())
            }
        }
    }

    /// NATS has confirmed an event of this connection.
    fn is_stored(&mut self, number: u64) -> Result<(), End> {
        self.outbox.advance(Instant::now());
        let handled = self.session.stored(number, &mut self.outbox);
        self.settle(handled)
    }

    /// The answer to a request over NATS has come, or will not come.
    fn asked(&mut self, number: u64, answer: Result<Raw>) -> Result<(), End> {
        self.outbox.advance(Instant::now());
        let handled = self.session.asked(number, answer, &mut self.outbox);
        self.settle(handled)
    }

    /// The caller of a command is gone.
    fn caller_gone(&mut self, command: CommandId) -> Result<(), End> {
        self.outbox.advance(Instant::now());
        if let Some(sent) = self.pending.dismiss(command) {
            self.abandoned(command, sent);
        }
        self.perform()
    }

    /// A command was replied to without the session. `sent` is whether its frame was, or may have been, written.
    fn abandoned(&mut self, command: CommandId, sent: bool) {
        if !sent {
            self.outbox.undo(command);
        }
        self.session.abandoned(command, sent, &mut self.outbox);
    }

    fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.outbox.advance(now);
        self.link.queue.expire(now);
        for (command, sent) in self.pending.expire(now) {
            self.abandoned(command, sent);
        }
        let ticked = if self.outbox.take_due() { self.session.tick(&mut self.outbox) } else { Ok(()) };
        if self.context.spool.deadline().is_some_and(|deadline| deadline <= now) {
            self.context.spool.overflow()?;
        }
        let settings = &self.context.transport.config;
        let limit = settings.connect_timeout.0;
        if !self.ready && self.not_ready_since + limit <= now {
            return Err(End::disconnected(self.why_not_ready()));
        }
        if let Some(silence) = settings.max_silence
            && self.last_message + silence.0 <= now
        {
            return Err(End::disconnected(format!("no message came for {silence} (transport.max_silence)")));
        }
        self.settle(ticked)
    }

    fn why_not_ready(&self) -> String {
        let limit = self.context.transport.config.connect_timeout;
        let last = self.last_frame.as_deref().map_or_else(
            || "the service sent nothing".to_owned(),
            |frame| format!("the last message from the service was {frame}"),
        );
        let awaited =
            self.session.awaits().map(|awaited| format!("; it waits for {awaited}")).unwrap_or_default();
        format!("the session was not ready within {limit} (transport.connect_timeout){awaited}; {last}")
    }

    fn next_timer(&self) -> Option<Instant> {
        let settings = &self.context.transport.config;
        let ready = (!self.ready).then(|| self.not_ready_since + settings.connect_timeout.0);
        let silent = settings.max_silence.map(|silence| self.last_message + silence.0);
        let callers = [self.pending.next_deadline(), self.link.queue.next_deadline()];
        let timers = [self.outbox.wake(), self.context.spool.deadline(), ready, silent];
        let next = timers.into_iter().chain(callers).flatten().min();
        next.map(|at| self.grace.map_or(at, |grace| at.max(grace)))
    }

    fn settle(&mut self, result: Result<()>) -> Result<(), End> {
        self.perform()?;
        result.map_err(End::from)
    }

    fn perform(&mut self) -> Result<(), End> {
        self.perform_read(None)
    }
}

/// Waits until the intent of a command is written. Dropping the future loses nothing.
async fn begun(beginning: Option<&mut Beginning>) -> Result<()> {
    match beginning {
        Some(Beginning { begin, .. }) => begin.await,
        None => std::future::pending().await,
    }
}

/// Waits until another link needs this one's slot.
async fn wanted(slot: Option<&Slot>) {
    match slot {
        Some(slot) => slot.wanted().await,
        None => std::future::pending().await,
    }
}

fn set(timer: &mut Pin<Box<Sleep>>, at: Option<Instant>) {
    if let Some(at) = at.map(tokio::time::Instant::from_std)
        && timer.deadline() != at
    {
        timer.as_mut().reset(at);
    }
}

/// A time that never comes.
fn far() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(86_400 * 365)
}
