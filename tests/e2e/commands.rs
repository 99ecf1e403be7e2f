//! The replies to callers, and what is sent for them.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use pontoon_testkit::{DaemonConfig, ErrorShape, NatsServer, Resource, Sub0, eventually, repeat};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{DEADLINE, Fixture, Reply, ask, listen, request, round_trip, start};

#[tokio::test]
async fn a_call_is_answered_with_the_services_data() {
    let fixture = Fixture::start().await;
    fixture.sub0.resource("fetch-balance", Resource::data(json!({"wallet_balance": 12})));
    let reply = fixture.ask("call.fetch-balance", r#"{"a":1}"#, &[("Pontoon-Action", "balance_check")]).await;
    assert_eq!(reply.verdict(), ("response", None));
    assert_eq!(reply.body["data"], json!({"wallet_balance": 12}));
    assert!(reply.body["id"].is_string());
    let sent: serde_json::Value = serde_json::from_str(&fixture.sub0.texts()[0]).expect("JSON");
    assert_eq!(sent, json!({"resource": "fetch-balance", "action": "balance_check", "payload": {"a": 1}}));
    // A name with a slash, as it is and escaped.
    for name in ["auth/sign-in", "auth=2Fsign-in"] {
        assert_eq!(fixture.ask(&format!("call.{name}"), "{}", &[]).await.status, "response");
    }
    assert_eq!(fixture.sub0.calls("auth/sign-in").len(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_replied_and_nothing_is_sent() {
    let fixture = Fixture::with(NatsServer::options().config("max_payload: 4194304"), "").await;
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    for (operation, body, headers, verdict) in [
        ("call.x", "{bad", vec![], ("rejected", Some("400"))),
        ("call.x", "{} {}", vec![], ("rejected", Some("400"))),
        ("call.x", large.as_str(), vec![], ("rejected", Some("413"))),
        ("nope", "{}", vec![], ("rejected", Some("404"))),
        ("status.more", "{}", vec![], ("rejected", Some("404"))),
        ("call.=ZZ", "{}", vec![], ("rejected", Some("400"))),
        ("call.x", "{}", vec![("Pontoon-Wait", "soon")], ("rejected", Some("400"))),
        ("reconnect", "{}", vec![("Pontoon-Wait", "response")], ("rejected", Some("400"))),
        ("call.x", "{}", vec![("Pontoon-Timeout", "later")], ("rejected", Some("400"))),
        ("call.x", "{}", vec![("Pontoon-Timeout", "9h")], ("rejected", Some("400"))),
        ("call.x", "{}", vec![("Idempotency-Key", "")], ("rejected", Some("400"))),
    ] {
        let reply = fixture.ask(operation, body, &headers).await;
        assert_eq!(reply.verdict(), verdict, "{operation} {headers:?} {}", reply.message());
        assert!(!reply.message().is_empty());
    }
    let without = fixture.ask("call", "{}", &[]).await;
    assert_eq!(without.status, "rejected", "{}", without.message());
    assert!(fixture.sub0.texts().is_empty());
}

#[tokio::test]
async fn the_services_refusal_is_reported_as_it_came() {
    let fixture = Fixture::start().await;
    for shape in [
        ErrorShape::Message,
        ErrorShape::Error,
        ErrorShape::ErrorObject,
        ErrorShape::Status,
        ErrorShape::Anonymous,
    ] {
        fixture.sub0.resource("broke", Resource::error(shape, "insufficient funds"));
        let reply = fixture.ask("call.broke", "{}", &[]).await;
        assert_eq!(reply.verdict(), ("failed", Some("502")), "{shape:?}");
        assert!(reply.message().contains("insufficient funds"), "{shape:?}: {}", reply.message());
    }
}

#[tokio::test]
async fn a_call_while_disconnected_fails_at_once() {
    let fixture = Fixture::start().await;
    fixture.sub0.stop_listening().await;
    fixture.sub0.cut();
    fixture.state(|state| state["links"][0]["phase"] == "waiting").await;
    let reply = fixture.ask("call.x", "{}", &[]).await;
    assert_eq!(reply.verdict(), ("failed", Some("503")));
    assert!(fixture.sub0.texts().is_empty());
    let absent = ask(&fixture.client, "pontoon.command.sub0.other.call.x", "{}", &[]).await;
    assert_eq!(absent.status, "no responders");
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_unknown() {
    let fixture = Fixture::start().await;
    fixture.sub0.resource("silent", Resource::nothing());
    let reply = fixture.ask("call.silent", "{}", &[("Pontoon-Timeout", "1s")]).await;
    assert_eq!(reply.verdict(), ("unknown", Some("504")));
    // The next call of the same action waits behind the answer that may still come, and is never sent.
    let reply = fixture.ask("call.silent", "{}", &[("Pontoon-Timeout", "1s")]).await;
    assert_eq!(reply.verdict(), ("expired", Some("408")));
    assert_eq!(fixture.sub0.calls("silent").len(), 1);
    // A lost connection.
    fixture.sub0.resource("cut", Resource::nothing());
    let asked = fixture.ask("call.cut", "{}", &[]);
    let cut = async {
        eventually(DEADLINE, async || fixture.sub0.calls("cut").len() == 1).await;
        fixture.sub0.cut();
    };
    let (reply, ()) = tokio::join!(asked, cut);
    assert_eq!(reply.verdict(), ("unknown", Some("504")), "{}", reply.message());
}

#[tokio::test]
async fn a_caller_may_wait_for_less() {
    let fixture = Fixture::start().await;
    fixture.sub0.resource("silent", Resource::nothing());
    assert_eq!(
        fixture.ask("call.silent", "{}", &[("Pontoon-Wait", "accepted")]).await.verdict(),
        ("accepted", None)
    );
    assert_eq!(fixture.ask("call.other", "{}", &[("Pontoon-Wait", "sent")]).await.verdict(), ("sent", None));
    eventually(DEADLINE, async || fixture.sub0.texts().len() == 2).await;
}

#[tokio::test]
async fn a_reply_goes_to_inboxes_only_and_a_bad_one_sends_nothing() {
    let mut fixture = Fixture::start().await;
    let jetstream = async_nats::jetstream::new(fixture.client.clone());
    let config = async_nats::jetstream::stream::Config {
        name: "X".into(),
        subjects: vec!["x".into()],
        ..Default::default()
    };
    jetstream.create_stream(config).await.expect("a stream");
    jetstream.publish("x", "kept".into()).await.expect("published").await.expect("stored");
    let mut strays = listen(&fixture.client, "elsewhere.>").await;
    for reply in ["$JS.API.STREAM.PURGE.X", "elsewhere.x", "pontoon.command.sub0.shop.call.y"] {
        fixture
            .client
            .publish_with_reply("pontoon.command.sub0.shop.call.x", reply, "{}".into())
            .await
            .expect("published");
    }
    round_trip(&fixture.client).await;
    let labels =
        [("pontoon_instance", "shop"), ("type", "sub0"), ("operation", "call"), ("outcome", "bad_reply")];
    let daemon = &mut fixture.daemon;
    eventually(DEADLINE, async || {
        daemon.metrics().await.value("pontoon_commands_total", &labels) == Some(3.0)
    })
    .await;
    assert_eq!(fixture.ask("call.last", "{}", &[]).await.status, "response");
    assert_eq!(fixture.sub0.texts().len(), 1, "only the last was sent");
    let stream = jetstream.get_stream("X").await.expect("there");
    assert_eq!(stream.get_info().await.expect("info").state.messages, 1, "not purged");
    assert!(futures_util::FutureExt::now_or_never(strays.next()).is_none());
}

#[tokio::test]
async fn a_thousand_calls_at_once_are_each_answered_once() {
    let fixture = Fixture::start().await;
    let inbox = fixture.client.new_inbox();
    let mut replies = listen(&fixture.client, &format!("{inbox}.*")).await;
    for number in 0..1_000 {
        let subject = format!("pontoon.command.sub0.shop.call.r{number}");
        fixture
            .client
            .publish_with_reply(subject, format!("{inbox}.{number}"), format!("{{\"n\":{number}}}").into())
            .await
            .expect("published");
    }
    let mut seen = std::collections::HashMap::new();
    while seen.len() < 1_000 {
        let message = timeout(DEADLINE, replies.next()).await.expect("in time").expect("more");
        let number: usize =
            message.subject.rsplit('.').next().and_then(|n| n.parse().ok()).expect("a number");
        let reply = Reply::of(&message);
        match reply.verdict() {
            ("response", None) => assert_eq!(reply.body["data"]["n"], number),
            ("rejected", Some("429")) => {}
            other => panic!("{other:?}: {}", reply.message()),
        }
        assert!(seen.insert(number, reply.status).is_none(), "{number} was answered twice");
    }
    let answered = seen.values().filter(|status| *status == "response").count();
    assert!(answered >= 256, "{answered}");
    assert_eq!(fixture.sub0.texts().len(), answered, "what was refused was not sent");
    round_trip(&fixture.client).await;
    assert!(futures_util::FutureExt::now_or_never(replies.next()).is_none());
}

#[tokio::test]
async fn a_command_with_a_key_is_carried_out_once() {
    let fixture = Fixture::start().await;
    fixture.sub0.resource("pay", Resource::echo().after(Duration::from_millis(200)));
    let key = [("Idempotency-Key", "k1")];
    let (first, second) =
        tokio::join!(fixture.ask("call.pay", "{\"a\":1}", &key), fixture.ask("call.pay", "{\"a\":1}", &key));
    assert_eq!((first.verdict(), second.verdict()), (("response", None), ("response", None)));
    assert_eq!(first.body, second.body);
    let later = fixture.ask("call.pay", "{\"a\":1}", &key).await;
    assert_eq!(later.body, first.body);
    assert_eq!(fixture.sub0.calls("pay").len(), 1);
    assert_eq!(fixture.ask("call.pay", "{\"a\":2}", &key).await.verdict(), ("rejected", Some("409")));
}

#[tokio::test]
async fn callers_never_get_anothers_answer_whatever_the_correlation() {
    for correlation in ["serial", "unique_action", "fifo"] {
        let nats = NatsServer::start().await;
        let sub0 = Sub0::start().await;
        let client = nats.client().await;
        let settings = format!("url = \"{}\"\ncorrelation = \"{correlation}\"", sub0.url());
        let _daemon = start(DaemonConfig::new(&nats).connector("shop", "sub0", &settings));
        sub0.connected(1, DEADLINE).await;
        eventually(DEADLINE, async || {
            ask(&client, "pontoon.command.sub0.shop.call.warm", "{}", &[]).await.status == "response"
        })
        .await;
        let calls = (0..100).map(|number| {
            let client = client.clone();
            async move {
                let body = format!("{{\"n\":{number}}}");
                let headers = [("Pontoon-Action", "same")];
                let reply = ask(&client, "pontoon.command.sub0.shop.call.echo", &body, &headers).await;
                assert_eq!(reply.body["data"]["n"], number, "{correlation}: {}", reply.message());
            }
        });
        join_all(calls).await;
    }
}

#[tokio::test]
async fn the_instance_is_a_micro_service() {
    let fixture = Fixture::start().await;
    fixture.ask("call.x", "{}", &[]).await;
    let asked = async |verb: &str| {
        request(&fixture.client, &format!("$SRV.{verb}.pontoon-sub0-shop")).await.expect("an answer")
    };
    let info = asked("INFO").await;
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    let call =
        info["endpoints"].as_array().expect("endpoints").iter().find(|endpoint| endpoint["name"] == "call");
    let call = call.expect("call is an endpoint");
    assert_eq!(call["subject"], "pontoon.command.sub0.shop.call.>");
    assert!(
        serde_json::from_str::<serde_json::Value>(call["metadata"]["schema"].as_str().expect("a schema"))
            .is_ok()
    );
    let stats = asked("STATS").await;
    let call =
        stats["endpoints"].as_array().expect("endpoints").iter().find(|endpoint| endpoint["name"] == "call");
    assert_eq!(call.expect("call is an endpoint")["num_requests"], 1);
    assert_eq!(asked("PING").await["name"], "pontoon-sub0-shop");
}

#[tokio::test]
async fn reconnect_makes_a_new_connection() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.ask("reconnect", "", &[]).await.verdict(), ("accepted", None));
    eventually(DEADLINE, async || fixture.sub0.upgrades() == 2).await;
    fixture.state(|state| state["links"][0]["phase"] == "ready").await;
    assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "response");
}

#[tokio::test]
async fn an_action_is_free_again_after_the_window_however_much_is_broadcast() {
    let fixture = Fixture::with(NatsServer::options(), "").await;
    let settings = format!("url = \"{}\"\nlate_answer_window = \"300ms\"", fixture.sub0.url());
    let _second = start(DaemonConfig::new(&fixture.nats).connector("held", "sub0", &settings));
    fixture.sub0.connected(2, DEADLINE).await;
    fixture.sub0.resource("silent", Resource::nothing());
    let call = |body: &'static str, timeout: &'static str| {
        let headers = [("Pontoon-Timeout", timeout)];
        let client = fixture.client.clone();
        async move { ask(&client, "pontoon.command.sub0.held.call.silent", body, &headers).await }
    };
    eventually(DEADLINE, async || call("{}", "100ms").await.status == "unknown").await;
    fixture.sub0.resource("silent", Resource::echo());
    // Not as fast as it goes: the answer comes behind all of it, and NATS must have taken that first.
    let busy = repeat(Duration::from_millis(10), async || {
        fixture.sub0.blast(50, |_| r#"{"uid":null,"action":"noise","data":1}"#.to_owned()).await;
    });
    let answered = async { call("{\"n\":1}", "60s").await };
    let reply = tokio::select! {
        reply = answered => reply,
        never = busy => match never {},
    };
    assert_eq!(reply.verdict(), ("response", None), "{}", reply.message());
}

#[tokio::test]
async fn an_answer_larger_than_nats_takes_comes_without_its_data() {
    let fixture = Fixture::with(NatsServer::options().config("max_payload: 65536"), "").await;
    fixture.sub0.resource("large", Resource::data(json!("x".repeat(100_000))));
    let reply = fixture.ask("call.large", "{}", &[]).await;
    assert_eq!(reply.body["status"], "response");
    assert_eq!(reply.body["error"]["code"], 413);
    assert!(reply.message().contains("max_payload"), "{}", reply.message());
}

#[tokio::test]
async fn a_caller_who_joins_a_key_is_answered_though_the_first_went_early() {
    let fixture = Fixture::start().await;
    fixture.sub0.resource("silent", Resource::nothing());
    // The action is held from now on, so that what follows waits and is never sent.
    assert_eq!(fixture.ask("call.silent", "{}", &[("Pontoon-Timeout", "1s")]).await.status, "unknown");
    let key = ("Idempotency-Key", "k");
    let first = [key, ("Pontoon-Wait", "accepted"), ("Pontoon-Timeout", "500ms")];
    assert_eq!(fixture.ask("call.silent", "{}", &first).await.status, "accepted");
    assert_eq!(fixture.ask("call.silent", "{}", &[key]).await.verdict(), ("expired", Some("408")));
    // It was certainly not done: the key is free again.
    let again = [key, ("Pontoon-Timeout", "100ms")];
    assert_eq!(fixture.ask("call.silent", "{}", &again).await.verdict(), ("expired", Some("408")));
    assert_eq!(fixture.sub0.calls("silent").len(), 1);
}
