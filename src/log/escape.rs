//! Makes text from outside harmless in a log: it can neither steer a terminal nor begin a line.

use std::borrow::Cow;
use std::fmt::{self, Write};

use crate::log::printable::is_dangerous;

/// Writes the text with every dangerous character as Rust writes it in a literal.
pub(super) fn plain(text: &str, out: &mut dyn Write) -> fmt::Result {
    for c in text.chars() {
        if is_dangerous(c) {
            write!(out, "{}", c.escape_debug())?;
        } else {
            out.write_char(c)?;
        }
    }
    Ok(())
}

/// A line of JSON with every dangerous character as JSON writes it; only what stands within strings can hold one.
pub(super) fn json(line: &[u8]) -> Cow<'_, [u8]> {
    let end = usize::from(line.ends_with(b"\n"));
    let Ok(text) = std::str::from_utf8(&line[..line.len() - end]) else { return line.into() };
    if !text.chars().any(is_dangerous) {
        return line.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_dangerous(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                write!(shown, "\\u{unit:04x}").ok();
            }
        } else {
            shown.push(c);
        }
    }
    shown.push_str(if end == 1 { "\n" } else { "" });
    shown.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b[2Jb\u{9b}31mc\u{202e}d\re\nf\x7f\u{e0041}g";

    #[test]
    fn text_stays_on_its_line() {
        let mut shown = String::new();
        plain(HOSTILE, &mut shown).unwrap();
        assert_eq!(shown, "a\\u{1b}[2Jb\\u{9b}31mc\\u{202e}d\\re\\nf\\u{7f}\\u{e0041}g");
        shown.clear();
        plain("häßlich 日本 हिन्दी 👍 \"quoted\" c:\\", &mut shown).unwrap();
        assert_eq!(shown, "häßlich 日本 हिन्दी 👍 \"quoted\" c:\\");
    }

    #[test]
    fn json_means_the_same() {
        let line = format!("{}\n", serde_json::json!({ "message": HOSTILE }));
        let shown = json(line.as_bytes());
        let (end, text) = shown.split_last().unwrap();
        let text = std::str::from_utf8(text).unwrap();
        assert!(*end == b'\n' && !text.chars().any(is_dangerous), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap()["message"], HOSTILE);
        assert!(matches!(json(b"{\"a\":1}\n"), Cow::Borrowed(b"{\"a\":1}\n")));
    }
}
