//! Which hosts a request may be for (RFC 9110 §7.2): addresses, `localhost` and the names of `admin.hosts`.
//!
//! A web page can make its host name resolve to this machine (DNS rebinding) and then read the responses as its own.
//! Its requests carry that name in `Host`, so names that are not listed are refused.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::Version;

/// Names in lower case, without a trailing dot.
#[derive(Clone)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    /// `localhost` and these names.
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| normal(name)).chain(["localhost".to_owned()]).collect())
    }

    /// Whether a request for this host and port is answered. The port does not matter, as it may be forwarded.
    fn allow(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        literal.parse::<IpAddr>().is_ok() || self.0.contains(&normal(host))
    }
}

/// A name in the form that is compared: lower case, without the final dot of the root.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Responds 400 unless the request names exactly one valid host, and 421 if that host is not served here.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let named = match (fields.next(), fields.next()) {
        (Some(field), None) => match authority(field.as_bytes()) {
            Some(host) => Some(host),
            None => return refuse(StatusCode::BAD_REQUEST, "the Host header is not a host and a port"),
        },
        (None, _) if request.version() < Version::HTTP_11 => None,
        (None, _) => return refuse(StatusCode::BAD_REQUEST, "the Host header is missing"),
        (Some(_), Some(_)) => return refuse(StatusCode::BAD_REQUEST, "there is more than one Host header"),
    };
    // The host of a target in absolute form replaces the header (RFC 9112 §3.2.2); both must be allowed.
    let target = request.uri().authority().cloned();
    if [named, target].into_iter().flatten().all(|authority| hosts.allow(&authority)) {
        return next.run(request).await;
    }
    refuse(
        StatusCode::MISDIRECTED_REQUEST,
        "this host is not served here; use an address or localhost, or add the name to admin.hosts",
    )
}

/// A host with or without a port; `None` if there is anything else.
fn authority(field: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(field).ok()?;
    let port = authority.as_str().strip_prefix(authority.host())?;
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok());
    (is_port && !authority.host().is_empty()).then_some(authority)
}

fn refuse(status: StatusCode, reason: &'static str) -> Response {
    (status, format!("{reason}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_listed_names_are_allowed() {
        let hosts = Hosts::new(&["pontoon".into(), "Bridge.Example.".into()]);
        let allows = |host: &str| authority(host.as_bytes()).map(|authority| hosts.allow(&authority));
        for good in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "10.1.2.3:80",
            "[::1]:9464",
            "[2001:db8::1]",
            "localhost",
            "LocalHost:9464",
            "localhost.",
            "localhost.:9464",
            "localhost:",
            "pontoon:9464",
            "PONTOON",
            "bridge.example",
            "bridge.example.:1",
        ] {
            assert_eq!(allows(good), Some(true), "{good}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "pontoon.evil",
            "xpontoon",
            "example",
            "127.1",
            "0x7f000001",
            "localhost..",
        ] {
            assert_eq!(allows(foreign), Some(false), "{foreign}");
        }
        for bad in ["", ":9464", "a b", "a/b", "user@localhost", "localhost:http", "localhost:99999", "[::1"]
        {
            assert_eq!(allows(bad), None, "{bad}");
        }
    }
}
