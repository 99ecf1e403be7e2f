//! What was read is in the stream, once and in order, though NATS fails; and what is lost is reported.

use std::time::Duration;

use async_nats::jetstream;
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_testkit::{DaemonConfig, NatsServer, Sub0};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{
    DEADLINE, Fixture, contents, filled, listen, next, numbered, numbers, round_trip, start,
};

const MANY: usize = 100_000;

#[tokio::test]
async fn every_broadcast_is_in_the_stream_once_and_in_order_though_nats_is_killed_three_times() {
    let mut fixture = Fixture::with(NatsServer::options(), "delivery.max_bytes = \"1GiB\"").await;
    let sub0 = fixture.sub0;
    let blast = tokio::spawn(async move { (sub0.blast(MANY, numbered).await, sub0) });
    for part in 1..=3_u64 {
        // While the first part of the events goes in, then while the rest does.
        filled(&fixture.nats, "PONTOON_SHOP", part * 8_000, DEADLINE).await;
        fixture.nats.kill();
        fixture.nats.restart().await;
    }
    filled(&fixture.nats, "PONTOON_SHOP", MANY as u64, Duration::from_secs(120)).await;
    let (took_all, sub0) = blast.await.expect("the blast ends");
    assert_eq!(took_all, 1);
    fixture.sub0 = sub0;
    fixture.at_rest(MANY).await;
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    assert_eq!(events.len(), MANY, "nothing but the broadcasts");
    let expected: Vec<u64> = (0..MANY as u64).collect();
    assert!(numbers(&events) == expected, "once and in order");
}

// With two threads, and room for all, the subscriber is never the slow consumer that NATS drops messages for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_core_mode_a_subscriber_that_stays_gets_every_one() {
    let mut fixture = Fixture::with(NatsServer::options(), "delivery.mode = \"core\"").await;
    let options = async_nats::ConnectOptions::new().subscription_capacity(2 * MANY);
    let subscriber = options.connect(fixture.nats.url()).await.expect("connected");
    let mut events = listen(&subscriber, "pontoon.event.>").await;
    let received = tokio::spawn(async move {
        let mut numbers = Vec::new();
        while numbers.len() < MANY {
            let message = timeout(DEADLINE, events.next()).await.expect("in time").expect("more");
            let body: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
            // The gap with which the run begins has none.
            numbers.extend(body["data"]["n"].as_u64());
        }
        numbers
    });
    assert_eq!(fixture.sub0.blast(MANY, numbered).await, 1);
    assert!(received.await.expect("received") == (0..MANY as u64).collect::<Vec<_>>());
    fixture.at_rest(MANY).await;
}

#[tokio::test]
async fn in_core_mode_events_are_confirmed_without_a_message() {
    let mut fixture = Fixture::with(NatsServer::options(), "delivery.mode = \"core\"").await;
    fixture.sub0.broadcast("tick", &json!({"n": 0}));
    fixture.at_rest(1).await;
    let mut confirmations = listen(&fixture.client, "_INBOX_shop.>").await;
    fixture.nats.freeze();
    assert_eq!(fixture.sub0.blast(5_000, numbered).await, 1);
    fixture.status(|status| status["unconfirmed_events"].as_u64() >= Some(5_000)).await;
    fixture.nats.thaw();
    fixture.at_rest(5_001).await;
    round_trip(&fixture.client).await;
    assert!(
        confirmations.next().now_or_never().is_none(),
        "what confirms them is between the daemon and its server"
    );
}

#[tokio::test]
async fn in_core_mode_what_was_not_confirmed_is_sent_again_under_the_same_id() {
    let mut fixture = Fixture::with(NatsServer::options(), "delivery.mode = \"core\"").await;
    fixture.nats.kill();
    fixture.status(|status| status["bus"]["connected"] == false).await;
    fixture.sub0.broadcast("kept", &json!(1));
    fixture.status(|status| status["unconfirmed_events"] == 1).await;
    fixture.nats.restart().await;
    // A subscriber that is there in time or not: the confirmation is what is promised.
    let metrics = fixture.at_rest(1).await;
    let labels = [("pontoon_instance", "shop"), ("type", "sub0")];
    // The first is the gap with which every run begins.
    assert_eq!(metrics.value("pontoon_events_published_total", &labels), Some(2.0));
}

