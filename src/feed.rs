//! What people watch while it happens: events as they are published, and frames as they pass. Nothing is made, copied or
//! kept while there is no watcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use time::OffsetDateTime;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many values may wait for a watcher; past that the oldest are left out, and counted.
const WAITING: usize = 256;
/// The longest text of a frame or an event, in bytes; what is longer is cut.
pub const LONGEST: usize = 16 * 1024;

/// The two feeds of the daemon. Clones are the same feeds.
#[derive(Clone, Default)]
pub struct Feed {
    /// Events of every instance.
    pub events: Channel<Event>,
    /// Frames of every link, in both directions, without secrets.
    pub frames: Channel<Frame>,
}

/// An event on its way to NATS.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its subject.
    pub subject: String,
    /// When its frame was read.
    pub recorded: OffsetDateTime,
    /// Its body: the fields and the payload, or the document in structured mode.
    pub body: String,
}

/// A frame that was received or sent, or the beginning or the end of a connection.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The instance.
    pub instance: String,
    /// The link.
    pub link: String,
    /// When it passed.
    pub time: OffsetDateTime,
    /// What happened.
    pub passed: Passed,
    /// The size of the frame, without framing.
    pub bytes: usize,
    /// The frame as JSON, or the code and the reason of an end; without secrets.
    pub text: String,
}

/// What is seen of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// A frame was received.
    Received,
    /// A frame was sent.
    Sent,
    /// The connection was made.
    Opened,
    /// The service, or the network, has ended it.
    Closed,
    /// It was ended here.
    Ended,
}

impl Passed {
    /// Its word, as in `/wire/<instance>`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Ended => "ended",
        }
    }

    /// Whether it is a frame.
    pub fn is_frame(self) -> bool {
        matches!(self, Self::Received | Self::Sent)
    }
}

/// A feed of values of one kind.
pub struct Channel<T> {
    sender: broadcast::Sender<Arc<T>>,
    watchers: Arc<AtomicUsize>,
}

/// One watcher of a feed.
pub struct Watch<T> {
    receiver: broadcast::Receiver<Arc<T>>,
    watchers: Arc<AtomicUsize>,
}

/// What a watcher gets.
pub enum Next<T> {
    /// The next value.
    Value(Arc<T>),
    /// So many were left out because the watcher is too slow.
    Lost(u64),
}

impl<T: Clone> Channel<T> {
    /// Whether there is a watcher: without one, nothing need be made.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Hands a value to every watcher.
    pub fn send(&self, value: T) {
        // Without a receiver there is nothing to do.
        drop(self.sender.send(Arc::new(value)));
    }

    /// Begins to watch.
    pub fn watch(&self) -> Watch<T> {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watch { receiver: self.sender.subscribe(), watchers: self.watchers.clone() }
    }
}

impl<T: Clone> Default for Channel<T> {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(WAITING), watchers: Arc::default() }
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), watchers: self.watchers.clone() }
    }
}

impl<T: Clone> Watch<T> {
    /// The next value; pending for ever once the feed is gone.
    pub async fn next(&mut self) -> Next<T> {
        match self.receiver.recv().await {
            Ok(value) => Next::Value(value),
            Err(RecvError::Lagged(count)) => Next::Lost(count),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The beginning of a text, of at most [`LONGEST`] bytes.
pub fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_gets_what_comes_and_the_number_of_what_it_missed() {
        let channel = Channel::<usize>::default();
        channel.send(0);
        assert!(!channel.is_watched());
        let mut watch = channel.watch();
        assert!(channel.is_watched());
        for n in 1..=WAITING + 5 {
            channel.send(n);
        }
        assert!(matches!(watch.next().await, Next::Lost(5)));
        assert!(matches!(watch.next().await, Next::Value(n) if *n == 6));
        drop(watch);
        assert!(!channel.is_watched());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(LONGEST);
        assert_eq!(cut(&long).chars().filter(|c| *c == 'é').count(), LONGEST / 2);
        assert_eq!(cut("é"), "é");
    }
}
