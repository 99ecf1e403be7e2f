//! Streams that others write to, or that refuse: the daemon reports it, loses nothing, and floods no subscriber.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use pontoon_testkit::{DaemonConfig, NatsServer, eventually};
use serde_json::{Value, json};

use crate::support::{DEADLINE, Fixture, contents, instance, listen, numbered, numbers, start};

#[tokio::test]
async fn a_second_daemon_fences_the_first_which_takes_over_again_in_order() {
    let mut fixture = Fixture::start().await;
    assert_eq!(fixture.sub0.blast(100, numbered).await, 1);
    fixture.at_rest(100).await;
    let mut second = start(DaemonConfig::new(&fixture.nats).sub0("shop", &fixture.sub0));
    fixture.sub0.connected(2, DEADLINE).await;
    // Once its first gap is stored, the stream is its own.
    eventually(DEADLINE, async || {
        let status = instance(&mut second, "shop").await.unwrap_or_default();
        status["bus"]["publishing"] == true
            && status["links"][0]["phase"] == "ready"
            && status["unconfirmed_events"] == 0
    })
    .await;
    // Both read it; one of them is refused, and sees by whom.
    fixture.sub0.broadcast("tick", &json!({"n": 100}));
    let status = fixture.status(|status| status["bus"]["fenced"] == true).await;
    assert!(status["bus"]["detail"].as_str().unwrap().contains("another daemon"), "{status}");
    let (code, text) = fixture.daemon.get("/readyz").await;
    assert!(code == 503 && text.contains("shop is fenced: another daemon"), "{code} {text}");
    assert_eq!(fixture.daemon.get("/livez").await.0, 200);
    let metrics = fixture.daemon.metrics().await;
    assert_eq!(
        metrics.value("pontoon_nats_fenced", &[("pontoon_instance", "shop"), ("type", "sub0")]),
        Some(1.0)
    );
    for n in 101..200 {
        fixture.sub0.broadcast("tick", &json!({"n": n}));
    }
    fixture.status(|status| status["unconfirmed_events"].as_u64() >= Some(100)).await;
    second.signal("TERM");
    assert_eq!(second.wait_exit(DEADLINE).await, Some(0));
    fixture.status(|status| status["bus"]["publishing"] == true && status["unconfirmed_events"] == 0).await;
    fixture.sub0.broadcast("tick", &json!({"n": 200}));
    fixture.at_rest(201).await;
    assert_eq!(fixture.daemon.get("/readyz").await.0, 200);
    let all = numbers(&contents(&fixture.nats, "PONTOON_SHOP").await);
    // The first daemon's buffer follows in order behind what the second one stored.
    assert!(all.ends_with(&(100..=200).collect::<Vec<_>>()), "{all:?}");
    assert!(all.starts_with(&(0..=100).collect::<Vec<_>>()), "{all:?}");
    fixture.daemon.logs("takes over").await;
}

#[tokio::test]
async fn messages_of_strangers_in_a_strict_stream_are_counted_and_reported() {
    let options = NatsServer::options().every_right();
    let mut fixture = Fixture::with(options, "").await;
    let jetstream = jetstream::new(fixture.client.clone());
    let stranger = tokio::spawn(async move {
        for _ in 0..100 {
            let subject = "pontoon.event.sub0.shop.resource.broadcast.stray";
            let stored = jetstream.publish(subject, "{}".into()).await.expect("published");
            stored.await.expect("stored");
        }
    });
    assert_eq!(fixture.sub0.blast(20_000, numbered).await, 1);
    stranger.await.expect("the stranger ends");
    // One more message of the stranger may have come last: the next event finds it.
    fixture.sub0.broadcast("tick", &json!({"n": 20_000}));
    let metrics = fixture.at_rest(20_001).await;
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    let mut kept = numbers(&events);
    let mut newest = 0;
    let mut is_behind = |n: u64| {
        newest = newest.max(n);
        n < newest
    };
    let behind = kept.iter().filter(|n| is_behind(**n)).count();
    let labels = [("pontoon_instance", "shop"), ("type", "sub0")];
    let value = |name: &str| metrics.value(name, &labels).expect("counted");
    assert_eq!(value("pontoon_stream_foreign_messages_total"), 100.0);
    assert_eq!(value("pontoon_events_reordered_total"), behind as f64);
    let out_of_order = events.iter().filter(|(_, body)| body["error"]["code"] == "out_of_order");
    assert_eq!(out_of_order.count() > 0, behind > 0);
    let status = fixture.status(|status| status["bus"]["foreign_messages"] == 100).await;
    assert_eq!(status["bus"]["reordered_events"].as_u64().unwrap_or(0), behind as u64);
    kept.sort_unstable();
    assert!(kept == (0..=20_000).collect::<Vec<_>>(), "none lost, none twice");
}

/// A stream of the instance with this change, made before the daemon is started.
async fn made(nats: &NatsServer, change: impl FnOnce(&mut stream::Config)) -> stream::Stream {
    let mut config = stream::Config {
        name: "PONTOON_SHOP".into(),
        subjects: vec!["pontoon.event.sub0.shop.>".into()],
        ..Default::default()
    };
    change(&mut config);
    jetstream::new(nats.client().await).create_stream(config).await.expect("created")
}

