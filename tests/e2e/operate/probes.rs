//! `/livez`, `/readyz`, `/metrics`, `/status`: what each shows when, and that no client can keep others from asking.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pontoon_testkit::{Refusal, until_ok};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Sends this text, and reads until the end.
pub(super) async fn exchange(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn each_admin_page_answers_and_there_is_no_other() {
    let (_nats, _sub0, mut daemon) = fixture("").await;
    for page in ["/livez", "/readyz"] {
        eventually(DEADLINE, async || daemon.get(page).await == (200, "ok\n".to_owned())).await;
    }
    let (_, text) = daemon.get("/status").await;
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(all["version"], env!("CARGO_PKG_VERSION"));
    let shop = &all["instances"][0];
    assert_eq!((&shop["instance"], &shop["type"]), (&json!("shop"), &json!("sub0")));
    assert_eq!((&shop["running"], &shop["links"][0]["key"]), (&json!(true), &json!("main")));
    for other in ["/page/none.js", "/metrics/", "/debug/pprof", "/status?x=1/../../etc/passwd%00", "/LIVEZ"] {
        let expected = if other.starts_with("/status?") { 200 } else { 404 };
        assert_eq!(daemon.get(other).await.0, expected, "{other}");
    }
    let address = daemon.admin().await;
    for (request, code) in [
        (format!("POST /status HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"), "405"),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), "200"),
        ("GET /livez HTTP/1.1\r\nHost: localhost:80\r\n\r\n".to_owned(), "200"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), "400"),
        (format!("GET /livez HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000)), "431"),
    ] {
        let answer = exchange(&address, &request).await;
        assert_eq!(answer.split(' ').nth(1), Some(code), "{request:.60}");
    }
    let head = exchange(&address, "GET /metrics HTTP/1.1\r\nHost: [::1]\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head:.300}");
}

#[tokio::test]
async fn a_request_for_another_host_is_not_answered() {
    let (_nats, _sub0, mut daemon) = fixture("admin.hosts = [\"pontoon\", \"bridge.example.\"]").await;
    let address = daemon.admin().await;
    for page in ["/livez", "/readyz", "/metrics", "/status", "/none"] {
        let found = if page == "/none" { "404" } else { "200" };
        for (lines, code) in [
            (format!("{page} HTTP/1.1\r\nHost: {address}"), found),
            (format!("{page} HTTP/1.1\r\nHost: 192.0.2.7"), found),
            (format!("{page} HTTP/1.1\r\nHost: [2001:db8::1]:1"), found),
            (format!("{page} HTTP/1.1\r\nHost: LOCALHOST."), found),
            (format!("{page} HTTP/1.1\r\nhost: Pontoon:9464"), found),
            (format!("{page} HTTP/1.1\r\nHost: bridge.example"), found),
            (format!("{page} HTTP/1.0"), found),
            (format!("{page} HTTP/1.1\r\nHost: evil.example"), "421"),
            (format!("{page} HTTP/1.1\r\nHost: localhost.evil.example:9464"), "421"),
            (format!("{page} HTTP/1.0\r\nHost: evil.example"), "421"),
            (format!("http://evil.example{page} HTTP/1.1\r\nHost: localhost"), "421"),
            (format!("http://localhost{page} HTTP/1.1\r\nHost: evil.example"), "421"),
            (format!("{page} HTTP/1.1"), "400"),
            (format!("{page} HTTP/1.1\r\nHost:"), "400"),
            (format!("{page} HTTP/1.1\r\nHost: localhost\r\nHost: localhost"), "400"),
            (format!("{page} HTTP/1.1\r\nHost: u@localhost"), "400"),
            (format!("{page} HTTP/1.1\r\nHost: localhost:x"), "400"),
        ] {
            let answer = exchange(&address, &format!("GET {lines}\r\n\r\n")).await;
            assert_eq!(answer.split(' ').nth(1), Some(code), "{lines:?}: {answer:.100}");
        }
    }
}

#[tokio::test]
async fn a_service_that_is_away_is_no_reason_to_end_the_daemon_or_to_take_it_out() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    sub0.refuse(Refusal::status(401));
    let mut daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    eventually(DEADLINE, async || {
        status(&mut daemon, "shop").await["links"][0]["phase"] == "credentials_refused"
    })
    .await;
    assert_eq!(daemon.get("/livez").await.0, 200);
    daemon.ready(DEADLINE).await;
    let metrics = daemon.metrics().await;
    let refused = [("pontoon_instance", "shop"), ("outcome", "credentials")];
    assert_eq!(metrics.value("pontoon_link_connects_total", &refused), Some(1.0));
    let own = [("pontoon_instance", "shop")];
    assert_eq!(metrics.value("pontoon_link_connected", &own), Some(0.0));
    assert_eq!(metrics.value("pontoon_link_wanted", &own), Some(1.0));
    assert_eq!(metrics.value("pontoon_link_down", &own), Some(1.0));
    assert_eq!(metrics.value("pontoon_link_down", &[("state", "credentials_refused")]), Some(1.0));
}

