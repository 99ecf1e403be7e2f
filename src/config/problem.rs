//! The errors in a configuration, each with its source, its key and what to do.

use std::fmt;

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The source of the value: `config/pontoon.toml:12`, `environment variable PONTOON_NATS__URL`.
    pub source: String,
    /// The dotted key; empty if the error is the source as a whole.
    pub key: String,
    /// The error, and what to do.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.source, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.what)
    }
}

/// All errors, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Errors and warnings about the sources themselves.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// The path of keys to a value.
pub(super) type Path = Vec<String>;

/// A path from its keys.
pub(super) fn path<const N: usize>(keys: [&str; N]) -> Path {
    keys.map(str::to_owned).to_vec()
}

/// A path and one more key.
pub(super) fn join(path: &[String], key: &str) -> Path {
    path.iter().cloned().chain([key.to_owned()]).collect()
}

/// The path for messages. A key that is not a bare key of TOML is quoted and escaped.
pub(super) fn dotted(path: &[String]) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let shown = path.iter().map(|key| {
        if !key.is_empty() && key.chars().all(bare) {
            key.clone()
        } else {
            format!("\"{}\"", key.escape_default())
        }
    });
    shown.collect::<Vec<_>>().join(".")
}
