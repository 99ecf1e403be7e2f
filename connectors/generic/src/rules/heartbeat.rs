//! What keeps a connection alive where the protocol's own pings do not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::settings::{check, text_or_table};
use pontoon_sdk::{Error, Result, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::ask::CheckSend;
use super::reaction::Answer;
use super::remember::{Memory, Remember};
use super::selector::Selector;
use crate::mapping::{Document, Known, TimeUnit};

/// The shortest time between two heartbeats.
const MIN_EVERY: Duration = Duration::from_millis(100);
/// The longest that a service may ask for.
const MAX_EVERY: Duration = Duration::from_secs(3600);

/// What keeps the connection alive.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, bound = "D: Document, M: Deserialize<'de>")]
#[schemars(rename = "Heartbeat", bound = "D: Document, M: JsonSchema")]
pub struct Heartbeat<D, M> {
    /// How often `send` is sent, from the opening on; or a remembered value that says so, from when it is there.
    pub every: Option<Every>,
    /// What is sent every so often.
    pub send: Option<M>,
    /// Frames that only keep the connection alive, and are never published.
    pub ignore: Vec<Selector<D>>,
    /// What is answered to frames that ask for a sign of life: the same as `on`.
    pub answer: Vec<Answer<D, M>>,
}

impl<D, M> Default for Heartbeat<D, M> {
    fn default() -> Self {
        Self { every: None, send: None, ignore: Vec::new(), answer: Vec::new() }
    }
}

/// How often.
#[derive(Debug, Clone)]
pub enum Every {
    /// This often.
    Fixed(Span),
    /// As often as a remembered value says.
    Remembered(RememberedTime),
}

/// A time that a service gives.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RememberedTime {
    /// The name of the remembered value.
    from: String,
    /// What its number counts.
    unit: TimeUnit,
}

impl Every {
    /// The time, if it is known. Of a service's, at least 100 ms and at most an hour.
    pub(super) fn time(&self, memory: &Memory) -> Option<Duration> {
        match self {
            Self::Fixed(span) => Some(span.0),
            Self::Remembered(RememberedTime { from, unit }) => {
                let millis = unit.millis(&text_of(&memory.json(from)?)?)?;
                Some(Duration::from_millis(u64::try_from(millis).ok()?).clamp(MIN_EVERY, MAX_EVERY))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> Result<Self, T::Error> {
        let expected = "a time such as \"20s\", or { from = \"interval\", unit = \"ms\" }";
        text_or_table(deserializer, expected, |text| text.parse().map(Self::Fixed), Self::Remembered)
    }
}

impl JsonSchema for Every {
    fn schema_name() -> Cow<'static, str> {
        "Every".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time, or where a remembered value has it",
            "anyOf": [generator.subschema_for::<Span>(), generator.subschema_for::<RememberedTime>()]
        })
    }
}

impl<D: Document, M> Heartbeat<D, M> {
    /// Checks it.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub(super) fn check(
        &self,
        remember: &BTreeMap<String, Remember<D>>,
        has_kinds: bool,
        unprompted: Known<'_>,
        check_send: CheckSend<'_, M>,
    ) -> Result<()> {
        match (&self.every, &self.send) {
            (Some(_), None) => {
                let text = "nothing is sent every so often; set heartbeat.send, or leave this out";
                return Err(Error::config(text).at("/heartbeat/every"));
            }
            (None, Some(_)) => {
                let text = "nothing says how often this is sent; set heartbeat.every, such as \"20s\"";
                return Err(Error::config(text).at("/heartbeat/send"));
            }
            (Some(every), Some(send)) => {
                match every {
                    Every::Fixed(span) => {
                        let text = "this is sent too often; write \"100ms\" or more";
                        check(span.0 >= MIN_EVERY, "/heartbeat/every", text)?;
                    }
                    Every::Remembered(RememberedTime { from, .. }) => {
                        let text = format!("nothing is remembered as {from}; list it under remember");
                        check(remember.contains_key(from), "/heartbeat/every/from", &text)?;
                    }
                }
                check_send(send, unprompted, "/heartbeat/send")?;
            }
            (None, None) => {}
        }
        let mut ignored = self.ignore.iter().enumerate();
        ignored.try_for_each(|(place, selector)| {
            selector.check(has_kinds, false, &format!("/heartbeat/ignore/{place}"))
        })
    }
}
