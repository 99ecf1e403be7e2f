//! The daemon with this engine against a scripted server, which can send and withhold what the reference server cannot.

use std::fs;
use std::time::Duration;

use async_nats::Client;
use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, SocketIoServer, eventually, until_ok};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ENGINE;
use crate::support::{DEADLINE, Reply, ask, contents, filled, start};

/// A daemon with one instance, named `any`.
pub(crate) struct Scenario {
    // Dropped in this order.
    pub(crate) daemon: Daemon,
    pub(crate) service: SocketIoServer,
    pub(crate) nats: NatsServer,
    pub(crate) client: Client,
}

impl Scenario {
    /// The service is told something before the daemon starts.
    pub(crate) async fn with(settings: &str, tell: impl FnOnce(&SocketIoServer)) -> Self {
        let nats = NatsServer::start().await;
        let service = SocketIoServer::start().await;
        tell(&service);
        let client = nats.client().await;
        let settings = format!("url = \"{}\"\n{ENGINE}{settings}", service.url());
        let daemon = start(DaemonConfig::new(&nats).connector("any", "socketio", &settings));
        Self { daemon, service, nats, client }
    }

    /// With its link ready.
    pub(crate) async fn ready(settings: &str) -> Self {
        let scenario = Self::with(settings, |_| {}).await;
        scenario.link("ready").await;
        scenario
    }

    pub(crate) async fn ask(&self, operation: &str, body: &str) -> Reply {
        ask(&self.client, &format!("pontoon.command.socketio.any.{operation}"), body, &[]).await
    }

    /// Waits until the link is in this phase, once events can be published. Returns what is said of it.
    pub(crate) async fn link(&self, phase: &str) -> String {
        until_ok(DEADLINE, async || {
            let state = self.ask("status", "").await.body["data"].take();
            let link = &state["links"][0];
            if state["bus"]["publishing"] == true && link["phase"] == phase {
                return Ok(link["detail"].as_str().unwrap_or_default().to_owned());
            }
            Err(format!("the link is not {phase}: {state}\n{}", self.daemon.log()))
        })
        .await
    }

    /// Waits until the service has been joined so often, and the link is ready. It is told to dial at once where its
    /// pause would be long, as by an operator.
    pub(crate) async fn joined(&self, times: usize) {
        let mut asked = Value::Null;
        eventually(DEADLINE, async || {
            let joined: usize = self.service.peers().iter().map(|peer| peer.connects.len()).sum();
            let link = self.ask("status", "").await.body["data"]["links"][0].clone();
            let retry = link["retry_at"].as_str().and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
            let soon = OffsetDateTime::now_utc() + Duration::from_secs(1);
            // Once in each pause, and never when it is about to end anyway: that would break what is there.
            if link["retry_at"] != asked && retry.is_some_and(|retry| retry > soon) {
                asked = link["retry_at"].clone();
                self.ask("reconnect", "").await;
            }
            joined >= times && link["phase"] == "ready"
        })
        .await;
    }

    /// What the stream holds once it has this many: gaps by their reason, else name and arguments.
    pub(crate) async fn published(&self, number: u64) -> Vec<String> {
        filled(&self.nats, "PONTOON_ANY", number, DEADLINE).await;
        let events = contents(&self.nats, "PONTOON_ANY").await;
        let published = events.iter().map(|(kind, body)| match kind.as_str() {
            "pontoon.gap.detected.v1" => format!("gap {}", body["reason"].as_str().unwrap_or_default()),
            _ => format!("{} {}", body["name"].as_str().unwrap_or("-"), body["raw"]),
        });
        published.collect()
    }

    /// How many threads of the daemon are this engine's.
    pub(crate) fn threads(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.daemon.id())).expect("the daemon runs");
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "rust-socketio").count()
    }
}
