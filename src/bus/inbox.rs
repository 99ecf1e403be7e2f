//! Requests to NATS, each with an inbox of its own.
//!
//! The client's own requests leave an entry behind for ever when they time out; a subscription that is dropped does not.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens on the subject.
    #[error("nobody listens on {0}")]
    NoResponders(String),
    /// No answer came in time.
    #[error("no answer from {0} in time")]
    TimedOut(String),
    /// The client was closed.
    #[error("the connection to NATS was closed")]
    Closed,
}

/// Asks, and waits for the first answer.
///
/// # Errors
/// See [`RequestError`].
pub async fn request(
    client: &Client,
    subject: &str,
    payload: Bytes,
    wait: Duration,
) -> Result<Message, RequestError> {
    let exchange = async {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|_| RequestError::Closed)?;
        client
            .publish_with_reply(subject.to_owned(), inbox, payload)
            .await
            .map_err(|_| RequestError::Closed)?;
        answers.next().await.ok_or(RequestError::Closed)
    };
    let answer = timeout(wait, exchange).await.map_err(|_| RequestError::TimedOut(subject.to_owned()))??;
    match answer.status {
        Some(StatusCode::NO_RESPONDERS) => Err(RequestError::NoResponders(subject.to_owned())),
        _ => Ok(answer),
    }
}
