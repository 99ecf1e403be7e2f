//! What belongs to one link.
//!
//! * [`gaps`]: when the events of a link may be incomplete, and what is published about it

pub mod gaps;
