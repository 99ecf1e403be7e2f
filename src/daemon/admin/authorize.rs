//! Who may see what services send, and send commands: a client on this machine, or one with the bearer token.
//!
//! Pages of other sites can make a browser send requests here, too: those are refused by `Sec-Fetch-Site`, and commands by
//! their content type, which such a page may not send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use pontoon_sdk::Secret;
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use crate::settings::Admin;

/// How long a wrong token waits for its answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Who has access.
#[derive(Clone)]
pub(super) struct Access(Arc<Rule>);

enum Rule {
    /// Clients with this token.
    Token(Secret),
    /// Everyone who can reach the address, which is one of this machine.
    Loopback,
    /// No client, as there is no token.
    Closed,
}

impl Access {
    /// By `admin.token`, or by the address.
    pub(super) fn new(settings: &Admin, address: SocketAddr) -> Self {
        Self(Arc::new(match &settings.token {
            Some(token) => Rule::Token(token.clone()),
            None if address.ip().is_loopback() => Rule::Loopback,
            None => Rule::Closed,
        }))
    }
}

/// Responds 401 without the token, and 403 where there is no access at all.
pub(super) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if site.is_some_and(|site| ![b"same-origin".as_slice(), b"none"].contains(&site)) {
        return refuse(StatusCode::FORBIDDEN, "requests of other sites are refused");
    }
    match &*access.0 {
        Rule::Loopback => {}
        Rule::Closed => {
            return refuse(
                StatusCode::FORBIDDEN,
                "set admin.token to see events, frames and commands at an address that is not of this machine",
            );
        }
        Rule::Token(token) => match token.reveal() {
            Ok(token) if bearer(headers).is_some_and(|given| is_same(given, &token)) => {}
            Ok(_) => {
                sleep(PAUSE).await;
                return refuse(StatusCode::UNAUTHORIZED, "send admin.token: Authorization: Bearer <token>");
            }
            Err(error) => {
                tracing::error!(%error, "admin.token cannot be read");
                return refuse(StatusCode::FORBIDDEN, "admin.token cannot be read; the log has the reason");
            }
        },
    }
    next.run(request).await
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// By their digests, so that the time that it takes shows nothing of the token.
fn is_same(given: &str, token: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(token)
}

fn refuse(status: StatusCode, reason: &'static str) -> Response {
    (status, format!("{reason}\n")).into_response()
}
