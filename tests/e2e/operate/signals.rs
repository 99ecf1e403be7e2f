//! SIGTERM, SIGINT, and impatience.

use futures_util::StreamExt as _;
use pontoon_testkit::Resource;
use serde_json::json;

use super::*;

/// Waits until the daemon has logged that it stops.
async fn stopping(daemon: &Daemon) {
    eventually(DEADLINE, async || !daemon.logged("stopping; instances drain").is_empty()).await;
}

#[tokio::test]
async fn both_signals_drain_and_a_call_under_way_gets_its_answer() {
    for signal in ["TERM", "INT"] {
        let (nats, sub0, mut daemon) = fixture("").await;
        sub0.resource("slow", Resource::nothing());
        let client = nats.client().await;
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.unwrap();
        let subject = "pontoon.command.sub0.shop.call.slow";
        client.publish_with_reply(subject, inbox, "{\"n\":1}".into()).await.unwrap();
        eventually(DEADLINE, async || sub0.calls("slow").len() == 1).await;
        daemon.signal(signal);
        stopping(&daemon).await;
        assert_eq!(daemon.get("/readyz").await, (503, "the daemon is stopping\n".to_owned()));
        assert_eq!(daemon.get("/livez").await.0, 200);
        sub0.send_text(r#"{"uid":null,"action":"slow","data":{"n":1}}"#);
        let reply = tokio::time::timeout(DEADLINE, replies.next()).await.unwrap().unwrap();
        let body: Value = serde_json::from_slice(&reply.payload).unwrap();
        assert_eq!((&body["status"], &body["data"]), (&json!("response"), &json!({"n": 1})), "{body}");
        assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0), "{}", daemon.log());
        assert_eq!(daemon.logged("drained").len(), 1);
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (nats, sub0, mut daemon) = fixture("shutdown.timeout = \"5m\"").await;
    sub0.resource("never", Resource::nothing());
    let client = nats.client().await;
    let inbox = client.new_inbox();
    let subject = "pontoon.command.sub0.shop.call.never";
    client.publish_with_reply(subject, inbox, "{}".into()).await.unwrap();
    eventually(DEADLINE, async || sub0.calls("never").len() == 1).await;
    daemon.signal("TERM");
    stopping(&daemon).await;
    // A reload is not what was asked for twice.
    daemon.signal("HUP");
    eventually(DEADLINE, async || daemon.log().contains("the configuration is not read again")).await;
    daemon.signal("INT");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(69));
    assert!(daemon.log().contains("a second signal"), "{}", daemon.log());
}

#[tokio::test]
async fn a_missed_deadline_logs_what_is_left() {
    let (nats, sub0, mut daemon) = fixture("shutdown.timeout = \"1s\"").await;
    nats.freeze();
    sub0.broadcast("tick", &json!(1));
    eventually(DEADLINE, async || status(&mut daemon, "shop").await["unconfirmed_events"] == 1).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(69), "{}", daemon.log());
    let words = "NATS did not confirm these events in time; those that it does not hold are lost";
    let left = daemon.logged(words).pop().unwrap();
    assert_eq!((&left["instance"], &left["events"]), (&json!("shop"), &json!(1)), "{left}");
}

#[tokio::test]
async fn it_stops_in_time_where_neither_nats_nor_the_service_was_ever_there() {
    let config = DaemonConfig::with_nats_url("nats://127.0.0.1:1")
        .with("shutdown.timeout = \"5m\"")
        .connector("shop", "sub0", "url = \"ws://127.0.0.1:1/ws\"");
    let mut daemon = start(config);
    eventually(DEADLINE, async || status(&mut daemon, "shop").await["running"] == true).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0), "{}", daemon.log());
}
