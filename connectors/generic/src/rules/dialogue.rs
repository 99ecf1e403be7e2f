//! What one connection does by its rules.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::connector::Frame;
use pontoon_sdk::rate::{RateLimit, RateLimiter};
use pontoon_sdk::{End, Error, Event, Kind, Outbox, Raw, Result, Span};
use serde_json::Value;

use super::ask::{ANSWER, ERROR};
use super::reaction::After;
use super::remember::Memory;
use super::selector::Seen;
use super::settings::Rules;
use crate::mapping::{Document, Pointer, Secrets, ValueOf};

/// How many frames are answered in a second. More mean that the service answers what it is sent.
const MAX_REACTIONS: u32 = 1_000;

/// How many events' acknowledgements are kept until they are stored, and how many bytes these have.
const MAX_KEPT: usize = 16_384;
/// See [`MAX_KEPT`].
const MAX_KEPT_BYTES: usize = 16 << 20;

/// What was done for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reacted {
    /// Whether it is only for the link: what it waits for, or one that is answered.
    pub internal: bool,
    /// The number that its event has to have in [`pontoon_sdk::Event::stored`].
    pub stored: Option<u64>,
}

/// What a setting sends.
pub trait Outgoing: Send + Sync + 'static {
    /// What is sent over the connection.
    type Frame: Frame;

    /// The frame, with every name replaced by what it stands for.
    fn frame(&self, value_of: ValueOf<'_>) -> Self::Frame;
}

/// Why a frame ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The service refuses our credentials.
    Refused,
    /// The service asks for fewer requests.
    Slow,
    /// The service asks for a new connection.
    Reconnect,
}

impl Ends {
    /// The error that ends the connection.
    pub fn error(self, reason: &str) -> Error {
        match self {
            Self::Refused => Error::auth(format!("the service refused us: {reason}")),
            Self::Slow => Error::throttled(format!("the service refused us: {reason}")),
            Self::Reconnect => {
                Error::disconnected(format!("the service asks for a new connection: {reason}"))
            }
        }
    }
}

/// Gives what a name stands for that only the connector knows.
type Names = Box<dyn Fn(&str) -> Option<String> + Send>;
/// Makes of a frame what goes over the wire.
type Wrap<F> = Box<dyn Fn(F) -> F + Send>;

/// One connection.
pub struct Dialogue<D, M: Outgoing> {
    rules: Arc<Rules<D, M>>,
    memory: Arc<Memory>,
    /// What is known beyond secrets and remembered values.
    names: Names,
    wrap: Wrap<M::Frame>,
    pub(crate) secrets: Secrets,
    ready: bool,
    next_heartbeat: Option<Instant>,
    /// What is sent once events are stored, by their number.
    kept: BTreeMap<u64, Kept<M::Frame>>,
    kept_bytes: usize,
    last_kept: u64,
    /// What was asked over NATS, by its number.
    asked: BTreeMap<u64, Asked>,
    last_asked: u64,
    limiter: RateLimiter,
}

/// What is sent once so many events are stored.
struct Kept<F> {
    frames: Vec<F>,
    events: usize,
}

/// What was asked, until there is an answer or none will come. The daemon bounds how many there are.
struct Asked {
    /// The place of its reaction.
    reaction: usize,
    /// What the names in its frames stand for, as JSON.
    values: BTreeMap<String, String>,
}

impl<D: Document + Send + Sync, M: Outgoing> Dialogue<D, M> {
    /// A new connection.
    pub fn new(rules: Arc<Rules<D, M>>, memory: Arc<Memory>, names: Names, wrap: Wrap<M::Frame>) -> Self {
        let limiter = RateLimiter::new(RateLimit { requests: MAX_REACTIONS, per: Span::seconds(1) });
        let (secrets, ready, next_heartbeat) = (Secrets::default(), false, None);
        let (kept, kept_bytes, last_kept) = (BTreeMap::new(), 0, 0);
        Self {
            rules,
            memory,
            names,
            wrap,
            secrets,
            ready,
            next_heartbeat,
            kept,
            kept_bytes,
            last_kept,
            asked: BTreeMap::new(),
            last_asked: 0,
            limiter,
        }
    }

