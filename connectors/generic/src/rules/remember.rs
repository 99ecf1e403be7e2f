//! Values of frames that are remembered by name, for templates; they outlive the connection.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pontoon_sdk::Result;
use pontoon_sdk::settings::text_or_table;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::selector::{Seen, Selector, Selectors};
use crate::mapping::{Document, Pointer};

/// The largest value that is remembered, in bytes of JSON. In the place of a larger one nothing is.
const MAX_VALUE: usize = 16 * 1024;

/// What is remembered under a name: the last value that frames had there.
#[derive(Debug)]
pub struct Remember<D> {
    /// Of which frames; of all if it is left out.
    pub when: Option<Selector<D>>,
    /// Where the value stands.
    pub from: Pointer<D>,
    /// When it is forgotten.
    pub forget_when: Selectors<D>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "D: Document")]
#[schemars(rename = "RememberTable", bound = "D: Document")]
struct RememberTable<D> {
    /// Of which frames it is taken; of all if it is left out.
    when: Option<Selector<D>>,
    /// Where the value stands in them. Where nothing does, or `null`, the value before it stays.
    from: Pointer<D>,
    /// The frame by which it is forgotten, or the close code, or a list of these.
    #[serde(default)]
    forget_when: Selectors<D>,
}

impl<'de, D: Document> Deserialize<'de> for Remember<D> {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> Result<Self, T::Error> {
        let of_text = |text: &str| {
            text.parse().map(|from| Self { when: None, from, forget_when: Selectors::default() })
        };
        let of_table = |RememberTable { when, from, forget_when }| Self { when, from, forget_when };
        text_or_table(
            deserializer,
            "a JSON pointer, or a table with when, from and forget_when",
            of_text,
            of_table,
        )
    }
}

impl<D: Document> JsonSchema for Remember<D> {
    fn schema_name() -> Cow<'static, str> {
        "Remember".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where the value stands, or a table with when, from and forget_when",
            "anyOf": [generator.subschema_for::<Pointer<D>>(), generator.subschema_for::<RememberTable<D>>()]
        })
    }
}

impl<D: Document> Remember<D> {
    /// Whether a frame has such a value.
    pub fn is_in(&self, seen: &Seen<'_, '_>) -> bool {
        found(self.when.as_ref(), &self.from, seen).is_some()
    }
}

/// The value of a frame.
fn found<'a, D: Document>(
    when: Option<&Selector<D>>,
    from: &Pointer<D>,
    seen: &Seen<'_, 'a>,
) -> Option<Cow<'a, str>> {
    if when.is_some_and(|when| !when.matches(seen)) {
        return None;
    }
    seen.find(from).filter(|found| found.trim_ascii() != "null")
}

/// What an instance remembers: a JSON text for each name. Their number is that of the setting `remember`.
#[derive(Default)]
pub struct Memory(Mutex<Values>);

#[derive(Default)]
struct Values {
    values: BTreeMap<String, String>,
    /// Whether they have changed since they were taken.
    changed: bool,
}

impl Memory {
    /// What is remembered by this name.
    pub fn json(&self, name: &str) -> Option<String> {
        self.state().values.get(name).cloned()
    }

    /// Whether something is.
    pub fn has(&self, name: &str) -> bool {
        self.state().values.contains_key(name)
    }

    /// Takes from a frame what is to be remembered of it, and forgets what is to be forgotten.
    pub fn learn<D: Document>(&self, rules: &BTreeMap<String, Remember<D>>, seen: &Seen<'_, '_>) {
        for (name, Remember { when, from, forget_when }) in rules {
            if forget_when.matches(seen) {
                self.forget(name);
            }
            if let Some(found) = found(when.as_ref(), from, seen) {
                self.set(name, &found);
            }
        }
    }

    /// Forgets what is to be forgotten after the end of a connection with this close code.
    pub fn ended<D: Document>(&self, rules: &BTreeMap<String, Remember<D>>, code: Option<u16>) {
        for (name, rule) in rules {
            if rule.forget_when.matches_code(code) {
                self.forget(name);
            }
        }
    }

    /// Remembers a value, unless it is too large: then the one before it is forgotten.
    pub fn set(&self, name: &str, json: &str) {
        if json.len() > MAX_VALUE {
            return self.forget(name);
        }
        let state = &mut *self.state();
        if state.values.get(name).is_none_or(|known| known != json) {
            state.values.insert(name.to_owned(), json.to_owned());
            state.changed = true;
        }
    }

    /// Forgets a value.
    pub fn forget(&self, name: &str) {
        let state = &mut *self.state();
        state.changed |= state.values.remove(name).is_some();
    }

    /// All values, for a later run of the daemon, if they have changed since this was called last.
    pub fn take(&self) -> Option<Vec<u8>> {
        let state = &mut *self.state();
        std::mem::take(&mut state.changed).then(|| serde_json::to_vec(&state.values).ok())?
    }

    /// Goes on with the values of an earlier run of the daemon.
    pub fn restore(&self, values: &[u8]) {
        let Ok(values) = serde_json::from_slice::<BTreeMap<String, String>>(values) else { return };
        self.state().values = values;
    }

    fn state(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the names only.
impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.state().values.keys()).finish()
    }
}
