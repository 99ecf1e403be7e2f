//! What both connectors do by their settings beyond mapping: which frames make a link ready, end it or are answered, what is
//! remembered of them, and what is sent every so often.
//!
//! * [`Selector`]: which frames a setting means; [`Remember`] and [`Memory`]: values of frames, for templates
//! * [`Reaction`] and [`Heartbeat`]: what is sent; [`Ask`]: what is asked over NATS first; [`Rules`]: the settings together, and their checks
//! * [`Dialogue`]: what one connection does by them

mod ask;
mod dialogue;
mod heartbeat;
mod one_or_more;
mod reaction;
mod remember;
mod selector;
mod settings;
#[cfg(test)]
mod tests;

pub use ask::Ask;
pub use dialogue::{Dialogue, Ends, Outgoing, Reacted};
pub use heartbeat::{Every, Heartbeat};
pub(crate) use one_or_more::OneOrMore;
pub use reaction::{After, Answer, Reaction};
pub use remember::{Memory, Remember};
pub use selector::{Content, Seen, Selector, Selectors};
pub use settings::{Checks, Rules};
