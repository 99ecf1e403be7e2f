//! TLS towards services and towards NATS: what is trusted, what is refused and how it is reported, and no way around it.

mod files;
mod nats;
mod service;

use std::fs;

use pontoon_testkit::{ConnectProxy, DaemonConfig, Dir, NatsServer, Sub0, eventually, until_some};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use serde_json::json;

use self::files::Files;
use self::service::{Plain, Service};
use crate::support::{DEADLINE, ask_when_served, instance, link, listen, next, start};

type Versions = &'static [&'static SupportedProtocolVersion];
const BOTH: Versions = &[&TLS13, &TLS12];
const ONLY_12: Versions = &[&TLS12];
const ONLY_13: Versions = &[&TLS13];
/// What a service here is reached by.
const LOOPBACK: [&str; 2] = ["localhost", "127.0.0.1"];

#[tokio::test]
async fn a_trusted_service_is_reached_with_every_version_and_with_our_certificate() {
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
        let command = format!("pontoon.command.sub0.{name}.call.x");
        let reply = ask_when_served(&client, &command, r#"{"n":2}"#).await;
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
async fn what_is_not_trusted_is_refused_and_the_failed_check_is_reported() {
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
        // Only TLS 1.2 reports it within the handshake.
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
    // A neighbour that is well, so that refusals of others are seen not to affect it.
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
async fn a_service_without_tls_is_never_sent_plain_text() {
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
        // A server that is being restarted hangs up as well, so this is not a proof of a wrong address.
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
        eventually(DEADLINE, async || server.received().len() >= 3).await;
        for received in server.received() {
            assert!(
                received.starts_with(&[0x16, 0x03]),
                "{name}: a dial begins with a TLS handshake: {received:?}"
            );
            let text = String::from_utf8_lossy(&received);
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
    let detail = until_some(DEADLINE, async || {
        let status = instance(&mut daemon, "shop").await?;
        status["links"][0]["detail"].as_str().map(str::to_owned)
    });
    let detail = detail.await;
    assert!(detail.contains("speak TLS"), "{detail}");
    eventually(DEADLINE, async || sub0.dials().len() >= 3).await;
    assert_eq!((sub0.requests().len(), sub0.upgrades()), (0, 0));
}
