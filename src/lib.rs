//! Pontoon: a message bridge between services with persistent sockets and NATS. This is its map.
//!
//! A **connector** is the code for one kind of service, an **instance** one configured use of it, a **link** one socket
//! of an instance. An **event** comes from a service, a **command** goes to one.
//!
//! ```text
//! in    socket ─▶ transport ─▶ link::session (Session::decode) ─▶ bus::spool ─▶ envelope ─▶ bus::publisher ─▶ NATS
//! out   NATS ─▶ bus::commands ─▶ instance::router ─▶ link::queue ─▶ link::session (Session::encode) ─▶ transport::writer ─▶ socket
//! back  Session::decode ─▶ link::pending ─▶ reply ─▶ bus::replies ─▶ the caller's inbox
//! jobs  NATS ─▶ bus::jobs ─▶ instance::jobs ─▶ instance::router … reply ─▶ instance::jobs ─▶ bus::jobs ─▶ the stream of results
//! ```
//!
//! # What each module is for, from the top; imports go down only
//!
//! * [`cli`]: the command line; [`daemon`]: the process, its admin endpoint and signals
//! * [`config`]: reads and checks all [`settings`] at once; [`registry`]: from a type's name to a connector
//! * [`instance`]: instances, and the threads that they share; takes their commands, opens and closes their links
//! * [`cluster`]: several daemons that share instances: who runs which, by leases
//! * [`link`]: the state of one link: dialling, session, command queue, pending commands, gaps
//! * [`bus`]: NATS; [`reply`]: replies to commands
//! * [`transport`]: where sockets are opened, read and written
//! * [`envelope`]: from an event to subject, headers and body; [`metrics`], [`log`], [`status`], [`feed`], [`backoff`]
//! * [`fence`]: until when an instance may act
//! * [`recipes`]: configurations for public protocols, which are printed
//! * [`disk`]: files that outlive the daemon
//! * [`settings`]: the settings as plain types, with their defaults
//!
//! Connectors use the crate `pontoon-sdk` only.
//!
//! # Invariants
//!
//! * A connector never sees a socket, the system's clock, or NATS: its crate has no access to them. It names no subject but
//!   those that its settings let it ask.
//! * Only [`transport`] opens sockets to services; only [`bus`] knows NATS; only [`envelope`] makes subjects.
//! * Every command with a caller is answered exactly once at the end: by the session, by refusal, by deadline, by
//!   disconnect, or because its caller is gone. [`reply::Caller`] answers even when it is dropped.
//! * A job has one result, stored before the job is acknowledged, and an intent, written before its first byte is.
//! * Loss happens in one place, [`bus::spool`], by a stated policy, and is counted; an event that NATS would never take
//!   leaves a gap in its place. Everything bounded is bounded in bytes as well as in count.
//! * A bad frame never ends a session; a bad configuration never starts one; an instance's failure never touches
//!   another's.
//! * Every retry has a limit on rate, every queue a limit on length; links are redialled for as long as they are wanted.
//! * One [`status::Phase`] per link feeds readiness, gauges, the state subject and `status` alike.
//! * The daemon's loops count; connectors emit no metrics.

pub mod backoff;
pub mod bus;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod disk;
pub mod envelope;
pub mod feed;
pub mod fence;
pub mod instance;
pub mod link;
pub mod log;
pub mod metrics;
pub mod recipes;
pub mod registry;
pub mod reply;
pub mod settings;
pub mod status;
pub mod transport;
