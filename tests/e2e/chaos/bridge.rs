//! The parts of a run: nats-server, the daemon with two instances, and their services; carries out a plan with them.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use async_nats::jetstream;
use pontoon_testkit::{Daemon, DaemonConfig, eventually};
use tokio::time::{sleep, timeout};

use super::callers::{Callers, Calls};
use super::disk::Disk;
use super::faketime::FakeTime;
use super::history::{Break, Cause, DaemonClock, History, Micros, Stored};
use super::plan::{Change, Ending, Plan, Step, Storage};
use super::servers::Servers;
use super::source::{MachineClock, Protocol, Source};
use super::stream;

/// How long the bridge may take to be as it should once all faults are over, on a machine that does much besides.
const DEADLINE: Duration = Duration::from_secs(90);
/// How long the server may take for one request.
const REQUEST: Duration = Duration::from_secs(5);

/// How many events may be read and not written, with `durability = "process"` and with `"power"`: 128 and 512 KiB of the
/// smallest ones here.
const PROCESS: usize = 300;
const POWER: usize = 1_200;

/// What the daemon logs once it handles signals.
const RUNS: &str = "pontoon started";

/// What came of a run.
pub(crate) struct Outcome {
    /// What happened to each instance, by its name.
    pub(crate) histories: Vec<(&'static str, History)>,
    /// How often each fault was done.
    pub(crate) faults: BTreeMap<&'static str, usize>,
    /// What came of commands and jobs, where some were sent.
    pub(crate) calls: Option<Calls>,
    /// The end of the daemon's log.
    pub(crate) log: String,
}

/// Carries out a plan, ends all faults, waits until events flow again, and collects what happened.
pub(crate) async fn run(plan: &Plan) -> Outcome {
    let mut bridge = Bridge::start(plan).await;
    for (pause, step) in &plan.steps {
        sleep(*pause).await;
        bridge.perform(*step).await;
    }
    bridge.restore().await;
    // Sources may wait for the daemon to read.
    let deadline = DEADLINE + Duration::from_millis(5) * u32::try_from(plan.events).unwrap_or(u32::MAX);
    eventually(deadline, async || bridge.sources.iter().map(Source::sent).sum::<usize>() >= plan.events)
        .await;
    bridge.settle().await;
    bridge.outcome().await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Runs,
    Frozen,
    Down,
}

struct Bridge {
    clock: MachineClock,
    fake_time: Option<FakeTime>,
    daemon_clock: DaemonClock,
    // Before the server, which looks at what the daemon did when it is dropped.
    daemon: Daemon,
    daemon_is: Phase,
    sources: [Source; 2],
    breaks: [Vec<Break>; 2],
    deaths: Vec<Micros>,
    /// What was purged from the streams.
    purged: [Vec<Stored>; 2],
    nats: Servers,
    nats_is: Phase,
    /// Where the daemon keeps events, if on disk.
    disk: Option<Disk>,
    /// How many events the daemon may be behind with writing.
    behind: usize,
    callers: Option<Callers>,
    settings: Settings,
    /// Whether the daemon has been made to read the file that is there now.
    has_read_file: bool,
    faults: BTreeMap<&'static str, usize>,
}

/// What a reload changes.
#[derive(Debug, Clone, Default)]
struct Settings {
    /// What does not change.
    fixed: String,
    other_name: bool,
    away: bool,
    other_delivery: bool,
    other_log: bool,
    other_shutdown: bool,
    overflow: Option<&'static str>,
}

const NAMES: [&str; 2] = ["shop", "chat"];

impl Bridge {
    async fn start(plan: &Plan) -> Self {
        let clock = MachineClock::start();
        let mut nats = Servers::start(plan.cluster).await;
        let sources = [
            Source::start(clock, Protocol::Sub0, plan.pace, plan.padding).await,
            Source::start(clock, Protocol::Chat, plan.pace, plan.padding).await,
        ];
        let library = if plan.fake_time { FakeTime::library() } else { None };
        let fake_time = library.map(FakeTime::new);
        let disk = match plan.storage {
            Storage::Memory => None,
            Storage::Disk(_) => Some(Disk::new()),
        };
        let mut fixed = String::new();
        if let (Some(disk), Storage::Disk(durability)) = (&disk, plan.storage) {
            let path = disk.path();
            fixed += &format!("delivery.spool = {{ path = {path:?}, durability = \"{durability}\" }}\n");
        }
        if plan.is_long() {
            fixed += "delivery.max_bytes = \"2GiB\"\njobs.max_bytes = \"64MiB\"\n";
        }
        if plan.cluster {
            fixed += "delivery.replicas = 3\n";
        }
        let settings = Settings { fixed, overflow: plan.overflow, ..Settings::default() };
        let config = settings.config(&nats, &sources, fake_time.as_ref());
        let mut faults = BTreeMap::new();
        let mut nats_is = Phase::Runs;
        if plan.nats_away {
            nats.kill();
            nats_is = Phase::Down;
            faults.insert("first start without NATS", 1);
        }
        let first = Break { cause: Cause::FirstStart, at: clock.now() };
        let binary = env::var_os("PONTOON_CHAOS_DAEMON");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_pontoon").into());
        let daemon = Daemon::start(binary, config);
        let mut bridge = Self {
            clock,
            fake_time,
            daemon_clock: DaemonClock::default(),
            daemon,
            daemon_is: Phase::Runs,
            sources,
            breaks: [vec![first], vec![first]],
            deaths: Vec::new(),
            purged: [Vec::new(), Vec::new()],
            nats,
            nats_is,
            disk,
            behind: if plan.storage == Storage::Disk("power") { POWER } else { PROCESS },
            callers: None,
            settings,
            has_read_file: true,
            faults,
        };
        if plan.warm {
            bridge.flows().await;
        } else {
            for source in &bridge.sources {
                source.server().connected(1, DEADLINE).await;
            }
        }
        if plan.is_long() {
            bridge.callers = Some(Callers::start(bridge.nats.client().await));
        }
        bridge
    }

