//! The texts of one connection that come in parts, each under a key, within bounds.

use std::collections::{HashMap, VecDeque};

use crate::accumulator::{Accumulator, Mode, Piece};
use crate::event::Fields;

/// How many texts may come in parts at a time. The oldest beyond that begins again with its next part.
const MAX_STREAMS: usize = 64;
/// How many bytes of their texts are kept at a time; the newest may have more alone.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The longest key, in bytes. Parts of a text with a longer one are published without their length.
const MAX_KEY: usize = 1024;

/// The texts of one connection that come in parts.
#[derive(Debug, Default)]
pub struct Streams {
    streams: HashMap<String, Stream>,
    /// Their keys, the oldest first.
    order: VecDeque<String>,
    /// Bytes of all texts.
    bytes: usize,
    begun: u64,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    text: Accumulator,
}

impl Streams {
    /// How many have begun so far: those that begin from now on have this number and later ones.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether no text is coming in parts.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The number of a text that is coming in parts.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.streams.get(key).map(|stream| stream.number)
    }

    /// Takes one more part of a text. Returns the fields of its event, `message.delta`: `delta`, `index`, `length` and `reset`.
    /// The event needs no payload; [`Reply::part`](crate::Reply::part) sends them to a caller.
    pub fn push(&mut self, key: &str, mode: Mode, piece: Piece) -> Fields {
        self.with(key, mode, |text| text.push(piece)).0
    }

    /// Takes one more part of a text in [`Mode::Delta`] that the service has numbered from 0. If its number is not the next
    /// one, a part is missing: the length is not known from then on. Returns the number of the text, too.
    pub fn push_numbered(&mut self, key: &str, piece: Piece, number: Option<u64>) -> (Fields, u64) {
        self.with(key, Mode::Delta, |text| text.push_numbered(piece, number))
    }

    /// Another text begins in place of this one; its parts are numbered on. Its first part has `reset` set.
    pub fn replace(&mut self, key: &str) {
        if let Some(stream) = self.streams.get_mut(key) {
            self.bytes -= stream.text.kept();
            stream.text.replace();
        }
    }

    /// A text is whole, or broke off.
    pub fn end(&mut self, key: &str) {
        if let Some(stream) = self.streams.remove(key) {
            self.bytes -= stream.text.kept();
            self.order.retain(|known| known != key);
        }
    }

    fn with(
        &mut self,
        key: &str,
        mode: Mode,
        push: impl FnOnce(&mut Accumulator) -> Fields,
    ) -> (Fields, u64) {
        if key.len() > MAX_KEY {
            return (Fields { length: None, ..push(&mut Accumulator::new(mode)) }, self.begun);
        }
        if !self.streams.contains_key(key) {
            self.begin(key, mode);
        }
        let Some(stream) = self.streams.get_mut(key) else {
            return (push(&mut Accumulator::new(mode)), self.begun);
        };
        let before = stream.text.kept();
        let pushed = (push(&mut stream.text), stream.number);
        self.bytes = self.bytes + stream.text.kept() - before;
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.order.iter().find(|known| *known != key).cloned()
        {
            self.end(&oldest);
        }
        pushed
    }

    fn begin(&mut self, key: &str, mode: Mode) {
        let stream = Stream { number: self.begun, text: Accumulator::new(mode) };
        self.begun += 1;
        self.streams.insert(key.to_owned(), stream);
        self.order.push_back(key.to_owned());
        if self.order.len() > MAX_STREAMS
            && let Some(oldest) = self.order.front().cloned()
        {
            self.end(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(streams: &mut Streams, key: &str, number: u64) -> Option<u64> {
        streams.push_numbered(key, Piece::from("x".to_owned()), Some(number)).0.length
    }

    #[test]
    fn texts_do_not_mix_and_begin_again_after_their_end() {
        let mut streams = Streams::default();
        assert_eq!(length(&mut streams, "a", 0), Some(1));
        assert_eq!(length(&mut streams, "b", 1), None);
        assert_eq!(length(&mut streams, "a", 1), Some(2));
        assert_eq!((streams.number("a"), streams.number("b"), streams.begun()), (Some(0), Some(1), 2));
        streams.end("a");
        assert_eq!(length(&mut streams, "a", 0), Some(1));
        assert_eq!(streams.number("a"), Some(2));
    }

    #[test]
    fn the_oldest_texts_give_way_to_large_ones() {
        let mut streams = Streams::default();
        let large = || Piece::from("x".repeat(MAX_BYTES / 2));
        for key in ["a", "b", "c"] {
            streams.push(key, Mode::Cumulative, large());
        }
        assert_eq!((streams.number("a"), streams.number("b").is_some()), (None, true));
        assert_eq!(streams.bytes, MAX_BYTES);
        streams.push("c", Mode::Cumulative, Piece::from("x".repeat(MAX_BYTES * 2)));
        assert_eq!((streams.streams.len(), streams.bytes), (1, MAX_BYTES * 2));
        streams.replace("c");
        assert_eq!(
            (streams.push("c", Mode::Cumulative, large()).reset, streams.bytes),
            (Some(true), MAX_BYTES / 2)
        );
        streams.end("c");
        assert_eq!((streams.is_empty(), streams.bytes), (true, 0));
    }

    #[test]
    fn neither_many_texts_nor_long_keys_are_kept() {
        let mut streams = Streams::default();
        length(&mut streams, "old", 0);
        for number in 0..MAX_STREAMS {
            assert_eq!(length(&mut streams, &number.to_string(), 0), Some(1));
        }
        assert_eq!((streams.streams.len(), streams.order.len()), (MAX_STREAMS, MAX_STREAMS));
        assert_eq!(streams.number("old"), None);
        assert_eq!(length(&mut streams, &"k".repeat(MAX_KEY + 1), 0), None);
        assert_eq!(streams.streams.len(), MAX_STREAMS);
    }
}
