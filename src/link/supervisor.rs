//! Keeps one link connected: dials, runs a session until it ends, waits, dials again. It retries without end.

mod dialling;

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_channel::mpsc;
use futures_util::FutureExt as _;
use pontoon_sdk::{Code, End, Error, Kind, Redactor};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::dialling::{Made, dial_once};
use self::dialling::{dial, failed, make_next, prepare};
use super::Link;
use super::context::Context;
use super::control::Control;
use super::erased::ErasedConnector;
use super::session::{Connection, Ends, Mover};
use crate::backoff;
use crate::metrics::ConnectOutcome;
use crate::status::Phase;
use crate::transport::writer::Outbound;
use crate::transport::{Dial, DialError, DialErrorKind, Dialled, DialledBy};

/// Longer than any daemon runs.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// A link must have been ready for this long before its next failure counts as the first.
const STABLE: Duration = Duration::from_secs(60);
/// A link that has moved within this time is dialled as after a break, if it is to move again.
const MOVED: Duration = Duration::from_secs(10);

/// Keeps one link of an instance connected.
pub struct Supervisor<T: Dial> {
    /// The link.
    pub link: Link,
    /// Where it is dialled; `None` for a link that the service opened.
    pub endpoint: Option<T::Endpoint>,
    /// The connection of a link that the service opened, until the session takes it.
    pub accepted: Option<DialledBy<T>>,
    /// Makes the sessions.
    pub connector: Rc<dyn ErasedConnector<T>>,
    /// Closes the link for good.
    pub stop: CancellationToken,
    /// Changes when the link is to be dialled again at once, or to pause.
    pub control: watch::Receiver<Control>,
    /// Cancelled once the former link of this name is closed.
    pub predecessor: Option<CancellationToken>,
    /// The connection that the link moves to.
    pub next: Option<Made<T>>,
    /// When it has moved last.
    pub moved: Option<Instant>,
}

/// What follows the end of a connection.
enum Next {
    Dial {
        phase: Phase,
        after: Duration,
        detail: String,
    },
    /// The next connection is made already.
    Move,
    /// The link is closed for good. The error is for the callers of commands that wait, where more is known than that there
    /// is no connection.
    Close(Option<Error>),
}

impl<T: Dial> Supervisor<T> {
    /// Runs until the link is closed for good. Boxed, as a future keeps a value twice that it takes.
    pub async fn run(mut self: Box<Self>) {
        let mut error = None;
        if self.predecessor_closed().await && self.slot_acquired().await {
            error = self.keep_connected().await;
        }
        self.link.close(error);
    }

