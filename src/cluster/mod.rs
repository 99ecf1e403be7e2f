//! A cluster: daemons with the same instances, each of which runs in one of them at a time. NATS coordinates.
//!
//! * [`assign`]: which member should run an instance, by the members that are alive
//! * [`members`]: those that are, by their heartbeats; [`lease`]: the right to run an instance, for a while
//! * [`state`]: what follows from all that; here: what does it over NATS
//!
//! A lease is what counts: its holder computes from the time at which it sent the last renewal that was confirmed until when
//! it may act (a [`Fence`](crate::fence::Fence)), and dials, writes and publishes nothing after that. Members and assignment
//! only decide who tries to take which lease.

pub mod assign;
pub mod lease;
pub mod members;
pub mod state;
pub mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::lease::{Found, Holder, Leases};
use self::members::Heartbeat;
use self::state::{Action, Grant, Reason, State, Stop};
use crate::bus::bucket::{self, LEASES, MEMBERS};
use crate::bus::commands::barrier;
use crate::bus::connect::{self, Connection};
use crate::bus::jetstream::{JetStream, StreamError};
use crate::fence::now;
use crate::log::Throttle;
use crate::metrics::{ClusterMetrics, TakeoverReason};
use crate::settings::{Config, Delivery, Nats};

/// How often it is looked what is to be done.
const STEP: Duration = Duration::from_millis(50);
/// How long after an error the connection or the buckets are tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What the inboxes of the cluster begin with. No instance has a name in capitals.
pub const INBOX: &str = "_INBOX_CLUSTER";
/// How often it is logged that no leases can be taken, and that a name is used twice.
const STILL: Duration = Duration::from_secs(30);

/// This daemon's part in a cluster.
pub struct Cluster {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// The daemon has something to do.
    changed: Notify,
    /// There may be something to do over NATS.
    work: Notify,
    metrics: ClusterMetrics,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Joins the cluster of these settings, if they have one. Runs on the runtime of the caller.
    pub fn join(config: &Config) -> Option<Self> {
        let settings = config.cluster.clone();
        if !settings.enabled {
            return None;
        }
        let name = settings.name.clone().unwrap_or_else(host_name);
        let run = format!("{:016x}", rand::random::<u64>());
        tracing::info!(name, run, ttl = %settings.ttl, "joins the cluster");
        let ttl = settings.ttl.0;
        let state = State::new(settings, name.clone(), run.clone(), now());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
            work: Notify::new(),
            metrics: ClusterMetrics::default(),
        });
        let worker = Worker {
            shared: shared.clone(),
            nats: config.nats.clone(),
            delivery: config.delivery.clone(),
            ttl,
            holder: Holder { owner: name, run },
            problems: Throttle::every(STILL),
            twins: Throttle::every(STILL),
        };
        let cluster = Self { shared, task: tokio::spawn(worker.run()) };
        cluster.configure(config);
        Some(cluster)
    }

    /// Puts the instances of a configuration in force. What else it has of the cluster stays as it was at the start.
    pub fn configure(&self, config: &Config) {
        let enabled = config.connectors.iter().filter(|(_, instance)| instance.enabled);
        let instances: BTreeMap<_, _> =
            enabled.map(|(name, instance)| (name.clone(), instance.cluster.only.clone())).collect();
        self.shared.state().configure(instances);
        self.shared.work.notify_one();
    }

    /// What an instance needs to start, if it may now. It runs then, until [`Cluster::ended`].
    pub fn grant(&self, instance: &str) -> Option<Grant> {
        self.shared.state().grant(instance, now())
    }

    /// Whether this daemon has the lease of an instance, and should have it.
    pub fn owns(&self, instance: &str) -> bool {
        self.shared.state().owns(instance)
    }

    /// The running instances that are to stop.
    pub fn to_stop(&self) -> Vec<(String, Stop)> {
        self.shared.state().to_stop()
    }

    /// An instance has ended, with all that it did.
    pub fn ended(&self, instance: &str) {
        self.shared.state().ended(instance);
        self.shared.work.notify_one();
    }

    /// An instance does not end its turn, which is a bug. Its lease is given up.
    pub fn stuck(&self, instance: &str) {
        self.shared.state().stuck(instance);
        self.shared.work.notify_one();
    }

    /// Waits until an instance may be started, or is to stop.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Takes no more instances, and gives each up once it has ended.
    pub fn leave(&self) {
        self.shared.state().leave();
        self.shared.work.notify_one();
    }

    /// Waits until everything is given up. [`Cluster::leave`] comes before it.
    pub async fn left(&mut self) {
        let _ = (&mut self.task).await;
    }

    /// What is known of the cluster, for people.
    pub fn view(&self) -> view::Source {
        view::Source::new(self.shared.clone())
    }
}

