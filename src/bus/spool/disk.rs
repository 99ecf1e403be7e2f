//! A spool on disk. Records are written behind the ones before them, in batches, by a thread that may wait; those that NATS
//! confirms meanwhile need not be written. Reading waits while too much of what was read is neither written nor confirmed:
//! that is what a kill costs. While NATS is away and `delivery.buffer` is half full, records are on the disk
//! only, and are read back in their order.
//!
//! If the disk fails or hangs, records stay in memory, within `delivery.buffer`, and are written once it works again.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::saved::{Left, RECORD, Saved, Spilled};
use super::state::State;
use super::storage::{Confirmed, Disk, GROUP};
use super::{READ_WITHIN, Spool};
use crate::disk::{Batch, Entry, Log, Place, frames};
use crate::envelope::{Gap, Record, Start};
use crate::metrics::GapReason;
use crate::settings;

/// How many numbers are left out behind those that an earlier run has written: what it published without that it was
/// written has some of them.
const UNWRITTEN: u64 = 1 << 20;
/// How many bytes are written at once, about.
const BATCH: usize = 256 * 1024;
/// How long events wait for others that are written with them. Most of them are confirmed meanwhile, and need not be.
const GATHER: Duration = Duration::from_millis(5);
/// How often the state is written if no event is.
const STATE: Duration = Duration::from_secs(1);
/// How long publishing waits for the first write.
const INTRODUCED: Duration = Duration::from_secs(5);
/// How long the disk is left alone after an error.
const RETRY: Duration = Duration::from_secs(1);

/// What is done on a thread that may wait.
struct Job {
    batch: Batch,
    saved: Saved,
    /// Every record up to this number is on the disk then.
    written: u64,
    changed: Vec<u64>,
    settings: settings::Spool,
    /// Where to read back from, and how many bytes.
    load: Option<(Place, usize)>,
}

/// What became of it.
struct Done {
    /// Where the batch begins.
    written: io::Result<Place>,
    /// What was read back, and where to go on.
    loaded: io::Result<(Vec<Record>, Option<Place>)>,
    used: (u64, usize),
}

impl Spool {
    /// Keeps events on the disk, too, and goes on with those that an earlier run has left there. To be called before the
    /// first event is offered.
    pub fn keep_on_disk(&self, left: Left) {
        let Left { log, saved, mut spilled, mut replaced, damaged, damages, epochs } = left;
        let before = saved.unwrap_or_default();
        let confirmed = before.position.as_ref().map_or(0, |position| position.front.saturating_sub(1));
        let newest = before.newest.max(confirmed).max(spilled.map_or(0, |spilled| spilled.through));
        let newest = if newest > 0 { newest + UNWRITTEN } else { 0 };
        let covered = before.covered.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        self.envelope.continue_after((before.epoch, newest), covered);
        self.metrics.spool_damaged.increment(damages);
        for damage in damaged {
            // Without a record before, the number behind shows where it was.
            let behind = (before.epoch, damage.before.0.saturating_sub(1));
            let at = damage.after.map_or(behind, |((epoch, number), _)| (epoch, number + 1));
            let from = damage.after.map_or(Start::Unknown, |(_, time)| Start::At(time));
            let gap = Gap { to: damage.before.1, ..Gap::new(GapReason::SpoolDamaged, None, from) };
            self.metrics.gap(gap.reason).increment(1);
            replaced.entry(at.1).or_insert_with(|| self.envelope.gap_at(at, gap));
        }
        let mut state = self.state.borrow_mut();
        let used = log.size();
        let loaded = before.front.saturating_sub(1);
        if let Some(last) = replaced.keys().next_back().copied() {
            let from = log.end();
            let spilled = spilled.get_or_insert(Spilled { from, through: last, events: 0, bytes: 0 });
            spilled.through = spilled.through.max(last);
        }
        let epochs = before.lineage().into_iter().chain(epochs).filter(|epoch| *epoch > 0).collect();
        let saved = Saved { epochs, epoch: self.envelope.epoch(), ..before.clone() };
        state.newest = (newest, covered);
        state.previous_on_disk = before.covered.map(|covered| covered - READ_WITHIN);
        state.disk = Some(Box::new(Disk {
            log: Arc::new(Mutex::new(log)),
            settings: state.delivery.spool.clone(),
            saved,
            last_saved: before,
            saved_at: Instant::now(),
            written: newest,
            spilled,
            tail: VecDeque::new(),
            tail_bytes: 0,
            loaded,
            replaced,
            changed: BTreeSet::new(),
            behind: BTreeSet::new(),
            confirmed: Confirmed::default(),
            unwritten_bytes: 0,
            busy_since: None,
            failed: None,
            closing: false,
            used,
        }));
        drop(state);
        self.work.notify_one();
    }

