//! Lines on their way to stderr: through a bounded queue and a thread, so that a stderr that takes nothing never blocks.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use metrics::Counter;
use tracing_subscriber::fmt::MakeWriter;

use super::escape;

/// Lines that may wait for stderr; past them new lines are dropped and counted.
const LINES: usize = 4_096;
/// Bytes that may wait.
const BYTES: usize = 4 << 20;
/// How long the end of the process waits for lines that are not out yet.
const LAST: Duration = Duration::from_secs(1);

/// Takes lines.
#[derive(Clone)]
pub(super) struct Lines {
    entries: SyncSender<Entry>,
    level: Arc<Level>,
    dropped: Counter,
    json: bool,
}

/// Lets the last lines out when it is dropped.
pub struct Guard(SyncSender<Entry>);

enum Entry {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Level {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// A queue, and a thread that writes what comes through it to `out`.
pub(super) fn queue(out: impl Write + Send + 'static, dropped: Counter) -> io::Result<(Lines, Guard)> {
    let (entries, waiting) = sync_channel(LINES);
    let level = Arc::new(Level::default());
    let lines = Lines { entries: entries.clone(), level: level.clone(), dropped, json: false };
    std::thread::Builder::new().name("log".to_owned()).spawn(move || write(out, &waiting, &level))?;
    Ok((lines, Guard(entries)))
}

fn write(mut out: impl Write, waiting: &Receiver<Entry>, level: &Level) {
    let mut logged = 0;
    loop {
        let entry = match waiting.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let dropped = level.dropped.load(Ordering::Relaxed);
                if dropped > logged {
                    tracing::warn!(
                        lines = dropped - logged,
                        "stderr took no more: lines of the log were dropped"
                    );
                    logged = dropped;
                }
                match waiting.recv() {
                    Ok(entry) => entry,
                    Err(_) => return,
                }
            }
        };
        match entry {
            Entry::Line(line) => {
                level.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                // There is nowhere to log that stderr is gone.
                drop(out.write_all(&line));
            }
            Entry::Flush(done) => drop(done.try_send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, text: Vec::new() }
    }
}

impl Lines {
    /// The same for lines of JSON.
    pub(super) fn json(self) -> Self {
        Self { json: true, ..self }
    }

    fn take(&self, line: &[u8]) {
        let line = if self.json { escape::json(line).into_owned() } else { line.to_owned() };
        let length = line.len();
        let room = self.level.bytes.fetch_add(length, Ordering::Relaxed) + length <= BYTES;
        if !room || self.entries.try_send(Entry::Line(line)).is_err() {
            self.level.bytes.fetch_sub(length, Ordering::Relaxed);
            self.level.dropped.fetch_add(1, Ordering::Relaxed);
            self.dropped.increment(1);
        }
    }
}

/// One line; it goes out when it is whole.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.lines.take(&self.text);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        let (end, mut entry) = (Instant::now() + LAST, Entry::Flush(done));
        // A full queue is not a reason to lose the last lines, as long as it moves.
        while let Err(TrySendError::Full(back)) = self.0.try_send(entry) {
            if Instant::now() >= end {
                return;
            }
            entry = back;
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let _ = flushed.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Takes one write for every permission.
    struct Slow(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(lines: &Lines, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn an_output_that_takes_nothing_does_not_block_and_what_is_lost_is_counted() {
        let (permit, permits) = channel();
        let (written, seen) = channel();
        let (lines, guard) = queue(Slow(permits, written), Counter::noop()).unwrap();
        for n in 0..LINES + 1_000 {
            line(&lines, &format!("line {n}\n"));
        }
        // One line may be on its way out already.
        let dropped = lines.level.dropped.load(Ordering::Relaxed);
        assert!((999..=1_000).contains(&dropped), "{dropped}");
        let start = Instant::now();
        drop(guard);
        assert!(start.elapsed() >= LAST, "the end waits for the output for a moment");
        drop(permit);
        assert_eq!(seen.recv().unwrap(), b"line 0\n");
        assert_eq!(seen.iter().take(LINES - 1).last().unwrap(), format!("line {}\n", LINES - 1).as_bytes());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (_permit, permits) = channel();
        let (written, _seen) = channel();
        let (lines, _guard) = queue(Slow(permits, written), Counter::noop()).unwrap();
        let large = "x".repeat(BYTES / 8);
        for _ in 0..20 {
            line(&lines, &large);
        }
        assert!(lines.level.bytes.load(Ordering::Relaxed) <= BYTES);
        assert!((11..=12).contains(&lines.level.dropped.load(Ordering::Relaxed)));
    }

    #[test]
    fn the_last_lines_are_out_when_the_guard_is_gone() {
        let (permit, permits) = channel();
        let (written, seen) = channel();
        drop(permit);
        let (lines, guard) = queue(Slow(permits, written), Counter::noop()).unwrap();
        let lines = lines.json();
        for _ in 0..100 {
            line(&lines, "{\"a\":\"\u{9b}\"}\n");
        }
        drop(guard);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), vec![b"{\"a\":\"\\u009b\"}\n".to_vec(); 100]);
    }
}
