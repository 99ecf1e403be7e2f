//! What operators rely on, with the real binary: probes, metrics, logs, signals, and reload.

mod logs;
mod notify;
mod probes;
mod readiness;
mod reload;
mod signals;

use std::time::Duration;

use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, Sub0, eventually};
use serde_json::Value;

/// How long anything may take that is not itself a matter of time.
const DEADLINE: Duration = Duration::from_secs(30);

/// The daemon that was built with these tests.
fn start(config: DaemonConfig) -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_pontoon"), config)
}

/// A daemon with one instance, `shop`, that is connected on both sides.
async fn fixture(lines: &str) -> (NatsServer, Sub0, Daemon) {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let mut daemon = start(DaemonConfig::new(&nats).with(lines).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    publishing(&mut daemon, "shop").await;
    (nats, sub0, daemon)
}

/// What `/status` says of an instance; null if it does not know it.
async fn status(daemon: &mut Daemon, instance: &str) -> Value {
    let (code, text) = daemon.get("/status").await;
    assert_eq!(code, 200, "{text}");
    let status: Value = serde_json::from_str(&text).unwrap();
    let instances = status["instances"].as_array().unwrap();
    instances.iter().find(|one| one["instance"] == instance).cloned().unwrap_or_default()
}

/// Waits until an instance is connected on both sides and has published the gap with which its run begins.
async fn publishing(daemon: &mut Daemon, instance: &str) {
    eventually(DEADLINE, async || {
        let status = status(daemon, instance).await;
        let ready = status["bus"]["publishing"] == true && status["links"][0]["phase"] == "ready";
        let published =
            daemon.metrics().await.value("pontoon_events_published_total", &[("instance", instance)]);
        ready && published >= Some(1.0)
    })
    .await;
}

/// Waits until a metric of an instance has this value.
async fn counted(daemon: &mut Daemon, name: &str, instance: &str, value: f64) {
    eventually(DEADLINE, async || {
        daemon.metrics().await.value(name, &[("instance", instance)]) == Some(value)
    })
    .await;
}
