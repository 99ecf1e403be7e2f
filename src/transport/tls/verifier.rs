//! Which servers are trusted: those that webpki verifies, and a self-signed certificate that is itself in the `ca_file`.
//!
//! `openssl req -x509` marks the certificate that it makes as an authority (CA:TRUE). webpki takes no authority for a
//! server, even one in the `ca_file`; OpenSSL does, if the certificate is trusted itself. So does this verifier, if the
//! server's certificate is byte for byte one of the `ca_file`: the operator has named this server. webpki looks at the
//! time before it looks at that mark, so only a valid certificate comes so far; the name is checked here; the signature of
//! the handshake proves the key, as always. What is left out is the purpose (extended key usage), and who signed the
//! certificate, which is what `ca_file` answers.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// Checks a server's certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    /// The certificates of the `ca_file`.
    pub(super) listed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(error) if is_authority(&error) && self.listed.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether webpki refused the certificate for being an authority's.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return false };
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What to do about a certificate that was refused, by the text of the error. `None` if trusting its authority is all that
/// can be advised.
pub fn advice(refusal: &str) -> Option<&'static str> {
    Some(if refusal.contains("CaUsedAsEndEntity") {
        "it is the certificate of an authority (CA:TRUE) and does not stand in ca_file; put exactly this certificate there, or give the server one that the authority has signed"
    } else if refusal.contains("UnsupportedCertVersion") {
        "it is of X.509 version 1, which names no host; make one of version 3 with a subjectAltName"
    } else if refusal.contains("not valid for any names") {
        "it has no subjectAltName, and the common name does not count; make it with one, as by openssl req -x509 -addext subjectAltName=DNS:host (or IP:address)"
    } else if ["expired", "not valid yet"].into_iter().any(|word| refusal.contains(word)) {
        "it must be replaced there, unless a clock is wrong"
    } else {
        return None;
    })
}
