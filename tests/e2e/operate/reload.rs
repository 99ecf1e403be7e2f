//! SIGHUP: what did not change is not touched, and a bad file changes nothing.

use pontoon_testkit::Resource;
use serde_json::json;

use super::*;

/// Reloads that ended like this.
async fn reloads(daemon: &mut Daemon, outcome: &str) -> f64 {
    daemon.metrics().await.value("pontoon_config_reloads_total", &[("outcome", outcome)]).unwrap()
}

/// Has the daemon read this configuration, and waits until it has.
pub(super) async fn reload(daemon: &mut Daemon, config: DaemonConfig, outcome: &str) {
    let before = reloads(daemon, outcome).await;
    daemon.reconfigure(config);
    daemon.signal("HUP");
    eventually(DEADLINE, async || reloads(daemon, outcome).await == before + 1.0).await;
}

#[tokio::test]
async fn only_what_changed_is_touched() {
    let nats = NatsServer::start().await;
    let (kept, changed, gone, new) =
        (Sub0::start().await, Sub0::start().await, Sub0::start().await, Sub0::start().await);
    let base = || DaemonConfig::new(&nats).sub0("kept", &kept);
    let mut daemon = start(base().sub0("changed", &changed).sub0("gone", &gone));
    for (name, sub0) in [("kept", &kept), ("changed", &changed), ("gone", &gone)] {
        sub0.connected(1, DEADLINE).await;
        publishing(&mut daemon, name).await;
    }
    gone.broadcast("tick", &json!(1));
    counted(&mut daemon, "pontoon_frames_received_total", "gone", 1.0).await;
    let epoch = status(&mut daemon, "kept").await["epoch"].clone();

    reload(&mut daemon, base().sub0("changed", &changed).with("uid = \"u1\"").sub0("new", &new), "applied")
        .await;
    new.connected(1, DEADLINE).await;
    gone.connected(0, DEADLINE).await;
    eventually(DEADLINE, async || {
        changed.upgrades() == 2
            && changed.connections().len() == 1
            && changed.requests()[1].parameter("uid") == Some("u1")
    })
    .await;
    for name in ["kept", "changed", "new"] {
        publishing(&mut daemon, name).await;
    }
    eventually(DEADLINE, async || status(&mut daemon, "gone").await == Value::Null).await;
    assert_eq!((kept.upgrades(), kept.connections().len()), (1, 1), "the socket was kept");
    assert_eq!(status(&mut daemon, "kept").await["epoch"], epoch);
    kept.broadcast("tick", &json!(2));
    counted(&mut daemon, "pontoon_frames_received_total", "kept", 1.0).await;

    // What was taken out is not exported any more.
    eventually(DEADLINE, async || {
        let metrics = daemon.metrics().await;
        let frames = |name| metrics.value("pontoon_frames_received_total", &[("pontoon_instance", name)]);
        frames("gone").is_none() && frames("kept").is_some()
    })
    .await;

    // What all share touches no socket.
    reload(&mut daemon, base().sub0("new", &new).with("[events]\nraw = false"), "applied").await;
    changed.connected(0, DEADLINE).await;
    assert_eq!((kept.upgrades(), new.upgrades()), (1, 1));
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_all_its_errors_are_logged() {
    let (nats, sub0, mut daemon) = fixture("").await;
    let bad = DaemonConfig::new(&nats)
        .connector("shop", "sub0", "url = \"http//nowhere\"\nuidd = \"x\"")
        .connector("more", "minecraft", "")
        .with("token = \"canary-in-a-bad-file\"");
    reload(&mut daemon, bad, "failed").await;
    let end = "the configuration has errors and changes nothing";
    eventually(DEADLINE, async || !daemon.logged(end).is_empty()).await;
    let log = daemon.log();
    for fault in ["connectors.shop.url", "connectors.shop.uidd", "connectors.more.type"] {
        assert!(log.contains(fault), "{fault} is not in\n{log}");
    }
    assert!(!log.contains("canary"), "{log}");
    daemon.reconfigure(DaemonConfig::new(&nats).with("not toml ["));
    daemon.signal("HUP");
    eventually(DEADLINE, async || reloads(&mut daemon, "failed").await == 2.0).await;
    assert_eq!((sub0.upgrades(), sub0.connections().len()), (1, 1));
    assert_eq!(daemon.get("/livez").await.0, 200);
    assert_eq!(reloads(&mut daemon, "applied").await, 0.0);
    sub0.broadcast("tick", &json!(1));
    counted(&mut daemon, "pontoon_frames_received_total", "shop", 1.0).await;
    // And the good one again changes nothing either.
    reload(&mut daemon, DaemonConfig::new(&nats).sub0("shop", &sub0), "applied").await;
    assert_eq!((sub0.upgrades(), sub0.connections().len()), (1, 1));
}

#[tokio::test]
async fn a_reload_that_would_stop_every_instance_is_refused() {
    let (nats, sub0, mut daemon) = fixture("").await;
    for config in [
        DaemonConfig::new(&nats),
        DaemonConfig::new(&nats).sub0("shop", &sub0).with("enabled = false"),
        DaemonConfig::new(&nats).with("log.level = \"off\""),
    ] {
        reload(&mut daemon, config, "failed").await;
    }
    let refused = "the configuration is refused and changes nothing";
    eventually(DEADLINE, async || daemon.logged(refused).len() == 3).await;
    let line = &daemon.logged(refused)[0];
    assert!(line["reason"].as_str().unwrap().contains("stop the daemon"), "{line}");
    assert_eq!((sub0.upgrades(), sub0.connections().len()), (1, 1));
    publishing(&mut daemon, "shop").await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
}

#[tokio::test]
async fn level_and_format_of_the_log_follow() {
    let (nats, sub0, mut daemon) = fixture("").await;
    let with = |lines: &str| DaemonConfig::new(&nats).with(lines).sub0("shop", &sub0);
    let lines_of = |daemon: &Daemon, level: &str| {
        let log = daemon.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["level"] == level).count()
    };
    assert_eq!(lines_of(&daemon, "TRACE"), 0);
    reload(&mut daemon, with("log.level = \"info,async_nats=trace\""), "applied").await;
    eventually(DEADLINE, async || lines_of(&daemon, "TRACE") > 0).await;
    reload(&mut daemon, with("log.level = \"info\"\nlog.format = \"text\""), "applied").await;
    let again = |line: &str| line.contains(" INFO ") && line.contains("the configuration was read again");
    eventually(DEADLINE, async || daemon.log().lines().any(again)).await;
    let noisy = |daemon: &Daemon| daemon.log().lines().filter(|line| line.contains("TRACE")).count();
    let before = noisy(&daemon);
    sub0.broadcast("tick", &json!(1));
    counted(&mut daemon, "pontoon_events_published_total", "shop", 2.0).await;
    assert_eq!(noisy(&daemon), before);
    assert_eq!(sub0.upgrades(), 1);
}

