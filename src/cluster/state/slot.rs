//! What a daemon knows of one instance of its configuration.

use std::time::Duration;

use crate::fence::Fences;

/// Why a running instance is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its lease has ended.
    Lost,
    /// Another member is to run it, and is ready.
    Moved,
}

/// An instance of the configuration.
#[derive(Default)]
pub(super) struct Slot {
    /// Whether it is still in the configuration.
    pub(super) configured: bool,
    /// `cluster.only`
    pub(super) only: Vec<String>,
    /// The member that should run it.
    pub(super) target: Option<String>,
    /// The lease, if this daemon has it.
    pub(super) lease: Option<Lease>,
    /// Something is under way over NATS.
    pub(super) busy: bool,
    /// No attempt to take the lease before this.
    pub(super) retry: Duration,
    /// Since when it is tried to take the lease.
    pub(super) wanted: Option<Duration>,
    /// Its owner has sent no heartbeats for too long.
    pub(super) orphaned: bool,
    /// Whether it runs here.
    pub(super) running: bool,
    /// Why it is to stop, if it is.
    pub(super) stop: Option<Stop>,
    /// It runs, and does not end its turn.
    pub(super) stuck: bool,
}

/// A lease that this daemon has.
pub(super) struct Lease {
    /// The revision of the entry in the bucket.
    pub(super) revision: u64,
    /// The revision that the last run of the instance began with.
    pub(super) used: u64,
    /// When the last renewal that was confirmed was sent.
    pub(super) renewed: Duration,
    /// When the last one was sent.
    pub(super) attempted: Duration,
    /// It is to be renewed before its time.
    pub(super) renews_now: bool,
    /// Until when the links may stay.
    pub(super) until: Duration,
    /// What ends with the lease.
    pub(super) fences: Fences,
}
