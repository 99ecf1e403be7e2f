//! The closing handshake (RFC 6455 §7): who closes with which code, and that it arrives before the connection ends.

use std::collections::HashMap;

use pontoon_testkit::{BareListener, BareSocket, DaemonConfig, NatsServer, bare_frame, eventually};

use super::{CLOSE, PING, PONG, Scenario, TEXT, numbered, welcome};
use crate::support::{DEADLINE, start};

/// Something that a peer does, and the code of the close frame that must answer it.
type Case = (&'static str, Vec<u8>, Option<u16>);

/// What breaks the protocol from either side; `masked` is how the sender masks.
fn violations(masked: bool) -> Vec<Case> {
    let frame = |first, payload: &[u8]| bare_frame(first, payload, masked);
    let two = |one: Vec<u8>, other: Vec<u8>| [one, other].concat();
    let close = |payload: &[u8]| frame(CLOSE, payload);
    vec![
        ("wrong mask", bare_frame(TEXT, b"x", !masked), Some(1002)),
        ("reserved bit 1", frame(0xC1, b"x"), Some(1002)),
        ("reserved bit 2", frame(0xA2, b"x"), Some(1002)),
        ("reserved bit 3", frame(0x99, b""), Some(1002)),
        ("reserved opcode 3", frame(0x83, b""), Some(1002)),
        ("reserved opcode 11", frame(0x8B, b""), Some(1002)),
        ("fragmented ping", frame(0x09, b""), Some(1002)),
        ("ping of 126 bytes", frame(PING, &[0; 126]), Some(1002)),
        ("continuation of nothing", frame(0x80, b"x"), Some(1002)),
        ("message in a message", two(frame(0x01, b"x"), frame(TEXT, b"y")), Some(1002)),
        ("close of one byte", close(&[3]), Some(1002)),
        ("text that is not UTF-8", frame(TEXT, &[b'a', 0xC0]), Some(1007)),
        ("text cut in a character", frame(TEXT, &[0xE2, 0x82]), Some(1007)),
        ("character broken between fragments", two(frame(0x01, &[0xE2]), frame(0x80, b"a")), Some(1007)),
        ("fragment that is not UTF-8", two(frame(0x01, b"a"), frame(0x00, &[0xFF])), Some(1007)),
        ("reason that is not UTF-8", close(&[3, 232, 0xFF]), Some(1007)),
        (
            "far too large",
            two(vec![0x82, u8::from(masked) << 7 | 127, 0, 0, 0, 4, 0, 0, 0, 0], vec![0; 4]),
            Some(1009),
        ),
    ]
}

/// How a peer may close, and what is answered.
fn closes(masked: bool) -> Vec<Case> {
    let close = |code: u16| bare_frame(CLOSE, &code.to_be_bytes(), masked);
    let echoed = [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1012, 1014, 3999, 4000, 4999];
    let refused = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535];
    let echoed = echoed.map(|code| ("closes with a code", close(code), Some(code)));
    let refused = refused.map(|code| ("closes with a code that is not allowed", close(code), Some(1002)));
    let mut cases = vec![
        ("closes without a code", bare_frame(CLOSE, b"", masked), None),
        ("closes with a reason", bare_frame(CLOSE, b"\x0f\xa0see you", masked), Some(4000)),
    ];
    cases.extend(echoed);
    cases.extend(refused);
    cases
}

/// Plays a case, and sees how it is answered; `masked` is whether the other side masks.
async fn play(socket: &mut BareSocket, (name, bytes, code): &Case, masked: bool) {
    socket.send_bytes(bytes).await;
    let close = socket.close_frame().await;
    assert_eq!((close.code(), close.masked), (*code, masked), "{name}: {close:?}");
}