#[tokio::test]
async fn the_admin_endpoint_moves_and_ends() {
    let (nats, sub0, mut daemon) = fixture("").await;
    let first = daemon.admin().await;
    let port = first.rsplit(':').next().unwrap().to_owned();
    let with = |listen: &str| DaemonConfig::new(&nats).listen(listen).sub0("shop", &sub0);
    // The port that is in use by the endpoint itself, at all addresses.
    daemon.reconfigure(with(&format!("0.0.0.0:{port}")));
    daemon.signal("HUP");
    let here = format!("0.0.0.0:{port}");
    eventually(DEADLINE, async || daemon.admin().await == here).await;
    assert_eq!(daemon.get("/livez").await.0, 200);
    // An address that cannot be used leaves the endpoint where it is.
    reload(&mut daemon, with("192.0.2.1:9"), "applied").await;
    eventually(DEADLINE, async || daemon.log().contains("admin.listen 192.0.2.1:9 cannot be used")).await;
    assert_eq!((daemon.get("/livez").await.0, daemon.admin().await), (200, here.clone()));
    // Another port: the one before is free again.
    daemon.reconfigure(with("127.0.0.1:0"));
    daemon.signal("HUP");
    let closed =
        async |port: &str| tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.is_err();
    eventually(DEADLINE, async || closed(&port).await && daemon.admin().await != here).await;
    let second = daemon.admin().await;
    assert_eq!(daemon.get("/livez").await.0, 200);
    daemon.reconfigure(DaemonConfig::new(&nats).with("admin.enabled = false").sub0("shop", &sub0));
    daemon.signal("HUP");
    let port = second.rsplit(':').next().unwrap();
    eventually(DEADLINE, async || closed(port).await).await;
    assert_eq!((sub0.upgrades(), sub0.connections().len()), (1, 1));
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
}

#[tokio::test]
async fn an_instance_that_is_taken_out_and_put_back_starts_when_the_old_one_has_drained() {
    let nats = NatsServer::start().await;
    let (sub0, other) = (Sub0::start().await, Sub0::start().await);
    let base = || DaemonConfig::new(&nats).sub0("other", &other);
    let mut daemon = start(base().sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    publishing(&mut daemon, "shop").await;
    sub0.resource("slow", Resource::nothing());
    let client = nats.client().await;
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply("pontoon.command.sub0.shop.call.slow", inbox, "{}".into()).await.unwrap();
    eventually(DEADLINE, async || sub0.calls("slow").len() == 1).await;
    reload(&mut daemon, base(), "applied").await;
    assert_eq!(status(&mut daemon, "shop").await["running"], true, "it drains, and is shown");
    reload(&mut daemon, base().sub0("shop", &sub0), "applied").await;
    sub0.send_text(r#"{"uid":null,"action":"slow","data":{}}"#);
    let reply = tokio::time::timeout(DEADLINE, futures_util::StreamExt::next(&mut replies)).await;
    let body: Value = serde_json::from_slice(&reply.unwrap().unwrap().payload).unwrap();
    assert_eq!(body["status"], "response", "{body}");
    eventually(DEADLINE, async || sub0.upgrades() == 2 && sub0.connections().len() == 1).await;
    publishing(&mut daemon, "shop").await;
    // A stop in the middle of a reload is a stop.
    reload(&mut daemon, base(), "applied").await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
    sub0.connected(0, DEADLINE).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_does_not_delay_the_stop() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let dir = pontoon_testkit::Dir::new("token");
    let token = dir.write("token", "secret");
    let config = DaemonConfig::new(&nats).sub0("shop", &sub0);
    let mut daemon = start(config.clone());
    publishing(&mut daemon, "shop").await;
    std::fs::remove_file(&token).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&token).status().unwrap().success());
    daemon.reconfigure(config.with(&format!("token = {{ file = {token:?} }}")));
    daemon.signal("HUP");
    let threads = async |daemon: &mut Daemon| daemon.metrics().await.value("process_threads", &[]).unwrap();
    let before = threads(&mut daemon).await;
    daemon.signal("HUP");
    sub0.broadcast("tick", &json!(1));
    counted(&mut daemon, "pontoon_events_published_total", "shop", 2.0).await;
    assert!(threads(&mut daemon).await <= before + 1.0, "one reload at a time");
    assert_eq!((daemon.get("/livez").await.0, sub0.upgrades()), (200, 1));
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
}