#[tokio::test]
async fn without_nats_it_is_ready_while_there_is_room_and_503_when_there_is_none() {
    let lines =
        "delivery.buffer_events = 16\ndelivery.max_pause = \"0s\"\ndelivery.overflow = \"drop_newest\"";
    let (mut nats, sub0, mut daemon) = fixture(lines).await;
    nats.kill();
    counted(&mut daemon, "pontoon_nats_connected", "shop", 0.0).await;
    assert_eq!(daemon.get("/readyz").await.0, 200);
    for n in 0..40 {
        sub0.broadcast("tick", &json!(n));
    }
    eventually(DEADLINE, async || daemon.get("/readyz").await.0 == 503).await;
    // What waits is shown while nothing is sent, too.
    counted(&mut daemon, "pontoon_spool_events", "shop", 16.0).await;
    let metrics = daemon.metrics().await;
    let value = |name| metrics.value(name, &[("pontoon_instance", "shop")]).unwrap();
    assert_eq!(value("pontoon_spool_max_events"), 16.0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((now - 60.0..=now).contains(&value("pontoon_spool_oldest_timestamp_seconds")));
    assert_eq!(daemon.get("/readyz").await.1, "shop: NATS is away and the buffer is full\n");
    assert_eq!(daemon.get("/livez").await.0, 200);
    nats.restart().await;
    daemon.ready(DEADLINE).await;
    counted(&mut daemon, "pontoon_spool_events", "shop", 0.0).await;
    counted(&mut daemon, "pontoon_spool_oldest_timestamp_seconds", "shop", 0.0).await;
    let metrics = daemon.metrics().await;
    assert!(metrics.value("pontoon_nats_reconnects_total", &[]).unwrap() >= 1.0);
    assert!(metrics.value("pontoon_events_dropped_total", &[("reason", "overflow")]).unwrap() >= 24.0);
}

#[tokio::test]
async fn a_crowd_that_asks_nothing_keeps_no_probe_out() {
    let (_nats, _sub0, mut daemon) = fixture("").await;
    let address = daemon.admin().await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ").await.unwrap();
        crowd.push(stream);
    }
    assert_eq!(daemon.get("/livez").await.0, 200);
    let open = daemon.metrics().await.value("process_open_fds", &[]).unwrap();
    assert!(open < 120.0, "{open} descriptors are open");
    // The last of them is put out too, without having been crowded out.
    let mut rest = Vec::new();
    let last = crowd.last_mut().unwrap();
    tokio::time::timeout(DEADLINE, last.read_to_end(&mut rest)).await.expect("it is put out").ok();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (nats, sub0, mut daemon) = fixture("").await;
    let address = daemon.admin().await;
    for level in ["info", "off"] {
        let file = format!("[admin]\nlisten = \"{address}\"\n[log]\nlevel = \"{level}\"\n");
        let config = DaemonConfig::new(&nats).sub0("other", &sub0);
        let text = config.text().replace("admin.listen = \"127.0.0.1:0\"\n", "") + &file;
        let dir = pontoon_testkit::Dir::new("second");
        let output = Command::new(env!("CARGO_BIN_EXE_pontoon"))
            .args(["run", "--config"])
            .arg(dir.write("pontoon.toml", &text))
            .envs(config.variables())
            .output()
            .unwrap();
        let output_text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output_text}");
        assert!(output_text.contains(&format!("admin.listen {address} cannot be used")), "{output_text}");
        assert_eq!(output_text.lines().count(), 1, "{output_text}");
    }
}

#[tokio::test]
async fn without_the_endpoint_it_runs_too() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let mut daemon = start(DaemonConfig::new(&nats).with("admin.enabled = false").sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    assert!(daemon.logged("admin listens").is_empty());
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
}

#[tokio::test]
async fn promtool_accepts_the_metrics_of_a_daemon_at_work_and_the_sums_are_right() {
    let (nats, sub0, mut daemon) = fixture("").await;
    let client = nats.client().await;
    let call = client.new_inbox();
    let mut replies = client.subscribe(call.clone()).await.unwrap();
    for subject in ["pontoon.command.sub0.shop.call.add", "pontoon.command.sub0.shop.no-such-thing"] {
        client.publish_with_reply(subject, call.clone(), "{}".into()).await.unwrap();
        futures_util::StreamExt::next(&mut replies).await.unwrap();
    }
    sub0.blast(500, |n| json!({"uid": null, "action": "tick", "data": n}).to_string()).await;
    sub0.send_text("[1,2]");
    let own = [("pontoon_instance", "shop"), ("type", "sub0")];
    let metrics = until_ok(DEADLINE, async || {
        let metrics = daemon.metrics().await;
        let value = |name: &str| metrics.value(&format!("pontoon_{name}"), &own).unwrap();
        let waiting = value("spool_events") + value("publish_inflight");
        let sum = value("events_published_total")
            + value("events_deduplicated_total")
            + value("events_dropped_total")
            + waiting;
        let counted = value("event_latency_seconds_count") == value("events_published_total");
        let read = value("events_read_total");
        if read >= 501.0 && waiting == 0.0 && read == sum && counted {
            return Ok(metrics);
        }
        Err(format!("the sums stay wrong:\n{}\n{}", daemon.get("/metrics").await.1, daemon.log()))
    })
    .await;
    let value = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels).unwrap();
    assert_eq!(value("pontoon_events_unrecognised_total", &own), 1.0);
    assert_eq!(value("pontoon_commands_total", &[("operation", "call"), ("outcome", "response")]), 1.0);
    assert_eq!(value("pontoon_commands_total", &[("operation", "unknown"), ("outcome", "rejected")]), 1.0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((now - 60.0..now + 1.0).contains(&value("pontoon_link_last_message_timestamp_seconds", &own)));

    let (_, text) = daemon.get("/metrics").await;
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/promtool");
    let promtool = std::env::var_os("PONTOON_PROMTOOL")
        .map(Into::into)
        .unwrap_or_else(|| if fetched.is_file() { fetched } else { "promtool".into() });
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is no promtool: run `make tools`, or name one in PONTOON_PROMTOOL");
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && output_text.is_empty(), "{}", String::from_utf8_lossy(&output_text));
}
