//! Makes text from outside safe to show on a terminal: no escape sequences, nothing that turns or hides text.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::value::RawValue;

/// The text with every dangerous character written as `\u{…}`.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if is_dangerous(c) => {
                // Writing to a String cannot fail.
                write!(shown, "\\u{{{:x}}}", u32::from(c)).ok();
            }
            c => shown.push(c),
        }
    }
    shown
}

/// The JSON on one line, unchanged, but with every dangerous character escaped as JSON does; other text as a JSON string.
pub(crate) fn printable_json(bytes: &[u8]) -> String {
    let text = match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(json) => json.get().to_owned(),
        Err(_) => Value::from(String::from_utf8_lossy(bytes)).to_string(),
    };
    let mut shown = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        match c {
            // In JSON these stand between tokens only.
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_dangerous(c) => {
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a String cannot fail.
                    write!(shown, "\\u{unit:04x}").ok();
                }
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Control characters, and what changes the direction of text, joins it, or cannot be seen.
pub(crate) fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_can_steer_a_terminal() {
        let hostile = "a\x1b[2Jb\u{9b}31mc\u{202e}d\u{2066}e\u{200b}f\rg\x07\u{7f}\u{e0041}h\ni";
        let shown = printable(hostile);
        assert!(!shown.chars().any(is_dangerous), "{shown:?}");
        assert!(shown.starts_with("a\\u{1b}[2Jb\\u{9b}31mc\\u{202e}d"));
        assert_eq!(printable("häßlich 日本 👍"), "häßlich 日本 👍");
    }

    #[test]
    fn json_stays_json() {
        let hostile = "{\"a\":\"x\u{202e}y\u{9b}z\u{e0041}\",\n \"n\": 123456789012345678901234567890}";
        let shown = printable_json(hostile.as_bytes());
        assert!(!shown.chars().any(is_dangerous), "{shown:?}");
        assert!(shown.contains("123456789012345678901234567890"));
        let back: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back["a"], "x\u{202e}y\u{9b}z\u{e0041}");
        assert_eq!(printable_json(b"no \x1b json"), "\"no \\u001b json\"");
    }
}
