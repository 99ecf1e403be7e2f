//! Texts from outside without our secrets: a service may repeat our credentials where it refuses them.

use std::borrow::Cow;

use pontoon_sdk::Redactor;
use pontoon_sdk::connector::Frame;

/// How many characters of a reason are shown.
const LONGEST: usize = 1_000;
/// How many characters of a frame are shown in a reason.
const EXCERPT: usize = 200;

/// The text without the secrets, cut to `LONGEST` characters. It is cut after they are masked, so that no piece of one is
/// left.
pub fn shown(redactor: &Redactor, text: &str) -> String {
    cut(redactor, text, LONGEST)
}

/// The beginning of a frame as JSON, without the secrets.
pub fn excerpt(redactor: &Redactor, frame: &impl Frame) -> String {
    cut(redactor, &String::from_utf8_lossy(frame.raw().as_bytes()), EXCERPT)
}

fn cut(redactor: &Redactor, text: &str, longest: usize) -> String {
    let mut text = redactor.text(text);
    if let Some((end, _)) = text.char_indices().nth(longest) {
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
