//! What the spool keeps, drops and counts, without NATS.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::{Event, Joined, Raw, Size, Span};
use serde_json::Value;

use super::*;
use crate::envelope::Start;
use crate::settings::Overflow;

fn spool(change: impl FnOnce(&mut Delivery)) -> Spool {
    let mut delivery = Delivery::default();
    change(&mut delivery);
    let envelope = Rc::new(Envelope::new("p", "t", "i", 1, &Events::default()));
    Spool::new("i", envelope, Arc::new(InstanceMetrics::new("i", "t", &[])), &delivery)
}

/// A spool behind its first gap.
fn begun(change: impl FnOnce(&mut Delivery)) -> Spool {
    let spool = spool(change);
    spool.state.borrow_mut().begun = true;
    offer(&spool, 0..1);
    spool.confirm(1);
    spool
}

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

fn offer_on(spool: &Spool, link: &str, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let event = Box::new(Event::new(EventType::LogEntry, Raw::null()));
        spool.offer(&LinkKey::new(link), event, Instant::now(), at(second));
    }
}

fn offer(spool: &Spool, seconds: std::ops::Range<i64>) {
    offer_on(spool, "main", seconds);
}

fn send(spool: &Spool, number: usize) -> Vec<u64> {
    let next = |_| spool.send_next(|record| Ok::<_, ()>(record.sequence))?.ok();
    (0..number).filter_map(next).collect()
}

/// Everything that is kept: seconds of events, and gaps as `reason link from..to dropped`.
fn kept(spool: &Spool) -> Vec<String> {
    let show = |record: &Record| match &record.gap {
        None => record.recorded.unix_timestamp().to_string(),
        Some(gap) => {
            let body: Value = serde_json::from_slice(record.body()).unwrap();
            let time = |name: &str| {
                let time = crate::envelope::parse_time(body[name].as_str()?)?;
                Some(if time > at(1_000_000) { "now".to_owned() } else { time.unix_timestamp().to_string() })
            };
            let link = gap.link.as_ref().map_or("-", LinkKey::as_str);
            let (from, to) = (time("from").unwrap_or_default(), time("to").unwrap());
            format!("{} {link} {from}..{to} {}", gap.reason.as_str(), gap.dropped.unwrap_or(0))
        }
    };
    spool.state.borrow().records.iter().map(show).collect()
}

fn has_header(record: &Record, name: &str, value: &str) -> bool {
    let lines = String::from_utf8(record.header_lines(true).concat()).unwrap();
    lines.split("\r\n").any(|line| line == format!("{name}: {value}"))
}

#[test]
fn events_leave_when_they_are_confirmed_and_not_before() {
    let spool = begun(|_| {});
    offer(&spool, 0..5);
    assert_eq!(send(&spool, 3), [2, 3, 4]);
    assert_eq!((spool.level().sent, spool.level().waiting), (3, 2));
    spool.confirm(3);
    assert_eq!(spool.level().sent, 2);
    assert_eq!((spool.nth(0), spool.nth(1)), (Some(2), Some(4)));
    spool.rewind();
    assert_eq!(send(&spool, 9), [2, 4, 5, 6]);
    spool.confirm_through(5);
    assert_eq!((spool.level().sent, spool.nth(0)), (1, Some(6)));
    assert!(spool.send_next(|_| Err::<(), _>(())).is_none());
    spool.confirm_through(6);
    assert_eq!(spool.level(), Level { sent: 0, waiting: 0, bytes: 0, unwritten: 0, oldest: None });
}

