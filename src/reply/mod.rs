//! Replies to commands.
//!
//! * [`Caller`]: who waits for a reply, and answers even when it is dropped; [`Answer`]: what it is told
//! * [`outbox`]: replies on their way to NATS; `liveness`: whether a caller still listens to parts
//! * [`idempotency`]: commands that are sent twice; [`stats`]: what is counted

mod answer;
mod caller;
pub mod idempotency;
pub(crate) mod liveness;
pub mod outbox;
pub mod stats;

pub use answer::Answer;
pub(crate) use answer::{may_be_done, outcome_of};
pub use caller::Caller;
pub(crate) use caller::Held;
pub use liveness::Interest;
pub(crate) use liveness::Stream;
pub(crate) use outbox::Quota;
pub use outbox::{Outgoing, Outlet, Part, Permit, Replying, Space};
pub use stats::{Figures, Tally};
