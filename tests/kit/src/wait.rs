//! Waiting for a condition with a deadline.

use std::convert::Infallible;
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
        wait(place, deadline, async || condition().await.then_some(()).ok_or_else(String::new)).await;
    }
}

/// Waits until there is a value, and returns it.
///
/// # Panics
/// If there is none within `deadline`; the message names the caller's line.
#[track_caller]
pub fn until_some<T>(deadline: Duration, value: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let place = Location::caller();
    async move {
        let mut value = value;
        wait(place, deadline, async || value().await.ok_or_else(String::new)).await
    }
}

/// Waits until there is a value, and returns it. The error is what is there in its place, for people.
///
/// # Panics
/// If there is none within `deadline`; the message names the caller's line, and has the last error.
#[track_caller]
pub fn until_ok<T>(
    deadline: Duration,
    value: impl AsyncFnMut() -> Result<T, String>,
) -> impl Future<Output = T> {
    wait(Location::caller(), deadline, value)
}

/// Does something again and again, with a pause behind each time, for what cannot be done once: what it is for may not be
/// there yet. To be selected against what ends it.
pub async fn repeat(pause: Duration, mut action: impl AsyncFnMut()) -> Infallible {
    loop {
        action().await;
        sleep(pause).await;
    }
}

async fn wait<T>(
    place: &'static Location<'static>,
    deadline: Duration,
    mut value: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let mut error = String::new();
    let end = Instant::now() + deadline;
    loop {
        // A condition that hangs is a condition that does not hold.
        let got = tokio::time::timeout_at(end.max(Instant::now() + POLL), value()).await;
        match got {
            Ok(Ok(value)) => return value,
            Ok(Err(found)) => error = found,
            Err(_) => {}
        }
        assert!(Instant::now() < end, "{place}: this did not come true within {deadline:?} {error}");
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
