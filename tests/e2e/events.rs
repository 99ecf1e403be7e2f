//! What a subscriber sees of a service: subjects, headers, bodies, and gaps.

use serde_json::{Value, json};

use crate::support::{Fixture, listen, next};
use pontoon_testkit::{Audience, NatsServer};

fn header(message: &async_nats::Message, name: &str) -> String {
    let headers = message.headers.as_ref().expect("headers");
    headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn a_broadcast_is_an_event_with_every_header_of_the_contract() {
    let fixture = Fixture::start().await;
    let mut events = listen(&fixture.client, "pontoon.event.>").await;
    fixture.sub0.broadcast("wallet.update é", &json!({"wallet_balance": 12.50}));
    let (message, body) = next(&mut events, |_, _| true).await;
    assert_eq!(
        message.subject.as_str(),
        "pontoon.event.sub0.shop.resource.broadcast.wallet=2Eupdate=20=C3=A9"
    );
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-source", "urn:pontoon:sub0:shop"),
        ("ce-type", "pontoon.resource.broadcast.v1"),
        ("ce-subject", "wallet.update%20%C3%A9"),
        ("ce-datacontenttype", "application/json"),
        ("Content-Type", "application/json"),
        ("ce-upstreamevent", "wallet.update%20%C3%A9"),
        ("ce-link", "main"),
    ] {
        assert_eq!(header(&message, name), value, "{name}");
    }
    let id = header(&message, "ce-id");
    let (epoch, sequence) = id.split_once('-').expect("epoch-sequence");
    // The first is the gap with which every run begins.
    assert_eq!(sequence, "2");
    assert!(epoch.parse::<u64>().is_ok());
    assert!(message.headers.as_ref().unwrap().get("Nats-Msg-Id").is_none(), "the order excludes doubles");
    assert!(header(&message, "ce-time").ends_with('Z'));
    assert!(header(&message, "ce-sequence").ends_with("000000000002"));
    assert_eq!(body["action"], "wallet.update é");
    assert_eq!(body["data"], json!({"wallet_balance": 12.50}));
    assert_eq!(body["raw"]["data"], body["data"]);
}

#[tokio::test]
async fn where_nothing_else_excludes_doubles_or_on_request_an_event_has_a_message_id() {
    for lines in
        ["delivery.message_id = true", "delivery.ordering = \"best_effort\"", "delivery.mode = \"core\""]
    {
        for mode in ["binary", "structured"] {
            let lines = format!("{lines}\nevents.mode = \"{mode}\"");
            let fixture = Fixture::with(NatsServer::options(), &lines).await;
            let mut events = listen(&fixture.client, "pontoon.event.>").await;
            fixture.sub0.broadcast("tick", &json!(1));
            let (message, body) = next(&mut events, |_, _| true).await;
            let id = match mode {
                "binary" => header(&message, "ce-id"),
                _ => body["id"].as_str().expect("an id").to_owned(),
            };
            assert_eq!(header(&message, "Nats-Msg-Id"), format!("sub0.shop:{id}"), "{lines}");
        }
    }
}

#[tokio::test]
async fn structured_mode_without_raw_is_one_small_document() {
    let fixture =
        Fixture::with(NatsServer::options(), "events.mode = \"structured\"\nevents.raw = false").await;
    let mut events = listen(&fixture.client, "pontoon.event.>").await;
    fixture.sub0.broadcast("tick", &json!([1]));
    let (message, document) = next(&mut events, |_, _| true).await;
    assert_eq!(header(&message, "Content-Type"), "application/cloudevents+json");
    assert_eq!(document["type"], "pontoon.resource.broadcast.v1");
    assert_eq!(document["data"], json!({"action": "tick", "data": [1]}));
}

#[tokio::test]
async fn a_prefix_of_several_tokens_is_used_everywhere() {
    let nats = NatsServer::options().every_right();
    let fixture = Fixture::unconnected(nats, "nats.prefix = \"acme.prod.pontoon\"").await;
    let mut all = listen(&fixture.client, "acme.>").await;
    fixture.sub0.connected(1, crate::support::DEADLINE).await;
    next(&mut all, |message, state| {
        message.subject.as_str() == "acme.prod.pontoon.state.sub0.shop"
            && state["links"][0]["phase"] == "ready"
    })
    .await;
    fixture.sub0.broadcast("tick", &json!(1));
    next(&mut all, |message, _| {
        message.subject.as_str() == "acme.prod.pontoon.event.sub0.shop.resource.broadcast.tick"
    })
    .await;
    let reply =
        crate::support::ask(&fixture.client, "acme.prod.pontoon.command.sub0.shop.call.x", "{}", &[]).await;
    assert_eq!(reply.status, "response");
}

