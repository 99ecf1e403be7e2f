//! What an operator asks of all links of an instance.

/// Seen by every link; a change counts at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Control {
    /// How often the links were to be dialled again.
    pub redials: u64,
    /// Whether links are closed, and are not dialled.
    pub paused: bool,
}
