//! The WebSocket transport (RFC 6455): one message is one frame of the SDK.
//!
//! * [`socket`]: the two halves of a connection
//! * `decoder`: from received bytes to messages, without I/O
//! * `control`: what the writer sends for the reader: pongs and close frames

mod control;
mod decoder;
pub mod socket;

use pontoon_sdk::listener::Listener;
use pontoon_sdk::websocket::{Endpoint, Frame};
use pontoon_sdk::{Error, Param, WebSocket};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::Role;

use self::socket::{Reader, Writer, halves};
use super::connect::connect;
use super::guard::Guard;
use super::listen;
use super::upgrade::Upgrade;
use super::wire::Wire;
use super::{Accepted, Authorize, Dial, DialError, Dialled, Resumed, Settings};

impl Dial for WebSocket {
    type Reader = Reader;
    type Writer = Writer;
    type Memory = ();

    fn check(endpoint: &Endpoint) -> Result<(), Error> {
        guard(endpoint).map_err(|error| if error.pointer().is_none() { error.at("/url") } else { error })?;
        Ok(())
    }

    fn address(endpoint: &Endpoint) -> Option<String> {
        let url = endpoint.parsed_url().ok()?;
        Some(format!("{}://{}", url.scheme, url.authority()))
    }

    fn secrets(endpoint: &Endpoint) -> Vec<String> {
        let Endpoint { query, headers, subprotocols, .. } = endpoint;
        let named = query.iter().chain(headers).map(|(_, value)| value);
        let all = named.chain(subprotocols).filter(|param| matches!(param, Param::Secret(_)));
        let listed = endpoint.secrets.iter().filter_map(|secret| secret.reveal().ok());
        // A secret that cannot be resolved was not sent.
        all.filter_map(|param| param.reveal().ok()).chain(listed).collect()
    }

    async fn dial(
        endpoint: &Endpoint,
        _memory: &mut (),
        settings: &Settings,
    ) -> Result<Dialled<Reader, Writer>, DialError> {
        let guard = guard(endpoint).map_err(|error| DialError::forbidden(error.message()))?;
        let upgrade = Upgrade::new(endpoint, settings.user_agent())?;
        let limit = settings.config.connect_timeout.0;
        let handshake = async {
            let mut wire = connect(&upgrade.address, guard.as_ref(), settings).await?;
            let rest = upgrade.perform(&mut wire).await?;
            Ok::<_, DialError>((wire, rest))
        };
        let (wire, rest) = timeout(limit, handshake).await.map_err(|_| {
            DialError::unreachable(format!(
                "{} did not answer within {}",
                upgrade.address, settings.config.connect_timeout
            ))
        })??;
        let (reader, writer) =
            halves(wire, &rest, Role::Client, settings.config.ping_interval.0 * 2, settings);
        Ok(Dialled { reader, writer, resumed: Resumed::No, limit: None })
    }

    async fn accept(
        wire: Wire,
        listener: &Listener,
        settings: &Settings,
        authorize: &Authorize<'_, Frame>,
    ) -> Result<Accepted<Reader, Writer>, String> {
        listen::accept(wire, listener, settings, authorize).await
    }
}

/// The guard of an endpoint whose URL a caller named. The URL has passed it.
fn guard(endpoint: &Endpoint) -> Result<Option<Guard>, Error> {
    let Some(allow_list) = &endpoint.allow_list else { return Ok(None) };
    let guard = Guard::new(allow_list)?;
    guard.check_url(&endpoint.url)?;
    Ok(Some(guard))
}
