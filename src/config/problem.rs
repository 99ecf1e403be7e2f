//! What is wrong with a configuration: every fault at once, where it is, and what to do.

use std::fmt;

use pontoon_sdk::Redactor;

use super::layers::Layers;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value came from: `config/pontoon.toml:12`, `environment variable PONTOON_NATS__URL`.
    pub source: String,
    /// The key, dotted; empty if it is the source as a whole.
    pub key: String,
    /// What is wrong, and what to do.
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

/// Everything that is wrong, one fault a line.
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

/// The keys that lead to a value.
pub(super) type Path = Vec<String>;

/// A path from its keys.
pub(super) fn path<const N: usize>(keys: [&str; N]) -> Path {
    keys.map(str::to_owned).to_vec()
}

/// A path and one more key.
pub(super) fn join(path: &[String], key: &str) -> Path {
    path.iter().cloned().chain([key.to_owned()]).collect()
}

/// The path as it is shown. Keys come from outside, so what a bare key may not hold is escaped.
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

/// Collects faults and warnings while a configuration is read.
pub(super) struct Report<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
    /// Where the problems are.
    places: Vec<Path>,
    warnings: Vec<Problem>,
    secrets: Vec<String>,
}

impl<'a> Report<'a> {
    /// An empty report on what these sources say.
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self { layers, problems: Vec::new(), places: Vec::new(), warnings: Vec::new(), secrets: Vec::new() }
    }

    /// Something is wrong with this key.
    pub(super) fn problem(&mut self, path: &[String], what: impl Into<String>) {
        self.places.push(path.to_vec());
        let problem = self.place(path, what.into());
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Whether something is wrong with a key within this one.
    pub(super) fn has_within(&self, path: &[String]) -> bool {
        self.places.iter().any(|place| place.len() > path.len() && place.starts_with(path))
    }

    /// Something about this key should be known.
    pub(super) fn warn(&mut self, path: &[String], what: impl Into<String>) {
        let warning = self.place(path, what.into());
        self.warnings.push(warning);
    }

    /// Whether a variable of the environment set this key.
    pub(super) fn is_from_env(&self, path: &[String]) -> bool {
        self.layers.source(path).starts_with("environment variable")
    }

    /// Has this text masked wherever a message would show it.
    pub(super) fn mask(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// What was found: faults, and warnings as lines.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<String>) {
        let Self { mut problems, mut warnings, secrets, .. } = self;
        let redactor = Redactor::new(secrets);
        for problem in problems.iter_mut().chain(&mut warnings) {
            problem.what = redactor.text(&problem.what).into_owned();
        }
        (problems, warnings.iter().map(Problem::to_string).collect())
    }

    fn place(&self, path: &[String], what: String) -> Problem {
        Problem { source: self.layers.source(path), key: dotted(path), what }
    }
}