#[tokio::test]
async fn a_service_sees_its_close_echoed_and_its_violations_answered() {
    let nats = NatsServer::options().every_right().start().await;
    let listener = BareListener::start().await;
    let mut config = DaemonConfig::new(&nats);
    let mut cases = HashMap::new();
    let all = violations(false).into_iter().chain(closes(false)).enumerate();
    for (number, case) in all {
        let mut add = |kind: &str, name: String| {
            let path = format!("/{name}");
            let settings = format!("url = \"{}{path}\"", listener.url());
            config =
                std::mem::replace(&mut config, DaemonConfig::new(&nats)).connector(&name, kind, &settings);
            cases.insert(path, case.clone());
        };
        add("websocket", format!("w{number}"));
        // The transport below is the same: one of each kind will do.
        if number % 8 == 0 {
            add("socketio", format!("s{number}"));
        }
    }
    let daemon = start(config);
    let mut playing = tokio::task::JoinSet::new();
    while !cases.is_empty() {
        let (target, mut socket) = listener.accept().await;
        let path = target.split('?').next().unwrap();
        // The others are dialled again, and not needed any more.
        let Some(case) = cases.remove(path) else { continue };
        let is_socketio = path.starts_with("/s");
        playing.spawn(async move {
            if is_socketio {
                welcome(&mut socket).await;
            }
            play(&mut socket, &case, true).await;
            // What a peer sends that has not read the close yet must not turn it into a reset.
            socket.send(TEXT, &[b'x'; 60_000]).await;
            socket.finish().await;
            assert!(socket.ended().await, "{}: the connection was reset", case.0);
        });
    }
    while let Some(played) = playing.join_next().await {
        played.unwrap();
    }
    // A code that must not be on the wire is reported unchanged.
    for code in [999, 1005, 1006, 1015, 5000] {
        let words = format!("closed by the service with code {code}");
        eventually(DEADLINE, async || daemon.log().contains(&words)).await;
    }
}

#[tokio::test]
async fn a_script_sees_its_close_echoed_and_its_violations_answered() {
    let settings = r#"listen = { address = "127.0.0.1:0", token = "t0ken", max = 2 }"#;
    let mut scenario = Scenario::new("streamavatars", settings).await;
    let url = scenario.daemon.listener("any").await;
    let mut sent = violations(true);
    sent.extend(closes(true).into_iter().step_by(3));
    for case in &sent {
        let mut script = BareSocket::dial(&url).await;
        script.send(TEXT, br#"{"type":"auth","token":"t0ken"}"#).await;
        assert_eq!(script.frame().await.unwrap().first, TEXT, "the welcome");
        play(&mut script, case, false).await;
        // The server is the one that ends the connection below.
        assert!(script.ended().await, "{}: the connection was reset", case.0);
    }
    // Before it has authenticated.
    for (bytes, code) in [
        (bare_frame(CLOSE, &1000_u16.to_be_bytes(), true), 1000),
        (bare_frame(TEXT, &[0xFF], true), 1007),
        (bare_frame(TEXT, b"hello", false), 1002),
        (bare_frame(TEXT, &[b'x'; (1 << 20) + 1], true), 1009),
    ] {
        let mut stranger = BareSocket::dial(&url).await;
        play(&mut stranger, &("stranger", bytes, Some(code)), false).await;
    }
}

#[tokio::test]
async fn pings_are_answered_and_a_daemon_that_stops_leaves_with_1001() {
    let listener = BareListener::start().await;
    for kind in ["websocket", "socketio"] {
        let mut scenario = Scenario::new(kind, &format!("url = \"{}/x\"", listener.url())).await;
        let (_, mut socket) = listener.accept().await;
        socket.send(PING, b"early").await;
        assert_eq!(socket.frame().await.unwrap().payload, b"early");
        if kind == "socketio" {
            welcome(&mut socket).await;
        }
        scenario.ready().await;
        // Between the fragments of a message too.
        socket.send(0x01, b"{\"n\":").await;
        socket.send(PING, b"late").await;
        let pong = socket.frame().await.unwrap();
        assert_eq!((pong.first, pong.payload.as_slice()), (PONG, &b"late"[..]));
        scenario.daemon.signal("TERM");
        let close = socket.close_frame().await;
        assert_eq!(close.code(), Some(1001));
        // What was sent before the daemon's close was read is published.
        socket.send(0x80, b"7}").await;
        socket.send(TEXT, numbered(8).as_bytes()).await;
        socket.send(CLOSE, &close.payload).await;
        socket.finish().await;
        assert!(socket.ended().await);
        assert_eq!(scenario.daemon.wait_exit(DEADLINE).await, Some(0));
        if kind == "websocket" {
            assert_eq!(scenario.stored(2).await, ["7", "8"]);
        }
    }
}
