//! Faults and warnings while a configuration is checked.

use pontoon_sdk::Redactor;

use super::layers::Layers;
use super::problem::{Path, Problem, dotted};

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
