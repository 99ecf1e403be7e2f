//! Pontoon: a message bridge between services that speak over persistent sockets and NATS. This is its map.
//!
//! A **connector** is the code for one kind of service, an **instance** one configured use of it, a **link** one socket
//! of an instance. An **event** comes from a service, a **command** goes to one.
//!
//! ```text
//! in    socket ─▶ transport::Read ─▶ Session::decode ─▶ bus::spool ─▶ envelope ─▶ bus::publisher ─▶ NATS
//! out   NATS ─▶ bus::service ─▶ instance::commands ─▶ Session::encode ─▶ transport::outbound ─▶ socket
//! back  Session::decode ─▶ replies ─▶ bus::replies ─▶ the caller's inbox
//! ```
//!
//! # What each module is for
//!
//! * [`cli`], [`config`], [`registry`]: what the operator says, checked as a whole; from a type's name to a connector
//! * [`daemon`], [`reload`], [`admin`], [`log`], [`metrics`]: the life of the process, and what it shows of itself
//! * [`instance`]: a thread, a runtime and a NATS connection for each instance; owns its links; [`status`] is what is
//!   known of it
//! * [`supervisor`]: keeps one link connected; [`backoff`]: how long it waits
//! * [`session`]: one connection from open to close, the only place where a service and the bus meet
//! * [`link`]: what belongs to one link, such as its gaps; [`dedup`]: what a service says twice
//! * [`errands`]: commands on their way to a link; [`places`]: room for links that are opened for them
//! * [`replies`]: callers that wait; [`idempotency`]: those that ask twice
//! * [`envelope`]: from an event to subject, headers and body; [`trace_context`]: the trace that it belongs to
//! * [`transport`]: sockets; [`bus`]: NATS; [`redact`]: words from outside, without our secrets
//!
//! What the author of a connector needs is in the crate `pontoon-sdk`.
//!
//! # Invariants
//!
//! * A connector never sees a socket, a clock it did not get, a subject, or NATS. Its crate cannot.
//! * Only [`transport`] opens sockets to services; only [`bus`] knows NATS; only [`envelope`] makes subjects.
//! * Every command with a caller is answered exactly once at the end: by the session, by refusal, by deadline, by
//!   disconnect, or because nobody listens any more. [`replies::Caller`] answers even when it is dropped.
//! * Loss happens in one place, [`bus::spool`], by a stated policy, and is counted; an event that NATS would never take
//!   leaves a gap in its place. Everything bounded is bounded in bytes as well as in count.
//! * A bad frame never ends a session; a bad configuration never starts one; an instance's failure never touches
//!   another's.
//! * Nothing retries without a limit on rate; nothing queues without a limit on length; nobody gives up reconnecting.
//! * One [`status::Phase`] per link feeds readiness, gauges, the state subject and `status` alike.
//! * The loops count; connectors emit no metrics, so none can forget.

pub mod admin;
pub mod backoff;
pub mod bus;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dedup;
pub mod envelope;
pub mod errands;
pub mod idempotency;
pub mod instance;
pub mod link;
pub mod log;
pub mod metrics;
pub mod places;
mod printable;
pub mod redact;
pub mod registry;
pub mod reload;
pub mod replies;
pub mod session;
pub mod status;
pub mod supervisor;
pub mod trace_context;
pub mod transport;
