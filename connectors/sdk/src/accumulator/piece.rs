//! One piece of a longer text, which may begin and end in the middle of a surrogate pair.

use crate::json::{self, Half};

/// Length of an escape `\uXXXX`.
const ESCAPE: usize = 6;

/// One piece of a text as a service sends it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Piece {
    /// The second half of a pair, at the start.
    start: Option<u16>,
    text: String,
    /// The first half of a pair, at the end.
    end: Option<u16>,
}

impl From<String> for Piece {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl Piece {
    /// Reads a JSON string; a number or a truth value is read as its JSON text. `None` for any other value.
    pub fn read(json: &str) -> Option<Self> {
        let json = json.trim_ascii();
        let Some(inner) = json.strip_prefix('"') else { return json::text(json).map(Self::from) };
        if let Ok(text) = serde_json::from_str::<String>(json) {
            return Some(Self::from(text));
        }
        let mut inner = inner.strip_suffix('"')?;
        let halves = json::halves(inner);
        let end = halves.last().filter(|half| half.is_high() && half.at + ESCAPE == inner.len());
        let start = halves.first().filter(|half| !half.is_high() && half.at == 0);
        if end.is_some() {
            inner = inner.get(..inner.len() - ESCAPE)?;
        }
        if start.is_some() {
            inner = inner.get(ESCAPE..)?;
        }
        let unit = |half: Option<&Half>| half.map(|half| half.unit);
        Some(Self { start: unit(start), text: json::text(&format!("\"{inner}\""))?, end: unit(end) })
    }

    /// Whether it begins with the second half of a pair.
    pub(super) fn starts_with_half(&self) -> bool {
        self.start.is_some()
    }

    /// Puts U+FFFD in the place of half a pair at the start.
    pub(super) fn close_start(&mut self) {
        if self.start.take().is_some() {
            self.text.insert(0, char::REPLACEMENT_CHARACTER);
        }
    }

    /// The text from its start. Half a pair at the end is left out: the text goes on there.
    pub(super) fn into_text(mut self) -> String {
        self.close_start();
        self.text
    }

    /// The text behind another piece, which ended with this half. `half` becomes the one that this piece ends with.
    pub(super) fn join(self, half: &mut Option<u16>) -> String {
        if self == Self::default() {
            return String::new();
        }
        let before = std::mem::replace(half, self.end).into_iter().chain(self.start);
        let before = char::decode_utf16(before).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        let mut text: String = before.collect();
        if text.is_empty() {
            return self.text;
        }
        text.push_str(&self.text);
        text
    }
}
