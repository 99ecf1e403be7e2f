//! From an address to a stream: TCP, directly or through a proxy, then TLS.

use std::io;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client};

use super::guard::Guard;
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
    settings.fence.check().map_err(|error| DialError::unreachable(error.to_string()))?;
    if let Some(guard) = guard {
        let allowed = guard.check_host(&address.host, address.port);
        allowed.map_err(|error| DialError::forbidden(error.message()))?;
    }
    let tcp = match proxy::choose(address, guard, settings)? {
        Some(proxy) => proxy.connect(address, settings).await?,
        None => reach(address, guard, settings).await?,
    };
    let wire = if address.secure {
        Wire::encrypted(encrypt(address, tcp, settings).await?.into())
    } else {
        Wire::plain(tcp)
    };
    Ok(wire.fenced(settings.fence.clone()))
}

async fn encrypt(
    address: &Address,
    tcp: TcpStream,
    settings: &Settings,
) -> Result<client::TlsStream<TcpStream>, DialError> {
    let config = settings.tls.client().map_err(DialError::credentials)?;
    let name = ServerName::try_from(address.host.clone()).map_err(|_| {
        DialError::wrong_address(format!("\"{}\" is not a name that a certificate can have", address.host))
    })?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(|error| {
        refused(address, &error).unwrap_or_else(|| {
            DialError::unreachable(format!("TLS with {address} broke off: {error}; it may not speak TLS"))
        })
    })
}

/// The dial error for a TLS failure, in the handshake or after it: with TLS 1.3 a server refuses a client certificate only
/// after the handshake. `None` if the error is not one of TLS.
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
        // Before TLS 1.3, some servers send only this alert when they require a client certificate.
        Error::AlertReceived(Alert::HandshakeFailure) => DialError::wrong_address(format!(
            "TLS with {address} failed: no common parameters; if it requires a client certificate, set transport.tls.cert_file and key_file"
        )),
        Error::InvalidMessage(_) => {
            DialError::wrong_address(format!("{address} does not speak TLS; is it a ws:// address?"))
        }
        error => DialError::wrong_address(format!("TLS with {address} failed: {error}")),
    })
}

/// What to do about a certificate that failed verification. A `ca_file` does not help against a wrong name or date.
fn advice(reason: &str) -> String {
    match tls::advice(reason) {
        Some(advice) => advice.replace("ca_file", "transport.tls.ca_file"),
        None if reason.contains("not valid for name") => "check the host of the url".to_owned(),
        None => {
            "if it is the right one, put its authority, or this very certificate, into transport.tls.ca_file"
                .to_owned()
        }
    }
}
