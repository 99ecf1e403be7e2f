//! NATS: the only place that knows it.
//!
//! * [`connect`]: the connection and its credentials; [`context`]: what the `nats` tool keeps
//! * [`inbox`]: requests and confirmations without the client's own, which leaks entries that time out
//! * [`spool`]: events that were read and are not confirmed yet
//! * [`publisher`]: from the spool to NATS; [`stream`]: the JetStream API, as far as it is needed;
//!   `advice`: what to do about a stream that cannot be used
//! * [`track`]: what a stream must confirm, and what it holds after a break
//! * [`service`]: commands in, and the micro service that tools see (ADR-32); [`replies`]: replies out

mod advice;
pub mod connect;
pub mod context;
pub mod inbox;
mod outgoing;
pub mod publisher;
pub mod replies;
pub mod service;
pub mod spool;
pub mod stream;
pub mod track;
