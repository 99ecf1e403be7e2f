//! What is on the disk of a spool besides its records, and what an earlier run has left there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::disk::{Directory, Entry, Log, Place, frames};
use crate::envelope::Record;
use crate::settings;

/// The first byte of a record, and that of the state.
pub(super) const RECORD: u8 = b'R';
const STATE: u8 = b'S';
/// How many records take the place of earlier ones, and how often something is damaged, at the most.
const MAX_REPLACED: usize = 65_536;
/// How many epochs of earlier runs are known.
const MAX_EPOCHS: usize = 64;
/// How many records there are from one known place to the next.
const STEP: u64 = 256;

/// The state of a spool, as its log has it behind every batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The epoch of the run.
    pub(super) epoch: u64,
    /// The number of its last record.
    pub(super) newest: u64,
    /// The number of its oldest record that is not confirmed, or the next one.
    pub(super) front: u64,
    /// Until when all events of the instance are accounted for.
    pub(super) covered: Option<OffsetDateTime>,
    /// What the stream had confirmed.
    pub(super) position: Option<Position>,
    /// Epochs of records that were moved to another, and that.
    pub(super) moved: Vec<(u64, u64)>,
    /// Records before this number carry that everything before them may be missing.
    pub(super) reset: u64,
    /// Epochs of earlier runs.
    pub(super) epochs: Vec<u64>,
}

/// What a stream had confirmed: all records before a number, up to a sequence of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The stream.
    pub stream: String,
    /// When it was created.
    pub created: OffsetDateTime,
    /// Its sequence up to which everything was accounted for.
    pub accounted: u64,
    /// All records before this number were confirmed then.
    pub front: u64,
}

/// Records that are on the disk only: those behind the ones in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spilled {
    /// Where they begin.
    pub(super) from: Place,
    /// The number of the last one.
    pub(super) through: u64,
    /// How many there are, and their bytes.
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// Records that are lost: those between two others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Damage {
    /// Epoch and number of the record before, and when it was recorded.
    pub(super) after: Option<((u64, u64), OffsetDateTime)>,
    /// The number of the record behind, and when that was recorded.
    pub(super) before: (u64, OffsetDateTime),
}

/// What an earlier run has left on the disk.
pub struct Left {
    pub(super) log: Log,
    pub(super) saved: Option<Saved>,
    /// Where its records are.
    pub(super) spilled: Option<Spilled>,
    /// Records that take the place of earlier ones, by number.
    pub(super) replaced: BTreeMap<u64, Record>,
    pub(super) damaged: Vec<Damage>,
    /// How often something was damaged, needed or not.
    pub(super) damages: u64,
    /// The epochs of its records.
    pub(super) epochs: BTreeSet<u64>,
}

impl Saved {
    /// Appends it as a record of the log.
    pub(super) fn push(&self, to: &mut Vec<u8>) {
        frames::push(to, |to| {
            to.push(STATE);
            // Writing to memory cannot fail.
            let _ = postcard::to_io(self, to);
        });
    }

    /// The epochs of this run's predecessors.
    pub(super) fn lineage(&self) -> Vec<u64> {
        let mut epochs = self.epochs.clone();
        epochs.extend(self.moved.iter().map(|(_, to)| *to));
        epochs.push(self.epoch);
        epochs.sort_unstable();
        epochs.dedup();
        epochs.split_off(epochs.len().saturating_sub(MAX_EPOCHS))
    }
}

/// What is found while the log is read for the first time.
#[derive(Default)]
struct Search {
    saved: Option<Saved>,
    last: Option<((u64, u64), OffsetDateTime)>,
    /// Something was damaged behind `last`, and whether a state of the same run came since.
    torn: Option<bool>,
    damaged: Vec<Damage>,
    damages: u64,
    replaced: BTreeMap<u64, Record>,
    /// Places of some records: number, place, and how many records and bytes come before.
    steps: Vec<(u64, Place, u64, usize)>,
    records: u64,
    bytes: usize,
    epochs: BTreeSet<u64>,
}

