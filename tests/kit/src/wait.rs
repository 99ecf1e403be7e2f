//! Waiting for a condition with a deadline.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(5);

/// Waits until the condition holds.
///
/// # Panics
/// If it does not hold within `deadline`; the message names the caller's line.
#[track_caller]
pub fn eventually(deadline: Duration, condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        let mut condition = condition;
        wait(place, deadline, async || condition().await.then_some(())).await;
    }
}

/// Waits until there is a value, and returns it.
///
/// # Panics
/// If there is none within `deadline`; the message names the caller's line.
#[track_caller]
pub fn until_some<T>(deadline: Duration, value: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    wait(Location::caller(), deadline, value)
}

async fn wait<T>(
    place: &'static Location<'static>,
    deadline: Duration,
    mut value: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        // A condition that hangs is a condition that does not hold.
        let got = tokio::time::timeout_at(end.max(Instant::now() + POLL), value()).await;
        if let Ok(Some(value)) = got {
            return value;
        }
        assert!(Instant::now() < end, "{place}: this did not come true within {deadline:?}");
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_may_come_true_late() {
        let mut tries = 0;
        let got = until_some(Duration::from_secs(5), async || {
            tries += 1;
            (tries == 3).then_some("third")
        });
        assert_eq!(got.await, "third");
    }

    #[tokio::test]
    #[should_panic(expected = "wait.rs")]
    async fn a_condition_that_hangs_is_given_up_with_its_place() {
        eventually(Duration::from_millis(20), async || std::future::pending().await).await;
    }
}