    /// Writes and reads back what has to be, without end.
    pub async fn work_on_disk(&self) {
        if self.state.borrow().disk.is_none() {
            return std::future::pending().await;
        }
        loop {
            let _ = timeout(STATE, self.work.notified()).await;
            self.gather().await;
            while let Some((log, job)) = self.next_job() {
                let run = move || (job.run(&mut log.lock().unwrap_or_else(PoisonError::into_inner)), job);
                let worked = match spawn_blocking(run).await {
                    Ok((done, job)) => self.apply(job, done),
                    Err(error) => self.fail(&error.to_string()),
                };
                self.freed.notify_waiters();
                if !worked {
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Gives other events time to come that are written at once.
    async fn gather(&self) {
        let is_urgent = {
            let state = self.state.borrow();
            let Some(disk) = &state.disk else { return };
            disk.closing || disk.wants_load(&state) || disk.unwritten_bytes >= GROUP
        };
        if !is_urgent {
            let _ = timeout(GATHER, self.work.notified()).await;
        }
    }

    /// Gives up waiting for a write that takes longer than reading may pause: until it ends, events are in memory.
    pub(super) fn judge_disk(&self) {
        let hangs = {
            let state = self.state.borrow();
            let since =
                state.disk.as_ref().filter(|disk| disk.failed.is_none()).and_then(|disk| disk.busy_since);
            since.is_some_and(|since| since.elapsed() >= state.delivery.max_pause.0)
        };
        if hangs {
            self.fail("a write has not ended within delivery.max_pause");
        }
    }

    fn next_job(&self) -> Option<(Arc<Mutex<Log>>, Job)> {
        let state = &mut *self.state.borrow_mut();
        let mut disk = state.disk.take()?;
        let job = disk.next_job(state);
        disk.busy_since = job.as_ref().map(|_| Instant::now());
        let job = job.map(|job| (disk.log.clone(), job));
        state.disk = Some(disk);
        job
    }

    /// Returns whether all of it worked.
    fn apply(&self, job: Job, done: Done) -> bool {
        let Done { written, loaded, used } = done;
        let mut worked = true;
        if let Err(error) = &written {
            worked = self.fail(&error.to_string());
        }
        let mut state = self.state.borrow_mut();
        let Some(mut disk) = state.disk.take() else { return worked };
        disk.used = used;
        match written {
            Ok(at) => {
                if disk.failed.take().is_some() {
                    tracing::info!(instance = self.instance, "the spool is written to the disk again");
                }
                disk.written = job.written;
                (disk.last_saved, disk.saved_at) = (job.saved, Instant::now());
                disk.behind.extend(job.changed);
                self.refill(&mut state, &mut disk);
                disk.spill(at);
                disk.unwritten_bytes = disk.unwritten_bytes(&state);
            }
            Err(_) => disk.changed.extend(job.changed),
        }
        match loaded {
            _ if job.load.is_none() => {}
            Ok((records, next)) => {
                for record in records {
                    self.restore(&mut state, &mut disk, record);
                }
                let through = disk.spilled.map_or(0, |spilled| spilled.through);
                match next.filter(|_| disk.loaded < through) {
                    Some(place) => disk.spilled.iter_mut().for_each(|spilled| spilled.from = place),
                    None => self.end_spilled(&mut state, &mut disk, through),
                }
            }
            Err(error) => {
                tracing::error!(instance = self.instance, %error, "events cannot be read back from the disk");
                self.metrics.spool_errors.increment(1);
                let through = disk.spilled.map_or(0, |spilled| spilled.through);
                self.end_spilled(&mut state, &mut disk, through);
            }
        }
        self.refill(&mut state, &mut disk);
        state.disk = Some(disk);
        self.filled.notify_one();
        self.after_removal(state);
        worked
    }

    fn fail(&self, error: &str) -> bool {
        self.metrics.spool_errors.increment(1);
        let state = &mut *self.state.borrow_mut();
        if let Some(disk) = &mut state.disk
            && disk.failed.replace(error.to_owned()).is_none()
        {
            tracing::error!(
                instance = self.instance,
                error,
                "the spool cannot be written to the disk; events are kept in memory until it can"
            );
        }
        false
    }

    /// A record comes back from the disk, behind those in memory; the ones that take the place of others come with it.
    fn restore(&self, state: &mut State, disk: &mut Disk, record: Record) {
        let number = record.sequence;
        if let Some(spilled) = &mut disk.spilled {
            spilled.events = spilled.events.saturating_sub(1);
            spilled.bytes = spilled.bytes.saturating_sub(record.size());
        }
        if number <= disk.loaded {
            return;
        }
        let later = disk.replaced.split_off(&(number + 1));
        let before = std::mem::replace(&mut disk.replaced, later);
        let is_replaced = before.contains_key(&number);
        for record in before.into_values().chain((!is_replaced).then_some(record)) {
            if let Some(identity) = record.identity {
                state.recent.remember(identity);
            }
            self.adopt(state, disk, record);
        }
        disk.loaded = number;
    }

    /// Nothing is left on the disk only. What was there and could not be read is lost.
    fn end_spilled(&self, state: &mut State, disk: &mut Disk, through: u64) {
        for record in std::mem::take(&mut disk.replaced).into_values() {
            disk.loaded = disk.loaded.max(record.sequence);
            self.adopt(state, disk, record);
        }
        if let Some(spilled) = disk.spilled.take().filter(|_| disk.loaded < through) {
            self.metrics.spool_damaged.increment(1);
            let from = state.records.back().map_or(Start::Unknown, |record| Start::At(record.recorded));
            let dropped = u64::try_from(spilled.events).ok();
            let lost = disk.loaded + 1..=through;
            state.noted.retain(|number, _| !lost.contains(number));
            let gap = Gap { dropped, ..Gap::new(GapReason::SpoolDamaged, None, from) };
            self.count_gap(&gap);
            let record = self.envelope.gap_at((self.envelope.epoch(), through), gap);
            state.bytes += record.size();
            state.records.push_back(record);
        }
        disk.loaded = disk.loaded.max(through);
    }

    /// Takes a record from the disk, as it would be if it had been in memory.
    fn adopt(&self, state: &mut State, disk: &Disk, mut record: Record) {
        let is_left = disk.saved.epochs.contains(&record.epoch);
        for (from, to) in &disk.saved.moved {
            if record.epoch == *from {
                self.envelope.move_to(&mut record, *to);
            }
        }
        if is_left {
            self.metrics.events_read.increment(1);
            if record.sequence <= disk.confirmed.through || disk.confirmed.ids.contains(&record.id()) {
                self.metrics.events_published.increment(1);
                return;
            }
        }
        if record.sequence < disk.saved.reset {
            self.envelope.set_ongoing_gap(&mut record, OffsetDateTime::UNIX_EPOCH);
        } else if !record.subject().starts_with(self.envelope.subjects().events().as_bytes()) {
            self.envelope.rehome(&mut record);
        }
        state.bytes += record.size();
        state.records.push_back(record);
    }

    /// Records that follow those in memory directly go to them, while there is room.
    fn refill(&self, state: &mut State, disk: &mut Disk) {
        while disk.spilled.is_none()
            && state.is_half_empty()
            && let Some(record) = disk.tail.pop_front()
        {
            disk.tail_bytes -= record.size();
            state.bytes += record.size();
            state.records.push_back(record);
        }
    }

    /// The stream holds these records of earlier runs: all through this number, and those with these ids.
    pub fn confirm_left(&self, through: u64, ids: BTreeSet<(u64, u64)>) {
        let mut state = self.state.borrow_mut();
        let Some(mut disk) = state.disk.take() else { return };
        let epochs = &disk.saved.epochs;
        let is_stored = |record: &Record| {
            epochs.contains(&record.epoch) && (record.sequence <= through || ids.contains(&record.id()))
        };
        let now = Instant::now();
        let mut index = 0;
        while let Some(record) = state.records.get(index).filter(|record| epochs.contains(&record.epoch)) {
            if is_stored(record) {
                self.published(&mut state, index, now);
            } else {
                index += 1;
            }
        }
        disk.confirmed = Confirmed { through, ids };
        state.disk = Some(disk);
        self.after_removal(state);
    }

    /// Waits until the epoch is on the disk, so that the next run knows the records of this one in the stream. Returns at once
    /// if the disk fails, and soon if it hangs.
    pub async fn introduced(&self) {
        self.work.notify_one();
        let is_saved = |state: &State| {
            state.disk.as_ref().is_none_or(|disk| {
                let (saved, last) = (&disk.saved, &disk.last_saved);
                disk.failed.is_some() || (last.epoch, &last.moved) == (saved.epoch, &saved.moved)
            })
        };
        let _ = timeout(INTRODUCED, self.freed_until(is_saved)).await;
    }

    /// Writes everything that is not written yet. Returns at once if the disk fails.
    pub async fn close_disk(&self) {
        if let Some(disk) = &mut self.state.borrow_mut().disk {
            disk.closing = true;
        }
        self.work.notify_one();
        self.freed_until(|state| {
            let Some(disk) = &state.disk else { return true };
            disk.failed.is_some()
                || disk.written >= state.newest.0 && disk.saved(state, disk.written, None) == disk.last_saved
        })
        .await;
    }
}

impl Disk {
    /// Whether records are to be read back.
    pub(super) fn wants_load(&self, state: &State) -> bool {
        self.spilled.is_some() && state.is_half_empty()
    }

    /// The state as it would be saved with every record up to this number, which was recorded at this time.
    fn saved(&self, state: &State, written: u64, covered: Option<OffsetDateTime>) -> Saved {
        let front = self.front(state);
        let newest = Some(state.newest.1).filter(|covered| *covered > OffsetDateTime::UNIX_EPOCH);
        let covered = if written >= state.newest.0 { newest } else { covered };
        Saved { newest: written, front, covered, ..self.saved.clone() }
    }

    fn next_job(&mut self, state: &State) -> Option<Job> {
        // Records that NATS has made smaller were counted as they were before.
        self.unwritten_bytes = self.unwritten_bytes(state);
        let mut batch = Batch::default();
        let previous = state.previous();
        let mut push = |record: &Record| {
            frames::push(&mut batch.records, |to| {
                to.push(RECORD);
                record.store(to, previous);
            });
            batch.records.len() < BATCH
        };
        let changed: Vec<_> = std::mem::take(&mut self.changed).into_iter().collect();
        let changed: Vec<_> = changed.into_iter().filter(|number| *number <= self.written).collect();
        for record in changed.iter().filter_map(|number| state.records.get(state.index(*number)?)) {
            push(record);
        }
        let (mut written, mut covered) = (self.written, self.last_saved.covered);
        let mut all = self.unwritten_records(state);
        let is_all = loop {
            let Some(record) = all.next() else { break true };
            (written, covered) = (record.sequence, Some(record.covered_until()));
            if !push(record) {
                break all.next().is_none();
            }
        };
        drop(all);
        if is_all {
            written = state.newest.0.max(written);
        }
        let saved = self.saved(state, written, covered);
        let load = self.spilled.filter(|_| state.is_half_empty());
        let load = load.map(|spilled| (spilled.from, state.delivery.buffer.0 / 4));
        let is_due = self.closing
            || self.saved_at.elapsed() >= STATE
            || (saved.epoch, &saved.moved) != (self.last_saved.epoch, &self.last_saved.moved);
        let is_new =
            !batch.records.is_empty() || is_due && (saved != self.last_saved || self.failed.is_some());
        if !is_new && load.is_none() {
            return None;
        }
        let mut kept = state.records.iter().filter(|record| !self.behind.contains(&record.sequence));
        let unloaded = self.spilled.map(|_| self.loaded + 1);
        let first = kept.next().map(|record| record.sequence).or(unloaded);
        batch.needed_from = first.or(self.tail.front().map(|record| record.sequence)).unwrap_or(written + 1);
        batch.newest = written;
        saved.push(&mut batch.state);
        let front = saved.front;
        self.behind.retain(|number| *number >= front);
        Some(Job { batch, saved, written, changed, settings: self.settings.clone(), load })
    }

    /// Records that were written and do not fit into memory are on the disk only from now on.
    fn spill(&mut self, at: Place) {
        while let Some(record) = self.tail.pop_front_if(|record| record.sequence <= self.written) {
            self.tail_bytes -= record.size();
            let number = record.sequence;
            if self.spilled.is_none() {
                self.loaded = number - 1;
            }
            let spilled = self.spilled.get_or_insert(Spilled { from: at, through: 0, events: 0, bytes: 0 });
            spilled.through = number;
            spilled.events += 1;
            spilled.bytes += record.size();
        }
    }

    /// How many records are not on the disk.
    pub(super) fn unwritten(&self, state: &State) -> usize {
        let unwritten = |records: &VecDeque<Record>| records.len() - self.first_unwritten(records);
        unwritten(&state.records) + unwritten(&self.tail)
    }

    /// How many bytes these have.
    fn unwritten_bytes(&self, state: &State) -> usize {
        self.unwritten_records(state).map(Record::size).sum()
    }

    fn unwritten_records<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Record> {
        let (first, first_of_tail) = (self.first_unwritten(&state.records), self.first_unwritten(&self.tail));
        state.records.range(first..).chain(self.tail.range(first_of_tail..))
    }

    fn first_unwritten(&self, records: &VecDeque<Record>) -> usize {
        records.partition_point(|record| record.sequence <= self.written)
    }
}

impl Job {
    fn run(&self, log: &mut Log) -> Done {
        let size = u64::try_from(self.settings.size.0).unwrap_or(u64::MAX);
        log.reconfigure(size, self.settings.durability);
        let written = log.append(&self.batch);
        let loaded = self.load.map_or(Ok((Vec::new(), None)), |load| read(log, load));
        Done { written, loaded, used: log.size() }
    }
}

fn read(log: &Log, (from, most): (Place, usize)) -> io::Result<(Vec<Record>, Option<Place>)> {
    let mut records: Vec<Record> = Vec::new();
    let next = log.read(from, most, |entry| {
        let Entry::Record(_, bytes) = entry else { return };
        let record = bytes.split_first().filter(|(kind, _)| **kind == RECORD);
        let record = record.and_then(|(_, bytes)| Record::restore(bytes));
        // One that takes the place of an earlier one is in memory.
        let last = records.last().map_or(0, |last| last.sequence);
        records.extend(record.filter(|record| record.sequence > last));
    })?;
    Ok((records, next))
}

#[cfg(test)]
mod tests;
