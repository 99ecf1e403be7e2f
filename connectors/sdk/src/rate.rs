//! A token bucket: so many requests in a time, at once where there were none for long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::units::Span;

/// How many requests are sent in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// This many: at once where none was sent for long, and evenly from then on.
    pub requests: u32,
    /// In this time.
    pub per: Span,
}

impl RateLimit {
    /// Whether anything would ever be sent; `pointer` is where the limit stands in the settings.
    ///
    /// # Errors
    /// `Config`, with what to write instead.
    pub fn check(&self, pointer: &str) -> Result<()> {
        if self.requests == 0 {
            let error = Error::config("requests is 0; write 1 or more");
            return Err(error.at(format!("{pointer}/requests")));
        }
        if self.per.0.is_zero() {
            let error = Error::config("per is 0; write a time such as \"1s\"");
            return Err(error.at(format!("{pointer}/per")));
        }
        Ok(())
    }
}

/// The bucket of one instance. It holds the time at which it is full again, and no tokens.
struct Bucket {
    /// How long a token takes to come back.
    interval: Duration,
    /// How far ahead the bucket may be drawn on.
    depth: Duration,
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full one.
    fn new(limit: RateLimit) -> Self {
        let interval = limit.per.0 / limit.requests.max(1);
        Self { interval, depth: interval * (limit.requests.max(1) - 1), full_at: None }
    }

    /// Takes a token, or says when there is one.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        if full_at.duration_since(now) > self.depth {
            return Err(full_at - self.depth);
        }
        self.full_at = Some(full_at + self.interval);
        Ok(())
    }
}

/// Limits how many commands a link sends: see [`crate::Connector::rate_limiter`]. Clones share one bucket.
#[derive(Clone)]
pub struct RateLimiter(Arc<Mutex<Bucket>>);

impl RateLimiter {
    /// A limiter with a full bucket.
    pub fn new(limit: RateLimit) -> Self {
        Self(Arc::new(Mutex::new(Bucket::new(limit))))
    }

    /// Takes a token for one command.
    ///
    /// # Errors
    /// When the next token is there.
    pub fn take(&self, now: Instant) -> Result<(), Instant> {
        self.bucket().take(now)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(requests: u32, seconds: u64) -> Bucket {
        Bucket::new(RateLimit { requests, per: Span::seconds(seconds) })
    }

    #[test]
    fn a_full_bucket_gives_all_at_once_and_then_one_by_one() {
        let (mut bucket, start) = (bucket(4, 8), Instant::now());
        for _ in 0..4 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        let next = start + Duration::from_secs(2);
        assert_eq!(bucket.take(start), Err(next));
        assert_eq!(bucket.take(next), Ok(()));
        assert_eq!(bucket.take(next), Err(next + Duration::from_secs(2)));
        let later = start + Duration::from_secs(100);
        assert_eq!((0..9).take_while(|_| bucket.take(later).is_ok()).count(), 4);
    }

    #[test]
    fn clones_of_a_limiter_share_one_bucket() {
        let limiter = RateLimiter::new(RateLimit { requests: 2, per: Span::seconds(10) });
        let (clone, start) = (limiter.clone(), Instant::now());
        assert_eq!((limiter.take(start), clone.take(start)), (Ok(()), Ok(())));
        assert!(limiter.take(start).is_err() && clone.take(start).is_err());
    }

    #[test]
    fn no_setting_makes_it_panic() {
        for (requests, seconds) in [(u32::MAX, 1), (1, 31_000_000), (u32::MAX, 31_000_000)] {
            let mut bucket = bucket(requests, seconds);
            let now = Instant::now();
            for _ in 0..1000 {
                let _ = bucket.take(now);
            }
        }
    }
}
