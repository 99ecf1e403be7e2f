//! Messages over `transport.message_limit`: discarded, published as lost, and followed by the next.

use pontoon_testkit::{BareListener, BareSocket, bare_frame};

use super::{PING, PONG, Scenario, TEXT, event, numbered, welcome};
use crate::support::{listen, next};

/// A size that is over the default limit.
const LARGE: usize = 1_500_000;

/// Waits for the pong, so that all that was sent before it was read.
async fn read(socket: &mut BareSocket, name: &[u8]) {
    socket.send(PING, name).await;
    let pong = socket.frame().await.unwrap();
    assert_eq!((pong.first, pong.payload.as_slice()), (PONG, name));
}

async fn check(kind: &'static str, message: fn(usize) -> String) {
    let listener = BareListener::start().await;
    let mut scenario = Scenario::new(kind, &format!("url = \"{}/x\"", listener.url())).await;
    let mut dead = listen(&scenario.client, "pontoon.dead.>").await;
    let (_, mut socket) = listener.accept().await;
    if kind == "socketio" {
        welcome(&mut socket).await;
    }
    scenario.ready().await;
    socket.send(TEXT, message(1).as_bytes()).await;
    socket.send(TEXT, &[b'x'; LARGE]).await;
    socket.send(TEXT, message(3).as_bytes()).await;
    // In fragments, with a ping between them.
    socket.send(0x01, &[b'x'; LARGE / 2]).await;
    read(&mut socket, b"between").await;
    socket.send(0x00, &[b'x'; LARGE / 2]).await;
    socket.send(0x80, b"x").await;
    socket.send(TEXT, message(5).as_bytes()).await;
    assert_eq!(scenario.stored(5).await, ["1", "gap too_large", "3", "gap too_large", "5"]);
    for size in [LARGE, LARGE + 1] {
        let (letter, _) = next(&mut dead, |_, _| true).await;
        assert_eq!(letter.subject.as_str(), format!("pontoon.dead.{kind}.any.too_large"));
        let headers = letter.headers.unwrap();
        assert_eq!(headers.get("Pontoon-Size").unwrap().as_str(), size.to_string());
        assert_eq!(headers.get("Pontoon-Reason").unwrap().as_str(), "too_large");
        assert!(headers.get("Pontoon-Detail").unwrap().as_str().contains("transport.message_limit"));
    }
    let metrics = scenario.daemon.metrics().await;
    let value = |name, reason| {
        metrics.value(name, &[("pontoon_instance", "any"), ("type", kind), ("reason", reason)]).unwrap()
    };
    assert_eq!(value("pontoon_events_dropped_total", "too_large"), 2.0);
    assert_eq!(value("pontoon_gaps_total", "too_large"), 2.0);
    scenario.daemon.logs("transport.message_limit").await;
    // It is still the first connection.
    read(&mut socket, b"there").await;
}

#[tokio::test]
async fn a_large_message_is_lost_alone_and_that_is_published() {
    check("websocket", numbered).await;
}

#[tokio::test]
async fn a_large_packet_of_socket_io_is_lost_alone_and_that_is_published() {
    check("socketio", event).await;
}

#[tokio::test]
async fn a_large_attachment_costs_its_packet_and_no_other() {
    let listener = BareListener::start().await;
    let scenario = Scenario::new("socketio", &format!("url = \"{}/x\"", listener.url())).await;
    let (_, mut socket) = listener.accept().await;
    welcome(&mut socket).await;
    scenario.ready().await;
    socket.send(TEXT, br#"451-["a",{"_placeholder":true,"num":0}]"#).await;
    socket.send(0x82, &[0; LARGE]).await;
    socket.send(TEXT, event(2).as_bytes()).await;
    assert_eq!(scenario.stored(3).await, ["gap too_large", "2"]);
}

#[tokio::test]
async fn a_message_without_end_closes_the_link_which_is_dialled_again_slowly() {
    let listener = BareListener::start().await;
    let scenario = Scenario::new("websocket", &format!("url = \"{}/x\"", listener.url())).await;
    let (_, mut socket) = listener.accept().await;
    scenario.ready().await;
    let head = bare_frame(0x82, &[0; 65 << 20], false);
    socket.send_bytes(&head[..1_000]).await;
    let close = socket.close_frame().await;
    assert_eq!(close.code(), Some(1009));
    socket.finish().await;
    let link = scenario.link(|link| link["phase"] == "waiting").await;
    assert!(link["detail"].as_str().unwrap().contains("transport.message_limit"), "{link}");
    super::codes::assert_slow(&link);
    scenario.daemon.logs("over 64 times transport.message_limit").await;
}