#[test]
fn the_first_record_of_a_run_is_a_gap_since_the_previous_run() {
    for (previous, gap) in [(None, "restarted - ..now 0"), (Some(at(7)), "restarted - 6..now 0")] {
        // Whether the stream is read before or after.
        let before = spool(|_| {});
        before.previous_run(previous);
        offer(&before, 20..21);
        assert_eq!(kept(&before)[0], gap);
        let after = spool(|_| {});
        offer(&after, 20..21);
        after.gap(Gap::restarted(Some(LinkKey::new("main"))));
        assert_eq!(kept(&after)[0], "restarted - ..now 0");
        after.previous_run(previous);
        assert_eq!(kept(&after)[0], gap);
        assert_eq!(kept(&after)[2], gap.replace('-', "main"));
        // The first answer counts.
        after.previous_run(Some(at(9)));
        assert_eq!(kept(&after)[0], gap);
    }
    // The gap of the first link stands for all.
    let spool = spool(|_| {});
    spool.gap(Gap::restarted(Some(LinkKey::new("main"))));
    assert_eq!(kept(&spool), ["restarted - ..now 0"]);
}

#[test]
fn a_gap_never_begins_behind_its_end() {
    let spool = spool(|_| {});
    spool.previous_run(Some(OffsetDateTime::now_utc() + time::Duration::days(1)));
    spool.gap(Gap::restarted(None));
    assert_eq!(kept(&spool), ["restarted - ..now 0"]);
}

#[test]
fn times_of_reading_never_run_backwards() {
    let spool = begun(|_| {});
    let recorded = |spool: &Spool| {
        let state = spool.state.borrow();
        state.records.iter().map(|record| record.recorded).collect::<Vec<_>>()
    };
    let later = OffsetDateTime::now_utc() + time::Duration::hours(1);
    for time in [later, later - time::Duration::minutes(30), later + time::Duration::seconds(1)] {
        let event = Box::new(Event::new(EventType::LogEntry, Raw::null()));
        spool.offer(&LinkKey::new("main"), event, Instant::now(), time);
    }
    assert_eq!(recorded(&spool), [later, later, later + time::Duration::seconds(1)]);
}

/// Fills a spool of three events, and applies the policy.
fn full(policy: Overflow) -> Spool {
    let spool = begun(|delivery| {
        delivery.buffer_events = 3;
        delivery.max_pause = Span::seconds(1);
        delivery.overflow = policy;
    });
    offer(&spool, 1..4);
    assert!(spool.is_full() && !spool.has_room());
    assert!(spool.deadline().is_some());
    spool
}

#[test]
fn new_events_are_dropped_and_the_gap_follows_once_there_is_room() {
    let spool = full(Overflow::DropNewest);
    // What was read before the socket is not read any more finds room.
    offer(&spool, 4..5);
    spool.overflow().unwrap();
    assert!(!spool.is_full() && !spool.has_room());
    offer(&spool, 5..8);
    spool.gap(Gap::new(GapReason::Disconnected, Some(LinkKey::new("main")), Start::At(at(6))));
    assert_eq!(kept(&spool).len(), 4);
    spool.confirm_through(2);
    assert!(!spool.has_room());
    spool.confirm_through(3);
    assert_eq!(kept(&spool)[2..], ["overflow main 5..now 3"]);
    assert!(!spool.is_full() || spool.deadline().is_some());
}

#[test]
fn a_gap_over_several_links_names_none_and_one_without_a_beginning_keeps_none() {
    let spool = full(Overflow::DropNewest);
    spool.overflow().unwrap();
    offer(&spool, 4..5);
    offer_on(&spool, "other", 5..6);
    spool.gap(Gap::new(GapReason::StreamReset, None, Start::Unknown));
    spool.confirm_through(4);
    assert_eq!(kept(&spool), ["overflow - ..now 2"]);
}

#[test]
fn a_gap_of_dropped_events_is_not_recovered() {
    let spool = full(Overflow::DropNewest);
    spool.overflow().unwrap();
    let main = Some(LinkKey::new("main"));
    spool.gap(Gap { recovered: true, ..Gap::new(GapReason::Disconnected, main, Start::At(at(3))) });
    offer(&spool, 4..5);
    spool.confirm_through(4);
    assert_eq!(kept(&spool), ["overflow main 3..now 1"]);
    assert!(!spool.state.borrow().records[0].gap.as_ref().unwrap().recovered);
}

