//! Collects errors and warnings while a configuration is checked.

use pontoon_sdk::Redactor;

use super::layers::Layers;
use super::problem::{Path, Problem, dotted};

/// The errors and warnings that were found so far.
pub(super) struct Report<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
    /// The paths of the problems.
    places: Vec<Path>,
    warnings: Vec<Problem>,
    secrets: Vec<String>,
}

impl<'a> Report<'a> {
    /// An empty report; `layers` gives the source of each key.
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self { layers, problems: Vec::new(), places: Vec::new(), warnings: Vec::new(), secrets: Vec::new() }
    }

    /// Adds an error at this key.
    pub(super) fn problem(&mut self, path: &[String], what: impl Into<String>) {
        self.places.push(path.to_vec());
        let problem = self.place(path, what.into());
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Whether there is an error at a key below this one.
    pub(super) fn has_within(&self, path: &[String]) -> bool {
        self.places.iter().any(|place| place.len() > path.len() && place.starts_with(path))
    }

    /// Adds a warning at this key.
    pub(super) fn warn(&mut self, path: &[String], what: impl Into<String>) {
        let warning = self.place(path, what.into());
        self.warnings.push(warning);
    }

    /// Whether this key was set by an environment variable.
    pub(super) fn is_from_env(&self, path: &[String]) -> bool {
        self.layers.source(path).starts_with("environment variable")
    }

    /// The folder of the file that sets this key.
    pub(super) fn folder(&self, path: &[String]) -> Option<&'a std::path::Path> {
        self.layers.folder(path)
    }

    /// Masks this text in every message.
    pub(super) fn mask(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// The errors, and the warnings as lines, with secrets masked.
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
