//! The nats-servers of a run: one, or three in a cluster whose streams have three replicas. Faults hit one of them at a time.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, jetstream};
use pontoon_testkit::{NatsServer, reserved_port, until_some};
use tokio::time::timeout;

use super::stream;

/// How long the servers may take for one request.
const REQUEST: Duration = Duration::from_secs(5);
/// How long servers may be away that were killed or stopped.
const CONNECTED: Duration = Duration::from_secs(90);

pub(crate) struct Servers {
    all: Vec<NatsServer>,
    /// The one that the faults of now are done to.
    victim: usize,
}

impl Servers {
    pub(crate) async fn start(cluster: bool) -> Self {
        if !cluster {
            return Self { all: vec![NatsServer::start().await], victim: 0 };
        }
        let ports = [(); 3].map(|()| reserved_port());
        let routes: Vec<_> = ports.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let mut all = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let config = format!(
                "server_name: n{number}\ncluster {{ name: chaos, listen: \"127.0.0.1:{port}\", routes: {routes:?} }}"
            );
            all.push(NatsServer::options().config(&config).start().await);
        }
        Self { all, victim: 0 }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.all.len() > 1
    }

    /// Where clients connect to.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.all.iter().map(NatsServer::url).collect()
    }

    /// The first one, for what is the same for all.
    pub(crate) fn first(&self) -> &NatsServer {
        &self.all[0]
    }

    /// The next faults are done to the leader of this instance's stream, where there is one.
    pub(crate) async fn choose_leader(&mut self, instance: &str) {
        if !self.is_cluster() {
            return;
        }
        let leader = async {
            let stream = jetstream::new(self.client().await).get_stream(stream::name(instance)).await.ok()?;
            let leader = stream.cached_info().cluster.as_ref()?.leader.clone()?;
            leader.strip_prefix('n')?.parse().ok()
        };
        let leader = timeout(REQUEST, leader).await.ok().flatten();
        self.victim = leader.unwrap_or((self.victim + 1) % self.all.len());
    }

    pub(crate) fn freeze(&self) {
        self.all[self.victim].freeze();
    }

    pub(crate) fn thaw(&self) {
        self.all[self.victim].thaw();
    }

    pub(crate) fn kill(&mut self) {
        self.all[self.victim].kill();
    }

    pub(crate) async fn restart(&mut self) {
        self.all[self.victim].restart().await;
    }

    /// A client that goes to another server where one is away.
    pub(crate) async fn client(&self) -> Client {
        until_some(CONNECTED, async || {
            let options = ConnectOptions::new().connection_timeout(REQUEST / 5).ping_interval(REQUEST);
            options.connect(self.urls()).await.ok()
        })
        .await
    }
}
