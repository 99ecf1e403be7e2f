//! Callers who share a key, traces, and how many keys are kept.

use async_nats::{HeaderMap, Message};
use futures_util::StreamExt as _;
use pontoon_testkit::{Daemon, DaemonConfig, MinChat, NatsServer, Resource, Sub0, eventually};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{DEADLINE, Fixture, Reply, ask, listen, next, start};

const TRACE: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

#[tokio::test]
async fn a_key_holds_for_one_action_and_one_body_only() {
    let fixture = Fixture::start().await;
    let key = ("Idempotency-Key", "k");
    let pay = [key, ("Pontoon-Action", "pay"), ("Pontoon-Note", "a"), TRACE];
    let first = fixture.ask("call.wallet", "{}", &pay).await;
    assert_eq!(first.verdict(), ("response", None));
    for (headers, body) in [
        (&[key, ("Pontoon-Action", "refund"), ("Pontoon-Note", "a")][..], "{}"),
        (&[key, ("Pontoon-Action", "pay"), ("Pontoon-Note", "b")], "{}"),
        (&[key, ("Pontoon-Note", "a")], "{}"),
        (&pay, "{\"a\":1}"),
    ] {
        let reply = fixture.ask("call.wallet", body, headers).await;
        assert_eq!(reply.verdict(), ("rejected", Some("409")), "{headers:?}");
    }
    // How long a caller waits, for what, in which trace: none of it changes what is done.
    let wait = [key, ("Pontoon-Action", "pay"), ("Pontoon-Note", "a"), ("Pontoon-Timeout", "3s")];
    assert_eq!(fixture.ask("call.wallet", "{}", &wait).await.body, first.body);
    assert_eq!(fixture.sub0.calls("wallet").len(), 1);
}

#[tokio::test]
async fn each_caller_of_a_key_waits_for_its_own_time() {
    let fixture = Fixture::start().await;
    fixture.sub0.resource("pay", Resource::nothing());
    let key = ("Idempotency-Key", "k");
    let long = [key, ("Pontoon-Timeout", "60s")];
    let first = fixture.ask("call.pay", "{}", &long);
    let others = async {
        eventually(DEADLINE, async || fixture.sub0.calls("pay").len() == 1).await;
        let short = [key, ("Pontoon-Timeout", "100ms")];
        for _ in 0..2 {
            let reply = fixture.ask("call.pay", "{}", &short).await;
            assert_eq!(reply.verdict(), ("unknown", Some("504")), "{}", reply.message());
        }
        // The first one's time has not run out, and its answer comes.
        fixture.sub0.send_text(r#"{"uid":null,"action":"pay","data":{"paid":true}}"#);
    };
    let (reply, ()) = tokio::join!(first, others);
    assert_eq!(reply.verdict(), ("response", None));
    let again = fixture.ask("call.pay", "{}", &[key]).await;
    assert_eq!(again.body, reply.body);
    assert_eq!(fixture.sub0.calls("pay").len(), 1);

    // One that waits for its turn may still be sent for its first caller.
    fixture.sub0.resource("held", Resource::nothing());
    assert_eq!(fixture.ask("call.held", "{}", &[("Pontoon-Timeout", "1s")]).await.status, "unknown");
    let key = ("Idempotency-Key", "held");
    let times = ["2s", "50ms"].map(|time| [key, ("Pontoon-Timeout", time)]);
    let (first, second) =
        (fixture.ask("call.held", "{}", &times[0]), fixture.ask("call.held", "{}", &times[1]));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.verdict(), ("expired", Some("408")));
    assert_eq!(second.verdict(), ("unknown", Some("504")));
    assert_eq!(fixture.sub0.calls("held").len(), 1);
}

#[tokio::test]
async fn a_full_table_refuses_new_keys_and_forgets_none() {
    for setting in ["commands.idempotency_keys = 40", "commands.idempotency_bytes = \"40KiB\""] {
        let mut fixture = Fixture::with(NatsServer::options(), setting).await;
        let pay = async |key: &str| fixture.ask("call.pay", "{}", &[("Idempotency-Key", key)]).await;
        let first = pay("0").await;
        assert_eq!(first.status, "response");
        let mut kept = 1;
        let full = loop {
            let reply = pay(&kept.to_string()).await;
            if reply.status != "response" {
                break reply;
            }
            kept += 1;
            assert!(kept < 100, "{setting}: no key is refused");
        };
        assert_eq!(full.verdict(), ("rejected", Some("429")), "{setting}");
        assert!(full.message().contains("idempotency_"), "{}", full.message());
        assert_eq!(pay("0").await.body, first.body, "{setting}");
        assert_eq!(fixture.sub0.calls("pay").len(), kept);
        // Without a key there is no need of room, and every caller is counted.
        assert_eq!(fixture.ask("call.pay", "{}", &[]).await.status, "response");
        let metrics = fixture.daemon.metrics().await;
        let counted =
            |outcome| metrics.value("pontoon_commands_total", &[("operation", "call"), ("outcome", outcome)]);
        assert_eq!((counted("response"), counted("rejected")), (Some(kept as f64 + 2.0), Some(1.0)));
    }
}

/// A request, and its replies up to the last.
async fn replies(fixture: &Fixture, operation: &str, body: &str, headers: &[(&str, &str)]) -> Vec<Message> {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(*name, *value));
    let inbox = fixture.client.new_inbox();
    let mut replies = fixture.client.subscribe(inbox.clone()).await.expect("subscribed");
    let subject = format!("pontoon.command.sub0.shop.{operation}");
    let sent = fixture.client.publish_with_reply_and_headers(subject, inbox, map, body.to_owned().into());
    sent.await.expect("published");
    let mut all = Vec::new();
    loop {
        let message = timeout(DEADLINE, replies.next()).await.expect("in time").expect("a reply");
        let last = Reply::of(&message).status != "part";
        all.push(message);
        if last {
            return all;
        }
    }
}

