//! Commands on their way to a link: taken in order once the link is ready, and answered in time where it is not.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use pontoon_sdk::{Code, Command, DeliveryLevel, Error, OnDemandLimits};
use tokio::time::sleep_until;

use super::erased::ErasedRequest;
use crate::metrics::Outcome;
use crate::reply::Caller;

/// The error of a command that is refused because the link is down.
const NOT_CONNECTED: &str = "there is no connection to the service";

/// A command on its way to a link.
pub struct QueuedCommand {
    /// The body, as the connector reads it.
    pub request: ErasedRequest,
    /// The command.
    pub command: Command,
    /// The most that a reply to it can say.
    pub delivery: DeliveryLevel,
    /// Who is sent the reply.
    pub caller: Caller,
    /// What it does while the link is down.
    pub when_down: WhenDown,
}

/// What a command does while its link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenDown {
    /// It is refused at once.
    Fail,
    /// It waits for the link, until its deadline. Such commands are bounded by [`OnDemandLimits`].
    Wait,
    /// It created the link, and waits for the first attempt to dial it.
    WaitForFirstDial,
}

/// The link's end of its queue. There are never more commands in it than an instance may have under way. Dropping it closes
/// the queue, and drops the commands that wait.
pub struct CommandQueue(Rc<Queue>);

/// The router's end of the queue of a link.
pub struct CommandSender(Rc<Queue>);

struct Queue {
    limits: OnDemandLimits,
    /// Boxed, as the queue of an idle link keeps its room.
    waiting: RefCell<VecDeque<Box<QueuedCommand>>>,
    /// How many of them wait for the link ([`WhenDown::Wait`]), and the bytes of their bodies.
    bounded: Cell<(usize, usize)>,
    /// No deadline of a command that waits is before this.
    next_deadline: Cell<Option<Instant>>,
    /// A command has come that [`CommandQueue::arrived`] has not shown yet.
    arrived: Cell<bool>,
    receiver: AtomicWaker,
    closed: Cell<bool>,
}

/// Both ends of an empty queue.
pub fn queue(limits: OnDemandLimits) -> (CommandSender, CommandQueue) {
    let queue = Rc::new(Queue {
        limits,
        waiting: RefCell::default(),
        bounded: Cell::default(),
        next_deadline: Cell::default(),
        arrived: Cell::default(),
        receiver: AtomicWaker::new(),
        closed: Cell::default(),
    });
    (CommandSender(queue.clone()), CommandQueue(queue))
}

impl CommandSender {
    /// Queues a command, or refuses it.
    pub fn push(&self, command: QueuedCommand) {
        let queue = &self.0;
        if let Err(error) = queue.admit(&command) {
            return command.caller.refuse(&error);
        }
        queue.count(&command, |(commands, bytes), size| (commands + 1, bytes + size));
        let deadline = command.command.deadline;
        let mut waiting = queue.waiting.borrow_mut();
        let next = queue.next_deadline.get().filter(|_| !waiting.is_empty());
        queue.next_deadline.set(Some(next.map_or(deadline, |next| next.min(deadline))));
        waiting.push_back(Box::new(command));
        drop(waiting);
        queue.arrived.set(true);
        queue.receiver.wake();
    }

    /// Whether the link takes commands, now or later.
    pub fn is_open(&self) -> bool {
        !self.0.closed.get()
    }
}

impl Queue {
    /// Whether a command may come in.
    ///
    /// # Errors
    /// `Rejected` with 429 if the limits leave no room for it, `Disconnected` if the queue is closed.
    fn admit(&self, command: &QueuedCommand) -> Result<(), Error> {
        let (commands, bytes) = self.bounded.get();
        let limits = &self.limits;
        let has_room = commands < limits.commands
            && bytes.checked_add(self.size(command)).is_some_and(|bytes| bytes <= limits.bytes);
        if command.when_down == WhenDown::Wait && !has_room {
            let text = format!("no more may wait for this link; {commands} commands do already");
            return Err(Error::rejected(Code::TooMany, text));
        }
        if self.closed.get() {
            return Err(Error::disconnected("the link takes no commands now"));
        }
        Ok(())
    }

    /// The bytes that count for a command. One alone may be larger than the limit.
    fn size(&self, command: &QueuedCommand) -> usize {
        command.command.body.get().len().min(self.limits.bytes)
    }

    fn count(&self, command: &QueuedCommand, change: impl Fn((usize, usize), usize) -> (usize, usize)) {
        if command.when_down == WhenDown::Wait {
            self.bounded.set(change(self.bounded.get(), self.size(command)));
        }
    }

