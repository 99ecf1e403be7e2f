//! One connection from open to close: the only place where a service and the bus meet.

mod closing;
mod reading;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pontoon_sdk::connector::Frame;
use pontoon_sdk::rate::RateLimiter;
use pontoon_sdk::{Action, CommandId, End, Error, Join, Kind, LinkKey, Outbox, Redactor, Result, Session};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Sleep, sleep_until};

use self::closing::close;
use crate::bus::spool::Spool;
use crate::link::pending::{Full, Replies};
use crate::link::queue::{Errand, Errands};
use crate::link::received::Received;
use crate::link::redact::shown;
use crate::link::slots::Place;
use crate::metrics::InstanceMetrics;
use crate::settings;
use crate::transport::deadline::{GRACE, LATE};
use crate::transport::writer::{Outbound, Outcome, Refused};
use crate::transport::{Read, meaning};

/// How many joins a link keeps.
const MAX_JOINS: usize = 16_384;

/// What outlives a connection of a link.
pub struct Memory<R> {
    /// Commands for the link.
    pub errands: Errands<R>,
    /// What the service was asked to remember.
    pub joins: Vec<Join>,
    /// Where events go.
    pub spool: Rc<Spool>,
    /// Until when everything is known to be received.
    pub received: Received,
    /// The link's place, where only so many may be open.
    pub place: Option<Place>,
}

/// What a connection is made of.
pub struct Parts<S: Session, R> {
    /// The connector's side of it.
    pub session: S,
    /// What the service says.
    pub reader: R,
    /// What is said to the service.
    pub outbound: Outbound<S::Frame>,
    /// What becomes of it.
    pub outcomes: mpsc::Receiver<Outcome>,
    /// Takes our secrets out of reasons and errors.
    pub redact: Redactor,
    /// Limits the commands.
    pub limiter: Option<RateLimiter>,
}

/// One connection.
pub struct Conversation<'a, S: Session, R> {
    parts: Parts<S, R>,
    outbox: Outbox<S::Frame>,
    memory: &'a mut Memory<S::Request>,
    replies: Replies,
    metrics: Arc<InstanceMetrics>,
    opened: Instant,
    settings: &'a settings::Transport,
    /// Since when the session is waited for to be ready.
    patient_since: Instant,
    /// When a message was received last.
    last_message: Instant,
    /// No timer is due before this: the process went on late, and what was received meanwhile is read first.
    grace: Option<Instant>,
    /// A burst was read since the timer was over.
    has_read: bool,
    ready: bool,
    broken: Option<End>,
    /// Nothing can be written any more.
    is_broken: bool,
    /// The connection is ended from outside.
    interrupted: bool,
    /// The session has said that the link is not needed any more.
    finished: bool,
    /// A frame that was read and not handled, because parts found no room meanwhile.
    held: Option<S::Frame>,
    link: &'a LinkKey,
    on_ready: &'a dyn Fn(),
    interrupt: Pin<Box<dyn Future<Output = End> + 'a>>,
}

