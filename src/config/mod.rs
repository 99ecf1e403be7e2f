//! How the settings are read and checked.
//!
//! * [`load`](load()) reads one file, the environment and flags, and checks all of it before anything starts
//! * `layers`, `file` and `env` read the sources and remember where each value came from
//! * [`schema`] is one JSON Schema for everything, connectors included; `shape` holds what was read against it
//! * `check` knows which values make sense, `instances` builds the instances, `secrets` resolves secrets
//! * [`Problems`] is everything that is wrong, at once, and never shows a secret

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
pub use load::{Loaded, load, shared};
pub use problem::{Problem, Problems};
pub use sources::Sources;