/// Does what the state asks for.
struct Worker {
    shared: Arc<Shared>,
    nats: Nats,
    delivery: Delivery,
    ttl: Duration,
    holder: Holder,
    problems: Throttle,
    twins: Throttle,
}

/// The end of something that was done over NATS.
enum Done {
    Taken(String, Result<Found, StreamError>),
    Released(String),
}

impl Worker {
    async fn run(self) {
        let subject = bucket::subject(MEMBERS, &self.nats.prefix, "*");
        let (client, connection, heartbeats) = loop {
            // A refused subscription is noted as that to commands would be.
            let keys = subject.trim_end_matches(".*");
            match connect::client(&self.nats, "pontoon/cluster", INBOX, keys).await {
                Ok((client, connection)) => match client.subscribe(subject.clone()).await {
                    Ok(heartbeats) => break (client, connection, heartbeats),
                    Err(error) => self.problem(Some(error.to_string())),
                },
                Err(error) => self.problem(Some(error)),
            }
            sleep(RETRY).await;
        };
        self.serve(&client, connection, heartbeats).await;
    }

    async fn serve(
        &self,
        client: &Client,
        mut connection: watch::Receiver<Connection>,
        mut heartbeats: Subscriber,
    ) {
        let js = JetStream { client, api: "$JS.API" };
        let leases = Leases { js, prefix: &self.nats.prefix, holder: &self.holder };
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::<BoxFuture<'_, Done>>::new();
        let (mut generation, mut last, mut is_ready) = (None, now(), false);
        let (mut prepared, mut shown) = (None, Duration::ZERO);
        loop {
            tokio::select! {
                Some(done) = under_way.next() => is_ready &= self.done(done),
                Some(message) = heartbeats.next() => self.receive(&message.subject, &message.payload),
                () = self.shared.work.notified() => {}
                _ = steps.tick() => {}
            }
            let now = now();
            let known = connection.borrow_and_update().clone();
            if now > last + self.ttl / 2 {
                self.shared.state().resumed(now);
            }
            if generation != Some(known.generation) || !known.up {
                self.shared.state().unsettle(now);
                generation = known.up.then_some(known.generation);
            }
            last = now;
            if known.up && !is_ready && prepared.is_none_or(|at| now >= at + RETRY) {
                prepared = Some(now);
                is_ready = self.prepare(js, &known).await;
            }
            let actions = self.shared.state().step(now);
            for action in actions {
                match action {
                    Action::Take(instance, revision) if known.up && is_ready => {
                        under_way.push(Box::pin(self.take(leases, instance, revision)));
                    }
                    Action::Take(instance, _) => drop(self.shared.state().taken(&instance, None)),
                    Action::Release(instance, revision) => {
                        let released = leases.release(instance.clone(), revision);
                        under_way.push(Box::pin(async move {
                            let _ = timeout(self.ttl / 3, released).await;
                            Done::Released(instance)
                        }));
                    }
                    Action::Announce if known.up && is_ready => self.announce(client).await,
                    Action::Announce => {}
                }
            }
            if !self.shared.state().to_stop().is_empty() {
                self.shared.changed.notify_one();
            }
            if now >= shown + RETRY {
                shown = now;
                self.show(now);
            }
            if under_way.is_empty() && self.shared.state().has_left() {
                break;
            }
        }
        let subject = bucket::subject(MEMBERS, &self.nats.prefix, &self.holder.owner);
        if connection.borrow().up && is_ready {
            let _ = timeout(self.ttl / 3, bucket::delete(js, subject)).await;
            barrier(client, self.ttl / 3).await;
        }
    }

