//! Jittered delays between attempts: full jitter, so that many daemons that lose one server do not come back as one.

use std::time::Duration;

use rand::Rng as _;

/// A schedule: every delay is drawn between nothing and a ceiling that doubles up to a cap.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

/// Between attempts to reach a service.
pub const LINK: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30) };
/// Between attempts to reach NATS.
pub const NATS: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(4) };
/// Between attempts to reach NATS with credentials that were refused, on top of a pause.
pub const NATS_REFUSED: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(30) };
/// Between attempts with credentials that were refused, or at an address that is not the service's.
pub const REFUSED: Duration = Duration::from_secs(300);

impl Backoff {
    /// The delay before this attempt, counted from 1.
    pub fn delay(&self, attempt: usize) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        rand::rng().random_range(Duration::ZERO..=ceiling)
    }
}

/// A slow delay around [`REFUSED`], or the service's `Retry-After` if that is longer, capped at an hour.
pub fn slow(retry_after: Option<Duration>) -> Duration {
    let jittered = rand::rng().random_range(REFUSED.mul_f64(0.8)..=REFUSED.mul_f64(1.2));
    retry_after.map_or(jittered, |wanted| wanted.max(jittered).min(Duration::from_secs(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_under_a_ceiling_that_doubles() {
        for attempt in 1..=100 {
            let ceiling = Duration::from_millis(500 << (attempt - 1).min(6)).min(Duration::from_secs(30));
            for _ in 0..50 {
                assert!(LINK.delay(attempt) <= ceiling);
            }
        }
        assert!(LINK.delay(usize::MAX) <= Duration::from_secs(30));
    }

    #[test]
    fn after_a_refusal_attempts_are_slow() {
        assert!(slow(None) >= Duration::from_secs(240));
        assert_eq!(slow(Some(Duration::from_secs(1200))), Duration::from_secs(1200));
        assert_eq!(slow(Some(Duration::from_secs(1_000_000))), Duration::from_secs(3600));
    }
}
