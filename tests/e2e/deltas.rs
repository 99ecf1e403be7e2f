//! Answers in ten thousand parts, with every connector that has parts: what is published grows with the text, not with its
//! square, and loses nothing of it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, SocketIoServer, WebSocketServer};
use pontoon_testkit::{eventually, until_some};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{DEADLINE, Reply, SilentService, ask, contents, filled, start};

const PARTS: usize = 10_000;
/// The bytes of an event or a reply besides what is new in it: names, ids and numbers.
const AROUND: usize = 400;
/// How long ten thousand parts may take on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// A daemon with one instance, named `any`.
struct Bridge {
    // Dropped in this order.
    _daemon: Daemon,
    nats: NatsServer,
    client: Client,
    kind: &'static str,
}

impl Bridge {
    async fn start(kind: &'static str, settings: &str) -> Self {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        let _daemon = start(DaemonConfig::new(&nats).connector("any", kind, settings));
        let bridge = Self { _daemon, nats, client, kind };
        bridge.state(|state| state["bus"]["publishing"] == true).await;
        bridge
    }

    /// Waits for a state of the instance.
    async fn state(&self, wanted: impl Fn(&Value) -> bool) {
        let subject = format!("pontoon.command.{}.any.status", self.kind);
        eventually(DEADLINE, async || wanted(&ask(&self.client, &subject, "", &[]).await.body["data"])).await;
    }

    async fn ready(&self) {
        self.state(|state| state["links"][0]["phase"] == "ready").await;
    }

    /// Checks what was published of a text that came in parts of so many bytes, and then whole.
    async fn check(&self, read: usize) {
        filled(&self.nats, "PONTOON_ANY", PARTS as u64 + 1, LONG).await;
        let mut events = contents(&self.nats, "PONTOON_ANY").await;
        let (kind, last) = events.pop().unwrap();
        assert!(
            matches!(kind.as_str(), "pontoon.message.created.v1" | "pontoon.message.completed.v1"),
            "{kind}"
        );
        assert_eq!((&last["message"]["text"], last["raw"].is_object()), (&json!(text(PARTS)), true));
        assert_eq!(events.len(), PARTS);
        assert!(events.iter().all(|(kind, body)| {
            kind == "pontoon.message.delta.v1"
                && body["message"].get("text").is_none()
                && body.get("raw").is_none()
        }));
        let parts: Vec<_> = events.into_iter().map(|(_, body)| body).collect();
        let published = add_up(&parts, PARTS);
        assert!(published <= 2 * read, "{published} bytes of {read} that were read");
    }
}

/// A part of the text; some begin with a letter of two bytes.
fn part(number: usize) -> String {
    format!("{}{:x} ", if number.is_multiple_of(5) { "é" } else { "" }, number % 251)
}

/// The text as far as so many parts make it.
fn text(parts: usize) -> String {
    (0..parts).map(part).collect()
}

/// Checks that parts add up to the text of so many, each in a bounded number of bytes; returns how many these are in all.
fn add_up(parts: &[Value], number: usize) -> usize {
    let (mut sum, mut bytes) = (String::new(), 0);
    for (index, part) in parts.iter().enumerate() {
        let delta = part["delta"].as_str().unwrap();
        sum.push_str(delta);
        assert_eq!((&part["index"], &part["length"]), (&json!(index), &json!(sum.chars().count())));
        let size = part.to_string().len();
        assert!(size <= AROUND + 2 * delta.len(), "part {index} has {size} bytes");
        bytes += size;
    }
    assert_eq!(sum, text(number));
    bytes
}

#[tokio::test]
async fn elizaos() {
    let service = SocketIoServer::start().await;
    let settings = format!("url = \"{}\"\ndialect = \"native\"", service.url());
    let bridge = Bridge::start("elizaos", &settings).await;
    bridge.ready().await;
    let mut read = 0;
    let frame = |number: usize| {
        let (name, body) = match number {
            PARTS => ("messageBroadcast", json!({"id": "m1", "channelId": "room", "text": text(PARTS)})),
            _ => {
                let chunk = part(number);
                let body = json!({"messageId": "m1", "chunk": chunk, "index": number, "channelId": "room"});
                ("messageStreamChunk", body)
            }
        };
        let frame = format!("42{}", json!([name, body]));
        read += frame.len();
        frame
    };
    assert_eq!(service.blast(PARTS + 1, frame).await, 1);
    bridge.check(read).await;
}

