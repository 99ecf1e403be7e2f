//! The process from start to end: metrics, log, admin endpoint, instances, signals, drain.

pub mod admin;
mod cluster;
mod control;
mod drain;
mod loading;
mod notify;
pub mod reload;
mod signals;
mod statuses;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use pontoon_sdk::{Code, Error};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cluster::Cluster;
use crate::cluster::state::Grant;
use crate::config::{self, Loaded, Prepared, Problems, Sources};
use crate::feed::Feed;
use crate::instance::worker::Workers;
use crate::instance::{Handle, Settings, since_start};
use crate::metrics::{DaemonMetrics, Exporter, ReloadOutcome};
use crate::registry::Registry;
use crate::settings;
use crate::{backoff, log, metrics};
use control::{Control, ControlCommand};
pub use loading::{LoadingThread, load};
use notify::Notify;
use signals::Signals;
pub use statuses::InstanceStatuses;

/// How often instances are started and checked.
const TICK: Duration = Duration::from_millis(100);
/// An instance that has run for this long before it crashes counts as stable: its crash counter is reset.
const STABLE: Duration = Duration::from_secs(60);

/// Runs the daemon until a signal stops it. The thread that has read the configuration ends when the first instances start.
pub fn run(registry: Arc<Registry>, sources: Sources, (loaded, thread): (Loaded, LoadingThread)) -> ExitCode {
    since_start();
    let failed = |error: &str| {
        tracing::error!("{error}");
        // Without a log there is still stderr; a failure to write there cannot be reported.
        if !tracing::enabled!(tracing::Level::ERROR) {
            writeln!(io::stderr(), "error: {error}").ok();
        }
        ExitCode::FAILURE
    };
    // Metric handles made before the recorder is installed count nothing, and the log counts: so metrics come first.
    let exporter = match metrics::install() {
        Ok(exporter) => exporter,
        Err(error) => return failed(&format!("metrics cannot start: {error}")),
    };
    let counts = DaemonMetrics::new();
    let (log, _last_lines) = match log::start(&loaded.config.log, counts.log_lines_dropped.clone()) {
        Ok(started) => started,
        Err(error) => return failed(&error),
    };
    let mut daemon = Daemon::new(registry, sources, counts, exporter);
    daemon.log = Some(log);
    start(daemon, (loaded, thread)).unwrap_or_else(|error| failed(&error))
}

fn start(mut daemon: Daemon, (loaded, thread): (Loaded, LoadingThread)) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    // Before anything runs: for process 1 of a container, signals without a handler are ignored.
    let signals = {
        let _runtime = runtime.enter();
        Signals::listen().map_err(|error| format!("signal handlers cannot be installed: {error}"))?
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    daemon.serve_admin(&loaded.config.admin)?;
    daemon.notify = Notify::start(daemon.statuses.clone());
    Ok(LocalSet::new().block_on(&runtime, daemon.run(loaded, thread, signals)))
}

struct Daemon {
    registry: Arc<Registry>,
    sources: Sources,
    statuses: Arc<InstanceStatuses>,
    counts: DaemonMetrics,
    exporter: Exporter,
    feed: Feed,
    log: Option<log::Live>,
    admin: Option<admin::Endpoint>,
    control: Option<Control>,
    notify: Notify,
    config: settings::Config,
    workers: Workers,
    running: BTreeMap<String, Running>,
    /// Instances that drain; the next one of the same name starts after them.
    ending: Vec<Ending>,
    /// Instances to start, each from its time on and after older ones of its name have drained.
    waiting: BTreeMap<String, (Prepared, Instant)>,
    /// How often in a row each instance has crashed.
    crashes: BTreeMap<String, usize>,
    /// The cluster that decides which instances run here.
    cluster: Option<Cluster>,
}

/// A configuration that is being read.
type PendingConfig = oneshot::Receiver<Result<Loaded, Problems>>;

struct Running {
    handle: Handle,
    since: Instant,
}

struct Ending {
    handle: Handle,
    /// When it should have drained; `None` once it was logged that it has not.
    deadline: Option<Instant>,
}

impl Daemon {
    fn new(registry: Arc<Registry>, sources: Sources, counts: DaemonMetrics, exporter: Exporter) -> Self {
        let statuses = Arc::new(InstanceStatuses::default());
        statuses.beat();
        Self {
            registry,
            sources,
            statuses,
            counts,
            exporter,
            feed: Feed::default(),
            log: None,
            admin: None,
            control: None,
            notify: Notify::default(),
            config: settings::Config::default(),
            workers: Workers::new(available_parallelism().map_or(1, Into::into)),
            running: BTreeMap::new(),
            ending: Vec::new(),
            waiting: BTreeMap::new(),
            crashes: BTreeMap::new(),
            cluster: None,
        }
    }

