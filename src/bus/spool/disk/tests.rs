//! A spool that outlives its process, without NATS.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;

use pontoon_sdk::{Event, EventType, LinkKey, Raw, Size};
use pontoon_testkit::Dir;

use super::super::Storage;
use super::*;
use crate::disk::Directory;
use crate::envelope::Envelope;
use crate::metrics::InstanceMetrics;
use crate::settings::{Delivery, Durability, Events};

/// A spool on disk, in the folder of the runs before it.
struct Run {
    spool: Rc<Spool>,
    worker: tokio::task::JoinHandle<()>,
}

fn delivery(change: impl FnOnce(&mut Delivery)) -> Delivery {
    let mut delivery = Delivery::default();
    delivery.spool.durability = Durability::Power;
    change(&mut delivery);
    delivery
}

impl Run {
    fn start(root: &Dir, epoch: u64, delivery: &Delivery) -> Self {
        let envelope = Rc::new(Envelope::new("p", "t", "i", epoch, &Events::default()));
        let spool = Spool::new("i", envelope, Arc::new(InstanceMetrics::new("i", "t", &[])), delivery);
        let directory = Arc::new(Directory::open(root.path(), "t.i").unwrap());
        spool.keep_on_disk(Left::read(directory, &delivery.spool).unwrap());
        // As in core mode: only the disk knows of an earlier run.
        spool.previous_run(None);
        let spool = Rc::new(spool);
        let worker = tokio::task::spawn_local({
            let spool = spool.clone();
            async move { spool.work_on_disk().await }
        });
        Self { spool, worker }
    }

    fn offer(&self, numbers: std::ops::Range<i64>) {
        for number in numbers {
            let raw = Raw::of_bytes(&format!("\"{number} {}\"", "x".repeat(300)).into());
            let event = Box::new(Event::new(EventType::LogEntry, raw));
            let read = OffsetDateTime::from_unix_timestamp(1_000 + number).unwrap();
            self.spool.offer(&LinkKey::new("main"), event, Instant::now(), read);
        }
    }

    /// Waits until everything is on the disk, and ends as by SIGKILL.
    async fn kill(self) {
        self.spool.freed_until(|state| state.disk.as_ref().unwrap().written >= state.newest.0).await;
        self.worker.abort();
        let _ = self.worker.await;
    }

    /// No write ends until what is returned is dropped.
    fn hang(&self) -> mpsc::Sender<()> {
        let log = self.spool.state.borrow().disk.as_ref().unwrap().log.clone();
        let ((hangs, ends), (holds, held)) = (mpsc::channel(), mpsc::channel());
        std::thread::spawn(move || {
            let _log = log.lock().unwrap();
            holds.send(()).unwrap();
            let _ = ends.recv();
        });
        held.recv().unwrap();
        hangs
    }

    /// Takes and confirms everything, as NATS would: ids, and numbers of events or reasons of gaps.
    async fn drain(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while self.spool.level().waiting > 0 {
            self.spool.unsent().await;
            while let Some(Ok((sequence, shown))) = self.spool.send_next(|record| Ok::<_, ()>(shown(record)))
            {
                all.push(shown);
                self.spool.confirm(sequence);
            }
        }
        all
    }
}

fn shown(record: &Record) -> (u64, (String, String)) {
    let headers = String::from_utf8(record.header_lines(false).concat()).unwrap();
    let id = headers.lines().find_map(|line| line.strip_prefix("ce-id: ")).unwrap().to_owned();
    let body: serde_json::Value = serde_json::from_slice(record.body()).unwrap();
    let number = body["raw"].as_str().and_then(|raw| raw.split(' ').next()).map(str::to_owned);
    let gap = || format!("{} {}", body["reason"].as_str().unwrap(), body["from"].as_str().unwrap_or("-"));
    (record.sequence, (id, number.unwrap_or_else(gap)))
}

fn texts(all: &[(String, String)]) -> Vec<&str> {
    all.iter().map(|(_, text)| text.as_str()).collect()
}

/// The files of events, the oldest first.
fn files(root: &Dir) -> Vec<PathBuf> {
    let all = fs::read_dir(root.path().join("t.i")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        all.filter(|path| path.extension().is_some_and(|ending| ending == "events")).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "local")]
