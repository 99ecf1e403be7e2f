//! Texts from outside without our secrets: a service may repeat our credentials where it refuses them.

use std::borrow::Cow;

use pontoon_sdk::Redactor;

/// How many characters of a reason are shown.
const LONGEST: usize = 1_000;

/// The text without the secrets, cut to `LONGEST` characters. It is cut after they are masked, so that no piece of one is
/// left.
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