    /// Waits until the former link of this name is closed, so that its last events come first. Returns whether this one is
    /// still wanted then.
    async fn predecessor_closed(&mut self) -> bool {
        let Some(predecessor) = self.predecessor.take() else { return true };
        let detail = "the link that had its name before is being closed".to_owned();
        self.link.phase.set(Phase::Waiting, Some(detail), None);
        let wanted = tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.link.queue.until_unneeded(false, true) => false,
            () = predecessor.cancelled() => true,
        };
        if !wanted {
            self.link.queue.refuse_all(None);
            // The next link of this name waits for this one alone.
            predecessor.cancelled().await;
        }
        wanted
    }

    /// Waits for a slot if the link is open on demand. Returns whether the link is still needed then.
    async fn slot_acquired(&mut self) -> bool {
        if !self.link.lifetime.is_on_demand() {
            return true;
        }
        let detail = "as many links are open as may be; this one waits until another ends".to_owned();
        self.link.phase.set(Phase::Waiting, Some(detail), None);
        let slots = self.link.context.slots.clone();
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.link.queue.until_unneeded(true, false) => false,
            slot = slots.acquire() => {
                self.link.slot = Some(slot);
                !self.link.queue.is_empty()
            }
        }
    }

    /// Dials, runs a session, waits, dials again. Returns the error for the callers of commands that wait at the end.
    async fn keep_connected(&mut self) -> Option<Error> {
        let mut memory = T::Memory::default();
        if let Some(position) = self.link.restored_position() {
            T::restore(&mut memory, &position);
        }
        if let Some(memory) = self.link.restored_memory() {
            self.connector.restore(&self.link.key, &memory);
        }
        let (mut attempt, mut down) = (0, None);
        loop {
            if !self.not_paused().await {
                return None;
            }
            self.link.phase.set(Phase::Connecting, None, None);
            self.link.ready_since = None;
            let connection = AssertUnwindSafe(self.connect(&mut memory)).catch_unwind().await;
            let next = connection.unwrap_or_else(|_| self.panicked());
            down = down.filter(|_| self.link.ready_since.is_none());
            if self.link.ready_since.is_some_and(|since| since.elapsed() >= STABLE) {
                attempt = 0;
            }
            let (phase, mut after, detail) = match next {
                Next::Dial { phase, after, detail } => (phase, after, detail),
                Next::Move => continue,
                Next::Close(error) => return error,
            };
            if self.control.borrow().paused {
                (attempt, down) = (0, None);
                continue;
            }
            self.link.queue.first_dial_failed();
            if after.is_zero() {
                attempt += 1;
                after = backoff::LINK.delay(attempt);
            }
            self.log_down(phase, after, &detail, down.replace(phase) == Some(phase));
            self.link.phase.set(phase, Some(detail), Some(OffsetDateTime::now_utc() + after));
            // Where credentials are refused, the link stays even if it is not needed: its state remains visible, and the next
            // command does not dial at once.
            let on_demand = self.link.lifetime.is_on_demand() && phase != Phase::CredentialsRefused;
            if !self.wait(after, on_demand).await {
                return None;
            }
        }
    }

    /// Waits while the instance is paused. Returns whether the link is still needed then.
    async fn not_paused(&mut self) -> bool {
        if !self.control.borrow().paused {
            return true;
        }
        self.link.phase.set(Phase::Paused, None, None);
        let on_demand = self.link.lifetime.is_on_demand();
        let Self { link, stop, control, .. } = self;
        tokio::select! {
            () = stop.cancelled() => false,
            needed = pause(link, FOREVER, on_demand) => needed,
            resumed = control.wait_for(|control| !control.paused) => resumed.is_ok(),
        }
    }

    /// Logs that the link is down: soon if that is new, and else together with other attempts of the instance.
    fn log_down(&self, phase: Phase, after: Duration, detail: &str, again: bool) {
        let Context { instance, first_failures, failures, .. } = &*self.link.context;
        let (instance, link) = (instance.clone(), self.link.key.clone());
        let (phase, detail) = (phase.as_str(), detail.to_owned());
        let throttle = if again { failures } else { first_failures };
        throttle.log(move |count| {
            if again {
                tracing::warn!(instance, %link, phase, after = ?after, count, %detail, "links are still down; these attempts failed");
            } else {
                tracing::warn!(instance, %link, phase, after = ?after, count, %detail, "link down");
            }
        });
    }

    fn panicked(&mut self) -> Next {
        self.link.gaps.failed();
        if self.link.lifetime.redials() {
            let detail = "a bug in the daemon ended the session; it starts over".to_owned();
            Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
        } else {
            Next::Close(Some(Error::internal("a bug in the daemon ended the session")))
        }
    }

    /// Waits for the next attempt. Returns whether the link is still needed then.
    async fn wait(&mut self, after: Duration, on_demand: bool) -> bool {
        let Self { link, stop, control, .. } = self;
        tokio::select! {
            () = stop.cancelled() => return false,
            needed = pause(link, after, on_demand) => return needed,
            _ = control.changed() => {}
        }
        // At once, but never more often than the backoff allows.
        tokio::select! {
            () = stop.cancelled() => false,
            needed = pause(link, backoff::LINK.delay(1), on_demand) => needed,
        }
    }

    /// Dials once, and runs a session until its end.
    async fn connect(&mut self, memory: &mut T::Memory) -> Next {
        let redials = self.control.borrow_and_update().redials;
        let made = match self.next.take() {
            Some(next) => next,
            None => match self.make(memory).await {
                Ok(made) => made,
                Err(next) => return next,
            },
        };
        let Made { endpoint: other, dialled: Dialled { reader, writer, resumed, limit }, first, at } = made;
        let context = self.link.context.clone();
        let redact = self.redactor(other.as_ref());
        self.link.address = other.as_ref().or(self.endpoint.as_ref()).and_then(T::address);
        self.link.gaps.connected(resumed);
        if let Some(at) = at {
            self.link.gaps.received.pause(at);
        }
        context.metrics.connects(ConnectOutcome::Connected).increment(1);
        let (sender, outcomes) = mpsc::unbounded();
        let outbound = Outbound::start(writer, limit, &context.transport, context.metrics.clone(), sender);
        let session = self.connector.session(&self.link.key);
        // A connection that would not be made again is not ended to be made again.
        let redials = self.link.lifetime.redials().then_some(redials);
        let interrupt = interrupt(self.stop.clone(), self.control.clone(), redials);
        let ends = Ends { reader, outbound, outcomes };
        let limiter = self.connector.rate_limiter(&self.link.key);
        let (next, key) = (RefCell::new(None), self.link.key.clone());
        let often = self.moved.is_some_and(|moved| moved.elapsed() < MOVED);
        let (connector, endpoint, shared) = (&*self.connector, self.endpoint.as_ref(), &*context);
        let mover = endpoint.filter(|_| redials.is_some() && !often).map(|endpoint| -> Mover<'_> {
            let (key, next) = (&key, &next);
            Box::new(move || {
                Box::pin(async move {
                    let made = make_next::<T>(connector, key, endpoint, memory, shared).await?;
                    next.replace(Some(made));
                    Ok(())
                })
            })
        });
        let connection =
            Connection::new(&mut self.link, session, (ends, first), redact, limiter, interrupt, mover);
        let (end, finished) = Box::new(connection).run().await;
        let closed = finished || self.stop.is_cancelled();
        if let Some(next) = next.into_inner().filter(|_| !closed && !self.control.borrow().paused) {
            self.link.gaps.moved(&end);
            (self.next, self.moved) = (Some(next), Some(Instant::now()));
            tracing::info!(instance = context.instance, link = %self.link.key, reason = %end, "link moved");
            return Next::Move;
        }
        self.link.gaps.disconnected(&end, closed);
        if closed {
            return Next::Close(None);
        }
        match after_end(&end) {
            Next::Dial { detail, .. } if !self.link.lifetime.redials() => {
                tracing::info!(instance = context.instance, link = %self.link.key, %detail, "link ended");
                Next::Close(Some(Error::disconnected(detail)))
            }
            next => next,
        }
    }

    /// Makes a connection.
    async fn make(&mut self, memory: &mut T::Memory) -> Result<Made<T>, Next> {
        let prepared = tokio::select! {
            () = self.stop.cancelled() => return Err(Next::Close(None)),
            prepared = self.prepare() => prepared,
        };
        let other = prepared.map_err(|error| self.on_dial_error(error, &self.redactor(None)))?;
        let endpoint = other.as_ref().or(self.endpoint.as_ref());
        self.link.address = endpoint.and_then(T::address);
        let context = self.link.context.clone();
        let redact = self.redactor(other.as_ref());
        let on_demand = self.link.lifetime.is_on_demand();
        let dialled = match (self.accepted.take(), endpoint) {
            (Some(connection), _) => Ok(connection),
            (None, None) => return Err(Next::Close(None)),
            (None, Some(endpoint)) => tokio::select! {
                () = self.stop.cancelled() => return Err(Next::Close(None)),
                dialled = dial::<T>(endpoint, memory, &context.transport) => dialled,
                () = self.link.queue.until_unneeded(on_demand, false) => return Err(Next::Close(None)),
            },
        };
        let dialled = dialled.map_err(|error| self.on_dial_error(error, &redact))?;
        Ok(Made { endpoint: other, dialled, first: None, at: None })
    }

    /// Makes the request that comes before a connection, and returns where that is made, if not at the usual address.
    async fn prepare(&self) -> Result<Option<T::Endpoint>, DialError> {
        match self.endpoint.as_ref().filter(|_| self.accepted.is_none()) {
            Some(endpoint) => {
                prepare(&*self.connector, &self.link.key, endpoint, &self.link.context.transport).await
            }
            None => Ok(None),
        }
    }

    /// Takes secrets out of texts: those of where the link is dialled.
    fn redactor(&self, other: Option<&T::Endpoint>) -> Redactor {
        Redactor::new(match other.or(self.endpoint.as_ref()) {
            Some(endpoint) => T::secrets(endpoint),
            None => self.connector.listener().map(|listener| listener.revealed()).unwrap_or_default(),
        })
    }

    /// What is done about a connection that could not be made.
    fn on_dial_error(&self, error: DialError, redact: &Redactor) -> Next {
        let context = &self.link.context;
        let (phase, after) = match error.kind {
            DialErrorKind::Unreachable => (Phase::Waiting, error.retry_after.unwrap_or_default()),
            DialErrorKind::WrongAddress => (Phase::WrongAddress, error.retry_after.unwrap_or_default()),
            DialErrorKind::Edge => (Phase::Waiting, backoff::slow(error.retry_after)),
            DialErrorKind::Forbidden => (Phase::WrongAddress, Duration::ZERO),
            DialErrorKind::Credentials => (Phase::CredentialsRefused, backoff::slow(error.retry_after)),
        };
        let detail = failed(&*self.connector, &self.link.key, context, &error, redact);
        // A name may lead somewhere else later, but the caller that created the link must not find out when.
        if error.kind == DialErrorKind::Forbidden && self.link.lifetime.is_dynamic() {
            return Next::Close(Some(Error::rejected(Code::Forbidden, detail)));
        }
        if !self.link.lifetime.redials() {
            return Next::Close(Some(Error::disconnected(detail)));
        }
        Next::Dial { phase, after: after.min(Duration::from_secs(3600)), detail }
    }
}

