//! The threads that instances run on: about one for each core. On a thread instances take turns, and each of their tasks
//! ends with its instance.
//!
//! A turn ends when an instance waits, or after the 61 tasks that the runtime's `LocalSet` polls in one go, each within the
//! runtime's budget. Nothing ends the turn of an instance that neither waits nor returns: then the daemon finds the thread
//! stuck, and starts the others on another one.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::bus::connections::Connections;
use crate::link::gaps::BEAT;
use crate::settings::Isolation;

/// A worker is stuck if it does not run in the time of this many checks, of which the daemon makes ten in a second. Checks
/// are counted, not time: where the whole process is stopped, there are none.
const STUCK_CHECKS: u32 = 50;
/// How often what runs on a thread is polled at a time, before the runtime looks at its sockets.
const PASSES: usize = 8;

/// The threads of all instances.
pub struct Workers {
    shared: Vec<Watched>,
    limit: usize,
    /// How many were started, which numbers them.
    started: usize,
}

/// A worker that instances share.
struct Watched {
    worker: Weak<Worker>,
    /// How often it had run when that changed last, and how many checks have found no change since.
    beats: u64,
    missed: u32,
}

/// A thread. It ends once the last handle of it is dropped and its instances have ended.
pub struct Worker {
    starts: UnboundedSender<Start>,
    pulse: Arc<Pulse>,
}

/// What a thread shows of itself.
#[derive(Default)]
struct Pulse {
    /// How often it has run.
    beats: AtomicU64,
    /// The number of the instance whose turn it is; 0 if it is the turn of none.
    turn: AtomicU64,
}

/// An instance to run.
struct Start {
    id: u64,
    run: Box<dyn FnOnce(Connections) -> LocalBoxFuture<'static, ()> + Send>,
    abandoned: CancellationToken,
    ended: CancellationToken,
}

/// An instance that runs on a worker.
pub(super) struct Running {
    worker: Arc<Worker>,
    id: u64,
    abandoned: CancellationToken,
    ended: CancellationToken,
}

impl Workers {
    /// No threads yet; at most `limit` that instances share.
    pub fn new(limit: usize) -> Self {
        Self { shared: Vec::new(), limit, started: 0 }
    }

    /// The worker for an instance of this name: one to itself, or of those that instances share the one with the fewest.
    ///
    /// # Errors
    /// If a thread is needed and cannot be made.
    pub fn assign(&mut self, name: &str, isolation: Isolation) -> io::Result<Arc<Worker>> {
        if isolation == Isolation::Own {
            return Worker::start(format!("instance {name}"), name);
        }
        self.shared.retain(|watched| watched.worker.strong_count() > 0);
        let least = self.shared.iter().min_by_key(|watched| watched.worker.strong_count());
        let least = least.and_then(|watched| watched.worker.upgrade());
        if let Some(worker) = least.filter(|_| self.shared.len() >= self.limit) {
            return Ok(worker);
        }
        self.started += 1;
        let name = format!("worker-{}", self.started);
        let worker = Worker::start(name.clone(), &name)?;
        self.shared.push(Watched { worker: Arc::downgrade(&worker), beats: 0, missed: 0 });
        Ok(worker)
    }

    /// Checks all that instances share. Returns those that have just been found stuck; none is assigned to them any more.
    pub fn check(&mut self) -> Vec<Arc<Worker>> {
        let stuck = self.shared.extract_if(.., |watched| {
            let Some(worker) = watched.worker.upgrade() else { return false };
            let beats = worker.pulse.beats.load(Ordering::Relaxed);
            watched.missed = if beats == watched.beats { watched.missed + 1 } else { 0 };
            watched.beats = beats;
            watched.missed >= STUCK_CHECKS
        });
        stuck.filter_map(|watched| watched.worker.upgrade()).collect()
    }
}

