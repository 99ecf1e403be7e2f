//! Subjects of NATS that a session may send requests to, as settings list them.

use std::slice::Iter;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::Result;
use crate::settings::check;

/// The longest subject, in bytes.
const LONGEST: usize = 255;

/// Subjects that requests may go to: `*` stands for one token, `>` at the end for all that are left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Subjects(Vec<String>);

impl Subjects {
    /// Checks them. `at` is where they stand in the settings.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn check(&self, at: &str) -> Result<()> {
        for (place, pattern) in self.0.iter().enumerate() {
            let is_pattern = pattern.strip_suffix(".>").map_or_else(|| is_listed(pattern), is_listed);
            let begins = pattern.split('.').next();
            let is_bounded = begins.is_some_and(|token| token != "*" && !token.starts_with('$'));
            check(
                is_pattern && is_bounded,
                &format!("{at}/{place}"),
                "this is not a subject; write tokens with dots between them, of which * stands for one and a last > for all that \
                 are left, such as \"app.orders.>\"; the first is a name",
            )?;
        }
        Ok(())
    }

    /// Whether requests may go to a subject.
    pub fn allow(&self, subject: &str) -> bool {
        is_subject(subject) && self.0.iter().any(|pattern| matches(pattern, subject))
    }

    /// Each as it is written.
    pub fn iter(&self) -> Iter<'_, String> {
        self.0.iter()
    }
}

impl FromIterator<String> for Subjects {
    fn from_iter<I: IntoIterator<Item = String>>(subjects: I) -> Self {
        Self(subjects.into_iter().collect())
    }
}

/// Whether tokens are names or `*`.
fn is_listed(pattern: &str) -> bool {
    is_subject(
        &pattern.split('.').map(|token| if token == "*" { "_" } else { token }).collect::<Vec<_>>().join("."),
    )
}

/// Whether a text is a subject without wildcards.
fn is_subject(text: &str) -> bool {
    let odd = |char: char| char.is_whitespace() || char.is_control() || matches!(char, '*' | '>');
    text.len() <= LONGEST && text.split('.').all(|token| !token.is_empty() && !token.contains(odd))
}

fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(patterns: &[&str]) -> Subjects {
        Subjects(patterns.iter().map(|pattern| (*pattern).to_owned()).collect())
    }

    #[test]
    fn a_subject_is_allowed_by_the_list_only() {
        for (pattern, subject, allowed) in [
            ("app.orders", "app.orders", true),
            ("app.orders", "app.orders.new", false),
            ("app.*.new", "app.orders.new", true),
            ("app.*", "app.orders.new", false),
            ("app.>", "app.orders.new", true),
            ("app.>", "app", false),
            ("app.>", "apps.orders", false),
            // A wildcard in a request, and what is not a subject.
            ("app.>", "app.*", false),
            ("app.>", "app.>", false),
            ("app.>", "app..new", false),
            ("app.>", "app.a b", false),
            ("app.>", "app.a\r\nPUB x", false),
            ("app.>", "", false),
        ] {
            assert_eq!(subjects(&[pattern]).allow(subject), allowed, "{pattern} {subject}");
        }
        assert!(!Subjects::default().allow("app.orders"));
        assert!(!subjects(&["app.>"]).allow(&format!("app.{}", "x".repeat(300))));
    }

    #[test]
    fn what_is_not_a_subject_is_refused_with_its_place() {
        assert!(subjects(&["app.orders", "app.*.new", "app.>"]).check("/ask").is_ok());
        for wrong in [
            "",
            ">",
            "*",
            "*.a",
            "app..a",
            "app.>.a",
            "app.a>",
            "app.a*",
            "a b",
            "$SYS.>",
            "$JS.API.>",
            "app.",
        ] {
            let error = subjects(&["good", wrong]).check("/ask").unwrap_err();
            assert_eq!(error.pointer(), Some("/ask/1"), "{wrong}");
        }
    }
}
