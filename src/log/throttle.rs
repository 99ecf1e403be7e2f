//! Bounds how often a line is logged that a flood from outside would repeat.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one line through in a period, and counts those between.
pub struct Throttle {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    count: u64,
}

impl Throttle {
    /// One line in each period.
    pub const fn new(period: Duration) -> Self {
        Self { period, state: Mutex::new(State { last: None, count: 0 }) }
    }

    /// Counts what has happened `times` more. Returns how often it has since the last line, if a line is due.
    pub fn count(&self, times: u64) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.count = state.count.saturating_add(times);
        let due = state.last.is_none_or(|last| last.elapsed() >= self.period);
        if !due || state.count == 0 {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_period_with_the_count_of_all_since() {
        let throttle = Throttle::new(Duration::from_secs(3600));
        assert_eq!(throttle.count(0), None);
        assert_eq!(throttle.count(3), Some(3));
        assert_eq!(throttle.count(1), None);
        let always = Throttle::new(Duration::ZERO);
        assert_eq!((always.count(1), always.count(2)), (Some(1), Some(2)));
    }
}
