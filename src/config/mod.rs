//! Reading and checking the settings.
//!
//! * [`load`](load()) reads one file, the environment and flags, and checks all settings before anything starts
//! * `layers`, `file` and `env` read the sources and remember where each value came from
//! * [`schema`] is one JSON Schema for all settings, connectors included; `shape` validates against it
//! * `check` validates what a schema cannot, `instances` builds the instances, `secrets` checks secrets
//! * [`Problems`] is the list of all errors; it never shows a secret

mod check;
mod decode;
mod env;
mod file;
mod instances;
mod layers;
mod load;
mod problem;
mod report;
pub mod schema;
mod secrets;
mod shape;
mod sources;
mod suggest;

pub use decode::Prepared;
pub use instances::is_name;
pub use load::{Loaded, asks, load, shared};
pub use problem::{Problem, Problems};
pub use sources::Sources;