    /// Performs a step, unless the part is not as the step needs it.
    async fn perform(&mut self, step: Step) {
        let (daemon, nats) = (self.daemon_is, self.nats_is);
        let fault = match step {
            Step::FreezeNats if nats == Phase::Runs => {
                self.nats.choose_leader(NAMES[self.deaths.len() % 2]).await;
                self.nats.freeze();
                self.nats_is = Phase::Frozen;
                "NATS frozen"
            }
            Step::ThawNats if nats == Phase::Frozen => {
                self.nats.thaw();
                self.nats_is = Phase::Runs;
                return;
            }
            Step::KillNats if nats != Phase::Down => {
                if nats == Phase::Runs {
                    self.nats.choose_leader(NAMES[self.deaths.len() % 2]).await;
                }
                self.nats.kill();
                self.nats_is = Phase::Down;
                "NATS killed"
            }
            Step::StartNats if nats == Phase::Down => {
                self.nats.restart().await;
                self.nats_is = Phase::Runs;
                return;
            }
            Step::FreezeDaemon if daemon == Phase::Runs => {
                self.daemon.freeze();
                self.daemon_is = Phase::Frozen;
                "daemon frozen"
            }
            Step::ThawDaemon if daemon == Phase::Frozen => {
                self.daemon.thaw();
                self.daemon_is = Phase::Runs;
                return;
            }
            Step::KillDaemon if daemon != Phase::Down => {
                self.kill_daemon();
                self.daemon_is = Phase::Down;
                "daemon killed"
            }
            Step::StartDaemon if daemon == Phase::Down => {
                self.broken(0, Cause::Restart);
                self.broken(1, Cause::Restart);
                let now = self.clock.now();
                self.disk.iter_mut().for_each(|disk| disk.started(now));
                self.daemon.restart();
                self.daemon_is = Phase::Runs;
                return;
            }
            Step::DeleteStream(instance) if nats == Phase::Runs => {
                self.broken(instance, Cause::Stream);
                if !self.delete_stream(instance).await {
                    return;
                }
                if daemon == Phase::Down { "stream deleted, daemon down" } else { "stream deleted" }
            }
            Step::PurgeStream(instance) if nats == Phase::Runs => {
                let purge = async { stream::purge(&self.nats.client().await, NAMES[instance]).await };
                let Ok(Some(purged)) = timeout(DEADLINE, purge).await else { return };
                self.purged[instance].extend(purged);
                "stream purged"
            }
            Step::FillDisk if self.disk.is_some() => {
                let now = self.clock.now();
                if !self.disk.as_mut().is_some_and(|disk| disk.fill(now)) {
                    return;
                }
                "disk full"
            }
            Step::FreeDisk => {
                let (disk, clock) = (self.disk.as_mut(), self.clock);
                disk.into_iter().for_each(|disk| disk.free(clock.now()));
                return;
            }
            Step::Break(instance, ending) => {
                self.broken(instance, Cause::Link);
                let server = self.sources[instance].server();
                match ending {
                    Ending::Cut => server.cut(),
                    Ending::CutWithin(bytes) => {
                        // A text of 1,000 bytes, or less of it.
                        let frame = [&[0x81, 126, 0x03, 0xE8], [b'x'; 1_000].as_slice()].concat();
                        server.send_bytes(&frame[..bytes]);
                        server.cut();
                    }
                    Ending::HangUp => server.hang_up(),
                    Ending::Close => server.close(1001, "restart"),
                }
                "link broken"
            }
            Step::Reload(change) => {
                let fault = self.settings.change(change);
                self.reload().await;
                fault
            }
            Step::SetClock(ahead) => {
                let Some(fake_time) = &self.fake_time else { return };
                let before = self.clock.now();
                fake_time.set(ahead);
                self.daemon_clock.set(before, self.clock.now(), ahead * 1_000_000);
                "clock set"
            }
            _ => return,
        };
        *self.faults.entry(fault).or_default() += 1;
    }

