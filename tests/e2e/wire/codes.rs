//! What ends of connections mean for the next dial: refused credentials, too many requests, a service that is too old or
//! too silent.

use std::time::Duration;

use pontoon_testkit::{BareListener, BareSocket, DaemonConfig, NatsServer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{CLOSE, PING, Scenario, TEXT, numbered};
use crate::support::{DEADLINE, start};

/// The next dial is minutes away.
pub(super) fn assert_slow(link: &Value) {
    let moment = |key: &str| OffsetDateTime::parse(link[key].as_str().expect("a time"), &Rfc3339).unwrap();
    assert!(moment("retry_at") - moment("since") > Duration::from_secs(120), "{link}");
}

async fn close(socket: &mut BareSocket, code: u16, reason: &str) {
    socket.send(CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat()).await;
    socket.close_frame().await;
    socket.finish().await;
}

#[tokio::test]
async fn close_codes_mean_what_is_configured_and_else_what_is_usual() {
    let settings = "transport.refused_codes = [4004, 4001]\ntransport.slow_codes = [4008]";
    for (settings, code, reason, phase, slow) in [
        (settings, 4004, "bad token", "credentials_refused", true),
        (settings, 4001, "", "credentials_refused", true),
        (settings, 4008, "", "waiting", true),
        (settings, 4401, "", "waiting", false),
        ("", 4401, "Unauthorized", "credentials_refused", true),
        ("", 4403, "", "credentials_refused", true),
        ("", 4429, "", "waiting", true),
        ("", 1008, "who are you?", "credentials_refused", true),
        ("", 1008, "rate limit exceeded", "waiting", true),
        ("", 4004, "", "waiting", false),
    ] {
        let listener = BareListener::start().await;
        let settings =
            format!("url = \"{}/x\"\nsend_on_connect = [{{ token = \"t\" }}]\n{settings}", listener.url());
        let scenario = Scenario::new("websocket", &settings).await;
        // It is dialled again soon unless that is slow, and closes each connection in the same way.
        let service = async {
            loop {
                let (_, mut socket) = listener.accept().await;
                assert_eq!(socket.frame().await.unwrap().payload, br#"{"token":"t"}"#);
                close(&mut socket, code, reason).await;
            }
        };
        let closed = |link: &Value| {
            let detail = link["detail"].as_str().unwrap_or_default();
            link["retry_at"].is_string() && detail.contains(&code.to_string())
        };
        let link = tokio::select! {
            link = scenario.link(closed) => link,
            () = service => unreachable!("the service does not end"),
        };
        assert_eq!(link["phase"], phase, "{code} {reason}: {link}");
        if slow {
            assert_slow(&link);
        }
    }
}

#[tokio::test]
async fn a_frame_can_report_too_many_requests() {
    let listener = BareListener::start().await;
    let settings = "kind = \"/type\"\nslow_when = \"limited\"\nrefused_when = \"denied\"";
    let scenario = Scenario::new("websocket", &format!("url = \"{}/x\"\n{settings}", listener.url())).await;
    let (_, mut socket) = listener.accept().await;
    scenario.ready().await;
    socket.send(TEXT, br#"{"type":"limited","message":"come back later"}"#).await;
    let link = scenario.link(|link| link["phase"] == "waiting").await;
    assert!(link["detail"].as_str().unwrap().contains("come back later"), "{link}");
    assert_slow(&link);
}

#[tokio::test]
async fn a_server_of_socket_io_2_is_not_ready_and_tried_slowly() {
    for (namespace, path) in [("/", "a"), ("/chat", "b")] {
        let listener = BareListener::start().await;
        let settings = format!("url = \"{}/{path}\"\nnamespace = \"{namespace}\"", listener.url());
        let scenario = Scenario::new("socketio", &settings).await;
        let (_, mut socket) = listener.accept().await;
        // It confirms the default namespace by itself, and any without a session id.
        let open = br#"0{"sid":"e","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":5000}"#;
        socket.send(TEXT, open).await;
        socket.send(TEXT, b"40").await;
        if namespace != "/" {
            assert_eq!(socket.frame().await.unwrap().payload, b"40/chat,");
            socket.send(TEXT, b"40/chat").await;
        }
        let link = scenario.link(|link| link["phase"] == "wrong_address").await;
        assert!(link["detail"].as_str().unwrap().contains("speaks Socket.IO 2 or older"), "{link}");
        assert_slow(&link);
        assert!(scenario.daemon.logged("link ready").is_empty());
    }
}

#[tokio::test]
async fn a_service_that_sends_no_message_for_too_long_is_dialled_again() {
    let nats = NatsServer::options().every_right().start().await;
    let listener = BareListener::start().await;
    let config = DaemonConfig::new(&nats)
        .connector(
            "silent",
            "websocket",
            &format!("url = \"{}/silent\"\ntransport.max_silence = \"1s\"", listener.url()),
        )
        .connector("patient", "websocket", &format!("url = \"{}/patient\"", listener.url()));
    let daemon = start(config);
    let mut patient = None;
    let mut silent = 0;
    while patient.is_none() || silent < 2 {
        let (path, mut socket) = listener.accept().await;
        if path == "/patient" {
            assert!(patient.is_none(), "a link without the setting was dialled again");
            patient = Some(socket);
            continue;
        }
        silent += 1;
        // A message counts; pings do not, and the connection is closed as by one who leaves.
        socket.send(TEXT, numbered(1).as_bytes()).await;
        tokio::spawn(async move {
            for _ in 0..20 {
                socket.send(PING, b"there?").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(socket.close_frame().await.code(), Some(1001));
        });
    }
    let words = "no message came for 1s (transport.max_silence)";
    pontoon_testkit::eventually(DEADLINE, async || daemon.log().contains(words)).await;
}