#[tokio::test]
async fn aui_which_sends_the_whole_text_with_every_part() {
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!("url = \"ws://{}/\"\nnetwork_api_key = \"k-secret\"", service.address());
    let bridge = Bridge::start("aui", &settings).await;
    let inbox = bridge.client.new_inbox();
    let mut replies = bridge.client.subscribe(inbox.clone()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Pontoon-Stream", "true");
    headers.insert("Pontoon-Timeout", "180s");
    let body = json!({"task_id": "t1", "text": "Hi"}).to_string();
    let subject = "pontoon.command.aui.any.message";
    bridge.client.publish_with_reply_and_headers(subject, inbox, headers, body.into()).await.unwrap();
    until_some(DEADLINE, async || (!service.texts().is_empty()).then_some(())).await;

    let mut so_far = String::new();
    // What the parts would be if each were only what is new.
    let mut new = 0;
    let frame = |number: usize| {
        if number == PARTS {
            return json!({"id": "m1", "text": so_far, "sender": {"id": "a", "type": "agent"}}).to_string();
        }
        so_far.push_str(&part(number));
        let frame = |text: &str| {
            let event = "thread-message-text-content-updated";
            json!({"event": event, "data": {"text": text}}).to_string()
        };
        new += frame(&part(number)).len();
        frame(&so_far)
    };
    let sent = service.blast(PARTS + 1, frame);
    let mut parts = Vec::new();
    let received = async {
        loop {
            let message = timeout(LONG, replies.next()).await.expect("in time").expect("one more");
            let mut reply = Reply::of(&message);
            if reply.status != "part" {
                break reply;
            }
            parts.push(reply.body["data"].take());
        }
    };
    let (sent, last) = tokio::join!(sent, received);
    assert_eq!((sent, last.verdict()), (1, ("response", None)), "{}", last.message());
    assert_eq!(last.body["data"]["text"], text(PARTS));
    add_up(&parts, PARTS);
    bridge.check(2 * new).await;
}

/// The frame of a part, by the settings of the mappings below.
fn mapped(number: usize, field: &str, value: &str) -> Value {
    if number == PARTS {
        return json!({"t": "whole", "room": "room", "id": 7, "text": text(PARTS)});
    }
    json!({"t": "part", "room": "room", "id": 7, field: value})
}

#[tokio::test]
async fn websocket_with_what_is_new() {
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!(
        r#"url = "ws://{}/"
        kind = "/t"
        events.part = {{ type = "message.delta", channel = "/room", id = "/id", delta = "/new" }}
        events.whole = {{ type = "message.completed", channel = "/room", id = "/id", text = "/text" }}"#,
        service.address()
    );
    let bridge = Bridge::start("websocket", &settings).await;
    bridge.ready().await;
    let mut read = 0;
    let frame = |number: usize| {
        let frame = mapped(number, "new", &part(number)).to_string();
        read += frame.len();
        frame
    };
    assert_eq!(service.blast(PARTS + 1, frame).await, 1);
    // Such frames have next to nothing in them but what is new.
    bridge.check(2 * read).await;
}

#[tokio::test]
async fn socketio_with_the_whole_text_in_every_part() {
    let service = SocketIoServer::start().await;
    let settings = format!(
        r#"url = "{}"
        events.part = {{ type = "message.delta", channel = "/0/room", id = "/0/id", text = "/0/all" }}
        events.whole = {{ type = "message.created", channel = "/0/room", id = "/0/id", text = "/0/text" }}"#,
        service.url()
    );
    let bridge = Bridge::start("socketio", &settings).await;
    bridge.ready().await;
    let (mut so_far, mut new) = (String::new(), 0);
    let frame = |number: usize| {
        so_far.push_str(&part(number));
        let body = mapped(number, "all", &so_far);
        new += mapped(number, "all", &part(number)).to_string().len();
        format!("42{}", json!([body["t"], body]))
    };
    assert_eq!(service.blast(PARTS + 1, frame).await, 1);
    bridge.check(2 * new).await;
}
