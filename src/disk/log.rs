//! A log of numbered records in segments: files of one folder that are written one after the other, and removed once
//! nothing in them is needed any more.
//!
//! Why not a library: measured on this project's records (700 bytes, 64 at once), fjall 3.1 took 9 times and redb 4.6 took
//! 12 times the processor time for each record, and 5 to 6 times as long to read all of them; redb without a sync keeps
//! commits in the process, so that SIGKILL loses them; with one damaged byte fjall left out all later records, and redb
//! returned the damaged record as it was, both without an error. okaywal 0.3 always syncs.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::directory::{linked, options};
use super::frames::{self, Found, Frames};
use super::{Directory, sync_folder};
use crate::settings::Durability;

/// How the names of segments end, behind their number.
const ENDING: &str = ".events";
/// How much is read of a segment at once, unless a record is larger.
const READ: usize = 1 << 20;
/// The last segment is left once it has so many bytes and nothing in any of them is needed.
const IDLE: u64 = 256 * 1024;

/// The log of one instance. Its functions wait for the disk.
pub struct Log {
    directory: Arc<Directory>,
    durability: Durability,
    segment_size: u64,
    segments: VecDeque<Segment>,
    /// The last segment, if something may be appended to it.
    file: Option<File>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    length: u64,
    /// The highest number that had been given to a record when it was written last.
    newest: u64,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    segment: u64,
    at: u64,
}

/// What is appended at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records in their frames.
    pub records: Vec<u8>,
    /// The highest number that was given to a record so far.
    pub newest: u64,
    /// Of the records before this number, none is needed any more.
    pub needed_from: u64,
    /// The state, which every segment begins and every batch ends with: a record without a number.
    pub state: Vec<u8>,
}

/// What [`Log::open`] finds.
pub enum Entry<'a> {
    /// A record.
    Record(Place, &'a [u8]),
    /// Something was here that is lost.
    Damaged,
}

