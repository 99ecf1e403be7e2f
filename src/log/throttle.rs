//! Log lines on what may happen very often: one in a while, with a count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

/// The least time between two lines on what others can make happen as often as they like.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes one kind of line, at most once in a while: once a second by default.
#[derive(Clone)]
pub struct Throttle {
    pause: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When the next line may be written.
    next: Option<Instant>,
    /// What happened since the last line.
    count: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::every(PAUSE)
    }
}

impl Throttle {
    /// One line in this time, at most.
    pub fn every(pause: Duration) -> Self {
        Self { pause, state: Arc::default() }
    }

    /// Counts one more: see [`Throttle::log_many`].
    pub fn log(&self, line: impl FnOnce(u64) + Send + 'static) {
        self.log_many(1, line);
    }

    /// Counts so many more, and has `line` write how many there were since the last line: now, or with all that come
    /// meanwhile when the pause is over. Called within a runtime of tokio.
    pub fn log_many(&self, times: u64, line: impl FnOnce(u64) + Send + 'static) {
        if times == 0 {
            return;
        }
        let mut state = self.state();
        let is_first = state.count == 0;
        state.count = state.count.saturating_add(times);
        let now = Instant::now();
        match state.next.filter(|next| *next > now) {
            None => {
                let count = state.begin(now + self.pause);
                drop(state);
                line(count);
            }
            // The first of those that wait brings the others along.
            Some(next) if is_first => {
                drop(state);
                let throttle = self.clone();
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(async move {
                        sleep_until(next).await;
                        let count = throttle.state().begin(Instant::now() + throttle.pause);
                        line(count);
                    });
                }
            }
            Some(_) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins a pause up to `next`; returns what is to be written now.
    fn begin(&mut self, next: Instant) -> u64 {
        self.next = Some(next);
        std::mem::take(&mut self.count)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn many_at_once_are_two_lines_and_all_are_counted() {
        let (lines, mut written) = mpsc::unbounded_channel();
        let throttle = Throttle::default();
        for _ in 0..1_000 {
            let lines = lines.clone();
            throttle.log(move |count| lines.send(count).unwrap());
        }
        assert_eq!(written.recv().await, Some(1));
        assert_eq!(written.recv().await, Some(999));
        throttle.log(move |count| lines.send(count).unwrap());
        assert_eq!(written.recv().await, Some(1));
    }
}
