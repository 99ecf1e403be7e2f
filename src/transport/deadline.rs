//! Deadlines of a process that may be stopped and go on later, as by SIGSTOP, a debugger, or a machine without time for
//! it.
//!
//! When the process resumes, every timer has expired at once, before the runtime has polled the sockets. A deadline alone
//! would blame a peer for a time in which nothing could be read.

use std::pin::pin;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// A timer that fires this long after its deadline was late.
pub const LATE: Duration = Duration::from_millis(250);
/// Added to the deadline after a late timer: long enough for the runtime to poll its sockets.
pub const GRACE: Duration = Duration::from_millis(500);

/// What a future returns before a deadline. `None` if it has not returned by then, or soon after if the deadline was
/// noticed late.
pub async fn by<F: Future>(mut at: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    loop {
        if let Ok(output) = timeout_at(at, future.as_mut()).await {
            return Some(output);
        }
        let now = Instant::now();
        if now < at + LATE {
            // Lets the runtime poll its sockets once more.
            yield_now().await;
            return timeout_at(at, future.as_mut()).await.ok();
        }
        at = now + GRACE;
    }
}

/// The same, with a time from now on.
pub fn within<F: Future>(limit: Duration, future: F) -> impl Future<Output = Option<F::Output>> {
    by(Instant::now() + limit, future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_that_is_noticed_in_time_holds() {
        assert_eq!(within(Duration::from_millis(5), std::future::pending::<()>()).await, None);
        assert_eq!(within(Duration::ZERO, std::future::ready(1)).await, Some(1));
    }

    #[tokio::test]
    async fn a_deadline_that_is_noticed_late_is_followed_by_a_grace() {
        let late = Instant::now() - LATE * 2;
        // Ready only after the runtime has run once, like a socket after the process resumes.
        let future = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            "read"
        };
        assert_eq!(by(late, future).await, Some("read"));
        assert_eq!(by(late, std::future::pending::<()>()).await, None);
    }
}
