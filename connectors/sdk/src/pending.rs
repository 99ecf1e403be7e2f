//! Which request an answer belongs to: by an id, by order, or one request at a time.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::command::{Command, CommandId};
use crate::connector::Frame;
use crate::error::{Code, Error, Result};
use crate::session::Outbox;

/// How many holds are kept in [`Order::ById`], where none is needed to keep callers apart.
const MAX_ID_HOLDS: usize = 1_024;

/// How many requests may be pending where no setting limits it: as many as the daemon takes at most.
const MAX_REQUESTS: usize = 1 << 20;

/// How many bytes may wait where no setting limits it.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// How requests with the same key are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The key is an id that is used once, and the service repeats it in the answer. Requests are sent at once.
    ById,
    /// One request of a key at a time; others wait for its answer. Needs nothing of the service.
    Serial,
    /// Requests of a key are sent at once. The service answers all of them, in the order in which they were sent.
    InOrder,
}

/// The requests of one connection that were not answered yet, and whose the next answer is.
///
/// A request has a **key**: what the service repeats in its answer (an id, the name of a method), or `()` if it repeats
/// nothing. It has a **context** `T`: what the session needs to know when the answer comes. [`Order`] decides what is done
/// about requests that have the same key.
///
/// * [`send`](Self::send) sends a request now, or keeps its frame until its turn. It is not sent once its deadline has
///   passed; the daemon has replied `expired` to its caller by then.
/// * [`answered`](Self::answered) takes the request that an answer belongs to; [`part`](Self::part) looks at it for a part
///   of an answer; [`oldest`](Self::oldest) is for errors without a key.
/// * [`abandoned`](Self::abandoned) belongs into [`Session::abandoned`](crate::Session::abandoned). A request that was sent
///   leaves a **hold**: it takes the late answer, which then reaches no other caller. Until the answer has come, or
///   [`late_window`](Self::late_window) has passed, nothing more with its key is sent.
/// * [`expire`](Self::expire) belongs into [`Session::tick`](crate::Session::tick).
///
/// In [`Order::InOrder`] an answer that the service never sends shifts those behind it: each is taken for the answer to
/// the request before its own. This cannot be noticed, so use it only where the service answers every request.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use pontoon_sdk::pending::{Answered, Order, Pending};
/// # use pontoon_sdk::websocket::Frame;
/// # use pontoon_sdk::{Command, CommandId, Outbox};
/// # let mut out = Outbox::new(Instant::now());
/// # let command = Command {
/// #     id: CommandId(1),
/// #     operation: "call",
/// #     argument: None,
/// #     body: Default::default(),
/// #     headers: Vec::new(),
/// #     deadline: Instant::now() + Duration::from_secs(1),
/// #     stream: false,
/// # };
/// let mut pending = Pending::new(Order::Serial)
///     .late_window(Duration::from_secs(30))
///     .max_requests(1_024, "max_calls");
/// pending.send(&command, "balance", "context", Frame::text("{}"), &mut out)?;
/// let answered = pending.answered("balance", &mut out);
/// assert_eq!(answered, Some(Answered { command: Some(command.id), context: "context" }));
/// # Ok::<(), pontoon_sdk::Error>(())
/// ```
#[derive(Debug)]
pub struct Pending<K, T, F> {
    order: Order,
    late_window: Option<Duration>,
    max_requests: Limit,
    max_waiting_bytes: Limit,
    lanes: HashMap<K, Lane<T, F>>,
    /// The key of each request whose caller waits.
    callers: BTreeMap<CommandId, K>,
    /// The key of each hold, by the number of its request.
    holds: BTreeMap<u64, K>,
    waiting_bytes: usize,
    /// How many requests were ever sent.
    sent: u64,
}

/// A request whose answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered<T> {
    /// The command whose caller waits for the answer; `None` if it was abandoned.
    pub command: Option<CommandId>,
    /// What the session noted of the request.
    pub context: T,
}

/// A bound, and the setting that an error names.
#[derive(Debug, Clone, Copy)]
struct Limit {
    most: usize,
    setting: &'static str,
}

/// The requests with one key.
#[derive(Debug)]
struct Lane<T, F> {
    /// In the order in which they were sent; the first takes the next answer.
    sent: VecDeque<Sent<T>>,
    waiting: VecDeque<Waiting<T, F>>,
}

#[derive(Debug)]
struct Sent<T> {
    number: u64,
    context: T,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight(CommandId),
    /// Abandoned. `None` is until the connection ends.
    Held {
        until: Option<Instant>,
    },
}

