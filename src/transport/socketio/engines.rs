//! The only engine of a daemon that is built without the feature `rust-socketio`; with it, `rust_socketio/mod.rs` stands
//! in the place of this file.

use pontoon_sdk::Error;
use pontoon_sdk::socketio::{Endpoint, Engine};

pub use super::driver::{Reader, Writer};
pub(super) use super::native as dial;

/// Whether the engine that is asked for is there.
///
/// # Errors
/// If it is not, with what to write instead.
pub(super) fn check(endpoint: &Endpoint) -> Result<(), Error> {
    match endpoint.engine {
        Engine::Native => Ok(()),
        Engine::RustSocketio => Err(Error::config(
            "this pontoon was built without the engine rust-socketio; write engine = \"native\", or build it with \
             `--features rust-socketio`",
        )
        .at("/engine")),
    }
}
