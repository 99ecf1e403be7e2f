//! Frames without our key: a service may repeat what it was signed in with, and what it says is published.

use std::fmt::Write as _;

use crate::secret::Secret;
use crate::websocket::Frame;

/// Stands in the place of the key.
const MASK: &str = "***";
/// A key shorter than this is in too many words to be masked.
const SHORTEST: usize = 4;

/// Hides a key.
pub struct Mask {
    /// As it is, within a JSON string, within an address; each once.
    forms: Vec<String>,
}

impl Mask {
    /// Hides this key. One that cannot be looked up now was none that this connection was made with.
    pub fn new(key: &Secret) -> Self {
        let Some(key) = key.reveal().ok().filter(|key| key.len() >= SHORTEST) else {
            return Self { forms: Vec::new() };
        };
        let quoted = serde_json::Value::from(key.as_str()).to_string();
        let escaped = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or(&key).to_owned();
        let mut encoded = String::new();
        for byte in key.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    encoded.push(char::from(byte));
                }
                _ => {
                    let _ = write!(encoded, "%{byte:02X}");
                }
            }
        }
        let mut forms = vec![key];
        for form in [escaped, encoded] {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        Self { forms }
    }

    /// The frame without the key; `None` if the key is not in it.
    pub fn hide(&self, frame: &Frame) -> Option<Frame> {
        let text = std::str::from_utf8(frame.bytes()).ok()?;
        let inside = |form: &&String| text.contains(form.as_str());
        self.forms.iter().find(inside)?;
        let hide = |text: String, form: &String| text.replace(form.as_str(), MASK);
        let hidden = self.forms.iter().fold(text.to_owned(), hide).into();
        Some(match frame {
            Frame::Text(_) => Frame::Text(hidden),
            Frame::Binary(_) => Frame::Binary(hidden),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_masked_in_every_form() {
        let mask = Mask::new(&Secret::plain("k\"y/1"));
        for (text, hidden) in [
            (r#"{"message":"bad key k\"y/1"}"#, r#"{"message":"bad key ***"}"#),
            ("no JSON: k\"y/1", "no JSON: ***"),
            (r#"{"url":"wss://h/?network_api_key=k%22y%2F1"}"#, r#"{"url":"wss://h/?network_api_key=***"}"#),
        ] {
            assert_eq!(mask.hide(&Frame::text(text)), Some(Frame::text(hidden)));
        }
        // JSON may come in a binary frame, too.
        let binary = |text: &'static str| Frame::Binary(text.as_bytes().into());
        assert_eq!(mask.hide(&binary("\"k\\\"y/1\"")), Some(binary("\"***\"")));
        assert_eq!(mask.hide(&Frame::text("{}")), None);
        assert_eq!(mask.hide(&Frame::Binary(vec![255].into())), None);
        assert_eq!(Mask::new(&Secret::plain("b")).hide(&Frame::text("a b c")), None);
        assert_eq!(Mask::new(&Secret::plain(" ")).hide(&Frame::text(" ")), None);
    }
}
