//! Scripts that dial in: which are accepted, what is received from them, and what they are sent.

use std::sync::Arc;

use pontoon_testkit::{Dir, ScriptSocket, eventually, until_some};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Fixture;
use crate::support::DEADLINE;

const LISTEN: &str = r#"listen = { address = "127.0.0.1:0", token = "canary-t0ken", max = 2, rate_limit = { requests = 100, per = "1s" } }"#;
const AUTH: &str = r#"{"type":"auth","token":"canary-t0ken"}"#;

async fn script(fixture: &mut Fixture) -> ScriptSocket {
    let url = fixture.daemon.listener("avatars").await;
    let script = ScriptSocket::dial(&url, &[]).await.unwrap();
    script.send(AUTH);
    assert_eq!(script.receives(1).await, [r#"{"type":"welcome","title":"main"}"#]);
    script
}

#[tokio::test]
async fn a_script_and_a_client_of_nats_exchange_messages() {
    let mut fixture = Fixture::start(LISTEN).await;
    let script = script(&mut fixture).await;
    let (name, body) = fixture.event("socket.opened").await;
    assert_eq!((name.as_str(), &body["title"]), ("OnOpen", &json!("main")));
    script.send(r#"{"type":"event","event":"chatMessage","data":{"text":"http:\/\/x\/"}}"#);
    let (name, body) = fixture.event("socket.message").await;
    assert_eq!((name.as_str(), &body["raw"]["data"]["text"]), ("chatMessage", &json!("http://x/")));

    let reply = fixture.ask("script.send", r#"{"message":{"type":"runCommand","command":"a\/b"}}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(script.receives(2).await[1], r#"{"type":"runCommand","command":"a/b"}"#);
    let reply = fixture.ask("message.send", r#"{"channel":"script/main","text":"hello / chat"}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(script.receives(3).await[2], r#"{"type":"writeChat","text":"hello / chat"}"#);
    script.send(r#"{"type":"heartbeat"}"#);
    assert_eq!(script.receives(4).await[3], r#"{"type":"heartbeat"}"#);
    script.send(r#"{"type":"error","message":"unknown command: dance"}"#);
    assert_eq!(fixture.event("error.raised").await.1["error"]["message"], "unknown command: dance");
    script.send_binary(b"\x00");
    fixture.event("frame.unrecognised").await;
    let listed = fixture.ask("list", "").await.body["data"].take();
    assert_eq!(listed, json!([{"title": "main", "kind": "script", "phase": "ready"}]));
    let reply = fixture.ask("script.send", r#"{"title":"other","message":"x"}"#).await;
    assert_eq!(reply.verdict(), ("rejected", Some("404")), "{reply:?}");
    script.close();
    fixture.event("socket.closed").await;
    fixture.state(|state| state["links"] == json!([])).await;
}

#[tokio::test]
async fn only_the_token_is_accepted() {
    let mut fixture = Fixture::start(LISTEN).await;
    let url = fixture.daemon.listener("avatars").await;
    assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with("/streamavatars"), "{url}");
    let refused = async |url: &str, protocols: &[&str]| ScriptSocket::dial(url, protocols).await.err();
    assert_eq!(refused(&url, &["wrong"]).await, Some(401));
    assert_eq!(refused(&url.replace("/streamavatars", "/"), &[]).await, Some(404));
    assert_eq!(refused(&format!("{url}?title=script/x"), &["canary-t0ken"]).await, Some(400));
    for first in [r#"{"type":"auth","token":"wrong"}"#, "hello", r#"{"type":"event","event":"chatMessage"}"#]
    {
        let stranger = ScriptSocket::dial(&url, &[]).await.unwrap();
        stranger.send(first);
        let (code, reason) = stranger.closed().await;
        assert_eq!(code, Some(1008), "{first}");
        assert!(!reason.is_empty() && !reason.contains("canary"), "{reason}");
        assert_eq!(stranger.texts(), [""; 0]);
    }
    let script =
        ScriptSocket::dial(&format!("{url}?title=by+protocol"), &["x", "canary-t0ken"]).await.unwrap();
    assert_eq!(script.subprotocol(), Some("canary-t0ken"));
    assert_eq!(script.receives(1).await, [r#"{"type":"welcome","title":"by protocol"}"#]);
    let (_, body) = fixture.event("socket.opened").await;
    assert_eq!(body["title"], "by protocol");
    // A late auth frame is not published: the next event is the next message.
    script.send(AUTH);
    script.send(r#"{"type":"auth","token":"canary-t0ken","title":5} hello"#);
    let (_, body) = fixture.event("socket.message").await;
    assert!(body["message"].as_str().unwrap().ends_with("hello"), "{body}");
    assert!(!body.to_string().contains("canary"), "{body}");
    let (_, status) = fixture.daemon.get("/status").await;
    let (_, metrics) = fixture.daemon.get("/metrics").await;
    for text in [fixture.daemon.log(), status, metrics] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn a_script_without_a_handshake_is_closed() {
    let mut fixture = Fixture::start(&format!("{LISTEN}\ntransport.connect_timeout = \"500ms\"")).await;
    let url = fixture.daemon.listener("avatars").await;
    // More than may be on their way in at a time.
    let mut strangers = Vec::new();
    for _ in 0..15 {
        strangers.push(ScriptSocket::dial(&url, &[]).await.unwrap());
    }
    for stranger in &strangers {
        stranger.closed().await;
    }
    // One whose handshake comes too late on a busy machine tries again.
    until_some(DEADLINE, async || {
        let script = ScriptSocket::dial(&url, &[]).await.unwrap();
        script.send(AUTH);
        until_some(DEADLINE, async || (!script.is_open() || !script.texts().is_empty()).then_some(())).await;
        (!script.texts().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_script_of_a_title_takes_the_place_of_the_first() {
    let mut fixture = Fixture::start(LISTEN).await;
    let old = script(&mut fixture).await;
    fixture.event("socket.opened").await;
    old.send("last words");
    assert_eq!(fixture.event("socket.message").await.1["message"], "last words");
    let new = script(&mut fixture).await;
    fixture.event("socket.closed").await;
    assert_eq!(fixture.event("gap.detected").await.1["link"], "script/main");
    fixture.event("socket.opened").await;
    old.closed().await;
    assert!(new.is_open());
    assert_eq!(fixture.ask("script.send", r#"{"message":"to the new one"}"#).await.status, "sent");
    assert_eq!(new.receives(2).await[1], "to the new one");
    assert_eq!(old.texts().len(), 1);
}

#[tokio::test]
async fn a_script_that_comes_back_finds_a_gap_from_the_last_message_received() {
    let mut fixture = Fixture::start(LISTEN).await;
    let old = script(&mut fixture).await;
    old.send("before");
    fixture.event("socket.message").await;
    drop(old);
    fixture.event("socket.failed").await;
    fixture.state(|state| state["links"] == json!([])).await;
    let new = script(&mut fixture).await;
    let (_, gap) = fixture.event("gap.detected").await;
    assert_eq!(
        (&gap["link"], &gap["reason"], &gap["recovered"]),
        (&json!("script/main"), &json!("disconnected"), &json!(false))
    );
    assert!(gap["from"].as_str().unwrap() < gap["to"].as_str().unwrap(), "{gap}");
    new.send("after");
    assert_eq!(fixture.event("socket.message").await.1["message"], "after");
}

#[tokio::test]
async fn no_more_scripts_are_in_than_may_be() {
    let mut fixture = Fixture::start(LISTEN).await;
    let url = fixture.daemon.listener("avatars").await;
    let enter = async |title: &str| {
        ScriptSocket::dial(&format!("{url}?title={title}"), &["canary-t0ken"]).await.unwrap()
    };
    let (one, two) = (enter("one").await, enter("two").await);
    one.receives(1).await;
    two.receives(1).await;
    enter("three").await.closed().await;
    let again = enter("two").await;
    again.receives(1).await;
    two.closed().await;
    assert!(one.is_open());
    drop(one);
    until_some(DEADLINE, async || {
        let three = enter("three").await;
        until_some(DEADLINE, async || (!three.is_open() || !three.texts().is_empty()).then_some(())).await;
        (!three.texts().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_script_is_sent_no_more_than_it_can_take() {
    let lines = LISTEN.replace(r#"requests = 100, per = "1s""#, r#"requests = 2, per = "10m""#);
    let mut fixture = Fixture::start(&lines).await;
    let script = script(&mut fixture).await;
    for text in ["1", "2"] {
        assert_eq!(fixture.ask("script.send", &json!({"message": text}).to_string()).await.status, "sent");
    }
    let reply = fixture.ask_with("script.send", r#"{"message":"3"}"#, &[("Pontoon-Timeout", "200ms")]).await;
    assert_eq!(reply.verdict(), ("expired", Some("408")), "{reply:?}");
    let large = json!({"message": "x".repeat(5000)}).to_string();
    assert_eq!(fixture.ask("script.send", &large).await.verdict(), ("rejected", Some("413")));
    assert_eq!(script.receives(3).await.len(), 3);
}

#[tokio::test]
async fn a_silent_script_is_taken_for_gone_and_one_that_answers_pings_is_not() {
    // Long enough that a busy machine delivers one pong in it.
    let lines = LISTEN.replace("max = 2", "max = 2, silence = \"10s\"");
    let mut fixture = Fixture::start(&format!("{lines}\ntransport.ping_interval = \"1s\"")).await;
    let _alive = script(&mut fixture).await;
    let url = fixture.daemon.listener("avatars").await;
    let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap().to_owned();
    // A peer that was upgraded and then never reads: its end answers no ping.
    let mut mute = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!(
        "GET /streamavatars?title=mute HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: canary-t0ken\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut mute, request.as_bytes()).await.unwrap();
    let (_, body) = fixture.event("socket.failed").await;
    assert_eq!(body["title"], "mute");
    assert!(body["reason"].as_str().unwrap().contains("not even a pong"), "{body}");
    // It is there until its connection is closed.
    eventually(DEADLINE, async || {
        fixture.ask("list", "").await.body["data"].as_array().map(Vec::len) == Some(1)
    })
    .await;
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_listened_on_once_it_is_free() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut fixture = Fixture::start(&LISTEN.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).await;
    let state = fixture.state(|state| state["links"][0]["key"] == "listen").await;
    let detail = state["links"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("127.0.0.1:{port}")) && detail.contains("another program"), "{detail}");
    drop(taken);
    script(&mut fixture).await;
}

#[tokio::test]
async fn a_reload_leaves_scripts_of_an_unchanged_instance_alone_and_moves_the_others() {
    let mut fixture = Fixture::start(LISTEN).await;
    let script_ = script(&mut fixture).await;
    fixture.daemon.signal("HUP");
    eventually(DEADLINE, async || !fixture.daemon.logged("the configuration was read again").is_empty())
        .await;
    assert!(script_.is_open());
    assert_eq!(fixture.ask("script.send", r#"{"message":"still here"}"#).await.status, "sent");
    assert_eq!(script_.receives(2).await[1], "still here");
    let first = fixture.daemon.listener("avatars").await;
    let settings = LISTEN.replace("max = 2", "max = 3");
    let config =
        pontoon_testkit::DaemonConfig::new(&fixture.nats).connector("avatars", "streamavatars", &settings);
    fixture.daemon.reconfigure(config);
    fixture.daemon.signal("HUP");
    script_.closed().await;
    until_some(DEADLINE, async || (fixture.daemon.listener("avatars").await != first).then_some(())).await;
    script(&mut fixture).await;
}

#[tokio::test]
async fn scripts_come_in_over_tls_where_there_is_a_certificate() {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = Dir::new("door");
    let cert = dir.write("cert.pem", &identity.cert.pem());
    let key = dir.write("key.pem", &identity.signing_key.serialize_pem());
    let tls = format!("max = 2, tls = {{ cert_file = {cert:?}, key_file = {key:?} }}");
    let mut fixture = Fixture::start(&LISTEN.replace("max = 2", &tls)).await;
    let url = fixture.daemon.listener("avatars").await;
    assert!(url.starts_with("wss://"), "{url}");
    let address = url.trim_start_matches("wss://").trim_end_matches("/streamavatars");
    let dial = async || TcpStream::connect(address).await.unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), dial().await).await.unwrap();
    let script = ScriptSocket::over(stream, "ws://localhost/streamavatars", &["canary-t0ken"]).await.unwrap();
    script.receives(1).await;
    assert_eq!(fixture.ask("script.send", r#"{"message":"over TLS"}"#).await.status, "sent");
    assert_eq!(script.receives(2).await[1], "over TLS");
    let plain = ScriptSocket::over(dial().await, "ws://localhost/streamavatars", &["canary-t0ken"]).await;
    assert!(plain.is_err(), "a script came in without TLS");
}
