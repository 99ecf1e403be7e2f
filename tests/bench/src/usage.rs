//! What the kernel says of processes: CPU time and memory.

use std::fs;

/// The kernel counts CPU time in hundredths of a second for user space, on every platform (`USER_HZ`).
const TICKS: f64 = 100.0;

/// CPU seconds of a process so far, user and system, over all its threads that run: in nanoseconds where the kernel says so,
/// else in hundredths of a second.
pub(crate) fn cpu(pid: u32) -> f64 {
    exact(pid).unwrap_or_else(|| stat(pid).map_or(0.0, |stat| stat.ticks / TICKS))
}

/// The first field of `schedstat` is the time on a CPU, in nanoseconds.
fn exact(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        nanoseconds += text.split(' ').next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds / 1e9)
}

/// The memory that a process holds now, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// The most memory that a process has held, in bytes.
pub(crate) fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// How busy the machine was, and how much of it was ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    busy: f64,
    ours: f64,
}

impl Load {
    /// CPU seconds so far.
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
        // User, nice and system time; interrupts, and what a hypervisor gave to others.
        let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<f64>();
        Self { busy: busy / TICKS, ours: ours() / TICKS }
    }

    /// Which part of the machine others used since then, 0 to 1.
    pub(crate) fn others_since(self, before: Self, seconds: f64) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let others = (self.busy - before.busy) - (self.ours - before.ours);
        (others / (seconds * cores)).clamp(0.0, 1.0)
    }
}

/// Ticks of this process and of its children that run.
fn ours() -> f64 {
    let me = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else { return 0.0 };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mine = pids.filter_map(|pid| Some((pid, stat(pid)?)));
    let mine = mine.filter(|(pid, stat)| *pid == me || stat.parent == me);
    mine.map(|(_, stat)| stat.ticks).sum()
}

struct Stat {
    parent: u32,
    ticks: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses, and may hold anything. See proc(5).
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks: number(11)? + number(12)? })
}

fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