#[tokio::test]
async fn a_full_buffer_drops_by_the_policy_counts_and_publishes_a_gap() {
    for policy in ["drop_newest", "drop_oldest"] {
        let lines = format!(
            "delivery.buffer_events = 100\ndelivery.max_pause = \"200ms\"\ndelivery.overflow = \"{policy}\""
        );
        let mut fixture = Fixture::with(NatsServer::options(), &lines).await;
        fixture.nats.kill();
        fixture.status(|status| status["bus"]["connected"] == false).await;
        // More than the buffer, the socket's buffers and the pause can hold back.
        let sub0 = fixture.sub0;
        let blast = tokio::spawn(async move { (sub0.blast(20_000, numbered).await, sub0) });
        let (took_all, sub0) = timeout(DEADLINE, blast).await.expect("not stuck").expect("the blast ends");
        assert_eq!(took_all, 1);
        fixture.sub0 = sub0;
        fixture.nats.restart().await;
        let metrics = fixture.at_rest(20_000).await;
        let labels = [("pontoon_instance", "shop"), ("type", "sub0"), ("reason", "overflow")];
        let dropped = metrics.value("pontoon_events_dropped_total", &labels).expect("counted");
        let events = contents(&fixture.nats, "PONTOON_SHOP").await;
        let kept = numbers(&events);
        assert_eq!(kept.len() as f64 + dropped, 20_000.0, "{policy}");
        assert!(kept.is_sorted(), "{policy}");
        let gaps: Vec<_> = events.iter().filter(|(kind, _)| kind == "pontoon.gap.detected.v1").collect();
        let reported: u64 = gaps.iter().filter_map(|(_, gap)| gap["dropped"].as_u64()).sum();
        assert_eq!(reported as f64, dropped, "{policy}: {gaps:?}");
        assert!(
            gaps.iter().all(|(_, gap)| gap["reason"] == "overflow" && gap["from"].is_string()),
            "{gaps:?}"
        );
        match policy {
            "drop_newest" => assert_eq!(kept.first(), Some(&0)),
            // While all that is kept is on the wire, a new event is the only one that can be dropped.
            _ => assert!(kept.first() > Some(&0), "{kept:?}"),
        }
    }
}

#[tokio::test]
async fn an_event_too_large_for_nats_leaves_a_gap_and_closes_nothing() {
    let options = NatsServer::options().config("max_payload: 65536");
    let mut fixture = Fixture::with(options, "").await;
    let mut dead = listen(&fixture.client, "pontoon.dead.>").await;
    fixture.sub0.broadcast("small", &json!(1));
    fixture.sub0.broadcast("large", &json!("x".repeat(100_000)));
    fixture.sub0.broadcast("small", &json!(2));
    let (message, _) = next(&mut dead, |_, _| true).await;
    assert_eq!(message.subject.as_str(), "pontoon.dead.sub0.shop.too_large");
    assert!(message.payload.is_empty());
    let headers = message.headers.expect("headers");
    let size: usize = headers.get("Pontoon-Size").expect("a size").as_str().parse().expect("a number");
    assert!(size > 100_000);
    assert_eq!(headers.get("ce-subject").map(|value| value.as_str()), Some("large"));
    fixture.at_rest(4).await;
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    let kinds: Vec<_> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    let broadcast = "pontoon.resource.broadcast.v1";
    assert_eq!(kinds, [broadcast, "pontoon.gap.detected.v1", broadcast]);
    assert_eq!(events[1].1["reason"], "too_large");
    assert_eq!(fixture.sub0.upgrades(), 1, "the link stayed");
}

