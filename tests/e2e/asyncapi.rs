//! The AsyncAPI document: the parser of AsyncAPI takes it, and what a run publishes is as it says.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures_util::StreamExt as _;
use pontoon_testkit::{Dir, NatsServer};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{output, pontoon};
use crate::support::{DEADLINE, Fixture, listen};

/// What must be among the messages before they are checked.
const WANTED: [&str; 8] = [
    ".gap.detected.",
    ".resource.broadcast.",
    ".frame.unrecognised.",
    ".error.raised.",
    ".state.",
    ".command.",
    ".job.",
    ".result.",
];

/// A script of this folder, with what npm has installed for it in `target/tools`.
pub(crate) fn node(script: &str, modules: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("target/tools").join(modules).join("node_modules");
    assert!(modules.is_dir(), "{} is missing; run `make tools`", modules.display());
    let own = root.join("target/tools/node/bin/node");
    let node = match std::env::var_os("PONTOON_NODE") {
        Some(given) => given.into(),
        None if own.is_file() => own,
        None => PathBuf::from("node"),
    };
    let mut command = Command::new(node);
    command.arg(root.join("tests/e2e").join(script)).env("NODE_PATH", modules);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn every_message_of_a_run_matches_one_channel_and_its_schema() {
    let fixture = Fixture::start().await;
    let mut messages = listen(&fixture.client, "pontoon.>").await;
    for data in [json!({"n": 1}), json!("text"), Value::Null] {
        fixture.sub0.broadcast("tick", &data);
    }
    fixture.sub0.send_text("[1,2]");
    fixture.sub0.send_text(r#"{"uid":null,"action":"x","error":"E1","message":"no"}"#);
    // A gap comes with the reconnect.
    for (operation, body) in [("call.echo", r#"{"a":1}"#), ("status", "{}"), ("reconnect", "{}")] {
        fixture.ask(operation, body, &[]).await;
    }
    fixture.client.publish("pontoon.job.sub0.shop.call.echo", "{}".into()).await.expect("sent");
    let (mut lines, mut missing) = (String::new(), WANTED.to_vec());
    while !missing.is_empty() {
        let message = timeout(DEADLINE, messages.next()).await;
        let message = message.unwrap_or_else(|_| panic!("no {missing:?} in\n{lines}")).expect("more");
        let subject = format!("{}.", message.subject);
        missing.retain(|part| !subject.contains(part));
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        lines.push_str(&json!({"subject": message.subject.as_str(), "body": body}).to_string());
        lines.push('\n');
    }
    let dir = Dir::new("asyncapi");
    let (code, document, err) = output(pontoon(&fixture.nats, &["asyncapi"])).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let mut check = node("asyncapi/check.js", "asyncapi");
    check.arg(dir.write("asyncapi.json", &document)).arg(dir.write("messages", &lines));
    // The parser is large, and takes long to load where much else runs.
    let checked = timeout(DEADLINE * 4, check.output()).await.expect("in time").expect("node runs");
    let faults = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{faults}\n{lines}");
}

#[tokio::test]
async fn types_that_the_configuration_names_have_channels_of_their_instance() {
    let nats = NatsServer::start().await;
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/recipes/market/config.toml");
    let dir = Dir::new("asyncapi-own");
    let other = "[connectors.other]\ntype = \"websocket\"\nurl = \"ws://127.0.0.1:1/\"\n";
    let config = dir.write("pontoon.toml", &(std::fs::read_to_string(recipe).unwrap() + other));
    let mut asyncapi = Command::new(env!("CARGO_BIN_EXE_pontoon"));
    asyncapi.arg("--config").arg(config).args(["--nats-url", &nats.url(), "asyncapi"]);
    let (code, document, err) = output(asyncapi).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let channel = &document["channels"]["market.event.x-trade.executed"];
    assert_eq!(channel["address"], "pontoon.event.websocket.market.x-trade.executed.{scope}");
    assert_eq!(document["components"]["messages"]["x-trade.executed"]["name"], "pontoon.x-trade.executed.v1");
    assert!(document["channels"].get("other.event.x-trade.executed").is_none());
}
