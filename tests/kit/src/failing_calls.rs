//! System calls of a process that fail, by strace.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use crate::dir::Dir;
use crate::process::Process;
use crate::wait::eventually;

/// How long strace may take to follow a process, or to leave it.
const ATTACH: Duration = Duration::from_secs(30);

/// Has every call of one kind fail in all threads of a process, until it is ended.
#[derive(Debug)]
pub struct FailingCalls {
    process: u32,
    strace: Process,
    dir: Dir,
}

impl FailingCalls {
    /// Has `call`, such as `fdatasync`, return `error`, such as `EIO`. The program is the one that `PONTOON_STRACE` names, else the
    /// one in `PATH`; it must be allowed to trace others, as root is.
    ///
    /// # Panics
    /// If there is none, or it may not trace the process.
    pub async fn start(process: u32, call: &str, error: &str) -> Self {
        let dir = Dir::new("strace");
        let program = env::var_os("PONTOON_STRACE").unwrap_or_else(|| "strace".into());
        let mut command = Command::new(program);
        command.args([
            "-f",
            "-q",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:error={error}"),
        ]);
        command.arg("-o").arg(dir.path().join("calls")).args(["-p", &process.to_string()]);
        let calls = Self { process, strace: Process::spawn(&mut command, false), dir };
        eventually(ATTACH, async || calls.tracers() == [calls.strace.id()]).await;
        calls
    }

    /// How many calls have failed.
    pub fn failed(&self) -> usize {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        calls.matches("(INJECTED)").count()
    }

    /// Lets the calls be carried out again.
    ///
    /// # Panics
    /// If strace does not leave the process.
    pub async fn end(self) {
        self.strace.signal("TERM");
        eventually(ATTACH, async || self.tracers() == [0]).await;
    }

    /// The processes that trace its threads, each once; 0 where a thread is not traced.
    fn tracers(&self) -> Vec<u32> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process)).into_iter().flatten().flatten();
        let mut tracers: Vec<_> = threads.filter_map(|thread| tracer(&thread.path())).collect();
        tracers.sort_unstable();
        tracers.dedup();
        tracers
    }
}

fn tracer(thread: &Path) -> Option<u32> {
    let status = fs::read_to_string(thread.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().parse().ok()
}