    /// Finds or creates the buckets. Returns whether they can be used.
    async fn prepare(&self, js: JetStream<'_>, connection: &Connection) -> bool {
        let Delivery { provision, replicas, .. } = self.delivery;
        let prepare = async {
            for bucket in [LEASES, MEMBERS] {
                bucket::ensure(js, bucket, ("cluster.ttl", self.ttl), provision, replicas).await?;
            }
            Ok(())
        };
        let late = || Err("JetStream does not answer".to_owned());
        let refused = connection.commands_refused.then(|| connection.detail.clone().unwrap_or_default());
        let prepared = timeout(RETRY, prepare).await.unwrap_or_else(|_| late());
        let problem = refused.or(prepared.err());
        let is_ready = problem.is_none();
        self.problem(problem);
        is_ready
    }

    async fn take(&self, leases: Leases<'_>, instance: String, revision: u64) -> Done {
        // Short enough for three attempts before a lease is lost.
        let taken = timeout(self.ttl / 6, leases.take(&instance, revision)).await;
        let late = |_| Err(StreamError::TimedOut("the bucket of leases".to_owned()));
        Done::Taken(instance, taken.unwrap_or_else(late))
    }

    /// Returns whether the buckets can still be used.
    fn done(&self, done: Done) -> bool {
        match done {
            Done::Released(instance) => self.shared.state().released(&instance),
            Done::Taken(instance, found) => {
                let (found, error) = match found {
                    Ok(found) => (Some(found), None),
                    Err(error) => (None, Some(error)),
                };
                if let Some(reason) = self.shared.state().taken(&instance, found) {
                    let (reason, word) = match reason {
                        Reason::Free => (TakeoverReason::Free, "free"),
                        Reason::Released => (TakeoverReason::Released, "released"),
                        Reason::Expired => (TakeoverReason::Expired, "expired"),
                    };
                    self.shared.metrics.takeover(reason).increment(1);
                    tracing::info!(instance, reason = word, "the lease of the instance was taken");
                }
                self.shared.changed.notify_one();
                if let Some(error) = error {
                    self.problem(Some(format!("a lease cannot be taken or renewed: {error}")));
                    return !(error.not_enabled() || error.is(ErrorCode::STREAM_NOT_FOUND));
                }
            }
        }
        true
    }

    fn receive(&self, subject: &str, payload: &Bytes) {
        let Some((_, name)) = subject.rsplit_once('.') else { return };
        let heartbeat: Option<Heartbeat> = match payload.is_empty() {
            true => None,
            false => match serde_json::from_slice(payload) {
                Ok(heartbeat) => Some(heartbeat),
                Err(_) => return,
            },
        };
        if self.shared.state().receive(name, heartbeat, now()) {
            let name = name.to_owned();
            self.twins.log(move |_| {
                tracing::error!(
                    name,
                    "another daemon of the cluster has the same name: set cluster.name in one of them"
                );
            });
        }
    }

    async fn announce(&self, client: &Client) {
        let heartbeat = self.shared.state().heartbeat(now());
        let subject = bucket::subject(MEMBERS, &self.nats.prefix, &self.holder.owner);
        if let Ok(value) = serde_json::to_vec(&heartbeat) {
            let _ = timeout(STEP, client.publish(subject, value.into())).await;
        }
    }

    /// Notes why no leases can be taken, or that they can.
    fn problem(&self, problem: Option<String>) {
        let before = std::mem::replace(&mut self.shared.state().problem, problem.clone());
        if let Some(problem) = problem {
            self.problems.log(move |count| tracing::warn!(count, %problem, "the cluster gives no leases"));
        } else if before.is_some() {
            tracing::info!("the cluster gives leases");
        }
    }

    fn show(&self, now: Duration) {
        let state = self.shared.state();
        let (oldest, owned) = state.oldest_renewal();
        self.shared.metrics.show(
            owned,
            oldest.map(|at| now.saturating_sub(at)),
            state.members.iter().count() + 1,
        );
        let unowned = state.instances().filter(|(.., owner)| owner.is_none()).count();
        self.shared.metrics.unowned(unowned);
    }
}

/// The name of the host, with other characters than those of a name replaced.
fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let name = name.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok()).unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' };
    let name: String = name.trim().chars().take(64).map(allowed).collect();
    if name.is_empty() { format!("{:016x}", rand::random::<u64>()) } else { name }
}