/// Ends a connection because the link is closed or paused, or, if it had been dialled again so often, because it is to be
/// dialled once more.
async fn interrupt(
    stop: CancellationToken,
    mut control: watch::Receiver<Control>,
    redials: Option<u64>,
) -> End {
    let ends = |control: &Control| control.paused || redials.is_some_and(|before| control.redials != before);
    let ended = async {
        // Without a sender, `stop` follows.
        match control.wait_for(ends).await {
            Ok(control) => control.paused,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => End::closed(None, "the daemon closed the link"),
        paused = ended => End::closed(None, if paused { "the instance was paused" } else { "a reconnect was asked for" }),
    }
}

/// What follows the end of a connection, by its kind.
fn after_end(end: &End) -> Next {
    let detail = end.to_string();
    match end.kind {
        Kind::Auth => Next::Dial { phase: Phase::CredentialsRefused, after: backoff::slow(None), detail },
        Kind::Throttled => Next::Dial { phase: Phase::Waiting, after: backoff::slow(None), detail },
        Kind::Internal => {
            tracing::error!(%detail, "a fault of the daemon ended a session; it starts over");
            Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
        }
        Kind::Config | Kind::Protocol | Kind::Rejected | Kind::Disconnected => {
            Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
        }
    }
}

/// Waits for the next attempt. Returns whether the link is still needed then. Meanwhile commands are refused. If the policy
/// for a full spool is to disconnect, the link is not dialled before there is room.
async fn pause(link: &mut Link, after: Duration, on_demand: bool) -> bool {
    let spool = link.context.spool.clone();
    let disconnects = spool.disconnects();
    let waited = async {
        sleep(after).await;
        if disconnects {
            spool.room().await;
        }
    };
    tokio::pin!(waited);
    loop {
        let full = spool.deadline().filter(|_| !disconnects);
        tokio::select! {
            () = &mut waited => return true,
            () = sleep_until(full.unwrap_or_else(Instant::now).into()), if full.is_some() => {
                // It ends no connection under the other policies.
                let _ = spool.overflow();
            }
            () = link.queue.until_unneeded(on_demand, true) => return false,
        }
    }
}
