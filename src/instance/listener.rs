//! Where services come in that connect to us: listens, lets in whom the connector lets in, and hands over the connection.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_sdk::listener::Listener;
use pontoon_sdk::{Connector, LinkKey, Redactor};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::refusals::Attempts;
use crate::backoff;
use crate::link::redact::shown;
use crate::status::Phase;
use crate::transport::{Dial, DialledBy, listen};

/// How many may be on their way in at a time; others wait with the system.
const KNOCKING: usize = 16;
/// How many may wait for their turn because others from their addresses were not let in.
const SLOWED: usize = 64;
/// How long nobody is taken in after the system could not hand somebody over, as when there are too many files.
const OUT_OF_BREATH: Duration = Duration::from_millis(100);

/// Somebody who was let in.
pub(super) struct Arrival<T: Dial> {
    /// The link it is.
    pub link: LinkKey,
    /// The connection.
    pub connection: DialledBy<T>,
    /// How many may be in.
    pub most: usize,
}

/// Keeps a door open until the instance stops, and then does nothing.
pub(super) async fn keep<C: Connector>(
    settings: Listener,
    connector: Arc<C>,
    shared: Rc<Shared>,
    stop: CancellationToken,
    arrivals: mpsc::Sender<Arrival<C::Transport>>,
) where
    C::Transport: Dial,
{
    tokio::select! {
        () = stop.cancelled() => {}
        listener = open(&settings, &shared) => {
            let (knocking, slowed) =
                (Arc::new(Semaphore::new(KNOCKING)), Arc::new(Semaphore::new(SLOWED)));
            let attempts = Arc::new(Attempts::default());
            let attend = async {
                loop {
                    let (tcp, from) = arrive(&listener).await;
                    let Some(turn) = turn(&attempts, from, &slowed) else {
                        refused(&shared, "too many attempts from its address have failed".to_owned());
                        continue;
                    };
                    // Never closed, so that there is always a permit in the end.
                    let permit = match turn {
                        Turn::Now => knocking.clone().acquire_owned().await.ok(),
                        Turn::After(..) => None,
                    };
                    let (settings, connector, shared) = (settings.clone(), connector.clone(), shared.clone());
                    let (arrivals, stop) = (arrivals.clone(), stop.clone());
                    let (attempts, knocking) = (attempts.clone(), knocking.clone());
                    spawn_local(async move {
                        let handled = async {
                            let _slowed = turn.come().await;
                            let _permit = match permit {
                                Some(permit) => Some(permit),
                                None => knocking.acquire_owned().await.ok(),
                            };
                            if let Err(detail) = authorize(tcp, settings, &*connector, &shared, &arrivals).await {
                                attempts.failed(from.ip(), Instant::now());
                                refused(&shared, detail);
                            }
                        };
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = handled => {}
                        }
                    });
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = attend => {}
            }
        }
    }
    std::future::pending().await
}

/// Tries until it can be listened there; meanwhile the state says why not.
async fn open(settings: &Listener, shared: &Shared) -> TcpListener {
    let (key, seat) = (LinkKey::new(Listener::NAME), shared.board.seat());
    let mut attempt = 0;
    loop {
        match listen::bind(settings).await {
            Ok(listener) => {
                shared.board.remove(&key, seat);
                let address = listener.local_addr().unwrap_or(settings.listen);
                let scheme = if settings.tls.is_some() { "wss" } else { "ws" };
                tracing::info!(
                    instance = shared.name,
                    url = format!("{scheme}://{address}{}", settings.path),
                    "listening"
                );
                return listener;
            }
            Err(detail) => {
                attempt += 1;
                let after = backoff::LINK.delay(attempt);
                tracing::error!(instance = shared.name, after = ?after, detail, "the door cannot be opened");
                let at = OffsetDateTime::now_utc() + after;
                shared.board.set(&key, seat, Phase::Waiting, Some(detail), Some(at));
                sleep(after).await;
            }
        }
    }
}

async fn arrive(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(arrived) => return arrived,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep(OUT_OF_BREATH).await;
            }
        }
    }
}

/// When a connection is handled.
enum Turn {
    Now,
    After(Duration, OwnedSemaphorePermit),
}

impl Turn {
    /// Waits for the turn.
    async fn come(self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::Now => None,
            Self::After(after, permit) => {
                sleep(after).await;
                Some(permit)
            }
        }
    }
}

/// When a connection from there is handled; `None` if too many wait already.
fn turn(attempts: &Attempts, from: SocketAddr, slowed: &Arc<Semaphore>) -> Option<Turn> {
    let after = attempts.begin(from.ip(), Instant::now())?;
    if after.is_zero() {
        return Some(Turn::Now);
    }
    slowed.clone().try_acquire_owned().ok().map(|permit| Turn::After(after, permit))
}

/// Logs why a connection was not let in.
fn refused(shared: &Shared, detail: String) {
    let instance = shared.name.clone();
    shared.throttles.handshakes.log(move |count| {
        tracing::warn!(instance, count, detail = %detail.escape_debug(), "a visitor was not let in");
    });
}

/// Finds out who somebody is, within the time that a connection may take to be made.
///
/// # Errors
/// Why it is not let in.
async fn authorize<C: Connector>(
    tcp: TcpStream,
    listener: Listener,
    connector: &C,
    shared: &Shared,
    arrivals: &mpsc::Sender<Arrival<C::Transport>>,
) -> Result<(), String>
where
    C::Transport: Dial,
{
    let limit = shared.transport.config.connect_timeout.0;
    let settings = &shared.transport;
    let authorize = |handshake: &pontoon_sdk::listener::Handshake<'_, _>| connector.authorize(handshake);
    let entering = async {
        let wire = listen::encrypt(tcp, &listener, settings).await?;
        <C::Transport as Dial>::accept(wire, &listener, settings, &authorize).await
    };
    let entered = timeout(limit, entering).await;
    let (link, connection) = entered
        .unwrap_or_else(|_| Err("it did not say in time who it is".to_owned()))
        // It may have shown what it was to know, and more or less.
        .map_err(|detail| shown(&Redactor::new(listener.revealed()), &detail))?;
    // Nobody takes it any more when the instance stops.
    let _ = arrivals.send(Arrival { link, connection, most: listener.most }).await;
    Ok(())
}
