//! A connection to NATS that instances share for what they publish, so that what they publish at the same time leaves with
//! one system call. An instance has a `Channel` of it.
//!
//! * Fair: each channel may have 64 KiB waiting to be written, whatever the others have.
//! * Confirmations are messages to a subscription of the channel, and go to it alone. One ping serves all that wait for the
//!   next one. What the server does not allow concerns the channel whose subjects it names.
//! * A break concerns all channels: each ends its attempt, and opens another one.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::ServerInfo;

use super::protocol::{Message, Publish};
use super::publish_connection::{ConnectionError, PublishConnection, Received};
use crate::fence::{Fence, NOT_CERTAIN};

/// How long the server may take to answer a ping on a connection that others may use.
pub(super) const ROUND_TRIP: Duration = Duration::from_secs(5);
/// A channel takes no event once this many of its bytes wait to be written.
const QUANTUM: usize = 64 * 1024;
/// How many bytes of confirmations may wait for a channel. Those of a whole window have about 128 KiB.
const MAX_RECEIVED: usize = 1024 * 1024;
/// How many of them, and as many errors beside them.
const MAX_ITEMS: usize = 16 * 1024;

/// One connection.
pub(super) struct SharedConnection(RefCell<State>);

struct State {
    connection: PublishConnection,
    /// Why it is of no more use.
    broken: Option<String>,
    /// Wakes what drives it.
    driver: Option<Waker>,
    channels: BTreeMap<u64, Rc<RefCell<Queue>>>,
    /// The number of the last channel, by which the server names its subscription.
    last: u64,
    /// The channels that wait for answers to pings, in order of the pings.
    pinged: VecDeque<(u64, u64)>,
    /// Whether a ping is to follow what waits to be written.
    ping: bool,
    /// The channels that wait for room.
    full: Vec<Rc<RefCell<Queue>>>,
}

/// What a connection keeps for one channel.
#[derive(Default)]
struct Queue {
    /// How the subjects begin that it uses, in quotes as errors of the server have them.
    subjects: Vec<String>,
    received: Batch,
    waker: Option<Waker>,
    /// Bytes that wait to be written, and where the last of them is, counted from the beginning of the connection.
    waiting: usize,
    end: u64,
    /// Whether it waits for room.
    wants_room: bool,
    /// Closed while nothing of it may be written.
    fence: Fence,
}

/// What was received for a channel, in order.
#[derive(Default)]
struct Batch {
    items: VecDeque<Item>,
    /// Subjects and payloads of the messages.
    bytes: Vec<u8>,
}

enum Item {
    Pong(u64),
    Refused(String),
    Message { subject: Range<usize>, payload: Range<usize>, has_status: bool },
}

/// The use of a connection by one instance.
pub(super) struct Channel {
    connection: Rc<SharedConnection>,
    number: u64,
    queue: Rc<RefCell<Queue>>,
    /// What was taken of what was received.
    taken: Batch,
    /// The last ping, and the last one that was answered.
    ping: u64,
    pong: u64,
}

impl SharedConnection {
    /// One that is established, and has no channels yet.
    pub(super) fn new(connection: PublishConnection) -> Self {
        let (channels, pinged) = (BTreeMap::new(), VecDeque::new());
        let (broken, driver) = (None, None);
        let state =
            State { connection, broken, driver, channels, last: 0, pinged, ping: false, full: Vec::new() };
        Self(RefCell::new(state))
    }

    /// Whether it is of no more use.
    pub(super) fn is_broken(&self) -> bool {
        self.0.borrow().broken.is_some()
    }

    /// Whether it is of use, and leads to this server or to one of its cluster.
    pub(super) fn leads_to(&self, server: &ServerInfo) -> bool {
        let state = self.0.borrow();
        state.broken.is_none() && state.connection.leads_to(server)
    }

    /// Writes and reads until the connection is of no more use.
    pub(super) fn poll_drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.0.borrow_mut();
        state.driver = Some(cx.waker().clone());
        while state.broken.is_none() {
            // One at a time: the next one serves all that have asked for it meanwhile.
            if state.ping && !state.connection.is_pinged() {
                state.connection.ping();
                state.ping = false;
            }
            // What waits was added while the instance had its lease, and the process may have been stopped since.
            if state.channels.values().any(|queue| queue.borrow().is_fenced(state.connection.written())) {
                state.fail(NOT_CERTAIN.to_owned());
                break;
            }
            match state.connection.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    if let Err(error) = state.receive() {
                        state.fail(error.to_string());
                    }
                }
                Poll::Ready(Err(error)) => state.fail(error.to_string()),
                Poll::Pending => {
                    state.wake_written();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }
}

