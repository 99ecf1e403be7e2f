//! TLS towards services, the system's authorities, a file of more, and our own certificate; and for those that come to us.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::door::Identity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::Tls;

/// How long what was loaded is used, so that files can be replaced while many links dial at once cheaply.
const FRESH: Duration = Duration::from_secs(60);

/// Loads trust and certificates when they are needed.
#[derive(Debug)]
pub struct Store {
    config: Tls,
    loaded: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

impl Store {
    /// Nothing is loaded yet.
    pub fn new(config: Tls) -> Self {
        Self { config, loaded: Mutex::new(None) }
    }

    /// A client's configuration.
    ///
    /// # Errors
    /// A sentence that names the file that is missing or wrong.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some((at, config)) if at.elapsed() < FRESH => Ok(config.clone()),
            _ => {
                let config = Arc::new(load(&self.config)?);
                *loaded = Some((Instant::now(), config.clone()));
                Ok(config)
            }
        }
    }
}

fn load(tls: &Tls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // A system certificate that cannot be read is no reason to trust none of the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &tls.ca_file {
        let (added, _) = roots.add_parsable_certificates(certificates(file)?);
        if added == 0 {
            return Err(format!("the ca_file {} holds no certificate (PEM)", file.display()));
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key_file)) => builder
            .with_client_auth_cert(certificates(cert)?, key(key_file)?)
            .map_err(|error| format!("the certificate {} cannot be used: {error}", cert.display())),
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// A server's configuration.
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

/// Says what a failed handshake means: whose fault it is, and which check failed.
pub fn explain(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}
