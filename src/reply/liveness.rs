//! Whether the caller of an answer in parts is still subscribed: NATS reports every part that had no subscriber.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_sdk::CommandId;
use tokio::sync::mpsc;

/// How long no part may have had a subscriber before its caller counts as gone. Callers lose their connection to NATS, too,
/// and most clients are back within this time.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The commands of an instance that are answered in parts. Each has a secret name in the subject to which NATS reports,
/// which only its caller receives. With it the caller can report its own parts, each once, which is no more than it can do
/// by not subscribing; another client would have to guess 64 bits.
#[derive(Default)]
pub struct Liveness(RefCell<HashMap<u64, Watched>>);

/// A command that is answered in parts.
struct Watched {
    command: CommandId,
    /// Gets the command once its caller is gone.
    gone: mpsc::Sender<CommandId>,
    /// How many parts there were so far.
    parts: u64,
    silence: Option<Silence>,
}

/// Parts in a row without a subscriber.
struct Silence {
    since: Instant,
    last: u64,
}

impl Liveness {
    /// The part of this name, its secret and its number ([`Part`](crate::reply::Part)), had no subscriber.
    pub fn no_responders(&self, name: &str, now: Instant) {
        let read = || {
            let (secret, part) = name.split_once('.')?;
            Some((u64::from_str_radix(secret, 16).ok()?, part.parse().ok()?))
        };
        if let Some((secret, part)) = read()
            && let Some(watched) = self.0.borrow_mut().get_mut(&secret)
        {
            watched.not_received(part, now);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl Watched {
    /// The caller counts as gone if it has received no part for a while. NATS reports in the order of the parts, so that a
    /// part which it leaves out was received.
    fn not_received(&mut self, part: u64, now: Instant) {
        let last = self.silence.as_ref().map_or(0, |silence| silence.last);
        if part <= last || part > self.parts {
            return;
        }
        let in_a_row = self.silence.take().filter(|silence| silence.last + 1 == part);
        let since = in_a_row.map_or(now, |silence| silence.since);
        self.silence = Some(Silence { since, last: part });
        if now.duration_since(since) >= GRACE {
            // Where there is no room for it, the next part brings it.
            let _ = self.gone.try_send(self.command);
        }
    }
}

/// An answer that comes in parts. Its secret is forgotten when it is dropped.
pub(crate) struct Stream {
    liveness: Rc<Liveness>,
    secret: u64,
    /// Whether a part was left out, which is logged once.
    pub(crate) lossy: bool,
}

impl Stream {
    /// An answer that has not begun. `gone` gets the command if its caller is gone.
    pub(crate) fn new(liveness: Rc<Liveness>, command: CommandId, gone: mpsc::Sender<CommandId>) -> Self {
        let secret = rand::random();
        liveness.0.borrow_mut().insert(secret, Watched { command, gone, parts: 0, silence: None });
        Self { liveness, secret, lossy: false }
    }

    /// The secret and the number of the next part.
    pub(crate) fn next(&self) -> (String, u64) {
        let part = self.liveness.0.borrow_mut().get_mut(&self.secret).map_or(0, |watched| {
            watched.parts += 1;
            watched.parts
        });
        (format!("{:016x}", self.secret), part)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.liveness.0.borrow_mut().remove(&self.secret);
    }
}
