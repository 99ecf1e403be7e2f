//! Events on disk: what was read outlives the daemon, and where it does not, a gap or the status reports it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use pontoon_testkit::{Daemon, DaemonConfig, Dir, FailingCalls, NatsServer, Resource, Sub0, eventually};
use serde_json::Value;

use crate::support::{DEADLINE, Fixture, Tmpfs, contents, filled, instance, numbered, numbers, start};

/// A daemon that keeps events in a folder.
struct OnDisk {
    fixture: Fixture,
    dir: Dir,
}

impl OnDisk {
    async fn start(lines: &str) -> Self {
        let dir = Dir::new("spool");
        let lines = format!("delivery.spool.path = {:?}\n{lines}", dir.path());
        let fixture = Fixture::with(NatsServer::options().every_right(), &lines).await;
        Self { fixture, dir }
    }

    /// NATS is away, and so many events are on the disk.
    async fn filled(&mut self, events: usize) {
        let fixture = &mut self.fixture;
        fixture.nats.kill();
        fixture.status(|status| status["bus"]["connected"] == false).await;
        assert_eq!(fixture.sub0.blast(events, numbered).await, 1);
        self.written(events).await;
    }

    async fn written(&mut self, events: usize) {
        let is_written = |status: &Value| {
            status["unconfirmed_events"].as_u64() >= Some(events as u64)
                && status["spool"]["unwritten_events"] == 0
        };
        self.fixture.status(is_written).await;
    }

    /// The next run, with NATS there again, once it has published everything.
    async fn next_run(&mut self) {
        let fixture = &mut self.fixture;
        fixture.daemon.kill();
        fixture.nats.restart().await;
        fixture.daemon.restart();
        self.at_rest().await;
    }

    async fn at_rest(&mut self) {
        let is_at_rest = |status: &Value| {
            status["bus"]["publishing"] == true
                && status["links"][0]["phase"] == "ready"
                && status["unconfirmed_events"] == 0
        };
        self.fixture.status(is_at_rest).await;
    }

    async fn events(&self) -> Vec<(String, Value)> {
        contents(&self.fixture.nats, "PONTOON_SHOP").await
    }

    fn files(&self) -> Vec<PathBuf> {
        files(self.dir.path())
    }
}

/// The files of events of the instance, the oldest first.
fn files(root: &Path) -> Vec<PathBuf> {
    let all =
        fs::read_dir(root.join("sub0.shop")).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> =
        all.filter(|path| path.extension().is_some_and(|ending| ending == "events")).collect();
    files.sort();
    files
}

fn gaps<'a>(events: &'a [(String, Value)], reason: &str) -> Vec<&'a Value> {
    events.iter().map(|(_, body)| body).filter(|body| body["reason"] == reason).collect()
}

fn all(number: u64) -> Vec<u64> {
    (0..number).collect()
}

#[tokio::test]
async fn what_was_read_before_a_kill_is_published_once_and_in_order_by_the_next_run() {
    for durability in ["process", "power"] {
        let mut run = OnDisk::start(&format!("delivery.spool.durability = \"{durability}\"")).await;
        run.filled(5_000).await;
        run.next_run().await;
        let events = run.events().await;
        assert_eq!(numbers(&events), all(5_000), "{durability}");
        let gaps = gaps(&events, "restarted");
        // That of the run that was killed is behind none, and `contents` leaves it out.
        assert!(gaps.len() == 1 && gaps[0]["from"].is_string(), "{gaps:?}");
        let kinds = events.iter().position(|(_, body)| body["reason"] == "restarted");
        assert_eq!(kinds, Some(5_000), "the gap is behind what was read before");
    }
}

