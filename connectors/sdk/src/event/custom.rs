//! Types of events that an operator names.

use crate::error::{Error, Result};
use crate::settings::lasting;

/// The longest noun or verb.
const MAX_WORD: usize = 40;

/// A type that the configuration names, such as `x-trade.executed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CustomType {
    pub(super) name: &'static str,
    pub(super) ce_type: &'static str,
}

impl CustomType {
    /// What every such name begins with, so that none is taken for one that services share, now or later.
    pub const LEAD: &'static str = "x-";

    /// The type of this name: `x-`, a noun, a dot and a verb, of small letters, digits and hyphens.
    ///
    /// # Errors
    /// `Config`, with what to write instead.
    pub(super) fn of(name: &str) -> Result<Self> {
        let is_word = |word: &str| {
            (1..=MAX_WORD).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let words = name.strip_prefix(Self::LEAD).and_then(|words| words.split_once('.'));
        if !words.is_some_and(|(noun, verb)| is_word(noun) && is_word(verb)) {
            return Err(Error::config(format!(
                "\"{}\" is not a type; write x-, a noun, a dot and a verb, of small letters, digits and hyphens, such as \
                 x-trade.executed",
                name.escape_debug()
            )));
        }
        Ok(Self { name: lasting(name)?, ce_type: lasting(&format!("pontoon.{name}.v1"))? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::EventType;

    #[test]
    fn a_name_is_one_type_however_often_it_is_read() {
        let [first, again] = ["x-trade.executed"; 2].map(|name| name.parse::<EventType>().unwrap());
        assert_eq!(first, again);
        assert_eq!((first.as_str(), first.ce_type()), ("x-trade.executed", "pontoon.x-trade.executed.v1"));
        for wrong in [
            "x-",
            "x-a",
            "x-a.",
            "x-.b",
            "x-a.b.c",
            "x-a.B",
            "x-a.>",
            "x-a b.c",
            "x-\u{e9}.b",
            "trade.executed",
        ] {
            assert!(wrong.parse::<EventType>().is_err(), "{wrong}");
        }
    }
}
