//! Certificates and their authorities, as files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pontoon_testkit::Dir;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::{LOOPBACK, Versions};

/// Authorities and certificates, as files.
pub(super) struct Files(pub(super) Dir);

impl Files {
    pub(super) fn new() -> Self {
        let files = Self(Dir::new("certificates"));
        let (ca, other) = (files.authority("ca"), files.authority("other-ca"));
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        files.issue("server", &ca, &LOOPBACK, &server, |_| {});
        files.issue("elsewhere", &ca, &["other.example"], &server, |_| {});
        files
            .issue("expired", &ca, &LOOPBACK, &server, |params| params.not_after = date_time_ymd(2001, 1, 1));
        files.issue("early", &ca, &LOOPBACK, &server, |params| params.not_before = date_time_ymd(2999, 1, 1));
        files.issue("client", &ca, &[], &client, |_| {});
        files.issue("outdated", &ca, &[], &client, |params| params.not_after = date_time_ymd(2001, 1, 1));
        files.issue("stranger", &other, &[], &client, |_| {});
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let authority = authority.expect("a certificate");
        self.0.write(&format!("{name}.pem"), &authority.pem());
        authority
    }

    pub(super) fn issue(
        &self,
        name: &str,
        by: &CertifiedIssuer<'static, KeyPair>,
        hosts: &[&str],
        usage: &ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = named(name, hosts);
        params.extended_key_usages = vec![usage.clone()];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, by).expect("a certificate");
        self.0.write(&format!("{name}.pem"), &certificate.pem());
        self.0.write(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    /// As `openssl req -x509` makes it: its own authority (CA:TRUE), and a server's certificate as well.
    pub(super) fn self_signed(&self, name: &str, hosts: &[&str], until: i32) {
        let mut params = named(LOOPBACK[0], hosts);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.0.write(&format!("{name}.pem"), &certificate.pem());
        self.0.write(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    /// Lines of an instance that trust this authority.
    pub(super) fn trust(&self, authority: &str) -> String {
        format!("transport.tls.ca_file = {:?}\n", self.path(&format!("{authority}.pem")))
    }

    /// Lines of an instance that show this certificate.
    pub(super) fn certificate(&self, name: &str) -> String {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        format!("transport.tls.cert_file = {cert:?}\ntransport.tls.key_file = {key:?}\n")
    }

    /// Lines for the connection to NATS.
    pub(super) fn nats_settings(&self, authority: &str, own: Option<&str>) -> String {
        let own = own.map(|name| self.certificate(name)).unwrap_or_default();
        (self.trust(authority) + &own).replace("transport.", "nats.")
    }

    /// What a nats-server needs to show this certificate, and to demand a client's.
    pub(super) fn nats(&self, name: &str) -> String {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        let ca = self.path("ca.pem");
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}")
    }

    /// A server that shows this certificate, supports these versions, and may demand a client's.
    pub(super) fn server(&self, name: &str, versions: Versions, demands: bool) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_protocol_versions(versions);
        let builder = if demands {
            let mut roots = RootCertStore::empty();
            roots.add(certificate(&self.path("ca.pem"))).expect("an authority");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![certificate(&self.path(&format!("{name}.pem")))];
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}-key.pem"))).expect("a key");
        Arc::new(builder.with_single_cert(chain, key).expect("the key is the certificate's"))
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn certificate(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("a certificate")
}
