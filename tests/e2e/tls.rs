//! TLS towards services and towards NATS: what is trusted, what is refused and how it is said, and no way around it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_nats::ConnectOptions;
use pontoon_testkit::{ConnectProxy, DaemonConfig, Dir, NatsServer, Sub0, eventually, until_some};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{PATIENCE, ask, instance, link, listen, next, start};

type Versions = &'static [&'static SupportedProtocolVersion];
const BOTH: Versions = &[&TLS13, &TLS12];
const ONLY_12: Versions = &[&TLS12];
const ONLY_13: Versions = &[&TLS13];
/// What a service here is reached by.
const LOOPBACK: [&str; 2] = ["localhost", "127.0.0.1"];

#[tokio::test]
async fn a_trusted_service_is_spoken_to_with_every_version_and_with_our_certificate() {
    let files = Files::new();
    let cases: [(&str, &str, Versions, bool, ProtocolVersion); 6] = [
        ("by_name", "localhost", BOTH, false, ProtocolVersion::TLSv1_3),
        ("by_address", "127.0.0.1", BOTH, false, ProtocolVersion::TLSv1_3),
        ("only_12", "localhost", ONLY_12, false, ProtocolVersion::TLSv1_2),
        ("only_13", "localhost", ONLY_13, false, ProtocolVersion::TLSv1_3),
        ("certificate_12", "localhost", ONLY_12, true, ProtocolVersion::TLSv1_2),
        ("certificate_13", "localhost", ONLY_13, true, ProtocolVersion::TLSv1_3),
    ];
    let nats = NatsServer::start().await;
    let mut config = DaemonConfig::new(&nats);
    let mut services = Vec::new();
    for (name, host, versions, demands, _) in cases {
        let service = Service::start(files.server("server", versions, demands)).await;
        let own = if demands { files.certificate("client") } else { String::new() };
        config = config.connector(name, "sub0", &service.settings(host, &(files.trust("ca") + &own)));
        services.push(service);
    }
    let mut daemon = start(config);
    let client = nats.client().await;
    for ((name, _, _, _, version), service) in cases.iter().zip(&services) {
        link(&mut daemon, name, "ready").await;
        let mut events = listen(&client, &format!("pontoon.event.sub0.{name}.>")).await;
        service.sub0.broadcast("tick", &json!({ "n": 1 }));
        next(&mut events, |_, body| body["action"] == "tick" && body["data"]["n"] == 1).await;
        let reply = ask(&client, &format!("pontoon.command.sub0.{name}.call.x"), r#"{"n":2}"#, &[]).await;
        assert_eq!((reply.status.as_str(), &reply.body["data"]["n"]), ("response", &json!(2)), "{name}");
        assert_eq!(service.versions(), [*version], "{name}");
    }
}

#[tokio::test]
async fn tls_goes_through_a_proxy_to_the_service_itself() {
    let (files, nats) = (Files::new(), NatsServer::start().await);
    let (service, proxy) =
        (Service::start(files.server("server", BOTH, true)).await, ConnectProxy::start().await);
    let lines = files.trust("ca") + &files.certificate("client");
    // As every client has it; the names that follow are looked up by the proxy alone.
    let config = DaemonConfig::new(&nats)
        .environment("https_proxy", &format!("http://u:canary-of-the-proxy@{}", proxy.address()))
        .connector("shop", "sub0", &service.settings("localhost", &lines));
    proxy.demand("Basic dTpjYW5hcnktb2YtdGhlLXByb3h5");
    let mut daemon = start(config);
    link(&mut daemon, "shop", "ready").await;
    let mut events = listen(&nats.client().await, "pontoon.event.sub0.shop.>").await;
    service.sub0.broadcast("tick", &json!({ "n": 1 }));
    next(&mut events, |_, body| body["action"] == "tick").await;
    let asked: Vec<_> = proxy.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(asked, [format!("CONNECT localhost:{}", service.address.port())]);
    assert!(
        !daemon.log().contains("canary-of-the-proxy") && !daemon.log().contains("Y2FuYXJ5"),
        "{}",
        daemon.log()
    );
}

#[tokio::test]
async fn a_self_signed_certificate_is_taken_for_the_server_that_it_names_if_it_is_the_one_in_the_ca_file() {
    let files = Files::new();
    for (name, hosts, until) in [
        ("own", &LOOPBACK[..], 2999),
        ("own-old", &LOOPBACK, 2001),
        ("own-elsewhere", &["other.example"], 2999),
        ("own-nameless", &[], 2999),
        ("twin", &LOOPBACK, 2999),
    ] {
        files.self_signed(name, hosts, until);
    }
    let both = Dir::new("authorities");
    let pems = ["ca", "own"].map(|name| fs::read_to_string(files.path(&format!("{name}.pem"))).unwrap());
    let several = format!("transport.tls.ca_file = {:?}\n", both.write("both.pem", &pems.concat()));
    let open = |name, versions| files.server(name, versions, false);
    let cases = [
        ("same_12", open("own", ONLY_12), files.trust("own"), "ready", [""; 2]),
        ("same_13", open("own", ONLY_13), files.trust("own"), "ready", [""; 2]),
        ("among_others", open("own", BOTH), several, "ready", [""; 2]),
        ("no_file", open("own", BOTH), String::new(), "wrong_address", ["CA:TRUE", "transport.tls.ca_file"]),
        // Of the same name, with another key.
        (
            "other",
            open("twin", BOTH),
            files.trust("own"),
            "wrong_address",
            ["CA:TRUE", "exactly this certificate"],
        ),
        ("old", open("own-old", BOTH), files.trust("own-old"), "wrong_address", ["expired", "replaced"]),
        (
            "elsewhere",
            open("own-elsewhere", BOTH),
            files.trust("own-elsewhere"),
            "wrong_address",
            ["not valid for name", "host of the url"],
        ),
        (
            "nameless",
            open("own-nameless", BOTH),
            files.trust("own-nameless"),
            "wrong_address",
            ["subjectAltName", "-addext"],
        ),
    ];
    let nats = NatsServer::start().await;
    let mut config = DaemonConfig::new(&nats);
    let mut services = Vec::new();
    for (name, server, lines, ..) in &cases {
        let service = Service::start(server.clone()).await;
        config = config.connector(name, "sub0", &service.settings("localhost", lines));
        services.push(service);
    }
    let mut daemon = start(config);
    for (name, _, _, phase, words) in &cases {
        let detail = link(&mut daemon, name, phase).await;
        assert!(words.iter().all(|word| detail.contains(word)), "{name}: {detail}");
    }
}

#[tokio::test]
async fn nats_with_a_self_signed_certificate_is_trusted_by_that_certificate() {
    let files = Files::new();
    files.self_signed("own", &LOOPBACK, 2999);
    files.self_signed("twin", &LOOPBACK, 2999);
    files.self_signed("own-nameless", &[], 2999);
    let sub0 = Sub0::start().await;
    let cases = [
        ("own", "own", true, ""),
        ("own", "twin", false, "nats.tls.ca_file"),
        ("own-nameless", "own-nameless", false, "subjectAltName"),
    ];
    for (shown, trusted, taken, words) in cases {
        let (cert, key) = (files.path(&format!("{shown}.pem")), files.path(&format!("{shown}-key.pem")));
        let tls = format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}");
        let nats = NatsServer::options().config(&tls).start().await;
        let config = DaemonConfig::new(&nats).with(&files.nats_settings(trusted, None));
        let mut daemon = start(config.sub0("shop", &sub0));
        let bus = until_some(PATIENCE, async || {
            let bus = instance(&mut daemon, "shop").await?["bus"].clone();
            let told = bus["detail"].as_str().is_some_and(|detail| detail.contains(':'));
            (bus["publishing"] == true || told).then_some(bus)
        });
        let bus = bus.await;
        assert_eq!(bus["publishing"], taken, "{shown}: {bus}");
        assert!(bus["detail"].as_str().unwrap_or_default().contains(words), "{shown}: {bus}");
    }
}