async fn fixture_on(nats: NatsServer) -> Fixture {
    let sub0 = pontoon_testkit::Sub0::start().await;
    let daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    let client = nats.client().await;
    Fixture { daemon, sub0, nats, client }
}

#[tokio::test]
async fn a_full_stream_is_probed_with_one_event_at_a_time() {
    let nats = NatsServer::options().every_right().start().await;
    let full = |max_messages| {
        move |config: &mut stream::Config| {
            config.max_messages = max_messages;
            config.discard = stream::DiscardPolicy::New;
        }
    };
    made(&nats, full(100)).await;
    let mut fixture = fixture_on(nats).await;
    let mut events = listen(&fixture.client, "pontoon.event.>").await;
    let received = Arc::new(AtomicUsize::new(0));
    let counted = received.clone();
    let counting = tokio::spawn(async move {
        while events.next().await.is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(fixture.sub0.blast(3_000, numbered).await, 1);
    let full_detail =
        |status: &Value| status["bus"]["detail"].as_str().unwrap_or_default().contains("is full");
    fixture.status(full_detail).await;
    // The window that was under way when the stream became full, and then one for each attempt.
    let before = received.load(Ordering::Relaxed);
    eventually(DEADLINE, async || received.load(Ordering::Relaxed) >= before + 3).await;
    let mut config = stream::Config { max_messages: 10_000, ..Default::default() };
    config.name = "PONTOON_SHOP".into();
    config.subjects = vec!["pontoon.event.sub0.shop.>".into()];
    config.discard = stream::DiscardPolicy::New;
    jetstream::new(fixture.client.clone()).update_stream(config).await.expect("updated");
    fixture.at_rest(3_000).await;
    assert_eq!(numbers(&contents(&fixture.nats, "PONTOON_SHOP").await), (0..3_000).collect::<Vec<_>>());
    crate::support::round_trip(&fixture.client).await;
    let received = received.load(Ordering::Relaxed);
    assert!((3_001..3_001 + 1_024 + 100).contains(&received), "{received}");
    counting.abort();
}

#[tokio::test]
async fn a_stream_that_confirms_nothing_is_refused_with_the_reason() {
    let nats = NatsServer::options().every_right().start().await;
    made(&nats, |config| config.no_ack = true).await;
    let mut fixture = fixture_on(nats).await;
    let status = fixture
        .status(|status| status["bus"]["detail"].as_str().unwrap_or_default().contains("no_ack"))
        .await;
    assert_eq!(status["bus"]["publishing"], false);
}

#[tokio::test]
async fn an_answer_that_is_no_confirmation_changes_nothing() {
    let mut fixture = Fixture::with(NatsServer::options().every_right(), "").await;
    let client = fixture.client.clone();
    let mut events = listen(&client, "pontoon.event.>").await;
    let answering = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let Some(reply) = event.reply else { continue };
            for answer in ["+ACK", "", "{}", "[1]", "{\"stream\":\"OTHER\",\"seq\":1}", "\u{0}"] {
                client.publish(reply.clone(), answer.into()).await.expect("published");
            }
        }
    });
    for n in 0..200 {
        fixture.sub0.broadcast("tick", &json!({"n": n}));
    }
    fixture.at_rest(200).await;
    answering.abort();
    assert!(!fixture.daemon.log().contains("publishing starts over"), "{}", fixture.daemon.log());
    assert_eq!(numbers(&contents(&fixture.nats, "PONTOON_SHOP").await), (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_that_only_its_payload_makes_too_large_goes_without_it() {
    for mode in ["binary", "structured"] {
        let mut fixture = Fixture::with(NatsServer::options(), &format!("events.mode = \"{mode}\"")).await;
        for kib in [500, 520, 700, 1_000] {
            fixture.sub0.broadcast("large", &json!("x".repeat(kib * 1024)));
        }
        fixture.at_rest(4).await;
        let events = contents(&fixture.nats, "PONTOON_SHOP").await;
        let body = |body: &Value| if body["data"].is_object() { body["data"].clone() } else { body.clone() };
        let events: Vec<_> =
            events.iter().map(|(_, event)| body(event)).filter(|e| e["action"] == "large").collect();
        let sizes: Vec<_> = events.iter().map(|event| event["data"].as_str().unwrap().len() / 1024).collect();
        assert_eq!(sizes, [500, 520, 700, 1_000], "{mode}");
        for (event, kib) in events.iter().zip(sizes) {
            let omitted = event["raw_omitted"].as_u64();
            assert_eq!(event["raw"].is_null(), omitted.is_some(), "{mode} {kib}");
            assert!(omitted.is_none_or(|bytes| bytes as usize > kib * 1024), "{mode} {kib}");
        }
        assert!(events[3]["raw"].is_null());
        let metrics = fixture.daemon.metrics().await;
        let lost = [("pontoon_instance", "shop"), ("type", "sub0"), ("reason", "too_large")];
        assert_eq!(metrics.value("pontoon_events_dropped_total", &lost), Some(0.0));
    }
}
