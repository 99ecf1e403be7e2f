//! The second Socket.IO engine: the crate rust_socketio 0.6.0, behind the same trait and on a short leash.
//!
//! It is built with the cargo feature `rust-socketio`, which brings OpenSSL, and chosen with
//! `engine = "rust-socketio"`. What it can do beside the native engine:
//!
//! | | native | rust-socketio |
//! |---|---|---|
//! | namespaces, `auth`, query, headers, path | yes | yes; one header of a name |
//! | events in, in order | as they came | `serde_json::Value`: keys sorted, numbers may change form |
//! | events out, any number of arguments | as given | the same |
//! | names of events | exact | `Error`, `Open`, `Close` and `Message` arrive in lower case |
//! | an event without arguments | exact | arrives as `message` with its name as the argument |
//! | an event whose name is no text | as the reference has it | arrives as `message`, with the name among the arguments |
//! | an event `open`, `close` with the empty text | exact | `open` is `frame.unrecognised`, `close` ends the link |
//! | an event `error` with words of the crate's own | exact | ends the link |
//! | acknowledgements | both ways | none; a service that asks for one is never answered |
//! | binary events in | yes | `frame.unrecognised` with a part of it, and the link ends |
//! | binary events out | yes | refused |
//! | a malformed packet | `frame.unrecognised` | ends the link, or is passed over unseen |
//! | CONNECT refused (`44`) | said at once | said at once |
//! | `41`, a lost connection, a dead peer | dialled again | dialled again |
//! | connection state recovery | yes | no: every break is a gap |
//! | largest message | `transport.message_limit` | the same, but 64 MiB are read before it is looked at |
//! | `maxPayload` of the service | larger messages are refused | not known |
//! | `Retry-After`, `Location`, signs of an edge on a refused upgrade | known | not known |
//! | through a proxy | yes | refused |
//! | TLS | rustls | OpenSSL; the same files |
//!
//! The crate can stop without a word: its task panics, it waits for a lock for ever, it dials in a hot loop. So each
//! connection has a thread with a runtime of its own (`thread`), all that ends it is noticed from outside, and then
//! the runtime is dropped with everything in it. The crate never dials again by itself; the supervisor does.

mod either;
mod hearing;
mod thread;

use std::{error, fs, io, iter};

use ::rust_socketio::Error as Fault;
use native_tls::{Certificate, Identity, TlsConnector};
use pontoon_sdk::socketio::{Endpoint, Engine};
use pontoon_sdk::{Error, websocket};
use serde_json::Value;
use tokio::time::timeout;

use super::recovery::Recovery;
use super::{auth, native, unconfirmed, url};
use crate::settings::Tls;
use crate::transport::tcp::Address;
use crate::transport::{DialError, Dialled, Settings, proxy, refusal, upgrade};

pub use either::{Reader, Writer};

