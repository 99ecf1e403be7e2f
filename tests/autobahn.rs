//! The Autobahn test suite's fuzzing server against the real daemon: `tests/tools/autobahn.sh` installs it and runs this.
//!
//! Each case is a connection of an instance, and the test echoes what is published of it as commands, as the suite wants
//! it. A gate before the server lets each case in once, since the daemon dials again whenever a connection ends.

// Test code, helpers and all: what should not be fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "e2e/support.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use pontoon_testkit::{BareSocket, DaemonConfig, Dir, NatsServer, eventually, until_some};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{DEADLINE, listen, start};

/// How many cases run at a time.
const AT_ONCE: usize = 20;
/// How long they may take together.
const CASES: Duration = Duration::from_secs(120);
/// Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, and one more about fragments.
const WANTED: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

/// The suite's server. It is ended when this value is dropped.
struct Server {
    process: Child,
    address: String,
    reports: PathBuf,
    _dir: Dir,
}

impl Server {
    async fn start(program: &str) -> Self {
        let dir = Dir::new("autobahn");
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (address, reports) = (format!("127.0.0.1:{port}"), dir.path().join("reports"));
        let spec = json!({
            "url": format!("ws://{address}"), "outdir": reports, "cases": WANTED, "exclude-cases": [],
            "exclude-agent-cases": {}, "options": {"failByDrop": false},
        });
        let spec = dir.write("spec.json", &spec.to_string());
        let mut words = program.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(["-m", "fuzzingserver", "-w", "0", "-s"]).arg(spec).current_dir(dir.path());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wstest runs");
        let server = Self { process, address, reports, _dir: dir };
        eventually(DEADLINE, async || TcpStream::connect(&server.address).await.is_ok()).await;
        server
    }

    /// What the server sends at a path, until it closes.
    async fn ask(&self, path: &str) -> Option<String> {
        let mut socket = BareSocket::dial(&format!("ws://{}/{path}", self.address)).await;
        let mut text = None;
        while let Some(frame) = socket.frame().await {
            if frame.is_close() {
                socket.send(0x88, &1000_u16.to_be_bytes()).await;
                break;
            }
            text = String::from_utf8(frame.payload).ok();
        }
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets each target in once, and counts those that are over.
struct Gate {
    address: String,
    cases: Arc<Mutex<BTreeMap<String, bool>>>,
}

impl Gate {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cases: Arc<Mutex<BTreeMap<String, bool>>> = Arc::default();
        let known = Arc::clone(&cases);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, server.clone(), Arc::clone(&known)));
            }
        });
        Self { address, cases }
    }

    fn over(&self) -> usize {
        self.cases.lock().unwrap().values().filter(|over| **over).count()
    }
}

async fn pass(mut client: TcpStream, server: String, cases: Arc<Mutex<BTreeMap<String, bool>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    // The server refuses a Host with another port than its own.
    let gate = client.local_addr().unwrap().to_string();
    let head = head.replace(&gate, &server);
    {
        let mut cases = cases.lock().unwrap();
        if cases.contains_key(&target) {
            return;
        }
        cases.insert(target.clone(), false);
    }
    let mut server = TcpStream::connect(server).await.unwrap();
    server.write_all(head.as_bytes()).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
    cases.lock().unwrap().insert(target, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_autobahn_test_suite_finds_nothing() {
    let program = std::env::var("WSTEST").expect("WSTEST is the command of the suite");
    let server = Server::start(&program).await;
    let count: usize = server.ask("getCaseCount").await.unwrap().parse().unwrap();
    let nats = NatsServer::options().every_right().start().await;
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.websocket.*.frame.unrecognised.>").await;
    let echo = client.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let instance = event.subject.split('.').nth(3).unwrap().to_owned();
            let body: Value = serde_json::from_slice(&event.payload).unwrap();
            let (operation, body) = match &body["raw"] {
                Value::Object(raw) => ("send.binary", json!({"base64": raw["base64"]})),
                Value::String(text) => ("send.text", json!({"text": text})),
                other => ("send.text", json!({"text": other.to_string()})),
            };
            let subject = format!("pontoon.command.websocket.{instance}.{operation}");
            echo.publish(subject, body.to_string().into()).await.unwrap();
        }
    });
    let gate = Gate::start(server.address.clone()).await;
    let all: Vec<usize> = (1..=count).collect();
    for cases in all.chunks(AT_ONCE) {
        let before = gate.over();
        let mut config = DaemonConfig::new(&nats).with("delivery.mode = \"core\"");
        for case in cases {
            let url = format!("ws://{}/runCase?case={case}&agent=pontoon", gate.address);
            config = config.connector(&format!("c{case}"), "websocket", &format!("url = \"{url}\""));
        }
        let daemon = start(config);
        eventually(CASES, async || gate.over() >= before + cases.len()).await;
        drop(daemon);
    }
    server.ask("updateReports?agent=pontoon").await;
    let index = until_some(DEADLINE, async || {
        let text = std::fs::read_to_string(server.reports.join("index.json")).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    });
    let index = index.await;
    let results = index["pontoon"].as_object().unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut bad = Vec::new();
    for (case, result) in results {
        for key in ["behavior", "behaviorClose"] {
            let verdict = result[key].as_str().unwrap();
            *counts.entry(format!("{key} {verdict}")).or_default() += 1;
            if matches!(verdict, "FAILED" | "WRONG CODE" | "UNCLEAN" | "FAILED BY CLIENT") {
                bad.push(format!("{case} {key} {verdict}"));
            }
        }
    }
    eprintln!("{count} cases: {counts:?}");
    assert_eq!(results.len(), count);
    assert!(bad.is_empty(), "{bad:?}");
}