    async fn run(mut self, loaded: Loaded, thread: LoadingThread, mut signals: Signals) -> ExitCode {
        self.config = loaded.config;
        let names: Vec<_> = loaded.instances.iter().map(|prepared| prepared.name.as_str()).collect();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), instances = names.join(", "), "pontoon started");
        for prepared in loaded.instances {
            self.waiting.insert(prepared.name.clone(), (prepared, Instant::now()));
        }
        self.cluster = Cluster::join(&self.config);
        self.statuses.set_cluster(self.cluster.as_ref().map(Cluster::view));
        drop(thread);
        self.tick();
        self.notify.running();
        let mut upkeep = interval(metrics::UPKEEP);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading = None;
        let mut again = false;
        let (sender, mut commands) = mpsc::channel(control::WAITING);
        // Callers that wait for the reload that goes on, and for the next one.
        let (mut waiting, mut next) = (Vec::<oneshot::Sender<_>>::new(), Vec::new());
        self.serve_control(&sender);
        loop {
            if again && reading.is_none() {
                self.notify.reloading();
                (reading, again) = (Some(self.read()), false);
                waiting = std::mem::take(&mut next);
            }
            tokio::select! {
                reload = signals.reload() => if reload { again = true } else { break },
                read = finished(&mut reading) => {
                    let result = self.reload(read);
                    self.notify.running();
                    self.serve_control(&sender);
                    for caller in waiting.drain(..) {
                        // A caller that is gone needs no result.
                        let _ = caller.send(result.clone());
                    }
                }
                Some(ControlCommand { operation, result }) = commands.recv() => match operation {
                    control::RELOAD => {
                        again = true;
                        next.push(result);
                    }
                    operation => self.control(operation, result),
                },
                _ = ticks.tick() => self.tick(),
                () = cluster::changed(self.cluster.as_ref()) => self.tick(),
                _ = upkeep.tick() => self.exporter.upkeep(),
            }
        }
        self.drain(&mut signals).await
    }

    /// Starts the instances that are due, and handles those that have ended.
    fn tick(&mut self) {
        self.statuses.beat();
        self.leave_stuck_workers();
        self.stop_lost();
        let now = Instant::now();
        let cluster = self.cluster.as_ref();
        self.ending.retain_mut(|ending| {
            if ending.deadline.is_some_and(|deadline| deadline < now) {
                ending.deadline = None;
                let instance = &ending.handle.name;
                tracing::error!(
                    instance,
                    "not drained within shutdown.timeout; the next one starts after it"
                );
            }
            let ended = ending.handle.is_finished();
            let name = &ending.handle.name;
            if let Some(cluster) = cluster.filter(|_| ended) {
                cluster.ended(name);
            }
            if ended && !self.running.contains_key(name) {
                self.statuses.remove(name);
                let is_ours = cluster.is_none_or(|cluster| cluster.owns(name));
                if !is_ours || !self.waiting.contains_key(name) {
                    self.exporter.remove(name);
                }
            }
            !ended
        });
        let ended: Vec<_> = self.running.extract_if(.., |_, running| running.handle.is_finished()).collect();
        for (name, running) in ended {
            if running.since + STABLE <= now {
                self.crashes.remove(&name);
            }
            if let Some(cluster) = &self.cluster {
                cluster.ended(&name);
            }
            self.restart(name);
        }
        let drains = |name: &str| self.ending.iter().any(|ending| ending.handle.name == name);
        let due = self.waiting.iter().filter(|(name, (_, at))| *at <= now && !drains(name));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            let grant = self.cluster.as_ref().map(|cluster| cluster.grant(&name));
            // In a cluster, only with a lease.
            if grant.as_ref().is_some_and(Option::is_none) {
                continue;
            }
            if let Some((prepared, _)) = self.waiting.remove(&name) {
                self.start_instance(&name, prepared, grant.flatten());
            }
        }
        self.show_waiting();
    }

    /// Has an instance drain and end.
    fn end(&mut self, handle: Handle) {
        handle.stop();
        let deadline = Some(Instant::now() + self.config.shutdown.timeout.0);
        self.ending.push(Ending { handle, deadline });
    }

    fn start_instance(&mut self, name: &str, prepared: Prepared, grant: Option<Grant>) {
        let settings = self.config.connectors.get(name);
        let (transport, isolation) =
            settings.map(|instance| (instance.transport.clone(), instance.isolation)).unwrap_or_default();
        match self.workers.assign(name, isolation) {
            Ok(worker) => {
                let lease = grant.map(|Grant { epoch, fences }| (epoch, fences));
                let handle =
                    Handle::start(name, prepared.run, &self.config, &transport, &self.feed, worker, lease);
                self.exporter.add(name);
                tracing::info!(instance = name, "instance started");
                self.statuses.started(&handle);
                self.running.insert(name.to_owned(), Running { handle, since: Instant::now() });
            }
            Err(error) => {
                tracing::error!(instance = name, %error, "the instance cannot start");
                if let Some(cluster) = &self.cluster {
                    cluster.ended(name);
                }
                self.restart(name.to_owned());
            }
        }
    }

    /// An instance has crashed, which is a bug: it is started again after a delay. Other instances are not affected.
    fn restart(&mut self, name: String) {
        let crashes = self.crashes.entry(name.clone()).or_default();
        *crashes += 1;
        let after = backoff::LINK.delay(*crashes) + Duration::from_secs(1);
        tracing::error!(instance = name, after = ?after, "the instance ended unexpectedly and is started again");
        self.start_again(name, after);
    }

    /// Where an instance does not end its turn, its worker is stuck, which is a bug. The others go on without it: they are
    /// started again on other workers.
    fn leave_stuck_workers(&mut self) {
        for worker in self.workers.check() {
            for ending in &self.ending {
                ending.handle.abandon_on(&worker);
            }
            let left = self.running.extract_if(.., |_, running| running.handle.abandon_on(&worker));
            let left: Vec<_> = left.map(|(name, _)| name).collect();
            let stuck =
                self.running.values().map(|running| &running.handle).find(|handle| handle.blocks(&worker));
            let stuck = stuck.map(|handle| handle.name.as_str());
            if let (Some(cluster), Some(name)) = (&self.cluster, stuck) {
                cluster.stuck(name);
            }
            tracing::error!(
                stuck,
                restarted = left.join(", "),
                "a thread is stuck; the other instances on it are started again on another one"
            );
            for name in left {
                if let Some(cluster) = &self.cluster {
                    cluster.ended(&name);
                }
                self.start_again(name, Duration::ZERO);
            }
        }
    }

    fn start_again(&mut self, name: String, after: Duration) {
        self.statuses.ended(&name);
        let Some(instance) = self.config.connectors.get(&name) else { return };
        metrics::restarts(&name, &instance.kind).increment(1);
        self.make_ready(name, after);
    }

    /// Builds an instance again, to be started after this time.
    fn make_ready(&mut self, name: String, after: Duration) {
        let Some(instance) = self.config.connectors.get(&name) else { return };
        let Some(kind) = self.registry.get(&instance.kind) else { return };
        match kind.build(&instance.settings) {
            Ok(run) => {
                let prepared = Prepared { name: name.clone(), run };
                self.waiting.insert(name, (prepared, Instant::now() + after));
            }
            Err(error) => {
                tracing::error!(instance = name, error = error.message, "the instance cannot be built again");
            }
        }
    }

    /// Reads the configuration on a separate thread: a file that hangs must not block the signals.
    fn read(&self) -> PendingConfig {
        let (done, reading) = oneshot::channel();
        let (registry, sources) = (self.registry.clone(), self.sources.clone());
        let read = move || drop(done.send(config::load(&registry, &sources)));
        if let Err(error) = std::thread::Builder::new().name("reload".to_owned()).spawn(read) {
            tracing::error!(%error, "the thread to read the configuration cannot be started");
        }
        reading
    }

    /// Applies the configuration that was read. One with errors, or that could not be read to the end, changes nothing.
    /// Returns the instances that stop and start.
    fn reload(&mut self, read: Option<Result<Loaded, Problems>>) -> Result<Value, Error> {
        let loaded = match read {
            Some(Ok(loaded)) => loaded,
            unusable => {
                self.counts.reloaded(ReloadOutcome::Failed);
                let problems = unusable.and_then(Result::err).map(|problems| problems.0).unwrap_or_default();
                for problem in &problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration has errors and changes nothing");
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                let text = format!("the configuration has errors and changes nothing: {}", lines.join("; "));
                return Err(Error::rejected(Code::BadBody, text));
            }
        };
        let plan = reload::plan(&self.config, &loaded.config).map_err(|reason| {
            self.counts.reloaded(ReloadOutcome::Failed);
            tracing::error!(reason, "the configuration is refused and changes nothing");
            Error::rejected(
                Code::BadBody,
                format!("the configuration is refused and changes nothing: {reason}"),
            )
        })?;
        self.counts.reloaded(ReloadOutcome::Applied);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.warn_of_changes(&loaded.config);
        self.config = loaded.config;
        if let Err(error) = self.log.as_ref().map_or(Ok(()), |log| log.apply(&self.config.log)) {
            tracing::error!(error, "the log settings are unchanged");
        }
        if let Err(error) = self.serve_admin(&self.config.admin.clone()) {
            tracing::error!(error, "the admin endpoint is unchanged");
        }
        tracing::info!(stop = ?plan.stop, start = ?plan.start, "the configuration was read again");
        // Draining instances as well: their unconfirmed events go to the NATS that is configured now.
        let ending = self.ending.iter().map(|ending| &ending.handle);
        for handle in self.running.values().map(|running| &running.handle).chain(ending) {
            handle.apply(Settings::from(&self.config));
        }
        if let Some(cluster) = &self.cluster {
            cluster.configure(&self.config);
        }
        for name in &plan.stop {
            self.waiting.remove(name);
            self.crashes.remove(name);
            if let Some(Running { handle, .. }) = self.running.remove(name) {
                self.end(handle);
            }
        }
        for prepared in loaded.instances.into_iter().filter(|prepared| plan.start.contains(&prepared.name)) {
            self.waiting.insert(prepared.name.clone(), (prepared, Instant::now()));
        }
        self.show_waiting();
        Ok(json!({ "stop": plan.stop, "start": plan.start }))
    }

    /// Takes commands for the daemon from NATS where `admin.commands` is true.
    fn serve_control(&mut self, commands: &mpsc::Sender<ControlCommand>) {
        if !self.config.admin.commands {
            self.control = None;
        } else if !self.control.as_ref().is_some_and(|control| control.is_of(&self.config)) {
            self.control = Some(Control::start(&self.config, commands.clone()));
        }
    }

    /// Carries out a command for the daemon that is not a reload. Those for every instance go to each of them.
    fn control(&self, operation: &'static str, result: oneshot::Sender<Result<Value, Error>>) {
        let all = self.running.values().map(|running| &running.handle);
        let instances: Vec<_> = all.map(|handle| (handle.name.clone(), handle.commands.clone())).collect();
        let status = (operation == control::STATUS).then(|| self.statuses.status());
        spawn_local(async move {
            let value = match status {
                Some(status) => status,
                None => json!({ "instances": control::send_to_all(operation, instances).await }),
            };
            // A caller that is gone needs no result.
            let _ = result.send(Ok(value));
        });
    }

    /// Starts, replaces or stops the admin endpoint. The new one is started before the old one is closed, unless both use
    /// the same port.
    fn serve_admin(&mut self, wanted: &settings::Admin) -> Result<(), String> {
        let wanted = wanted.enabled.then_some(wanted);
        if self.admin.as_ref().map(admin::Endpoint::settings) == wanted {
            return Ok(());
        }
        let Some(wanted) = wanted else {
            tracing::info!("the admin endpoint is switched off");
            self.admin = None;
            return Ok(());
        };
        let start = |settings: &settings::Admin| {
            admin::Endpoint::start(settings, &self.statuses, &self.exporter, &self.feed)
        };
        let started = match (start(wanted), self.admin.take()) {
            // The same port at another address, most likely.
            (Err(_), Some(before)) if wanted.listen.ends_with(&format!(":{}", before.address.port())) => {
                let settings = before.settings().clone();
                before.close();
                start(wanted).map_err(|error| (error, start(&settings).ok()))
            }
            (started, before) => started.map_err(|error| (error, before)),
        };
        match started {
            Ok(endpoint) => {
                tracing::info!(address = %endpoint.address, "admin listens");
                self.admin = Some(endpoint);
                Ok(())
            }
            Err((error, before)) => {
                self.admin = before;
                Err(error)
            }
        }
    }
}

/// The result of the read in progress; pending forever if there is none.
async fn finished(reading: &mut Option<PendingConfig>) -> Option<Result<Loaded, Problems>> {
    let Some(under_way) = reading else { return std::future::pending().await };
    let read = under_way.await.ok();
    *reading = None;
    read
}

#[cfg(test)]
mod tests;