    fn uncount(&self, command: &QueuedCommand) {
        self.count(command, |(commands, bytes), size| (commands - 1, bytes - size));
    }

    /// Takes out those that `which` applies to. They are answered by the caller of this function, outside of the borrow.
    fn remove(&self, which: impl Fn(&QueuedCommand) -> bool) -> VecDeque<Box<QueuedCommand>> {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|queued| which(queued)) {
            return VecDeque::new();
        }
        let (removed, kept) =
            std::mem::take(&mut *waiting).into_iter().partition::<VecDeque<_>, _>(|queued| which(queued));
        *waiting = kept;
        removed.iter().for_each(|command| self.uncount(command));
        removed
    }
}

impl CommandQueue {
    /// Waits until a command comes that was not there at the last call. Dropping the future loses nothing.
    pub async fn arrived(&mut self) {
        poll_fn(|context| {
            self.0.receiver.register(context.waker());
            if self.0.arrived.take() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Answers commands whose time runs out; while the link is down, also those that do not wait for it. Comes back when a
    /// link that is open on demand is not needed any more, and else never.
    pub async fn until_unneeded(&mut self, on_demand: bool, down: bool) {
        while !(on_demand && self.is_empty()) {
            if down {
                let error = Error::disconnected(NOT_CONNECTED);
                for queued in self.0.remove(|queued| queued.when_down == WhenDown::Fail) {
                    queued.caller.refuse(&error);
                }
            }
            let deadline = self.next_deadline();
            tokio::select! {
                () = self.arrived() => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    self.expire(Instant::now());
                }
            }
        }
    }

    /// Whether a command waits that is in time; those before it that are not are answered.
    pub fn is_waiting(&mut self, now: Instant) -> bool {
        loop {
            let deadline = self.0.waiting.borrow().front().map(|queued| queued.command.deadline);
            match deadline {
                None => return false,
                Some(deadline) if deadline > now => return true,
                Some(_) => self.take().into_iter().for_each(QueuedCommand::expire),
            }
        }
    }

    /// The oldest command.
    pub fn take(&mut self) -> Option<QueuedCommand> {
        let queued = self.0.waiting.borrow_mut().pop_front()?;
        self.0.uncount(&queued);
        Some(*queued)
    }

    /// When [`CommandQueue::expire`] may have something to do, and not before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline.get().filter(|_| !self.is_empty())
    }

    /// Answers those whose time has run out.
    pub fn expire(&mut self, now: Instant) {
        for queued in self.0.remove(|queued| queued.command.deadline <= now) {
            queued.expire();
        }
        let deadlines = self.0.waiting.borrow().iter().map(|queued| queued.command.deadline).min();
        self.0.next_deadline.set(deadlines);
    }

    /// The first dial failed and will be retried: replies `accepted` to the command that created the link.
    pub fn first_dial_failed(&mut self) {
        for queued in self.0.remove(|queued| queued.when_down == WhenDown::WaitForFirstDial) {
            queued.caller.answer(Outcome::Accepted, None, None);
        }
    }

    /// Whether no command waits.
    pub fn is_empty(&self) -> bool {
        self.0.waiting.borrow().is_empty()
    }

    /// Takes no more.
    pub fn close(&mut self) {
        self.0.closed.set(true);
    }

    /// Takes no more, and refuses all that wait with this error, or else because there is no connection.
    pub fn refuse_all(&mut self, error: Option<Error>) {
        self.close();
        let error = error.unwrap_or_else(|| Error::disconnected(NOT_CONNECTED));
        for queued in self.0.remove(|_| true) {
            queued.fail(&error);
        }
    }
}

impl Drop for CommandQueue {
    fn drop(&mut self) {
        self.close();
        drop(self.0.remove(|_| true));
    }
}

impl QueuedCommand {
    /// Its time ran out before it was sent.
    pub fn expire(self) {
        if self.when_down == WhenDown::WaitForFirstDial {
            let text = "the link is still being dialled; whether it opens is not known yet";
            let error = Error::rejected(Code::NoAnswer, text);
            return self.caller.answer(Outcome::Unknown, None, Some(&error));
        }
        self.caller.refuse(&Error::rejected(Code::Expired, "its time ran out before it was sent"));
    }

