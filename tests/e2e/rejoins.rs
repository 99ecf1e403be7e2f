//! What callers subscribed is asked for again after a break, and the gap of the break lists it.

use std::sync::Arc;

use async_nats::{Client, Subscriber};
use pontoon_testkit::{DaemonConfig, Dir, NatsServer, SocketIoServer, WebSocketServer, eventually};
use serde_json::{Value, json};

use crate::support::{DEADLINE, SilentService, ask, link_state, listen, next, start};

/// Keeps rooms, and asks for them again.
const ROOMS: &str = r#"
    const operation = { summary: "A room", delivery: "sent" };
    export default {
      operations: { subscribe: operation, unsubscribe: operation },
      open(out, remembered) {
        for (const { key } of remembered) {
          out.send({ join: key });
          out.rejoin(key);
        }
        out.ready();
      },
      decode() {},
      encode({ operation, body, ...command }, out) {
        if (operation === "subscribe") out.remember(body.room, null, command);
        else out.forget(body.room, command);
        out.send({ join: body.room }, command);
      },
    };
"#;

/// One instance, and what it publishes.
struct Scenario {
    client: Client,
    kind: &'static str,
    instance: &'static str,
    gaps: Subscriber,
}

impl Scenario {
    async fn new(client: &Client, kind: &'static str, instance: &'static str) -> Self {
        let gaps = listen(client, &format!("pontoon.event.{kind}.{instance}.gap.detected.>")).await;
        Self { client: client.clone(), kind, instance, gaps }
    }

    /// The gap of the next break.
    async fn gap(&mut self) -> Value {
        next(&mut self.gaps, |_, body| body["reason"] == "disconnected").await.1
    }

    async fn ask(&self, operation: &str, room: &str) {
        let subject = format!("pontoon.command.{}.{}.{operation}", self.kind, self.instance);
        let reply = ask(&self.client, &subject, &json!({ "room": room }).to_string(), &[]).await;
        assert_eq!(reply.status, "sent", "{}", reply.body);
    }

    /// Breaks the connection three times: without subscriptions, with two, and without again.
    async fn play(mut self, service: &WebSocketServer) {
        service.cut();
        assert_eq!(self.gap().await.get("rejoins"), None);
        self.ask("subscribe", "lobby").await;
        self.ask("subscribe", "hall").await;
        let is_hall = |text: &String| text.contains("hall");
        let asked = || service.texts().into_iter().filter(is_hall).count();
        eventually(DEADLINE, async || asked() == 1).await;
        service.cut();
        let gap = self.gap().await;
        assert_eq!(gap["rejoins"], json!({ "count": 2, "keys": ["lobby", "hall"] }), "{gap}");
        eventually(DEADLINE, async || asked() == 2).await;
        self.ask("unsubscribe", "lobby").await;
        self.ask("unsubscribe", "hall").await;
        service.cut();
        assert_eq!(self.gap().await.get("rejoins"), None);
    }
}

#[tokio::test]
async fn a_gap_lists_what_is_asked_for_again() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let other = WebSocketServer::start(Arc::new(SilentService)).await;
    let socketio = SocketIoServer::start().await;
    let dir = Dir::new("rejoins");
    let script = dir.write("rooms.js", ROOMS);
    let table = format!(
        "url = \"ws://{}/\"\nsubscriptions = {{ subscribe = {{ join = \"${{/room}}\" }}, unsubscribe = {{ leave = \"${{/room}}\" }}, \
         key = \"/room\" }}",
        service.address()
    );
    let events = format!(
        "url = \"{}\"\nsubscriptions = {{ subscribe = {{ event = \"join\", args = [\"${{/room}}\"] }}, \
         unsubscribe = {{ event = \"leave\", args = [\"${{/room}}\"] }}, key = \"/room\" }}",
        socketio.url()
    );
    let scripted = format!("script = {script:?}\nurl = \"ws://{}/\"", other.address());
    let config = DaemonConfig::new(&nats)
        .connector("any", "websocket", &table)
        .connector("chat", "socketio", &events)
        .connector("feed", "script", &scripted);
    let daemon = start(config);
    let services = [&service, &*socketio, &other];
    let instances = [("websocket", "any"), ("socketio", "chat"), ("script", "feed")];
    for ((kind, instance), service) in instances.into_iter().zip(services) {
        let scenario = Scenario::new(&client, kind, instance).await;
        link_state(&client, &daemon, kind, instance, |link| link["phase"] == "ready").await;
        scenario.play(service).await;
    }
}

#[tokio::test]
async fn a_gap_has_no_bodies_of_commands_and_one_of_a_restart_lists_what_was_kept() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let spool = Dir::new("rejoins");
    let table = format!(
        "url = \"ws://{}/\"\nsubscriptions = {{ subscribe = \"${{body}}\", unsubscribe = {{ leave = \"${{body}}\" }} }}",
        service.address(),
    );
    let lines = format!("delivery.spool.path = {:?}", spool.path());
    let mut daemon = start(DaemonConfig::new(&nats).with(&lines).connector("any", "websocket", &table));
    let mut scenario = Scenario::new(&client, "websocket", "any").await;
    link_state(&client, &daemon, "websocket", "any", |link| link["phase"] == "ready").await;
    scenario.ask("subscribe", "lobby").await;
    service.cut();
    let hidden = json!({ "count": 1, "keys": [] });
    let gap = scenario.gap().await;
    assert_eq!(gap["rejoins"], hidden, "{gap}");
    assert!(!gap.to_string().contains("lobby"), "{gap}");
    daemon.signal("TERM");
    daemon.wait_exit(DEADLINE).await;
    daemon.restart();
    let is_of_link = |body: &Value| body["reason"] == "restarted" && body.get("rejoins").is_some();
    let (_, gap) = next(&mut scenario.gaps, |_, body| is_of_link(body)).await;
    assert_eq!(gap["rejoins"], hidden, "{gap}");
}