impl<'a, S, R> Conversation<'a, S, R>
where
    S: Session,
    S::Frame: Frame,
    R: Read<S::Frame>,
{
    /// A conversation that has not begun. `on_ready` is called when the session says that it is ready; `interrupt`
    /// ends the conversation from outside.
    pub fn new(
        parts: Parts<S, R>,
        memory: &'a mut Memory<S::Request>,
        metrics: Arc<InstanceMetrics>,
        settings: &'a settings::Transport,
        link: &'a LinkKey,
        on_ready: &'a dyn Fn(),
        interrupt: impl Future<Output = End> + 'a,
    ) -> Self {
        let (opened, replies) = (Instant::now(), Replies::default());
        let (outbox, interrupt) = (Outbox::new(opened), Box::pin(interrupt));
        Self {
            parts,
            outbox,
            memory,
            replies,
            metrics,
            opened,
            settings,
            patient_since: opened,
            last_message: opened,
            grace: None,
            has_read: false,
            ready: false,
            broken: None,
            is_broken: false,
            interrupted: false,
            finished: false,
            held: None,
            link,
            on_ready,
            interrupt,
        }
    }

    /// Talks until the connection ends. Returns how, and whether the link is not needed any more.
    pub async fn run(mut self) -> (End, bool) {
        let opened = self.parts.session.open(&self.memory.joins, &mut self.outbox);
        let mut end = match self.settle(opened) {
            Ok(()) => self.talk().await,
            Err(end) => end,
        };
        let _ = self.release();
        if (self.finished || self.interrupted) && !self.is_broken {
            self.leave().await;
        }
        end.reason = shown(&self.parts.redact, &end.reason);
        end.kind = meaning::of_end(&end, self.opened.elapsed(), self.settings);
        let kind = self.parts.session.ended(&end, &mut self.outbox);
        // The operator's word on a code counts more than that of a connector.
        let listed = end.code.and_then(|code| meaning::listed(code, self.settings));
        end.kind = listed.unwrap_or(kind);
        // What the session wants said at the end is said; what it wants sent can not be any more.
        let _ = self.perform();
        self.replies.disconnect(&end);
        let finished = self.finished;
        if !self.is_broken {
            let waits = finished || self.interrupted;
            let Parts { reader, mut outbound, outcomes, .. } = self.parts;
            outbound.close();
            let closing = close(reader, outcomes);
            if waits {
                closing.await;
            } else {
                // The link is down already, and need not wait for the service to be dialled again.
                spawn_local(closing);
            }
        }
        (end, finished)
    }

    async fn talk(&mut self) -> End {
        let mut timer = Box::pin(sleep_until(far()));
        loop {
            let is_full = self.memory.spool.is_full();
            if is_full {
                // What is not read cannot make the session ready.
                self.patient_since = Instant::now();
            }
            if self.ready && self.memory.errands.is_waiting() && self.takes() {
                if let Some(errand) = self.memory.errands.take() {
                    if let Err(end) = self.command(errand) {
                        return end;
                    }
                    continue;
                }
                // The time of those that waited has run out.
                self.parts.limiter.iter().for_each(RateLimiter::give_back);
            }
            let full = self.replies.full(Instant::now());
            if full.is_none() && self.held.is_some() {
                if let Err(end) = self.release() {
                    return end;
                }
                continue;
            }
            if is_full || full.is_some() {
                self.memory.received.pause(OffsetDateTime::now_utc());
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
                Some(outcome) = self.parts.outcomes.recv() => self.outcome(outcome),
                () = self.memory.errands.arrive() => Ok(()),
                command = self.replies.gone() => self.gone(command),
                () = &mut timer, if at.is_some() => {
                    // Lets the runtime look at its sockets, which it has not done yet if it was stopped just now.
                    yield_now().await;
                    self.due(at, full.is_none() && !is_full)
                }
                () = self.memory.spool.room(), if is_full => Ok(()),
                () = wanted(self.memory.place.as_ref()), if self.is_idle() => self.make_room(),
                () = over(full.as_ref()), if full.is_some() => Ok(()),
                read = self.parts.reader.read(), if full.is_none() && !is_full => {
                    self.take_in(read)
                }
            };
            if let Err(end) = step {
                return end;
            }
            if let Some(broken) = self.broken.take() {
                return self.read_on(broken).await;
            }
        }
    }

    /// Whether the link can be spared: the session has said so, and no command waits for it.
    fn is_idle(&self) -> bool {
        self.outbox.is_idle() && self.memory.errands.is_empty()
    }

    /// Ends an idle link for one that waits for its place.
    fn make_room(&mut self) -> Result<(), End> {
        if let Some(place) = &mut self.memory.place {
            place.leave();
        }
        self.memory.errands.close();
        self.finished = true;
        Err(End::disconnected("another link needs its place"))
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
            && let Some(read) = self.parts.reader.read().now_or_never()
        {
            self.has_read = true;
            return self.take_in(read);
        }
        self.timers()
    }

    /// Whether the session takes a command now. If not, the command waits where it is, and goes on to the next
    /// connection if this one ends.
    fn takes(&mut self) -> bool {
        let now = Instant::now();
        self.outbox.advance(now);
        if !self.parts.session.takes(&mut self.outbox) {
            return false;
        }
        let token = self.parts.limiter.as_ref().map_or(Ok(()), |limiter| limiter.take(now));
        token.map_err(|at| self.outbox.wake_at(at)).is_ok()
    }

    fn command(&mut self, errand: Errand<S::Request>) -> Result<(), End> {
        let Errand { request, command, delivery, caller, .. } = errand;
        let id = command.id;
        self.replies.begin(&command, caller, delivery);
        self.outbox.advance(Instant::now());
        self.outbox.busy();
        match self.parts.session.encode(request, command, &mut self.outbox) {
            // Only now is it known whether its frame found a place.
            Ok(()) => {
                let performed = self.perform();
                self.replies.accepted(id);
                performed
            }
            Err(error) if matches!(error.kind(), Kind::Disconnected | Kind::Throttled | Kind::Auth) => {
                Err(error.into())
            }
            Err(error) => {
                let error = error.map_message(|text| self.parts.redact.text(text).into_owned());
                self.replies.refuse(id, &error);
                self.perform()
            }
        }
    }

    fn outcome(&mut self, outcome: Outcome) -> Result<(), End> {
        match outcome {
            Outcome::Written(commands) => {
                for command in commands {
                    self.replies.written(command);
                }
                Ok(())
            }
            Outcome::Broken(end) => {
                self.broken = Some(end);
                Ok(())
            }
        }
    }

    /// The caller of a command is gone.
    fn gone(&mut self, command: CommandId) -> Result<(), End> {
        self.outbox.advance(Instant::now());
        if let Some(sent) = self.replies.dismiss(command) {
            self.parts.session.abandoned(command, sent, &mut self.outbox);
        }
        self.perform()
    }

    fn timers(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.outbox.advance(now);
        self.memory.errands.expire(now);
        for (command, sent) in self.replies.expire(now) {
            self.parts.session.abandoned(command, sent, &mut self.outbox);
        }
        let ticked = if self.outbox.take_due() { self.parts.session.tick(&mut self.outbox) } else { Ok(()) };
        if self.memory.spool.deadline().is_some_and(|deadline| deadline <= now) {
            self.memory.spool.overflow()?;
        }
        let patience = self.settings.connect_timeout.0;
        if !self.ready && self.patient_since + patience <= now {
            return Err(End::disconnected(format!(
                "the session was not ready within {} s",
                patience.as_secs()
            )));
        }
        if let Some(silence) = self.settings.max_silence
            && self.last_message + silence.0 <= now
        {
            return Err(End::disconnected(format!("no message came for {silence} (transport.max_silence)")));
        }
        self.settle(ticked)
    }

    fn next_timer(&self) -> Option<Instant> {
        let ready = (!self.ready).then(|| self.patient_since + self.settings.connect_timeout.0);
        let silent = self.settings.max_silence.map(|silence| self.last_message + silence.0);
        let callers = [self.replies.next_deadline(), self.memory.errands.next_deadline()];
        let timers = [self.outbox.wake(), self.memory.spool.deadline(), ready, silent];
        let next = timers.into_iter().chain(callers).flatten().min();
        next.map(|at| self.grace.map_or(at, |grace| at.max(grace)))
    }

    fn settle(&mut self, result: Result<()>) -> Result<(), End> {
        self.perform()?;
        result.map_err(End::from)
    }

    fn perform(&mut self) -> Result<(), End> {
        self.perform_at(Instant::now(), OffsetDateTime::now_utc())
    }

    /// Does all that the session wants done, and then ends if anything of it ends the conversation.
    fn perform_at(&mut self, read_at: Instant, read: OffsetDateTime) -> Result<(), End> {
        let mut end = None;
        let mut unsent: Vec<(CommandId, Error)> = Vec::new();
        loop {
            for action in self.outbox.drain() {
                match action {
                    Action::Publish(mut event) => {
                        self.replies.trace(&mut event);
                        self.parts.redact.event(&mut event);
                        self.memory.spool.offer(self.link, event, read_at, read);
                    }
                    Action::Reply(command, reply) => {
                        self.replies.reply(command, self.parts.redact.reply(reply));
                    }
                    Action::Duplicate => self.memory.spool.duplicate(),
                    Action::DeliveryLevel(command, delivery) => {
                        let lowered = self.replies.lower(command, delivery);
                        unsent.extend(lowered.err().map(|error| (command, error)));
                    }
                    // Nothing of a command is sent once it was refused.
                    Action::Send(_, Some(command)) if unsent.iter().any(|(known, _)| *known == command) => {}
                    Action::Send(frame, command) => match (self.parts.outbound.push(frame, command), command)
                    {
                        (Ok(ticket), Some(command)) => self.replies.queued(command, ticket),
                        // What the session sends by itself is of no use to a service that is gone.
                        (Ok(_) | Err(Refused::Closed), None) => {}
                        (Err(refused), Some(command)) => unsent.push((command, refused.error())),
                        (Err(refused), None) => {
                            end.get_or_insert_with(|| refused.error().into());
                        }
                    },
                    Action::Remember(join) => remember(&mut self.memory.joins, join),
                    Action::Forget(key) => self.memory.joins.retain(|join| join.key != key),
                    Action::Ready => {
                        if !std::mem::replace(&mut self.ready, true) {
                            self.memory.received.ready(read);
                            (self.on_ready)();
                        }
                    }
                    Action::Finish => {
                        if self.memory.errands.is_empty() {
                            self.memory.errands.close();
                            self.finished = true;
                            end.get_or_insert_with(|| End::disconnected("the link is not needed any more"));
                        }
                    }
                    Action::Close(reason) => {
                        end.get_or_insert_with(|| End::disconnected(reason));
                    }
                }
            }
            if unsent.is_empty() {
                return end.map_or(Ok(()), Err);
            }
            for (command, error) in unsent.drain(..) {
                let sent = self.replies.unsent(command, &error);
                self.parts.session.abandoned(command, sent, &mut self.outbox);
            }
        }
    }
}

/// Waits until another link needs this one's place.
async fn wanted(place: Option<&Place>) {
    match place {
        Some(place) => place.wanted().await,
        None => std::future::pending().await,
    }
}

/// Waits until there is room for parts again.
async fn over(full: Option<&Full>) {
    match full {
        Some(full) => full.over().await,
        None => std::future::pending().await,
    }
}

fn remember(joins: &mut Vec<Join>, join: Join) {
    if let Some(known) = joins.iter_mut().find(|known| known.key == join.key) {
        *known = join;
    } else if joins.len() < MAX_JOINS {
        joins.push(join);
    } else {
        tracing::warn!(limit = MAX_JOINS, "a join is not kept: the link has too many");
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
