//! A short connection to NATS, for commands that people type.

use std::time::Duration;

use async_nats::Client;

use super::failure::Failure;
use crate::bus::connect;
use crate::config::Config;

/// How long a person waits before they are told that there is no connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs something that waits.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))?.block_on(work)
}

/// Connects, and waits until the connection is up.
pub(super) async fn client(config: &Config) -> Result<Client, Failure> {
    let (client, mut state) =
        connect::client(&config.nats, "pontoon command line", "_INBOX", "").await.map_err(Failure::Failed)?;
    let up =
        tokio::time::timeout(PATIENCE, state.wait_for(|connection| connection.up)).await.map(|up| up.is_ok());
    if up == Ok(true) {
        return Ok(client);
    }
    let detail = state.borrow().detail.clone().unwrap_or_else(|| "no answer".to_owned());
    let place = config.nats.url.list().join(", ");
    Err(Failure::Failed(format!("no connection to NATS at {place}: {detail}; set nats.url or --nats-url")))
}
