//! Keeps one link connected: dials, lets the conversation run, judges its end, waits, dials again. Never gives up.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pontoon_sdk::{Code, Connector, End, Error, Kind, LinkKey, Redactor};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::bus::spool::Spool;
use crate::instance::Shared;
use crate::link::gaps::{GapTracker, OpenedBy};
use crate::link::phases::Seat;
use crate::link::queue::Errands;
use crate::link::received::Received;
use crate::link::redact::shown;
use crate::link::session::{Conversation, Memory, Parts};
use crate::link::slots::Places;
use crate::metrics::{ConnectOutcome, GapReason};
use crate::settings::Overflow;
use crate::status::Phase;
use crate::transport::writer::Outbound;
use crate::transport::{Dial, DialError, DialErrorKind, Dialled, DialledBy, Settings};

/// A link must have been up for this long before its next trouble counts as the first.
const STABLE: Duration = Duration::from_secs(60);

/// Keeps one link of an instance connected.
pub struct Supervisor<C: Connector>
where
    C::Transport: Dial,
{
    /// The link's name.
    pub key: LinkKey,
    /// How its connections are made.
    pub way: Way<C::Transport>,
    /// Makes the sessions.
    pub connector: Arc<C>,
    /// What the instance shares.
    pub shared: Rc<Shared>,
    /// Ends the link for good.
    pub stop: CancellationToken,
    /// Changes when the link is to be dialled anew at once.
    pub redial: watch::Receiver<u64>,
    /// Cancelled once the link is gone whose name this one takes over.
    pub after: Option<CancellationToken>,
}

/// How a link's connections are made.
pub enum Way<T: Dial> {
    /// We dial, from the start, or since a command wanted the link.
    Wanted(T::Endpoint),
    /// We dial for commands, once there is a place, and for as long as there are any.
    OnDemand(T::Endpoint, Arc<Places>),
    /// We dial because a command created the link; again only if it said so.
    Created {
        /// Where to.
        endpoint: T::Endpoint,
        /// Whether it is dialled again when it ends.
        redial: bool,
    },
    /// The service has come to us. There is one connection, until it is taken.
    Arrived(Option<Dialled<T::Reader, T::Writer>>),
}

impl<T: Dial> Way<T> {
    /// Where the link takes a place before it is dialled.
    fn places(&self) -> Option<&Arc<Places>> {
        if let Self::OnDemand(_, places) = self { Some(places) } else { None }
    }

    fn endpoint(&self) -> Option<&T::Endpoint> {
        match self {
            Self::Wanted(endpoint) | Self::OnDemand(endpoint, _) | Self::Created { endpoint, .. } => {
                Some(endpoint)
            }
            Self::Arrived(_) => None,
        }
    }

    /// Whether a connection is made again once it has ended.
    fn goes_on(&self) -> bool {
        !matches!(self, Self::Created { redial: false, .. } | Self::Arrived(_))
    }

    fn opened_by(&self) -> OpenedBy {
        match self {
            Self::Wanted(_) => OpenedBy::Daemon,
            Self::OnDemand(..) | Self::Created { .. } => OpenedBy::Command,
            Self::Arrived(_) => OpenedBy::Service,
        }
    }
}

/// What comes next.
enum Next {
    Dial {
        phase: Phase,
        after: Duration,
        detail: String,
    },
    /// The link is gone for good; callers are told this, where there is more to say than that.
    Stop(Option<Error>),
}

