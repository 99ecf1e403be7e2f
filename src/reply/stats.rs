//! Figures of each operation, as the micro service shows them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// Figures of each operation, as the micro service shows them.
#[derive(Default)]
pub struct Stats(RefCell<BTreeMap<&'static str, Figures>>);

/// Figures of one operation.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Commands that ended.
    pub requests: u64,
    /// How many of them with an error.
    pub errors: u64,
    /// The last error.
    pub last_error: String,
    /// Time from command to answer, summed.
    pub nanoseconds: u64,
}

impl Stats {
    pub(crate) fn count(&self, operation: &'static str, took: Duration, error: Option<(u16, &str)>) {
        let mut all = self.0.borrow_mut();
        let figures = all.entry(operation).or_default();
        figures.requests += 1;
        let spent = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        figures.nanoseconds = figures.nanoseconds.saturating_add(spent);
        if let Some((code, text)) = error {
            figures.errors += 1;
            figures.last_error = format!("{code}:{text}");
        }
    }

    /// The figures of an operation so far.
    pub fn figures(&self, operation: &str) -> Figures {
        self.0.borrow().get(operation).cloned().unwrap_or_default()
    }
}
