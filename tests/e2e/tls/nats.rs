//! TLS towards NATS: our certificate, the server's, and what is reported when one is refused.

use std::fs;

use async_nats::ConnectOptions;
use pontoon_testkit::{DaemonConfig, NatsServer, Sub0, eventually, until_some};
use serde_json::json;

use super::LOOPBACK;
use super::files::Files;
use crate::support::{DEADLINE, ask_when_served, instance, link, listen, next, start};

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
        let bus = until_some(DEADLINE, async || {
            let bus = instance(&mut daemon, "shop").await?["bus"].clone();
            let reported = bus["detail"].as_str().is_some_and(|detail| detail.contains(':'));
            (bus["publishing"] == true || reported).then_some(bus)
        });
        let bus = bus.await;
        assert_eq!(bus["publishing"], taken, "{shown}: {bus}");
        assert!(bus["detail"].as_str().unwrap_or_default().contains(words), "{shown}: {bus}");
    }
}

#[tokio::test]
async fn a_nats_server_that_begins_with_tls_is_reached_or_the_setting_is_named() {
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
        let bus = until_some(DEADLINE, async || {
            let bus = instance(&mut daemon, "shop").await?["bus"].clone();
            let reported = bus["detail"].as_str().is_some_and(|detail| detail.contains(';'));
            (bus["publishing"] == true || reported).then_some(bus)
        });
        let bus = bus.await;
        assert_eq!(bus["publishing"], taken, "{lines}: {bus}");
        assert!(bus["detail"].as_str().unwrap_or_default().contains(words), "{lines}: {bus}");
    }
}

#[tokio::test]
async fn nats_is_reached_over_tls_with_our_certificate() {
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
        eventually(DEADLINE, async || {
            instance(&mut daemon, "shop").await.is_some_and(|status| status["bus"]["publishing"] == true)
        })
        .await;
        let mut events = listen(&client, "pontoon.event.sub0.shop.>").await;
        sub0.broadcast("tick", &json!({ "n": 1 }));
        next(&mut events, |_, body| body["action"] == "tick").await;
        let reply = ask_when_served(&client, "pontoon.command.sub0.shop.call.x", "{}").await;
        assert_eq!(reply.status, "response");
    }
}

#[tokio::test]
async fn a_nats_server_that_is_not_trusted_is_refused_and_the_failed_check_is_reported() {
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
        let bus = until_some(DEADLINE, async || {
            let bus = instance(daemon, "shop").await?["bus"].clone();
            // Until the first attempt has failed there is no detail.
            bus["detail"].as_str().is_some_and(|detail| detail.contains(':')).then_some(bus)
        });
        let bus = bus.await;
        let detail = bus["detail"].as_str().unwrap_or_default();
        assert_eq!((&bus["connected"], &bus["publishing"]), (&json!(false), &json!(false)), "{name}");
        assert!(detail.contains(words), "{name}: {detail}");
        assert!(detail.contains(&nats.address().to_string()), "{name}: {detail}");
    }
}
