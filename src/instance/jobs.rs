//! The jobs of an instance between the work queue and the router: one under way for each scope, in the order of the stream,
//! tried again while they are certainly not done, and acknowledged once their result is stored.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use super::bus::Bus;
use super::router::reading::expires;
use super::router::{Attempt, Described};
use super::shared::Shared;
use crate::bus::jobs::{Delivery, JobIntents, JobResult, PROGRESS, WorkQueue};
use crate::reply::{Job, Outgoing, ReplyReceiver, ReplySender};
use crate::settings::{Delivery as DeliverySettings, Jobs as JobSettings};
use crate::status::JobStatus;

/// How many jobs are fetched for each that may be under way, so that a scope with many jobs does not stop the others.
const AHEAD: usize = 4;
/// How long after an attempt a job is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// Attempts that may be under way at once, of former work queues, too.
const MOST: usize = 4_096;

/// The jobs of an instance.
pub(super) struct Jobs {
    shared: Rc<Shared>,
    intents: Rc<JobIntents>,
    current: Option<Current>,
    /// The jobs that were fetched and are not acknowledged, in the order in which they came.
    held: BTreeMap<u64, Held>,
    last: u64,
    replies: ReplySender,
    answers: ReplyReceiver,
    /// What is sent to work queues: progress, and the ends of the jobs with these numbers.
    sending: JoinSet<Option<u64>>,
    progress: Interval,
    /// Jobs of the instance that were not fetched yet, at the last look.
    pending: u64,
    /// No more jobs are taken.
    stopping: bool,
    /// A job was returned that may have been done, which a process with another record of intents could not know.
    returned_begun: bool,
}

/// The work queue that jobs are fetched from.
struct Current {
    queue: Rc<WorkQueue>,
    settings: (JobSettings, DeliverySettings),
    arrivals: mpsc::Receiver<Delivery>,
    /// Ends with this value.
    _fetching: JoinSet<Infallible>,
}

struct Held {
    queue: Rc<WorkQueue>,
    delivery: Delivery,
    key: String,
    id: String,
    scope: String,
    repeatable: bool,
    expires: Instant,
    /// Whether an earlier attempt may have been done.
    begun: bool,
    /// Whether the intent is written.
    written: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// It waits for its turn, and at least until then.
    Waiting(Instant),
    /// The router has it.
    Running,
    /// Its result is being stored.
    Ended,
}