#[tokio::test]
async fn more_than_the_buffer_is_on_the_disk_and_memory_stays_bounded() {
    let mut run = OnDisk::start("delivery.buffer = \"2MiB\"\ndelivery.max_bytes = \"256MiB\"").await;
    run.filled(20_000).await;
    let metrics = run.fixture.daemon.metrics().await;
    let labels = [("pontoon_instance", "shop"), ("type", "sub0")];
    let value = |name: &str| metrics.value(name, &labels).expect("counted");
    assert!(value("pontoon_spool_disk_bytes") > 8e6 && value("pontoon_spool_on_disk") == 1.0);
    run.fixture.nats.restart().await;
    run.at_rest().await;
    assert_eq!(numbers(&run.events().await), all(20_000));
    eventually(DEADLINE, async || run.files().len() == 1).await;
}

#[tokio::test]
async fn a_kill_under_load_loses_nothing_that_was_written_and_nothing_without_a_gap() {
    const BURST: usize = 20_000;
    let kills = std::env::var("PONTOON_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3);
    let mode = std::env::var("PONTOON_DURABILITY").unwrap_or_else(|_| "process".into());
    let lines = format!("delivery.spool.durability = \"{mode}\"\ndelivery.max_bytes = \"1GiB\"");
    let mut run = OnDisk::start(&lines).await;
    let (mut killed, mut stored) = (Vec::new(), Vec::new());
    for kill in 0..kills {
        let first = kill * BURST;
        run.fixture.nats.freeze();
        let sub0 = run.fixture.sub0;
        let blast =
            tokio::spawn(async move { (sub0.blast(BURST, |number| numbered(first + number)).await, sub0) });
        // Not in step with what the daemon does.
        let enough = 1_000 + 777 * (kill as u64 % 7);
        let status = pontoon_testkit::until_some(DEADLINE, async || {
            let status = instance(&mut run.fixture.daemon, "shop").await?;
            (status["unconfirmed_events"].as_u64() >= Some(enough)).then_some(status)
        })
        .await;
        run.fixture.daemon.kill();
        run.fixture.nats.thaw();
        run.fixture.sub0 = blast.await.expect("the blast ends").1;
        run.fixture.daemon.restart();
        run.at_rest().await;
        let count = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).expect("a number");
        killed.push((first as u64, count("/unconfirmed_events"), count("/spool/unwritten_events")));
        // Numbers, and the gaps between them. The last message stays for the next run to go on from.
        let events = run.events().await;
        let new = events.iter().skip(usize::from(kill > 0));
        let wanted = new.filter(|(_, body)| body["reason"] == "restarted" || body["data"]["n"].is_u64());
        stored.extend(wanted.map(|(_, body)| body["data"]["n"].as_u64()));
        let jetstream = jetstream::new(run.fixture.nats.client().await);
        let stream = jetstream.get_stream("PONTOON_SHOP").await.expect("the stream is there");
        stream.purge().keep(1).await.expect("purged");
    }
    let all: Vec<_> = stored.iter().copied().flatten().collect();
    assert!(all.is_sorted_by(|a, b| a < b), "once and in order");
    let (mut known, mut lost) = (0, 0);
    for (first, read, unwritten) in killed {
        let place = |number| all.partition_point(|other| *other < number);
        let kept = (place(first + BURST as u64) - place(first)) as u64;
        // A gap may be among those that were read.
        assert!(
            mode == "memory" || kept + 2 >= read - unwritten,
            "{kept} of {read}, {unwritten} not written"
        );
        // 128 and 512 KiB of small ones.
        let most = if mode == "process" { 350 } else { 1_300 };
        assert!(unwritten <= most, "{unwritten} are not written, and reading goes on");
        known += read;
        lost += read.saturating_sub(kept);
    }
    let (mut next, mut is_covered) = (0, false);
    for number in stored {
        is_covered |= number.is_none();
        if let Some(number) = number {
            assert!(number == next || is_covered, "{next}..{number} are lost without a gap");
            (next, is_covered) = (number + 1, false);
        }
    }
    println!("{mode}: {kills} kills, {known} events known to be read, {lost} of them lost");
}

