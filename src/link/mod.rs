//! One link: all that begins and ends with it.
//!
//! * [`supervisor`]: dials, runs a session, waits, dials again; [`session`]: one connection, from open to close
//! * [`queue`]: commands that wait for the link; [`pending`]: commands that were given to its session
//! * [`slots`]: how many links may be open on demand; [`phases`]: what each link is doing
//! * [`gaps`]: when the events of a link may be incomplete, and what is published about it; [`received`]: until when
//!   everything is known to be received
//! * [`redact`]: texts from outside, without secrets

pub mod gaps;
pub mod pending;
pub mod phases;
pub mod queue;
pub mod received;
pub mod redact;
pub mod session;
pub mod slots;
pub mod supervisor;
