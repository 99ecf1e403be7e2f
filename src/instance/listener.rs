//! Connections that services open to us: listens, accepts those that the connector authorizes, and hands them over.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_sdk::listener::Listener;
use pontoon_sdk::{LinkKey, Redactor};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::refusals::Attempts;
use super::shared::Shared;
use crate::backoff;
use crate::link::erased::ErasedConnector;
use crate::link::redact::shown;
use crate::status::Phase;
use crate::transport::{Dial, DialledBy, listen};

/// How many handshakes may be under way at a time; other connections wait with the system.
const HANDSHAKES: usize = 16;
/// How many connections may wait because others from their addresses were refused.
const SLOWED: usize = 64;
/// How long nothing is accepted after the system could not accept a connection, as when too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that was authorized.
pub(super) struct Accepted<T: Dial> {
    /// The name of its link.
    pub link: LinkKey,
    /// The connection.
    pub connection: DialledBy<T>,
    /// How many such links may be open.
    pub most: usize,
}

/// Accepts connections until the instance stops, and then does nothing.
pub(super) async fn listen<T: Dial>(
    settings: Listener,
    connector: Rc<dyn ErasedConnector<T>>,
    shared: Rc<Shared>,
    stop: CancellationToken,
    accepted: mpsc::Sender<Box<Accepted<T>>>,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        listener = bind(&settings, &shared) => {
            let (handshakes, slowed) =
                (Arc::new(Semaphore::new(HANDSHAKES)), Arc::new(Semaphore::new(SLOWED)));
            let attempts = Rc::new(Attempts::default());
            let accept = async {
                loop {
                    let (tcp, from) = accept(&listener).await;
                    let Some((pause, slowed)) = pause(&attempts, from, &slowed) else {
                        refused(&shared, "too many attempts from its address have failed".to_owned());
                        continue;
                    };
                    // Never closed, so that there is always a permit in the end.
                    let permit = match slowed {
                        None => handshakes.clone().acquire_owned().await.ok(),
                        Some(_) => None,
                    };
                    let (settings, connector, shared) = (settings.clone(), connector.clone(), shared.clone());
                    let (accepted, stop) = (accepted.clone(), stop.clone());
                    let (attempts, handshakes) = (attempts.clone(), handshakes.clone());
                    spawn_local(async move {
                        let handled = async {
                            let _slowed = slowed;
                            let _permit = match permit {
                                Some(permit) => Some(permit),
                                None => {
                                    sleep(pause).await;
                                    handshakes.acquire_owned().await.ok()
                                }
                            };
                            if let Err(detail) = authorize(tcp, settings, &*connector, &shared, &accepted).await {
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
                () = accept => {}
            }
        }
    }
    std::future::pending().await
}

/// Retries until the address can be listened on; meanwhile the state shows why not.
async fn bind(settings: &Listener, shared: &Shared) -> TcpListener {
    let phase = shared.link.phases.handle(LinkKey::new(Listener::NAME));
    let mut attempt = 0;
    loop {
        match listen::bind(settings).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(settings.listen);
                let scheme = if settings.tls.is_some() { "wss" } else { "ws" };
                tracing::info!(
                    instance = shared.link.instance,
                    url = format!("{scheme}://{address}{}", settings.path),
                    "listening"
                );
                return listener;
            }
            Err(detail) => {
                attempt += 1;
                let after = backoff::LINK.delay(attempt);
                tracing::error!(instance = shared.link.instance, after = ?after, detail, "the listener cannot be opened");
                let at = OffsetDateTime::now_utc() + after;
                phase.set(Phase::Waiting, Some(detail), Some(at));
                sleep(after).await;
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How long a connection from there waits before its handshake, and its permit for that; `None` if too many wait already.
fn pause(
    attempts: &Attempts,
    from: SocketAddr,
    slowed: &Arc<Semaphore>,
) -> Option<(Duration, Option<OwnedSemaphorePermit>)> {
    let pause = attempts.begin(from.ip(), Instant::now())?;
    let permit = (!pause.is_zero()).then(|| slowed.clone().try_acquire_owned());
    Some((pause, permit.transpose().ok()?))
}

/// Logs why a connection was not accepted.
fn refused(shared: &Shared, detail: String) {
    let instance = shared.link.instance.clone();
    shared.throttles.handshakes.log(move |count| {
        tracing::warn!(instance, count, %detail, "a connection was not accepted");
    });
}

/// Authorizes a connection, within the time that a connection may take to be made.
///
/// # Errors
/// Why it is refused.
async fn authorize<T: Dial>(
    tcp: TcpStream,
    listener: Listener,
    connector: &dyn ErasedConnector<T>,
    shared: &Shared,
    accepted: &mpsc::Sender<Box<Accepted<T>>>,
) -> Result<(), String> {
    let limit = shared.link.transport.config.connect_timeout.0;
    let settings = &shared.link.transport;
    let authorize = |handshake: &pontoon_sdk::listener::Handshake<'_, _>| connector.authorize(handshake);
    let handshake = async {
        let wire = listen::encrypt(tcp, &listener, settings).await?;
        T::accept(wire, &listener, settings, &authorize).await
    };
    let done = timeout(limit, handshake).await;
    let (link, connection) = done
        .unwrap_or_else(|_| Err("the handshake was not over in time".to_owned()))
        // The detail may repeat what it sent, which may be a secret.
        .map_err(|detail| shown(&Redactor::new(listener.revealed()), &detail))?;
    // It is dropped when the instance stops.
    let _ = accepted.send(Box::new(Accepted { link, connection, most: listener.most })).await;
    Ok(())
}
