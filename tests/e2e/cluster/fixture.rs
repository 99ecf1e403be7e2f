//! Daemons that share instances of Sub0 at one service.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::Client;
use async_nats::jetstream;
use futures_util::StreamExt as _;
use pontoon_testkit::{
    Daemon, DaemonConfig, Dir, NatsServer, Proxy, Sub0, eventually, reserved_port, until_some,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{DEADLINE, contents, instance, numbers, start};

/// What all daemons have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) instances: &'static [&'static str],
    /// Lines of every daemon, and of every instance.
    pub(super) of_daemon: &'static str,
    pub(super) of_instance: &'static str,
    /// Seconds.
    pub(super) ttl: u64,
    /// Whether each daemon has a folder for its events.
    pub(super) on_disk: bool,
    /// How many servers NATS has.
    pub(super) servers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { instances: &["shop"], of_daemon: "", of_instance: "", ttl: 2, on_disk: false, servers: 1 }
    }
}

pub(super) struct Fixture {
    // Before the servers, so that they are gone first.
    daemons: BTreeMap<String, Daemon>,
    /// What is between each daemon and NATS.
    proxies: BTreeMap<String, Proxy>,
    pub(super) sub0: Arc<Sub0>,
    pub(super) client: Client,
    pub(super) nats: NatsServer,
    /// The other servers of a cluster.
    pub(super) others: Vec<NatsServer>,
    settings: Settings,
    folders: BTreeMap<String, Dir>,
}

impl Fixture {
    pub(super) async fn unstarted(settings: Settings) -> Self {
        if settings.servers == 1 {
            return Self::on(NatsServer::start().await, settings).await;
        }
        let mut servers = clustered(settings.servers).await;
        let mut fixture = Self::on(servers.remove(0), settings).await;
        fixture.others = servers;
        fixture
    }

    pub(super) async fn on(nats: NatsServer, settings: Settings) -> Self {
        let (sub0, client) = (Arc::new(Sub0::start().await), nats.client().await);
        let (daemons, proxies, folders) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { daemons, proxies, sub0, client, nats, others: Vec::new(), settings, folders }
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
        let Settings { instances, of_daemon, of_instance, ttl, on_disk, servers } = self.settings;
        let server = self.daemons.len() % servers;
        let server = server.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.nats);
        let proxy = Proxy::to(server.address()).await;
        let mut config = DaemonConfig::at(&self.nats, &format!("nats://{}", proxy.address()));
        config =
            config.with(&format!("cluster.enabled = true\ncluster.name = \"{name}\"\ncluster.moves = 10000"));
        if on_disk {
            let folder = self.folders.entry(name.to_owned()).or_insert_with(|| Dir::new("spool"));
            config = config.with(&format!("delivery.spool.path = {:?}", folder.path()));
        }
        if servers > 1 {
            config = config.with(&format!("delivery.replicas = {servers}"));
        }
        if !lines.contains("ttl") {
            config = config.with(&format!("cluster.ttl = \"{ttl}s\""));
        }
        config = config.with(of_daemon).with(lines);
        for instance in instances {
            config =
                config.sub0(instance, &self.sub0).with(&format!("uid = \"{instance}\"")).with(of_instance);
        }
        self.proxies.insert(name.to_owned(), proxy);
        self.daemons.insert(name.to_owned(), start(config));
    }

    pub(super) fn daemon(&mut self, name: &str) -> &mut Daemon {
        self.daemons.get_mut(name).expect("it was started")
    }

    pub(super) fn instances(&self) -> &'static [&'static str] {
        self.settings.instances
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

    /// Waits until all instances run somewhere, and nothing of them waits to be stored.
    pub(super) async fn serve_all(&mut self) {
        for instance in self.settings.instances {
            self.owner(instance).await;
        }
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

    /// Waits until all daemons know that every instance runs where it should.
    pub(super) async fn balanced(&mut self) {
        let names: Vec<_> = self.daemons.keys().cloned().collect();
        let instances = self.settings.instances.len();
        eventually(DEADLINE * 4, async || {
            for name in &names {
                let status = self.status(name).await;
                let all = status["members"].as_array().map_or(0, Vec::len);
                let owned = status["instances"].as_array().cloned().unwrap_or_default();
                let settled =
                    owned.iter().filter(|one| one["owner"].is_string() && one["owner"] == one["target"]);
                if all != names.len() || settled.count() != instances {
                    return false;
                }
            }
            true
        })
        .await;
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
        let epoch = |id: &str| id.split_once('-').expect("epoch and sequence").0.parse().expect("a number");
        self.messages(stream)
            .await
            .iter()
            .map(|message| epoch(&header(message, "ce-id").expect("an id")))
            .collect()
    }

    /// The events of a stream, in its order: `ce-sequence`, whether each is late, and its body.
    pub(super) async fn events(&self, stream: &str) -> Vec<(String, bool, Value)> {
        let event = |message: &jetstream::Message| {
            let sequence = header(message, "ce-sequence").expect("a sequence");
            let late = header(message, "ce-pontoonlate").is_some_and(|late| late == "true");
            (sequence, late, serde_json::from_slice(&message.payload).expect("JSON"))
        };
        self.messages(stream).await.iter().map(event).collect()
    }

    async fn messages(&self, stream: &str) -> Vec<jetstream::Message> {
        let stream =
            jetstream::new(self.client.clone()).get_stream(stream).await.expect("the stream is there");
        let total = stream.get_info().await.expect("info").state.messages;
        let config = jetstream::consumer::pull::OrderedConfig::default();
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let mut messages = consumer.messages().await.expect("messages");
        let mut all = Vec::new();
        for _ in 0..total {
            all.push(
                timeout(DEADLINE, messages.next()).await.expect("in time").expect("more").expect("a message"),
            );
        }
        all
    }
}

fn header(message: &jetstream::Message, name: &str) -> Option<String> {
    Some(message.headers.as_ref()?.get(name)?.as_str().to_owned())
}

/// Servers of one cluster, which tell clients nothing of each other.
pub(super) async fn clustered(number: usize) -> Vec<NatsServer> {
    let ports: Vec<_> = (0..number).map(|_| reserved_port()).collect();
    let routes: Vec<_> = ports.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
    let routes = routes.join(", ");
    let mut servers = Vec::new();
    for (place, port) in ports.iter().enumerate() {
        let config = format!(
            "server_name: s{place}\ncluster {{ name: tests, listen: \"127.0.0.1:{port}\", no_advertise: true, routes: [{routes}] }}"
        );
        servers.push(NatsServer::options().config(&config).every_right().start().await);
    }
    let client = servers[0].client().await;
    eventually(DEADLINE, async || {
        let stream = jetstream::stream::Config {
            name: "READY".into(),
            subjects: vec!["ready".into()],
            num_replicas: number,
            ..Default::default()
        };
        jetstream::new(client.clone()).create_stream(stream).await.is_ok()
    })
    .await;
    servers
}
