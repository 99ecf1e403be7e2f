//! From an address to an encrypted stream: directly or through a proxy, and TLS.

use std::io;

use pontoon_sdk::websocket::Guard;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client};

use super::tcp::{Address, reach};
use super::wire::Wire;
use super::{DialError, Settings, proxy, tls};

/// Connects, directly or through a proxy, if the guard allows it. The caller sets the deadline.
///
/// # Errors
/// See [`DialError`].
pub async fn connect(
    address: &Address,
    guard: Option<&Guard>,
    settings: &Settings,
) -> Result<Wire, DialError> {
    if let Some(guard) = guard {
        let allowed = guard.check_host(&address.host, address.port);
        allowed.map_err(|error| DialError::forbidden(error.message()))?;
    }
    let tcp = match proxy::choose(address, guard, settings)? {
        Some(proxy) => proxy.connect(address, settings).await?,
        None => reach(address, guard, settings).await?,
    };
    if address.secure {
        return Ok(Wire::encrypted(encrypt(address, tcp, settings).await?.into()));
    }
    Ok(Wire::plain(tcp))
}

async fn encrypt(
    address: &Address,
    tcp: TcpStream,
    settings: &Settings,
) -> Result<client::TlsStream<TcpStream>, DialError> {
    let config = settings.tls.client().map_err(DialError::credentials)?;
    let name = ServerName::try_from(address.host.clone()).map_err(|_| {
        DialError::wrong_address(format!("\"{}\" is no name that a certificate can be for", address.host))
    })?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(|error| {
        refused(address, &error).unwrap_or_else(|| {
            DialError::unreachable(format!("TLS with {address} broke off: {error}; it may not speak TLS"))
        })
    })
}

/// What a failure of TLS means, in the handshake or behind it: from TLS 1.3 on, a server says only after it that it
/// does not take our certificate. `None` if it is no matter of TLS.
pub fn refused(address: &Address, error: &io::Error) -> Option<DialError> {
    use rustls::{AlertDescription as Alert, Error};
    Some(match tls::explain(error)? {
        Error::InvalidCertificate(reason) => DialError::wrong_address(format!(
            "the certificate of {address} is not trusted: {reason}; {}",
            advice(&reason.to_string())
        )),
        Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        ) => DialError::credentials(format!(
            "{address} refused our certificate ({alert:?}); check transport.tls.cert_file and key_file"
        )),
        // Before TLS 1.3, some servers say no more than this of a certificate that they miss.
        Error::AlertReceived(Alert::HandshakeFailure) => DialError::wrong_address(format!(
            "TLS with {address} failed: it found no way to speak to us; if it wants a certificate of ours, set transport.tls.cert_file and key_file"
        )),
        Error::InvalidMessage(_) => {
            DialError::wrong_address(format!("{address} does not speak TLS; is it a ws:// address?"))
        }
        error => DialError::wrong_address(format!("TLS with {address} failed: {error}")),
    })
}

/// What to do about a certificate that did not pass a check. No authority helps against a wrong name or an old date.
fn advice(reason: &str) -> String {
    match tls::advice(reason) {
        Some(advice) => advice.replace("ca_file", "transport.tls.ca_file"),
        None if reason.contains("not valid for name") => "check the host of the url".to_owned(),
        None => "if it is the right one, put its authority, or exactly its certificate, into transport.tls.ca_file".to_owned(),
    }
}