impl<C: Connector> Supervisor<C>
where
    C::Transport: Dial,
{
    /// Runs until the link is closed for good.
    pub async fn run(mut self, errands: Errands<C::Request>) {
        let shared = self.shared.clone();
        let key = self.key.clone();
        let gaps = GapTracker::new(key.clone(), self.way.opened_by(), &shared.spool, &shared.ready_links);
        let received = Received::new(key.clone(), shared.spool.clone(), shared.activity.clone());
        let mut memory =
            Memory { errands, joins: Vec::new(), spool: shared.spool.clone(), received, place: None };
        let seat = shared.board.seat();
        let mut why = None;
        if self.succeeded(seat, &mut memory).await && self.placed(seat, &mut memory).await {
            why = self.keep(seat, &mut memory, &gaps).await;
        }
        gaps.closed(memory.received.end());
        memory.place = None;
        memory.errands.refuse_all(why);
        shared.board.remove(&key, seat);
    }

    /// Waits until the link is gone that had this name before: what it still has to say comes first. Returns whether
    /// this one is still wanted then.
    async fn succeeded(&mut self, seat: Seat, memory: &mut Memory<C::Request>) -> bool {
        let Some(after) = self.after.take() else { return true };
        let detail = "the link that had its name before is being closed".to_owned();
        self.shared.board.set(&self.key, seat, Phase::Waiting, Some(detail), None);
        let wanted = tokio::select! {
            () = self.stop.cancelled() => false,
            () = memory.errands.attend(false, true) => false,
            () = after.cancelled() => true,
        };
        if !wanted {
            // Whoever takes the name over next waits for this one alone.
            memory.errands.refuse_all(None);
            after.cancelled().await;
        }
        wanted
    }

    /// Waits for a place. Returns whether the link is still needed then.
    async fn placed(&mut self, seat: Seat, memory: &mut Memory<C::Request>) -> bool {
        let Some(places) = self.way.places() else { return true };
        let detail = "as many links are open as may be; this one waits until another ends".to_owned();
        self.shared.board.set(&self.key, seat, Phase::Waiting, Some(detail), None);
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = memory.errands.attend(true, false) => false,
            place = places.take() => {
                memory.place = Some(place);
                !memory.errands.is_empty()
            }
        }
    }

    /// Dials, talks, waits, dials again. Returns why it does not any more, where callers should know that.
    async fn keep(
        &mut self,
        seat: Seat,
        memory: &mut Memory<C::Request>,
        gaps: &GapTracker<'_>,
    ) -> Option<Error> {
        let shared = self.shared.clone();
        let key = self.key.clone();
        let mut transport = <C::Transport as Dial>::Memory::default();
        let mut attempt = 0;
        loop {
            shared.board.set(&key, seat, Phase::Connecting, None, None);
            let up = OnceLock::new();
            let once = self.once(seat, memory, &mut transport, gaps, &up);
            let next = match AssertUnwindSafe(once).catch_unwind().await {
                Ok(next) => next,
                Err(_) => {
                    gaps.broke(GapReason::Internal, memory.received.end());
                    if self.way.goes_on() {
                        let detail = "a bug in the daemon ended the session; it starts over".to_owned();
                        Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
                    } else {
                        Next::Stop(Some(Error::internal("a bug in the daemon ended the session")))
                    }
                }
            };
            if up.get().is_some_and(|since: &Instant| since.elapsed() >= STABLE) {
                attempt = 0;
            }
            let (phase, mut after, detail) = match next {
                Next::Dial { phase, after, detail } => (phase, after, detail),
                Next::Stop(why) => return why,
            };
            memory.errands.accept_first();
            if after.is_zero() {
                attempt += 1;
                after = backoff::LINK.delay(attempt);
            }
            tracing::warn!(instance = shared.name, link = %key, phase = phase.as_str(), after = ?after, detail = %detail.escape_debug(), "link down");
            shared.board.set(&key, seat, phase, Some(detail), Some(OffsetDateTime::now_utc() + after));
            // Nobody needs it now, but that its credentials are refused is still so, and not to be found out at once again.
            let on_demand = self.way.places().is_some() && phase != Phase::CredentialsRefused;
            let needed = tokio::select! {
                () = self.stop.cancelled() => false,
                needed = wait(after, memory, shared.settings().delivery.overflow, on_demand) => needed,
                _ = self.redial.changed() => {
                    // At once, but never as fast as somebody may ask for it.
                    let after = backoff::LINK.delay(1);
                    tokio::select! {
                        () = self.stop.cancelled() => false,
                        needed = wait(after, memory, shared.settings().delivery.overflow, on_demand) => needed,
                    }
                }
            };
            if !needed {
                return None;
            }
        }
    }

    /// Dials once, and talks until the end.
    async fn once(
        &mut self,
        seat: Seat,
        memory: &mut Memory<C::Request>,
        transport: &mut <C::Transport as Dial>::Memory,
        gaps: &GapTracker<'_>,
        up: &OnceLock<Instant>,
    ) -> Next {
        self.redial.mark_unchanged();
        let shared = self.shared.clone();
        let key = &self.key;
        let arrived = if let Way::Arrived(connection) = &mut self.way { connection.take() } else { None };
        let redact = Redactor::new(match self.way.endpoint() {
            Some(endpoint) => <C::Transport as Dial>::secrets(endpoint),
            None => self.connector.listener().map(|listener| listener.revealed()).unwrap_or_default(),
        });
        let dialled = match (arrived, self.way.endpoint()) {
            (Some(connection), _) => Ok(connection),
            (None, None) => return Next::Stop(None),
            (None, Some(endpoint)) => tokio::select! {
                () = self.stop.cancelled() => return Next::Stop(None),
                dialled = dial::<C::Transport>(endpoint, transport, &shared.transport) => dialled,
                () = memory.errands.attend(self.way.places().is_some(), false) => return Next::Stop(None),
            },
        };
        let Dialled { reader, writer, resumed, limit } = match dialled {
            Ok(dialled) => dialled,
            Err(error) => return self.on_dial_error(error, &redact, memory),
        };
        gaps.connected(resumed);
        shared.metrics.connects(ConnectOutcome::Connected).increment(1);
        let (sender, outcomes) = mpsc::channel(64);
        let outbound = Outbound::start(writer, limit, &shared.transport, shared.metrics.clone(), sender);
        let on_ready = || {
            let _ = up.set(Instant::now());
            tracing::info!(instance = shared.name, link = %key, "link ready");
            shared.board.set(key, seat, Phase::Ready, None, None);
            gaps.ready();
        };
        let (session, limiter) = (self.connector.session(key), self.connector.rate_limiter(key));
        let parts = Parts { session, reader, outbound, outcomes, redact, limiter };
        // What would not be made again is not ended to be made anew.
        let redial = self.way.goes_on().then(|| self.redial.clone());
        let interrupt = interrupt(self.stop.clone(), redial);
        let (metrics, settings) = (shared.metrics.clone(), &shared.transport.config);
        let (end, finished) =
            Conversation::new(parts, memory, metrics, settings, key, &on_ready, interrupt).run().await;
        let received = memory.received.end();
        if end.kind == Kind::Internal {
            gaps.broke(GapReason::Internal, received);
        } else if up.get().is_some()
            && !finished
            && !self.stop.is_cancelled()
            && (self.way.goes_on() || !end.orderly)
        {
            gaps.broke(GapReason::Disconnected, received);
        }
        if finished || self.stop.is_cancelled() {
            return Next::Stop(None);
        }
        match ended(&end) {
            Next::Dial { detail, .. } if !self.way.goes_on() => {
                tracing::info!(instance = shared.name, link = %key, detail = %detail.escape_debug(), "link ended");
                Next::Stop(Some(Error::disconnected(detail)))
            }
            next => next,
        }
    }

    /// What is done about a connection that could not be made.
    fn on_dial_error(&self, error: DialError, redact: &Redactor, memory: &mut Memory<C::Request>) -> Next {
        let (outcome, phase, after) = match error.kind {
            DialErrorKind::Unreachable => {
                (ConnectOutcome::Unreachable, Phase::Waiting, error.retry_after.unwrap_or_default())
            }
            DialErrorKind::WrongAddress => {
                (ConnectOutcome::WrongAddress, Phase::WrongAddress, error.retry_after.unwrap_or_default())
            }
            DialErrorKind::Edge => {
                (ConnectOutcome::Unreachable, Phase::Waiting, backoff::slow(error.retry_after))
            }
            DialErrorKind::Forbidden => (ConnectOutcome::Forbidden, Phase::WrongAddress, Duration::ZERO),
            DialErrorKind::Credentials => {
                (ConnectOutcome::Credentials, Phase::CredentialsRefused, backoff::slow(error.retry_after))
            }
        };
        self.shared.metrics.connects(outcome).increment(1);
        let detail = shown(redact, &error.message);
        if let Some(event) = self.connector.on_dial_error(&self.key, &detail) {
            memory.spool.offer(&self.key, Box::new(event), Instant::now(), OffsetDateTime::now_utc());
        }
        // A name may lead somewhere else tomorrow, but whoever created the link is not to find out when.
        if error.kind == DialErrorKind::Forbidden && matches!(self.way, Way::Created { .. }) {
            return Next::Stop(Some(Error::rejected(Code::Forbidden, detail)));
        }
        if !self.way.goes_on() {
            return Next::Stop(Some(Error::disconnected(detail)));
        }
        Next::Dial { phase, after: after.min(Duration::from_secs(3600)), detail }
    }
}

