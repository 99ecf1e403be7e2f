//! Frames without our key: a service may repeat what we authenticated with, and its frames are published.

use std::borrow::Cow;

use crate::redact::Redactor;
use crate::secret::Secret;
use crate::websocket::Frame;

/// Hides a key.
pub struct Mask(Redactor);

impl Mask {
    /// Hides this key. One that cannot be looked up now was none that this connection was made with.
    pub fn new(key: &Secret) -> Self {
        Self(Redactor::new(key.reveal().ok()))
    }

    /// The frame without the key; `None` if the key is not in it.
    pub fn hide(&self, frame: &Frame) -> Option<Frame> {
        match self.0.text(std::str::from_utf8(frame.bytes()).ok()?) {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(match frame {
                Frame::Text(_) => Frame::text(text),
                Frame::Binary(_) => Frame::Binary(text.into()),
            }),
        }
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
