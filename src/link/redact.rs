//! Words from outside without our secrets: a service may repeat in a refusal what we signed in with.

use std::borrow::Cow;

use pontoon_sdk::Redactor;

/// How many characters of what a service says at the end are shown.
const LONGEST: usize = 1_000;

/// The text without the secrets, and no longer than anybody reads. It is cut after they are masked, so that no piece of one
/// is left.
pub fn shown(redactor: &Redactor, text: &str) -> String {
    let mut text = redactor.text(text);
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        let shown = text.to_mut();
        shown.truncate(end);
        shown.push('…');
    }
    Cow::into_owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_behind_the_mask() {
        let redactor = Redactor::new(["secret".to_owned()]);
        let long = shown(&redactor, &format!("{}secret", "é".repeat(LONGEST - 2)));
        assert!(long.ends_with("é**…") && long.chars().count() == LONGEST + 1);
    }
}