#[tokio::test]
async fn what_the_stream_held_is_not_published_again_though_it_was_purged() {
    let mut run = OnDisk::start("").await;
    run.fixture.nats.freeze();
    assert_eq!(run.fixture.sub0.blast(3_000, numbered).await, 1);
    run.written(3_000).await;
    run.fixture.nats.thaw();
    filled(&run.fixture.nats, "PONTOON_SHOP", 2_000, DEADLINE).await;
    run.fixture.daemon.kill();
    let stream =
        jetstream::new(run.fixture.client.clone()).get_stream("PONTOON_SHOP").await.expect("a stream");
    let mut stream = stream;
    let before = stream.info().await.expect("info").state.last_sequence;
    stream.purge().await.expect("purged");
    run.fixture.daemon.restart();
    run.at_rest().await;
    let events = run.events().await;
    let kept = numbers(&events);
    // The first message is the gap of the first run.
    assert_eq!(kept, (before - 1..3_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_that_was_deleted_meanwhile_is_reported_and_gets_what_is_kept() {
    let mut run = OnDisk::start("").await;
    assert_eq!(run.fixture.sub0.blast(100, numbered).await, 1);
    run.fixture.at_rest(100).await;
    run.filled(50).await;
    run.fixture.daemon.kill();
    run.fixture.nats.restart().await;
    let jetstream = jetstream::new(run.fixture.nats.client().await);
    jetstream.delete_stream("PONTOON_SHOP").await.expect("deleted");
    run.fixture.daemon.restart();
    run.at_rest().await;
    let events = run.events().await;
    assert_eq!(numbers(&events), all(50));
    assert_eq!(gaps(&events, "stream_reset").len(), 1);
}

#[tokio::test]
async fn what_a_server_has_confirmed_and_lost_lies_in_a_gap() {
    let mut run = OnDisk::start("").await;
    assert_eq!(run.fixture.sub0.blast(100, numbered).await, 1);
    filled(&run.fixture.nats, "PONTOON_SHOP", 100, DEADLINE).await;
    run.fixture.nats.kill();
    let (store, older) = (run.fixture.nats.store(), Dir::new("store"));
    copy(&store, &older.path().join("store"));
    run.fixture.nats.restart().await;
    run.at_rest().await;
    assert_eq!(run.fixture.sub0.blast(50, |number| numbered(100 + number)).await, 1);
    filled(&run.fixture.nats, "PONTOON_SHOP", 150, DEADLINE).await;
    run.at_rest().await;
    // As after a host that had not written what the server took for stored.
    run.fixture.nats.kill();
    fs::remove_dir_all(&store).expect("removed");
    copy(&older.path().join("store"), &store);
    run.fixture.nats.restart().await;
    // The gap is behind what is left.
    filled(&run.fixture.nats, "PONTOON_SHOP", 101, DEADLINE).await;
    assert_eq!(run.fixture.sub0.blast(1, |_| numbered(150)).await, 1);
    filled(&run.fixture.nats, "PONTOON_SHOP", 102, DEADLINE).await;
    let events = run.events().await;
    assert_eq!(numbers(&events), [all(100), vec![150]].concat());
    assert_eq!(gaps(&events, "stream_reset").len(), 1);
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is copied", from.display());
}

#[tokio::test]
async fn a_damaged_file_costs_what_is_damaged_and_a_gap_is_in_its_place() {
    let mut run = OnDisk::start("").await;
    run.filled(1_000).await;
    run.fixture.daemon.kill();
    let file = run.files().pop().expect("a file");
    let mut bytes = fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    // What a crash leaves at the end is cut off.
    bytes.extend_from_slice(&[0; 1_000]);
    fs::write(&file, bytes).expect("written");
    run.next_run().await;
    let events = run.events().await;
    let kept = numbers(&events);
    let lost: Vec<_> = all(1_000).into_iter().filter(|number| !kept.contains(number)).collect();
    let [lost] = lost[..] else { panic!("{lost:?}") };
    let place = events.iter().position(|(_, body)| body["reason"] == "spool_damaged").expect("a gap");
    assert_eq!(events[place - 1].1["data"]["n"], lost - 1, "in its place");
    let metrics = run.fixture.daemon.metrics().await;
    let labels = [("pontoon_instance", "shop"), ("type", "sub0")];
    assert_eq!(metrics.value("pontoon_spool_damaged_total", &labels), Some(1.0));
}

#[tokio::test]
async fn a_disk_without_room_is_reported_and_used_again_once_there_is() {
    let disk = Tmpfs::new("4m").expect("a tmpfs is mounted; the tests run as root");
    let lines = format!("delivery.spool.path = {:?}", disk.path().join("spool"));
    let mut fixture = Fixture::with(NatsServer::options(), &lines).await;
    disk.fill();
    fixture.nats.kill();
    fixture.status(|status| status["bus"]["connected"] == false).await;
    assert_eq!(fixture.sub0.blast(4_000, numbered).await, 1);
    let status = fixture.status(|status| status["spool"]["on_disk"] == false).await;
    assert!(status["spool"]["detail"].as_str().is_some_and(|detail| detail.contains("space")), "{status}");
    assert!(fixture.daemon.get("/readyz").await.1.contains("in memory"));
    fixture.status(|status| status["unconfirmed_events"].as_u64() >= Some(4_000)).await;
    fs::remove_file(disk.filler()).expect("removed");
    let is_written =
        |status: &Value| status["spool"]["on_disk"] == true && status["spool"]["unwritten_events"] == 0;
    fixture.nats.restart().await;
    fixture.status(is_written).await;
    fixture.at_rest(4_000).await;
    assert_eq!(numbers(&contents(&fixture.nats, "PONTOON_SHOP").await), all(4_000));
}

#[tokio::test]
async fn a_sync_that_fails_is_not_taken_for_done_and_nothing_is_lost() {
    let mut run = OnDisk::start("delivery.spool.durability = \"power\"").await;
    run.filled(100).await;
    let calls = FailingCalls::start(run.fixture.daemon.id(), "fdatasync", "EIO").await;
    assert_eq!(run.fixture.sub0.blast(900, |number| numbered(100 + number)).await, 1);
    let status = run.fixture.status(|status| status["spool"]["on_disk"] == false).await;
    assert!(
        status["spool"]["detail"].as_str().is_some_and(|detail| detail.contains("os error 5")),
        "{status}"
    );
    run.fixture.status(|status| status["unconfirmed_events"].as_u64() >= Some(1_000)).await;
    assert!(calls.failed() > 0);
    // The disk works again, and what was kept in memory meanwhile is written.
    calls.end().await;
    run.fixture.status(|status| status["spool"]["on_disk"] == true).await;
    run.written(1_000).await;
    run.next_run().await;
    assert_eq!(numbers(&run.events().await), all(1_000));
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_reported_and_events_are_in_memory() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let dir = Dir::new("spool");
    let config = |path: &Path| {
        let line = format!("delivery.spool.path = {path:?}");
        DaemonConfig::new(&nats).with(&line).sub0("shop", &sub0)
    };
    let _first = start(config(dir.path()));
    eventually(DEADLINE, async || dir.path().join("sub0.shop/lock").exists()).await;
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    let foreign = Dir::new("spool");
    fs::create_dir(foreign.path().join("sub0.shop")).expect("made");
    fs::write(foreign.path().join("sub0.shop/notes"), "").expect("written");
    let later = Dir::new("spool");
    fs::create_dir(later.path().join("sub0.shop")).expect("made");
    fs::write(later.path().join("sub0.shop/lock"), "pontoon 99\n").expect("written");
    for (path, reason) in [
        (dir.path(), "is used by another daemon (process "),
        (&file, "set delivery.spool.path to a folder"),
        (foreign.path(), "holds files of something else"),
        (later.path(), "has the format \"pontoon 99\""),
        (Path::new("/proc/pontoon"), "the folder /proc/pontoon/sub0.shop cannot be made"),
    ] {
        let mut daemon = start(config(path));
        let detail = refused(&mut daemon).await;
        assert!(detail.contains(reason), "{detail}");
        let metrics = daemon.metrics().await;
        assert_eq!(
            metrics.value("pontoon_spool_on_disk", &[("pontoon_instance", "shop"), ("type", "sub0")]),
            Some(0.0)
        );
    }
}

/// Why the instance keeps nothing on disk.
async fn refused(daemon: &mut Daemon) -> String {
    pontoon_testkit::until_some(DEADLINE, async || {
        let status = instance(daemon, "shop").await?;
        status["spool"]["detail"].as_str().map(str::to_owned)
    })
    .await
}

#[tokio::test]
async fn another_folder_in_a_reload_is_reported_and_used_from_the_next_start_on() {
    let mut run = OnDisk::start("").await;
    let other = Dir::new("spool");
    let line = format!("delivery.spool.path = {:?}", other.path());
    let Fixture { daemon, nats, sub0, .. } = &mut run.fixture;
    daemon.reconfigure(DaemonConfig::new(nats).with(&line).sub0("shop", sub0));
    daemon.signal("HUP");
    daemon.logs("from its next start on").await;
    run.filled(10).await;
    assert!(!other.path().join("sub0.shop").exists());
    let fixture = &mut run.fixture;
    fixture.daemon.kill();
    fixture.nats.restart().await;
    fixture.daemon.restart();
    eventually(DEADLINE, async || other.path().join("sub0.shop").exists()).await;
}

#[tokio::test]
async fn an_end_with_events_on_the_disk_is_a_success_and_the_state_directory_is_used() {
    let dir = Dir::new("spool");
    let mut nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let folders = format!("{}:/other", dir.path().display());
    let config = DaemonConfig::new(&nats).sub0("shop", &sub0).environment("STATE_DIRECTORY", &folders);
    let mut daemon = start(config);
    sub0.connected(1, DEADLINE).await;
    nats.kill();
    assert_eq!(sub0.blast(10, numbered).await, 1);
    eventually(DEADLINE, async || {
        instance(&mut daemon, "shop")
            .await
            .is_some_and(|status| status["unconfirmed_events"].as_u64() >= Some(11))
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0), "{}", daemon.log());
    assert!(daemon.log().contains("they are on the disk for the next start"), "{}", daemon.log());
    assert_eq!(files(dir.path()).len(), 1);
    nats.restart().await;
    daemon.restart();
    filled(&nats, "PONTOON_SHOP", 11, Duration::from_secs(60)).await;
    assert_eq!(numbers(&contents(&nats, "PONTOON_SHOP").await), all(10));
}

#[tokio::test]
async fn a_command_is_not_carried_out_twice_though_the_daemon_was_killed_in_between() {
    let mut run = OnDisk::start("").await;
    let sub0 = &run.fixture.sub0;
    sub0.resource("hangs", Resource::nothing());
    let key = |key: &'static str| [("Idempotency-Key", key)];
    let before = run.fixture.ask("call.echo", "{}", &key("done")).await;
    assert_eq!(before.status, "response");
    let mut headers = HeaderMap::new();
    headers.insert("Idempotency-Key", "hangs");
    let subject = "pontoon.command.sub0.shop.call.hangs";
    run.fixture.client.publish_with_headers(subject, headers, "{}".into()).await.expect("sent");
    eventually(DEADLINE, async || run.fixture.sub0.calls("hangs").len() == 1).await;
    run.fixture.daemon.restart();
    run.at_rest().await;
    run.fixture.state(|state| state["links"][0]["phase"] == "ready").await;
    let again = run.fixture.ask("call.echo", "{}", &key("done")).await;
    assert_eq!((again.status, &again.body), (before.status, &before.body));
    let again = run.fixture.ask("call.hangs", "{}", &key("hangs")).await;
    assert_eq!((again.status.as_str(), &again.body["error"]["code"]), ("unknown", &504.into()));
    let calls = |resource: &str| run.fixture.sub0.calls(resource).len();
    assert_eq!((calls("echo"), calls("hangs")), (1, 1));
}
