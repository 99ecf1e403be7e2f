//! The name of a link, what is known of it, and how many there may be.

use std::fmt;
use std::sync::Arc;

/// Names one link of an instance: `main`, a chat, a task, a title.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey(Arc<str>);

impl LinkKey {
    /// A key with this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Arc::from(name.as_ref()))
    }

    /// The key of the only link of an instance, `main`.
    pub fn main() -> Self {
        Self::new("main")
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Its name.
    pub key: LinkKey,
    /// What it does: `ready`, `connecting`, `waiting`, …, as on the state subject.
    pub phase: &'static str,
    /// Why it is so, as text.
    pub detail: Option<String>,
}

/// Bounds on the links that [`crate::Route::OnDemand`] opens. Without them, only the daemon's own hold (`transport.max_links`,
/// `commands.max_in_flight`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDemandLimits {
    /// How many are open at a time. One more waits, with its commands, until another ends; one that is idle
    /// ([`crate::Outbox::idle`]) is ended for it.
    pub links: usize,
    /// How many commands wait for one link. More are refused with 429.
    pub commands: usize,
    /// How many bytes their bodies have together. More are refused with 429; one alone may have more.
    pub bytes: usize,
}

impl Default for OnDemandLimits {
    fn default() -> Self {
        Self { links: usize::MAX, commands: usize::MAX, bytes: usize::MAX }
    }
}