impl Log {
    /// Opens the log of this folder, and shows all that is in it: `show` returns the number of a record that has one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(
        directory: Arc<Directory>,
        size: u64,
        durability: Durability,
        mut show: impl FnMut(Entry<'_>) -> Option<u64>,
    ) -> io::Result<Self> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(directory.path())? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(ENDING))
                .and_then(|number| number.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let mut log = Self {
            directory,
            durability,
            segment_size: segment_size(size),
            segments: VecDeque::new(),
            file: None,
        };
        let (mut newest, mut expected) = (0, None);
        for number in numbers {
            if expected.is_some_and(|expected| expected != number) {
                show(Entry::Damaged);
            }
            expected = Some(number + 1);
            let bytes = fs::read(log.path(number))?;
            for found in Frames::new(&bytes) {
                let entry = match found {
                    Found::Record(at, record) => {
                        Entry::Record(Place { segment: number, at: length(at) }, record)
                    }
                    Found::Damaged(_) => Entry::Damaged,
                };
                newest = show(entry).unwrap_or_default().max(newest);
            }
            log.segments.push_back(Segment { number, length: length(bytes.len()), newest });
        }
        Ok(log)
    }

    /// Bounds and durability from now on.
    pub fn reconfigure(&mut self, size: u64, durability: Durability) {
        (self.segment_size, self.durability) = (segment_size(size), durability);
    }

    /// Where the next record will stand, at the earliest.
    pub fn end(&self) -> Place {
        let last = self.segments.back();
        last.map_or(Place { segment: 0, at: 0 }, |last| Place { segment: last.number, at: last.length })
    }

    /// How many bytes it has, in how many segments.
    pub fn size(&self) -> (u64, usize) {
        (self.segments.iter().map(|segment| segment.length).sum(), self.segments.len())
    }

    /// Appends a batch, and removes what is not needed any more. Returns where the batch begins. After an error all of it has to be appended again: it goes
    /// to another segment, as what a file holds after a failed sync is not known.
    ///
    /// # Errors
    /// If it could not be written, or not be synced twice.
    pub fn append(&mut self, batch: &Batch) -> io::Result<Place> {
        let is_idle = batch.needed_from > batch.newest;
        let last = self.segments.back().map_or(0, |last| last.length);
        if last >= self.segment_size || is_idle && last > IDLE {
            self.file = None;
        }
        // Before, as this may make the room that is needed.
        self.remove_before(batch.needed_from)?;
        let at = match self.write(batch) {
            Ok(at) => at,
            Err(error) if is_transient(&error) => {
                self.leave(false);
                self.write(batch).inspect_err(|_| self.leave(false))?
            }
            Err(error) => {
                self.leave(true);
                return Err(error);
            }
        };
        self.remove_before(batch.needed_from)?;
        Ok(at)
    }

    fn write(&mut self, batch: &Batch) -> io::Result<Place> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.next_segment(&batch.state)?,
        };
        let at = self.end();
        linked(&file)?;
        file.write_all(&batch.records)?;
        file.write_all(&batch.state)?;
        if self.durability == Durability::Power {
            file.sync_data()?;
        }
        if let Some(last) = self.segments.back_mut() {
            last.length += length(batch.records.len() + batch.state.len());
            last.newest = batch.newest.max(last.newest);
        }
        self.file = Some(file);
        Ok(at)
    }

    /// Begins another segment, with the state.
    fn next_segment(&mut self, state: &[u8]) -> io::Result<File> {
        let (number, newest) = self.segments.back().map_or((1, 0), |last| (last.number + 1, last.newest));
        let mut file = options().truncate(true).open(self.path(number))?;
        self.segments.push_back(Segment { number, length: 0, newest });
        file.write_all(state)?;
        if self.durability == Durability::Power {
            sync_folder(self.directory.path())?;
        }
        if let Some(last) = self.segments.back_mut() {
            last.length = length(state.len());
        }
        Ok(file)
    }

    /// Cuts off what was written of a batch. Another segment is begun unless this one may be used, and can be.
    fn leave(&mut self, may_be_used: bool) {
        self.file = None;
        let Some(last) = self.segments.back() else { return };
        let path = self.path(last.number);
        if last.length == 0 {
            let _ = fs::remove_file(path);
            self.segments.pop_back();
            return;
        }
        let cut = options().truncate(false).open(path).and_then(|mut file| {
            file.set_len(last.length)?;
            file.seek(SeekFrom::End(0)).map(|_| file)
        });
        self.file = cut.ok().filter(|_| may_be_used);
    }

    fn remove_before(&mut self, needed_from: u64) -> io::Result<()> {
        while self.segments.len() > 1
            && let Some(first) = self.segments.front().filter(|first| first.newest < needed_from)
        {
            match fs::remove_file(self.path(first.number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => self.segments.pop_front(),
            };
        }
        Ok(())
    }

    /// Shows records from this place on, until so many bytes were read, or the log ends. Returns where to go on, or `None` at
    /// the end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(
        &self,
        from: Place,
        most: usize,
        mut show: impl FnMut(Entry<'_>),
    ) -> io::Result<Option<Place>> {
        let (mut place, mut left) = (from, most);
        for segment in self.segments.iter().filter(|segment| segment.number >= from.segment) {
            if segment.number > place.segment {
                place = Place { segment: segment.number, at: 0 };
            }
            let file = File::open(self.path(segment.number))?;
            let mut want = READ;
            while place.at < segment.length {
                if left == 0 {
                    return Ok(Some(place));
                }
                let rest = usize::try_from(segment.length - place.at).unwrap_or(usize::MAX);
                let mut bytes = vec![0; rest.min(want)];
                file.read_exact_at(&mut bytes, place.at)?;
                let used = whole(&bytes, bytes.len() == rest, |entry, at| {
                    show(match entry {
                        Found::Record(_, record) => Entry::Record(
                            Place { segment: segment.number, at: place.at + length(at) },
                            record,
                        ),
                        Found::Damaged(_) => Entry::Damaged,
                    })
                });
                place.at += length(used);
                left = left.saturating_sub(used);
                // A record that is longer than what was read.
                want = if used == 0 { want * 2 } else { READ };
            }
        }
        Ok(None)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.path().join(format!("{number:016}{ENDING}"))
    }
}

/// Shows what is whole in a part of a segment. Returns how many bytes that is.
fn whole<'a>(bytes: &'a [u8], is_end: bool, mut show: impl FnMut(Found<'a>, usize)) -> usize {
    let mut used = 0;
    for found in Frames::new(bytes) {
        let (at, size) = match found {
            Found::Record(at, record) => (at, frames::HEAD + record.len()),
            // It may be the beginning of a record that was not read to its end.
            Found::Damaged(size) if !is_end && used + size == bytes.len() => break,
            Found::Damaged(size) => (used, size),
        };
        used += size;
        show(found, at);
    }
    used
}

/// Whether it is worth to try once more in another file: what the disk refused, rather than what it has no room for.
fn is_transient(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::PermissionDenied
    )
}

