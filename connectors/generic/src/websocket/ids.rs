//! The ids of calls, by which their answers are known.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::websocket::config::Form;

/// Gives every id once in the life of the instance, so that no answer can be taken for one over another connection.
pub(crate) struct RequestIds {
    last: AtomicU64,
    form: Form,
    /// Ends every id that is a text. Other clients of the service may be Pontoons too, and answers to them must not look
    /// like ours.
    salt: String,
}

impl RequestIds {
    pub(crate) fn new(form: Form) -> Self {
        let salt = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { last: AtomicU64::new(0), form, salt }
    }

    /// The next id.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// An id as JSON.
    pub(crate) fn json(&self, id: u64) -> String {
        match self.form {
            Form::Number => id.to_string(),
            Form::Text => format!("\"{id}-{}\"", self.salt),
        }
    }

    /// The id that this JSON stands for, whether it was given yet or not. A service may give a number back as a text.
    pub(crate) fn read(&self, json: &str) -> Option<u64> {
        let text = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
        let digits = match self.form {
            Form::Number => text.unwrap_or(json),
            Form::Text => text?.strip_suffix(self.salt.as_str())?.strip_suffix('-')?,
        };
        // Of several ways to write a number, ours alone.
        let is_ours = digits == "0" || !digits.starts_with(['0', '+']);
        if is_ours { digits.parse().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_ids_are_read() {
        let ids = RequestIds::new(Form::Number);
        assert_eq!((ids.next(), ids.next()), (1, 2));
        assert_eq!(ids.json(7), "7");
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
            assert_eq!(ids.read(json), wanted, "{json}");
        }
        let texts = RequestIds::new(Form::Text);
        assert_eq!(texts.read(&texts.json(7)), Some(7));
        assert_eq!(texts.read(&RequestIds::new(Form::Text).json(7)), None);
        assert_eq!(texts.read("7"), None);
        assert_eq!(texts.read("\"7-\""), None);
        assert!(texts.json(1).starts_with("\"1-"));
    }
}