fn trace(message: &Message) -> Option<&str> {
    message.headers.as_ref()?.get("traceparent").map(|value| value.as_str())
}

#[tokio::test]
async fn a_trace_goes_on_in_every_reply_and_in_the_event_that_the_command_causes() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let client = nats.client().await;
    let lines = "publish_responses = true";
    let daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0).with(lines));
    let fixture = Fixture { daemon, sub0, nats, client };
    fixture.state(|state| state["links"][0]["phase"] == "ready" && state["bus"]["publishing"] == true).await;
    let mut events = listen(&fixture.client, "pontoon.event.>").await;
    fixture.sub0.resource("silent", Resource::nothing());
    fixture.sub0.resource("broke", Resource::error(pontoon_testkit::ErrorShape::Message, "no"));
    for (operation, body, header, status) in [
        ("call.x", "{}", ("Pontoon-Wait", "response"), "response"),
        ("call.x", "{}", ("Pontoon-Wait", "sent"), "sent"),
        ("call.x", "{}", ("Pontoon-Wait", "accepted"), "accepted"),
        ("call.broke", "{}", ("Pontoon-X", "1"), "failed"),
        ("call.silent", "{}", ("Pontoon-Timeout", "1s"), "unknown"),
        ("call.x", "{bad", ("Pontoon-X", "1"), "rejected"),
        ("call.x", "{}", ("Pontoon-Wait", "soon"), "rejected"),
        ("nope", "{}", ("Pontoon-X", "1"), "rejected"),
        ("status", "{}", ("Pontoon-X", "1"), "response"),
        ("reconnect", "{}", ("Pontoon-X", "1"), "accepted"),
    ] {
        let all = replies(&fixture, operation, body, &[header, TRACE]).await;
        assert!(all.iter().all(|reply| trace(reply) == Some(TRACE.1)), "{operation} {header:?}");
        assert_eq!(Reply::of(&all[0]).status, status, "{operation} {header:?}");
    }
    let responded = |message: &Message| message.subject.contains("resource.responded");
    let (event, _) = next(&mut events, |message, _| responded(message)).await;
    assert_eq!(trace(&event), Some(TRACE.1));

    eventually(DEADLINE, async || fixture.sub0.upgrades() == 2).await;
    fixture.state(|state| state["links"][0]["phase"] == "ready").await;
    let long = "0".repeat(4_000);
    for garbage in ["", "00", &TRACE.1.to_uppercase(), &format!("{}-x", TRACE.1), &long] {
        let headers = [("traceparent", garbage), ("Pontoon-Action", "garbage")];
        let all = replies(&fixture, "call.x", "{}", &headers).await;
        assert_eq!((Reply::of(&all[0]).status.as_str(), trace(&all[0])), ("response", None), "{garbage}");
        let (event, _) = next(&mut events, |message, _| message.subject.ends_with(".garbage")).await;
        assert_eq!(trace(&event), None, "{garbage}");
    }
}

#[tokio::test]
async fn an_event_that_names_its_command_is_in_the_commands_trace() {
    let nats = NatsServer::start().await;
    let minchat = MinChat::start("key").await;
    minchat.add_user(&json!({"id": "u1", "username": "one", "name": "One"}));
    minchat.add_chat("c1", "One", &["u1"]);
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.>").await;
    let _daemon = start(DaemonConfig::new(&nats).minchat("support", &minchat, "u1", &["c1"]));
    let send = "pontoon.command.minchat.support.message.send";
    let body = r#"{"channel":"c1","text":"Hello!"}"#;
    eventually(DEADLINE, async || ask(&client, send, body, &[TRACE]).await.status == "acked").await;
    for kind in ["message.accepted", "message.created"] {
        let (event, _) = next(&mut events, |message, _| message.subject.contains(kind)).await;
        assert_eq!(trace(&event), Some(TRACE.1), "{kind}");
    }
    // One without a trace has none, even behind one that has.
    assert_eq!(ask(&client, send, body, &[]).await.status, "acked");
    let (event, _) = next(&mut events, |message, _| message.subject.contains("message.accepted")).await;
    assert_eq!(trace(&event), None);
}

#[tokio::test]
async fn one_that_joins_counts_as_a_command_under_way() {
    let mut fixture = Fixture::with(NatsServer::options(), "commands.max_in_flight = 2").await;
    fixture.sub0.resource("pay", Resource::nothing());
    let key = [("Idempotency-Key", "k")];
    let counted = async |daemon: &mut Daemon, outcome| {
        let labels = [("operation", "call"), ("outcome", outcome)];
        daemon.metrics().await.value("pontoon_commands_total", &labels).unwrap_or_default()
    };
    let Fixture { daemon, sub0, client, .. } = &mut fixture;
    let calls = (0..3).map(|_| ask(client, "pontoon.command.sub0.shop.call.pay", "{}", &key));
    let calls = futures_util::future::join_all(calls);
    // The service replies once all three have come.
    let answer = async {
        eventually(DEADLINE, async || counted(daemon, "rejected").await == 1.0).await;
        eventually(DEADLINE, async || sub0.calls("pay").len() == 1).await;
        sub0.send_text(r#"{"uid":null,"action":"pay","data":{"paid":true}}"#);
    };
    let (replies, ()) = tokio::join!(calls, answer);
    let mut statuses: Vec<_> = replies.into_iter().map(|reply| reply.status).collect();
    statuses.sort();
    assert_eq!(statuses, ["rejected", "response", "response"]);
    assert_eq!((counted(daemon, "response").await, counted(daemon, "rejected").await), (2.0, 1.0));
}