impl Worker {
    /// `name` is that of its connections.
    fn start(thread: String, name: &str) -> io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (starts, receiver) = mpsc::unbounded_channel();
        let pulse = Arc::new(Pulse::default());
        let (shown, connections) = (pulse.clone(), format!("pontoon/{name}/events"));
        std::thread::Builder::new()
            .name(thread)
            .spawn(move || run(runtime, receiver, &shown, connections))?;
        Ok(Arc::new(Self { starts, pulse }))
    }

    /// Runs an instance on the thread. `id` is a number that no other has.
    pub(super) fn run(
        self: Arc<Self>,
        id: u64,
        run: impl FnOnce(Connections) -> LocalBoxFuture<'static, ()> + Send + 'static,
    ) -> Running {
        let (abandoned, ended) = (CancellationToken::new(), CancellationToken::new());
        let start = Start { id, run: Box::new(run), abandoned: abandoned.clone(), ended: ended.clone() };
        if self.starts.send(start).is_err() {
            // The thread is gone, which would be a panic of ours: the instance is started again elsewhere.
            ended.cancel();
        }
        Running { worker: self, id, abandoned, ended }
    }
}

impl Running {
    /// Whether it has ended, with all its tasks, or was abandoned.
    pub(super) fn is_finished(&self) -> bool {
        self.ended.is_cancelled() || self.abandoned.is_cancelled()
    }

    /// Whether it is on this worker.
    pub(super) fn is_on(&self, worker: &Arc<Worker>) -> bool {
        Arc::ptr_eq(&self.worker, worker)
    }

    /// Whether it is its turn. If its worker is stuck, it is the reason.
    pub(super) fn has_turn(&self) -> bool {
        self.worker.pulse.turn.load(Ordering::Relaxed) == self.id
    }

    /// Gives it up where it is, as its worker is stuck. If the worker ever goes on, the instance does nothing more there.
    pub(super) fn abandon(&self) {
        self.abandoned.cancel();
    }
}

