//! The tables that all instances share change while they run: no socket is touched, and no event is lost, doubled or
//! moved out of its order.

mod moves;

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use pontoon_testkit::{Answer, Daemon, DaemonConfig, NatsServer, Proxy, Resource, Sub0, eventually};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{DEADLINE, Fixture, Reply, contents, filled, listen, numbered, numbers, start};

const STREAM: &str = "PONTOON_SHOP";
const USERS: &str = "authorization { user: pontoon, password: right }";

/// How often a reload has ended so.
async fn reloads(daemon: &mut Daemon, outcome: &str) -> f64 {
    daemon.metrics().await.value("pontoon_config_reloads_total", &[("outcome", outcome)]).unwrap()
}

/// Has the daemon read this configuration, and waits until it has.
async fn reload(daemon: &mut Daemon, config: DaemonConfig) {
    let before = reloads(daemon, "applied").await;
    daemon.reconfigure(config);
    daemon.signal("HUP");
    eventually(DEADLINE, async || reloads(daemon, "applied").await > before).await;
}

/// The same under load: numbered broadcasts from `first` on, before, while and after it is read. Returns the next number.
async fn reload_under_load(fixture: &mut Fixture, config: DaemonConfig, first: usize) -> usize {
    let before = reloads(&mut fixture.daemon, "applied").await;
    fixture.daemon.reconfigure(config);
    let (mut next, mut rounds) = (first, 0);
    while rounds < 10 {
        blast(&fixture.sub0, next, 100).await;
        if next == first {
            fixture.daemon.signal("HUP");
        }
        next += 100;
        rounds += usize::from(reloads(&mut fixture.daemon, "applied").await > before);
    }
    next
}

/// The service sends so many numbered broadcasts from this number on.
async fn blast(sub0: &Sub0, first: usize, count: usize) {
    assert_eq!(sub0.blast(count, |number| numbered(first + number)).await, 1);
}

/// The daemon as a user whose password is this.
fn as_user(nats: &NatsServer, password: &str) -> DaemonConfig {
    DaemonConfig::new(nats).with(&format!("nats.user = \"pontoon\"\nnats.password = \"{password}\""))
}

/// All numbers below this one.
fn up_to(end: usize) -> Vec<u64> {
    (0..u64::try_from(end).unwrap()).collect()
}

/// The socket that was opened at the start is still the only one.
fn untouched(sub0: &Sub0) {
    assert_eq!((sub0.upgrades(), sub0.connections().len()), (1, 1), "the socket was kept");
}

/// A client of a server with [`USERS`].
async fn signed_in(nats: &NatsServer) -> Client {
    let options = async_nats::ConnectOptions::with_user_and_password("pontoon".into(), "right".into());
    options.connect(nats.url()).await.expect("the server takes a client")
}

/// The numbers of the next so many numbered broadcasts that a subscriber receives.
async fn received(events: &mut Subscriber, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let event = timeout(DEADLINE, events.next()).await.expect("in time").expect("subscribed");
        let body: Value = serde_json::from_slice(&event.payload).expect("JSON");
        let data = if body["specversion"].is_string() { &body["data"]["data"] } else { &body["data"] };
        numbers.extend(data["n"].as_u64());
    }
    numbers
}

