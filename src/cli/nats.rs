//! A short connection to NATS, for `tail`, `send` and `check`.

use std::time::Duration;

use async_nats::Client;
use tokio::sync::watch;

use super::failure::Failure;
use crate::bus::connect::{self, Connection};
use crate::settings::Config;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a future to its end on a runtime of one thread.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))?.block_on(work)
}

/// What the server refuses (permissions) from now on.
pub(super) struct Refusals(watch::Receiver<Connection>);

impl Refusals {
    /// Waits until the server refuses something: the message that is waited for will not come then.
    pub(super) async fn next(&mut self) -> Failure {
        let refused = |connection: &Connection| connection.up && connection.detail.is_some();
        match self.0.wait_for(refused).await {
            Ok(connection) => {
                let detail = connection.detail.clone().unwrap_or_default();
                Failure::Failed(format!(
                    "{detail}; another user may be needed: nats.user, or PONTOON_NATS__USER"
                ))
            }
            Err(_) => std::future::pending().await,
        }
    }
}

/// Connects, and waits until the connection is up.
pub(super) async fn client(config: &Config) -> Result<(Client, Refusals), Failure> {
    client_with(config, &inbox(config.nats.user.as_deref())).await
}

/// The same with another prefix of inboxes.
pub(super) async fn client_with(config: &Config, inbox: &str) -> Result<(Client, Refusals), Failure> {
    let (client, mut state) =
        connect::client(&config.nats, "pontoon command line", inbox, "").await.map_err(Failure::Failed)?;
    let up = tokio::time::timeout(CONNECT_TIMEOUT, state.wait_for(|connection| connection.up))
        .await
        .map(|up| up.is_ok());
    if up == Ok(true) {
        return Ok((client, Refusals(state)));
    }
    let detail = state.borrow().detail.clone().unwrap_or_else(|| "no answer".to_owned());
    let place = config.nats.url.list().join(", ");
    Err(Failure::Failed(format!("no connection to NATS at {place}: {detail}; set nats.url or --nats-url")))
}

/// The prefix of inboxes: `_INBOX.<user>`, which is allowed wherever `_INBOX` is, and the only one that the users of
/// `deploy/nats` may subscribe to.
fn inbox(user: Option<&str>) -> String {
    let is_token = |user: &&str| {
        !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    user.filter(is_token).map_or_else(|| "_INBOX".to_owned(), |user| format!("_INBOX.{user}"))
}
