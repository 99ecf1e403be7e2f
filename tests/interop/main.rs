//! The real daemon against the reference Socket.IO server (npm `socket.io`), on a real nats-server.

// Test code, helpers and all: what should not be fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bed;
mod breaks;
mod endurance;
mod handshake;
mod messages;
mod recovery;
mod server;
#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "what the simulators need of it is not needed here")]
mod support;
mod volume;
