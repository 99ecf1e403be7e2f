//! A NATS client by other hands (nats-py) reads events, makes calls, and sees the micro service.

use std::path::Path;
use std::process::Stdio;

use pontoon_testkit::{NatsServer, Resource};
use serde_json::{Value, json};

use crate::support::Fixture;

#[tokio::test]
async fn nats_py_reads_events_makes_calls_and_sees_the_service() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join("target/tools/python");
    assert!(packages.is_dir(), "nats-py is missing; run `make tools`");
    let fixture = Fixture::with(NatsServer::options(), "").await;
    fixture.sub0.resource("fetch-balance", Resource::data(json!({"wallet_balance": 12})));
    let script = root.join("tests/e2e/nats_py.py");
    let mut child = tokio::process::Command::new("python3")
        .arg(script)
        .arg(fixture.nats.url())
        .env("PYTHONPATH", &packages)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python3 is there");
    let mut lines = tokio::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.expect("a line");
    assert_eq!(line.trim(), "listening");
    fixture.sub0.broadcast("wallet_balance_update", &json!({"wallet_balance": 13}));
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut lines, &mut rest).await.expect("its output");
    assert!(child.wait().await.expect("ended").success(), "{rest}");
    let seen: Value = serde_json::from_str(&rest).expect("JSON");
    assert_eq!(seen["event"]["subject"], "pontoon.event.sub0.shop.resource.broadcast.wallet_balance_update");
    assert_eq!(seen["event"]["headers"]["ce-type"], "pontoon.resource.broadcast.v1");
    assert_eq!(seen["event"]["body"]["data"], json!({"wallet_balance": 13}));
    assert_eq!(seen["reply"]["body"]["data"], json!({"wallet_balance": 12}));
    assert_eq!(seen["reply"]["headers"]["Pontoon-Status"], "response");
    assert_eq!(seen["refused"]["headers"]["Nats-Service-Error-Code"], "404");
    assert_eq!(seen["ping"]["name"], "pontoon-sub0-shop");
    assert!(seen["stored"].as_u64().expect("a number") >= 1);
}
