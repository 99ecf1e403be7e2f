//! A child process that does not outlive its guard.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// How long the system may take to stop a process.
const FREEZE: Duration = Duration::from_secs(10);

/// A running child.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts it. With `own_group`, a Ctrl-C at the terminal does not reach it.
    pub(crate) fn spawn(command: &mut Command, own_group: bool) -> Self {
        if own_group {
            command.process_group(0);
        }
        Self::run(command.stdin(Stdio::null()))
    }

    /// Starts it, with pipes to its stdin and from its stdout.
    pub(crate) fn spawn_piped(command: &mut Command) -> (Self, ChildStdin, ChildStdout) {
        let mut process = Self::run(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = process.0.stdin.take().expect("stdin is a pipe");
        let stdout = process.0.stdout.take().expect("stdout is a pipe");
        (process, stdin, stdout)
    }

    fn run(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("cannot run {}: {error}", command.get_program().display()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn stderr(&mut self) -> std::process::ChildStderr {
        self.0.stderr.take().expect("stderr is a pipe and was not taken")
    }

    /// Sends a signal such as `STOP`. The shell does it, since there is no safe call for it here.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("sh runs");
        assert!(status.success(), "{kill} failed");
    }

    /// Stops it where it stands. Returns when none of its threads runs any more, which is a moment after the signal.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        let end = Instant::now() + FREEZE;
        while !self.is_stopped() {
            assert!(Instant::now() < end, "process {} does not stop", self.id());
            thread::yield_now();
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Whether every thread is stopped, where the system shows it.
    fn is_stopped(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else { return true };
        threads.flatten().all(|thread| {
            // The state follows the program's name, which is in parentheses.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .is_none_or(|rest| rest.trim_start().starts_with(['T', 't']) || rest.is_empty())
        })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the child is ours to wait for")
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
