//! TLS with this engine, which is OpenSSL's: what is trusted, what is refused, and our certificate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pontoon_testkit::{DaemonConfig, Dir, NatsServer, SocketIoServer, until_some};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::ENGINE;
use crate::support::{DEADLINE, start};

type Version = &'static SupportedProtocolVersion;

#[tokio::test]
async fn a_service_is_spoken_to_only_if_it_is_trusted_and_trusts_us() {
    let files = Files::new();
    let (ca, ours) = (files.trust("ca"), files.certificate("client"));
    let both = format!("{ca}{ours}");
    let own = files.trust("own");
    let cases: [(&str, &str, Version, bool, &str, &str, &str); 11] = [
        ("trusted_12", "server", &TLS12, false, &ca, "ready", ""),
        ("trusted_13", "server", &TLS13, false, &ca, "ready", ""),
        ("certified_12", "server", &TLS12, true, &both, "ready", ""),
        ("certified_13", "server", &TLS13, true, &both, "ready", ""),
        // Its own authority, as `openssl req -x509` makes it.
        ("own_12", "own", &TLS12, false, &own, "ready", ""),
        ("own_13", "own", &TLS13, false, &own, "ready", ""),
        ("no_ca", "server", &TLS13, false, "", "wrong_address", "transport.tls.ca_file"),
        (
            "other_ca",
            "server",
            &TLS13,
            false,
            &files.trust("other"),
            "wrong_address",
            "transport.tls.ca_file",
        ),
        ("other_host", "elsewhere", &TLS13, false, &ca, "wrong_address", "certificate"),
        ("uncertified_12", "server", &TLS12, true, &ca, "credentials_refused", "transport.tls.cert_file"),
        ("uncertified_13", "server", &TLS13, true, &ca, "credentials_refused", "transport.tls.cert_file"),
    ];
    let nats = NatsServer::start().await;
    let service = SocketIoServer::start().await;
    let mut config = DaemonConfig::new(&nats);
    for (name, certificate, version, demands, lines, ..) in &cases {
        let server = files.server(certificate, version, *demands);
        let port = behind_tls(server, service.address()).await.port();
        let settings = format!("url = \"https://localhost:{port}\"\n{ENGINE}{lines}");
        config = config.connector(name, "socketio", &settings);
    }
    let mut daemon = start(config);
    for (name, _, _, _, _, phase, words) in &cases {
        let mut last = Value::Null;
        let is_so = async || {
            let (_, text) = daemon.get("/status").await;
            let status: Value = serde_json::from_str(&text).ok()?;
            let instances = status["instances"].as_array()?;
            last = instances.iter().find(|instance| instance["instance"] == *name)?["links"][0].clone();
            (last["phase"] == *phase).then(|| last["detail"].as_str().unwrap_or_default().to_owned())
        };
        let Ok(detail) = tokio::time::timeout(DEADLINE, until_some(DEADLINE * 2, is_so)).await else {
            panic!("{name} is not {phase}: {last}\n{}", daemon.log());
        };
        assert!(detail.contains(words), "{name}: {detail}");
    }
    service.joined(6, DEADLINE).await;
    assert_eq!(service.upgrades(), 6, "nothing else came through");
}

/// A service behind TLS, as behind a proxy that ends it.
async fn behind_tls(config: Arc<ServerConfig>, behind: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor.accept(stream).into_fallible().await {
                    Ok(mut secure) => {
                        let mut plain = TcpStream::connect(behind).await.expect("the service is there");
                        let _ = copy_bidirectional(&mut secure, &mut plain).await;
                    }
                    // The alert has been sent; a socket closed with unread bytes could take it back.
                    Err((_, mut stream)) => {
                        let _ = copy(&mut stream, &mut sink()).await;
                    }
                }
            });
        }
    });
    address
}

/// Authorities and certificates, as files.
struct Files(Dir);

impl Files {
    fn new() -> Self {
        let files = Self(Dir::new("certificates"));
        let mut own = named("own", &["localhost"]);
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        files.0.write("own.pem", &own.self_signed(&key).expect("a certificate").pem());
        files.0.write("own-key.pem", &key.serialize_pem());
        let authority = |name: &str| {
            let mut params = named(name, &[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
            let authority = authority.expect("a certificate");
            files.0.write(&format!("{name}.pem"), &authority.pem());
            authority
        };
        let (ca, _) = (authority("ca"), authority("other"));
        for (name, host) in
            [("server", "localhost"), ("elsewhere", "other.example"), ("client", "client.example")]
        {
            let key = KeyPair::generate().expect("a key");
            let certificate = named(name, &[host]).signed_by(&key, &ca).expect("a certificate");
            files.0.write(&format!("{name}.pem"), &certificate.pem());
            files.0.write(&format!("{name}-key.pem"), &key.serialize_pem());
        }
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Lines of an instance that trust this authority.
    fn trust(&self, authority: &str) -> String {
        format!("transport.tls.ca_file = {:?}\n", self.path(&format!("{authority}.pem")))
    }

    /// Lines of an instance that show this certificate.
    fn certificate(&self, name: &str) -> String {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        format!("transport.tls.cert_file = {cert:?}\ntransport.tls.key_file = {key:?}\n")
    }

    fn server(&self, name: &str, version: Version, demands: bool) -> Arc<ServerConfig> {
        let certificate = |name: &str| {
            CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).expect("a certificate")
        };
        // The first test in the process that needs it sets it for all.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = ServerConfig::builder_with_protocol_versions(&[version]);
        let builder = if demands {
            let mut roots = RootCertStore::empty();
            roots.add(certificate("ca")).expect("an authority");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}-key.pem"))).expect("a key");
        Arc::new(
            builder.with_single_cert(vec![certificate(name)], key).expect("the key is the certificate's"),
        )
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
