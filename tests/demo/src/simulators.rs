//! The simulated services by themselves, at given addresses, for a daemon that runs elsewhere: in
//! containers, see `deploy/compose.yaml`.
//!
//! They listen on loopback, so that what comes to a named address is handed on. They send in turn, every second, and
//! keep what was sent and received: this is for a demonstration, not for weeks.

use std::error::Error;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use crate::services::{self, Service};

/// How often one of them sends something.
const TURN: Duration = Duration::from_secs(1);

/// Runs those that are named, `sub0=0.0.0.0:7101`, until it is stopped.
pub(crate) async fn run(places: &[String]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut all = services::all().await;
    let mut running = Vec::new();
    for place in places {
        let (kind, address) = place.split_once('=').ok_or_else(|| format!("{place} is not type=address"))?;
        let Some(found) = all.iter().position(|service| service.kind() == kind) else {
            let known: Vec<_> = all.iter().map(|service| service.kind()).collect();
            return Err(format!("there is no {kind} left; these are there: {}", known.join(", ")).into());
        };
        let service = all.swap_remove(found);
        let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
        println!("{} at {}, {}", service.name(), listener.local_addr()?, service.note());
        tokio::spawn(hand_on(listener, authority(&*service)));
        running.push(service);
    }
    let mut turns = interval(TURN);
    let mut next = 0;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = turns.tick() => {
                let count = running.len().max(1);
                if let Some(service) = running.get_mut(next % count) {
                    service.send_next();
                }
                next += 1;
            }
        }
    }
}

/// Hands connections on to where the service really listens.
async fn hand_on(listener: TcpListener, to: String) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            // Descriptors have run out, most likely.
            tokio::time::sleep(TURN).await;
            continue;
        };
        let to = to.clone();
        tokio::spawn(async move {
            if let Ok(mut service) = TcpStream::connect(to).await {
                let _ = client.set_nodelay(true);
                let _ = service.set_nodelay(true);
                // The side that breaks off first ends it for both.
                let _ = copy_bidirectional(&mut client, &mut service).await;
            }
        });
    }
}

/// Host and port of a service's URL.
fn authority(service: &dyn Service) -> String {
    let url = service.url();
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}
