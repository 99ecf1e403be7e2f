//! Messages that come in parts: the text so far of each, within bounds.

use std::collections::{HashMap, VecDeque};

use crate::config::MAX_ID;

/// How many messages may come in parts at a time. Of the oldest beyond that, the text so far is not known any more.
const MAX_STREAMS: usize = 64;
/// How long a text so far may be, in bytes. What is longer is told by its parts alone.
const MAX_TEXT: usize = 256 * 1024;

/// The messages of one connection that are coming in parts.
#[derive(Default)]
pub(crate) struct Streams {
    streams: HashMap<String, Stream>,
    /// Their ids, the oldest first.
    order: VecDeque<String>,
    begun: u64,
}

struct Stream {
    number: u64,
    /// `None` if a part is missing or it is too long.
    text: Option<String>,
    next: u64,
}

/// One more part of a message.
pub(crate) struct Part<'a> {
    /// The text so far, if all of it is known.
    pub(crate) text: Option<&'a str>,
    /// The number of its message among all that came in parts.
    pub(crate) stream: u64,
}

impl Streams {
    /// How many have begun so far: those that begin from now on have this number and later ones.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// The number of a message that is coming in parts.
    pub(crate) fn number(&self, id: &str) -> Option<u64> {
        self.streams.get(id).map(|stream| stream.number)
    }

    /// A part came.
    pub(crate) fn part(&mut self, id: &str, index: Option<u64>, delta: &str) -> Part<'_> {
        if id.len() > MAX_ID {
            return Part { text: None, stream: self.begun };
        }
        if !self.streams.contains_key(id) {
            self.begin(id);
        }
        let begun = self.begun;
        let Some(stream) = self.streams.get_mut(id) else { return Part { text: None, stream: begun } };
        let fits = |text: &String| index == Some(stream.next) && text.len() + delta.len() <= MAX_TEXT;
        stream.text = stream.text.take().filter(fits);
        stream.next += 1;
        if let Some(text) = &mut stream.text {
            text.push_str(delta);
        }
        Part { text: stream.text.as_deref(), stream: stream.number }
    }

    /// A message is whole, or broke off.
    pub(crate) fn end(&mut self, id: &str) {
        if self.streams.remove(id).is_some() {
            self.order.retain(|known| known != id);
        }
    }

    fn begin(&mut self, id: &str) {
        let stream = Stream { number: self.begun, text: Some(String::new()), next: 0 };
        self.begun += 1;
        self.streams.insert(id.to_owned(), stream);
        self.order.push_back(id.to_owned());
        if self.order.len() > MAX_STREAMS
            && let Some(oldest) = self.order.pop_front()
        {
            self.streams.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(streams: &mut Streams, id: &str, index: u64, delta: &str) -> Option<String> {
        streams.part(id, Some(index), delta).text.map(str::to_owned)
    }

    #[test]
    fn the_text_so_far_is_told_only_if_no_part_is_missing() {
        let mut streams = Streams::default();
        assert_eq!(text(&mut streams, "a", 0, "x").as_deref(), Some("x"));
        assert_eq!(text(&mut streams, "b", 1, "x"), None);
        assert_eq!(text(&mut streams, "a", 1, "y").as_deref(), Some("xy"));
        assert_eq!(text(&mut streams, "a", 1, "y"), None);
        assert_eq!(text(&mut streams, "a", 2, "z"), None);
        assert_eq!(streams.part("c", None, "x").text, None);
        assert_eq!((streams.number("a"), streams.number("b"), streams.begun()), (Some(0), Some(1), 3));
        streams.end("a");
        assert_eq!(text(&mut streams, "a", 0, "x").as_deref(), Some("x"));
    }

    #[test]
    fn neither_long_texts_nor_many_are_kept() {
        let mut streams = Streams::default();
        let most = "x".repeat(MAX_TEXT);
        assert_eq!(text(&mut streams, "long", 0, &most), Some(most));
        assert_eq!(text(&mut streams, "long", 1, "y"), None);
        for number in 0..MAX_STREAMS {
            assert!(text(&mut streams, &number.to_string(), 0, "x").is_some());
        }
        assert_eq!((streams.streams.len(), streams.order.len()), (MAX_STREAMS, MAX_STREAMS));
        assert_eq!(streams.number("long"), None);
        assert_eq!(text(&mut streams, &"i".repeat(MAX_ID + 1), 0, "x"), None);
        assert_eq!(streams.streams.len(), MAX_STREAMS);
    }
}