impl State {
    /// Gives what was received to the channels.
    fn receive(&mut self) -> Result<(), ConnectionError> {
        let Self { connection, channels, pinged, .. } = self;
        while let Some(received) = connection.next()? {
            match received {
                Received::Pong(number) => {
                    while let Some((_, channel)) = pinged.pop_front_if(|(ping, _)| *ping <= number) {
                        if let Some(queue) = channels.get(&channel) {
                            queue.borrow_mut().push(Item::Pong(number));
                        }
                    }
                }
                Received::Message(message) => {
                    if let Some(queue) = channels.get(&message.subscription) {
                        queue.borrow_mut().message(&message);
                    }
                }
                Received::Refused(text) => {
                    // Where it is about none, an instance has ended meanwhile.
                    let concerned = channels.values().map(|queue| queue.borrow_mut());
                    if let Some(mut queue) = concerned.into_iter().find(|queue| queue.uses(&text)) {
                        queue.refused(text)?;
                    }
                }
                Received::Other => {}
            }
        }
        Ok(())
    }

    /// Wakes the channels that wait for room and have it.
    fn wake_written(&mut self) {
        let written = self.connection.written();
        self.full.retain(|queue| {
            let mut queue = queue.borrow_mut();
            queue.wants_room = queue.is_full(written);
            if !queue.wants_room {
                queue.wake();
            }
            queue.wants_room
        });
    }

