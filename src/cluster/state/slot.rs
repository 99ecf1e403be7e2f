//! What a daemon knows of one instance of its configuration.

use std::time::Duration;

use super::Stop;
use crate::fence::Fences;

/// An instance of the configuration.
#[derive(Default)]
pub struct Slot {
    /// Whether it is still in the configuration.
    pub configured: bool,
    /// `cluster.only`
    pub only: Vec<String>,
    /// The member that should run it.
    pub target: Option<String>,
    /// The lease, if this daemon has it.
    pub lease: Option<Lease>,
    /// Something is under way over NATS.
    pub busy: bool,
    /// No attempt to take the lease before this.
    pub retry: Duration,
    /// Since when it is tried to take the lease.
    pub wanted: Option<Duration>,
    /// Its owner has sent no heartbeats for too long.
    pub orphaned: bool,
    /// Whether it runs here.
    pub running: bool,
    /// Why it is to stop, if it is.
    pub stop: Option<Stop>,
    /// It runs, and does not end its turn.
    pub stuck: bool,
}

/// A lease that this daemon has.
pub struct Lease {
    /// The revision of the entry in the bucket.
    pub revision: u64,
    /// The revision that the last run of the instance began with.
    pub used: u64,
    /// When the last renewal that was confirmed was sent.
    pub renewed: Duration,
    /// When the last one was sent.
    pub attempted: Duration,
    /// It is to be renewed before its time.
    pub renews_now: bool,
    /// Until when the links may stay.
    pub until: Duration,
    /// What ends with the lease.
    pub fences: Fences,
}
