//! The second Socket.IO engine, rust_socketio, in the program pontoon-rust-socketio: what it can do, what is
//! refused, and that every fault of it is noticed.

// Test code, helpers and all: what should not be fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod breaks;
mod events;
mod links;
mod scenario;
mod tls;

#[path = "../../../../tests/e2e/interop/fixture.rs"]
#[allow(dead_code, reason = "what the native engine is tested with is not all needed here")]
mod fixture;
#[path = "../../../../tests/e2e/interop/server.rs"]
#[allow(dead_code, reason = "as above")]
mod server;
#[path = "../../../../tests/e2e/support.rs"]
#[allow(dead_code, reason = "as above")]
mod support;

/// The daemon with this engine.
const BINARY: &str = env!("CARGO_BIN_EXE_pontoon-rust-socketio");
/// Chooses the engine.
const ENGINE: &str = "engine = \"rust-socketio\"\n";
