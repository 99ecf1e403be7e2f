//! What belongs to one link.
//!
//! * [`gaps`]: when the events of a link may be incomplete, and what is published about it
//! * [`received`]: until when everything is known to be received

pub mod gaps;
pub mod received;
