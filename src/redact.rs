//! Words from outside without our secrets: a service may repeat in a refusal what we signed in with.

/// Stands in the place of a secret.
const MASK: &str = "***";
/// How many characters of what a service says at the end are shown.
const LONGEST: usize = 1_000;
/// A text shorter than this is in too many words to be masked.
const SHORTEST: usize = 4;

/// The secrets of one endpoint.
#[derive(Clone, Default)]
pub struct Redact(Vec<String>);

impl Redact {
    /// Masks these texts.
    pub fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| secret.len() >= SHORTEST);
        // The longest first, as one secret may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// The text without them, and no longer than anybody reads. It is cut after they are masked, so that no piece of one
    /// is left.
    pub fn text(&self, text: &str) -> String {
        let mut text =
            self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK));
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_wherever_it_stands() {
        let redact = Redact::new(vec!["tok".into(), "secret".into(), "secret-long".into()]);
        assert_eq!(redact.text("bad secret-long, bad secret: tok"), "bad ***, bad ***: tok");
        let long = redact.text(&format!("{}secret", "é".repeat(LONGEST - 2)));
        assert!(long.ends_with("é**…") && long.chars().count() == LONGEST + 1);
    }
}