    /// What a name in a template stands for, as JSON.
    pub fn named(&self, name: &str) -> Option<String> {
        (self.names)(name).or_else(|| self.secrets.json(name)).or_else(|| self.memory.json(name))
    }

    /// All that is remembered, if it has changed.
    pub fn memory(&self) -> Option<Vec<u8>> {
        self.memory.take()
    }

    /// Whether commands flow.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// What is waited for before commands flow.
    pub fn awaits(&self) -> Option<&'static str> {
        (!self.ready).then_some("a message that `ready_when` selects")
    }

    /// What a setting sends, as it goes over the wire.
    pub fn frame(&self, send: &M) -> M::Frame {
        self.wrapped(send.frame(&|name| self.named(name)))
    }

    /// A frame as it goes over the wire.
    pub fn wrapped(&self, frame: M::Frame) -> M::Frame {
        (self.wrap)(frame)
    }

    /// The connection is open, and what is sent at each connect was sent.
    pub fn opened(&mut self, out: &mut Outbox<M::Frame>) {
        self.beat(out);
        if self.rules.ready_when.is_empty() {
            self.ready = true;
            out.ready();
        }
    }

    /// Remembers what is to be remembered of a frame, and says whether it ends the connection.
    pub fn learn(&mut self, seen: &Seen<'_, '_>) -> Option<Ends> {
        self.memory.learn(&self.rules.remember, seen);
        let Rules { refused_when, slow_when, reconnect_when, .. } = &*self.rules;
        let all = [(refused_when, Ends::Refused), (slow_when, Ends::Slow), (reconnect_when, Ends::Reconnect)];
        all.into_iter().find(|(selectors, _)| selectors.matches(seen)).map(|(_, ends)| ends)
    }

    /// Whether a frame has the value that is remembered by this name.
    pub fn gives(&self, name: &str, seen: &Seen<'_, '_>) -> bool {
        self.rules.remember.get(name).is_some_and(|remember| remember.is_in(seen))
    }

    /// Sends what is due for a frame, and keeps what is sent once its event is stored.
    ///
    /// # Errors
    /// `Throttled` if there was too much to answer.
    pub fn react(&mut self, seen: &Seen<'_, '_>, out: &mut Outbox<M::Frame>) -> Result<Reacted> {
        let rules = Arc::clone(&self.rules);
        let (mut known, mut kept) = (false, Vec::new());
        if !self.ready && rules.ready_when.matches(seen) {
            self.ready = true;
            out.ready();
            known = true;
        }
        for (place, reaction) in
            rules.on.iter().enumerate().filter(|(_, reaction)| reaction.when.matches(seen))
        {
            // What is answered once it is stored is published in any case.
            known |= reaction.after == After::Read;
            if !reaction.is_due(&self.memory) {
                continue;
            }
            if self.limiter.take(out.now()).is_err() {
                return Err(Error::throttled(format!(
                    "more than {MAX_REACTIONS} frames were answered within a second (on, heartbeat.answer); does the \
                     service answer them?"
                )));
            }
            let part = |name: &str| {
                name.parse::<Pointer<D>>().ok().and_then(|pointer| Some(seen.find(&pointer)?.into_owned()))
            };
            let value_of = |name: &str| if name.starts_with('/') { part(name) } else { self.named(name) };
            if let Some(ask) = &reaction.ask {
                // The frame is gone when the answer comes.
                let values = RefCell::new(BTreeMap::new());
                let noted = |name: &str| {
                    let value = value_of(name)?;
                    values.borrow_mut().insert(name.to_owned(), value.clone());
                    Some(value)
                };
                reaction.send.frame(&noted);
                ask.failed.frame(&noted);
                let body = match &ask.body {
                    Some(body) => body.json(&value_of),
                    None => Raw::checked(seen.document()),
                };
                self.last_asked += 1;
                self.asked.insert(self.last_asked, Asked { reaction: place, values: values.into_inner() });
                out.ask(self.last_asked, ask.subject.clone(), body);
                continue;
            }
            let frame = self.wrapped(reaction.send.frame(&value_of));
            match reaction.after {
                After::Read => out.send(frame),
                After::Stored => kept.push(frame),
            }
        }
        // How often may be known only now.
        if self.next_heartbeat.is_none() {
            self.beat(out);
        }
        let stored = (!kept.is_empty()).then(|| self.keep(kept));
        Ok(Reacted { internal: known, stored })
    }

    /// Sends what an answer over NATS becomes, or what is sent where there is none.
    pub fn asked(&mut self, number: u64, answer: Result<Raw>, out: &mut Outbox<M::Frame>) {
        let Some(Asked { reaction, values }) = self.asked.remove(&number) else { return };
        let rules = Arc::clone(&self.rules);
        let Some((reaction, ask)) =
            rules.on.get(reaction).and_then(|reaction| Some((reaction, reaction.ask.as_ref()?)))
        else {
            return;
        };
        let (send, name, value) = match answer {
            Ok(body) => (&reaction.send, ANSWER, String::from_utf8_lossy(body.as_bytes()).into_owned()),
            Err(error) => (&ask.failed, ERROR, Value::from(error.message()).to_string()),
        };
        let value_of =
            |wanted: &str| if wanted == name { Some(value.clone()) } else { values.get(wanted).cloned() };
        out.send(self.wrapped(send.frame(&value_of)));
    }

    /// Keeps frames until an event is stored; past the bound, the oldest are never sent.
    fn keep(&mut self, frames: Vec<M::Frame>) -> u64 {
        self.last_kept += 1;
        self.kept_bytes += frames.iter().map(Frame::size).sum::<usize>();
        self.kept.insert(self.last_kept, Kept { frames, events: 1 });
        while self.kept.len() > MAX_KEPT || self.kept_bytes > MAX_KEPT_BYTES {
            let Some((_, Kept { frames, .. })) = self.kept.pop_first() else { break };
            self.kept_bytes -= frames.iter().map(Frame::size).sum::<usize>();
        }
        self.last_kept
    }

    /// Publishes the events of one frame. What is kept for it is sent once all of them are stored.
    pub fn publish(&mut self, events: Vec<Event>, stored: Option<u64>, out: &mut Outbox<M::Frame>) {
        if let Some(number) = stored {
            match self.kept.get_mut(&number) {
                Some(kept) if !events.is_empty() => kept.events = events.len(),
                _ => self.stored(number, out),
            }
        }
        events.into_iter().for_each(|event| out.publish(Event { stored, ..event }));
    }

    /// An event with this number is stored, or there is none: sends what was kept for it, after the last of its events.
    pub fn stored(&mut self, number: u64, out: &mut Outbox<M::Frame>) {
        let Some(kept) = self.kept.get_mut(&number) else { return };
        kept.events -= 1;
        if kept.events > 0 {
            return;
        }
        let frames = self.kept.remove(&number).map(|kept| kept.frames).unwrap_or_default();
        self.kept_bytes -= frames.iter().map(Frame::size).sum::<usize>();
        frames.into_iter().for_each(|frame| out.send(frame));
    }

    /// Whether a frame only keeps the connection alive, and is not published.
    pub fn is_ignored(&self, seen: &Seen<'_, '_>) -> bool {
        self.rules.heartbeat.ignore.iter().any(|ignored| ignored.matches(seen))
    }

    /// Sends the heartbeat if it is time to, and asks to be woken for the next.
    pub fn beat(&mut self, out: &mut Outbox<M::Frame>) {
        let heartbeat = &self.rules.heartbeat;
        let every = heartbeat.every.as_ref().and_then(|every| every.time(&self.memory));
        let (Some(every), Some(frame)) = (every, &heartbeat.send) else { return };
        let due = self.next_heartbeat.is_some_and(|next| next <= out.now());
        if due {
            out.send(self.frame(frame));
        }
        let next = match self.next_heartbeat {
            Some(next) if !due => next,
            _ => out.now() + every,
        };
        self.next_heartbeat = Some(next);
        out.wake_at(next);
    }

    /// The connection has ended: what is done about it, and what is forgotten.
    pub fn ended(&mut self, end: &End) -> Kind {
        self.memory.ended(&self.rules.remember, end.code);
        let Rules { refused_when, slow_when, reconnect_when, .. } = &*self.rules;
        let all =
            [(refused_when, Kind::Auth), (slow_when, Kind::Throttled), (reconnect_when, Kind::Disconnected)];
        all.into_iter().find(|(by, _)| by.matches_code(end.code)).map_or(end.kind, |(_, kind)| kind)
    }
}