impl Left {
    /// Reads the spool in this folder. Waits for the disk.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(directory: Arc<Directory>, settings: &settings::Spool) -> io::Result<Self> {
        let size = u64::try_from(settings.size.0).unwrap_or(u64::MAX);
        let mut search = Search::default();
        let log = Log::open(directory, size, settings.durability, |entry| search.found(entry))?;
        search.end();
        let Search { saved, damaged, damages, mut replaced, steps, records, bytes, last, epochs, .. } =
            search;
        let front = saved.as_ref().map_or(0, |saved| saved.front);
        replaced.retain(|number, _| *number >= front);
        let first = steps.partition_point(|(number, ..)| *number <= front).saturating_sub(1);
        let spilled =
            steps.get(first).zip(last).map(|((_, from, before, bytes_before), ((_, through), _))| Spilled {
                from: *from,
                through,
                events: usize::try_from(records - before).unwrap_or(usize::MAX),
                bytes: bytes - bytes_before,
            });
        let spilled = spilled.filter(|spilled| spilled.through >= front);
        let damaged = damaged.into_iter().filter(|damage| damage.before.0 > front).collect();
        Ok(Self { log, saved, spilled, replaced, damaged, damages, epochs })
    }
}

impl Search {
    fn found(&mut self, entry: Entry<'_>) -> Option<u64> {
        match entry {
            Entry::Damaged => {
                self.torn.get_or_insert(false);
                None
            }
            Entry::Record(place, bytes) => match bytes.split_first() {
                Some((&RECORD, record)) => self.record(place, record),
                Some((&STATE, state)) => self.state(state),
                _ => self.found(Entry::Damaged),
            },
        }
    }

    fn record(&mut self, place: Place, bytes: &[u8]) -> Option<u64> {
        let Some(record) = Record::restore(bytes) else { return self.found(Entry::Damaged) };
        let (number, until) = (record.sequence, record.covered_until());
        let newest = self.last.map_or(0, |((_, newest), _)| newest);
        if number <= newest {
            // It takes the place of an earlier one.
            if self.replaced.len() < MAX_REPLACED {
                self.replaced.insert(number, record);
            }
            return None;
        }
        if self.torn.take().is_some() {
            self.damages += 1;
            if number > newest + 1 && self.damaged.len() < MAX_REPLACED {
                self.damaged.push(Damage { after: self.last, before: (number, until) });
            }
        }
        if self.records.is_multiple_of(STEP) {
            self.steps.push((number, place, self.records, self.bytes));
        }
        if self.epochs.len() < MAX_EPOCHS {
            self.epochs.insert(record.epoch);
        }
        self.records += 1;
        self.bytes += record.size();
        self.last = Some((record.id(), until));
        Some(number)
    }

    fn state(&mut self, bytes: &[u8]) -> Option<u64> {
        let Ok(saved) = postcard::from_bytes::<Saved>(bytes) else { return self.found(Entry::Damaged) };
        let is_same_run = self.saved.as_ref().is_none_or(|before| before.epoch == saved.epoch);
        // What a crash has torn at the end was never claimed, and a later run has gone on without it.
        self.torn = self.torn.filter(|_| is_same_run).map(|_| true);
        let newest = saved.newest;
        self.saved = Some(saved);
        Some(newest)
    }

    /// The log ends: what is torn there is cut off, unless more was written behind it.
    fn end(&mut self) {
        let Some(saved) = self.saved.as_ref().filter(|_| self.torn == Some(true)) else { return };
        self.damages += 1;
        let newest = self.last.map_or(0, |((_, newest), _)| newest);
        if saved.newest > newest {
            let until = saved.covered.unwrap_or_else(OffsetDateTime::now_utc);
            self.damaged.push(Damage { after: self.last, before: (saved.newest + 1, until) });
        }
    }
}
