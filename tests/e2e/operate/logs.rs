//! Logs: nothing from outside can forge or steer them, and they are never in the way.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use pontoon_testkit::{Dir, Echo, Metrics};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// A daemon whose stderr is read when a test does so. It is killed when it is dropped.
struct Bare {
    child: Child,
    stderr: BufReader<ChildStderr>,
    dir: Dir,
}

impl Bare {
    fn start(config: &DaemonConfig, variables: &[(&str, &str)]) -> Self {
        let dir = Dir::new("bare");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
        let ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("PONTOON_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.args(["run", "--config"]).arg(dir.write("pontoon.toml", config.text()));
        command.envs(config.variables());
        command.envs(variables.iter().copied()).stderr(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, dir }
    }

    /// Reads lines up to one that holds this text.
    async fn lines(self, text: &'static str) -> (Self, Vec<String>) {
        let reading = tokio::task::spawn_blocking(move || {
            let mut bare = self;
            let mut lines: Vec<String> = Vec::new();
            while lines.last().is_none_or(|line| !line.contains(text)) {
                let mut line = String::new();
                assert!(bare.stderr.read_line(&mut line).unwrap() > 0, "no {text} in\n{}", lines.concat());
                lines.push(line);
            }
            (bare, lines)
        });
        tokio::time::timeout(DEADLINE, reading).await.expect("more is logged").unwrap()
    }

    fn hang_up(&self) {
        let kill = format!("kill -HUP {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn page(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn what_comes_from_outside_can_neither_forge_a_line_nor_steer_a_terminal() {
    const HOSTILE: &str = "bye\n2026-01-01T00:00:00Z ERROR forged: \x1b[2J\u{9b}31m\u{202e}";
    let nats = NatsServer::start().await;
    for format in ["auto", "json", "text"] {
        let sub0 = Sub0::start().await;
        let config = DaemonConfig::new(&nats).with(&format!("log.format = \"{format}\"")).sub0("shop", &sub0);
        let (daemon, mut lines) = Bare::start(&config, &[]).lines("link ready").await;
        sub0.close(4000, HOSTILE);
        lines.extend(daemon.lines("forged").await.1);
        for line in lines.iter().map(|line| line.trim_end_matches('\n')) {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            match format {
                "text" => {
                    assert!(line.starts_with("20") && !line.starts_with("2026-01-01"), "{line:?}");
                }
                _ => drop(serde_json::from_str::<Value>(line).expect("every line is JSON")),
            }
        }
    }
}

#[tokio::test]
async fn a_stderr_that_takes_nothing_delays_nothing_and_the_loss_is_logged() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let (daemon, lines) =
        Bare::start(&DaemonConfig::new(&nats).sub0("shop", &sub0), &[]).lines("admin listens").await;
    let line: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let address = line["address"].as_str().unwrap();
    // From here on stderr is not read, and a file with very many errors makes the daemon log.
    let mut bad = "[connectors]\n".to_owned();
    for n in 0..1_000 {
        writeln!(bad, "no_table_{n} = 1").unwrap();
    }
    daemon.dir.write("pontoon.toml", &bad);
    sub0.connected(1, DEADLINE).await;
    let dropped = "pontoon_log_lines_dropped_total";
    let value = async |name: &str| Metrics::parse(&page(address, "/metrics").await).value(name, &[]).unwrap();
    eventually(DEADLINE, async || {
        daemon.hang_up();
        value(dropped).await > 0.0
    })
    .await;
    for n in 0..100 {
        sub0.broadcast("tick", &json!(n));
    }
    eventually(DEADLINE, async || value("pontoon_events_published_total").await >= 100.0).await;
    assert!(page(address, "/livez").await.contains("200 OK"));
    // Once it is read again, the log shows how much is missing.
    let (_daemon, lines) = daemon.lines("lines of the log were dropped").await;
    let line: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert!(line["lines"].as_u64().unwrap() > 0, "{line}");
}

#[tokio::test]
async fn the_nats_client_stays_quiet_when_everything_is_loud() {
    let (_nats, sub0, mut daemon) = fixture("log.level = \"trace\"").await;
    sub0.broadcast("tick", &json!(1));
    counted(&mut daemon, "pontoon_events_published_total", "shop", 2.0).await;
    assert!(!daemon.log().contains("\"target\":\"async_nats"), "{}", daemon.log());
}

#[tokio::test]
async fn a_session_that_is_never_ready_shows_what_was_received_last_without_secrets() {
    const TOKEN: &str = "canary-of-the-test";
    let (nats, service) = (NatsServer::start().await, Echo::start().await);
    let settings = format!(
        "url = \"{}\"\nkind = \"/type\"\nready_when = \"welcome\"\ntransport.connect_timeout = \"1s\"\n\
         secrets = {{ token = {{ env = \"ECHO_TOKEN\" }} }}\n\
         send_on_connect = [{{ type = \"hello\", token = \"${{token}}\" }}]",
        service.url()
    );
    let config = DaemonConfig::new(&nats).connector("echo", "websocket", &settings);
    let mut daemon = start(config.environment("ECHO_TOKEN", TOKEN));
    let detail = support::link(&mut daemon, "echo", "waiting").await;
    assert!(detail.contains("not ready within 1s (transport.connect_timeout)"), "{detail}");
    assert!(detail.contains("it waits for a message that `ready_when` selects"), "{detail}");
    let last = detail.rsplit_once("the last message from the service was ").expect("it is shown").1;
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!((&last["type"], &last["token"]), (&json!("hello"), &json!("***")));
    assert!(!daemon.log().contains(TOKEN) && daemon.log().contains("link down"), "{}", daemon.log());
}
