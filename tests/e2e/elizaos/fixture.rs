//! A daemon with an ElizaOS server, whose agent answers in parts.

use async_nats::Client;
use pontoon_testkit::{Daemon, DaemonConfig, Eliza, ElizaOptions, NatsServer};
use serde_json::Value;

use crate::support::{Reply, ask, link_state, start};

/// The room that is joined.
pub(crate) const ROOM: &str = "9d6e1c52-7a0b-4c38-8f6d-1b2e3a4c5d6f";

/// A daemon with one instance of ElizaOS, named `agents`, that joins one room with the server's agent in it.
pub(crate) struct ElizaFixture {
    // Dropped in this order.
    pub(crate) daemon: Daemon,
    pub(crate) eliza: Eliza,
    pub(crate) nats: NatsServer,
    pub(crate) client: Client,
}

impl ElizaFixture {
    /// With settings of the instance, and without waiting for its link.
    pub(crate) async fn unconnected(options: ElizaOptions, settings: &str) -> Self {
        Self::made(NatsServer::start().await, options, "", settings).await
    }

    /// With this server and lines of configuration, and ready.
    pub(crate) async fn with(nats: NatsServer, lines: &str) -> Self {
        Self::with_settings(nats, lines, "").await
    }

    /// With settings of the instance besides.
    pub(crate) async fn with_settings(nats: NatsServer, lines: &str, settings: &str) -> Self {
        let fixture = Self::made(nats, Eliza::options(), lines, settings).await;
        fixture.link(|link| link["phase"] == "ready").await;
        fixture
    }

    async fn made(nats: NatsServer, options: ElizaOptions, lines: &str, settings: &str) -> Self {
        let eliza = options.start().await;
        let client = nats.client().await;
        let rooms = format!("rooms = [{{ id = \"{ROOM}\", agent_id = \"{}\" }}]", eliza.agent());
        let settings = format!("url = \"{}\"\n{rooms}\n{settings}", eliza.url());
        let daemon = start(DaemonConfig::new(&nats).with(lines).connector("agents", "elizaos", &settings));
        Self { daemon, eliza, nats, client }
    }

    /// Ready to be asked.
    pub(crate) async fn ready(options: ElizaOptions) -> Self {
        let fixture = Self::unconnected(options, "").await;
        fixture.link(|link| link["phase"] == "ready").await;
        fixture
    }

    /// Sends a command, and waits for the last reply.
    pub(crate) async fn ask(&self, operation: &str, body: &Value) -> Reply {
        let subject = format!("pontoon.command.elizaos.agents.{operation}");
        ask(&self.client, &subject, &body.to_string(), &[]).await
    }

    /// Waits for a state of the link that is so, once events can be published.
    pub(crate) async fn link(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        link_state(&self.client, &self.daemon, "elizaos", "agents", wanted).await
    }
}