impl Jobs {
    /// No jobs yet. [`Jobs::follow`] begins.
    pub(super) async fn new(shared: Rc<Shared>) -> Self {
        let kept = shared.settings().jobs.max_age.0 * 2;
        let oldest = (OffsetDateTime::now_utc() - kept).unix_timestamp_nanos();
        let (replies, answers) = ReplySender::new(MOST);
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            intents: Rc::new(JobIntents::new(shared.intents.clone(), oldest).await),
            shared,
            current: None,
            held: BTreeMap::new(),
            last: 0,
            replies,
            answers,
            sending: JoinSet::new(),
            progress,
            pending: 0,
            stopping: false,
            returned_begun: false,
        }
    }

    /// Takes jobs as the settings in force say, over the current connection. `moved` is whether that is another one: what was
    /// fetched over the former one and is not under way goes back.
    pub(super) fn follow(&mut self, bus: &Bus, moved: bool) {
        let settings = self.shared.settings();
        let wanted = (settings.jobs.clone(), settings.delivery.clone());
        if !moved && self.current.as_ref().is_some_and(|current| current.settings == wanted) {
            return;
        }
        self.current = None;
        self.give_back();
        let Some(queue) = bus.work_queue(&self.intents) else {
            self.shared.jobs.send_replace(JobStatus::default());
            return;
        };
        let queue = Rc::new(queue);
        let most = wanted.0.max_in_flight * AHEAD;
        let (sender, arrivals) = mpsc::channel(most);
        let room = Arc::new(Semaphore::new(most));
        let mut fetching = JoinSet::new();
        fetching.spawn_local({
            let queue = queue.clone();
            async move { queue.fetch(&sender, &room).await }
        });
        self.current = Some(Current { queue, settings: wanted, arrivals, _fetching: fetching });
    }

    /// Waits until a job arrives, or something else has changed. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        let now = Instant::now();
        let times = self.held.values().filter_map(|held| match held.state {
            // One whose turn has not come is looked at when the one before it ends.
            State::Waiting(at) => Some(at).filter(|at| *at > now),
            State::Running | State::Ended => None,
        });
        let next = times.min();
        let arrival = async {
            match &mut self.current {
                Some(Current { arrivals, .. }) => arrivals.recv().await,
                None => std::future::pending().await,
            }
        };
        let delivery = tokio::select! {
            delivery = arrival => {
                if delivery.is_none() {
                    self.shared.fault.cancel();
                }
                delivery
            }
            Some(outgoing) = self.answers.next() => {
                self.answered(outgoing);
                None
            }
            Some(sent) = self.sending.join_next() => {
                match sent {
                    Ok(Some(number)) => drop(self.held.remove(&number)),
                    Ok(None) => {}
                    Err(_) => self.shared.fault.cancel(),
                }
                None
            }
            _ = self.progress.tick() => {
                self.report_progress();
                None
            }
            () = sleep_until(next.unwrap_or(now).into()), if next.is_some() => None,
        };
        self.show();
        delivery
    }

    /// Takes a job that has arrived.
    pub(super) fn take(&mut self, delivery: Delivery, described: Described) {
        let Some(Current { queue, .. }) = &self.current else { return };
        let (queue, key) = (queue.clone(), delivery.key());
        self.pending = delivery.pending;
        if let Some(held) = self.held.values_mut().find(|held| held.key == key) {
            // It was delivered again because the server waited too long for a word of us.
            held.delivery.ack = delivery.ack;
            return;
        }
        self.last += 1;
        let number = self.last;
        let Described { scope, repeatable } = described;
        let written = self.intents.is_open(&key);
        let begun = delivery.suspect || written;
        let answered = self.intents.is_answered(&key);
        let jobs = &self.shared.settings().jobs;
        let named = delivery.request.header("Pontoon-Expires").and_then(|value| expires(value, jobs).ok());
        let left = named.unwrap_or(jobs.expires.0).saturating_sub(delivery.age(OffsetDateTime::now_utc()));
        let (now, id) = (Instant::now(), delivery.id());
        let state = if answered { State::Ended } else { State::Waiting(now) };
        let expires = now + left;
        let held = Held { queue, delivery, key, id, scope, repeatable, expires, begun, written, state };
        if answered {
            let Held { queue, key, delivery, .. } = &held;
            let finish = queue.clone().finish(key.clone(), delivery.ack.clone(), None);
            self.sending.spawn_local(async move {
                finish.await;
                Some(number)
            });
        }
        self.held.insert(number, held);
    }

    /// The attempts that are due now: of each scope the oldest job, and only while NATS can be asked to wait for it.
    pub(super) fn due(&mut self) -> Vec<Attempt> {
        if !self.shared.fence.is_open() {
            return Vec::new();
        }
        let now = Instant::now();
        let most = self.shared.settings().jobs.max_in_flight;
        let mut under_way = self.held.values().filter(|held| held.state == State::Running).count();
        let mut busy = HashSet::new();
        let mut due = Vec::new();
        for (number, held) in &mut self.held {
            let is_first = held.state != State::Ended && busy.insert(held.scope.as_str());
            let is_due = matches!(held.state, State::Waiting(at) if at <= now);
            if is_first && is_due && under_way < most && held.queue.connection.borrow().up {
                under_way += 1;
                held.state = State::Running;
                due.push(Attempt {
                    request: held.delivery.request.clone(),
                    id: held.id.clone(),
                    sequence: *number,
                    job: held.job(&self.intents),
                    replies: self.replies.clone(),
                });
            }
        }
        due
    }

    /// An attempt has ended.
    fn answered(&mut self, outgoing: Outgoing) {
        let Outgoing { subject, answer, traceparent, .. } = outgoing;
        let Some(number) = subject.parse::<u64>().ok() else { return };
        let Some(held) = self.held.get_mut(&number) else { return };
        if answer.repeated {
            held.begun |= !answer.is_not_done();
            held.written = held.begun;
            if !held.begun {
                self.intents.withdraw(&held.key);
            }
            held.state = State::Waiting(Instant::now() + RETRY);
            if self.stopping {
                self.give_back();
            }
            return;
        }
        held.state = State::Ended;
        if let Some(outcome) = answer.outcome {
            self.shared.link.metrics.jobs(outcome).increment(1);
        }
        let subject = held.queue.subjects.result(held.delivery.request.tokens());
        let result = JobResult { subject, answer, traceparent };
        let finish = held.queue.clone().finish(held.key.clone(), held.delivery.ack.clone(), Some(result));
        self.sending.spawn_local(async move {
            finish.await;
            Some(number)
        });
    }

    /// Returns the jobs that are not under way.
    fn give_back(&mut self) {
        let returned: Vec<_> =
            self.held.extract_if(.., |_, held| matches!(held.state, State::Waiting(_))).collect();
        self.returned_begun |= returned.iter().any(|(_, held)| held.begun);
        self.sending.spawn_local(async move {
            for (_, held) in returned {
                held.queue.give_back(&held.delivery.ack).await;
            }
            None
        });
    }

    fn report_progress(&mut self) {
        let held = self.held.values().map(|held| (held.queue.clone(), held.delivery.ack.clone()));
        let held: Vec<_> = held.collect();
        self.sending.spawn_local(async move {
            for (queue, ack) in held {
                queue.in_progress(&ack).await;
            }
            None
        });
    }

    fn show(&self) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let waits = |held: &&Held| matches!(held.state, State::Waiting(_));
        let waiting = number(self.held.values().filter(waits).count());
        let in_flight = number(self.held.len()) - waiting;
        let waiting = waiting + self.pending;
        self.shared.jobs.send_if_modified(|status| {
            let is_new = (status.in_flight, status.waiting) != (in_flight, waiting);
            (status.in_flight, status.waiting) = (in_flight, waiting);
            is_new
        });
        let metrics = &self.shared.link.metrics;
        metrics.jobs_in_flight.set(in_flight as f64);
        metrics.jobs_waiting.set(waiting as f64);
    }

    /// Takes no more jobs, returns those that are not under way, and waits for the others: until all are ended or returned,
    /// so that another process knows of none that may have been sent.
    pub(super) async fn drain(mut self) {
        let current = self.current.take();
        self.stopping = true;
        self.give_back();
        while !self.held.is_empty() || !self.sending.is_empty() {
            self.next().await;
        }
        if let Some(Current { queue, .. }) = current.filter(|_| !self.returned_begun) {
            let _ = queue.release().await;
        }
    }
}

impl Held {
    fn job(&self, intents: &Rc<JobIntents>) -> Job {
        let (intents, key) = (intents.clone(), self.key.clone());
        let begin = async move { intents.begin(&key).await };
        Job {
            expires: self.expires,
            timeout: Duration::ZERO,
            repeatable: self.repeatable,
            begun: self.begun,
            begin: (!self.written).then(|| begin.boxed_local()),
        }
    }
}