/// Whether the engine that is asked for can do what else is asked.
///
/// # Errors
/// The setting that it cannot honour.
pub(super) fn check(endpoint: &Endpoint) -> Result<(), Error> {
    if endpoint.engine == Engine::Native {
        return Ok(());
    }
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

/// Makes a connection with the engine that the endpoint names.
///
/// # Errors
/// See [`DialError`].
pub(super) async fn dial(
    endpoint: &Endpoint,
    memory: &mut Recovery,
    settings: &Settings,
) -> Result<Dialled<Reader, Writer>, DialError> {
    if endpoint.engine == Engine::Native {
        return native(endpoint, memory, settings).await.map(either::native);
    }
    let plan = Plan::new(endpoint, settings)?;
    let limit = settings.config.connect_timeout;
    let dialled = timeout(limit.0, thread::open(plan, settings)).await;
    dialled.unwrap_or_else(|_| Err(unconfirmed(endpoint, limit))).map(either::second)
}

/// What a connection is made of, with every secret looked up.
struct Plan {
    url: String,
    address: Address,
    namespace: String,
    headers: Vec<(String, String)>,
    auth: Value,
    tls: Option<TlsConnector>,
}

impl Plan {
    fn new(endpoint: &Endpoint, settings: &Settings) -> Result<Self, DialError> {
        // The crate adds `EIO` and `transport` itself.
        let mut socket = websocket::Endpoint::new(&url(&endpoint.url)?)?;
        socket.query.clone_from(&endpoint.query);
        let url = upgrade::url(&socket)?;
        let address = Address::from(&url);
        if proxy::choose(&address, None, settings)?.is_some() {
            return Err(DialError::wrong_address(
                "the engine rust-socketio cannot go through a proxy; write engine = \"native\", or transport.proxy = \"none\"",
            ));
        }
        let mut headers = Vec::new();
        if !endpoint.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("User-Agent")) {
            headers.push(("User-Agent".to_owned(), settings.user_agent().to_owned()));
        }
        for (name, value) in &endpoint.headers {
            headers.push((name.clone(), value.reveal()?));
        }
        let tls = if address.secure { Some(tls(&settings.config.tls)?) } else { None };
        Ok(Self {
            url: format!("{}://{}{}", url.scheme, url.authority(), upgrade::target(&url, &socket)?),
            address,
            namespace: endpoint.namespace.clone(),
            headers,
            auth: auth(endpoint)?.into(),
            tls,
        })
    }

    /// Says why there is no connection.
    fn explain(&self, fault: &Fault) -> DialError {
        let address = &self.address;
        let causes: Vec<_> =
            iter::successors(Some(fault as &dyn error::Error), |cause| cause.source()).collect();
        let words: Vec<String> = causes.iter().map(ToString::to_string).collect();
        let status =
            words.iter().find_map(|words| words.strip_prefix("HTTP error: ")?.get(..3)?.parse().ok());
        if let Some(code) = status {
            return refusal::refusal(address, code, &|_| None);
        }
        let last = words.last().map_or("", String::as_str);
        let tls = causes.iter().position(|cause| cause.is::<native_tls::Error>());
        if last.contains(":SSL routines:") || tls.is_some() {
            let words = tls.and_then(|place| words.get(place)).map_or(last, String::as_str);
            return untrusted(address, words);
        }
        if causes.iter().any(|cause| cause.is::<io::Error>()) {
            return DialError::unreachable(format!("{address} cannot be reached: {last}"));
        }
        // The crate's words for a connection that ends before the answer is whole.
        if last.contains("Handshake not finished") || last.contains("without closing handshake") {
            return DialError::unreachable(format!("{address} closed the connection during the handshake"));
        }
        DialError::wrong_address(format!(
            "what answers at {address} is no Engine.IO 4 server (Socket.IO 3 or later): {last}"
        ))
    }
}

/// What a failure of TLS means, in OpenSSL's words: from TLS 1.3 on, a server says only after the handshake that it does not
/// take our certificate.
fn untrusted(address: &Address, words: &str) -> DialError {
    let says = |part: &str| words.contains(part);
    if says(" alert ") && ["certificate", "unknown ca", "access denied"].into_iter().any(says) {
        return DialError::credentials(format!(
            "{address} refused our certificate: {words}; check transport.tls.cert_file and key_file"
        ));
    }
    let advice = match says("certificate verify failed") {
        true => "check the host of the url or, if it is the right one, set transport.tls.ca_file",
        false => "it may not speak TLS, or want a certificate of ours",
    };
    DialError::wrong_address(format!("TLS with {address} failed: {words}; {advice}"))
}

/// Trust and our certificate, from the same files as for the native engine.
fn tls(tls: &Tls) -> Result<TlsConnector, DialError> {
    let wrong = |what: &str, file: &std::path::Path, why: &dyn std::fmt::Display| {
        DialError::credentials(format!("the {what} {} cannot be used: {why}", file.display()))
    };
    let mut builder = TlsConnector::builder();
    if let Some(file) = &tls.ca_file {
        let pem = fs::read(file).map_err(|error| wrong("ca_file", file, &error))?;
        let found = Certificate::stack_from_pem(&pem).map_err(|error| wrong("ca_file", file, &error))?;
        if found.is_empty() {
            return Err(wrong("ca_file", file, &"it holds no certificate (PEM)"));
        }
        for certificate in found {
            builder.add_root_certificate(certificate);
        }
    }
    if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
        let chain = fs::read(cert).map_err(|error| wrong("cert_file", cert, &error))?;
        let secret = fs::read(key).map_err(|error| wrong("key_file", key, &error))?;
        let identity =
            Identity::from_pkcs8(&chain, &secret).map_err(|error| wrong("cert_file", cert, &error))?;
        builder.identity(identity);
    }
    builder.build().map_err(|error| DialError::credentials(format!("TLS cannot be set up: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_would_be_lost_is_refused() {
        let mut endpoint = Endpoint::new("http://svc.example").unwrap();
        endpoint.engine = Engine::RustSocketio;
        endpoint.headers = vec![("X-Team".into(), "a".into()), ("X-Key".into(), "b".into())];
        assert!(check(&endpoint).is_ok());
        endpoint.headers.push(("x-team".into(), "c".into()));
        assert_eq!(check(&endpoint).unwrap_err().pointer(), Some("/headers"));
        endpoint.engine = Engine::Native;
        assert!(check(&endpoint).is_ok());
    }
}