/// How long segments are: a sixteenth of what there may be, so that little stays behind what is needed.
fn segment_size(size: u64) -> u64 {
    (size / 16).clamp(64 * 1024, 16 << 20)
}

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use pontoon_testkit::Dir;

    use super::*;

    fn open(root: &Dir, size: u64) -> (Log, Vec<u64>, usize) {
        let directory = Arc::new(Directory::open(root.path(), "t.i").unwrap());
        let (mut numbers, mut damaged) = (Vec::new(), 0);
        let log = Log::open(directory, size, Durability::Power, |entry| match entry {
            Entry::Record(_, record) => {
                let number = number(record)?;
                numbers.push(number);
                Some(number)
            }
            Entry::Damaged => {
                damaged += 1;
                None
            }
        });
        (log.unwrap(), numbers, damaged)
    }

    fn number(record: &[u8]) -> Option<u64> {
        Some(u64::from_le_bytes(record.get(..8)?.try_into().ok()?))
    }

    fn batch(numbers: std::ops::RangeInclusive<u64>, needed_from: u64) -> Batch {
        let mut batch = Batch { newest: *numbers.end(), needed_from, ..Batch::default() };
        for number in numbers {
            frames::push(&mut batch.records, |to| {
                to.extend_from_slice(&number.to_le_bytes());
                to.extend_from_slice(&[b'x'; 1_000]);
            });
        }
        frames::push(&mut batch.state, |to| to.extend_from_slice(b"state"));
        batch
    }

    #[test]
    fn nothing_counts_as_written_once_the_folder_was_removed() {
        let root = Dir::new("log");
        let (mut log, ..) = open(&root, 1 << 20);
        log.append(&batch(1..=9, 1)).unwrap();
        fs::remove_dir_all(root.path()).unwrap();
        assert_eq!(log.append(&batch(10..=19, 1)).unwrap_err().kind(), ErrorKind::NotFound);
        // It is used again where the folder is there again.
        fs::create_dir_all(root.path().join("t.i")).unwrap();
        log.append(&batch(10..=19, 10)).unwrap();
    }

    #[test]
    fn what_is_needed_stays_and_is_read_back_in_parts() {
        let root = Dir::new("log");
        let (mut log, before, _) = open(&root, 1 << 20);
        assert!(before.is_empty());
        let start = log.end();
        for first in (1..=1_000).step_by(10) {
            log.append(&batch(first..=first + 9, 401)).unwrap();
        }
        let (bytes, segments) = log.size();
        assert!((600_000..750_000).contains(&bytes) && segments > 8, "{bytes} in {segments}");
        drop(log);
        let (mut log, numbers, damaged) = open(&root, 1 << 20);
        assert!(numbers.is_sorted() && numbers[0] <= 401 && numbers.ends_with(&[999, 1_000]) && damaged == 0);
        let (mut read, mut from) = (Vec::new(), Some(start));
        while let Some(place) = from {
            from = log
                .read(place, 100_000, |entry| {
                    if let Entry::Record(_, record) = entry {
                        read.extend(number(record));
                    }
                })
                .unwrap();
        }
        assert_eq!(read, numbers);
        log.append(&batch(1_001..=1_001, 1_002)).unwrap();
        assert_eq!(log.size().1, 1, "nothing is needed any more");
        drop(log);
        let (log, numbers, _) = open(&root, 1 << 20);
        assert!(numbers == [1_001] && log.size().0 < 5_000);
    }

    #[test]
    fn a_missing_segment_and_damage_are_found() {
        let root = Dir::new("log");
        let (mut log, ..) = open(&root, 1 << 20);
        for first in (1..=500).step_by(10) {
            log.append(&batch(first..=first + 9, 1)).unwrap();
        }
        drop(log);
        let file = |number: u64| root.path().join(format!("t.i/{number:016}{ENDING}"));
        fs::remove_file(file(3)).unwrap();
        let mut bytes = fs::read(file(2)).unwrap();
        bytes[30_000] ^= 1;
        fs::write(file(2), bytes).unwrap();
        let (_, numbers, damaged) = open(&root, 1 << 20);
        assert!(damaged == 2 && numbers.is_sorted() && numbers.len() < 450 && numbers.contains(&500));
    }

    #[test]
    fn after_an_error_the_batch_goes_to_another_segment() {
        let root = Dir::new("log");
        let (mut log, ..) = open(&root, 1 << 20);
        log.append(&batch(1..=1, 1)).unwrap();
        // A file that may not be written to, as after an error of the disk.
        log.file = Some(File::open(log.path(1)).unwrap());
        log.append(&batch(2..=2, 1)).unwrap();
        assert_eq!(log.size().1, 2);
        drop(log);
        let (_, numbers, damaged) = open(&root, 1 << 20);
        assert_eq!((numbers, damaged), (vec![1, 2], 0));
    }
}