    fn fail(&mut self, reason: String) {
        self.broken = Some(reason);
        self.channels.values().for_each(|queue| queue.borrow_mut().wake());
        self.wake_driver();
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

impl Queue {
    fn push(&mut self, item: Item) {
        self.received.items.push_back(item);
        self.wake();
    }

    fn message(&mut self, message: &Message<'_>) {
        let Batch { items, bytes } = &mut self.received;
        if bytes.len() > MAX_RECEIVED || items.len() > MAX_ITEMS {
            // Others than the server may send here. What was left out is read back.
            return;
        }
        let mut add = |part: &[u8]| {
            bytes.extend_from_slice(part);
            bytes.len() - part.len()..bytes.len()
        };
        let (subject, payload) = (add(message.subject), add(message.payload));
        self.push(Item::Message { subject, payload, has_status: message.has_status });
    }

    /// What is not allowed must not be lost: in core mode, the answer to a ping behind it confirms the rest.
    fn refused(&mut self, text: String) -> Result<(), ConnectionError> {
        if self.received.items.len() > 2 * MAX_ITEMS {
            return Err(ConnectionError::Lost("the server refuses more than was sent".to_owned()));
        }
        self.push(Item::Refused(text));
        Ok(())
    }

    /// Whether it may have no more bytes waiting, where so many were written.
    fn is_full(&self, written: u64) -> bool {
        self.waiting >= QUANTUM && self.end > written
    }

    /// Whether something of it waits that may not be written, where so many bytes were.
    fn is_fenced(&self, written: u64) -> bool {
        self.end > written && !self.fence.is_open()
    }

    /// Whether an error of the server is about its subjects.
    fn uses(&self, text: &str) -> bool {
        self.subjects.iter().any(|subject| text.contains(subject.as_str()))
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Channel {
    /// A channel whose subscription the server may not have processed yet: see [`Channel::round_trip`].
    pub(super) fn open(
        connection: Rc<SharedConnection>,
        inbox: Option<&str>,
        subjects: &[&str],
        fence: Fence,
    ) -> Self {
        let state = &mut *connection.0.borrow_mut();
        state.last += 1;
        let subjects = subjects.iter().copied().chain(inbox);
        let subjects = subjects.map(|subject| format!("\"{subject}")).collect();
        let queue = Rc::new(RefCell::new(Queue { subjects, fence, ..Queue::default() }));
        state.channels.insert(state.last, queue.clone());
        if let Some(inbox) = inbox {
            state.connection.send_line(format!("SUB {inbox}> {}\r\n", state.last).as_bytes());
        }
        let connection = connection.clone();
        Self { number: state.last, connection, queue, taken: Batch::default(), ping: 0, pong: 0 }
    }

    fn state(&self) -> RefMut<'_, State> {
        self.connection.0.borrow_mut()
    }

    /// The most bytes that headers and body may have.
    pub(super) fn max_payload(&self) -> usize {
        self.state().connection.max_payload()
    }

    /// Whether so much of it waits to be written that no event should be added.
    pub(super) fn is_full(&self) -> bool {
        self.queue.borrow().is_full(self.state().connection.written())
    }

    /// Whether a ping is not answered yet.
    pub(super) fn is_pinged(&self) -> bool {
        self.ping > self.pong
    }

    /// Gives back the memory that a burst took. Call it while nothing is on its way.
    pub(super) fn shrink(&mut self) {
        self.taken = Batch::default();
        self.state().connection.shrink();
    }

    /// Adds an event to what is written next.
    pub(super) fn publish(&mut self, publish: &Publish<'_>) {
        let (state, queue) = (&mut *self.connection.0.borrow_mut(), &mut *self.queue.borrow_mut());
        if queue.end <= state.connection.written() {
            queue.waiting = 0;
        }
        queue.waiting += state.connection.publish(publish);
        queue.end = state.connection.end();
        state.wake_driver();
    }

    /// Has a ping follow everything that was added. Returns its number, which [`Received::Pong`] has.
    pub(super) fn ping(&mut self) -> u64 {
        let state = &mut *self.connection.0.borrow_mut();
        state.ping = true;
        self.ping = state.connection.pings() + 1;
        state.pinged.push_back((self.ping, self.number));
        state.wake_driver();
        self.ping
    }

    /// Pings, and waits until the server has processed everything before. Messages that come meanwhile do not count.
    ///
    /// # Errors
    /// See [`ConnectionError`]; what the server does not allow ends the wait as well.
    pub(super) async fn round_trip(&mut self) -> Result<(), ConnectionError> {
        let ping = self.ping();
        loop {
            match self.next()? {
                Some(Received::Pong(pong)) if pong >= ping => return Ok(()),
                Some(Received::Refused(text)) => return Err(ConnectionError::Server(text)),
                Some(_) => {}
                None => self.ready().await,
            }
        }
    }

    /// Waits until something was received, there is room for events again, or the connection broke. Dropping it loses
    /// nothing.
    pub(super) async fn ready(&self) {
        let was_full = self.is_full();
        if was_full && !std::mem::replace(&mut self.queue.borrow_mut().wants_room, true) {
            self.state().full.push(self.queue.clone());
        }
        poll_fn(|cx| {
            let has_room = was_full && !self.is_full();
            let queue = &mut *self.queue.borrow_mut();
            if has_room || !queue.received.items.is_empty() || self.connection.is_broken() {
                return Poll::Ready(());
            }
            queue.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What was received next; `None` if [`Channel::ready`] must be waited for.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub(super) fn next(&mut self) -> Result<Option<Received<'_>>, ConnectionError> {
        if self.taken.items.is_empty() {
            self.taken.bytes.clear();
            std::mem::swap(&mut self.taken, &mut self.queue.borrow_mut().received);
            if let (true, Some(reason)) = (self.taken.items.is_empty(), &self.state().broken) {
                return Err(ConnectionError::Lost(reason.clone()));
            }
        }
        let bytes = &self.taken.bytes;
        Ok(self.taken.items.pop_front().map(|item| match item {
            Item::Pong(number) => {
                self.pong = number;
                Received::Pong(number)
            }
            Item::Refused(text) => Received::Refused(text),
            Item::Message { subject, payload, has_status } => Received::Message(Message {
                subject: bytes.get(subject).unwrap_or_default(),
                subscription: self.number,
                has_status,
                payload: bytes.get(payload).unwrap_or_default(),
            }),
        }))
    }

    /// Gives up the connection, which does not answer, for all that share it.
    pub(super) fn give_up(&self, reason: &str) {
        let mut state = self.state();
        if state.broken.is_none() {
            state.fail(reason.to_owned());
        }
    }
}

/// The last one ends the connection.
impl Drop for Channel {
    fn drop(&mut self) {
        let mut state = self.state();
        state.channels.remove(&self.number);
        state.full.retain(|queue| !Rc::ptr_eq(queue, &self.queue));
        state.connection.send_line(format!("UNSUB {}\r\n", self.number).as_bytes());
        if state.channels.is_empty() && state.broken.is_none() {
            state.fail("no instance uses it".to_owned());
        }
        state.wake_driver();
    }
}

#[cfg(test)]
mod tests;
