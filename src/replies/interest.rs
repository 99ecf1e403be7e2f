//! Whether anybody listens to an answer that comes in parts: NATS says so of every part that found nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::CommandId;
use tokio::sync::mpsc;

/// How long no part may have found anybody before its caller counts as gone. Callers lose their connection to NATS, too,
/// and most clients are back within this time.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The commands of an instance that are answered in parts. Each has a secret name, which only its caller is told, as part
/// of the subject to which NATS reports. With it the caller can report its own parts and do no more than it can by not
/// listening; whoever does not have it would have to guess 64 bits.
#[derive(Default)]
pub struct Interest(Mutex<HashMap<u64, Place>>);

/// Where it is told that a part found nobody.
struct Place {
    command: CommandId,
    news: mpsc::Sender<Unheard>,
}

/// A part that found nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unheard {
    pub(super) command: CommandId,
    pub(super) part: u64,
}

impl Interest {
    /// NATS found nobody who listens to the part with this [`Part`](super::Part) name. Where too much news waits already,
    /// this is left out: a part that seems to have been heard only delays the end.
    pub fn nobody(&self, name: &str) {
        let read = || {
            let (secret, part) = name.split_once('.')?;
            Some((u64::from_str_radix(secret, 16).ok()?, part.parse().ok()?))
        };
        let Some((secret, part)) = read() else { return };
        if let Some(Place { command, news }) = self.places().get(&secret) {
            let _ = news.try_send(Unheard { command: *command, part });
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places().len()
    }
}

/// An answer that comes in parts. Its secret is forgotten when it is dropped.
pub(super) struct Stream {
    interest: Arc<Interest>,
    secret: u64,
    /// How many parts there were so far.
    parts: u64,
    silence: Option<Silence>,
    /// Whether a part was left out, which is logged once.
    pub(super) lossy: bool,
}

/// Parts in a row that found nobody.
struct Silence {
    since: Instant,
    last: u64,
}

impl Stream {
    /// An answer that has not begun. It is told to `news` that a part found nobody.
    pub(super) fn new(interest: Arc<Interest>, command: CommandId, news: mpsc::Sender<Unheard>) -> Self {
        let secret = rand::random();
        interest.places().insert(secret, Place { command, news });
        Self { interest, secret, parts: 0, silence: None, lossy: false }
    }

    /// The name of the next part.
    pub(super) fn next(&mut self) -> String {
        self.parts += 1;
        format!("{:016x}.{}", self.secret, self.parts)
    }

    /// A part found nobody. Returns whether its caller counts as gone: nobody has been there for a while, and for none of
    /// the parts in between. NATS reports in the order of the parts, so what it leaves out was heard.
    pub(super) fn unheard(&mut self, part: u64, now: Instant) -> bool {
        match &mut self.silence {
            Some(silence) if silence.last.checked_add(1) == Some(part) => silence.last = part,
            _ => self.silence = Some(Silence { since: now, last: part }),
        }
        self.silence.as_ref().is_some_and(|silence| now.duration_since(silence.since) >= GRACE)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.interest.places().remove(&self.secret);
    }
}
