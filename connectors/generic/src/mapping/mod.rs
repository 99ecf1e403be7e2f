//! What a connector needs whose services are described by configuration: where things stand in a payload, what they
//! become, and what is sent.
//!
//! * [`Pointer`]: a JSON pointer (RFC 6901) into a payload; several are followed in one pass, without parsing the rest
//! * [`Mapping`]: what one of a service's names becomes, `noun.verb` with fields, and the event that is made by it
//! * [`Template`]: what is sent, with `${name}` in the place of what is known later; [`Secrets`] has the secrets' texts
//! * [`time_of`]: times as services write them; [`Base64`]: binary data as callers write it
//!
//! A connector says by its own [`Document`] what its pointers lead into; errors and schemas use its terms.

mod base64;
mod each;
mod entry;
mod event;
mod find;
mod message;
mod pointer;
mod put;
mod secrets;
mod template;
mod time;

pub use base64::Base64;
pub use entry::{MappedType, Mapping, Unmapped, shared_fields};
pub use event::unmapped;
pub use find::{Json, Payload, find};
pub use message::TemplateMessage;
pub use pointer::{Document, Pointer};
pub use secrets::{Secrets, with_secrets};
pub(crate) use secrets::{check_params, check_unprompted, filled};
pub use template::{Known, Template, ValueOf};
pub use time::{TimeUnit, time_of};

#[cfg(test)]
mod tests {
    use super::*;

    /// What pointers of these tests lead into: one value.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub(super) enum Frames {}

    impl Document for Frames {
        const MAPPED: &'static str = "frames";
        const INTO: &'static str = "the frame";
        const EXAMPLE: &'static str = "/data/text";
        const WRITE: &'static str = "write \"/type\" for the field type of the frame";
    }

    /// What pointers of these tests lead into: a list of values.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub(super) enum Arguments {}

    impl Document for Arguments {
        const MAPPED: &'static str = "events";
        const INTO: &'static str = "the list of arguments";
        const EXAMPLE: &'static str = "/0/text";
        const WRITE: &'static str = "write \"/0\" for the first argument, \"/0/text\" for its field text";
        const LIST: bool = true;
    }
}
