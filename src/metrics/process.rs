//! The system's figures of this process, under the names that Prometheus has for them.

use std::fmt::Write as _;
use std::fs;

use super::table::{
    Metric, PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_MEMORY, PROCESS_START, PROCESS_THREADS,
};

/// Linux counts in these ticks for programs, at any rate of the kernel's clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the samples; those that this system does not have are left out.
///
/// They are written here and not recorded, since recorded counters are whole numbers and seconds are not.
pub(super) fn render(text: &mut String) {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let limits = read("/proc/self/limits");
    // The name in parentheses may hold blanks; what follows it cannot. The field after it is the third.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number.checked_sub(4)?).copied();
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND);
    let boot = after(&read("/proc/stat"), "btime ");
    let start = field(22).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND);
    // One of them is the directory that is being read.
    let fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);
    sample(text, &PROCESS_CPU, cpu);
    sample(text, &PROCESS_MEMORY, after(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024.0));
    sample(text, &PROCESS_FDS, fds);
    sample(text, &PROCESS_MAX_FDS, after(&limits, "Max open files"));
    sample(text, &PROCESS_THREADS, after(&status, "Threads:"));
    sample(text, &PROCESS_START, start);
}

/// The number after a key at the beginning of a line.
fn after(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn sample(text: &mut String, metric: &Metric, value: Option<f64>) {
    let Some(value) = value else { return };
    let Metric { name, help, kind, .. } = metric;
    let kind = kind.as_str();
    // Writing to a String cannot fail.
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").ok();
}
