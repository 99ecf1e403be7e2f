//! The life of the process: log, metrics, admin endpoint, instances, then signals until the drain.

pub mod admin;
mod notify;
pub mod reload;
mod signals;
mod statuses;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::config::{self, Loaded, Prepared, Problems, Sources};
use crate::instance::{Handle, Settings, since_start};
use crate::metrics::{DaemonMetrics, Exporter, ReloadOutcome};
use crate::registry::Registry;
use crate::settings;
use crate::{backoff, log, metrics};
use notify::Notify;
use signals::Signals;
pub use statuses::Roster;

/// Exit code for an end that was not a drain.
const UNAVAILABLE: u8 = 69;
/// How often the instances are looked after.
const ROUND: Duration = Duration::from_millis(100);
/// An instance must have run for this long before its next fault counts as the first.
const STABLE: Duration = Duration::from_secs(60);

/// Runs the daemon until it is told to stop.
pub fn run(registry: Registry, sources: Sources, loaded: Loaded) -> ExitCode {
    since_start();
    let failed = |error: &str| {
        tracing::error!("{error}");
        // Without a log there is still stderr, and nowhere to say that it is gone.
        if !tracing::enabled!(tracing::Level::ERROR) {
            writeln!(io::stderr(), "error: {error}").ok();
        }
        ExitCode::FAILURE
    };
    // Handles that are made before there is a recorder count nowhere, so metrics come before the log, which counts.
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
    start(daemon, loaded).unwrap_or_else(|error| failed(&error))
}

fn start(mut daemon: Daemon, loaded: Loaded) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    // Signals are heard before anything runs: for process 1 of a container there is nobody else to act on them.
    let signals = {
        let _runtime = runtime.enter();
        Signals::listen().map_err(|error| format!("signals cannot be heard: {error}"))?
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    daemon.serve_admin(&loaded.config.admin)?;
    daemon.notify = Notify::start(daemon.roster.clone());
    Ok(runtime.block_on(daemon.live(loaded, signals)))
}

struct Daemon {
    registry: Arc<Registry>,
    sources: Sources,
    roster: Arc<Roster>,
    counts: DaemonMetrics,
    exporter: Exporter,
    log: Option<log::Live>,
    admin: Option<admin::Endpoint>,
    notify: Notify,
    config: settings::Config,
    running: BTreeMap<String, Running>,
    /// Instances that drain; one of the same name starts when they are done.
    ending: Vec<Ending>,
    /// Instances that start when nothing of their name drains any more, and not before their time.
    waiting: BTreeMap<String, (Prepared, Instant)>,
    /// How often in a row each instance has ended by itself.
    falls: BTreeMap<String, usize>,
}

/// A configuration on its way.
type Reading = oneshot::Receiver<Result<Loaded, Problems>>;

struct Running {
    handle: Handle,
    since: Instant,
}

struct Ending {
    handle: Handle,
    /// When it should be done; `None` once it was said that it is not.
    deadline: Option<Instant>,
}

impl Daemon {
    fn new(registry: Registry, sources: Sources, counts: DaemonMetrics, exporter: Exporter) -> Self {
        let roster = Arc::new(Roster::default());
        roster.beat();
        Self {
            registry: Arc::new(registry),
            sources,
            roster,
            counts,
            exporter,
            log: None,
            admin: None,
            notify: Notify::default(),
            config: settings::Config::default(),
            running: BTreeMap::new(),
            ending: Vec::new(),
            waiting: BTreeMap::new(),
            falls: BTreeMap::new(),
        }
    }

