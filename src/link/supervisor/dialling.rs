//! Makes connections.

use std::time::Instant;

use pontoon_sdk::{Kind, LinkKey, Redactor};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::link::context::Context;
use crate::link::erased::ErasedConnector;
use crate::link::redact::shown;
use crate::metrics::ConnectOutcome;
use crate::transport::{Dial, DialError, DialErrorKind, DialledBy, Read as _, Received, Settings, http};

/// A connection that was made.
pub struct Made<T: Dial> {
    /// Where, if not at the usual address.
    pub(super) endpoint: Option<T::Endpoint>,
    pub(super) dialled: DialledBy<T>,
    /// What was read of it already.
    pub(super) first: Option<T::Frame>,
    /// When it was made, if that was beside the one before: since then it was not read.
    pub(super) at: Option<OffsetDateTime>,
}

/// Counts a connection that could not be made, and passes it to the connector. Returns why, without secrets.
pub(super) fn failed<T: Dial>(
    connector: &dyn ErasedConnector<T>,
    key: &LinkKey,
    context: &Context,
    error: &DialError,
    redact: &Redactor,
) -> String {
    let outcome = match error.kind {
        DialErrorKind::Unreachable | DialErrorKind::Edge => ConnectOutcome::Unreachable,
        DialErrorKind::WrongAddress => ConnectOutcome::WrongAddress,
        DialErrorKind::Forbidden => ConnectOutcome::Forbidden,
        DialErrorKind::Credentials => ConnectOutcome::Credentials,
    };
    context.metrics.connects(outcome).increment(1);
    let detail = shown(redact, &error.message);
    if matches!(error.kind, DialErrorKind::WrongAddress | DialErrorKind::Credentials) {
        connector.refused(key);
    }
    if let Some(event) = connector.on_dial_error(key, &detail) {
        context.spool.offer(key, Box::new(event), Instant::now(), OffsetDateTime::now_utc());
    }
    detail
}

/// Makes the request that comes before a connection, and returns where that is made, if not at the usual address.
pub(super) async fn prepare<T: Dial>(
    connector: &dyn ErasedConnector<T>,
    key: &LinkKey,
    endpoint: &T::Endpoint,
    settings: &Settings,
) -> Result<Option<T::Endpoint>, DialError> {
    if let Some(request) = connector.request(key)? {
        let body = http::perform(&request, settings).await?;
        connector.answered(key, &body).map_err(|error| match error.kind() {
            Kind::Auth => DialError::credentials(error.message()),
            Kind::Throttled => DialError::unreachable(error.message()).slowly(),
            _ => DialError::wrong_address(error.message()),
        })?;
    }
    Ok(connector.endpoint(key, endpoint))
}

/// Makes the next connection of a link beside the present one, and waits for what the service sends first over it: then it
/// is the one that counts.
///
/// # Errors
/// Why it cannot be made, without secrets.
pub(super) async fn make_next<T: Dial>(
    connector: &dyn ErasedConnector<T>,
    key: &LinkKey,
    endpoint: &T::Endpoint,
    memory: &mut T::Memory,
    context: &Context,
) -> Result<Made<T>, String> {
    let settings = &context.transport;
    let failed = |error: DialError, place: &T::Endpoint| {
        failed(connector, key, context, &error, &Redactor::new(T::secrets(place)))
    };
    let prepared = prepare(connector, key, endpoint, settings).await;
    let other = prepared.map_err(|error| failed(error, endpoint))?;
    let place = other.as_ref().unwrap_or(endpoint);
    let made = async {
        let mut dialled = dial::<T>(place, memory, settings).await?;
        let first = match timeout(settings.config.connect_timeout.0, dialled.reader.read()).await {
            Ok(Ok(Received::Message(frame))) => Some(frame),
            Ok(Ok(Received::TooLarge(_))) => {
                return Err(DialError::unreachable("the first message is over transport.message_limit"));
            }
            Ok(Err(end)) => return Err(DialError::unreachable(end.to_string())),
            // The service sends nothing by itself.
            Err(_) => None,
        };
        Ok((dialled, first))
    };
    let (dialled, first) = made.await.map_err(|error| failed(error, place))?;
    Ok(Made { endpoint: other, dialled, first, at: Some(OffsetDateTime::now_utc()) })
}

/// Dials. Transports keep the deadline themselves, and report what took so long; one that does not must not keep its link from
/// ever being dialled again.
pub(super) async fn dial<T: Dial>(
    endpoint: &T::Endpoint,
    memory: &mut T::Memory,
    settings: &Settings,
) -> Result<DialledBy<T>, DialError> {
    let limit = settings.config.connect_timeout.0 * 2;
    // The time in which others are dialled does not count. Boxed, so that its memory is freed once the connection is made:
    // else it would stay a part of the link's task.
    let dial = async { timeout(limit, T::dial(endpoint, memory, settings)).await };
    let dialled = settings.dials.run(Box::pin(dial)).await;
    dialled.unwrap_or_else(|_| {
        let text =
            format!("no connection was made within {} s, twice transport.connect_timeout", limit.as_secs());
        Err(DialError::unreachable(text))
    })
}

/// Dials an endpoint, and closes the connection again. Returns its address, or why it cannot be connected.
///
/// # Errors
/// The error of the dial, without secrets.
pub async fn dial_once<T: Dial>(endpoint: &T::Endpoint, settings: &Settings) -> Result<String, String> {
    match dial::<T>(endpoint, &mut T::Memory::default(), settings).await {
        Ok(_) => Ok(T::address(endpoint).unwrap_or_else(|| "the service".to_owned())),
        Err(error) => Err(shown(&Redactor::new(T::secrets(endpoint)), &error.message)),
    }
}
