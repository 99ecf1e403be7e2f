//! Ready means: subscribed to commands at least once. What is waited for is named.

use futures_util::StreamExt as _;
use pontoon_testkit::{NatsOptions, until_some};

use super::*;

/// A daemon with one instance, started just now, and its server.
async fn begun(options: NatsOptions, lines: &str) -> (NatsServer, Sub0, Daemon) {
    let nats = options.start().await;
    let sub0 = Sub0::start().await;
    let daemon = start(DaemonConfig::new(&nats).with(lines).sub0("shop", &sub0));
    (nats, sub0, daemon)
}

/// Waits until it is not ready for a reason with this text.
async fn unready(daemon: &mut Daemon, reason: &str) {
    let found = async |daemon: &mut Daemon| {
        let (code, text) = daemon.get("/readyz").await;
        (code == 503 && text.contains(reason)).then_some(())
    };
    until_some(DEADLINE, async || found(daemon).await).await;
}

#[tokio::test]
async fn a_command_at_the_first_sign_of_readiness_is_answered() {
    for round in 0..5 {
        let (nats, _sub0, mut daemon) = begun(NatsServer::options(), "").await;
        let client = nats.client().await;
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.unwrap();
        let (code, text) = daemon.get("/readyz").await;
        assert!(code == 200 || text.contains("starting") || text.contains("shop: "), "{text}");
        daemon.ready(DEADLINE).await;
        client.publish_with_reply("pontoon.command.sub0.shop.status", inbox, "".into()).await.unwrap();
        let reply = tokio::time::timeout(DEADLINE, replies.next()).await.unwrap().unwrap();
        assert_eq!(reply.status, None, "round {round}: no responders");
        let body: Value = serde_json::from_slice(&reply.payload).unwrap();
        assert_eq!(body["data"]["commands"]["subscribed"], true, "{body}");
    }
}

#[tokio::test]
async fn a_start_without_nats_is_not_ready_with_a_reason_and_a_later_break_keeps_it_ready() {
    let mut nats = NatsServer::start().await;
    nats.kill();
    let sub0 = Sub0::start().await;
    let mut daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    unready(&mut daemon, "shop: not subscribed to commands yet: NATS cannot be reached").await;
    assert_eq!(daemon.get("/livez").await.0, 200);
    assert_eq!(status(&mut daemon, "shop").await["commands"]["subscribed"], false);
    nats.restart().await;
    daemon.ready(DEADLINE).await;
    daemon.logs("subscribed to commands").await;
    assert_eq!(daemon.logged("subscribed to commands").len(), 1);
    nats.kill();
    counted(&mut daemon, "pontoon_nats_connected", "shop", 0.0).await;
    // What is wrong is named all the same, and is a reason for those who ask strictly.
    let named = "shop: events are not published: ";
    eventually(DEADLINE, async || {
        let (code, text) = daemon.get("/readyz").await;
        assert_eq!(code, 200, "{text}");
        text.starts_with("ok\n") && text.contains(named)
    })
    .await;
    let (code, text) = daemon.get("/readyz?strict").await;
    assert!(code == 503 && text.starts_with(named), "{code} {text}");
}

#[tokio::test]
async fn a_server_that_stands_still_is_waited_for() {
    let (nats, sub0) = (NatsServer::start().await, Sub0::start().await);
    let client = nats.client().await;
    nats.freeze();
    let mut daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    unready(&mut daemon, "shop: not subscribed to commands yet").await;
    nats.thaw();
    daemon.ready(DEADLINE).await;
    drop(client);
}

#[tokio::test]
async fn a_subscription_that_is_refused_is_named() {
    let rights = |deny: &str| {
        format!(
            "authorization {{ users: [ {{ user: u, password: pw, permissions: {{ subscribe: {{ deny: [\"{deny}\"] }} }} }} ] }}"
        )
    };
    let lines = "nats.user = \"u\"\nnats.password = \"pw-x\"";
    let options = NatsServer::options().config(&rights("pontoon.command.>").replace("pw,", "pw-x,"));
    let (mut nats, _sub0, mut daemon) = begun(options, lines).await;
    unready(&mut daemon, "allow the daemon's user to subscribe to pontoon.command.sub0.shop.>").await;
    nats.reconfigure(&rights("nothing.of.ours").replace("pw,", "pw-x,"));
    // The server announces no new rights; the next connection has them.
    nats.restart().await;
    daemon.ready(DEADLINE).await;
}

#[tokio::test]
async fn an_instance_that_is_new_is_waited_for_after_a_reload() {
    let (nats, sub0, mut daemon) = super::fixture("").await;
    assert_eq!(daemon.get("/readyz").await.0, 200);
    nats.freeze();
    daemon.reconfigure(DaemonConfig::new(&nats).sub0("shop", &sub0).sub0("new", &sub0));
    daemon.signal("HUP");
    unready(&mut daemon, "new: not subscribed to commands yet").await;
    let (_, text) = daemon.get("/readyz").await;
    assert!(!text.contains("shop"), "what was subscribed stays ready: {text}");
    nats.thaw();
    daemon.ready(DEADLINE).await;
    assert_eq!(status(&mut daemon, "new").await["commands"]["subscribed"], true);
}