#[tokio::test]
async fn every_shared_table_changes_under_load_and_no_socket_is_touched() {
    let mut fixture = Fixture::with(NatsServer::options().every_right(), "").await;
    let mut events = listen(&fixture.client, "pontoon.event.sub0.shop.resource.>").await;
    let epoch = fixture.status(|_| true).await["epoch"].clone();
    let url = format!("nats.url = [\"{}\"]", fixture.nats.url());
    let changes = [
        "events.mode = \"structured\"",
        "events.raw = false",
        "delivery.buffer_events = 1000",
        "delivery.max_pause = \"20s\"\ndelivery.overflow = \"drop_oldest\"",
        "delivery.ordering = \"best_effort\"",
        "commands.max_in_flight = 2\ncommands.timeout = \"20s\"",
        "commands.max_in_flight = 5000",
        "commands.reply_prefixes = [\"_INBOX.\", \"replies.\"]",
        "shutdown.timeout = \"10s\"",
        "log.level = \"debug\"",
        "nats.tls.required = false",
        &url,
        "",
    ];
    let mut sent = 0;
    for lines in changes {
        let config = match lines.strip_prefix("nats.url") {
            Some(_) => DaemonConfig::with_nats_url(&fixture.nats.url().replace("127.0.0.1", "localhost")),
            None => DaemonConfig::new(&fixture.nats).with(lines),
        };
        let config = config.sub0("shop", &fixture.sub0);
        sent = reload_under_load(&mut fixture, config, sent).await;
        assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "response", "{lines}");
    }
    untouched(&fixture.sub0);
    fixture.at_rest(sent).await;
    assert!(received(&mut events, sent).await == up_to(sent), "each once, and in order");
    let status = fixture.status(|status| status["bus"]["publishing"] == true).await;
    assert_eq!(status["epoch"], epoch);
    let metrics = fixture.daemon.metrics().await;
    assert_eq!(
        metrics.value("pontoon_gaps_total", &[("pontoon_instance", "shop"), ("reason", "stream_reset")]),
        Some(0.0)
    );
    assert_eq!(
        metrics.value("pontoon_events_deduplicated_total", &[("pontoon_instance", "shop")]),
        Some(0.0)
    );
    let messages =
        jetstream::new(fixture.client.clone()).get_stream(STREAM).await.unwrap().cached_info().state.messages;
    // With the gap with which every run begins.
    assert_eq!(messages, u64::try_from(sent + 1).unwrap());
}

#[tokio::test]
async fn what_became_of_a_connection_is_counted_once_though_other_settings_change() {
    let mut fixture = Fixture::start().await;
    fixture.nats.kill();
    fixture.status(|status| status["bus"]["connected"] == false).await;
    fixture.nats.restart().await;
    fixture.status(|status| status["bus"]["publishing"] == true).await;
    let labels = [("pontoon_instance", "shop")];
    let reconnects = async |fixture: &mut Fixture| {
        fixture.daemon.metrics().await.value("pontoon_nats_reconnects_total", &labels).unwrap()
    };
    eventually(DEADLINE, async || reconnects(&mut fixture).await >= 1.0).await;
    let before = reconnects(&mut fixture).await;
    for buffer_events in [1_000, 2_000, 3_000] {
        let lines = format!("delivery.buffer_events = {buffer_events}");
        let config = DaemonConfig::new(&fixture.nats).with(&lines).sub0("shop", &fixture.sub0);
        reload(&mut fixture.daemon, config).await;
        // The settings are in force.
        eventually(DEADLINE, async || {
            let limit = fixture.daemon.metrics().await.value("pontoon_spool_max_events", &labels);
            limit == Some(f64::from(buffer_events))
        })
        .await;
        assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "response");
    }
    fixture.status(|status| status["bus"]["publishing"] == true).await;
    assert_eq!(reconnects(&mut fixture).await, before);
}

#[tokio::test]
async fn a_wrong_password_that_is_corrected_loses_nothing() {
    let nats = NatsServer::options().config(USERS).start().await;
    let sub0 = Sub0::start().await;
    let daemon = start(as_user(&nats, "wrong").sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    let client = signed_in(&nats).await;
    let mut fixture = Fixture { daemon, sub0, nats, client };
    fixture
        .status(|status| status["bus"]["detail"].as_str().is_some_and(|text| text.contains("nats.user")))
        .await;
    blast(&fixture.sub0, 0, 40).await;
    fixture.status(|status| status["unconfirmed_events"] == 41).await;
    // Wrong once more, and again before that was tried.
    for password in ["worse", "worst", "right"] {
        fixture.daemon.reconfigure(as_user(&fixture.nats, password).sub0("shop", &fixture.sub0));
        fixture.daemon.signal("HUP");
        let known = fixture.status(|_| true).await;
        assert_eq!((&known["instance"], &known["running"]), (&json!("shop"), &json!(true)));
    }
    reload(&mut fixture.daemon, as_user(&fixture.nats, "right").sub0("shop", &fixture.sub0)).await;
    fixture.status(|status| status["bus"]["publishing"] == true).await;
    fixture.at_rest(40).await;
    untouched(&fixture.sub0);
    let mut events = Vec::new();
    let stream = jetstream::new(fixture.client.clone()).get_stream(STREAM).await.unwrap();
    let consumer = stream.create_consumer(jetstream::consumer::pull::OrderedConfig::default()).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    while events.len() < 40 {
        let message = timeout(DEADLINE, messages.next()).await.expect("in time").unwrap().unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        events.extend(body["data"]["n"].as_u64());
    }
    assert!(events == up_to(40), "{events:?}");
    assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "response");
}