#[test]
fn the_gap_of_dropped_events_stands_before_those_that_find_room_by_a_smaller_event() {
    let spool = begun(|delivery| {
        delivery.buffer = Size::kib(2);
        delivery.overflow = Overflow::DropNewest;
    });
    let raw = Raw::of_bytes(&format!("\"{}\"", "x".repeat(4_000)).into());
    spool.offer(&LinkKey::new("main"), Box::new(Event::new(EventType::LogEntry, raw)), Instant::now(), at(4));
    spool.overflow().unwrap();
    offer(&spool, 5..6);
    assert_eq!(spool.reduce(2), Some(Reduced::Smaller));
    offer(&spool, 6..7);
    assert_eq!(kept(&spool)[..2], ["4", "overflow main 5..now 1"]);
    assert_eq!(kept(&spool).len(), 3);
}

#[test]
fn events_behind_dropped_ones_carry_since_when_until_the_gap_is_among_them() {
    let spool = full(Overflow::DropOldest);
    assert_eq!(send(&spool, 3).len(), 3);
    spool.overflow().unwrap();
    // All that is kept is on the wire, so that only the new one can be dropped.
    offer(&spool, 4..5);
    spool.rewind();
    offer(&spool, 5..6);
    let last = |spool: &Spool| spool.state.borrow().records.back().and_then(Record::ongoing_gap);
    assert_eq!((kept(&spool).last().map(String::as_str), last(&spool)), (Some("5"), Some(at(4))));
    spool.confirm_through(9);
    assert_eq!((kept(&spool), last(&spool)), (vec!["overflow main 4..now 1".to_owned()], None));
}

#[test]
fn the_oldest_events_are_dropped_and_a_gap_takes_their_place() {
    let spool = full(Overflow::DropOldest);
    assert_eq!(send(&spool, 1), [2]);
    spool.overflow().unwrap();
    offer(&spool, 4..6);
    // What is on the wire may have arrived. Two places are needed: one for the gap.
    assert_eq!(kept(&spool), ["1", "overflow main 2..4 3", "5"]);
    assert_eq!(spool.level().waiting, 2);
    spool.gap(Gap::new(GapReason::Disconnected, None, Start::Unknown));
    assert_eq!(kept(&spool), ["1", "overflow main 2..5 4", "disconnected - ..now 0"]);
    // Nothing may go any more.
    offer(&spool, 6..7);
    assert_eq!(kept(&spool).len(), 3);
    spool.confirm_through(9);
    assert_eq!(kept(&spool), ["overflow main 6..now 1"]);
}

#[test]
fn links_are_closed_where_that_is_the_policy() {
    let spool = full(Overflow::Disconnect);
    assert!(spool.overflow().is_err());
    assert!(spool.is_full());
    spool.confirm(2);
    assert!(!spool.is_full() && spool.has_room() && spool.deadline().is_none());
    let spool = begun(|delivery| delivery.buffer = Size::kib(1));
    offer(&spool, 0..10);
    assert!(spool.is_full());
}

#[test]
fn a_link_that_is_down_marks_the_events_of_the_others() {
    let spool = begun(|_| {});
    let (a, b) = (LinkKey::new("a"), LinkKey::new("b"));
    let last = |spool: &Spool| {
        offer_on(spool, "main", 9..10);
        spool.state.borrow().records.back().and_then(Record::ongoing_gap)
    };
    assert_eq!(last(&spool), None);
    spool.gap_begins(&a, at(5));
    spool.gap_begins(&b, at(3));
    spool.gap_begins(&b, at(8));
    assert_eq!(last(&spool), Some(at(3)));
    spool.gap(Gap::new(GapReason::Disconnected, Some(b), Start::At(at(3))));
    assert_eq!(last(&spool), Some(at(5)));
    spool.gap_is_void(&a);
    assert_eq!(last(&spool), None);
}

#[test]
fn what_is_kept_when_the_stream_is_lost_carries_that_all_before_it_may_be_missing() {
    let spool = begun(|_| {});
    offer(&spool, 1..3);
    spool.stream_reset();
    assert_eq!(kept(&spool), ["1", "2", "stream_reset - ..now 0"]);
    let state = spool.state.borrow();
    assert!(
        state.records.iter().take(2).all(|record| record.ongoing_gap() == Some(OffsetDateTime::UNIX_EPOCH))
    );
}

