//! What operators rely on, with the real binary: probes, metrics, logs, signals, and reload.

mod control;
mod logs;
mod notify;
mod openmetrics;
mod page;
mod probes;
mod readiness;
mod reload;
mod signals;
mod workers;

use std::time::Duration;

use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, Sub0, eventually};
use serde_json::Value;

use crate::support::{self, DEADLINE, start};

/// A daemon with one instance, `shop`, that is connected on both sides.
async fn fixture(lines: &str) -> (NatsServer, Sub0, Daemon) {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let mut daemon = start(DaemonConfig::new(&nats).with(lines).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    publishing(&mut daemon, "shop").await;
    (nats, sub0, daemon)
}

/// What `/status` shows of an instance; null if it is not there.
async fn status(daemon: &mut Daemon, instance: &str) -> Value {
    support::instance(daemon, instance).await.unwrap_or_default()
}

/// Waits until an instance is connected on both sides and has published the gap with which its run begins.
async fn publishing(daemon: &mut Daemon, instance: &str) {
    eventually(DEADLINE, async || {
        let status = status(daemon, instance).await;
        let ready = status["bus"]["publishing"] == true && status["links"][0]["phase"] == "ready";
        let published =
            daemon.metrics().await.value("pontoon_events_published_total", &[("pontoon_instance", instance)]);
        ready && published >= Some(1.0)
    })
    .await;
}

/// Waits until a metric of an instance has this value.
async fn counted(daemon: &mut Daemon, name: &str, instance: &str, value: f64) {
    eventually(DEADLINE, async || {
        daemon.metrics().await.value(name, &[("pontoon_instance", instance)]) == Some(value)
    })
    .await;
}
