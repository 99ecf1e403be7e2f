//! Keys without NATS, and with the time given.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_sdk::Size;
use pontoon_testkit::Dir;
use tokio::time::timeout;

use super::*;
use crate::disk::Directory;
use crate::reply::{ReplyReceiver, ReplySender, test_caller};
use crate::settings::Durability;

const LONG: Duration = Duration::from_secs(60);

fn keys(change: impl FnOnce(&mut Commands)) -> Rc<Keys> {
    let mut config = Commands::default();
    change(&mut config);
    Keys::new(&config, None)
}

fn entry(keys: &Rc<Keys>, sender: &ReplySender, key: &str, body: &str, reply: u64) -> Entry {
    let fingerprint = Fingerprint::new("call.x", body, [("Pontoon-Action", "a")].into_iter());
    keys.entry(key, fingerprint, test_caller(sender, reply))
}

fn first(keys: &Rc<Keys>, sender: &ReplySender, key: &str) -> Caller {
    match entry(keys, sender, key, "{}", 1) {
        Entry::First(caller) => caller,
        _ => panic!("not the first"),
    }
}

fn refused(entry: Entry) -> Code {
    let Entry::Refused(caller, error) = entry else { panic!("not refused") };
    caller.refuse(&error);
    error.code()
}

/// Where replies went, and their status.
fn sent(receiver: &mut ReplyReceiver) -> Vec<(String, &'static str)> {
    let next = || receiver.try_next().map(|one| (one.subject, one.answer.status()));
    std::iter::from_fn(next).collect()
}

fn done(caller: Caller, data: &str) {
    let data = serde_json::value::to_raw_value(data).unwrap();
    caller.answer(Outcome::Response, Some(&data), None);
}

fn of(reply: u64, status: &'static str) -> (String, &'static str) {
    (format!("_INBOX.{reply}"), status)
}

#[test]
fn a_key_is_carried_out_once() {
    let (keys, (sender, mut receiver)) = (keys(|_| {}), ReplySender::new(16));
    let caller = first(&keys, &sender, "k");
    assert!(matches!(entry(&keys, &sender, "k", "{}", 2), Entry::Joined));
    assert_eq!(refused(entry(&keys, &sender, "k", "[]", 3)), Code::KeyReused);
    done(caller, "done");
    assert_eq!(sent(&mut receiver), [of(3, "rejected"), of(1, "response"), of(2, "response")]);
    let Entry::Answered(caller, kept) = entry(&keys, &sender, "k", "{}", 4) else { panic!("not answered") };
    assert!(kept.body.ends_with(b"\"data\":\"done\"}"));
    caller.repeat(&kept);
    assert_eq!(sent(&mut receiver), [of(4, "response")]);
    assert_eq!(keys.state.borrow().deadlines.len(), 0);
}

#[test]
fn only_what_changes_the_effect_makes_commands_differ() {
    let fingerprint =
        |headers: &[(&'static str, &'static str)]| Fingerprint::new("call.x", "{}", headers.iter().copied());
    let one = fingerprint(&[("Pontoon-Action", "pay"), ("Pontoon-X", "1")]);
    assert!(one == fingerprint(&[("pontoon-x", "1"), ("pontoon-action", "pay")]));
    for other in [&[("Pontoon-Action", "refund"), ("Pontoon-X", "1")][..], &[("Pontoon-Action", "pay")], &[]]
    {
        assert!(one != fingerprint(other), "{other:?}");
    }
    assert!(Fingerprint::new("a", "bc", [].into_iter()) != Fingerprint::new("ab", "c", [].into_iter()));
}

#[test]
fn a_command_that_was_not_done_can_be_tried_again() {
    let (keys, (sender, _replying)) = (keys(|_| {}), ReplySender::new(16));
    first(&keys, &sender, "k").refuse(&Error::disconnected("no"));
    drop(first(&keys, &sender, "k").on_answer.take());
    drop(first(&keys, &sender, "k"));
    // It is dropped without an answer, so that it may have been done.
    assert!(matches!(entry(&keys, &sender, "k", "{}", 1), Entry::Answered(..)));
}

#[tokio::test]
async fn each_caller_waits_for_its_own_time() {
    let (keys, (sender, mut receiver)) = (keys(|_| {}), ReplySender::new(16));
    let caller = first(&keys, &sender, "k");
    for (reply, wait) in [(2, LONG), (3, Duration::from_millis(20)), (4, Duration::ZERO)] {
        let mut caller = test_caller(&sender, reply);
        caller.deadline = Instant::now() + wait;
        let fingerprint = Fingerprint::new("call.x", "{}", [("Pontoon-Action", "a")].into_iter());
        assert!(matches!(keys.entry("k", fingerprint, caller), Entry::Joined));
    }
    for reply in [4, 3] {
        let next = async {
            tokio::select! {
                one = receiver.next() => one,
                () = keys.clone().expire() => None,
            }
        };
        let one = timeout(LONG, next).await.expect("in time").expect("a reply");
        assert_eq!((one.subject, one.answer.status()), of(reply, "unknown"));
        assert_eq!(one.answer.error.as_ref().map(|(code, _)| *code), Some(504));
    }
    done(caller, "done");
    assert_eq!(sent(&mut receiver), [of(1, "response"), of(2, "response")]);
}

