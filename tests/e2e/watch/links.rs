//! Which links count as wanted, and which as down: one that is not needed is neither.

use pontoon_testkit::{Aui, Daemon, DaemonConfig, Echo, NatsServer, ScriptSocket, eventually};

use super::DEADLINE;
use crate::support::{ask, start};

/// Waits until an instance has this many links that are wanted, ready and down.
async fn links(daemon: &mut Daemon, instance: &str, expected: (f64, f64, f64)) {
    let mut last = None;
    let seen = eventually(DEADLINE, async || {
        let metrics = daemon.metrics().await;
        let value = |name: &str| {
            metrics.value(&format!("pontoon_link_{name}"), &[("pontoon_instance", instance)]).unwrap()
        };
        let now = (value("wanted"), value("connected"), value("down"));
        if last.replace(now) != Some(now) {
            eprintln!("{instance}: {now:?}, waiting for {expected:?}");
        }
        now == expected
    });
    seen.await;
}

#[tokio::test]
async fn one_on_demand_is_wanted_while_there_is_demand() {
    let nats = NatsServer::start().await;
    let aui = Aui::start("key").await;
    let settings = "idle_timeout = \"1s\"\nanswer_timeout = \"3s\"";
    let mut daemon = start(DaemonConfig::new(&nats).aui("agents", &aui).with(settings));
    daemon.ready(DEADLINE).await;
    let client = nats.client().await;
    let (message, body) = ("pontoon.command.aui.agents.message", r#"{"task_id":"t1","text":"hello"}"#);
    eventually(DEADLINE, async || {
        ask(&client, "pontoon.command.aui.agents.status", "", &[]).await.status == "response"
    })
    .await;
    links(&mut daemon, "agents", (0.0, 0.0, 0.0)).await;
    assert_eq!(ask(&client, message, body, &[]).await.status, "response");
    // It was there, and is idle now.
    assert_eq!(aui.upgrades(), 1);
    links(&mut daemon, "agents", (0.0, 0.0, 0.0)).await;
    // A caller needs it, and it cannot be opened.
    aui.stop_listening().await;
    let insist = async {
        loop {
            ask(&client, message, body, &[]).await;
        }
    };
    tokio::select! {
        () = links(&mut daemon, "agents", (1.0, 0.0, 1.0)) => {}
        () = insist => {}
    }
    links(&mut daemon, "agents", (0.0, 0.0, 0.0)).await;
}

#[tokio::test]
async fn one_that_came_by_itself_or_is_not_made_again_is_never_down() {
    let nats = NatsServer::start().await;
    let echo = Echo::start().await;
    let settings = "dynamic = { enabled = true, hosts = [\"127.0.0.1\"], addresses = [\"127.0.0.1\"] }\n\
                    listen = { address = \"127.0.0.1:0\", token = \"t0ken\" }";
    let mut daemon = start(DaemonConfig::new(&nats).connector("avatars", "streamavatars", settings));
    let url = daemon.listener("avatars").await;
    let script = ScriptSocket::dial(&url, &["t0ken"]).await.unwrap();
    links(&mut daemon, "avatars", (1.0, 1.0, 0.0)).await;
    script.close();
    links(&mut daemon, "avatars", (0.0, 0.0, 0.0)).await;

    let client = nats.client().await;
    let command = |operation: &str| format!("pontoon.command.streamavatars.avatars.{operation}");
    eventually(DEADLINE, async || ask(&client, &command("status"), "", &[]).await.status == "response").await;
    let create = format!(r#"{{"title":"t","url":"{}"}}"#, echo.url());
    assert_eq!(ask(&client, &command("create"), &create, &[]).await.status, "acked");
    links(&mut daemon, "avatars", (1.0, 1.0, 0.0)).await;
    echo.cut();
    links(&mut daemon, "avatars", (0.0, 0.0, 0.0)).await;
}
