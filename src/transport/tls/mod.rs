//! TLS: trusted certificates and our own, as a client of services and NATS, and as a server.

mod reloading;
mod verifier;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::listener::Identity;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

use self::verifier::Verifier;
use crate::settings::Tls;

pub use verifier::advice;

/// How long loaded files are used before they are read again.
const FRESH: Duration = Duration::from_secs(60);

/// Loads trust and certificates when they are needed.
#[derive(Debug)]
pub struct Store {
    config: Tls,
    trust: Trust,
    loaded: Mutex<Option<(Instant, Loaded)>>,
}

/// What is trusted besides a `ca_file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities.
    WithSystem,
    /// Nothing, if there is a `ca_file`.
    FileAlone,
}

/// What was loaded.
#[derive(Debug, Clone)]
struct Loaded {
    client: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl Store {
    /// A store with nothing loaded yet.
    pub fn new(config: Tls, trust: Trust) -> Self {
        Self { config, trust, loaded: Mutex::new(None) }
    }

    /// The configuration of a client.
    ///
    /// # Errors
    /// A message with the file that is missing or wrong.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        self.loaded().map(|loaded| loaded.client)
    }

    /// A configuration for a client that keeps it: files are read again for each connection, as by [`Store::client`].
    pub fn reloading(self) -> ClientConfig {
        let store = Arc::new(self);
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(store.clone())
            .with_client_cert_resolver(store);
        // A resumed session is not verified again, even if the files have changed.
        config.resumption = Resumption::disabled();
        config
    }

    fn verifier(&self) -> Result<Arc<Verifier>, Error> {
        self.loaded().map(|loaded| loaded.verifier).map_err(Error::General)
    }

    fn loaded(&self) -> Result<Loaded, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some((at, now)) if at.elapsed() < FRESH => Ok(now.clone()),
            _ => {
                let now = load(&self.config, self.trust)?;
                *loaded = Some((Instant::now(), now.clone()));
                Ok(now)
            }
        }
    }
}

fn load(tls: &Tls, trust: Trust) -> Result<Loaded, String> {
    let mut roots = RootCertStore::empty();
    let mut listed = Vec::new();
    if let Some(file) = &tls.ca_file {
        listed = certificates(file)?;
        let (added, _) = roots.add_parsable_certificates(listed.iter().cloned());
        if added == 0 {
            return Err(format!("the ca_file {} holds no certificate (PEM)", file.display()));
        }
    }
    if trust == Trust::WithSystem || tls.ca_file.is_none() {
        // System certificates that cannot be read are skipped.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let webpki = WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|_| {
        "the system has no certificate authorities; install them (ca-certificates), or set ca_file".to_owned()
    })?;
    let verifier = Arc::new(Verifier { webpki, listed });
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier.clone());
    let client = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key_file)) => builder
            .with_client_auth_cert(certificates(cert)?, key(key_file)?)
            .map_err(|error| format!("the certificate {} cannot be used: {error}", cert.display()))?,
        _ => builder.with_no_client_auth(),
    };
    Ok(Loaded { client: Arc::new(client), verifier })
}

/// The configuration of a server.
///
/// # Errors
/// A sentence that names the file that is missing or wrong.
pub fn server(identity: &Identity) -> Result<Arc<ServerConfig>, String> {
    let Identity { cert_file, key_file } = identity;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates(cert_file)?, key(key_file)?)
        .map_err(|error| format!("the certificate {} cannot be used: {error}", cert_file.display()))?;
    Ok(Arc::new(config))
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file)
        .map_err(|error| format!("the key_file {} cannot be used: {error}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        format!("the certificate file {} cannot be read: {error}", file.display())
    };
    let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    found.collect::<Result<_, _>>().map_err(|error| wrong(&error))
}

/// The error of rustls in an I/O error, if it is one.
pub fn explain(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}