    fn kill_daemon(&mut self) {
        let id = self.daemon.id();
        self.daemon.kill();
        self.deaths.push(self.clock.now());
        if self.fake_time.is_some() {
            FakeTime::clean_up(id);
        }
    }

    fn broken(&mut self, instance: usize, cause: Cause) {
        self.breaks[instance].push(Break { cause, at: self.clock.now() });
    }

    /// Returns whether it was there, as far as is known.
    async fn delete_stream(&self, instance: usize) -> bool {
        let deleted = async {
            let client = self.nats.client().await;
            jetstream::new(client).delete_stream(stream::name(NAMES[instance])).await.ok()
        };
        timeout(REQUEST, deleted).await.is_ok_and(|deleted| deleted.is_some())
    }

    /// Writes the file, and has the daemon read it if it runs.
    async fn reload(&mut self) {
        let config = self.settings.config(&self.nats, &self.sources, self.fake_time.as_ref());
        self.daemon.reconfigure(config);
        if self.daemon_is == Phase::Runs {
            // The signal ends a daemon that does not wait for it yet.
            eventually(DEADLINE, async || !self.daemon.logged(RUNS).is_empty()).await;
        }
        let handles = self.daemon_is != Phase::Down && !self.daemon.logged(RUNS).is_empty();
        if handles {
            self.daemon.signal("HUP");
        }
        self.has_read_file = handles || self.daemon_is == Phase::Down;
    }

    /// Ends every fault.
    async fn restore(&mut self) {
        for step in [Step::FreeDisk, Step::ThawNats, Step::StartNats, Step::ThawDaemon, Step::StartDaemon] {
            self.perform(step).await;
        }
        if self.settings.away || !self.has_read_file {
            self.settings.away = false;
            self.reload().await;
        }
    }

    /// Waits until an event that was sent from now on is stored, of each instance.
    async fn flows(&mut self) {
        for (name, source) in NAMES.iter().zip(&self.sources) {
            let sent = source.sent();
            self.reaches(name, sent).await;
        }
    }