#[tokio::test]
async fn the_events_of_an_instance_that_changes_itself_move_with_the_shared_settings() {
    let nats = NatsServer::options().config(USERS).start().await;
    let sub0 = Sub0::start().await;
    let mut daemon = start(as_user(&nats, "wrong").sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    let client = signed_in(&nats).await;
    blast(&sub0, 0, 40).await;
    let mut events = listen(&client, "pontoon.event.sub0.shop.resource.>").await;
    reload(&mut daemon, as_user(&nats, "right").sub0("shop", &sub0).with("uid = \"u1\"")).await;
    assert!(received(&mut events, 40).await == up_to(40));
    eventually(DEADLINE, async || sub0.upgrades() == 2 && sub0.connections().len() == 1).await;
}

#[tokio::test]
async fn core_and_jetstream_take_turns() {
    let mut fixture = Fixture::with(NatsServer::options(), "delivery.mode = \"core\"").await;
    let mut events = listen(&fixture.client, "pontoon.event.sub0.shop.resource.>").await;
    let (mut sent, mut first) = (0, u64::MAX);
    for mode in ["jetstream", "core", "jetstream", "core"] {
        let config = DaemonConfig::new(&fixture.nats).with(&format!("delivery.mode = \"{mode}\""));
        let config = config.sub0("shop", &fixture.sub0);
        sent = reload_under_load(&mut fixture, config, sent).await;
        fixture.at_rest(sent).await;
        first = first.min(u64::try_from(sent).unwrap());
    }
    assert!(received(&mut events, sent).await == up_to(sent), "each once, and in order");
    untouched(&fixture.sub0);
    // The stream has taken all since it was made.
    let kept = numbers(&contents(&fixture.nats, STREAM).await);
    assert!(
        kept.first().is_some_and(|number| *number <= first) && kept.last() == up_to(sent).last(),
        "{kept:?}"
    );
    assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[tokio::test]
async fn a_buffer_that_is_smaller_than_what_is_kept_drops_nothing_of_it() {
    let mut fixture = Fixture::start().await;
    fixture.nats.kill();
    fixture.status(|status| status["bus"]["connected"] == false).await;
    blast(&fixture.sub0, 0, 500).await;
    fixture.status(|status| status["unconfirmed_events"] == 500).await;
    let small = DaemonConfig::new(&fixture.nats).with("delivery.buffer_events = 16");
    reload(&mut fixture.daemon, small.sub0("shop", &fixture.sub0)).await;
    fixture.status(|status| status["room"] == false).await;
    fixture.nats.restart().await;
    fixture.at_rest(500).await;
    untouched(&fixture.sub0);
    assert!(numbers(&contents(&fixture.nats, STREAM).await) == up_to(500));
    let metrics = fixture.daemon.metrics().await;
    assert_eq!(metrics.value("pontoon_spool_max_events", &[("pontoon_instance", "shop")]), Some(16.0));
}

#[tokio::test]
async fn another_prefix_reports_what_to_do_about_the_stream_and_goes_on_once_that_is_done() {
    let mut fixture = Fixture::with(NatsServer::options().every_right(), "").await;
    blast(&fixture.sub0, 0, 100).await;
    fixture.at_rest(100).await;
    let acme =
        || DaemonConfig::new(&fixture.nats).with("nats.prefix = \"acme.prod\"").sub0("shop", &fixture.sub0);
    let config = acme();
    reload(&mut fixture.daemon, config.clone()).await;
    for restarted in [false, true] {
        if restarted {
            fixture.daemon.restart();
            fixture.sub0.connected(1, DEADLINE).await;
        }
        let subject = "acme.prod.event.sub0.shop.>";
        let status = fixture
            .status(|status| status["bus"]["detail"].as_str().is_some_and(|text| text.contains(subject)));
        let detail = status.await["bus"]["detail"].as_str().unwrap().to_owned();
        for part in
            [STREAM, "pontoon.event.sub0.shop.>", "nats.prefix", "nats stream edit", "delivery.stream"]
        {
            assert!(detail.contains(part), "{part} is not in: {detail}");
        }
        assert!(!detail.contains("best_effort"), "{detail}");
    }
    blast(&fixture.sub0, 100, 100).await;
    let streams = jetstream::new(fixture.client.clone());
    let mut config = streams.get_stream(STREAM).await.unwrap().cached_info().config.clone();
    config.subjects = vec!["acme.prod.event.sub0.shop.>".into()];
    streams.update_stream(config).await.expect("updated");
    fixture.status(|status| status["bus"]["publishing"] == true).await;
    fixture.at_rest(100).await;
    assert!(numbers(&contents(&fixture.nats, STREAM).await) == up_to(200));
    let command = crate::support::ask(&fixture.client, "acme.prod.command.sub0.shop.call.x", "{}", &[]).await;
    assert_eq!(command.status, "response");
    assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "no responders");
}

#[tokio::test]
async fn events_that_wait_go_to_the_new_prefix() {
    let mut fixture =
        Fixture::unconnected(NatsServer::options().every_right(), "delivery.provision = false").await;
    fixture.sub0.connected(1, DEADLINE).await;
    fixture
        .status(|status| status["bus"]["detail"].as_str().is_some_and(|text| text.contains("is missing")))
        .await;
    blast(&fixture.sub0, 0, 300).await;
    fixture.status(|status| status["unconfirmed_events"] == 301).await;
    let config = DaemonConfig::new(&fixture.nats).with("nats.prefix = \"acme\"").sub0("shop", &fixture.sub0);
    reload(&mut fixture.daemon, config).await;
    fixture.at_rest(300).await;
    untouched(&fixture.sub0);
    let stream = jetstream::new(fixture.client.clone()).get_stream(STREAM).await.unwrap();
    assert_eq!(stream.cached_info().config.subjects, ["acme.event.sub0.shop.>"]);
    assert!(numbers(&contents(&fixture.nats, STREAM).await) == up_to(300));
}

#[tokio::test]
async fn a_stream_that_is_in_the_way_is_named() {
    let mut fixture =
        Fixture::unconnected(NatsServer::options().every_right(), "delivery.provision = false").await;
    let config =
        stream::Config { name: "ALL".into(), subjects: vec!["pontoon.>".into()], ..Default::default() };
    jetstream::new(fixture.client.clone()).create_stream(config).await.expect("created");
    fixture.sub0.connected(1, DEADLINE).await;
    reload(&mut fixture.daemon, DaemonConfig::new(&fixture.nats).sub0("shop", &fixture.sub0)).await;
    let status = fixture
        .status(|status| status["bus"]["detail"].as_str().is_some_and(|text| text.contains("ALL")))
        .await;
    let detail = status["bus"]["detail"].as_str().unwrap();
    for part in [STREAM, "delivery.stream = \"ALL\"", "delivery.ordering = \"best_effort\""] {
        assert!(detail.contains(part), "{part} is not in: {detail}");
    }
    // And that is good advice.
    blast(&fixture.sub0, 0, 100).await;
    let lines = "delivery.stream = \"ALL\"\ndelivery.ordering = \"best_effort\"";
    reload(&mut fixture.daemon, DaemonConfig::new(&fixture.nats).with(lines).sub0("shop", &fixture.sub0))
        .await;
    fixture.at_rest(100).await;
    untouched(&fixture.sub0);
    assert!(numbers(&contents(&fixture.nats, "ALL").await) == up_to(100));
}

#[tokio::test]
async fn what_was_sent_in_strict_order_is_not_stored_again_when_the_order_is_given_up() {
    let mut fixture = Fixture::start().await;
    // What was stored before the server was killed, and not confirmed, has no id to be known by.
    for round in 0..3 {
        let many = 10_000;
        let sub0 = fixture.sub0;
        let blast = tokio::spawn(async move {
            let number = move |n: usize| numbered(round * many + n);
            (sub0.blast(many, number).await, sub0)
        });
        filled(&fixture.nats, STREAM, (round * many) as u64 + 2_000, DEADLINE).await;
        fixture.nats.kill();
        let ordering = ["best_effort", "strict", "best_effort"][round];
        let config = DaemonConfig::new(&fixture.nats).with(&format!("delivery.ordering = \"{ordering}\""));
        let (took_all, sub0) = blast.await.unwrap();
        assert_eq!(took_all, 1);
        fixture.sub0 = sub0;
        reload(&mut fixture.daemon, config.sub0("shop", &fixture.sub0)).await;
        fixture.nats.restart().await;
        fixture.at_rest((round + 1) * many).await;
    }
    let mut kept = numbers(&contents(&fixture.nats, STREAM).await);
    kept.sort_unstable();
    assert!(kept == (0..30_000).collect::<Vec<_>>(), "none lost, none twice");
}
