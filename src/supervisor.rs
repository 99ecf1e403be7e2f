//! Keeps one link connected: dials, lets the conversation run, judges its end, waits, dials again. Never gives up.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pontoon_sdk::{Connector, End, Kind, LinkSpec};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::config::Overflow;
use crate::errands::Errands;
use crate::instance::Shared;
use crate::instance::board::Seat;
use crate::intake::Intake;
use crate::metrics::{ConnectOutcome, GapReason};
use crate::places::Places;
use crate::redact::Redact;

use crate::session::{Conversation, Memory, Parts};
use crate::status::Phase;
use crate::transport::outbound::Outbound;
use crate::transport::{Class, Dial, DialError, Dialled, Resumed};

/// A link must have been up for this long before its next trouble counts as the first.
const STABLE: Duration = Duration::from_secs(60);
/// Keeps one link of an instance connected.
pub struct Supervisor<C: Connector> {
    /// Where it goes.
    pub spec: LinkSpec<C::Transport>,
    /// Makes the sessions.
    pub connector: Arc<C>,
    /// What the instance shares.
    pub shared: Arc<Shared>,
    /// Ends the link for good.
    pub stop: CancellationToken,
    /// Changes when the link is to be dialled anew at once.
    pub redial: watch::Receiver<u64>,
    /// Where the link takes a place before it is dialled, if it was opened on demand.
    pub places: Option<Arc<Places>>,
}

/// What comes next.
enum Next {
    Dial { phase: Phase, after: Duration, detail: String },
    Stop,
}

