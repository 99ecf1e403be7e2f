//! `pontoon init` against services: what it proposes passes the check, and turns the same messages into events.

use std::fs;
use std::sync::Arc;

use pontoon_sdk::Raw;
use pontoon_sdk::socketio::Frame;
use pontoon_testkit::{
    Connection, DaemonConfig, Dir, NatsServer, Service, SocketIoServer, WebSocketServer, eventually,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::BINARY;
use crate::support::{DEADLINE, ask, listen, next, start};

const TOKEN: &str = "hunter2";

fn message() -> Value {
    json!({"type": "message", "room": "lobby", "id": 7, "user": {"id": "u1"}, "text": "hi"})
}

/// Sends some messages to each client that subscribes, and then ends the connection.
struct Brief;

impl Service for Brief {
    fn text(&self, connection: &Arc<Connection>, _: &str) {
        let shown = json!({"type": "welcome", "token": TOKEN});
        for message in [message(), shown, json!({"type": "ping"})] {
            connection.send_text(&message.to_string());
        }
        connection.close(1000, "that is all");
    }
}

/// What `pontoon init` prints on stdout and on stderr.
async fn init(arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(BINARY);
    command.arg("init").args(arguments).env("INIT_TOKEN", TOKEN).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{err}");
    (out, err)
}

/// Checks a configuration as the command line does.
async fn check(name: &str, table: &str) {
    let dir = Dir::new(name);
    let file = dir.write("pontoon.toml", table);
    assert_eq!(fs::read_to_string(&file).unwrap(), table);
    let mut command = Command::new(BINARY);
    let output =
        command.arg("--config").arg(&file).arg("check").env("INIT_TOKEN", TOKEN).output().await.unwrap();
    assert!(output.status.success(), "{}\n{table}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_websocket_service_is_dialled_and_its_table_works() {
    let service = WebSocketServer::start(Arc::new(Brief)).await;
    let url = format!("ws://{}/", service.address());
    let header = "Authorization=INIT_TOKEN";
    let (table, shown) = init(&[
        &url,
        "--name",
        "any",
        "--for",
        "60s",
        "--header",
        header,
        "--send",
        r#"{"subscribe":"all"}"#,
    ])
    .await;
    assert!(shown.contains("\"lobby\"") && shown.contains("that is all"), "{shown}");
    assert!(!shown.contains(TOKEN) && !table.contains(TOKEN), "{shown}{table}");
    assert_eq!(service.requests()[0].header("authorization"), Some(TOKEN));
    check("init-websocket", &table).await;

    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.websocket.any.message.created.>").await;
    let daemon = start(DaemonConfig::new(&nats).environment("INIT_TOKEN", TOKEN).with(&table));
    let wanted = json!({"id": "7", "text": "hi"});
    next(&mut events, |event, body| event.subject.ends_with(".lobby") && body["message"] == wanted).await;
    assert!(!daemon.log().contains(TOKEN), "{}", daemon.log());
}

#[tokio::test]
async fn a_socketio_service_is_dialled_and_its_table_works() {
    let service = SocketIoServer::start().await;
    let url = service.url();
    let arguments = [url.as_str(), "--name", "any", "--for", "60s"];
    let said = Frame::event("chat message", Raw::json(&message()).unwrap());
    let (outcome, ()) = tokio::join!(init(&arguments), async {
        service.joined(1, DEADLINE).await;
        service.send(&said);
        service.disconnect();
    });
    let (table, shown) = outcome;
    assert!(shown.contains("lobby"), "{shown}");
    check("init-socketio", &table).await;

    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.socketio.any.message.created.>").await;
    let _daemon = start(DaemonConfig::new(&nats).with(&table));
    eventually(DEADLINE, async || {
        let state = ask(&client, "pontoon.command.socketio.any.status", "", &[]).await.body["data"].take();
        state["links"][0]["phase"] == "ready" && state["bus"]["publishing"] == true
    })
    .await;
    service.send(&said);
    let wanted = json!({"id": "7", "text": "hi"});
    next(&mut events, |event, body| event.subject.ends_with(".lobby") && body["message"] == wanted).await;
}

#[tokio::test]
async fn what_cannot_be_dialled_is_said() {
    for (arguments, code, words) in [
        (&["ws://127.0.0.1:1/"][..], 1, "127.0.0.1:1"),
        (&["ftp://h/"], 2, "http"),
        (&["http://h/", "--send", "x"], 2, "--send"),
        (&["ws://h/", "--header", "x"], 2, "NAME=VARIABLE"),
    ] {
        let output = Command::new(BINARY).arg("init").args(arguments).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(words), "{arguments:?}: {said}");
    }
}
