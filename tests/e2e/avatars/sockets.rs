//! Titled sockets that stand in the configuration.

use pontoon_testkit::{Echo, Listener, Refusal};
use serde_json::json;

use super::Fixture;
use crate::support::DEADLINE;

const SOCKET: &str = r#"sockets.my_socket_title = { url = "{url}", protocols = ["avatars.v1"] }"#;

#[tokio::test]
async fn the_pages_conversation_goes_both_ways() {
    let mut fixture = Fixture::start(SOCKET).await;
    let (name, body) = fixture.event("socket.opened").await;
    assert_eq!((name.as_str(), &body["title"]), ("OnOpen", &json!("my_socket_title")));
    // An echo server may greet; what it echoes comes after that.
    let (name, body) = fixture.event("socket.message").await;
    assert_eq!((name.as_str(), &body["message"]), ("OnMessage", &json!(Echo::GREETING)));
    assert_eq!(fixture.echo.requests()[0].subprotocols(), ["avatars.v1"]);

    let reply = fixture.ask("send", r#"{"title":"my_socket_title","message":"gogo!"}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(fixture.event("socket.message").await.1["message"], "gogo!");
    let reply = fixture.ask("message.send", r#"{"channel":"my_socket_title","text":"more"}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(fixture.event("socket.message").await.1["message"], "more");
    let listed = fixture.ask("list", "").await;
    assert_eq!(
        listed.body["data"],
        json!([{"title": "my_socket_title", "kind": "socket", "phase": "ready"}]),
        "{listed:?}"
    );
    let reply = fixture.ask("send", r#"{"title":"another","message":"x"}"#).await;
    assert_eq!(reply.verdict(), ("rejected", Some("404")), "{reply:?}");
    for operation in ["create", "remove"] {
        let body = format!(
            r#"{{"title":"my_socket_title"{}}}"#,
            if operation == "create" { r#","url":"ws://h""# } else { "" }
        );
        let reply = fixture.ask(operation, &body).await;
        assert_eq!(reply.verdict(), ("rejected", Some("403")), "{reply:?}");
    }
}

#[tokio::test]
async fn a_socket_that_ends_is_reported_and_dialled_again() {
    let mut fixture = Fixture::start(SOCKET).await;
    fixture.event("socket.opened").await;
    fixture.echo.close(4321, "for a reason");
    let (name, body) = fixture.event("socket.closed").await;
    assert_eq!(name, "OnClose");
    assert_eq!((&body["code"], &body["message"]), (&json!(4321), &json!("for a reason")));
    fixture.event("socket.opened").await;
    fixture.echo.cut();
    let (name, body) = fixture.event("socket.failed").await;
    assert_eq!((name.as_str(), &body["code"]), ("OnError", &json!(null)), "{body}");
    fixture.event("socket.opened").await;
}

#[tokio::test]
async fn a_server_that_refuses_or_hangs_is_an_error_of_the_socket() {
    let mut fixture = Fixture::start(&format!("{SOCKET}\ntransport.connect_timeout = \"500ms\"")).await;
    fixture.event("socket.opened").await;
    fixture.echo.refuse(Refusal::status(503));
    fixture.echo.cut();
    failed(&mut fixture, "503").await;
    fixture.echo.listener(Listener::Silent);
    failed(&mut fixture, "did not answer within").await;
    let reply = fixture.ask("send", r#"{"title":"my_socket_title","message":"x"}"#).await;
    assert_eq!(reply.verdict(), ("failed", Some("503")), "{reply:?}");
    fixture.echo.authorize();
    fixture.event("socket.opened").await;
    fixture.echo.connected(1, DEADLINE).await;
}

/// Waits for an error of the socket with this text, behind others.
async fn failed(fixture: &mut Fixture, text: &str) {
    loop {
        let (name, body) = fixture.event("socket.failed").await;
        assert_eq!(name, "OnError");
        if body["reason"].as_str().unwrap().contains(text) {
            return;
        }
    }
}
