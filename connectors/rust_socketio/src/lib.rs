#![doc = include_str!("../README.md")]

mod callbacks;
mod connection;
mod plan;
mod thread;

use pontoon::transport::socketio::{Recovery, unconfirmed};
use pontoon::transport::{Dial, DialError, Dialled, Settings};
use pontoon_sdk::socketio::{Endpoint, Frame};
use pontoon_sdk::{Error, SocketIo, Transport};
use tokio::time::timeout;

pub use connection::{Reader, Writer};
use plan::Plan;

/// Socket.IO over the engine that the endpoint names: the daemon's, or the crate rust_socketio.
pub struct EitherEngine;

impl Transport for EitherEngine {
    type Frame = Frame;
    type Endpoint = Endpoint;
}

impl Dial for EitherEngine {
    type Reader = Reader;
    type Writer = Writer;
    type Memory = Recovery;

    fn check(endpoint: &Endpoint) -> Result<(), Error> {
        if endpoint.engine.is_none() { <SocketIo as Dial>::check(endpoint) } else { check(endpoint) }
    }

    fn secrets(endpoint: &Endpoint) -> Vec<String> {
        <SocketIo as Dial>::secrets(endpoint)
    }

    async fn dial(
        endpoint: &Endpoint,
        memory: &mut Recovery,
        settings: &Settings,
    ) -> Result<Dialled<Reader, Writer>, DialError> {
        if endpoint.engine.is_none() {
            return SocketIo::dial(endpoint, memory, settings).await.map(connection::native);
        }
        let plan = Plan::new(endpoint, settings)?;
        let limit = settings.config.connect_timeout;
        let dialled = timeout(limit.0, thread::open(plan, settings)).await;
        dialled.unwrap_or_else(|_| Err(unconfirmed(endpoint, limit))).map(connection::second)
    }
}

/// Checks that the crate supports the endpoint's settings.
///
/// # Errors
/// The setting that it does not support.
fn check(endpoint: &Endpoint) -> Result<(), Error> {
    let names: Vec<_> = endpoint.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    match names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
        None => Ok(()),
        Some((_, name)) => Err(Error::config(format!(
            "the engine rust-socketio sends one header of a name, and there is more than one \"{name}\"; leave one, \
             or write engine = \"native\""
        ))
        .at("/headers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_would_be_lost_is_refused() {
        let mut endpoint = Endpoint::new("http://svc.example").unwrap();
        endpoint.engine = Some("rust-socketio");
        endpoint.headers = vec![("X-Team".into(), "a".into()), ("X-Key".into(), "b".into())];
        assert!(check(&endpoint).is_ok());
        endpoint.headers.push(("x-team".into(), "c".into()));
        assert_eq!(check(&endpoint).unwrap_err().pointer(), Some("/headers"));
        endpoint.engine = None;
        assert!(EitherEngine::check(&endpoint).is_ok());
    }
}
