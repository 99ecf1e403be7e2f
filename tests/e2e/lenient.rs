//! JSON as services write it, with the real daemon: half a surrogate pair, a byte order mark, NUL bytes, binary frames, and
//! what is not JSON.

use std::sync::Arc;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use pontoon_testkit::eventually;
use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, SocketIoServer, WebSocketServer};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{DEADLINE, SilentService, ask, listen, start};

/// A daemon with one instance, named `any`, of a connector that dials at once, and its events.
struct Bridge {
    // Dropped in this order.
    _daemon: Daemon,
    _nats: NatsServer,
    events: Subscriber,
}

impl Bridge {
    async fn start(kind: &str, settings: &str, lines: &str) -> Self {
        let nats = NatsServer::start().await;
        let client: Client = nats.client().await;
        let _daemon = start(DaemonConfig::new(&nats).with(lines).connector("any", kind, settings));
        let subject = format!("pontoon.command.{kind}.any.status");
        eventually(DEADLINE, async || {
            let state = ask(&client, &subject, "", &[]).await.body["data"].take();
            // The gap with which the run begins is published then, too.
            state["bus"]["publishing"] == true
                && state["links"][0]["phase"] == "ready"
                && state["unconfirmed_events"] == 0
        })
        .await;
        let events = listen(&client, &format!("pontoon.event.{kind}.any.>")).await;
        Self { _daemon, _nats: nats, events }
    }

    /// The next event: its type and its body as it is.
    async fn event(&mut self) -> (String, String) {
        let message = timeout(DEADLINE, self.events.next()).await.expect("in time").expect("subscribed");
        let kind = message.headers.as_ref().and_then(|headers| headers.get("ce-type")).unwrap();
        (kind.as_str().to_owned(), String::from_utf8(message.payload.to_vec()).unwrap())
    }
}

/// Every connector's settings, a frame of it with half a pair in a field, and what stands in the event then.
fn cases() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    vec![
        (
            "websocket",
            "kind = \"/t\"\nevents.m = { type = \"message.created\", text = \"/x\" }",
            r#"{"t":"m","x":"cut \ud83d"}"#,
            r#""text":"cut �""#,
        ),
        (
            "sub0",
            "",
            r#"{"uid":null,"action":"a","data":{"x":"cut \ud83d"}}"#,
            r#""data":{"x":"cut \ufffd"}"#,
        ),
        (
            "socketio",
            "events.m = { type = \"message.created\", text = \"/0/x\" }",
            r#"42["m",{"x":"cut \ud83d"}]"#,
            r#""text":"cut �""#,
        ),
        (
            "elizaos",
            "dialect = \"native\"",
            r#"42["messageBroadcast",{"id":"1","text":"cut \ud83d"}]"#,
            r#""text":"cut �""#,
        ),
        (
            "minchat",
            "api_key = \"k-secret\"\nuser_id = \"u\"",
            r#"42["message",{"id":"1","text":"cut \ud83d"}]"#,
            r#""text":"cut �""#,
        ),
    ]
}

#[tokio::test]
async fn every_connector_reads_text_in_halves_and_json_with_something_around_it() {
    for (kind, settings, frame, field) in cases() {
        let packets = frame.starts_with("42");
        let (texts, service) =
            (WebSocketServer::start(Arc::new(SilentService)).await, SocketIoServer::start().await);
        let (server, url): (&WebSocketServer, _) = if packets {
            (&service, service.url())
        } else {
            (&texts, format!("ws://{}/ws", texts.address()))
        };
        for raw in [true, false] {
            let lines = format!("events.raw = {raw}");
            let settings = format!("url = \"{url}\"\n{settings}");
            let mut bridge = Bridge::start(kind, &settings, &lines).await;
            // Of a message that comes again, some connectors publish the first: each has another id.
            let numbered = |number: usize| frame.replace(r#""id":"1""#, &format!(r#""id":"{number}""#));
            server.send_text(&numbered(0));
            server.send_text(&format!("\u{FEFF}{}", numbered(1)));
            server.send_text(&format!("{}\0", numbered(2)));
            // Binary messages of Socket.IO are attachments, even if they hold a packet.
            if !packets {
                server.send_binary(numbered(3).as_bytes());
            }
            for number in 0..if packets { 3 } else { 4 } {
                let (event, body) = bridge.event().await;
                assert!(
                    !event.contains("unrecognised") && body.contains(field),
                    "{kind} {number}: {event} {body}"
                );
                let frame = numbered(number);
                let payload =
                    if packets { &frame[frame.find('{').unwrap()..frame.len() - 1] } else { &frame };
                // The payload stays as it was received; fields are JSON for strict readers, too.
                assert_eq!(body.contains(payload), raw, "{kind} {number}: {body}");
                assert!(raw || serde_json::from_str::<Value>(&body).is_ok(), "{kind} {number}: {body}");
            }
            let wrong = if packets { r#"42["m",NaN]"# } else { r#"{"action":NaN}"# };
            server.send_text(wrong);
            let (event, body) = bridge.event().await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(event, "pontoon.frame.unrecognised.v1", "{kind}");
            let reason = body["reason"].as_str().unwrap();
            let column = if packets { 6 } else { 11 };
            let place = format!("expected value at line 1 column {column}, found \"NaN\"");
            assert!(reason.contains(&place), "{kind}: {reason}");
            assert_eq!(body.get("raw"), raw.then(|| json!(wrong)).as_ref());
        }
    }
}
