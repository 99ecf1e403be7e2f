//! Where services come in that connect to us: listens, lets in whom the connector lets in, and hands over the connection.

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::door::Door;
use pontoon_sdk::{Connector, LinkKey, Redactor};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::backoff;
use crate::redact::shown;
use crate::status::Phase;
use crate::transport::{Dial, DialledBy, listen};

/// How many may be on their way in at a time; others wait with the system.
const KNOCKING: usize = 16;
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
    door: Door,
    connector: Arc<C>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    arrivals: mpsc::Sender<Arrival<C::Transport>>,
) where
    C::Transport: Dial,
{
    tokio::select! {
        () = stop.cancelled() => {}
        listener = open(&door, &shared) => {
            let knocking = Arc::new(Semaphore::new(KNOCKING));
            let attend = async {
                loop {
                    // Never closed, so that there is always a permit in the end.
                    let Ok(permit) = knocking.clone().acquire_owned().await else { return };
                    let tcp = arrive(&listener).await;
                    let (door, connector, shared) = (door.clone(), connector.clone(), shared.clone());
                    let (arrivals, stop) = (arrivals.clone(), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = admit(tcp, door, &*connector, &shared, &arrivals) => {}
                        }
                        drop(permit);
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
async fn open(door: &Door, shared: &Shared) -> TcpListener {
    let (key, seat) = (LinkKey::new(Door::NAME), shared.board.seat());
    let mut attempt = 0;
    loop {
        match listen::bind(door).await {
            Ok(listener) => {
                shared.board.remove(&key, seat);
                let address = listener.local_addr().unwrap_or(door.listen);
                let scheme = if door.tls.is_some() { "wss" } else { "ws" };
                tracing::info!(
                    instance = shared.name,
                    url = format!("{scheme}://{address}{}", door.path),
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

async fn arrive(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return tcp,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep(OUT_OF_BREATH).await;
            }
        }
    }
}

/// Finds out who somebody is, within the time that a connection may take to be made.
async fn admit<C: Connector>(
    tcp: TcpStream,
    door: Door,
    connector: &C,
    shared: &Shared,
    arrivals: &mpsc::Sender<Arrival<C::Transport>>,
) where
    C::Transport: Dial,
{
    let limit = shared.transport.config.connect_timeout.0;
    let settings = &shared.transport;
    let judge = |visitor: &pontoon_sdk::door::Visitor<'_, _>| connector.admit(visitor);
    let entering = async {
        let wire = listen::encrypt(tcp, &door, settings).await?;
        <C::Transport as Dial>::accept(wire, &door, settings, &judge).await
    };
    match timeout(limit, entering).await {
        Ok(Ok((link, connection))) => {
            // Nobody takes it any more when the instance stops.
            let _ = arrivals.send(Arrival { link, connection, most: door.most }).await;
        }
        Ok(Err(detail)) => {
            // It may have shown what it was to know, and more or less.
            let detail = shown(&Redactor::new(door.revealed()), &detail);
            tracing::warn!(instance = shared.name, detail = %detail.escape_debug(), "a visitor was not let in");
        }
        Err(_) => tracing::warn!(instance = shared.name, "a visitor did not say in time who it is"),
    }
}