async fn what_was_not_confirmed_comes_again_with_its_id_and_the_gap_begins_behind_it() {
    let root = Dir::new("spool");
    let delivery = delivery(|_| {});
    let run = Run::start(&root, 5, &delivery);
    run.offer(1..6);
    let before = run.spool.send_next(|record| Ok::<_, ()>(shown(record).1)).unwrap().unwrap();
    assert_eq!(before, ("5-1".to_owned(), "restarted -".to_owned()));
    run.kill().await;
    // The clock was set back.
    let run = Run::start(&root, 3, &delivery);
    run.offer(6..8);
    let all = run.drain().await;
    assert!(all[6].1.starts_with("restarted 20"), "it begins where the run before has ended: {all:?}");
    assert_eq!(texts(&all[..6]), ["restarted -", "1", "2", "3", "4", "5"]);
    assert_eq!(texts(&all[7..]), ["6", "7"]);
    assert_eq!(
        all[..6].iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        ["5-1", "5-2", "5-3", "5-4", "5-5", "5-6"]
    );
    assert!(all[6..].iter().all(|(id, _)| id.starts_with("6-")), "{all:?}");
    run.spool.close_disk().await;
    run.kill().await;
    let run = Run::start(&root, 9, &delivery);
    run.offer(8..9);
    let all = run.drain().await;
    assert!(all.len() == 2 && all[0].1.starts_with("restarted 20") && all[1].1 == "8", "{all:?}");
}

#[tokio::test(flavor = "local")]
async fn more_than_fits_into_memory_is_read_back_in_order_in_this_run_and_in_the_next() {
    let root = Dir::new("spool");
    let delivery = delivery(|delivery| {
        delivery.buffer = Size::kib(256);
        delivery.spool.size = Size::mib(16);
    });
    let run = Run::start(&root, 1, &delivery);
    for first in (0..6_000).step_by(100) {
        run.offer(first..first + 100);
        run.spool.freed_until(|state| state.disk.as_ref().unwrap().tail.len() < 50).await;
        let state = run.spool.state.borrow();
        let in_memory = state.bytes + state.disk.as_ref().unwrap().tail_bytes;
        assert!(in_memory <= delivery.buffer.0 && state.fits(), "{in_memory}");
    }
    assert_eq!(run.spool.level().waiting, 6_001);
    let expected: Vec<_> = (0..6_000).map(|number| number.to_string()).collect();
    let mut sent = Vec::new();
    while sent.len() < 2_001 {
        run.spool.unsent().await;
        while sent.len() < 2_001
            && let Some(Ok((sequence, (_, text)))) = run.spool.send_next(|record| Ok::<_, ()>(shown(record)))
        {
            sent.push(text);
            run.spool.confirm(sequence);
        }
    }
    assert_eq!(sent[1..], expected[..2_000]);
    run.spool.close_disk().await;
    run.kill().await;
    let run = Run::start(&root, 2, &delivery);
    run.offer(6_000..6_001);
    let all = run.drain().await;
    assert_eq!(all.len(), 4_000 + 2);
    assert_eq!(texts(&all[..4_000]), expected[2_000..]);
    assert_eq!(texts(&all[4_001..]), ["6000"]);
    assert_eq!(run.spool.level().bytes, 0);
    run.spool.close_disk().await;
    assert!(files(&root).len() <= 2, "what was confirmed is removed");
}

#[tokio::test(flavor = "local")]
async fn a_full_disk_applies_the_policy() {
    let root = Dir::new("spool");
    let delivery = delivery(|delivery| delivery.spool.size = Size::mib(1));
    let run = Run::start(&root, 1, &delivery);
    run.offer(0..500);
    assert!(run.spool.has_room());
    run.offer(500..2_000);
    assert!(run.spool.is_full() && run.spool.deadline().is_some());
    run.drain().await;
    assert!(run.spool.has_room());
}

/// Offers events one after the other, as long as a link would read more. Returns how many.
fn read_on(run: &Run) -> i64 {
    let mut number = 0;
    while !run.spool.is_ahead() {
        assert!(number < 10_000, "reading does not wait for the disk");
        run.offer(number..number + 1);
        number += 1;
    }
    number
}