#[derive(Debug)]
struct Waiting<T, F> {
    command: CommandId,
    deadline: Instant,
    frame: F,
    context: T,
}

impl<K: Eq + Hash + Clone, T, F: Frame> Pending<K, T, F> {
    /// No requests. Unless the methods below change it, holds last until the connection ends, 1,048,576 requests may
    /// be pending (as many as the daemon takes at most), and 16 MiB of frames may wait.
    pub fn new(order: Order) -> Self {
        Self {
            order,
            late_window: None,
            max_requests: Limit { most: MAX_REQUESTS, setting: "a fixed limit" },
            max_waiting_bytes: Limit { most: MAX_WAITING_BYTES, setting: "a fixed limit" },
            lanes: HashMap::new(),
            callers: BTreeMap::new(),
            holds: BTreeMap::new(),
            waiting_bytes: 0,
            sent: 0,
        }
    }

    /// How long a late answer is expected after its request was abandoned.
    #[must_use]
    pub fn late_window(self, window: Duration) -> Self {
        Self { late_window: Some(window), ..self }
    }

    /// How many requests may wait, be in flight or, except in [`Order::ById`], be held; and the setting that says so.
    #[must_use]
    pub fn max_requests(self, most: usize, setting: &'static str) -> Self {
        Self { max_requests: Limit { most, setting }, ..self }
    }

    /// How many bytes the frames that wait may have together, and the setting that says so.
    #[must_use]
    pub fn max_waiting_bytes(self, most: usize, setting: &'static str) -> Self {
        Self { max_waiting_bytes: Limit { most, setting }, ..self }
    }

