//! Daemons that share instances of Sub0 at one service.

use std::collections::BTreeMap;

use async_nats::Client;
use async_nats::jetstream;
use futures_util::StreamExt as _;
use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, Proxy, Sub0, eventually, until_some};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{DEADLINE, contents, instance, numbers, start};

/// What all daemons have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) instances: &'static [&'static str],
    /// Lines of every instance.
    pub(super) of_instance: &'static str,
    /// Seconds.
    pub(super) ttl: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { instances: &["shop"], of_instance: "", ttl: 2 }
    }
}

pub(super) struct Fixture {
    // Before the servers, so that they are gone first.
    daemons: BTreeMap<String, Daemon>,
    /// What is between each daemon and NATS.
    proxies: BTreeMap<String, Proxy>,
    pub(super) sub0: Sub0,
    pub(super) client: Client,
    pub(super) nats: NatsServer,
    settings: Settings,
}

impl Fixture {
    pub(super) async fn unstarted(settings: Settings) -> Self {
        Self::on(NatsServer::start().await, settings).await
    }

    pub(super) async fn on(nats: NatsServer, settings: Settings) -> Self {
        let (sub0, client) = (Sub0::start().await, nats.client().await);
        Self { daemons: BTreeMap::new(), proxies: BTreeMap::new(), sub0, client, nats, settings }
    }

    pub(super) async fn start(settings: Settings, names: &[&str]) -> Self {
        let mut fixture = Self::unstarted(settings).await;
        for name in names {
            fixture.join(name).await;
        }
        fixture
    }

    pub(super) async fn join(&mut self, name: &str) {
        self.join_with(name, "").await;
    }

    /// Starts a daemon, with more lines of configuration.
    pub(super) async fn join_with(&mut self, name: &str, lines: &str) {
        let Settings { instances, of_instance, ttl } = self.settings;
        let proxy = Proxy::to(self.nats.address()).await;
        let mut config = DaemonConfig::at(&self.nats, &format!("nats://{}", proxy.address()));
        config =
            config.with(&format!("cluster.enabled = true\ncluster.name = \"{name}\"\ncluster.moves = 10000"));
        if !lines.contains("ttl") {
            config = config.with(&format!("cluster.ttl = \"{ttl}s\""));
        }
        config = config.with(lines);
        for instance in instances {
            config = config.sub0(instance, &self.sub0).with(of_instance);
        }
        self.proxies.insert(name.to_owned(), proxy);
        self.daemons.insert(name.to_owned(), start(config));
    }

    pub(super) fn daemon(&mut self, name: &str) -> &mut Daemon {
        self.daemons.get_mut(name).expect("it was started")
    }

    pub(super) fn proxy(&self, name: &str) -> &Proxy {
        &self.proxies[name]
    }

    /// A daemon has ended.
    pub(super) fn gone(&mut self, name: &str) {
        self.daemons.remove(name);
    }

    /// What a daemon knows of the cluster.
    pub(super) async fn status(&mut self, name: &str) -> Value {
        let (_, text) = self.daemon(name).get("/status").await;
        serde_json::from_str::<Value>(&text).expect("status is JSON")["cluster"].take()
    }

    /// The instances and their owners, as this daemon knows them.
    pub(super) async fn owners(&mut self, name: &str) -> Vec<(String, Option<String>)> {
        let status = self.status(name).await;
        let instances = status["instances"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        instances.iter().filter_map(|one| Some((text(&one["instance"])?, text(&one["owner"])))).collect()
    }

    /// Whether the instance runs in this daemon, and its link is ready.
    pub(super) async fn serves(&mut self, name: &str, wanted: &str) -> bool {
        let status = instance(self.daemon(name), wanted).await.unwrap_or_default();
        status["running"] == true
            && status["links"][0]["phase"] == "ready"
            && status["bus"]["publishing"] == true
            && status["commands"]["subscribed"] == true
            && status["unconfirmed_events"] == 0
    }

    pub(super) async fn owned_by(&mut self, instance: &str, owner: &str) {
        eventually(DEADLINE, async || self.serves(owner, instance).await).await;
    }

    /// The daemon in which the instance runs, once it does.
    pub(super) async fn owner(&mut self, instance: &str) -> String {
        let names: Vec<_> = self.daemons.keys().cloned().collect();
        until_some(DEADLINE, async || {
            for name in &names {
                if self.serves(name, instance).await {
                    return Some(name.clone());
                }
            }
            None
        })
        .await
    }

    /// The daemon in which the instance runs, once it runs where it should, and all daemons know each other.
    pub(super) async fn settled(&mut self, instance: &str) -> String {
        let names: Vec<_> = self.daemons.keys().cloned().collect();
        until_some(DEADLINE, async || {
            let mut owner = None;
            for name in &names {
                let status = self.status(name).await;
                let all = status["members"].as_array().map_or(0, Vec::len);
                let one =
                    status["instances"].as_array()?.iter().find(|one| one["instance"] == instance)?.clone();
                if all != names.len() || one["owner"] != one["target"] {
                    return None;
                }
                owner = one["owner"].as_str().map(str::to_owned);
            }
            let owner = owner?;
            self.serves(&owner, instance).await.then_some(owner)
        })
        .await
    }

    /// Waits until every instance runs where it should, and each of these daemons has some.
    pub(super) async fn owned_by_all(&mut self, names: &[&str]) {
        let instances = self.settings.instances;
        eventually(DEADLINE, async || {
            let status = self.status(names[0]).await;
            let all = status["instances"].as_array().cloned().unwrap_or_default();
            let settled = all.len() == instances.len()
                && all.iter().all(|one| one["owner"].is_string() && one["owner"] == one["target"])
                && names.iter().all(|name| all.iter().any(|one| one["owner"] == *name));
            if !settled {
                return false;
            }
            for one in &all {
                let (owner, name) = (one["owner"].as_str().unwrap(), one["instance"].as_str().unwrap());
                if !self.serves(owner, name).await {
                    return false;
                }
            }
            self.sub0.connections().len() == instances.len()
        })
        .await;
    }

    /// Waits until the stream of `shop` holds the event with this number.
    pub(super) async fn stored(&self, number: u64) {
        eventually(DEADLINE, async || self.numbers().await.contains(&number)).await;
    }

    pub(super) async fn numbers(&self) -> Vec<u64> {
        numbers(&contents(&self.nats, "PONTOON_SHOP").await)
    }

    /// The epochs of the events of a stream, in its order.
    pub(super) async fn epochs(&self, stream: &str) -> Vec<u64> {
        let stream =
            jetstream::new(self.client.clone()).get_stream(stream).await.expect("the stream is there");
        let total = stream.get_info().await.expect("info").state.messages;
        let config = jetstream::consumer::pull::OrderedConfig::default();
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let mut messages = consumer.messages().await.expect("messages");
        let mut epochs = Vec::new();
        for _ in 0..total {
            let message =
                timeout(DEADLINE, messages.next()).await.expect("in time").expect("more").expect("a message");
            let id = message
                .headers
                .as_ref()
                .and_then(|headers| headers.get("ce-id"))
                .expect("an event has an id");
            epochs
                .push(id.as_str().split_once('-').expect("epoch and sequence").0.parse().expect("a number"));
        }
        epochs
    }
}