#[tokio::test(flavor = "local")]
async fn reading_waits_while_much_is_not_written_and_what_a_kill_costs_is_bounded() {
    for (durability, most) in [(Durability::Process, 2 * GROUP), (Durability::Power, 8 * GROUP)] {
        let root = Dir::new("spool");
        let run = Run::start(&root, 1, &delivery(|delivery| delivery.spool.durability = durability));
        read_on(&run);
        let unwritten = |run: &Run| run.spool.state.borrow().disk.as_ref().unwrap().unwritten_bytes;
        let record = run.spool.state.borrow().records[1].size();
        assert!((most..most + 2 * record).contains(&unwritten(&run)), "{}", unwritten(&run));
        run.spool.caught_up().await;
        // What NATS has confirmed need not be written.
        read_on(&run);
        while run.spool.is_ahead() {
            let sequence = run.spool.nth(0).unwrap();
            run.spool.send_next(|_| Ok::<_, ()>(()));
            run.spool.confirm(sequence);
        }
        run.drain().await;
        assert_eq!(unwritten(&run), 0);
        run.kill().await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_disk_that_hangs_holds_reading_up_for_a_bounded_time() {
    let root = Dir::new("spool");
    let run = Run::start(&root, 1, &delivery(|delivery| delivery.max_pause.0 = Duration::from_millis(200)));
    let hangs = run.hang();
    let read = read_on(&run);
    run.spool.caught_up().await;
    assert!(matches!(run.spool.storage(), Storage::Failed(why) if why.contains("delivery.max_pause")));
    run.offer(read..read + 1_000);
    assert!(!run.spool.is_ahead() && run.spool.has_room(), "events are in memory meanwhile");
    drop(hangs);
    run.spool.freed_until(|state| state.disk.as_ref().unwrap().unwritten_bytes == 0).await;
    assert_eq!(run.spool.storage(), Storage::Disk);
    let next = {
        run.kill().await;
        Run::start(&root, 2, &delivery(|_| {}))
    };
    let expected: Vec<_> = (0..read + 1_000).map(|number| number.to_string()).collect();
    assert_eq!(texts(&next.drain().await)[1..], expected);
}

#[tokio::test(flavor = "local")]
async fn what_is_damaged_in_the_middle_becomes_a_gap_and_the_end_is_cut_off() {
    let delivery = delivery(|_| {});
    let written = Dir::new("spool");
    let run = Run::start(&written, 1, &delivery);
    run.offer(0..20);
    run.spool.introduced().await;
    run.kill().await;
    let file = files(&written).remove(0);
    let bytes = fs::read(&file).unwrap();
    let recovered = async |bytes: &[u8]| {
        let root = Dir::new("spool");
        let directory = root.path().join("t.i");
        fs::create_dir(&directory).unwrap();
        fs::copy(written.path().join("t.i/lock"), directory.join("lock")).unwrap();
        fs::write(directory.join(file.file_name().unwrap()), bytes).unwrap();
        let run = Run::start(&root, 2, &delivery);
        run.offer(100..101);
        let all: Vec<_> = run.drain().await.into_iter().map(|(_, text)| text).collect();
        run.kill().await;
        all
    };
    let whole = recovered(&bytes).await;
    assert_eq!(whole.len(), 1 + 20 + 2);
    for at in (0..bytes.len()).step_by(97) {
        // All before the cut is there, in order, and then the gap with which the next run begins.
        let mut cut = recovered(&bytes[..at]).await;
        assert_eq!(cut.pop().as_deref(), Some("100"), "{at}");
        assert!(cut.pop().unwrap().starts_with("restarted"), "{at}");
        assert_eq!(cut, whole[..cut.len()], "{at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        let all = recovered(&flipped).await;
        let missing: Vec<_> = whole[..21].iter().filter(|text| !all.contains(text)).collect();
        assert!(missing.len() <= 1, "{at}: {missing:?}");
        let place = missing.first().and_then(|text| whole.iter().position(|known| known == *text));
        let gaps: Vec<_> = (0..all.len()).filter(|index| all[*index].starts_with("spool_damaged")).collect();
        assert_eq!(gaps, place.into_iter().collect::<Vec<_>>(), "{at}: {all:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_the_stream_holds_of_an_earlier_run_is_not_sent_again() {
    let root = Dir::new("spool");
    let delivery = delivery(|_| {});
    let run = Run::start(&root, 1, &delivery);
    run.offer(0..9);
    run.spool.introduced().await;
    run.kill().await;
    let run = Run::start(&root, 2, &delivery);
    assert!(run.spool.is_own_epoch(1) && run.spool.is_own_epoch(2) && !run.spool.is_own_epoch(3));
    assert_eq!(run.spool.left(), Some(None));
    run.spool.confirm_left(4, BTreeSet::from([(1, 6), (1, 7), (3, 9)]));
    assert_eq!(texts(&run.drain().await), ["3", "6", "7", "8"]);
    run.spool.accounted("S", OffsetDateTime::UNIX_EPOCH, 10);
    run.spool.close_disk().await;
    run.kill().await;
    let run = Run::start(&root, 3, &delivery);
    let left = run.spool.left().flatten().unwrap();
    assert_eq!((left.stream.as_str(), left.accounted), ("S", 10));
    assert!(run.drain().await.is_empty());
}
