//! What is known of the disk of a spool, in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::saved::{Saved, Spilled};
use crate::disk::Log;
use crate::envelope::Record;
use crate::settings::{self, Durability};

/// So many bytes are written at once, without a wait for more.
pub(super) const GROUP: usize = 64 * 1024;
/// Reading waits for the disk once so many bytes of events are not written: this is what a kill costs at the most.
const UNWRITTEN: usize = 2 * GROUP;
/// The same where they are synced, too, which takes longer.
const UNSYNCED: usize = 8 * GROUP;

/// The disk of a spool.
pub(super) struct Disk {
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) settings: settings::Spool,
    /// What is saved with the next batch; its numbers and times are set then.
    pub(super) saved: Saved,
    /// What was saved last, and when.
    pub(super) last_saved: Saved,
    pub(super) saved_at: Instant,
    /// Every record up to this number is on the disk, or was confirmed.
    pub(super) written: u64,
    /// Records on the disk only, behind those in memory.
    pub(super) spilled: Option<Spilled>,
    /// Records in memory behind those.
    pub(super) tail: VecDeque<Record>,
    pub(super) tail_bytes: usize,
    /// The number of the last record that was read back.
    pub(super) loaded: u64,
    /// Records that take the place of those on the disk with their numbers.
    pub(super) replaced: BTreeMap<u64, Record>,
    /// Records in memory that have changed since they were written.
    pub(super) changed: BTreeSet<u64>,
    /// Of these, those that were written again, behind later ones.
    pub(super) behind: BTreeSet<u64>,
    /// What is known of the records of earlier runs: see `Spool::confirm_left`.
    pub(super) confirmed: Confirmed,
    /// The bytes of the records in memory that are neither written nor confirmed.
    pub(super) unwritten_bytes: usize,
    /// Since when a write is under way.
    pub(super) busy_since: Option<Instant>,
    /// Why it cannot be written just now.
    pub(super) failed: Option<String>,
    /// Everything is to be written now: the instance ends.
    pub(super) closing: bool,
    /// The bytes and the segments of the log.
    pub(super) used: (u64, usize),
}

/// Records of earlier runs that the stream holds.
#[derive(Default)]
pub(super) struct Confirmed {
    pub(super) through: u64,
    pub(super) ids: BTreeSet<(u64, u64)>,
}

impl Disk {
    /// Whether the records in memory are the last ones.
    pub(super) fn is_last(&self) -> bool {
        self.spilled.is_none() && self.tail.is_empty()
    }

    /// The number of the last record behind those in memory, if there is one.
    pub(super) fn last(&self) -> Option<u64> {
        self.tail.back().map(|record| record.sequence).or(self.spilled.map(|spilled| spilled.through))
    }

    /// The bytes of records behind those in memory.
    pub(super) fn bytes(&self) -> usize {
        self.tail_bytes + self.spilled.map_or(0, |spilled| spilled.bytes)
    }

    /// How many bytes of records may be kept.
    pub(super) fn room(&self) -> usize {
        // The segments at both ends are there in part only.
        if self.failed.is_some() { usize::MAX } else { self.settings.size.0 - self.settings.size.0 / 8 }
    }

    /// Whether so much was read and is not written yet that nothing more is read.
    pub(super) fn is_behind(&self) -> bool {
        let most = if self.settings.durability == Durability::Power { UNSYNCED } else { UNWRITTEN };
        self.failed.is_none() && self.unwritten_bytes >= most
    }

    /// Bounds and durability from now on.
    pub(super) fn reconfigure(&mut self, settings: &settings::Spool) {
        self.settings = settings.clone();
    }
}