impl<C: Connector> Supervisor<C>
where
    C::Transport: Dial,
{
    /// Runs until the link is closed for good.
    pub async fn run(mut self, errands: Errands) {
        let shared = self.shared.clone();
        let key = self.spec.key.clone();
        let intake = Intake::new(key.clone(), shared.clone());
        let mut memory = Memory { errands, joins: Vec::new(), intake, heard: None, place: None };
        let seat = shared.board.seat();
        if self.placed(seat, &mut memory).await {
            self.keep(seat, &mut memory).await;
        }
        memory.place = None;
        memory.errands.refuse_all();
        shared.board.remove(&key, seat);
        while !memory.intake.is_settled() {
            memory.intake.room().await;
            memory.intake.settle();
        }
    }

    /// Waits for a place. Returns whether the link is still needed then.
    async fn placed(&self, seat: Seat, memory: &mut Memory) -> bool {
        let Some(places) = &self.places else { return true };
        let detail = "as many links are open as may be; this one waits until another ends".to_owned();
        self.shared.board.set(&self.spec.key, seat, Phase::Waiting, Some(detail), None);
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = memory.errands.attend(true, false) => false,
            place = places.take() => {
                memory.place = Some(place);
                !memory.errands.is_empty()
            }
        }
    }

    /// Dials, talks, waits, dials again.
    async fn keep(&mut self, seat: Seat, memory: &mut Memory) {
        let shared = self.shared.clone();
        let key = self.spec.key.clone();
        let continuity = Continuity::default();
        let mut transport = <C::Transport as Dial>::Memory::default();
        let mut attempt = 0;
        loop {
            shared.board.set(&key, seat, Phase::Connecting, None, None);
            let up = OnceLock::new();
            let once = self.once(seat, memory, &mut transport, &continuity, &up);
            let next = match AssertUnwindSafe(once).catch_unwind().await {
                Ok(next) => next,
                Err(_) => {
                    continuity.broke(GapReason::Internal, memory.heard);
                    let detail = "a bug in the daemon ended the session; it starts over".to_owned();
                    Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
                }
            };
            if up.get().is_some_and(|since: &Instant| since.elapsed() >= STABLE) {
                attempt = 0;
            }
            let Next::Dial { phase, mut after, detail } = next else { break };
            if after.is_zero() {
                attempt += 1;
                after = backoff::LINK.delay(attempt);
            }
            tracing::warn!(instance = shared.name, link = %key, phase = phase.as_str(), after = ?after, detail = %detail.escape_debug(), "link down");
            shared.board.set(&key, seat, phase, Some(detail), Some(OffsetDateTime::now_utc() + after));
            // Nobody needs it now, but that its credentials are refused is still so, and not to be found out at once again.
            let on_demand = self.places.is_some() && phase != Phase::CredentialsRefused;
            tokio::select! {
                () = self.stop.cancelled() => break,
                needed = wait(after, memory, shared.delivery.overflow, on_demand) => {
                    if !needed {
                        break;
                    }
                }
                // At once, but never as fast as somebody may ask for it.
                _ = self.redial.changed() => sleep(backoff::LINK.delay(1)).await,
            }
        }
        // A link that is not made again tells now what it would have told then.
        if self.places.is_some()
            && !self.stop.is_cancelled()
            && let State::Broken { reason, since, .. } = continuity.resume()
        {
            memory.intake.gap(reason, since, false);
        }
    }

    /// Dials once, and talks until the end.
    async fn once(
        &mut self,
        seat: Seat,
        memory: &mut Memory,
        transport: &mut <C::Transport as Dial>::Memory,
        continuity: &Continuity,
        up: &OnceLock<Instant>,
    ) -> Next {
        self.redial.mark_unchanged();
        let shared = self.shared.clone();
        let key = &self.spec.key;
        let dialled = tokio::select! {
            () = self.stop.cancelled() => return Next::Stop,
            dialled = <C::Transport as Dial>::dial(&self.spec.endpoint, transport, &shared.transport) => dialled,
            () = memory.errands.attend(self.places.is_some(), false) => return Next::Stop,
        };
        let redact = Redact::new(<C::Transport as Dial>::secrets(&self.spec.endpoint));
        let Dialled { reader, writer, resumed, limit } = match dialled {
            Ok(dialled) => dialled,
            Err(error) => return undialled(&shared, error, &redact),
        };
        continuity.connected(resumed);
        shared.metrics.connects(ConnectOutcome::Connected).increment(1);
        let (sender, outcomes) = mpsc::channel(64);
        let outbound = Outbound::start(writer, limit, &shared.transport, shared.metrics.clone(), sender);
        let on_demand = self.places.is_some();
        let on_ready = |intake: &mut Intake| {
            let _ = up.set(Instant::now());
            tracing::info!(instance = shared.name, link = %key, "link ready");
            shared.board.set(key, seat, Phase::Ready, None, None);
            match continuity.resume() {
                // The service has kept what it would have said meanwhile, and says it now.
                State::Broken { reason: GapReason::Disconnected, resumed: Resumed::Yes, .. } => {}
                State::Broken { reason, since, resumed } => {
                    intake.gap(reason, since, resumed >= Resumed::Perhaps);
                }
                // A link that is opened for a command listens for nothing else, and one of a name that was there before
                // in this start was closed because somebody wanted it.
                State::Fresh if on_demand || !shared.greet(key) => {}
                State::Fresh => match shared.predecessor.get() {
                    Some(last) => intake.gap(GapReason::Restarted, *last, false),
                    None => shared.unannounced.store(true, Ordering::Relaxed),
                },
                State::Whole => {}
            }
        };
        let parts = Parts { session: self.connector.session(key), reader, outbound, outcomes, redact };
        let interrupt = interrupt(self.stop.clone(), self.redial.clone());
        let patience = shared.transport.config.connect_timeout.0;
        let metrics = shared.metrics.clone();
        let (end, finished) =
            Conversation::new(parts, memory, metrics, patience, &on_ready, interrupt).run().await;
        if end.kind == Kind::Internal {
            continuity.broke(GapReason::Internal, memory.heard);
        } else if up.get().is_some() && !finished {
            continuity.broke(GapReason::Disconnected, memory.heard);
        }
        if finished || self.stop.is_cancelled() { Next::Stop } else { ended(&end) }
    }
}

/// Whether all that the service said has been heard, from one connection to the next.
#[derive(Default)]
struct Continuity(Mutex<State>);

