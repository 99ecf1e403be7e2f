//! A NATS server that is not as it should be: the daemon reports what to do, keeps running, and recovers by itself.

use async_nats::jetstream::{self, stream};
use pontoon_testkit::{DaemonConfig, NatsServer, Sub0, eventually};
use serde_json::json;

use crate::support::{DEADLINE, Fixture, contents, instance, numbered, numbers, start};

#[tokio::test]
async fn a_missing_jetstream_is_reported_and_core_mode_works() {
    let options = || NatsServer::options().without_jetstream();
    let mut fixture = Fixture::unconnected(options(), "").await;
    let detail = detail(&mut fixture, "no JetStream").await;
    assert!(detail.contains("delivery.mode = \"core\""), "{detail}");
    fixture.sub0.connected(1, DEADLINE).await;
    let fixture = Fixture::with(options(), "delivery.mode = \"core\"").await;
    assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "response");
}

#[tokio::test]
async fn a_missing_stream_that_may_not_be_created_is_reported_and_waited_for() {
    let mut fixture = Fixture::unconnected(NatsServer::options(), "delivery.provision = false").await;
    let detail = detail(&mut fixture, "PONTOON_SHOP is missing").await;
    assert!(
        detail.contains("pontoon.event.sub0.shop.>") && detail.contains("delivery.provision"),
        "{detail}"
    );
    fixture.sub0.connected(1, DEADLINE).await;
    assert_eq!(fixture.sub0.blast(100, numbered).await, 1);
    create(&fixture, "PONTOON_SHOP", "pontoon.event.sub0.shop.>").await;
    fixture.status(|status| status["bus"]["publishing"] == true).await;
    fixture.at_rest(100).await;
    assert_eq!(numbers(&contents(&fixture.nats, "PONTOON_SHOP").await).len(), 100);
}

#[tokio::test]
async fn a_stream_that_vanishes_is_made_again_and_a_gap_is_published() {
    let mut fixture = Fixture::start().await;
    assert_eq!(fixture.sub0.blast(100, numbered).await, 1);
    fixture.at_rest(100).await;
    jetstream::new(fixture.client.clone()).delete_stream("PONTOON_SHOP").await.expect("deleted");
    assert_eq!(fixture.sub0.blast(100, |number| numbered(number + 100)).await, 1);
    fixture.at_rest(201).await;
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    assert!(numbers(&events) == (100..200).collect::<Vec<_>>());
    assert!(events.iter().any(|(_, body)| body["reason"] == "stream_reset"));
}

#[tokio::test]
async fn a_stream_that_others_may_write_needs_best_effort() {
    let lines = "delivery.stream = \"ALL\"";
    let mut fixture = Fixture::unconnected(NatsServer::options().every_right(), lines).await;
    create(&fixture, "ALL", "pontoon.event.>").await;
    // The daemon may have been first; then its own stream is there, and takes just what is ours.
    let taken = jetstream::new(fixture.client.clone()).get_stream("ALL").await.expect("there");
    if taken.cached_info().config.subjects == ["pontoon.event.>"] {
        let detail = detail(&mut fixture, "others may write").await;
        assert!(detail.contains("best_effort"), "{detail}");
    }
    let mut fixture = Fixture::unconnected(
        NatsServer::options().every_right(),
        "delivery.provision = false\ndelivery.stream = \"ALL\"\ndelivery.ordering = \"best_effort\"",
    )
    .await;
    create(&fixture, "ALL", "pontoon.event.>").await;
    fixture.sub0.connected(1, DEADLINE).await;
    assert_eq!(fixture.sub0.blast(5_000, numbered).await, 1);
    fixture.nats.kill();
    fixture.nats.restart().await;
    fixture.at_rest(5_000).await;
    let mut kept = numbers(&contents(&fixture.nats, "ALL").await);
    kept.sort_unstable();
    assert!(kept == (0..5_000).collect::<Vec<_>>(), "none lost, none twice");
}