#[tokio::test]
async fn an_event_too_large_for_the_stream_alone_is_a_dead_letter_with_its_body() {
    let nats = NatsServer::options().every_right().start().await;
    let config = jetstream::stream::Config {
        name: "PONTOON_SHOP".into(),
        subjects: vec!["pontoon.event.sub0.shop.>".into()],
        max_message_size: 20_000,
        ..Default::default()
    };
    jetstream::new(nats.client().await).create_stream(config).await.expect("created");
    let sub0 = Sub0::start().await;
    let client = nats.client().await;
    let mut dead = listen(&client, "pontoon.dead.>").await;
    let daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    let mut fixture = Fixture { daemon, sub0, nats, client };
    fixture.status(|status| status["links"][0]["phase"] == "ready").await;
    fixture.sub0.broadcast("large", &json!("x".repeat(30_000)));
    fixture.sub0.broadcast("small", &json!(1));
    let (message, body) = next(&mut dead, |_, _| true).await;
    assert_eq!(body["data"].as_str().map(str::len), Some(30_000));
    let headers = message.headers.expect("headers");
    assert_eq!(headers.get("ce-subject").map(|value| value.as_str()), Some("large"));
    let detail = headers.get("Pontoon-Detail").map(|value| value.as_str().to_owned()).unwrap_or_default();
    assert!(detail.contains("max_msg_size"), "{detail}");
    fixture.at_rest(2).await;
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    let kinds: Vec<_> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["pontoon.gap.detected.v1", "pontoon.resource.broadcast.v1"]);
}

#[tokio::test]
async fn a_new_run_begins_with_a_gap() {
    let mut fixture = Fixture::start().await;
    fixture.sub0.broadcast("tick", &json!({"n": 0}));
    fixture.at_rest(1).await;
    fixture.daemon.signal("TERM");
    assert_eq!(fixture.daemon.wait_exit(DEADLINE).await, Some(0));
    fixture.daemon.restart();
    fixture.state(|state| state["links"][0]["phase"] == "ready" && state["bus"]["publishing"] == true).await;
    fixture.sub0.broadcast("tick", &json!({"n": 1}));
    filled(&fixture.nats, "PONTOON_SHOP", 3, DEADLINE).await;
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    assert_eq!(numbers(&events), [0, 1]);
    let gap = events.iter().find(|(kind, _)| kind == "pontoon.gap.detected.v1").expect("a gap");
    assert_eq!(gap.1["reason"], "restarted");
    assert!(gap.1["from"].is_string() && gap.1["to"].is_string());
}

#[tokio::test]
async fn a_drain_leaves_nothing_behind() {
    let mut fixture = Fixture::start().await;
    let sub0 = fixture.sub0;
    let blast = tokio::spawn(async move { (sub0.blast(20_000, numbered).await, sub0) });
    filled(&fixture.nats, "PONTOON_SHOP", 2_000, DEADLINE).await;
    fixture.daemon.signal("TERM");
    assert_eq!(fixture.daemon.wait_exit(DEADLINE).await, Some(0));
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    let kept = numbers(&events);
    assert!(kept.len() >= 2_000);
    assert!(kept == (0..kept.len() as u64).collect::<Vec<_>>(), "all that was read, once and in order");
    drop(blast);
}

#[tokio::test]
async fn an_end_that_leaves_events_behind_is_no_success() {
    let mut fixture = Fixture::with(NatsServer::options(), "shutdown.timeout = \"4s\"").await;
    fixture.nats.kill();
    fixture.status(|status| status["bus"]["connected"] == false).await;
    fixture.sub0.broadcast("tick", &json!(1));
    fixture.status(|status| status["unconfirmed_events"] == 1).await;
    fixture.daemon.signal("TERM");
    assert_eq!(fixture.daemon.wait_exit(DEADLINE).await, Some(69));
    assert!(fixture.daemon.log().contains("are lost"), "{}", fixture.daemon.log());
}