#[test]
fn a_full_table_refuses_new_keys_and_forgets_no_young_one() {
    for change in [(|config: &mut Commands| config.idempotency_keys = 100) as fn(&mut Commands), |config| {
        config.idempotency_bytes = Size(100 * 1_500)
    }] {
        let (keys, (sender, mut receiver)) = (keys(change), ReplySender::new(16));
        let mut number = 0;
        let full = loop {
            match entry(&keys, &sender, &number.to_string(), "{}", 1) {
                Entry::First(caller) => done(caller, &"x".repeat(900)),
                other => break refused(other),
            }
            number += 1;
        };
        assert_eq!(full, Code::TooMany);
        assert!((80..=120).contains(&number), "{number}");
        assert!(matches!(entry(&keys, &sender, "0", "{}", 1), Entry::Answered(..)));
        drop(sent(&mut receiver));
        let state = keys.state.borrow();
        assert_eq!((state.entries.len(), state.order.len()), (number, number));
        assert!(state.bytes <= state.most_bytes);
    }
}

#[test]
fn a_large_answer_is_kept_without_its_data() {
    let (keys, (sender, _replying)) =
        (keys(|config| config.idempotency_bytes = Size::kib(4)), ReplySender::new(16));
    done(first(&keys, &sender, "k"), &"x".repeat(10_000));
    let Entry::Answered(_, kept) = entry(&keys, &sender, "k", "{}", 2) else { panic!("not answered") };
    assert_eq!((kept.status(), kept.error.as_ref().map(|(code, _)| *code)), ("response", Some(413)));
    assert!(kept.body.len() < 300);
}

#[test]
fn old_answers_make_room() {
    let keys = keys(|config| {
        config.idempotency_keys = 1;
        config.idempotency_time = pontoon_sdk::Span(Duration::ZERO);
    });
    let (sender, _replying) = ReplySender::new(16);
    for _ in 0..3 {
        done(first(&keys, &sender, "k"), "done");
        done(first(&keys, &sender, "another"), "done");
    }
    assert_eq!(keys.state.borrow().entries.len(), 1);
}

#[test]
fn a_key_has_a_length_and_few_wait_for_one() {
    let (keys, (sender, _replying)) = (keys(|_| {}), ReplySender::new(256));
    assert_eq!(refused(entry(&keys, &sender, "", "{}", 1)), Code::BadBody);
    assert_eq!(refused(entry(&keys, &sender, &"k".repeat(MAX_KEY + 1), "{}", 1)), Code::BadBody);
    let _first = first(&keys, &sender, "k");
    for reply in 0..MAX_FOLLOWERS as u64 {
        assert!(matches!(entry(&keys, &sender, "k", "{}", reply), Entry::Joined));
    }
    assert_eq!(refused(entry(&keys, &sender, "k", "{}", 1)), Code::TooMany);
}

/// The keys on disk in this folder.
async fn open(root: &Path) -> Rc<Keys> {
    let directory = Arc::new(Directory::open(root, "t.i").unwrap());
    let record = KeyRecord::open(directory, Durability::Process).await.unwrap();
    Keys::new(&Commands::default(), Some(record))
}

#[tokio::test(flavor = "local")]
async fn keys_outlive_the_process_and_one_of_a_command_under_way_is_unknown() {
    let (root, copy) = (Dir::new("keys"), Dir::new("keys"));
    let (keys, (sender, mut receiver)) = (open(root.path()).await, ReplySender::new(16));
    let mut caller = first(&keys, &sender, "done");
    caller.begin().expect("it is written before it is sent").await.unwrap();
    done(caller, "done");
    let mut under_way = first(&keys, &sender, "under way");
    under_way.begin().unwrap().await.unwrap();
    first(&keys, &sender, "refused").refuse(&Error::disconnected("down"));
    keys.written().await;
    // What SIGKILL leaves.
    fs::create_dir(copy.path().join("t.i")).unwrap();
    for file in ["t.i/keys", "t.i/lock"] {
        fs::copy(root.path().join(file), copy.path().join(file)).unwrap();
    }
    sent(&mut receiver);
    let next = open(copy.path()).await;
    for (key, status) in [("done", "response"), ("under way", "unknown")] {
        let Entry::Answered(caller, kept) = entry(&next, &sender, key, "{}", 5) else { panic!("{key}") };
        caller.repeat(&kept);
        assert_eq!(sent(&mut receiver), [of(5, status)]);
        assert_eq!(refused(entry(&next, &sender, key, "[]", 6)), Code::KeyReused);
        sent(&mut receiver);
    }
    drop(first(&next, &sender, "refused"));
}
