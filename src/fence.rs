//! Whether an instance may act now: a deadline that its lease moves on, and that everything looks at which dials, writes to a
//! service or publishes. Without a lease it may always.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What is reported where something was not done because of a fence.
pub const NOT_CERTAIN: &str = "the lease of the instance is not certain: another daemon may own it now";

/// The deadline of a fence that stays closed.
const REVOKED: u64 = 1;

/// Until when an instance may act. Clones share the deadline; the default has none.
#[derive(Debug, Clone, Default)]
pub struct Fence(Option<Arc<AtomicU64>>);

/// The fences of one instance.
#[derive(Debug, Clone, Default)]
pub struct Fences {
    /// For dialling, and for writing to the service.
    pub service: Fence,
    /// For NATS.
    pub publish: Fence,
}

/// The time since the process began to count. A clock that never jumps, and goes on while the process is stopped.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl Fences {
    /// Closes both for good.
    pub fn revoke(&self) {
        self.service.revoke();
        self.publish.revoke();
    }
}

impl Fence {
    /// A fence that is open until then.
    pub fn until(deadline: Duration) -> Self {
        Self(Some(Arc::new(AtomicU64::new(microseconds(deadline)))))
    }

    /// Whether there is a deadline at all.
    pub fn is_fenced(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the instance may act now.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|deadline| microseconds(now()) < deadline.load(Ordering::Relaxed))
    }

    /// The same as a result, for what writes.
    ///
    /// # Errors
    /// If the instance may not act.
    pub fn check(&self) -> io::Result<()> {
        if self.is_open() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, NOT_CERTAIN))
        }
    }

    /// Moves the deadline on, unless the fence is revoked.
    pub fn extend(&self, deadline: Duration) {
        let later = |before: u64| (before != REVOKED).then_some(before.max(microseconds(deadline)));
        if let Some(shared) = &self.0 {
            let _ = shared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        }
    }

    /// Closes it for good.
    pub fn revoke(&self) {
        if let Some(deadline) = &self.0 {
            deadline.store(REVOKED, Ordering::Relaxed);
        }
    }

    /// Whether it is closed for good.
    pub fn is_revoked(&self) -> bool {
        self.0.as_ref().is_some_and(|deadline| deadline.load(Ordering::Relaxed) == REVOKED)
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_closes_at_its_deadline_and_a_revoked_one_stays_closed() {
        assert!(Fence::default().is_open());
        let hour = now() + Duration::from_secs(3600);
        let fence = Fence::until(now());
        let seen_elsewhere = fence.clone();
        assert!(!seen_elsewhere.is_open() && seen_elsewhere.check().is_err());
        fence.extend(hour);
        assert!(seen_elsewhere.is_open());
        // An older renewal that is confirmed late takes nothing back.
        fence.extend(now());
        assert!(seen_elsewhere.is_open() && !fence.is_revoked());
        fence.revoke();
        fence.extend(hour);
        assert!(!seen_elsewhere.is_open() && seen_elsewhere.is_revoked());
    }
}
