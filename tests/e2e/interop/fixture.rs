//! The daemon with one instance of the generic connector, the reference server, and everything that is published.

use std::sync::{Arc, Mutex};

use async_nats::Client;
use futures_util::StreamExt as _;
use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, until_some};
use serde_json::{Value, json};

use super::server::Server;
use crate::support::{DEADLINE, Reply, ask, contents, filled, link_state, listen, start};

/// Joins the room `r` at each connect, and has numbered events that show their numbers.
pub(crate) const NUMBERED: &str = r#"
emit_on_connect = [{ event = "join", args = ["r"] }]
events.tick = { type = "message.created", channel = "/1", text = "/0/n" }
"#;

/// A daemon with one instance, named `any`.
pub(crate) struct Fixture {
    // Dropped in this order.
    pub(crate) daemon: Daemon,
    pub(crate) server: Server,
    pub(crate) nats: NatsServer,
    pub(crate) client: Client,
    events: Arc<Mutex<Vec<Event>>>,
}

/// An event as it was published.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The service's name for it.
    pub(crate) name: String,
    /// `message.created` and the like.
    pub(crate) kind: String,
    pub(crate) body: Value,
}

impl Fixture {
    /// Everything, with the link ready; lines of configuration for the instance, and options for the server.
    pub(crate) async fn ready(settings: &str, options: Value) -> Self {
        let fixture = Self::start(settings, options).await;
        fixture.link(|link| link["phase"] == "ready").await;
        fixture
    }

    /// Everything, without waiting for the link.
    pub(crate) async fn start(settings: &str, options: Value) -> Self {
        let server = Server::start(options).await;
        let url = server.url();
        Self::at(&url, settings, server, |config| config).await
    }

    /// The same, with another URL and more configuration.
    pub(crate) async fn at(
        url: &str,
        settings: &str,
        server: Server,
        more: impl FnOnce(DaemonConfig) -> DaemonConfig,
    ) -> Self {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut published = listen(&client, "pontoon.event.socketio.any.>").await;
        let seen = Arc::clone(&events);
        tokio::spawn(async move {
            while let Some(message) = published.next().await {
                let event = Event::of(&message);
                // Every run begins with this one.
                if event.body["reason"] != "restarted" {
                    seen.lock().unwrap().push(event);
                }
            }
        });
        let settings = format!("url = \"{url}\"\n{settings}");
        // Tests of long lives read everything back.
        let config = DaemonConfig::new(&nats).with("delivery.max_bytes = \"1GiB\"");
        let daemon = start(more(config.connector("any", "socketio", &settings)));
        Self { daemon, server, nats, client, events }
    }

    /// Sends a command, and waits for the last reply.
    pub(crate) async fn ask(&self, operation: &str, body: &Value) -> Reply {
        self.ask_within("25s", operation, body).await
    }

    /// The same, with a deadline of the caller's.
    pub(crate) async fn ask_within(&self, timeout: &str, operation: &str, body: &Value) -> Reply {
        let subject = format!("pontoon.command.socketio.any.{operation}");
        ask(&self.client, &subject, &body.to_string(), &[("Pontoon-Timeout", timeout)]).await
    }

    /// Waits for a state of the link that is so, once events can be published.
    pub(crate) async fn link(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        link_state(&self.client, &self.daemon, "socketio", "any", wanted).await
    }

    /// The state of the instance.
    pub(crate) async fn status(&self) -> Value {
        let subject = "pontoon.command.socketio.any.status";
        ask(&self.client, subject, "", &[]).await.body["data"].clone()
    }

    /// Everything that was published so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Waits for an event with this name of the service's.
    pub(crate) async fn event(&self, name: &str) -> Event {
        until_some(DEADLINE, async || self.events().into_iter().find(|event| event.name == name)).await
    }

    /// How many numbered events were published so far.
    pub(crate) fn ticks(&self) -> usize {
        self.events.lock().unwrap().iter().filter(|event| event.name == "tick").count()
    }

    /// Numbered events for the room `r`.
    pub(crate) async fn blast(&mut self, first: u64, count: u64) {
        let order = json!({"do": "blast", "name": "tick", "first": first, "count": count, "room": "r"});
        self.server.order(order).await;
    }

    /// Waits until the server has the link in the room `r`, for the so-and-so-many-th time.
    pub(crate) async fn joined(&self, times: usize) {
        self.server.sees("joined", times).await;
        self.link(|link| link["phase"] == "ready").await;
    }

    /// What the stream holds once it has so many: gaps by their reason, numbered events by their number, else the name.
    pub(crate) async fn stored(&self, number: usize) -> Vec<String> {
        filled(&self.nats, "PONTOON_ANY", number as u64, DEADLINE * 2).await;
        let stored = contents(&self.nats, "PONTOON_ANY").await;
        let shown = stored.iter().map(|(kind, body)| match kind.as_str() {
            "pontoon.gap.detected.v1" => format!("gap {}", body["reason"].as_str().unwrap_or_default()),
            "pontoon.message.created.v1" => body["message"]["text"].as_str().unwrap_or_default().to_owned(),
            _ => body["name"].as_str().unwrap_or(kind).to_owned(),
        });
        shown.collect()
    }
}

impl Event {
    fn of(message: &async_nats::Message) -> Self {
        let header = |name: &str| {
            let headers = message.headers.as_ref()?;
            headers.get(name).map(|value| value.as_str().to_owned())
        };
        let kind = header("ce-type").unwrap_or_default();
        let kind = kind.trim_start_matches("pontoon.").trim_end_matches(".v1").to_owned();
        let body: Value = serde_json::from_slice(&message.payload).expect("an event is JSON");
        let name = body["name"].as_str().map(str::to_owned).or_else(|| header("ce-upstreamevent"));
        Self { name: name.unwrap_or_default(), kind, body }
    }
}