/// Runs instances and their connections, which are to have this name.
fn run(runtime: Runtime, mut starts: UnboundedReceiver<Start>, pulse: &Pulse, name: String) {
    runtime.block_on(in_passes(async {
        let (mut instances, mut is_open) = (quiet(), true);
        let (spawn, mut spawned) = mpsc::unbounded_channel();
        let connections = Connections::new(name, move |task| drop(spawn.send(task)));
        let mut tasks = quiet();
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while is_open || instances.len() > 1 {
            tokio::select! {
                // What an instance adds to a connection is written in the same pass.
                biased;
                start = starts.recv(), if is_open => match start {
                    Some(start) => instances.push(start.run(pulse, connections.clone()).boxed_local()),
                    None => is_open = false,
                },
                Some(()) = instances.next() => {}
                Some(task) = spawned.recv() => tasks.push(task),
                Some(()) = tasks.next() => {}
                _ = beats.tick() => {
                    pulse.beats.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }));
    // A name that is being looked up on a thread of the runtime's must not hold up the end.
    runtime.shutdown_background();
}

/// Polls a future again where it has woken itself, as an instance does that adds something to a connection. The runtime would
/// look at all sockets before: a system call for each event.
async fn in_passes<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    poll_fn(|cx| {
        wakes.outer.register(cx.waker());
        for _ in 0..PASSES {
            wakes.begin();
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            if !wakes.end() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Whether a future was woken while it was polled; at other times it wakes the task.
#[derive(Default)]
struct Wakes {
    is_polled: AtomicBool,
    woken: AtomicBool,
    outer: AtomicWaker,
}

impl Wakes {
    fn begin(&self) {
        self.is_polled.store(true, Ordering::SeqCst);
        // What a wake has made ready is seen by the poll that follows.
        self.woken.swap(false, Ordering::SeqCst);
    }

    /// Returns whether it was woken since it began. What comes later wakes the task.
    fn end(&self) -> bool {
        self.is_polled.store(false, Ordering::SeqCst);
        self.woken.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.is_polled.load(Ordering::SeqCst) {
            self.outer.wake();
        }
    }
}

/// No futures, but for one that never ends. Once it has polled as many as it holds, the set has itself polled again, which
/// for one instance alone was another look at all sockets after each event.
fn quiet<'a>() -> FuturesUnordered<LocalBoxFuture<'a, ()>> {
    let futures = FuturesUnordered::new();
    futures.push(pending().boxed_local());
    futures
}

impl Start {
    /// Runs until it ends, panics or is abandoned. Then none of its tasks is left.
    async fn run(self, pulse: &Pulse, connections: Connections) {
        let _ended = self.ended.drop_guard();
        let tasks = LocalSet::new();
        // A task of its set, as are all that it spawns: a panic ends that alone.
        let instance = tasks.spawn_local(async move { (self.run)(connections).await });
        let mut turns = pin!(tasks.run_until(instance));
        let turns = poll_fn(|cx| {
            pulse.turn.store(self.id, Ordering::Relaxed);
            let polled = turns.as_mut().poll(cx);
            pulse.turn.store(0, Ordering::Relaxed);
            polled
        });
        tokio::select! {
            biased;
            () = self.abandoned.cancelled() => {}
            // If it has panicked, the panic was logged where it happened.
            _ = turns => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    use tokio::task::spawn_local;

    use super::*;

    /// How many tasks of a `LocalSet` are polled in one go.
    const TURN: usize = 61;

    /// Waits for one more poll of its task, and for nothing else.
    async fn again() {
        let mut polled = false;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[tokio::test]
    async fn an_instance_that_always_has_work_leaves_every_other_its_turn() {
        let worker = Workers::new(1).assign("flood", Isolation::Shared).unwrap();
        let (polls, longest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = polls.clone();
        let flood = worker.clone().run(1, move |_| {
            let work = move || {
                let counted = counted.clone();
                async move {
                    loop {
                        counted.fetch_add(1, Ordering::Relaxed);
                        again().await;
                    }
                }
            };
            async move {
                for _ in 0..1_000 {
                    spawn_local(work());
                }
                work().await;
            }
            .boxed_local()
        });
        let seen = longest.clone();
        let other = worker.clone().run(2, move |_| {
            async move {
                let mut before = None;
                for _ in 0..1_000 {
                    again().await;
                    let now = polls.load(Ordering::Relaxed);
                    seen.fetch_max(now - before.replace(now).unwrap_or(now), Ordering::Relaxed);
                }
            }
            .boxed_local()
        });
        other.ended.cancelled().await;
        let longest = longest.load(Ordering::Relaxed);
        assert!((1..=TURN).contains(&longest), "{longest}");
        flood.abandon();
        flood.ended.cancelled().await;
    }

    #[tokio::test]
    async fn what_wakes_itself_is_polled_again_a_few_times_and_is_woken_from_outside_as_ever() {
        let mut polls = 0;
        let busy = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(in_passes(busy).now_or_never().is_none());
        assert_eq!(polls, PASSES);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waits = tokio::spawn(async { in_passes(receiver).await.unwrap() });
        again().await;
        sender.send(7).unwrap();
        assert_eq!(waits.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn no_task_is_left_of_an_instance_that_has_ended_or_panicked_and_others_go_on() {
        let worker = Workers::new(1).assign("a", Isolation::Shared).unwrap();
        let tasks = Arc::new(());
        let other = worker.clone().run(1, |_| pending().boxed_local());
        for panics in [false, true] {
            let task = tasks.clone();
            let instance = worker.clone().run(2, move |_| {
                async move {
                    spawn_local(async move {
                        let _task = task;
                        std::future::pending::<()>().await;
                    });
                    again().await;
                    assert!(!panics, "a panic for the test");
                }
                .boxed_local()
            });
            instance.ended.cancelled().await;
            assert_eq!((Arc::strong_count(&tasks), other.is_finished()), (1, false), "{panics}");
        }
    }

    #[test]
    fn instances_share_threads_and_one_that_is_isolated_has_its_own() {
        let mut workers = Workers::new(2);
        let mut assign = |isolation| workers.assign("a", isolation).unwrap();
        let [first, second, own, third] =
            [Isolation::Shared, Isolation::Shared, Isolation::Own, Isolation::Shared].map(&mut assign);
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &third));
        // The one with fewer instances is next.
        assert!(Arc::ptr_eq(&second, &assign(Isolation::Shared)));
        drop((first, third));
        let fresh = assign(Isolation::Shared);
        assert!([second, own].iter().all(|other| !Arc::ptr_eq(other, &fresh)));
    }
}
