//! Scripts that dial in: who is let in, what is heard of them, and what they are told.

use std::sync::Arc;

use pontoon_testkit::{Dir, ScriptSocket, eventually, until_some};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Bed;
use crate::support::PATIENCE;

const LISTEN: &str = r#"listen = { address = "127.0.0.1:0", token = "canary-t0ken", max = 2, rate_limit = { requests = 100, per = "1s" } }"#;
const AUTH: &str = r#"{"type":"auth","token":"canary-t0ken"}"#;

async fn script(bed: &mut Bed) -> ScriptSocket {
    let url = bed.daemon.listener("avatars").await;
    let script = ScriptSocket::dial(&url, &[]).await.unwrap();
    script.say(AUTH);
    assert_eq!(script.hears(1).await, [r#"{"type":"welcome","title":"main"}"#]);
    script
}

#[tokio::test]
async fn a_script_and_a_client_of_nats_exchange_messages() {
    let mut bed = Bed::start(LISTEN).await;
    let script = script(&mut bed).await;
    let (name, body) = bed.event("socket.opened").await;
    assert_eq!((name.as_str(), &body["title"]), ("OnOpen", &json!("main")));
    script.say(r#"{"type":"event","event":"chatMessage","data":{"text":"http:\/\/x\/"}}"#);
    let (name, body) = bed.event("socket.message").await;
    assert_eq!((name.as_str(), &body["raw"]["data"]["text"]), ("chatMessage", &json!("http://x/")));

    let reply = bed.ask("script.send", r#"{"message":{"type":"runCommand","command":"a\/b"}}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(script.hears(2).await[1], r#"{"type":"runCommand","command":"a/b"}"#);
    let reply = bed.ask("message.send", r#"{"channel":"script/main","text":"hello / chat"}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(script.hears(3).await[2], r#"{"type":"writeChat","text":"hello / chat"}"#);
    script.say(r#"{"type":"heartbeat"}"#);
    assert_eq!(script.hears(4).await[3], r#"{"type":"heartbeat"}"#);
    script.say(r#"{"type":"error","message":"nobody knows dance"}"#);
    assert_eq!(bed.event("error.raised").await.1["error"]["message"], "nobody knows dance");
    script.say_binary(b"\x00");
    bed.event("frame.unrecognised").await;
    let listed = bed.ask("list", "").await.body["data"].take();
    assert_eq!(listed, json!([{"title": "main", "kind": "script", "phase": "ready"}]));
    let reply = bed.ask("script.send", r#"{"title":"other","message":"x"}"#).await;
    assert_eq!(reply.verdict(), ("rejected", Some("404")), "{reply:?}");
    script.close();
    bed.event("socket.closed").await;
    bed.state(|state| state["links"] == json!([])).await;
}

#[tokio::test]
async fn only_the_token_opens_the_door() {
    let mut bed = Bed::start(LISTEN).await;
    let url = bed.daemon.listener("avatars").await;
    assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with("/streamavatars"), "{url}");
    let refused = async |url: &str, protocols: &[&str]| ScriptSocket::dial(url, protocols).await.err();
    assert_eq!(refused(&url, &["wrong"]).await, Some(401));
    assert_eq!(refused(&url.replace("/streamavatars", "/"), &[]).await, Some(404));
    assert_eq!(refused(&format!("{url}?title=script/x"), &["canary-t0ken"]).await, Some(400));
    for first in [r#"{"type":"auth","token":"wrong"}"#, "hello", r#"{"type":"event","event":"chatMessage"}"#]
    {
        let stranger = ScriptSocket::dial(&url, &[]).await.unwrap();
        stranger.say(first);
        let (code, reason) = stranger.closed().await;
        assert_eq!(code, Some(1008), "{first}");
        assert!(!reason.is_empty() && !reason.contains("canary"), "{reason}");
        assert_eq!(stranger.texts(), [""; 0]);
    }
    let script =
        ScriptSocket::dial(&format!("{url}?title=by+protocol"), &["x", "canary-t0ken"]).await.unwrap();
    assert_eq!(script.subprotocol(), Some("canary-t0ken"));
    assert_eq!(script.hears(1).await, [r#"{"type":"welcome","title":"by protocol"}"#]);
    let (_, body) = bed.event("socket.opened").await;
    assert_eq!(body["title"], "by protocol");
    // A late auth frame is not published: the next event is the next message.
    script.say(AUTH);
    script.say(r#"{"type":"auth","token":"canary-t0ken","title":5} hello"#);
    let (_, body) = bed.event("socket.message").await;
    assert!(body["message"].as_str().unwrap().ends_with("hello"), "{body}");
    assert!(!body.to_string().contains("canary"), "{body}");
    let (_, status) = bed.daemon.get("/status").await;
    let (_, metrics) = bed.daemon.get("/metrics").await;
    for text in [bed.daemon.log(), status, metrics] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn whoever_does_not_say_who_it_is_is_let_go() {
    let mut bed = Bed::start(&format!("{LISTEN}\ntransport.connect_timeout = \"500ms\"")).await;
    let url = bed.daemon.listener("avatars").await;
    // More than may be on their way in at a time.
    let mut strangers = Vec::new();
    for _ in 0..15 {
        strangers.push(ScriptSocket::dial(&url, &[]).await.unwrap());
    }
    for stranger in &strangers {
        stranger.closed().await;
    }
    script(&mut bed).await;
}

#[tokio::test]
async fn a_second_script_of_a_title_takes_the_place_of_the_first() {
    let mut bed = Bed::start(LISTEN).await;
    let old = script(&mut bed).await;
    bed.event("socket.opened").await;
    old.say("last words");
    assert_eq!(bed.event("socket.message").await.1["message"], "last words");
    let new = script(&mut bed).await;
    bed.event("socket.closed").await;
    assert_eq!(bed.event("gap.detected").await.1["link"], "script/main");
    bed.event("socket.opened").await;
    old.closed().await;
    assert!(new.is_open());
    assert_eq!(bed.ask("script.send", r#"{"message":"to the new one"}"#).await.status, "sent");
    assert_eq!(new.hears(2).await[1], "to the new one");
    assert_eq!(old.texts().len(), 1);
}

#[tokio::test]
async fn a_script_that_comes_back_finds_a_gap_told_since_it_was_heard_last() {
    let mut bed = Bed::start(LISTEN).await;
    let old = script(&mut bed).await;
    old.say("before");
    bed.event("socket.message").await;
    drop(old);
    bed.event("socket.failed").await;
    bed.state(|state| state["links"] == json!([])).await;
    let new = script(&mut bed).await;
    let (_, gap) = bed.event("gap.detected").await;
    assert_eq!(
        (&gap["link"], &gap["reason"], &gap["recovered"]),
        (&json!("script/main"), &json!("disconnected"), &json!(false))
    );
    assert!(gap["from"].as_str().unwrap() < gap["to"].as_str().unwrap(), "{gap}");
    new.say("after");
    assert_eq!(bed.event("socket.message").await.1["message"], "after");
}

#[tokio::test]
async fn no_more_scripts_are_in_than_may_be() {
    let mut bed = Bed::start(LISTEN).await;
    let url = bed.daemon.listener("avatars").await;
    let enter = async |title: &str| {
        ScriptSocket::dial(&format!("{url}?title={title}"), &["canary-t0ken"]).await.unwrap()
    };
    let (one, two) = (enter("one").await, enter("two").await);
    one.hears(1).await;
    two.hears(1).await;
    enter("three").await.closed().await;
    let again = enter("two").await;
    again.hears(1).await;
    two.closed().await;
    assert!(one.is_open());
    drop(one);
    until_some(PATIENCE, async || {
        let three = enter("three").await;
        until_some(PATIENCE, async || (!three.is_open() || !three.texts().is_empty()).then_some(())).await;
        (!three.texts().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_script_is_told_no_more_than_it_can_take() {
    let lines = LISTEN.replace(r#"requests = 100, per = "1s""#, r#"requests = 2, per = "10m""#);
    let mut bed = Bed::start(&lines).await;
    let script = script(&mut bed).await;
    for text in ["1", "2"] {
        assert_eq!(bed.ask("script.send", &json!({"message": text}).to_string()).await.status, "sent");
    }
    let reply = bed.ask_with("script.send", r#"{"message":"3"}"#, &[("Pontoon-Timeout", "200ms")]).await;
    assert_eq!(reply.verdict(), ("expired", Some("408")), "{reply:?}");
    let large = json!({"message": "x".repeat(5000)}).to_string();
    assert_eq!(bed.ask("script.send", &large).await.verdict(), ("rejected", Some("413")));
    assert_eq!(script.texts().len(), 3);
}

#[tokio::test]
async fn a_silent_script_is_taken_for_gone_and_one_that_answers_pings_is_not() {
    // Long enough that a busy machine delivers one pong in it.
    let lines = LISTEN.replace("max = 2", "max = 2, silence = \"10s\"");
    let mut bed = Bed::start(&format!("{lines}\ntransport.ping_interval = \"1s\"")).await;
    let _alive = script(&mut bed).await;
    let url = bed.daemon.listener("avatars").await;
    let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap().to_owned();
    // A peer that was upgraded and then never reads: its end answers no ping.
    let mut mute = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!(
        "GET /streamavatars?title=mute HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: canary-t0ken\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut mute, request.as_bytes()).await.unwrap();
    let (_, body) = bed.event("socket.failed").await;
    assert_eq!(body["title"], "mute");
    assert!(body["reason"].as_str().unwrap().contains("not even a pong"), "{body}");
    // It is there until its connection is closed.
    eventually(PATIENCE, async || bed.ask("list", "").await.body["data"].as_array().map(Vec::len) == Some(1))
        .await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_and_listened_on_once_it_is_free() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut bed = Bed::start(&LISTEN.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).await;
    let state = bed.state(|state| state["links"][0]["key"] == "listen").await;
    let detail = state["links"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("127.0.0.1:{port}")) && detail.contains("another program"), "{detail}");
    drop(taken);
    script(&mut bed).await;
}

#[tokio::test]
async fn a_reload_leaves_scripts_of_an_unchanged_instance_alone_and_moves_the_others() {
    let mut bed = Bed::start(LISTEN).await;
    let script_ = script(&mut bed).await;
    bed.daemon.signal("HUP");
    eventually(PATIENCE, async || !bed.daemon.logged("the configuration was read again").is_empty()).await;
    assert!(script_.is_open());
    assert_eq!(bed.ask("script.send", r#"{"message":"still here"}"#).await.status, "sent");
    assert_eq!(script_.hears(2).await[1], "still here");
    let first = bed.daemon.listener("avatars").await;
    let settings = LISTEN.replace("max = 2", "max = 3");
    let config =
        pontoon_testkit::DaemonConfig::new(&bed.nats).connector("avatars", "streamavatars", &settings);
    bed.daemon.reconfigure(config);
    bed.daemon.signal("HUP");
    script_.closed().await;
    until_some(PATIENCE, async || (bed.daemon.listener("avatars").await != first).then_some(())).await;
    script(&mut bed).await;
}

#[tokio::test]
async fn scripts_come_in_over_tls_where_there_is_a_certificate() {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = Dir::new("door");
    let cert = dir.write("cert.pem", &identity.cert.pem());
    let key = dir.write("key.pem", &identity.signing_key.serialize_pem());
    let tls = format!("max = 2, tls = {{ cert_file = {cert:?}, key_file = {key:?} }}");
    let mut bed = Bed::start(&LISTEN.replace("max = 2", &tls)).await;
    let url = bed.daemon.listener("avatars").await;
    assert!(url.starts_with("wss://"), "{url}");
    let address = url.trim_start_matches("wss://").trim_end_matches("/streamavatars");
    let dial = async || TcpStream::connect(address).await.unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), dial().await).await.unwrap();
    let script = ScriptSocket::over(stream, "ws://localhost/streamavatars", &["canary-t0ken"]).await.unwrap();
    script.hears(1).await;
    assert_eq!(bed.ask("script.send", r#"{"message":"over TLS"}"#).await.status, "sent");
    assert_eq!(script.hears(2).await[1], "over TLS");
    let plain = ScriptSocket::over(dial().await, "ws://localhost/streamavatars", &["canary-t0ken"]).await;
    assert!(plain.is_err(), "a script came in without TLS");
}