#[tokio::test]
async fn a_foreign_message_in_our_stream_is_survived() {
    let mut fixture = Fixture::start().await;
    assert_eq!(fixture.sub0.blast(100, numbered).await, 1);
    fixture.at_rest(100).await;
    let jetstream = jetstream::new(fixture.client.clone());
    let stray = jetstream.publish("pontoon.event.sub0.shop.stray.x._", "{}".into()).await.expect("published");
    stray.await.expect("stored");
    assert_eq!(fixture.sub0.blast(100, |number| numbered(number + 100)).await, 1);
    fixture.at_rest(200).await;
    // The stranger's message may have taken a place in the order, but no event is lost or stored twice.
    let mut kept = numbers(&contents(&fixture.nats, "PONTOON_SHOP").await);
    kept.sort_unstable();
    assert!(kept == (0..200).collect::<Vec<_>>(), "{kept:?}");
    fixture.daemon.logs("best_effort").await;
}

#[tokio::test]
async fn wrong_credentials_are_reported_and_right_ones_are_taken_up() {
    let users = "authorization { user: pontoon, password: right }";
    for (password, good) in [("wrong", false), ("right", true)] {
        let nats = NatsServer::options().config(users).start().await;
        let sub0 = Sub0::start().await;
        let config = DaemonConfig::new(&nats)
            .with("nats.user = \"pontoon\"\nnats.password = { env = \"NATS_PW\" }")
            .environment("NATS_PW", password)
            .sub0("shop", &sub0);
        let mut daemon = start(config);
        sub0.connected(1, DEADLINE).await;
        let found = pontoon_testkit::until_some(DEADLINE, async || {
            let (_, text) = daemon.get("/status").await;
            let status: serde_json::Value = serde_json::from_str(&text).ok()?;
            let bus = &status["instances"][0]["bus"];
            match good {
                true => (bus["publishing"] == true).then(String::new),
                false => {
                    bus["detail"].as_str().filter(|text| text.contains("credentials")).map(str::to_owned)
                }
            }
        });
        let detail = found.await;
        assert!(good || detail.contains("nats.user"), "{detail}");
        if good {
            daemon.ready(DEADLINE).await;
        } else {
            let (code, text) = daemon.get("/readyz").await;
            assert_eq!(code, 503);
            assert!(
                text.contains("shop: not subscribed to commands yet: NATS refused our credentials"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn the_daemon_starts_without_nats_and_catches_up() {
    let mut nats = NatsServer::start().await;
    nats.kill();
    let sub0 = Sub0::start().await;
    let daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    sub0.broadcast("tick", &json!({"n": 0}));
    nats.restart().await;
    let client = nats.client().await;
    let mut fixture = Fixture { daemon, sub0, nats, client };
    fixture.at_rest(1).await;
    crate::support::filled(&fixture.nats, "PONTOON_SHOP", 1, DEADLINE).await;
    assert_eq!(numbers(&contents(&fixture.nats, "PONTOON_SHOP").await), [0]);
}

#[tokio::test]
async fn no_other_responder_can_confirm_an_event() {
    for ordering in ["strict", "best_effort"] {
        let mut fixture =
            Fixture::with(NatsServer::options(), &format!("delivery.ordering = \"{ordering}\"")).await;
        let mut events = crate::support::listen(&fixture.client, "pontoon.event.>").await;
        let client = fixture.client.clone();
        // Answers every event as a careless responder would.
        let forger = tokio::spawn(async move {
            while let Some(event) = futures_util::StreamExt::next(&mut events).await {
                if let Some(reply) = event.reply {
                    client.publish(reply, "{}".into()).await.expect("published");
                }
            }
        });
        assert_eq!(fixture.sub0.blast(1_000, numbered).await, 1);
        fixture.at_rest(1_000).await;
        forger.abort();
        assert!(
            numbers(&contents(&fixture.nats, "PONTOON_SHOP").await) == (0..1_000).collect::<Vec<_>>(),
            "{ordering}"
        );
    }
}

#[tokio::test]
async fn in_core_mode_a_publish_that_is_not_allowed_is_not_taken_for_done() {
    let permissions = r#"authorization { users = [
        { user: all, password: a }
        { user: pontoon, password: p, permissions: { publish: { deny: ["pontoon.event.>"] } } }
    ] }"#;
    let nats = NatsServer::options().config(permissions).start().await;
    let sub0 = Sub0::start().await;
    let lines = "delivery.mode = \"core\"\nnats.user = \"pontoon\"\nnats.password = { env = \"NATS_PW\" }";
    let config = DaemonConfig::new(&nats).with(lines).environment("NATS_PW", "p").sub0("shop", &sub0);
    let daemon = start(config);
    let options = async_nats::ConnectOptions::with_user_and_password("all".into(), "a".into());
    let client = options.connect(nats.url()).await.expect("connected");
    let mut fixture = Fixture { daemon, sub0, nats, client };
    fixture.sub0.connected(1, DEADLINE).await;
    let detail = detail(&mut fixture, "Permissions Violation").await;
    assert!(detail.contains("pontoon.event"), "{detail}");
    let metrics = fixture.daemon.metrics().await;
    let labels = [("pontoon_instance", "shop"), ("type", "sub0")];
    assert_eq!(metrics.value("pontoon_events_published_total", &labels), Some(0.0));
}

#[tokio::test]
async fn what_is_not_allowed_for_some_instances_does_not_keep_another_on_their_connection_from_publishing() {
    // One for each thread, and by name before the one that is allowed.
    let cores = std::thread::available_parallelism().unwrap().get();
    let denied: Vec<_> = (0..cores).map(|number| format!("denied_{number}")).collect();
    let inboxes: Vec<_> = denied.iter().map(|name| format!("\"_INBOX_{name}.>\"")).collect();
    let permissions = format!(
        "authorization {{ users = [
            {{ user: all, password: a }}
            {{ user: pontoon, password: p, permissions: {{ subscribe: {{ deny: [{}] }} }} }}
        ] }}",
        inboxes.join(", ")
    );
    let nats = NatsServer::options().config(&permissions).start().await;
    let (sub0, other) = (Sub0::start().await, Sub0::start().await);
    let lines = "nats.user = \"pontoon\"\nnats.password = { env = \"NATS_PW\" }";
    let config = DaemonConfig::new(&nats).with(lines).environment("NATS_PW", "p");
    let config = denied.iter().fold(config, |config, name| config.sub0(name, &other));
    let mut daemon = start(config.sub0("shop", &sub0));
    for name in &denied {
        eventually(DEADLINE, async || {
            let status = instance(&mut daemon, name).await.unwrap_or_default();
            let detail = status["bus"]["detail"].as_str().unwrap_or_default().to_ascii_lowercase();
            detail.contains("permissions violation for subscription to \"_inbox_denied")
        })
        .await;
    }
    sub0.connected(1, DEADLINE).await;
    let sent = 100;
    for number in 0..sent {
        sub0.broadcast("tick", &json!({ "n": number }));
    }
    let labels = [("pontoon_instance", "shop"), ("type", "sub0")];
    eventually(DEADLINE, async || {
        let published = daemon.metrics().await.value("pontoon_events_published_total", &labels);
        published > Some(f64::from(sent))
    })
    .await;
    let again = daemon.logged("publishing starts over");
    assert!(again.iter().all(|line| line["instance"] != "shop"), "{again:?}");
}