    /// The link is closed for good. The command that created it may have replaced another link of its name: nothing was
    /// refused, it failed.
    fn fail(self, error: &Error) {
        match self.when_down {
            WhenDown::WaitForFirstDial => self.caller.answer(Outcome::Failed, None, Some(error)),
            WhenDown::Fail | WhenDown::Wait => self.caller.refuse(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use pontoon_sdk::CommandId;
    use serde_json::value::RawValue;

    use super::*;
    use crate::reply::{ReplyReceiver, ReplySender, test_caller};

    struct Fixture {
        reply_sender: ReplySender,
        replies: ReplyReceiver,
        sender: CommandSender,
        queue: CommandQueue,
    }

    impl Fixture {
        fn new(limits: OnDemandLimits) -> Self {
            let (reply_sender, replies) = ReplySender::new(16);
            let (sender, queue) = queue(limits);
            Self { reply_sender, replies, sender, queue }
        }

        /// Pushes a command with a body of this many bytes.
        fn push(&mut self, number: u64, when_down: WhenDown, size: usize, deadline: Instant) {
            let body = RawValue::from_string("1".repeat(size)).unwrap();
            let command = Command {
                id: CommandId(number),
                operation: "test",
                argument: None,
                body,
                headers: Vec::new(),
                deadline,
                stream: false,
            };
            let caller = test_caller(&self.reply_sender, number);
            let delivery = DeliveryLevel::Response;
            self.sender.push(QueuedCommand { request: Box::new(()), command, delivery, caller, when_down });
        }

        /// The statuses and codes of the replies since the last call.
        fn replies(&mut self) -> Vec<(&'static str, u16)> {
            let next = || self.replies.try_next();
            let all = std::iter::from_fn(next);
            all.map(|reply| {
                let code = reply.answer.error.as_ref().map_or(0, |(code, _)| *code);
                (reply.answer.status(), code)
            })
            .collect()
        }
    }

    #[test]
    fn commands_that_wait_are_bounded_and_make_room_once_they_are_taken() {
        let later = Instant::now() + Duration::from_secs(60);
        let mut fixture = Fixture::new(OnDemandLimits { links: 1, commands: 2, bytes: 10 });
        fixture.push(1, WhenDown::Wait, 6, later);
        fixture.push(2, WhenDown::Wait, 6, later);
        assert_eq!(fixture.replies(), [("rejected", 429)], "too many bytes");
        fixture.push(3, WhenDown::Wait, 2, later);
        fixture.push(4, WhenDown::Wait, 1, later);
        assert_eq!(fixture.replies(), [("rejected", 429)], "too many commands");
        // Others are not bounded here.
        fixture.push(5, WhenDown::Fail, 100, later);
        for number in [1, 3, 5] {
            assert_eq!(fixture.queue.take().map(|queued| queued.command.id), Some(CommandId(number)));
        }
        fixture.push(6, WhenDown::Wait, 100, later);
        fixture.replies.try_next();
        assert!(fixture.queue.is_waiting(Instant::now()), "one alone may be larger");
    }

    #[test]
    fn commands_whose_time_ran_out_are_answered_and_not_taken() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        let mut fixture = Fixture::new(OnDemandLimits::default());
        for number in 1..4 {
            fixture.push(number, WhenDown::Wait, 1, if number == 3 { later } else { now });
        }
        assert!(fixture.queue.is_waiting(now));
        assert_eq!(fixture.replies(), [("expired", 408), ("expired", 408)]);
        fixture.queue.expire(now);
        assert_eq!(fixture.queue.next_deadline(), Some(later));
        fixture.queue.expire(later);
        assert_eq!(fixture.replies(), [("expired", 408)]);
        assert!(!fixture.queue.is_waiting(now) && fixture.queue.is_empty());
    }

    #[test]
    fn an_arrival_is_shown_once_and_a_closed_queue_takes_no_more() {
        let later = Instant::now() + Duration::from_secs(60);
        let mut fixture = Fixture::new(OnDemandLimits::default());
        assert!(fixture.queue.arrived().now_or_never().is_none());
        fixture.push(1, WhenDown::Fail, 1, later);
        assert!(fixture.queue.arrived().now_or_never().is_some());
        assert!(fixture.queue.arrived().now_or_never().is_none());
        fixture.queue.close();
        assert!(!fixture.sender.is_open());
        fixture.push(2, WhenDown::Fail, 1, later);
        assert_eq!(fixture.replies(), [("failed", 503)]);
        fixture.queue.refuse_all(None);
        assert_eq!(fixture.replies(), [("failed", 503)]);
    }
}