/// Dials. Transports hold themselves to the time that there is, and say what took so long; one that does not must not keep
/// its link from ever being dialled again.
async fn dial<T: Dial>(
    endpoint: &T::Endpoint,
    memory: &mut T::Memory,
    settings: &Settings,
) -> Result<DialledBy<T>, DialError> {
    let limit = settings.config.connect_timeout.0 * 2;
    let dialled = timeout(limit, T::dial(endpoint, memory, settings)).await;
    dialled.unwrap_or_else(|_| {
        let text =
            format!("no connection was made within {} s, twice transport.connect_timeout", limit.as_secs());
        Err(DialError::unreachable(text))
    })
}

/// Ends a conversation from outside.
async fn interrupt(stop: CancellationToken, mut redial: Option<watch::Receiver<u64>>) -> End {
    let asked = async {
        match &mut redial {
            Some(redial) => redial.changed().await.is_ok(),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => End::closed(None, "the daemon closed the link"),
        _ = asked => End::closed(None, "the connection is made anew, as asked"),
    }
}

/// What is done about the end of a conversation, by its kind.
fn ended(end: &End) -> Next {
    let detail = end.to_string();
    match end.kind {
        Kind::Auth => Next::Dial { phase: Phase::CredentialsRefused, after: backoff::slow(None), detail },
        Kind::Throttled => Next::Dial { phase: Phase::Waiting, after: backoff::slow(None), detail },
        Kind::Internal => {
            tracing::error!(detail = %detail.escape_debug(), "a fault of the daemon ended a session; it starts over");
            Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
        }
        Kind::Config | Kind::Protocol | Kind::Rejected | Kind::Disconnected => {
            Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
        }
    }
}

/// Waits for the next attempt; returns whether there is still need of one. Meanwhile commands are refused. If the policy for
/// a full spool is to disconnect, nothing more is read before there is room.
async fn wait<R>(after: Duration, memory: &mut Memory<R>, policy: Overflow, on_demand: bool) -> bool {
    let spool = memory.spool.clone();
    let disconnect = policy == Overflow::Disconnect;
    let waited = async {
        sleep(after).await;
        if disconnect {
            spool.room().await;
        }
    };
    tokio::pin!(waited);
    loop {
        let full = spool.deadline().filter(|_| !disconnect);
        tokio::select! {
            () = &mut waited => return true,
            () = sleep_until(full.unwrap_or_else(Instant::now).into()), if full.is_some() => apply(&spool),
            () = memory.errands.attend(on_demand, true) => return false,
        }
    }
}

/// Applies the policy for a full spool, where it ends no connection.
fn apply(spool: &Spool) {
    let _ = spool.overflow();
}
