//! What the service saw of connections: how long an instance had two at a time, and what came over one that was not its last.

use std::time::{Duration, Instant};

use pontoon_testkit::{Lifetime, Received};

/// A time in which an instance had two connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overlap {
    /// When the second one was opened.
    pub(super) began: Instant,
    pub(super) took: Duration,
}

/// The overlaps of connections of the same instance, which is their `uid`. Those that are open are so until `now`.
pub(super) fn overlaps(lifetimes: &[Lifetime], now: Instant) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (place, later) in lifetimes.iter().enumerate() {
        let earlier = lifetimes[..place].iter().filter(|earlier| is_same(earlier, later));
        let closed = earlier.map(|earlier| earlier.closed.unwrap_or(now)).max();
        let end = closed.map(|closed| closed.min(later.closed.unwrap_or(now)));
        if let Some(took) = end.and_then(|end| end.checked_duration_since(later.opened)) {
            found.push(Overlap { began: later.opened, took });
        }
    }
    found
}

/// The text messages that came over a connection when the same instance had a later one.
pub(super) fn late_writes<'a>(lifetimes: &[Lifetime], received: &'a [Received]) -> Vec<&'a Received> {
    let is_late = |message: &&Received| {
        let (earlier, later) = lifetimes.split_at(message.connection + 1);
        let replaced = |one: &Lifetime| is_same(&earlier[message.connection], one) && one.opened < message.at;
        message.message.is_text() && later.iter().any(replaced)
    };
    received.iter().filter(is_late).collect()
}

fn is_same(one: &Lifetime, other: &Lifetime) -> bool {
    one.request.parameter("uid") == other.request.parameter("uid")
}

#[test]
fn two_connections_of_an_instance_are_found_and_what_the_first_one_sends_then() {
    use pontoon_testkit::Request;
    let start = Instant::now();
    let at = |second: u64| start + Duration::from_secs(second);
    let lifetime = |uid: &str, opened: u64, closed: Option<u64>| {
        let query = vec![("uid".to_owned(), uid.to_owned())];
        let request = Request { path: "/ws".to_owned(), query, headers: Vec::new() };
        Lifetime { request, opened: at(opened), closed: closed.map(at) }
    };
    let apart = [lifetime("a", 0, Some(2)), lifetime("b", 1, None), lifetime("a", 3, None)];
    assert_eq!(overlaps(&apart, at(9)), []);
    let both = [lifetime("a", 0, Some(5)), lifetime("b", 1, None), lifetime("a", 3, None)];
    assert_eq!(overlaps(&both, at(9)), [Overlap { began: at(3), took: Duration::from_secs(2) }]);
    let message = |connection, second| Received { connection, at: at(second), message: "x".into() };
    let received = [message(0, 2), message(0, 4), message(1, 4), message(2, 4)];
    let late = late_writes(&both, &received);
    assert_eq!(late.len(), 1);
    assert_eq!((late[0].connection, late[0].at), (0, at(4)));
}
