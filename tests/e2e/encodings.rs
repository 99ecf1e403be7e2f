//! Frames that are not JSON text, in the real daemon: a strict service of MessagePack, a compressed stream that breaks, and bombs.

use std::sync::Arc;

use flate2::{Compress, Compression, FlushCompress};
use futures_util::StreamExt as _;
use pontoon_sdk::Bytes;
use pontoon_testkit::{Connection, DaemonConfig, NatsServer, Service, WebSocketServer, eventually};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{DEADLINE, SilentService, ask, listen, start};

/// `{"token":"hunter2","type":"auth"}`
const AUTH: &[u8] = b"\x82\xa5token\xa7hunter2\xa4type\xa4auth";
/// `{"type":"welcome"}`
const WELCOME: &[u8] = b"\x81\xa4type\xa7welcome";
/// `{"id":1,"type":"sum"}`
const SUM: &[u8] = b"\x82\xa2id\x01\xa4type\xa3sum";
/// `{"id":1,"ok":[3]}`
const THREE: &[u8] = b"\x82\xa2id\x01\xa2ok\x91\x03";
/// `{"type":"m","room":"lobby","id":18446744073709551615}`
const MESSAGE: &[u8] = b"\x83\xa4type\xa1m\xa4room\xa5lobby\xa2id\xcf\xff\xff\xff\xff\xff\xff\xff\xff";

/// A service whose frames are MessagePack. The sign-in comes first, once; what else is sent ends the connection.
struct Packed;

impl Service for Packed {
    fn text(&self, connection: &Arc<Connection>, _: &str) {
        connection.close(1003, "not MessagePack");
    }

    fn binary(&self, connection: &Arc<Connection>, data: &Bytes) {
        match &**data {
            AUTH => connection.send_binary(WELCOME),
            SUM => connection.send_binary(THREE),
            _ => connection.close(4000, "unknown frame"),
        }
    }
}

async fn ready(client: &async_nats::Client, instance: &str) {
    let subject = format!("pontoon.command.websocket.{instance}.status");
    eventually(DEADLINE, async || {
        let state = ask(client, &subject, "", &[]).await.body["data"].take();
        state["links"][0]["phase"] == "ready" && state["bus"]["publishing"] == true
    })
    .await;
}

async fn next(events: &mut async_nats::Subscriber) -> (String, Value) {
    loop {
        let message = timeout(DEADLINE, events.next()).await.expect("in time").expect("subscribed");
        if !message.subject.contains(".gap.") {
            return (message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap());
        }
    }
}

#[tokio::test]
async fn frames_of_messagepack_sign_in_become_events_and_answer_calls() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let service = WebSocketServer::start(Arc::new(Packed)).await;
    let settings = format!(
        r#"url = "ws://{}/"
        codec = "msgpack"
        secrets = {{ token = {{ env = "TOKEN" }} }}
        send_on_connect = [{{ type = "auth", token = "${{token}}" }}]
        ready_when = "welcome"
        kind = "/type"
        events.m = {{ type = "message.created", channel = "/room", id = "/id" }}
        call = {{ id = "/id", data = "/ok" }}"#,
        service.address()
    );
    let config = DaemonConfig::new(&nats).environment("TOKEN", "hunter2");
    let daemon = start(config.connector("any", "websocket", &settings));
    ready(&client, "any").await;
    let mut events = listen(&client, "pontoon.event.websocket.any.>").await;
    service.send_binary(MESSAGE);
    let (subject, body) = next(&mut events).await;
    assert!(subject.ends_with(".message.created.lobby"), "{subject}");
    assert_eq!(body["message"]["id"], "18446744073709551615");
    assert_eq!(body["raw"]["id"], u64::MAX);
    let reply = ask(&client, "pontoon.command.websocket.any.call", r#"{"type":"sum"}"#, &[]).await;
    assert_eq!((reply.status.as_str(), &reply.body["data"]), ("response", &serde_json::json!([3])));
    // What cannot be read is published as it came, and the connection goes on.
    service.send_binary(&[0xC1]);
    let (subject, body) = next(&mut events).await;
    assert!(subject.contains(".frame.unrecognised"), "{subject}");
    assert_eq!(body["raw"]["base64"], "wQ==");
    service.send_binary(MESSAGE);
    assert!(next(&mut events).await.0.contains(".message.created."));
    assert_eq!(service.upgrades(), 1, "{}", daemon.log());
}

/// The next part of a stream.
fn flushed(stream: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 << 20);
    stream.compress_vec(text, &mut bytes, FlushCompress::Sync).unwrap();
    bytes
}

#[tokio::test]
async fn a_stream_with_a_bomb_is_published_and_dialled_again() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!(
        "url = \"ws://{}/\"\ninflate = \"zlib-stream\"\nkind = \"/t\"\nevents.m = {{ type = \"message.created\", id = \"/id\" }}",
        service.address()
    );
    let daemon = start(DaemonConfig::new(&nats).connector("feed", "websocket", &settings));
    ready(&client, "feed").await;
    let mut events = listen(&client, "pontoon.event.websocket.feed.>").await;
    let mut stream = Compress::new(Compression::best(), true);
    for id in ["first", "second"] {
        service.send_binary(&flushed(&mut stream, format!(r#"{{"t":"m","id":"{id}"}}"#).as_bytes()));
        assert_eq!(next(&mut events).await.1["message"]["id"], id);
    }
    let bomb = flushed(&mut stream, &vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    service.send_binary(&bomb);
    let (subject, body) = next(&mut events).await;
    assert!(subject.contains(".frame.unrecognised"), "{subject}");
    assert!(body["reason"].as_str().unwrap().contains("once it is inflated"), "{}", body["reason"]);
    // The next connection has a new stream.
    eventually(DEADLINE, async || service.upgrades() == 2).await;
    let mut stream = Compress::new(Compression::best(), true);
    service.send_binary(&flushed(&mut stream, br#"{"t":"m","id":"third"}"#));
    assert_eq!(next(&mut events).await.1["message"]["id"], "third", "{}", daemon.log());
}
