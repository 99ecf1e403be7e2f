//! What tells one command from another.

/// Names one command for as long as it is under way. Unique within an instance and a start of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u64);
