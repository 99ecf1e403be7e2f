//! From values to typed settings, reporting every error.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Path;
use super::report::Report;
use super::shape::{Shape, remove};
use crate::instance::Run;
use crate::registry::keys;

/// An instance that is ready to start.
pub struct Prepared {
    /// Its name.
    pub name: String,
    /// The connector with its settings.
    pub run: Box<dyn Run>,
}

/// Reports the faults that were found in the tree at this path, and removes the wrong values, so that the others can be
/// decoded.
pub(super) fn prune(shape: Shape, tree: &mut Value, at: &[String], report: &mut Report<'_>) {
    for fault in shape.faults {
        report.problem(&fault.path, fault.what);
        if let Some(below) = fault.path.get(at.len()..)
            && !fault.missing
        {
            remove(tree, below);
        }
    }
}

/// Decodes a table. A value that cannot be decoded is reported and removed, until the rest decodes.
pub(super) fn decode<T: DeserializeOwned + Default>(
    table: Option<Value>,
    at: &[String],
    report: &mut Report<'_>,
) -> T {
    let Some(mut table) = table else {
        return T::default();
    };
    loop {
        match serde_path_to_error::deserialize::<_, T>(table.clone()) {
            Ok(decoded) => return decoded,
            Err(error) => {
                let keys = keys(error.path());
                let path: Path = at.iter().chain(&keys).cloned().collect();
                report.problem(&path, error.into_inner().to_string());
                if !remove(&mut table, &keys) {
                    return T::default();
                }
            }
        }
    }
}
