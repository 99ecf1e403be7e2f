//! The real daemon between a real nats-server and a simulated service: what users are promised, end to end.

// Test code, helpers and all: what should not be fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod address;
mod asyncapi;
mod aui;
mod auth;
mod avatars;
mod callers;
mod chaos;
mod cli;
mod cloudevents;
mod cluster;
mod commands;
mod config;
mod delivery;
mod deltas;
mod deploy;
mod dial;
mod domains;
mod elizaos;
mod encodings;
mod events;
mod faults;
mod flood;
mod gaps;
mod init;
mod interop;
mod jobs;
mod lenient;
mod minchat;
mod nats;
mod nats_py;
mod offers;
mod operate;
mod outside;
mod permissions;
mod recipes;
mod rejoins;
mod reload;
mod restarts;
mod scripts;
mod secrets;
mod socketio;
mod spool;
mod streams;
mod support;
mod tls;
mod transcripts;
mod watch;
mod wire;
mod writers;

/// The daemon that was built with these tests.
const BINARY: &str = env!("CARGO_BIN_EXE_pontoon");