#[tokio::test]
async fn a_broken_link_is_dialled_again_and_leaves_a_gap() {
    let fixture = Fixture::start().await;
    let mut events = listen(&fixture.client, "pontoon.event.*.*.gap.detected.>").await;
    fixture.sub0.cut();
    let (_, gap) = next(&mut events, |_, _| true).await;
    assert_eq!(
        (&gap["reason"], &gap["link"], &gap["recovered"]),
        (&json!("disconnected"), &json!("main"), &json!(false))
    );
    assert!(gap["to"].is_string());
    fixture.sub0.connected(1, crate::support::DEADLINE).await;
}

#[tokio::test]
async fn whatever_the_service_sends_is_published_and_closes_nothing() {
    let fixture = Fixture::start().await;
    let mut events = listen(&fixture.client, "pontoon.event.>").await;
    fixture.sub0.send_text("ping");
    fixture.sub0.send_text("[1,2]");
    fixture.sub0.send_binary(&[0, 255]);
    fixture.sub0.send_text(&"[".repeat(100_000));
    fixture.sub0.send_text("{\"action\":\"x\\ud800\",\"data\":1}");
    fixture.sub0.send_text("{\"uid\":null,\"action\":\"big\",\"data\":1e999}");
    let raws = [json!([1, 2]), json!({"base64": "AP8="}), json!("[".repeat(100_000))];
    for raw in raws {
        let (message, body) = next(&mut events, |_, _| true).await;
        assert_eq!(message.subject.as_str(), "pontoon.event.sub0.shop.frame.unrecognised._");
        assert_eq!(body["raw"], raw);
    }
    let (message, _) = next(&mut events, |_, _| true).await;
    assert_eq!(message.subject.as_str(), "pontoon.event.sub0.shop.resource.broadcast.x=EF=BF=BD");
    let (message, _) = next(&mut events, |_, _| true).await;
    assert!(String::from_utf8_lossy(&message.payload).contains("1e999"), "numbers travel untouched");
    assert_eq!(fixture.sub0.upgrades(), 1);
}

#[tokio::test]
async fn broadcasts_reach_those_they_are_for() {
    let nats = NatsServer::start().await;
    let sub0 = pontoon_testkit::Sub0::start().await;
    let client = nats.client().await;
    let one = format!("url = \"{}\"\nuid = \"u1\"", sub0.url());
    let two = format!("url = \"{}\"\nuid = \"u2\"", sub0.url());
    let config = pontoon_testkit::DaemonConfig::new(&nats)
        .connector("one", "sub0", &one)
        .connector("two", "sub0", &two);
    let mut events = listen(&client, "pontoon.event.*.*.resource.broadcast.>").await;
    let _daemon = crate::support::start(config);
    sub0.connected(2, crate::support::DEADLINE).await;
    sub0.broadcast_to(&Audience::Single("u2".into()), "single", &json!(1));
    let (message, body) = next(&mut events, |_, _| true).await;
    assert_eq!(message.subject.as_str(), "pontoon.event.sub0.two.resource.broadcast.single");
    assert_eq!(body["uid"], "u2");
    sub0.broadcast_to(&Audience::Bulk(vec!["u1".into(), "u2".into()]), "bulk", &json!(2));
    let mut places = Vec::new();
    for _ in 0..2 {
        let (message, _) = next(&mut events, |_, _| true).await;
        places.push(message.subject.as_str().to_owned());
    }
    places.sort();
    assert_eq!(
        places,
        ["pontoon.event.sub0.one.resource.broadcast.bulk", "pontoon.event.sub0.two.resource.broadcast.bulk"]
    );
}

#[tokio::test]
async fn the_state_is_published_on_every_change() {
    let fixture = Fixture::start().await;
    let mut states = listen(&fixture.client, "pontoon.state.sub0.shop").await;
    fixture.sub0.stop_listening().await;
    fixture.sub0.cut();
    let phase = |state: &Value| state["links"][0]["phase"].clone();
    let (_, down) = next(&mut states, |_, state| phase(state) == "waiting").await;
    assert!(down["links"][0]["detail"].is_string() && down["links"][0]["retry_at"].is_string());
    fixture.sub0.listen_again().await;
    next(&mut states, |_, state| phase(state) == "ready").await;
}
