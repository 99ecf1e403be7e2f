//! Replies to commands.
//!
//! * [`Caller`]: waits for the replies to a command, and sends the last one even when it is dropped; [`Answer`]: a reply
//! * [`Job`]: what a command has besides that a work queue keeps until it has a result
//! * [`outbox`]: replies on their way to NATS; `liveness`: whether a caller still receives parts
//! * [`idempotency`]: commands that are sent twice; [`stats`]: figures of each operation

mod answer;
mod caller;
pub mod idempotency;
mod job;
pub(crate) mod liveness;
pub mod outbox;
pub mod stats;

pub use answer::Answer;
pub(crate) use answer::{compose, may_be_done, outcome_of};
pub(crate) use caller::Detached;
#[cfg(test)]
pub(crate) use caller::test_caller;
pub use caller::{Caller, OnAnswer};
pub use job::{Begin, Job};
pub use liveness::Liveness;
pub(crate) use liveness::Stream;
pub(crate) use outbox::Quota;
pub use outbox::{Outgoing, Part, Permit, ReplyReceiver, ReplySender, Space};
pub use stats::{Figures, Stats};
