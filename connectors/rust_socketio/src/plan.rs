//! The parameters of a connection of the crate, and dial errors.

use std::{error, fs, io, iter};

use native_tls::{Certificate, Identity, TlsConnector};
use pontoon::settings::Tls;
use pontoon::transport::socketio::{auth, url};
use pontoon::transport::tcp::Address;
use pontoon::transport::{DialError, Settings, proxy, refusal, upgrade};
use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::websocket;
use rust_socketio::Error as Fault;
use serde_json::Value;

/// The parameters of a connection, with every secret resolved.
pub(crate) struct Plan {
    pub(crate) url: String,
    address: Address,
    pub(crate) namespace: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) auth: Value,
    pub(crate) tls: Option<TlsConnector>,
}

impl Plan {
    pub(crate) fn new(endpoint: &Endpoint, settings: &Settings) -> Result<Self, DialError> {
        // The crate adds `EIO` and `transport` itself.
        let mut socket = websocket::Endpoint::new(&url(endpoint)?)?;
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

    /// The dial error for an error of the crate.
    pub(crate) fn explain(&self, fault: &Fault) -> DialError {
        let address = &self.address;
        let causes: Vec<_> =
            iter::successors(Some(fault as &dyn error::Error), |cause| cause.source()).collect();
        let texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
        let status = texts.iter().find_map(|text| text.strip_prefix("HTTP error: ")?.get(..3)?.parse().ok());
        if let Some(code) = status {
            return refusal::refusal(address, code, &|_| None);
        }
        let last = texts.last().map_or("", String::as_str);
        let tls = causes.iter().position(|cause| cause.is::<native_tls::Error>());
        if last.contains(":SSL routines:") || tls.is_some() {
            let text = tls.and_then(|place| texts.get(place)).map_or(last, String::as_str);
            return untrusted(address, text);
        }
        if causes.iter().any(|cause| cause.is::<io::Error>()) {
            return DialError::unreachable(format!("{address} cannot be reached: {last}"));
        }
        // The crate's texts for a connection that ends before the response is complete.
        if last.contains("Handshake not finished") || last.contains("without closing handshake") {
            return DialError::unreachable(format!("{address} closed the connection during the handshake"));
        }
        DialError::wrong_address(format!(
            "the server at {address} is not an Engine.IO 4 server (Socket.IO 3 or later): {last}"
        ))
    }
}

/// The dial error for a TLS failure, by OpenSSL's text: with TLS 1.3 a server refuses a client certificate only after the
/// handshake.
fn untrusted(address: &Address, text: &str) -> DialError {
    let has = |part: &str| text.contains(part);
    if has(" alert ") && ["certificate", "unknown ca", "access denied"].into_iter().any(has) {
        return DialError::credentials(format!(
            "{address} refused our certificate: {text}; check transport.tls.cert_file and key_file"
        ));
    }
    let advice = match has("certificate verify failed") {
        true => "check the host of the url or, if it is the right one, set transport.tls.ca_file",
        false => "it may not speak TLS, or require a client certificate",
    };
    DialError::wrong_address(format!("TLS with {address} failed: {text}; {advice}"))
}

/// Trusted authorities and our certificate, from the same files as for the native engine.
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
