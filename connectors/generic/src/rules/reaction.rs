//! What is answered to a frame.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ask::Ask;
use super::one_or_more::{OneOrMore, schema_of_one_or_more};
use super::remember::Memory;
use super::selector::Selector;
use crate::mapping::Document;

/// What is sent for a frame: a step of a sign-in, an answer to a sign of life, an acknowledgement.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "D: Document, M: Deserialize<'de>")]
#[schemars(rename = "Reaction", bound = "D: Document, M: JsonSchema")]
pub struct Reaction<D, M> {
    /// Which frames are answered. They are published only if `events` lists them.
    pub when: Selector<D>,
    /// What is sent. `${/pointer}` stands for what the frame has there, with `ask` `${answer}` for what was answered.
    pub send: M,
    /// What is asked over NATS first.
    pub ask: Option<Ask<M>>,
    /// When it is sent: once the frame was read, or once NATS has stored the event that the frame becomes.
    #[serde(default)]
    pub after: After,
    /// Only if all of these are remembered: a name, or a list of names.
    #[serde(default)]
    #[schemars(schema_with = "schema_of_one_or_more::<String>")]
    if_remembered: OneOrMore<String>,
    /// Only if none of these is remembered: a name, or a list of names.
    #[serde(default)]
    #[schemars(schema_with = "schema_of_one_or_more::<String>")]
    unless_remembered: OneOrMore<String>,
}

/// When a reaction is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Once the frame was read.
    #[default]
    Read,
    /// Once NATS has stored its event: an acknowledgement that claims no more than is known. Of a frame that becomes no
    /// event, once it was read.
    Stored,
}

/// What is answered to a frame that asks for a sign of life: a reaction by another name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "D: Document, M: Deserialize<'de>")]
#[schemars(rename = "Answer", bound = "D: Document, M: JsonSchema")]
pub struct Answer<D, M> {
    /// Which frames ask for it. They are published only if `events` lists them.
    pub when: Selector<D>,
    /// The answer. `${/pointer}` stands for what the frame has there.
    pub send: M,
}

impl<D: Document, M> Reaction<D, M> {
    /// The names that must be remembered, and those that must not, with the names of their settings.
    pub(super) fn conditions(&self) -> [(&'static str, &OneOrMore<String>); 2] {
        [("if_remembered", &self.if_remembered), ("unless_remembered", &self.unless_remembered)]
    }

    /// Whether what is remembered allows it.
    pub(super) fn is_due(&self, memory: &Memory) -> bool {
        self.if_remembered.iter().all(|name| memory.has(name))
            && !self.unless_remembered.iter().any(|name| memory.has(name))
    }
}

impl<D, M> From<Answer<D, M>> for Reaction<D, M> {
    fn from(Answer { when, send }: Answer<D, M>) -> Self {
        let (if_remembered, unless_remembered) = (OneOrMore::default(), OneOrMore::default());
        Self { when, send, ask: None, after: After::Read, if_remembered, unless_remembered }
    }
}
