//! Refused connections, by address: one that guesses tokens is slowed, and no other is.
//!
//! Attempts of an address that has failed a few times are handled one after the other with growing pauses. The table is
//! bounded, and forgets what is old.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How many attempts may fail before the next waits.
const FREE: u32 = 5;
/// The first pause; it doubles with each failure.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);
/// How many attempts of an address may wait.
const WAITING: u32 = 4;
/// How long after its last failure an address is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const ADDRESSES: usize = 4_096;

/// The addresses that have failed lately.
#[derive(Default)]
pub(super) struct Attempts(RefCell<HashMap<IpAddr, Failures>>);

struct Failures {
    count: u32,
    last: Instant,
    /// When the next attempt may be handled.
    next: Instant,
}

impl Attempts {
    /// How long an attempt of this address waits before it is handled; `None` if too many wait already.
    pub(super) fn begin(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut table = self.0.borrow_mut();
        let Some(failures) = table.get_mut(&key(address)) else { return Some(Duration::ZERO) };
        if failures.is_forgotten(now) {
            table.remove(&key(address));
            return Some(Duration::ZERO);
        }
        let pause = failures.pause();
        let at = failures.next.max(now);
        let after = at.duration_since(now);
        if after > pause * WAITING {
            return None;
        }
        failures.next = at + pause;
        Some(after)
    }

    /// An attempt of this address has failed.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut table = self.0.borrow_mut();
        if table.len() >= ADDRESSES && !table.contains_key(&key(address)) {
            table.retain(|_, failures| !failures.is_forgotten(now));
            let oldest = table.iter().min_by_key(|(_, failures)| failures.last).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| table.len() >= ADDRESSES) {
                table.remove(&oldest);
            }
        }
        let failures = table.entry(key(address)).or_insert(Failures { count: 0, last: now, next: now });
        if failures.is_forgotten(now) {
            failures.count = 0;
        }
        failures.count += 1;
        failures.last = now;
        failures.next = failures.next.max(now + failures.pause());
    }
}

impl Failures {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= FORGOTTEN
    }

    fn pause(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(over) => PAUSE.saturating_mul(1 << over.min(16)).min(LONGEST),
        }
    }
}

/// One who has an address of IPv6 has a whole network of them.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_guesses_is_slowed_and_others_are_not() {
        let (attempts, mut now) = (Attempts::default(), Instant::now());
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..FREE {
            assert_eq!(attempts.begin(guesser, now), Some(Duration::ZERO));
            attempts.failed(guesser, now);
        }
        let mut handled = 0;
        for _ in 0..60_000 {
            if let Some(after) = attempts.begin(guesser, now) {
                attempts.failed(guesser, now + after);
                handled += 1;
            }
            now += Duration::from_millis(1);
        }
        assert!((5..=30).contains(&handled), "{handled} guesses in a minute");
        assert_eq!(attempts.begin(other, now), Some(Duration::ZERO));
        assert_eq!(attempts.begin(guesser, now + FORGOTTEN + LONGEST * WAITING), Some(Duration::ZERO));
    }

    #[test]
    fn those_that_wait_are_bounded_and_handled_in_turn() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let guesser = address("2001:db8::1");
        for _ in 0..FREE {
            attempts.failed(guesser, now);
        }
        // Every address of the network counts as one.
        let waits: Vec<_> =
            (0..20).map(|last| attempts.begin(address(&format!("2001:db8::{last}")), now)).collect();
        let turns: Vec<_> = (1..=WAITING).map(|turn| Some(PAUSE * turn)).collect();
        assert_eq!(waits[..turns.len()], turns);
        assert!(waits[turns.len()..].iter().all(Option::is_none), "{waits:?}");
        assert_eq!(attempts.begin(address("2001:db8:0:1::1"), now), Some(Duration::ZERO));
    }

    #[test]
    fn the_table_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..2 * u32::try_from(ADDRESSES).unwrap() {
            attempts.failed(IpAddr::V4(number.into()), now + Duration::from_millis(number.into()));
        }
        assert_eq!(attempts.0.borrow().len(), ADDRESSES);
    }
}
