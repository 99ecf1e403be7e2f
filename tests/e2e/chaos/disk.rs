//! The disk of the daemon's events: a small one that can be full, where the test may mount it, else a folder.

use std::fs;
use std::path::PathBuf;

use pontoon_testkit::Dir;

use super::history::Micros;
use crate::support::Tmpfs;

/// How long after there is room again the daemon may have events in memory only.
const RECOVERY: Micros = 3_000_000;

pub(crate) struct Disk {
    tmpfs: Result<Tmpfs, Dir>,
    /// When it was full.
    full: Vec<(Micros, Micros)>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { tmpfs: Tmpfs::new("32m").ok_or_else(|| Dir::new("spool")), full: Vec::new() }
    }

    /// Where the daemon is to keep its events.
    pub(crate) fn path(&self) -> PathBuf {
        let root = self.tmpfs.as_ref().map_or_else(Dir::path, Tmpfs::path);
        root.join("spool")
    }

    /// Leaves no room on it. Returns whether it can be full, and was not.
    pub(crate) fn fill(&mut self, now: Micros) -> bool {
        let Ok(tmpfs) = &self.tmpfs else { return false };
        if self.full.last().is_some_and(|(_, until)| *until == Micros::MAX) {
            return false;
        }
        self.full.push((now, Micros::MAX));
        tmpfs.fill();
        true
    }

    /// Makes room again.
    pub(crate) fn free(&mut self, now: Micros) {
        if let (Ok(tmpfs), Some((_, until))) =
            (&self.tmpfs, self.full.last_mut().filter(|(_, until)| *until == Micros::MAX))
        {
            let _ = fs::remove_file(tmpfs.filler());
            *until = now + RECOVERY;
        }
    }

    /// The daemon was started. Without room it may not use the disk until its next start; what it does then is not judged.
    pub(crate) fn started(&mut self, now: Micros) {
        if self.full.last().is_some_and(|(_, until)| *until > now) {
            self.full.push((now, Micros::MAX - 1));
        }
    }

    /// When what was read may have been in memory only.
    pub(crate) fn full(&self) -> Vec<(Micros, Micros)> {
        self.full.clone()
    }
}