    /// Waits until the stream of this instance holds this event or one that was sent later.
    async fn reaches(&self, name: &str, number: usize) {
        let client = self.nats.client().await;
        let reached = async {
            eventually(DEADLINE * 2, async || stream::newest(&client, name).await >= Some(number)).await;
        };
        let in_time = timeout(DEADLINE, reached).await;
        assert!(in_time.is_ok(), "event {number} of {name} does not come\n{}", self.end_of_log());
    }

    /// Waits until events flow, ends them, and waits until the last one is stored.
    async fn settle(&mut self) {
        self.sources.iter().for_each(|source| source.pace(0));
        self.flows().await;
        for (name, source) in NAMES.iter().zip(&self.sources) {
            source.stop();
            self.reaches(name, source.sent() - 1).await;
        }
    }

    async fn outcome(mut self) -> Outcome {
        let client = self.nats.client().await;
        let calls = match self.callers.take() {
            Some(callers) => Some(callers.judge(&client, || self.sources[0].done()).await),
            None => None,
        };
        self.kill_daemon();
        let mut histories = Vec::new();
        for (index, name) in NAMES.into_iter().enumerate() {
            let mut stored = std::mem::take(&mut self.purged[index]);
            stored.extend(stream::contents(&client, name).await);
            let sent = self.sources[index].history(&self.deaths, self.behind);
            let history = History {
                sent,
                stored,
                breaks: self.breaks[index].clone(),
                clock: self.daemon_clock.clone(),
                on_disk: self.disk.is_some(),
                disk_full: self.disk.as_ref().map(Disk::full).unwrap_or_default(),
                overflow: self.settings.overflow,
            };
            histories.push((name, history));
        }
        let log = self.end_of_log();
        Outcome { histories, faults: std::mem::take(&mut self.faults), calls, log }
    }

    fn end_of_log(&self) -> String {
        let log = self.daemon.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Settings {
    /// Changes one of them; returns what that is called in the report.
    fn change(&mut self, change: Change) -> &'static str {
        let (setting, fault) = match change {
            Change::Nothing => return "reload, nothing changed",
            Change::Nats => (&mut self.other_name, "reload, [nats]"),
            Change::NatsAway => (&mut self.away, "reload, NATS away or back"),
            Change::Delivery => (&mut self.other_delivery, "reload, [delivery]"),
            Change::Log => (&mut self.other_log, "reload, [log]"),
            Change::Shutdown => (&mut self.other_shutdown, "reload, [shutdown]"),
        };
        *setting = !*setting;
        fault
    }

    fn config(&self, nats: &Servers, sources: &[Source; 2], fake_time: Option<&FakeTime>) -> DaemonConfig {
        let urls = match self {
            Self { away: true, .. } => vec!["nats://127.0.0.1:1".to_owned()],
            Self { other_name: true, .. } => {
                nats.urls().iter().map(|url| url.replace("127.0.0.1", "localhost")).collect()
            }
            _ => nats.urls(),
        };
        let (events, pause) = match (self.overflow.is_some(), self.other_delivery) {
            (true, false) => (300, "100ms"),
            (true, true) => (400, "150ms"),
            (false, false) => (100_000, "10s"),
            (false, true) => (90_000, "9s"),
        };
        let overflow = self.overflow.unwrap_or("drop_newest");
        let level = if self.other_log { "info,async_nats=off" } else { "info" };
        let shutdown = if self.other_shutdown { "4s" } else { "3s" };
        let fixed = &self.fixed;
        let lines = format!(
            "{fixed}delivery.buffer_events = {events}\ndelivery.max_pause = \"{pause}\"\ndelivery.overflow = \"{overflow}\"\nlog.level = \"{level}\"\nshutdown.timeout = \"{shutdown}\""
        );
        let config = DaemonConfig::new(nats.first())
            .nats_urls(&urls)
            .with(&lines)
            .connector(NAMES[0], "sub0", &sources[0].settings())
            .connector(NAMES[1], "websocket", &sources[1].settings());
        match fake_time {
            Some(fake_time) => fake_time.config(config),
            None => config,
        }
    }
}
