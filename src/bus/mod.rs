//! NATS: the only place that knows it.
//!
//! * [`connect`]: the connection and its credentials; [`context`]: what the `nats` tool keeps
//! * [`spool`]: events that were read and are not confirmed yet
//! * [`checkpoints`]: what outlives the daemon besides
//! * [`publisher`]: from the spool to NATS, over a channel of a `shared_connection`; [`connections`]: those of a thread;
//!   `publish_connection`: each of them; [`handshake`]: how it is opened; `protocol`: what is read and written on it
//! * [`jetstream`]: the JetStream API, as far as it is needed; `advice`: what to do about a stream that cannot be used
//! * [`acks`]: what a stream must confirm, and what it holds after a break
//! * [`jobs`]: jobs in, from a work queue, and their results
//! * [`commands`]: commands in, and the micro service that tools see (ADR-32); [`replies`]: replies out; [`requests`]: requests of connectors

pub mod acks;
mod advice;
pub mod bucket;
pub mod checkpoints;
pub mod commands;
pub mod connect;
pub mod connections;
pub mod context;
pub mod dedup;
pub mod handshake;
pub mod jetstream;
pub mod jobs;
pub mod keys;
mod protocol;
mod publish_connection;
pub mod publisher;
pub mod replies;
pub mod requests;
mod shared_connection;
pub mod spool;