#[derive(Default)]
enum State {
    /// The link was never ready.
    #[default]
    Fresh,
    /// Nothing was missed so far.
    Whole,
    /// Something may have been missed since this time, unless the service has resumed at every connection from then on.
    Broken { reason: GapReason, since: Option<OffsetDateTime>, resumed: Resumed },
}

impl Continuity {
    /// From now on everything is heard again; returns how it was before.
    fn resume(&self) -> State {
        std::mem::replace(&mut *self.state(), State::Whole)
    }

    /// Something may be missed from now on. What was missed before is not forgotten.
    fn broke(&self, reason: GapReason, since: Option<OffsetDateTime>) {
        match &mut *self.state() {
            State::Fresh => {}
            state @ State::Whole => *state = State::Broken { reason, since, resumed: Resumed::Yes },
            // What a bug has cost is not sent again.
            State::Broken { reason: known, .. } => {
                if reason == GapReason::Internal {
                    *known = reason;
                }
            }
        }
    }

    /// A connection was made. Once one begins afresh, what was missed before it stays missed.
    fn connected(&self, by_resuming: Resumed) {
        if let State::Broken { resumed, .. } = &mut *self.state() {
            *resumed = by_resuming.min(*resumed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a conversation from outside.
async fn interrupt(stop: CancellationToken, mut redial: watch::Receiver<u64>) -> End {
    tokio::select! {
        () = stop.cancelled() => End::disconnected("the daemon closed the link"),
        _ = redial.changed() => End::disconnected("the connection is made anew, as asked"),
    }
}

fn undialled(shared: &Shared, error: DialError, redact: &Redact) -> Next {
    let (outcome, phase, after) = match error.class {
        Class::Unreachable => {
            (ConnectOutcome::Unreachable, Phase::Waiting, error.retry_after.unwrap_or_default())
        }
        Class::WrongAddress => (ConnectOutcome::WrongAddress, Phase::WrongAddress, Duration::ZERO),
        Class::Forbidden => (ConnectOutcome::Forbidden, Phase::WrongAddress, Duration::ZERO),
        Class::Credentials => {
            (ConnectOutcome::Credentials, Phase::CredentialsRefused, backoff::slow(error.retry_after))
        }
    };
    shared.metrics.connects(outcome).increment(1);
    Next::Dial { phase, after: after.min(Duration::from_secs(3600)), detail: redact.text(&error.message) }
}

/// What is done about the end of a conversation, by its kind.
fn ended(end: &End) -> Next {
    let detail = end.to_string();
    match end.kind {
        Kind::Auth => Next::Dial { phase: Phase::CredentialsRefused, after: backoff::slow(None), detail },
        Kind::Internal => {
            tracing::error!(detail = %detail.escape_debug(), "a fault of the daemon ended a session; it starts over");
            Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
        }
        Kind::Config | Kind::Protocol | Kind::Rejected | Kind::Disconnected => {
            Next::Dial { phase: Phase::Waiting, after: Duration::ZERO, detail }
        }
    }
}

/// Waits for the next attempt; returns whether there is still need of one. Meanwhile commands are refused, and what was read and found no room goes on into the
/// ring; by the policy, or before anything more is read if the policy is to disconnect.
async fn wait(after: Duration, memory: &mut Memory, policy: Overflow, on_demand: bool) -> bool {
    let waited = sleep(after);
    tokio::pin!(waited);
    let hold = |intake: &Intake| policy == Overflow::Disconnect && intake.is_full();
    let mut over = false;
    while !over || hold(&memory.intake) {
        let full = memory.intake.deadline().filter(|_| policy != Overflow::Disconnect);
        tokio::select! {
            () = &mut waited, if !over => over = true,
            () = memory.intake.room() => memory.intake.settle(),
            () = sleep_until(full.unwrap_or_else(Instant::now).into()), if full.is_some() => {
                // Only the policy that is left out here ends anything.
                let _ = memory.intake.overflow();
            }
            () = memory.errands.attend(on_demand, true) => return false,
        }
    }
    true
}
