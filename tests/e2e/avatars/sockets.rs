//! Titled sockets that stand in the configuration.

use pontoon_testkit::{Echo, Listener, Refusal};
use serde_json::json;

use super::Bed;
use crate::support::PATIENCE;

const SOCKET: &str = r#"sockets.my_socket_title = { url = "{url}", protocols = ["avatars.v1"] }"#;

#[tokio::test]
async fn the_pages_conversation_goes_both_ways() {
    let mut bed = Bed::start(SOCKET).await;
    let (name, body) = bed.event("socket.opened").await;
    assert_eq!((name.as_str(), &body["title"]), ("OnOpen", &json!("my_socket_title")));
    // An echo server may greet; what it echoes comes after that.
    let (name, body) = bed.event("socket.message").await;
    assert_eq!((name.as_str(), &body["message"]), ("OnMessage", &json!(Echo::GREETING)));
    assert_eq!(bed.echo.requests()[0].subprotocols(), ["avatars.v1"]);

    let reply = bed.ask("send", r#"{"title":"my_socket_title","message":"gogo!"}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(bed.event("socket.message").await.1["message"], "gogo!");
    let reply = bed.ask("message.send", r#"{"channel":"my_socket_title","text":"more"}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    assert_eq!(bed.event("socket.message").await.1["message"], "more");
    let listed = bed.ask("list", "").await;
    assert_eq!(
        listed.body["data"],
        json!([{"title": "my_socket_title", "kind": "socket", "phase": "ready"}]),
        "{listed:?}"
    );
    let reply = bed.ask("send", r#"{"title":"another","message":"x"}"#).await;
    assert_eq!(reply.verdict(), ("rejected", Some("404")), "{reply:?}");
    for operation in ["create", "remove"] {
        let body = format!(
            r#"{{"title":"my_socket_title"{}}}"#,
            if operation == "create" { r#","url":"ws://h""# } else { "" }
        );
        let reply = bed.ask(operation, &body).await;
        assert_eq!(reply.verdict(), ("rejected", Some("403")), "{reply:?}");
    }
}

#[tokio::test]
async fn a_socket_that_ends_is_told_and_dialled_again() {
    let mut bed = Bed::start(SOCKET).await;
    bed.event("socket.opened").await;
    bed.echo.close(4321, "for a reason");
    let (name, body) = bed.event("socket.closed").await;
    assert_eq!(name, "OnClose");
    assert_eq!((&body["code"], &body["message"]), (&json!(4321), &json!("for a reason")));
    bed.event("socket.opened").await;
    bed.echo.cut();
    let (name, body) = bed.event("socket.failed").await;
    assert_eq!((name.as_str(), &body["code"]), ("OnError", &json!(null)), "{body}");
    bed.event("socket.opened").await;
}

#[tokio::test]
async fn a_server_that_refuses_or_hangs_is_an_error_of_the_socket() {
    let mut bed = Bed::start(&format!("{SOCKET}\ntransport.connect_timeout = \"500ms\"")).await;
    bed.event("socket.opened").await;
    bed.echo.refuse(Refusal::status(503));
    bed.echo.cut();
    bed.event("socket.failed").await;
    let (name, body) = bed.event("socket.failed").await;
    assert_eq!(name, "OnError");
    assert!(body["reason"].as_str().unwrap().contains("503"), "{body}");
    bed.echo.listener(Listener::Silent);
    loop {
        let (_, body) = bed.event("socket.failed").await;
        if body["reason"].as_str().unwrap().contains("did not answer within") {
            break;
        }
    }
    let reply = bed.ask("send", r#"{"title":"my_socket_title","message":"x"}"#).await;
    assert_eq!(reply.verdict(), ("failed", Some("503")), "{reply:?}");
    bed.echo.authorize();
    bed.event("socket.opened").await;
    bed.echo.connected(1, PATIENCE).await;
}
