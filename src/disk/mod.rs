//! Files that outlive the daemon: one folder for each instance, which one daemon at a time uses.
//!
//! * [`Directory`]: the folder, with its lock and its format
//! * [`frames`]: records in a file, so that what is torn or damaged is found
//! * [`Log`]: records in many files, of which the old ones are removed
//! * [`Journal`]: keys with values, such as [`Intents`], which commands were begun and are not ended
//!
//! An instance's thread never waits for a disk: what does runs by `spawn_blocking`.

mod directory;
pub mod frames;
mod intents;
mod journal;
mod log;

pub use directory::{Directory, sync_folder};
pub use intents::{Intents, NotBegun};
pub use journal::Journal;
pub use log::{Batch, Entry, Log, Place};
