//! Why a subcommand failed, and its exit code.

use std::io::{ErrorKind, Write as _, stderr};
use std::process::ExitCode;

use crate::config::Problems;
use crate::log::printable::printable;

/// What went wrong.
pub(super) enum Failure {
    /// The configuration.
    Config(Problems),
    /// The arguments.
    Usage(String),
    /// The operation itself.
    Failed(String),
    /// Writing the output.
    Output(std::io::Error),
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// What went wrong, on one line.
    pub(super) fn text(self) -> String {
        match self {
            Self::Config(problems) => problems.to_string(),
            Self::Usage(what) | Self::Failed(what) => what,
            Self::Output(error) => error.to_string(),
        }
    }

    /// Prints it on stderr, one fault a line.
    pub(super) fn report(self) -> ExitCode {
        let (code, lines) = match self {
            Self::Config(Problems(problems)) => (78, problems.iter().map(ToString::to_string).collect()),
            Self::Usage(what) => (2, vec![what]),
            Self::Failed(what) => (1, vec![what]),
            // The reader of the output has closed it, as `head` does: not a failure.
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(error) => (1, vec![format!("the output cannot be written: {error}")]),
        };
        for line in lines {
            // A failure to write to stderr cannot be reported.
            writeln!(stderr(), "error: {}", printable(&line)).ok();
        }
        ExitCode::from(code)
    }
}