#[tokio::test]
async fn a_nats_server_that_begins_with_tls_is_spoken_to_so_or_the_setting_is_named() {
    // An old server may stand in for the current one; it does not know the option.
    if NatsServer::version() < vec![2, 10, 4] {
        return;
    }
    let files = Files::new();
    let first = files.nats("server").replace("tls {", "tls { handshake_first: true,");
    let (first, usual) = (
        NatsServer::options().config(&first).start().await,
        NatsServer::options().config(&files.nats("server")).start().await,
    );
    let sub0 = Sub0::start().await;
    let settings = files.nats_settings("ca", Some("client"));
    fs::create_dir_all(files.path("nats/context")).expect("a folder");
    files.0.write("nats/context/first.json", r#"{"tls_first":true}"#);
    let by_context = format!("{settings}nats.context = \"first\"");
    for (nats, lines, taken, words) in [
        (&first, format!("{settings}nats.tls.handshake_first = true"), true, ""),
        (&first, by_context, true, ""),
        (&first, settings.clone(), false, "set nats.tls.handshake_first = true"),
        (
            &usual,
            format!("{settings}nats.tls.handshake_first = true"),
            false,
            "leave nats.tls.handshake_first out",
        ),
    ] {
        let config = DaemonConfig::new(nats)
            .with(&lines)
            .environment("XDG_CONFIG_HOME", files.path("").to_str().expect("a name in UTF-8"));
        let mut daemon = start(config.sub0("shop", &sub0));
        let bus = until_some(PATIENCE, async || {
            let bus = instance(&mut daemon, "shop").await?["bus"].clone();
            let told = bus["detail"].as_str().is_some_and(|detail| detail.contains(';'));
            (bus["publishing"] == true || told).then_some(bus)
        });
        let bus = bus.await;
        assert_eq!(bus["publishing"], taken, "{lines}: {bus}");
        assert!(bus["detail"].as_str().unwrap_or_default().contains(words), "{lines}: {bus}");
    }
}

#[tokio::test]
async fn what_is_not_trusted_is_refused_and_the_failed_check_is_said() {
    let files = Files::new();
    let (trust, client) = (files.trust("ca"), files.certificate("client"));
    let demanding = |versions: Versions| files.server("server", versions, true);
    let open = |identity| files.server(identity, BOTH, false);
    let unknown = ["UnknownIssuer", "transport.tls.ca_file"];
    let uncertified = ["refused our certificate", "transport.tls.cert_file"];
    let mismatched = format!(
        "transport.tls.cert_file = {:?}\ntransport.tls.key_file = {:?}",
        files.path("client.pem"),
        files.path("stranger-key.pem")
    );
    let with = |own: &str| format!("{trust}{own}");
    let cases = [
        ("no_ca", open("server"), String::new(), "wrong_address", unknown),
        ("other_ca", open("server"), files.trust("other-ca"), "wrong_address", unknown),
        (
            "other_host",
            open("elsewhere"),
            with(""),
            "wrong_address",
            ["not valid for name", "host of the url"],
        ),
        ("expired", open("expired"), with(""), "wrong_address", ["expired", "replaced"]),
        ("not_yet", open("early"), with(""), "wrong_address", ["not valid yet", "clock"]),
        // Only TLS 1.2 says so within the handshake.
        ("none_12", demanding(ONLY_12), with(""), "credentials_refused", uncertified),
        ("none_13", demanding(ONLY_13), with(""), "credentials_refused", uncertified),
        (
            "stranger_12",
            demanding(ONLY_12),
            with(&files.certificate("stranger")),
            "credentials_refused",
            uncertified,
        ),
        (
            "stranger_13",
            demanding(ONLY_13),
            with(&files.certificate("stranger")),
            "credentials_refused",
            uncertified,
        ),
        (
            "outdated",
            demanding(BOTH),
            with(&files.certificate("outdated")),
            "credentials_refused",
            uncertified,
        ),
        (
            "mismatch",
            demanding(BOTH),
            with(&mismatched),
            "credentials_refused",
            ["client.pem", "cannot be used"],
        ),
    ];
    let nats = NatsServer::start().await;
    let mut config = DaemonConfig::new(&nats);
    let mut services = Vec::new();
    for (name, server, tls, ..) in &cases {
        let service = Service::start(server.clone()).await;
        config = config.connector(name, "sub0", &service.settings("localhost", tls));
        services.push(service);
    }
    // A neighbour that is well, so that refusals of others are seen to be none of its business.
    let well = Service::start(demanding(BOTH)).await;
    let mut daemon = start(config.connector("well", "sub0", &well.settings("localhost", &with(&client))));
    for ((name, _, _, phase, words), service) in cases.iter().zip(&services) {
        let detail = link(&mut daemon, name, phase).await;
        for word in words {
            assert!(detail.contains(word), "{name}: {detail}");
        }
        assert!(service.sub0.dials().is_empty(), "{name}: nothing came through");
    }
    link(&mut daemon, "well", "ready").await;
}

#[tokio::test]
async fn a_service_without_tls_is_never_spoken_to_in_plain_text() {
    const TOKEN: &str = "canary-of-plain-text";
    let answers = [
        (
            "http",
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
            "wrong_address",
            "does not speak TLS",
        ),
        (
            "redirect",
            "HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1/ws\r\nConnection: close\r\n\r\n",
            "wrong_address",
            "does not speak TLS",
        ),
        // A server that is being restarted hangs up as well, so this is no proof of a wrong address.
        ("hangs_up", "", "waiting", "may not speak TLS"),
    ];
    let nats = NatsServer::start().await;
    let mut config = DaemonConfig::new(&nats).environment("CANARY", TOKEN);
    let mut plain = Vec::new();
    for (name, answer, ..) in answers {
        let server = Plain::start(answer).await;
        let url = format!("url = \"wss://127.0.0.1:{}/ws\"\ntoken = {{ env = \"CANARY\" }}", server.port);
        config = config.connector(name, "sub0", &url);
        plain.push(server);
    }
    let mut daemon = start(config);
    for ((name, _, phase, words), server) in answers.iter().zip(&plain) {
        let detail = link(&mut daemon, name, phase).await;
        assert!(detail.contains(words), "{name}: {detail}");
        eventually(PATIENCE, async || server.heard().len() >= 3).await;
        for heard in server.heard() {
            assert!(
                heard.starts_with(&[0x16, 0x03]),
                "{name}: a dial begins with a TLS handshake: {heard:?}"
            );
            let text = String::from_utf8_lossy(&heard);
            assert!(!text.contains("GET ") && !text.contains(TOKEN), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn a_real_websocket_server_without_tls_sees_no_request() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let url = format!("url = \"wss://{}/ws\"", sub0.address());
    let mut daemon = start(DaemonConfig::new(&nats).connector("shop", "sub0", &url));
    let detail = until_some(PATIENCE, async || {
        let status = instance(&mut daemon, "shop").await?;
        status["links"][0]["detail"].as_str().map(str::to_owned)
    });
    let detail = detail.await;
    assert!(detail.contains("speak TLS"), "{detail}");
    eventually(PATIENCE, async || sub0.dials().len() >= 3).await;
    assert_eq!((sub0.requests().len(), sub0.upgrades()), (0, 0));
}

#[tokio::test]
async fn nats_is_spoken_to_over_tls_with_our_certificate() {
    let files = Files::new();
    let context = json!({
        "ca": files.path("ca.pem"), "cert": files.path("client.pem"), "key": files.path("client-key.pem")
    });
    fs::create_dir_all(files.path("nats/context")).expect("a folder");
    files.0.write("nats/context/secure.json", &context.to_string());
    let nats = NatsServer::options().config(&files.nats("server")).start().await;
    let options = ConnectOptions::new()
        .add_root_certificates(files.path("ca.pem"))
        .add_client_certificate(files.path("client.pem"), files.path("client-key.pem"));
    let client = options.connect(nats.url()).await.expect("the server takes our certificate");
    for lines in [files.nats_settings("ca", Some("client")), "nats.context = \"secure\"".to_owned()] {
        let sub0 = Sub0::start().await;
        let config = DaemonConfig::new(&nats)
            .with(&lines)
            .environment("XDG_CONFIG_HOME", files.path("").to_str().expect("a name in UTF-8"));
        let mut daemon = start(config.sub0("shop", &sub0));
        link(&mut daemon, "shop", "ready").await;
        eventually(PATIENCE, async || {
            instance(&mut daemon, "shop").await.is_some_and(|status| status["bus"]["publishing"] == true)
        })
        .await;
        let mut events = listen(&client, "pontoon.event.sub0.shop.>").await;
        sub0.broadcast("tick", &json!({ "n": 1 }));
        next(&mut events, |_, body| body["action"] == "tick").await;
        assert_eq!(ask(&client, "pontoon.command.sub0.shop.call.x", "{}", &[]).await.status, "response");
    }
}

#[tokio::test]
async fn a_nats_server_that_is_not_trusted_is_refused_and_the_failed_check_is_said() {
    let files = Files::new();
    let sub0 = Sub0::start().await;
    let serve = async |config: &str| NatsServer::options().without_jetstream().config(config).start().await;
    let secure = serve(&files.nats("server")).await;
    let elsewhere = serve(&files.nats("elsewhere")).await;
    let expired = serve(&files.nats("expired")).await;
    let plain = serve("").await;
    let cases = [
        ("wrong CA", &secure, files.nats_settings("other-ca", Some("client")), "nats.tls.ca_file"),
        ("no certificate", &secure, files.nats_settings("ca", None), "nats.tls.cert_file"),
        ("stranger", &secure, files.nats_settings("ca", Some("stranger")), "nats.tls.cert_file"),
        ("wrong host", &elsewhere, files.nats_settings("ca", Some("client")), "check the host in nats.url"),
        ("expired", &expired, files.nats_settings("ca", Some("client")), "it must be replaced"),
        ("plain", &plain, "nats.tls.required = true".to_owned(), "does not speak TLS"),
    ];
    let config = |nats: &NatsServer, lines: &str| DaemonConfig::new(nats).with(lines).sub0("shop", &sub0);
    let mut daemons: Vec<_> = cases.iter().map(|(_, nats, lines, _)| start(config(nats, lines))).collect();
    for ((name, nats, _, words), daemon) in cases.iter().zip(&mut daemons) {
        let bus = until_some(PATIENCE, async || {
            let bus = instance(daemon, "shop").await?["bus"].clone();
            // Until the first attempt has failed there is nothing to say.
            bus["detail"].as_str().is_some_and(|detail| detail.contains(':')).then_some(bus)
        });
        let bus = bus.await;
        let detail = bus["detail"].as_str().unwrap_or_default();
        assert_eq!((&bus["connected"], &bus["publishing"]), (&json!(false), &json!(false)), "{name}");
        assert!(detail.contains(words), "{name}: {detail}");
        assert!(detail.contains(&nats.address().to_string()), "{name}: {detail}");
    }
}

/// Authorities and certificates, as files.
struct Files(Dir);

impl Files {
    fn new() -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let authority = authority.expect("a certificate");
        self.0.write(&format!("{name}.pem"), &authority.pem());
        authority
    }

    fn issue(
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
    fn self_signed(&self, name: &str, hosts: &[&str], until: i32) {
        let mut params = named(LOOPBACK[0], hosts);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.0.write(&format!("{name}.pem"), &certificate.pem());
        self.0.write(&format!("{name}-key.pem"), &key.serialize_pem());
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

    /// Lines for the connection to NATS.
    fn nats_settings(&self, authority: &str, own: Option<&str>) -> String {
        let own = own.map(|name| self.certificate(name)).unwrap_or_default();
        (self.trust(authority) + &own).replace("transport.", "nats.")
    }

    /// What a nats-server needs to show this certificate, and to demand one of ours.
    fn nats(&self, name: &str) -> String {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        let ca = self.path("ca.pem");
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}")
    }

    /// A server that shows this certificate, speaks these versions, and may demand a certificate of ours.
    fn server(&self, name: &str, versions: Versions, demands: bool) -> Arc<ServerConfig> {
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

/// A Sub0 behind TLS, as behind a proxy that ends it.
struct Service {
    sub0: Sub0,
    address: SocketAddr,
    versions: Arc<Mutex<Vec<ProtocolVersion>>>,
}

impl Service {
    async fn start(config: Arc<ServerConfig>) -> Self {
        let sub0 = Sub0::start().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let versions = Arc::<Mutex<Vec<_>>>::default();
        let (acceptor, behind, spoken) = (TlsAcceptor::from(config), sub0.address(), versions.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, spoken) = (acceptor.clone(), spoken.clone());
                tokio::spawn(async move {
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(mut secure) => {
                            spoken.lock().unwrap().extend(secure.get_ref().1.protocol_version());
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
        Self { sub0, address, versions }
    }

    /// The settings of an instance, with more lines.
    fn settings(&self, host: &str, lines: &str) -> String {
        format!("url = \"wss://{host}:{}/ws\"\n{lines}", self.address.port())
    }

    /// Which versions were agreed on, one for each connection.
    fn versions(&self) -> Vec<ProtocolVersion> {
        self.versions.lock().unwrap().clone()
    }
}

/// A server that speaks no TLS, and keeps what it hears.
struct Plain {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Plain {
    /// Answers everything so, and hangs up.
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let kept = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut bytes = Vec::with_capacity(16 * 1024);
                    let _ = stream.read_buf(&mut bytes).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut bytes).await;
                    kept.lock().unwrap().push(bytes);
                });
            }
        });
        Self { port, heard }
    }

    /// What was heard on each connection that is over.
    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }
}
