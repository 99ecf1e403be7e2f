//! Whether anybody listens to an answer that comes in parts: NATS says so of every part that found nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::CommandId;
use tokio::sync::mpsc;

/// How long no part may have found anybody before its caller counts as gone. Callers lose their connection to NATS, too,
/// and most clients are back within this time.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The commands of an instance that are answered in parts. Each has a secret name, which only its caller is told, as part
/// of the subject to which NATS reports. With it the caller can report its own parts, each once, and so do no more than it
/// can by not listening; whoever does not have it would have to guess 64 bits.
#[derive(Default)]
pub struct Interest(Mutex<HashMap<u64, Place>>);

/// What is known of one of them.
struct Place {
    command: CommandId,
    /// Where it is told that its caller is gone.
    gone: mpsc::Sender<CommandId>,
    /// How many parts there were so far.
    parts: u64,
    silence: Option<Silence>,
}

/// Parts in a row that found nobody.
struct Silence {
    since: Instant,
    last: u64,
}

impl Interest {
    /// NATS found nobody who listens to the part of this name ([`Part`](crate::reply::Part)).
    pub fn nobody(&self, name: &str, now: Instant) {
        let read = || {
            let (secret, part) = name.split_once('.')?;
            Some((u64::from_str_radix(secret, 16).ok()?, part.parse().ok()?))
        };
        if let Some((secret, part)) = read()
            && let Some(place) = self.places().get_mut(&secret)
        {
            place.unheard(part, now);
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places().len()
    }
}

impl Place {
    /// The caller counts as gone if nobody has been there for a while, and for none of the parts in between. NATS reports
    /// in the order of the parts, so that a part which it leaves out was heard.
    fn unheard(&mut self, part: u64, now: Instant) {
        let last = self.silence.as_ref().map_or(0, |silence| silence.last);
        if part <= last || part > self.parts {
            return;
        }
        let in_a_row = self.silence.take().filter(|silence| silence.last + 1 == part);
        let since = in_a_row.map_or(now, |silence| silence.since);
        self.silence = Some(Silence { since, last: part });
        if now.duration_since(since) >= GRACE {
            // Where there is no room for it, it is told with the next part.
            let _ = self.gone.try_send(self.command);
        }
    }
}

/// An answer that comes in parts. Its secret is forgotten when it is dropped.
pub(crate) struct Stream {
    interest: Arc<Interest>,
    secret: u64,
    /// Whether a part was left out, which is logged once.
    pub(crate) lossy: bool,
}

impl Stream {
    /// An answer that has not begun. `gone` is told if its caller is.
    pub(crate) fn new(interest: Arc<Interest>, command: CommandId, gone: mpsc::Sender<CommandId>) -> Self {
        let secret = rand::random();
        interest.places().insert(secret, Place { command, gone, parts: 0, silence: None });
        Self { interest, secret, lossy: false }
    }

    /// The name of the next part.
    pub(crate) fn next(&self) -> String {
        let mut places = self.interest.places();
        let part = places.get_mut(&self.secret).map_or(0, |place| {
            place.parts += 1;
            place.parts
        });
        format!("{:016x}.{part}", self.secret)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.interest.places().remove(&self.secret);
    }
}
