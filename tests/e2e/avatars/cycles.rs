//! Ten thousand sockets come and go, and leave nothing behind.

use std::sync::Arc;

use pontoon_testkit::eventually;
use serde_json::json;

use super::Fixture;
use crate::support::{DEADLINE, ask};

/// Sockets in all, and how many at a time.
const CYCLES: usize = 10_000;
const AT_ONCE: usize = 16;
/// After the first of them everything has been in use that is kept for later.
const WARM: usize = 1_000;
/// How much memory may be held more than then. The leak of a task, a socket or a name for each would be far above it.
const SLACK: u64 = 8 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_sockets_leave_nothing_behind() {
    let fixture = Arc::new(
        Fixture::start(
            r#"dynamic = { enabled = true, hosts = ["127.0.0.1"], addresses = ["127.0.0.1"], max = 16 }"#,
        )
        .await,
    );
    cycle(&fixture, WARM).await;
    let before = rest(&fixture).await;
    cycle(&fixture, CYCLES - WARM).await;
    let after = rest(&fixture).await;
    assert_eq!(fixture.echo.upgrades(), CYCLES);
    assert_eq!(after.files, before.files);
    // One that waited for the disk may have ended since.
    assert!(after.threads <= before.threads, "{} threads, then {}", before.threads, after.threads);
    println!("resident memory: {} KiB, then {} KiB", before.memory / 1024, after.memory / 1024);
    assert!(after.memory < before.memory + SLACK, "{} bytes, then {}", before.memory, after.memory);
}

/// Creates, uses and removes so many sockets, each under a title that was never used before.
async fn cycle(fixture: &Arc<Fixture>, number: usize) {
    let first = fixture.echo.upgrades();
    let workers = (0..AT_ONCE).map(|worker| {
        let fixture = Arc::clone(fixture);
        tokio::spawn(async move {
            for turn in (first + worker..first + number).step_by(AT_ONCE) {
                let title = format!("socket {turn}");
                let request = async |operation: &str, body: serde_json::Value| {
                    let subject = format!("pontoon.command.streamavatars.avatars.{operation}");
                    ask(&fixture.client, &subject, &body.to_string(), &[]).await
                };
                let created = request("create", json!({"title": title, "url": fixture.echo.url()})).await;
                assert_eq!(created.status, "acked", "{turn}: {created:?}");
                let sent = request("send", json!({"title": title, "message": "gogo!"})).await;
                assert_eq!(sent.status, "sent", "{turn}: {sent:?}");
                let removed = request("remove", json!({"title": title})).await;
                assert_eq!(removed.status, "accepted", "{turn}: {removed:?}");
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

struct Held {
    files: usize,
    threads: usize,
    memory: u64,
}

/// What the daemon holds once it has nothing more to do.
async fn rest(fixture: &Fixture) -> Held {
    let quiet = |state: &serde_json::Value| state["links"] == json!([]) && state["unconfirmed_events"] == 0;
    fixture.state(quiet).await;
    fixture.echo.connected(0, DEADLINE).await;
    let id = fixture.daemon.id();
    let threads = || std::fs::read_dir(format!("/proc/{id}/task")).unwrap().count();
    // The last sockets are being closed, and threads that looked names up end when they were idle for a while.
    let held = || (fixture.daemon.open_files(), threads());
    let mut last = held();
    eventually(DEADLINE, async || {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let now = held();
        std::mem::replace(&mut last, now) == now
    })
    .await;
    let (files, threads) = last;
    Held { files, threads, memory: fixture.daemon.resident_bytes() }
}