async fn detail(fixture: &mut Fixture, words: &str) -> String {
    let detail_of =
        |status: &serde_json::Value| status["bus"]["detail"].as_str().unwrap_or_default().to_owned();
    detail_of(&fixture.status(|status| detail_of(status).contains(words)).await)
}

async fn create(fixture: &Fixture, name: &str, subject: &str) {
    let config = stream::Config { name: name.into(), subjects: vec![subject.into()], ..Default::default() };
    // Two may make it at once; then it is there.
    let _ = jetstream::new(fixture.client.clone()).create_stream(config).await;
}

#[tokio::test]
async fn many_instances_fit_a_small_server() {
    for (number, size) in [(3, "1536MB"), (10, "1GB")] {
        let nats = NatsServer::options().max_file_store(size).every_right().start().await;
        let sub0 = Sub0::start().await;
        let mut config = DaemonConfig::new(&nats);
        for instance in 0..number {
            config = config.sub0(&format!("shop{instance}"), &sub0);
        }
        let mut daemon = start(config);
        sub0.connected(number, DEADLINE).await;
        sub0.broadcast("tick", &json!({"n": 0}));
        // The broadcast, and the gap with which every run begins.
        pontoon_testkit::eventually(DEADLINE, async || {
            let metrics = daemon.metrics().await;
            (0..number).all(|instance| {
                let labels = [("pontoon_instance", &*format!("shop{instance}"))];
                metrics.value("pontoon_events_published_total", &labels) == Some(2.0)
            })
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_that_finds_no_space_names_the_settings_and_they_help() {
    let options = NatsServer::options().max_file_store("32MB").every_right();
    let mut fixture = Fixture::unconnected(options, "").await;
    let detail = detail(&mut fixture, "delivery.max_bytes").await;
    assert!(detail.contains("64MiB") && detail.contains("max_file_store"), "{detail}");
    fixture.sub0.connected(1, DEADLINE).await;
    assert_eq!(fixture.sub0.blast(100, numbered).await, 1);
    let lines = "delivery.max_bytes = \"16MiB\"\ndelivery.max_age = \"1h\"\ndelivery.max_messages = 60";
    fixture.daemon.reconfigure(DaemonConfig::new(&fixture.nats).with(lines).sub0("shop", &fixture.sub0));
    fixture.daemon.signal("HUP");
    fixture.at_rest(100).await;
    let stream = jetstream::new(fixture.client.clone()).get_stream("PONTOON_SHOP").await.expect("there");
    let config = &stream.cached_info().config;
    let bounds = (config.max_bytes, config.max_age.as_secs(), config.max_messages);
    assert_eq!(bounds, (16 << 20, 3600, 60));
    // Other bounds never change a stream that is there.
    fixture.daemon.reconfigure(DaemonConfig::new(&fixture.nats).sub0("shop", &fixture.sub0));
    fixture.daemon.signal("HUP");
    assert_eq!(fixture.sub0.blast(100, |number| numbered(100 + number)).await, 1);
    fixture.at_rest(200).await;
    assert!(numbers(&contents(&fixture.nats, "PONTOON_SHOP").await) == (140..200).collect::<Vec<_>>());
    let stream = jetstream::new(fixture.client.clone()).get_stream("PONTOON_SHOP").await.expect("there");
    assert_eq!(stream.cached_info().config.max_bytes, 16 << 20);
}

#[tokio::test]
async fn a_stream_that_cannot_be_created_is_reported_with_the_setting_that_helps() {
    let account = |limits: &str| {
        format!(
            "accounts {{ A {{ jetstream: {{ {limits} }}, users: [{{ user: pontoon, password: right }}] }} }}\nauthorization {{ timeout: 5 }}"
        )
    };
    for (limits, lines, setting) in [
        ("max_store: 32MB", "", "delivery.max_bytes"),
        ("disk_max_stream_bytes: 1MB", "", "delivery.max_bytes"),
        ("max_streams: 1", "", "delivery.stream"),
        ("max_streams: 9", "delivery.replicas = 3", "delivery.replicas"),
    ] {
        let nats = NatsServer::options().config(&account(limits)).start().await;
        if limits == "max_streams: 1" {
            let options =
                async_nats::ConnectOptions::with_user_and_password("pontoon".into(), "right".into());
            let client = options.connect(nats.url()).await.expect("connected");
            let config =
                stream::Config { name: "X".into(), subjects: vec!["x".into()], ..Default::default() };
            jetstream::new(client).create_stream(config).await.expect("created");
        }
        let sub0 = Sub0::start().await;
        let config =
            DaemonConfig::new(&nats).with("nats.user = \"pontoon\"\nnats.password = \"right\"").with(lines);
        let mut daemon = start(config.sub0("shop", &sub0));
        pontoon_testkit::eventually(DEADLINE, async || {
            let (_, text) = daemon.get("/status").await;
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            let detail = status["instances"][0]["bus"]["detail"].as_str().unwrap_or_default().to_owned();
            assert!(!detail.contains("cannot be created") || detail.contains(setting), "{limits}: {detail}");
            detail.contains(setting)
        })
        .await;
    }
}

#[tokio::test]
async fn where_the_stream_in_the_way_may_not_be_asked_for_the_advice_stays() {
    let users = r#"authorization { users: [
        { user: pontoon, password: right, permissions: { publish: { deny: ["$JS.API.STREAM.NAMES"] } } }
        { user: tester, password: right } ] }
        no_auth_user: tester"#;
    let nats = NatsServer::options().config(users).start().await;
    let config =
        stream::Config { name: "ALL".into(), subjects: vec![">".into()], no_ack: true, ..Default::default() };
    jetstream::new(nats.client().await).create_stream(config).await.expect("created");
    let sub0 = Sub0::start().await;
    let config = DaemonConfig::new(&nats).with("nats.user = \"pontoon\"\nnats.password = \"right\"");
    let mut daemon = start(config.sub0("shop", &sub0));
    pontoon_testkit::eventually(DEADLINE, async || {
        let (_, text) = daemon.get("/status").await;
        text.contains("another stream takes") && text.contains("best_effort")
    })
    .await;
}
