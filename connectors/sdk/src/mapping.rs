//! What a connector needs whose services are described by configuration: where things stand in a payload, what they
//! become, and what is sent.
//!
//! * [`Pointer`]: a JSON pointer (RFC 6901) into a payload; several are followed in one pass, without parsing the rest
//! * [`Mapping`]: what one of a service's names becomes, `noun.verb` with fields, and the event that is made by it
//! * [`Template`]: what is sent, with `${name}` in the place of what is known later; [`Secrets`] has the secrets' texts
//! * [`MessageSend`]: what a caller of `message.send` gives for a template
//! * [`TextOrSecret`], [`check_headers`]: settings of an endpoint
//! * [`text_of`], [`time_of`]: texts and times as services write them
//!
//! A connector says by its own [`Document`] what its pointers lead into; errors and schemas then speak its words:
//!
//! ```
//! use pontoon_sdk::mapping::{Document, Mapping, Payload};
//! use pontoon_sdk::accumulator::Streams;
//! use pontoon_sdk::{Bytes, Raw};
//!
//! #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
//! enum Lines {}
//!
//! impl Document for Lines {
//!     const MAPPED: &'static str = "lines";
//!     const INTO: &'static str = "the line";
//!     const EXAMPLE: &'static str = "/data/text";
//!     const WRITE: &'static str = "write \"/text\" for the field text of the line";
//! }
//!
//! let settings = r#"{"type": "message.created", "channel": "/room", "text": "/data/words"}"#;
//! let mapping: Mapping<Lines> = serde_json::from_str(settings)?;
//! mapping.check("/events/said")?;
//!
//! let line = r#"{"room":7,"data":{"words":"hello"}}"#;
//! let event = mapping.event(Payload::Json(line), Raw::of_bytes(&Bytes::from(line)), &mut Streams::default());
//! assert_eq!(serde_json::to_string(&event.fields)?, r#"{"channel":"7","message":{"text":"hello"}}"#);
//!
//! let wrong = serde_json::from_str::<Mapping<Lines>>(r#"{"type": "message.created", "text": "words"}"#);
//! let words = wrong.unwrap_err().to_string();
//! assert!(words.contains("\"words\" is no JSON pointer; write \"/text\""), "{words}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod entry;
mod event;
mod find;
mod message;
mod pointer;
mod put;
mod reading;
mod settings;
mod template;

pub use crate::json::text as text_of;
pub use entry::{MappedType, Mapping, Unmapped};
pub use event::unmapped;
pub use find::{Payload, find};
pub use message::{MessageSend, needs_object};
pub use pointer::{Document, Pointer};
pub use reading::{TimeUnit, time_of};
pub use settings::{Secrets, TextOrSecret, check, check_headers, escaped, is_token, params};
pub use template::{Known, Template, ValueOf};

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