    async fn live(mut self, loaded: Loaded, mut signals: Signals) -> ExitCode {
        self.config = loaded.config;
        let names: Vec<_> = loaded.instances.iter().map(|prepared| prepared.name.as_str()).collect();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), instances = names.join(", "), "pontoon runs");
        for prepared in loaded.instances {
            self.waiting.insert(prepared.name.clone(), (prepared, Instant::now()));
        }
        self.look_after();
        self.notify.runs();
        let mut upkeep = interval(metrics::UPKEEP);
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading = None;
        let mut again = false;
        loop {
            if again && reading.is_none() {
                self.notify.reloads();
                (reading, again) = (Some(self.read()), false);
            }
            tokio::select! {
                reload = signals.reload() => if reload { again = true } else { break },
                read = finished(&mut reading) => {
                    self.reload(read);
                    self.notify.runs();
                }
                _ = rounds.tick() => self.look_after(),
                _ = upkeep.tick() => self.exporter.upkeep(),
            }
        }
        self.drain(&mut signals).await
    }

    /// Starts what waits, notices what has ended.
    fn look_after(&mut self) {
        self.roster.beat();
        let now = Instant::now();
        self.ending.retain_mut(|ending| {
            if ending.deadline.is_some_and(|deadline| deadline < now) {
                ending.deadline = None;
                let instance = &ending.handle.name;
                tracing::error!(instance, "not drained within shutdown.timeout; its successor waits for it");
            }
            let ended = ending.handle.is_finished();
            if ended && !self.running.contains_key(&ending.handle.name) {
                self.roster.remove(&ending.handle.name);
            }
            !ended
        });
        let fallen: Vec<_> = self.running.extract_if(.., |_, running| running.handle.is_finished()).collect();
        for (name, running) in fallen {
            if running.since + STABLE <= now {
                self.falls.remove(&name);
            }
            self.pick_up(name);
        }
        let drains = |name: &str| self.ending.iter().any(|ending| ending.handle.name == name);
        let due: Vec<_> = self.waiting.extract_if(.., |name, (_, at)| *at <= now && !drains(name)).collect();
        for (name, (prepared, _)) in due {
            self.begin(&name, prepared);
        }
        self.roster.wait(self.waiting.keys());
    }

    fn begin(&mut self, name: &str, prepared: Prepared) {
        let transport =
            self.config.connectors.get(name).map(|instance| instance.transport.clone()).unwrap_or_default();
        match Handle::start(name, prepared.run, &self.config, &transport) {
            Ok(handle) => {
                tracing::info!(instance = name, "instance started");
                self.roster.started(&handle);
                self.running.insert(name.to_owned(), Running { handle, since: Instant::now() });
            }
            Err(error) => {
                tracing::error!(instance = name, %error, "the instance cannot start");
                self.pick_up(name.to_owned());
            }
        }
    }

    /// An instance ended by itself: that is a fault of ours, and the others never notice.
    fn pick_up(&mut self, name: String) {
        self.roster.ended(&name);
        let falls = self.falls.entry(name.clone()).or_default();
        *falls += 1;
        let after = backoff::LINK.delay(*falls) + Duration::from_secs(1);
        tracing::error!(instance = name, after = ?after, "the instance ended by itself; it is started again");
        let Some(instance) = self.config.connectors.get(&name) else { return };
        metrics::restarts(&name, &instance.kind).increment(1);
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

    /// Reads the configuration on a thread of its own: files that hang must keep nobody from hearing signals.
    fn read(&self) -> Reading {
        let (done, reading) = oneshot::channel();
        let (registry, sources) = (self.registry.clone(), self.sources.clone());
        let read = move || drop(done.send(config::load(&registry, &sources)));
        if let Err(error) = std::thread::Builder::new().name("reload".to_owned()).spawn(read) {
            tracing::error!(%error, "there is no thread to read the configuration on");
        }
        reading
    }

    /// Goes over to the configuration that was read; one with errors changes nothing, nor does one that could not be
    /// read to its end.
    fn reload(&mut self, read: Option<Result<Loaded, Problems>>) {
        let Some(Ok(loaded)) = read else {
            self.counts.reloaded(ReloadOutcome::Failed);
            for problem in read.into_iter().filter_map(Result::err).flat_map(|problems| problems.0) {
                tracing::error!("{problem}");
            }
            return tracing::error!("the configuration has errors and changes nothing");
        };
        let plan = match reload::plan(&self.config, &loaded.config) {
            Ok(plan) => plan,
            Err(reason) => {
                self.counts.reloaded(ReloadOutcome::Failed);
                return tracing::error!(reason, "the configuration is refused and changes nothing");
            }
        };
        self.counts.reloaded(ReloadOutcome::Applied);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.config = loaded.config;
        if let Err(error) = self.log.as_ref().map_or(Ok(()), |log| log.apply(&self.config.log)) {
            tracing::error!(error, "the log stays as it was");
        }
        if let Err(error) = self.serve_admin(&self.config.admin.clone()) {
            tracing::error!(error, "the admin endpoint");
        }
        tracing::info!(stop = ?plan.stop, start = ?plan.start, "the configuration was read again");
        // Those that end, too: what they keep goes where NATS is now.
        let ending = self.ending.iter().map(|ending| &ending.handle);
        for handle in self.running.values().map(|running| &running.handle).chain(ending) {
            handle.apply(Settings::from(&self.config));
        }
        let patience = self.config.shutdown.timeout.0;
        for name in &plan.stop {
            self.waiting.remove(name);
            self.falls.remove(name);
            if let Some(Running { handle, .. }) = self.running.remove(name) {
                handle.stop();
                let deadline = Some(Instant::now() + patience);
                self.ending.push(Ending { handle, deadline });
            }
        }
        for prepared in loaded.instances.into_iter().filter(|prepared| plan.start.contains(&prepared.name)) {
            self.waiting.insert(prepared.name.clone(), (prepared, Instant::now()));
        }
        self.roster.wait(self.waiting.keys());
    }

    /// Has the admin endpoint be as this says. A new one listens before the one before it ends, unless they want the same
    /// port.
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
        let start =
            |settings: &settings::Admin| admin::Endpoint::start(settings, &self.roster, &self.exporter);
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

    /// Ends every instance in order; a second signal or the deadline ends the process at once.
    async fn drain(mut self, signals: &mut Signals) -> ExitCode {
        self.roster.stop();
        self.notify.stops(self.config.shutdown.timeout.0);
        tracing::info!("the daemon stops; instances drain");
        let deadline = Instant::now() + self.config.shutdown.timeout.0;
        let running = std::mem::take(&mut self.running).into_values().map(|running| running.handle);
        let mut left: Vec<Handle> = running.collect();
        for handle in &left {
            handle.stop();
        }
        left.extend(self.ending.drain(..).map(|ending| ending.handle));
        let mut rounds = interval(ROUND / 10);
        let mut unconfirmed = 0;
        while !left.is_empty() {
            let why = tokio::select! {
                _ = rounds.tick() => {
                    self.roster.beat();
                    for handle in left.extract_if(.., |handle| handle.is_finished()) {
                        unconfirmed += handle.status.borrow().unconfirmed_events;
                        // It is no more, so nobody must take it for stuck while others drain.
                        self.roster.remove(&handle.name);
                    }
                    continue;
                }
                () = sleep_until(deadline) => "not drained within shutdown.timeout",
                () = signals.stop() => "a second signal: the daemon ends without a drain",
            };
            for Handle { name, status, .. } in &left {
                let events = status.borrow().unconfirmed_events;
                tracing::error!(instance = name, unconfirmed_events = events, "{why}");
            }
            return ExitCode::from(UNAVAILABLE);
        }
        if unconfirmed > 0 {
            tracing::error!(events = unconfirmed, "stopped, but NATS did not confirm all events");
            return ExitCode::from(UNAVAILABLE);
        }
        tracing::info!("drained");
        ExitCode::SUCCESS
    }
}

/// What is being read, once it has been; waits for ever where nothing is.
async fn finished(reading: &mut Option<Reading>) -> Option<Result<Loaded, Problems>> {
    let Some(under_way) = reading else { return std::future::pending().await };
    let read = under_way.await.ok();
    *reading = None;
    read
}

#[cfg(test)]
mod tests;