#[test]
fn an_event_that_is_too_large_goes_without_its_payload_and_else_as_a_gap() {
    let spool = begun(|_| {});
    let payload = format!("\"{}\"", "x".repeat(2_000));
    let raw = Raw::of_bytes(&payload.clone().into());
    spool.offer(&LinkKey::new("main"), Box::new(Event::new(EventType::LogEntry, raw)), Instant::now(), at(4));
    assert_eq!(spool.reduce(2), Some(Reduced::Smaller));
    assert_eq!(
        spool.state.borrow().records[0].body(),
        format!("{{\"raw_omitted\":{}}}", payload.len()).as_bytes()
    );
    let bytes = spool.level().bytes;
    assert_eq!(bytes, spool.state.borrow().records[0].size());
    let lost = spool.reduce(2);
    assert!(
        matches!(&lost, Some(Reduced::Gap { body, .. }) if body == b"{\"raw_omitted\":2002}"),
        "{lost:?}"
    );
    assert_eq!(kept(&spool), ["too_large main 4..4 1"]);
    assert_eq!(spool.level().bytes, spool.state.borrow().records[0].size());
    assert_eq!(spool.reduce(2), Some(Reduced::Removed));
    assert_eq!(spool.level(), Level { sent: 0, waiting: 0, bytes: 0, unwritten: 0, oldest: None });
    assert_eq!(spool.reduce(2), None);
}

#[test]
fn a_gap_that_is_too_large_goes_without_what_is_asked_for_again() {
    let spool = begun(|_| {});
    let mut rejoins = Joined::default();
    rejoins.add("lobby");
    let gap = Gap::new(GapReason::Disconnected, Some(LinkKey::new("main")), Start::At(at(3)));
    spool.gap(Gap { to: at(4), rejoins: Some(Box::new(rejoins)), ..gap });
    let names_the_room = || String::from_utf8_lossy(spool.state.borrow().records[0].body()).contains("lobby");
    assert!(names_the_room());
    assert_eq!(spool.level().bytes, spool.state.borrow().records[0].size());
    assert_eq!((spool.reduce(2), names_the_room()), (Some(Reduced::Smaller), false));
    assert_eq!(kept(&spool), ["disconnected main 3..4 0"]);
    assert_eq!(spool.level().bytes, spool.state.borrow().records[0].size());
    assert_eq!(spool.reduce(2), Some(Reduced::Removed));
}

#[test]
fn events_that_others_put_out_of_order_are_counted_once() {
    let spool = begun(|_| {});
    offer(&spool, 1..8);
    spool.confirm(5);
    assert_eq!(spool.passed_over((spool.envelope.epoch(), 5), "S"), 3);
    assert_eq!(spool.passed_over((spool.envelope.epoch(), 5), "S"), 0);
    spool.confirm(7);
    assert_eq!(spool.passed_over((spool.envelope.epoch(), 7), "S"), 1);
    assert_eq!(kept(&spool).len(), 7);
    let is_error = |record: &&Record| has_header(record, "ce-type", EventType::ErrorRaised.ce_type());
    let state = spool.state.borrow();
    assert!(state.records.iter().filter(|record| is_error(record)).count() == 2);
}

#[tokio::test]
async fn room_is_waited_for() {
    let spool = full(Overflow::Disconnect);
    let freed = async {
        tokio::task::yield_now().await;
        spool.confirm(2);
    };
    tokio::join!(spool.room(), freed);
    let spool = full(Overflow::DropNewest);
    let overflow = async {
        tokio::task::yield_now().await;
        spool.overflow().unwrap();
    };
    tokio::join!(spool.room(), overflow);
}

