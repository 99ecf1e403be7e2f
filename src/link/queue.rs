//! Commands on their way to a link: taken in order once the link is ready, and answered in time where it is not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::{Code, Command, DeliveryLevel, Error, OnDemandLimits, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep_until;

use crate::metrics::Outcome;
use crate::reply::Caller;

/// What a caller is told where the link is down.
const NOT_CONNECTED: &str = "there is no connection to the service";

/// A command on its way to a link.
pub struct Errand<R> {
    /// What is wanted, as the connector reads it.
    pub request: R,
    /// What is wanted.
    pub command: Command,
    /// The most that the operation can say.
    pub delivery: DeliveryLevel,
    /// Who wants it.
    pub caller: Caller,
    /// What it does while the link is down.
    pub patience: Patience,
    /// Its part of the room, given back once it is taken or answered.
    pub stay: Option<Stay>,
}

/// What a command does while its link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It is refused at once.
    None,
    /// It waits for the link, as long as its caller does.
    Long,
    /// It has the link created, and waits for the first attempt to dial it.
    First,
}

/// Room for the errands of one link.
pub struct Room {
    bounds: OnDemandLimits,
    commands: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A part of the room.
pub struct Stay {
    _command: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Room {
    /// As much as the connector says.
    pub fn new(bounds: OnDemandLimits) -> Self {
        let semaphore = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self { bounds, commands: semaphore(bounds.commands), bytes: semaphore(bounds.bytes) }
    }

    /// Takes some of it for a command.
    ///
    /// # Errors
    /// `Rejected` with 429 if there is not enough.
    pub fn enter(&self, command: &Command) -> Result<Stay> {
        let size = command.body.get().len().min(self.bounds.bytes).min(Semaphore::MAX_PERMITS);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let stay = || {
            let command = self.commands.clone().try_acquire_owned().ok()?;
            let bytes = self.bytes.clone().try_acquire_many_owned(size).ok()?;
            Some(Stay { _command: command, _bytes: bytes })
        };
        stay().ok_or_else(|| {
            let waiting =
                self.bounds.commands.min(Semaphore::MAX_PERMITS) - self.commands.available_permits();
            let text = format!("no more may wait for this link; {waiting} commands do already");
            Error::rejected(Code::TooMany, text)
        })
    }
}

/// The errands of one link. There are never more than the commands that an instance may have under way.
pub struct Errands<R> {
    mailbox: mpsc::Receiver<Errand<R>>,
    waiting: VecDeque<Errand<R>>,
}

impl<R> Errands<R> {
    /// Those that come this way.
    pub fn new(mailbox: mpsc::Receiver<Errand<R>>) -> Self {
        Self { mailbox, waiting: VecDeque::new() }
    }

    /// Waits for one more to come. Dropping the future loses nothing.
    pub async fn arrive(&mut self) {
        match self.mailbox.recv().await {
            Some(errand) => self.waiting.push_back(errand),
            None => std::future::pending().await,
        }
    }

    /// Takes in what comes, and answers those whose time runs out. While the link is down, those that do not wait for it
    /// are told at once. Comes back when a link that is open on demand is not needed any more, and else never.
    pub async fn attend(&mut self, on_demand_limits: bool, down: bool) {
        while !(on_demand_limits && self.is_empty()) {
            if down {
                self.refuse_impatient();
            }
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        let overdue = self.next_deadline();
        tokio::select! {
            () = self.arrive() => {}
            () = sleep_until(overdue.unwrap_or_else(Instant::now).into()), if overdue.is_some() => {
                self.expire(Instant::now());
            }
        }
    }

    /// Whether [`Errands::take`] has something to do.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next that is still in time; those before it that are not are answered.
    pub fn take(&mut self) -> Option<Errand<R>> {
        let now = Instant::now();
        while let Some(errand) = self.waiting.pop_front() {
            if errand.command.deadline > now {
                return Some(errand);
            }
            errand.expire();
        }
        None
    }

    /// When [`Errands::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|errand| errand.command.deadline).min()
    }

    /// Answers those whose time has run out.
    pub fn expire(&mut self, now: Instant) {
        self.remove(|errand| errand.command.deadline <= now).into_iter().for_each(Errand::expire);
    }

    fn refuse_impatient(&mut self) {
        let error = Error::disconnected(NOT_CONNECTED);
        for errand in self.remove(|errand| errand.patience == Patience::None) {
            errand.caller.refuse(&error);
        }
    }

    /// The first attempt to dial the link has failed, and others follow: whoever has it created is told that this much
    /// is done.
    pub fn accept_first(&mut self) {
        for errand in self.remove(|errand| errand.patience == Patience::First) {
            errand.caller.answer(Outcome::Accepted, None, None);
        }
    }

    fn remove(&mut self, which: impl Fn(&Errand<R>) -> bool) -> VecDeque<Errand<R>> {
        let (removed, kept) = std::mem::take(&mut self.waiting).into_iter().partition(which);
        self.waiting = kept;
        removed
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mailbox.is_empty() && self.waiting.is_empty()
    }

    /// Takes no more.
    pub fn close(&mut self) {
        self.mailbox.close();
    }

    /// The link is gone for good: all are told, and why if that is known.
    pub fn refuse_all(&mut self, why: Option<Error>) {
        self.close();
        while let Ok(errand) = self.mailbox.try_recv() {
            self.waiting.push_back(errand);
        }
        let error = why.unwrap_or_else(|| Error::disconnected(NOT_CONNECTED));
        for errand in self.waiting.drain(..) {
            errand.fail(&error);
        }
    }
}

impl<R> Errand<R> {
    fn expire(self) {
        if self.patience == Patience::First {
            let text = "the link is still being dialled, and nobody knows yet whether it opens";
            let error = Error::rejected(Code::NoAnswer, text);
            return self.caller.answer(Outcome::Unknown, None, Some(&error));
        }
        self.caller.refuse(&Error::rejected(Code::Expired, "its time ran out before it was sent"));
    }

    /// The link is gone. Whoever had it created may have lost another of its name: nothing was refused, it failed.
    fn fail(self, error: &Error) {
        match self.patience {
            Patience::First => self.caller.answer(Outcome::Failed, None, Some(error)),
            Patience::None | Patience::Long => self.caller.refuse(error),
        }
    }
}
