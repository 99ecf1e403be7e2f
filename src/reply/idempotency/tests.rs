//! Keys without NATS, and with the time given.

use std::time::{Duration, Instant};

use pontoon_sdk::Size;
use tokio::time::timeout;

use super::*;
use crate::link::pending::tests;
use crate::metrics::Outcome;
use crate::reply::{Outlet, Replying};

const LONG: Duration = Duration::from_secs(60);

fn keys(change: impl FnOnce(&mut Commands)) -> Arc<Keys> {
    let mut config = Commands::default();
    change(&mut config);
    Keys::new(&config)
}

fn claim(keys: &Arc<Keys>, outlet: &Outlet, key: &str, body: &str, reply: u64) -> Claim {
    let what = What::new("call.x", body, [("Pontoon-Action", "a")].into_iter());
    keys.claim(key, what, tests::caller(outlet, reply))
}

fn first(keys: &Arc<Keys>, outlet: &Outlet, key: &str) -> Caller {
    match claim(keys, outlet, key, "{}", 1) {
        Claim::First(caller) => caller,
        _ => panic!("not the first"),
    }
}

fn refused(claim: Claim) -> Code {
    let Claim::Refused(caller, error) = claim else { panic!("not refused") };
    caller.refuse(&error);
    error.code()
}

/// Where replies went, and their status.
fn sent(replying: &mut Replying) -> Vec<(String, &'static str)> {
    let next = || replying.try_next().map(|one| (one.subject, one.answer.status()));
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
    let (keys, (outlet, mut replying)) = (keys(|_| {}), Outlet::new(16));
    let caller = first(&keys, &outlet, "k");
    assert!(matches!(claim(&keys, &outlet, "k", "{}", 2), Claim::Joined));
    assert_eq!(refused(claim(&keys, &outlet, "k", "[]", 3)), Code::KeyReused);
    done(caller, "done");
    assert_eq!(sent(&mut replying), [of(3, "rejected"), of(1, "response"), of(2, "response")]);
    let Claim::Answered(caller, kept) = claim(&keys, &outlet, "k", "{}", 4) else { panic!("not answered") };
    assert!(kept.body.ends_with(b"\"data\":\"done\"}"));
    caller.repeat(&kept);
    assert_eq!(sent(&mut replying), [of(4, "response")]);
    assert_eq!(keys.state().deadlines.len(), 0);
}

#[test]
fn what_changes_what_is_done_tells_commands_apart_and_nothing_else() {
    let what = |headers: &[(&'static str, &'static str)]| What::new("call.x", "{}", headers.iter().copied());
    let one = what(&[("Pontoon-Action", "pay"), ("Pontoon-X", "1")]);
    assert!(one == what(&[("pontoon-x", "1"), ("pontoon-action", "pay")]));
    for other in [&[("Pontoon-Action", "refund"), ("Pontoon-X", "1")][..], &[("Pontoon-Action", "pay")], &[]]
    {
        assert!(one != what(other), "{other:?}");
    }
    assert!(What::new("a", "bc", [].into_iter()) != What::new("ab", "c", [].into_iter()));
}

#[test]
fn what_was_not_done_can_be_tried_again() {
    let (keys, (outlet, _replying)) = (keys(|_| {}), Outlet::new(16));
    first(&keys, &outlet, "k").refuse(&Error::disconnected("no"));
    drop(first(&keys, &outlet, "k").slot.take());
    drop(first(&keys, &outlet, "k"));
    // It is dropped without an answer, so that nobody knows.
    assert!(matches!(claim(&keys, &outlet, "k", "{}", 1), Claim::Answered(..)));
}

#[tokio::test]
async fn each_caller_waits_for_its_own_time() {
    let (keys, (outlet, mut replying)) = (keys(|_| {}), Outlet::new(16));
    let _expiry = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(keys.clone().expire()));
    let caller = first(&keys, &outlet, "k");
    for (reply, wait) in [(2, LONG), (3, Duration::from_millis(20)), (4, Duration::ZERO)] {
        let mut caller = tests::caller(&outlet, reply);
        caller.deadline = Instant::now() + wait;
        let what = What::new("call.x", "{}", [("Pontoon-Action", "a")].into_iter());
        assert!(matches!(keys.claim("k", what, caller), Claim::Joined));
    }
    for reply in [4, 3] {
        let one = timeout(LONG, replying.next()).await.expect("in time").expect("a reply");
        assert_eq!((one.subject, one.answer.status()), of(reply, "unknown"));
        assert_eq!(one.answer.error.as_ref().map(|(code, _)| *code), Some(504));
    }
    done(caller, "done");
    assert_eq!(sent(&mut replying), [of(1, "response"), of(2, "response")]);
}

#[test]
fn a_full_table_refuses_new_keys_and_forgets_no_young_one() {
    for change in [(|config: &mut Commands| config.idempotency_keys = 100) as fn(&mut Commands), |config| {
        config.idempotency_bytes = Size(100 * 1_500)
    }] {
        let (keys, (outlet, mut replying)) = (keys(change), Outlet::new(16));
        let mut number = 0;
        let full = loop {
            match claim(&keys, &outlet, &number.to_string(), "{}", 1) {
                Claim::First(caller) => done(caller, &"x".repeat(900)),
                other => break refused(other),
            }
            number += 1;
        };
        assert_eq!(full, Code::TooMany);
        assert!((80..=120).contains(&number), "{number}");
        assert!(matches!(claim(&keys, &outlet, "0", "{}", 1), Claim::Answered(..)));
        drop(sent(&mut replying));
        let state = keys.state();
        assert_eq!((state.entries.len(), state.order.len()), (number, number));
        assert!(state.bytes <= state.most_bytes);
    }
}

#[test]
fn a_large_answer_is_kept_without_its_data() {
    let (keys, (outlet, _replying)) =
        (keys(|config| config.idempotency_bytes = Size::kib(4)), Outlet::new(16));
    done(first(&keys, &outlet, "k"), &"x".repeat(10_000));
    let Claim::Answered(_, kept) = claim(&keys, &outlet, "k", "{}", 2) else { panic!("not answered") };
    assert_eq!((kept.status(), kept.error.as_ref().map(|(code, _)| *code)), ("response", Some(413)));
    assert!(kept.body.len() < 300);
}

#[test]
fn old_answers_make_room() {
    let keys = keys(|config| {
        config.idempotency_keys = 1;
        config.idempotency_time = pontoon_sdk::Span(Duration::ZERO);
    });
    let (outlet, _replying) = Outlet::new(16);
    for _ in 0..3 {
        done(first(&keys, &outlet, "k"), "done");
        done(first(&keys, &outlet, "another"), "done");
    }
    assert_eq!(keys.state().entries.len(), 1);
}

#[test]
fn a_key_has_a_length_and_few_wait_for_one() {
    let (keys, (outlet, _replying)) = (keys(|_| {}), Outlet::new(256));
    assert_eq!(refused(claim(&keys, &outlet, "", "{}", 1)), Code::BadBody);
    assert_eq!(refused(claim(&keys, &outlet, &"k".repeat(MAX_KEY + 1), "{}", 1)), Code::BadBody);
    let _first = first(&keys, &outlet, "k");
    for reply in 0..MAX_FOLLOWERS as u64 {
        assert!(matches!(claim(&keys, &outlet, "k", "{}", reply), Claim::Joined));
    }
    assert_eq!(refused(claim(&keys, &outlet, "k", "{}", 1)), Code::TooMany);
}
