//! The second Socket.IO engine, rust_socketio, in the real daemon: what it can do, what is refused, and that nothing of
//! what it does wrong goes unnoticed. Built only with the feature `rust-socketio`.

// Test code, helpers and all: what should not be fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod breaks;
mod events;
mod links;
mod scene;
mod tls;

#[path = "../e2e/interop/bed.rs"]
#[allow(dead_code, reason = "what the native engine is tested with is not all needed here")]
mod bed;
#[path = "../e2e/interop/server.rs"]
#[allow(dead_code, reason = "as above")]
mod server;
#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "as above")]
mod support;

/// Chooses the engine.
const ENGINE: &str = "engine = \"rust-socketio\"\n";