#[test]
fn other_bounds_drop_nothing_and_what_is_held_is_not_sent() {
    let spool = begun(|_| {});
    offer(&spool, 1..6);
    spool.reconfigure(&Delivery { buffer_events: 3, ..Delivery::default() });
    assert_eq!((spool.has_room(), spool.is_full(), spool.level().waiting), (false, true, 5));
    assert_eq!(send(&spool, 1).len(), 1);
    spool.hold(true);
    assert!(send(&spool, 9).is_empty());
    let third = spool.nth(2).unwrap();
    spool.confirm_through(third);
    assert!(spool.has_room());
    spool.hold(false);
    assert_eq!(send(&spool, 9), [third + 1, third + 2]);
    spool.reconfigure(&Delivery { buffer_events: 2, ..Delivery::default() });
    assert!(spool.is_full());
    spool.reconfigure(&Delivery::default());
    assert!(!spool.is_full());
}

/// The bytes that are kept are those of the records.
fn accounted(spool: &Spool) -> bool {
    let state = spool.state.borrow();
    state.bytes == state.records.iter().map(Record::size).sum::<usize>()
}

#[test]
fn what_is_kept_follows_the_prefix_and_the_epoch() {
    let spool = begun(|_| {});
    offer(&spool, 1..3);
    let before = spool.level().bytes;
    spool.reshape("a.longer.prefix", &Events::default());
    spool.follow_epoch(41);
    assert!(spool.level().bytes > before && accounted(&spool));
    for record in &spool.state.borrow().records {
        assert!(record.subject().starts_with(b"a.longer.prefix.event.t.i.log.entry."));
        assert!(has_header(record, "ce-id", &format!("42-{}", record.sequence)));
    }
}

#[tokio::test]
async fn reading_waits_for_publishing_only_while_nats_confirms() {
    let spool = spool(|_| {});
    offer(&spool, 0..3_000);
    assert!(!spool.is_ahead(), "nothing was confirmed yet");
    let sent = send(&spool, 512);
    spool.confirm(sent[0]);
    let long_ago = Instant::now() - 2 * super::state::PROGRESS;
    assert!(spool.is_ahead());
    spool.state.borrow_mut().confirmed_at = Some(long_ago);
    assert!(!spool.is_ahead(), "the server makes no progress");
    spool.caught_up().await;
    spool.confirm(sent[1]);
    send(&spool, 1_000);
    assert!(!spool.is_ahead());
    spool.caught_up().await;
    assert!(spool.level().waiting > 1_024, "it did not catch up, the time was over");
}

#[test]
fn only_what_is_confirmed_is_noted_and_a_duplicate_with_what_was_before_it() {
    let spool = begun(|delivery| {
        delivery.overflow = Overflow::DropOldest;
        delivery.buffer_events = 4;
        delivery.max_pause = Span::seconds(0);
    });
    let (sender, mut noted) = futures_channel::mpsc::unbounded();
    let mut noted = move || std::iter::from_fn(|| noted.try_recv().ok()).collect::<Vec<u64>>();
    let offer = |number: u64, identity: Option<&str>| {
        let mut event = Event::new(EventType::LogEntry, Raw::null());
        (event.stored, event.identity) = (Some(number), identity.map(str::to_owned));
        spool.offer_noting(&LinkKey::new("main"), Box::new(event), Instant::now(), at(1), Some(&sender));
    };
    offer(1, None);
    offer(2, Some("same"));
    offer(3, Some("same"));
    offer(4, None);
    let sequences = send(&spool, 3);
    assert!(noted().is_empty());
    spool.confirm(sequences[1]);
    assert_eq!(noted(), [2, 3]);
    spool.confirm_through(sequences[0]);
    assert_eq!(noted(), [1]);
    spool.confirm_through(sequences[2]);
    assert_eq!(noted(), [4]);
    // A duplicate of an event that is stored already.
    offer(5, Some("same"));
    assert_eq!(noted(), [5]);

    // What is dropped is never noted, even if the gap in its place is confirmed.
    offer(6, None);
    (7..10).for_each(|number| offer(number, None));
    spool.overflow().unwrap();
    offer(10, None);
    while let Some(sequence) = send(&spool, 1).first() {
        spool.confirm(*sequence);
    }
    let kept = noted();
    assert!(!kept.contains(&6) && kept.contains(&10), "{kept:?}");
    assert!(spool.state.borrow().noted.is_empty());
}
