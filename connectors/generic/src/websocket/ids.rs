//! The calls that wait for answers, and the numbers that tell them apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use pontoon_sdk::{CommandId, DeliveryLevel};

use crate::websocket::config::Form;

/// How many answers that no caller waits for are still known for what they are when they come.
const MAX_ABANDONED: usize = 1024;

/// Gives numbers: each once in the life of the instance, so that no answer can be taken for one over another
/// connection.
pub(crate) struct Numbers {
    last: AtomicU64,
    form: Form,
    /// Ends every number that is a text. Other clients of the service may be Pontoons too, and what is meant for them
    /// must not look like ours.
    salt: String,
}

impl Numbers {
    pub(crate) fn new(form: Form) -> Self {
        let salt = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { last: AtomicU64::new(0), form, salt }
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number as JSON.
    pub(crate) fn json(&self, number: u64) -> String {
        match self.form {
            Form::Number => number.to_string(),
            Form::Text => format!("\"{number}-{}\"", self.salt),
        }
    }

    /// The number that this JSON stands for, whether it was given yet or not. A service may give a number back as a
    /// text.
    pub(crate) fn read(&self, json: &str) -> Option<u64> {
        let text = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
        let digits = match self.form {
            Form::Number => text.unwrap_or(json),
            Form::Text => text?.strip_suffix(self.salt.as_str())?.strip_suffix('-')?,
        };
        digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
    }
}

/// The calls of one connection.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: BTreeMap<u64, Call>,
    numbers: HashMap<CommandId, u64>,
    /// Those whose callers have given up, and whose answers may still come.
    abandoned: BTreeSet<u64>,
}

/// A call that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Who waits for the answer, if somebody still does.
    pub(crate) caller: Option<CommandId>,
    /// What the caller is told at best.
    pub(crate) delivery: DeliveryLevel,
}

impl Calls {
    /// Notes a call.
    pub(crate) fn begin(&mut self, number: u64, caller: CommandId, delivery: DeliveryLevel) {
        self.numbers.insert(caller, number);
        self.waiting.insert(number, Call { caller: Some(caller), delivery });
    }

    /// The call that has this number, once.
    pub(crate) fn take(&mut self, number: u64) -> Option<Call> {
        let call = self.waiting.remove(&number)?;
        self.abandoned.remove(&number);
        if let Some(caller) = call.caller {
            self.numbers.remove(&caller);
        }
        Some(call)
    }

    /// The caller waits no more. A call that was never written is forgotten.
    pub(crate) fn abandon(&mut self, caller: CommandId, sent: bool) {
        let Some(number) = self.numbers.remove(&caller) else { return };
        if !sent {
            self.waiting.remove(&number);
        } else if let Some(call) = self.waiting.get_mut(&number) {
            call.caller = None;
            self.abandoned.insert(number);
        }
        while self.abandoned.len() > MAX_ABANDONED
            && let Some(oldest) = self.abandoned.pop_first()
        {
            self.waiting.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_numbers_are_read() {
        let numbers = Numbers::new(Form::Number);
        assert_eq!((numbers.next(), numbers.next()), (1, 2));
        assert_eq!(numbers.json(7), "7");
        for (json, wanted) in [
            ("7", Some(7)),
            ("\"7\"", Some(7)),
            ("07", None),
            ("\"+7\"", None),
            ("7.0", None),
            ("-7", None),
            ("null", None),
            ("\"", None),
            ("\"\"", None),
            ("[7]", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(numbers.read(json), wanted, "{json}");
        }
        let texts = Numbers::new(Form::Text);
        assert_eq!(texts.read(&texts.json(7)), Some(7));
        assert_eq!(texts.read(&Numbers::new(Form::Text).json(7)), None);
        assert_eq!(texts.read("7"), None);
        assert_eq!(texts.read("\"7-\""), None);
        assert!(texts.json(1).starts_with("\"1-"));
    }

    #[test]
    fn every_call_is_answered_once_and_a_late_answer_has_no_caller() {
        let mut calls = Calls::default();
        for number in 1..=3 {
            calls.begin(number, CommandId(number), DeliveryLevel::Response);
        }
        calls.abandon(CommandId(1), true);
        calls.abandon(CommandId(3), false);
        assert_eq!(calls.numbers.len(), 1);
        assert_eq!(calls.take(1), Some(Call { caller: None, delivery: DeliveryLevel::Response }));
        assert_eq!(calls.take(1), None);
        assert_eq!(calls.take(2).and_then(|call| call.caller), Some(CommandId(2)));
        assert_eq!(calls.take(3), None);
        assert!(calls.waiting.is_empty() && calls.numbers.is_empty() && calls.abandoned.is_empty());
    }

    #[test]
    fn what_nobody_waits_for_is_bounded() {
        let mut calls = Calls::default();
        for number in 0..5_000 {
            calls.begin(number, CommandId(number), DeliveryLevel::Response);
            calls.abandon(CommandId(number), true);
        }
        assert_eq!((calls.waiting.len(), calls.abandoned.len()), (MAX_ABANDONED, MAX_ABANDONED));
        assert!(calls.numbers.is_empty());
        assert!(calls.take(4_999).is_some() && calls.take(3_000).is_none());
    }
}
