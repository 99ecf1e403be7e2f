//! The binary with the new connector in it, between a real nats-server and a Parley server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod server;

use std::process::Stdio;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use pontoon_testkit::{Daemon, DaemonConfig, Dir, NatsServer};
use serde_json::{Value, json};
use server::ParleyServer;
use tokio::process::Command;
use tokio::time::timeout;

const BINARY: &str = env!("CARGO_BIN_EXE_pontoon-parley");

/// How long anything may take that is not itself a matter of time.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn it_bridges_both_ways_and_publishes_what_a_break_may_have_cost() {
    // The daemon's user could not command, and `send` below goes by the same configuration.
    let nats = NatsServer::options().every_right().start().await;
    let mut server = ParleyServer::open().await;
    let mut events = listen(&nats.client().await, "pontoon.event.parley.tavern.>").await;
    let settings = format!("address = \"{}\"\nname = \"bridge\"\nrooms = [\"lobby\"]", server.address);
    let config = DaemonConfig::new(&nats).connector("tavern", "parley", &settings);
    let dir = Dir::new("outside");
    let file = dir.write("pontoon.toml", config.text());
    let mut daemon = Daemon::start(BINARY, config);
    server.receives("JOIN lobby").await;

    let (subject, gap) = next(&mut events).await;
    assert_eq!(subject, "pontoon.event.parley.tavern.gap.detected._");
    assert_eq!(gap["reason"], "restarted");
    server.send("MSG lobby m1 ann Good evening");
    let (subject, event) = next(&mut events).await;
    assert_eq!(subject, "pontoon.event.parley.tavern.message.created.lobby");
    assert_eq!((&event["channel"], &event["sender"]["name"]), (&json!("lobby"), &json!("ann")));
    assert_eq!(event["message"], json!({"id": "m1", "text": "Good evening"}));

    let body = r#"{"channel":"lobby","text":"Good evening, Ann"}"#;
    let file = file.to_str().expect("UTF-8");
    let (code, reply, output_text) = run(&["--config", file, "send", "tavern", "message.send", body]).await;
    assert_eq!(code, Some(0), "{output_text}\n{}", daemon.log());
    let reply: Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!((&reply["status"], &reply["data"]), (&json!("acked"), &json!({"id": "m1"})));
    server.receives("SAY 1 lobby Good evening, Ann").await;

    server.hang_up();
    server.receives("JOIN lobby").await;
    let (subject, gap) = next(&mut events).await;
    assert_eq!(subject, "pontoon.event.parley.tavern.gap.detected._");
    assert_eq!((&gap["reason"], &gap["recovered"]), (&json!("disconnected"), &json!(false)));
    server.send("MSG lobby m2 ann Back again?");
    assert_eq!(next(&mut events).await.1["message"]["id"], "m2");

    daemon.signal("TERM");
    server.receives("QUIT").await;
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
}

#[tokio::test]
async fn the_binary_knows_the_new_type_beside_one_of_ours() {
    let (_, known, _) = run(&["connectors"]).await;
    let types: Vec<_> = known.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(types, ["parley", "sub0"]);
    let (_, described, _) = run(&["connectors", "parley"]).await;
    assert!(described.contains("message.send") && described.contains("address: "), "{described}");

    let (code, sample, _) = run(&["sample", "parley"]).await;
    assert_eq!((code, sample.as_str()), (Some(0), include_str!("../../config.toml")));
    let dir = Dir::new("outside");
    let check = async |name, text: &str| {
        let file = dir.write(name, text);
        run(&["--config", file.to_str().expect("UTF-8"), "check"]).await
    };
    assert_eq!(check("sample.toml", &sample).await.0, Some(0));
    // The settings that stand in comments are good ones, too.
    let all = sample.replace("# password = { env = \"PARLEY_PASSWORD\" }", "password = \"x\"");
    let all = all.replace("# rooms", "rooms");
    assert_eq!(all.matches("\n# ").count(), sample.matches("\n# ").count() - 2);
    let (code, _, output_text) = check("all.toml", &all).await;
    assert_eq!(code, Some(0), "{output_text}");

    let (code, _, output_text) = check("place.toml", &sample.replace(":7300", "")).await;
    assert_eq!(code, Some(78));
    assert!(
        output_text.contains("connectors.tavern.address") && output_text.contains("write host:port"),
        "{output_text}"
    );
    let (code, _, output_text) = check("type.toml", &sample.replace("\"parley\"", "\"parly\"")).await;
    assert_eq!(code, Some(78));
    assert!(output_text.contains("parley"), "{output_text}");
}

/// Exit code, stdout and stderr of the binary, without the settings of the user that runs the tests.
async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PONTOON_")) {
        command.env_remove(name);
    }
    command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
    let output = timeout(DEADLINE, command.output()).await.expect("in time").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Subscribes, and waits until the server knows.
async fn listen(client: &Client, subject: &'static str) -> Subscriber {
    let messages = client.subscribe(subject).await.expect("subscribed");
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.expect("subscribed");
    client.publish(inbox, "".into()).await.expect("published");
    timeout(DEADLINE, back.next()).await.expect("the server answers");
    messages
}

/// The next event, with its subject.
async fn next(events: &mut Subscriber) -> (String, Value) {
    let message = timeout(DEADLINE, events.next()).await.expect("an event comes").expect("the client lives");
    let body = serde_json::from_slice(&message.payload).expect("JSON");
    (message.subject.to_string(), body)
}
