//! What goes over the wire of a WebSocket: the closing handshake, large messages, silence, and what waits to be read.

mod closing;
mod codes;
mod large;
mod listener;
mod stopped;
mod unsent;

use async_nats::Client;
use pontoon_testkit::{BareSocket, Daemon, DaemonConfig, NatsServer};
use serde_json::Value;

use crate::support::{DEADLINE, contents, filled, link_state, start};

/// Frames of a server: text, and the control frames.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A daemon with one instance, named `any`, of a connector.
struct Scenario {
    // Dropped in this order.
    daemon: Daemon,
    nats: NatsServer,
    client: Client,
    kind: &'static str,
}

impl Scenario {
    async fn new(kind: &'static str, settings: &str) -> Self {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        let daemon = start(DaemonConfig::new(&nats).connector("any", kind, settings));
        Self { daemon, nats, client, kind }
    }

    /// Waits for a state of the first link that is so, once events can be published.
    async fn link(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        link_state(&self.client, &self.daemon, self.kind, "any", wanted).await
    }

    async fn ready(&self) {
        self.link(|link| link["phase"] == "ready").await;
    }

    /// What the stream holds once it has so many events behind the gap with which every run begins: gaps by their reason,
    /// else the number that the message has.
    async fn stored(&self, number: usize) -> Vec<String> {
        filled(&self.nats, "PONTOON_ANY", number as u64, DEADLINE).await;
        let stored = contents(&self.nats, "PONTOON_ANY").await;
        let shown = stored.iter().filter_map(|(kind, body)| match kind.as_str() {
            "pontoon.gap.detected.v1" => Some(format!("gap {}", body["reason"].as_str()?)),
            _ => number_of(body).map(|number| number.to_string()),
        });
        shown.collect()
    }
}

/// The number of a message, wherever a connector publishes it.
fn number_of(body: &Value) -> Option<u64> {
    let raw = &body["raw"];
    [&raw["n"], &raw[1]["n"]].into_iter().find_map(Value::as_u64)
}

/// A message with a number, over a plain WebSocket.
fn numbered(number: usize) -> String {
    format!("{{\"n\":{number}}}")
}

/// The same as an event of Socket.IO.
fn event(number: usize) -> String {
    format!("42[\"tick\",{}]", numbered(number))
}

/// Opens a session of Socket.IO over a bare socket.
async fn welcome(socket: &mut BareSocket) {
    let open = br#"0{"sid":"e","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    socket.send(TEXT, open).await;
    let connect = socket.frame().await.expect("a CONNECT comes");
    assert_eq!(connect.payload, b"40");
    socket.send(TEXT, br#"40{"sid":"s"}"#).await;
}