    /// Whether a request with this key would be sent at once.
    pub fn is_free<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.lanes.get(key).is_none_or(|lane| lane.waiting.is_empty() && lane.is_open(self.order))
    }

    /// Sends the frame that carries out a command, or keeps it until its turn.
    ///
    /// # Errors
    /// `Rejected` with code 429: a limit is reached, or the id is in use ([`Order::ById`]). Nothing is sent.
    pub fn send(
        &mut self,
        command: &Command,
        key: K,
        context: T,
        frame: F,
        out: &mut Outbox<F>,
    ) -> Result<()> {
        let (count, free, size) = (self.count(), self.is_free(&key), frame.size());
        let refused = |why| Err(Error::rejected(Code::TooMany, why));
        if self.order == Order::ById && !free {
            return refused("a request with this id was not answered yet; use another id".to_owned());
        }
        if count >= self.max_requests.most {
            let setting = self.max_requests.setting;
            return refused(format!(
                "{count} requests are pending ({setting}); the service may not be answering"
            ));
        }
        if !free && size > self.max_waiting_bytes.most.saturating_sub(self.waiting_bytes) {
            let setting = self.max_waiting_bytes.setting;
            return refused(format!("{} bytes of requests wait already ({setting})", self.waiting_bytes));
        }
        self.callers.insert(command.id, key.clone());
        self.waiting_bytes += size;
        let request = Waiting { command: command.id, deadline: command.deadline, frame, context };
        self.lanes.entry(key.clone()).or_default().waiting.push_back(request);
        self.send_next(&key, out);
        Ok(())
    }

    /// Takes the request that an answer with this key belongs to, and sends what waited for it. `None`: to none.
    pub fn answered<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, out: &mut Outbox<F>) -> Option<Answered<T>>
    where
        K: Borrow<Q>,
    {
        let lane = self.lanes.get_mut(key)?;
        let Sent { number, context, state } = lane.sent.pop_front()?;
        // The next may be a hold that aged behind this request; its answer is due only now.
        if let Some(next) = lane.sent.front_mut() {
            next.restart_window(self.late_window, out);
        }
        let command = match state {
            State::InFlight(command) => {
                self.callers.remove(&command);
                Some(command)
            }
            State::Held { .. } => {
                self.holds.remove(&number);
                None
            }
        };
        self.send_next(key, out);
        Some(Answered { command, context })
    }

    /// Looks at the request that a part of an answer belongs to; more of the answer follows. The late window of a hold
    /// begins again.
    pub fn part<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, out: &mut Outbox<F>) -> Option<Answered<&T>>
    where
        K: Borrow<Q>,
    {
        let first = self.lanes.get_mut(key)?.sent.front_mut()?;
        first.restart_window(self.late_window, out);
        Some(Answered { command: first.state.command(), context: &first.context })
    }

    /// Finds the request that an error without a key belongs to. With its context, it is certainly this one, as no other was
    /// sent. Without, it can be another: the caller of this command has waited longest, nothing certain may be replied, and
    /// the request counts as abandoned now. `None`: no caller waits for an answer to a request that was sent.
    pub fn oldest(&mut self, out: &mut Outbox<F>) -> Option<Answered<Option<T>>> {
        let sent = self.lanes.iter().flat_map(|(key, lane)| lane.sent.iter().map(move |sent| (key, sent)));
        let in_flight =
            sent.clone().filter_map(|(key, sent)| Some((sent.number, sent.state.command()?, key)));
        let (_, command, key) = in_flight.min_by_key(|(number, ..)| *number)?;
        if sent.count() == 1 {
            let key = key.clone();
            let Answered { command, context } = self.answered(&key, out)?;
            return Some(Answered { command, context: Some(context) });
        }
        self.abandoned(command, true, out);
        Some(Answered { command: Some(command), context: None })
    }

    /// The daemon has replied to this command without the session. `sent` is whether its frame was, or may have been,
    /// written: if not, no answer can come.
    pub fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<F>) {
        let Some(key) = self.callers.remove(&command) else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if let Some(place) = lane.waiting.iter().position(|request| request.command == command) {
            let request = lane.waiting.remove(place);
            self.waiting_bytes -= request.map_or(0, |request| request.frame.size());
        } else if let Some(place) = lane.sent.iter().position(|sent| sent.state.command() == Some(command)) {
            if !sent {
                lane.sent.remove(place);
            } else if let Some(sent) = lane.sent.get_mut(place) {
                sent.state = State::Held { until: None };
                sent.restart_window(self.late_window, out);
                self.holds.insert(sent.number, key.clone());
            }
        }
        self.send_next(&key, out);
        if self.order == Order::ById && self.holds.len() > MAX_ID_HOLDS {
            self.holds.pop_first().and_then(|(_, key)| self.lanes.remove(&key));
        }
    }

    /// Drops the holds whose late window has passed, and sends what waited for them. Returns whether there were any.
    pub fn expire(&mut self, out: &mut Outbox<F>) -> bool {
        let mut expired = Vec::new();
        for (number, key) in &self.holds {
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            // Only the first: an answer cannot come before those to requests that were sent earlier.
            let first = lane.sent.front().filter(|first| first.number == *number);
            let Some(State::Held { until: Some(until) }) = first.map(|first| first.state) else { continue };
            if until <= out.now() {
                lane.sent.pop_front();
                expired.push((*number, key.clone()));
            } else {
                out.wake_at(until);
            }
        }
        for (number, key) in &expired {
            self.holds.remove(number);
            self.send_next(key, out);
        }
        !expired.is_empty()
    }

    /// How many requests count towards [`Pending::max_requests`].
    fn count(&self) -> usize {
        let holds = if self.order == Order::ById { 0 } else { self.holds.len() };
        self.callers.len() + holds
    }

    /// Sends what may be sent with this key, and drops the lane if nothing is left in it.
    fn send_next<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, out: &mut Outbox<F>)
    where
        K: Borrow<Q>,
    {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        while lane.is_open(self.order) {
            let Some(Waiting { command, deadline, frame, context }) = lane.waiting.pop_front() else { break };
            self.waiting_bytes -= frame.size();
            if deadline <= out.now() {
                self.callers.remove(&command);
                continue;
            }
            out.send_for(command, frame);
            lane.sent.push_back(Sent { number: self.sent, context, state: State::InFlight(command) });
            self.sent += 1;
        }
        if lane.sent.is_empty() && lane.waiting.is_empty() {
            self.lanes.remove(key);
        }
    }
}

impl<T, F> Lane<T, F> {
    /// Whether one more request may be sent.
    fn is_open(&self, order: Order) -> bool {
        match order {
            Order::ById | Order::Serial => self.sent.is_empty(),
            Order::InOrder => self.sent.iter().all(|sent| sent.state.command().is_some()),
        }
    }
}

impl<T, F> Default for Lane<T, F> {
    fn default() -> Self {
        Self { sent: VecDeque::new(), waiting: VecDeque::new() }
    }
}

impl<T> Sent<T> {
    /// Begins the late window of a hold again. Does nothing to a request that is not held.
    fn restart_window<F>(&mut self, window: Option<Duration>, out: &mut Outbox<F>) {
        if let State::Held { until } = &mut self.state {
            *until = window.and_then(|window| out.now().checked_add(window));
            until.iter().for_each(|until| out.wake_at(*until));
        }
    }
}

impl State {
    /// The command whose caller waits.
    fn command(self) -> Option<CommandId> {
        match self {
            Self::InFlight(command) => Some(command),
            Self::Held { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
