//! What the page sends: commands, each with its replies as server-sent events. Only with `admin.commands = true`.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use pontoon_sdk::Operation;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{LongResponse, View};
use crate::instance::LocalCommand;

/// Replies that may wait for the page.
const REPLIES: usize = 16;

/// The operations of every instance, with the schemas of their bodies.
pub(super) async fn operations(State(view): State<View>) -> Response {
    let shown = |operation: &Operation| {
        json!({
            "name": operation.name, "argument": operation.argument, "summary": operation.summary,
            "schema": operation.body.as_value(), "delivery": operation.delivery.as_str(), "idempotent": operation.idempotent,
        })
    };
    let instances = view.statuses.operations().into_iter().map(|(instance, operations)| {
        json!({ "instance": instance, "operations": operations.iter().map(shown).collect::<Vec<_>>() })
    });
    let body = Value::Array(instances.collect()).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    instance: String,
    operation: String,
    body: Box<RawValue>,
    wait: Option<String>,
    timeout: Option<String>,
    #[serde(default)]
    stream: bool,
}

/// Sends a command to an instance.
pub(super) async fn send(
    State(view): State<View>,
    Extension(long): Extension<LongResponse>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // A page of another site may not send this type without being allowed to first (Fetch standard, CORS).
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
    if !is_json {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json\n")
            .into_response();
    }
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, format!("the request is not read: {error}\n")).into_response();
        }
    };
    let Some(commands) = view.statuses.commands(&wanted.instance) else {
        return (StatusCode::NOT_FOUND, "there is no such instance\n").into_response();
    };
    let given = [
        ("Pontoon-Wait", wanted.wait),
        ("Pontoon-Timeout", wanted.timeout),
        ("Pontoon-Stream", wanted.stream.then(|| "true".to_owned())),
    ];
    let (replies, received) = mpsc::channel(REPLIES);
    let command = LocalCommand {
        operation: wanted.operation,
        headers: given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        body: String::from(Box::<str>::from(wanted.body)).into(),
        replies,
    };
    if commands.try_send(command).is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the instance takes no commands now\n").into_response();
    }
    // The instance answers at the deadline of the command at the latest.
    long.set();
    let replies = stream::unfold(received, |mut received| async move {
        let reply = received.recv().await?;
        let event = Event::default().event("reply").data(String::from_utf8_lossy(&reply));
        Some((Ok::<_, Infallible>(event), received))
    });
    Sse::new(replies).into_response()
}
