//! How many connections an instance begins to make at a time. A service has a queue for those that it has not accepted, often of 128:
//! what it drops because that is full, the system sends again after a second.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How many connections that are being made keep others waiting.
const MOST: usize = 64;
/// How long one that takes long keeps others waiting: a host that does not answer must not.
const SHARE: Duration = Duration::from_millis(250);

/// The connections that are being made.
#[derive(Debug)]
pub struct Dials(Semaphore);

impl Dials {
    /// Dials once there is room.
    pub async fn run<T>(&self, mut dial: impl Future<Output = T> + Unpin) -> T {
        let permit = self.0.acquire().await;
        if let Ok(dialled) = timeout(SHARE, &mut dial).await {
            return dialled;
        }
        drop(permit);
        dial.await
    }
}

impl Default for Dials {
    fn default() -> Self {
        Self(Semaphore::new(MOST))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use pontoon_testkit::eventually;

    use super::*;

    #[tokio::test]
    async fn so_many_are_made_at_a_time_and_those_that_hang_keep_others_waiting_for_a_share_only() {
        let (dials, begun) = (Dials::default(), Cell::new(0));
        let hang = || {
            let dial = async {
                begun.set(begun.get() + 1);
                pending::<()>().await;
            };
            dials.run(Box::pin(dial))
        };
        let mut all = Box::pin(join_all((0..MOST * 2 + 1).map(|_| hang())));
        assert!((&mut all).now_or_never().is_none());
        assert_eq!(begun.get(), MOST);
        tokio::select! {
            _ = &mut all => panic!("they hang"),
            () = eventually(Duration::from_secs(30), async || begun.get() == MOST * 2 + 1) => {}
        }
        assert_eq!(dials.run(Box::pin(async { 7 })).await, 7);
    }
}
