//! A service that sends numbered events to those who are connected, and notes for each when it can have been read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pontoon_testkit::{Connection, Refusal, Request, Service, WebSocketServer};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use super::callers::Done;
use super::history::{Micros, Sent};

/// How often events are sent.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// How long an upgrade that was begun counts as under way. Its client may be gone.
const UPGRADE: Micros = 2_000_000;

/// Times of the machine, from a clock that does not jump.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineClock {
    started: Instant,
    at: Micros,
}

impl MachineClock {
    /// Reads the time of day once.
    pub(crate) fn start() -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
        Self { started: Instant::now(), at: micros(at) }
    }

    /// Now.
    pub(crate) fn now(&self) -> Micros {
        self.at(Instant::now())
    }

    fn at(&self, instant: Instant) -> Micros {
        self.at + micros(instant.saturating_duration_since(self.started))
    }
}

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).expect("a time of this century")
}

/// Which connector the service is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Sub0, whose events have no time.
    Sub0,
    /// A service for the connector `websocket`, whose events have times of the service that are far off.
    Chat,
}

/// A running service.
pub(crate) struct Source {
    server: Arc<WebSocketServer>,
    state: Arc<ServerState>,
    sending: JoinHandle<()>,
}

struct ServerState {
    clock: MachineClock,
    protocol: Protocol,
    /// How much text an event has besides its number.
    padding: String,
    /// How many events are sent in a tick.
    pace: AtomicUsize,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    emitted: Vec<Emitted>,
    /// Commands and jobs that were carried out.
    done: Done,
    /// When upgrades were begun, in order.
    accepted: Vec<Micros>,
    /// When connections were there, by their number.
    connected: HashMap<usize, Micros>,
    /// An upgrade that is under way: its client may take itself for connected.
    upgrading: Option<Micros>,
}

struct Emitted {
    earliest: Micros,
    at: Micros,
    connections: Vec<usize>,
}

impl Source {
    /// Starts it. It begins to send when the first client is connected.
    pub(crate) async fn start(clock: MachineClock, protocol: Protocol, pace: usize, padding: usize) -> Self {
        let (pace, log) = (AtomicUsize::new(pace), Mutex::default());
        let state = Arc::new(ServerState { clock, protocol, padding: "x".repeat(padding), pace, log });
        let server = Arc::new(
            WebSocketServer::start(Arc::new(Listener(Arc::clone(&state))) as Arc<dyn Service>).await,
        );
        let sending = tokio::spawn(send(Arc::clone(&server), Arc::clone(&state)));
        Self { server, state, sending }
    }

    /// Its settings for the connector, as lines of TOML.
    pub(crate) fn settings(&self) -> String {
        let url = format!("url = \"ws://{}/ws\"", self.server.address());
        match self.state.protocol {
            Protocol::Sub0 => url,
            Protocol::Chat => format!(
                "{url}\nkind = \"/type\"\nevents.tick = {{ type = \"message.created\", channel = \"/room\", id = \"/id\", text = \"/text\", time = \"/at\" }}"
            ),
        }
    }

    /// Sends so many events in a tick from now on; 0 for one in a long while.
    pub(crate) fn pace(&self, events: usize) {
        self.state.pace.store(events, Ordering::Relaxed);
    }

    /// How many events it has sent.
    pub(crate) fn sent(&self) -> usize {
        self.state.log().emitted.len()
    }

    /// Sends nothing more.
    pub(crate) fn stop(&self) {
        self.sending.abort();
    }

    /// The commands and jobs that it has carried out.
    pub(crate) fn done(&self) -> Done {
        self.state.log().done.clone()
    }

    /// The server, to break its connections.
    pub(crate) fn server(&self) -> &WebSocketServer {
        &self.server
    }

    /// What it sent. The daemon was killed at these times, and what it has accepted is at most so many events behind what it
    /// has read.
    pub(crate) fn history(&self, deaths: &[Micros], behind: usize) -> Vec<Sent> {
        let log = self.state.log();
        let mut answered: HashMap<usize, Vec<(usize, Micros)>> = HashMap::new();
        for received in self.server.received() {
            if let Message::Pong(number) = &received.message
                && let Some(number) = str::from_utf8(number).ok().and_then(|text| text.parse().ok())
            {
                let at = self.state.clock.at(received.at);
                answered.entry(received.connection).or_default().push((number, at));
            }
        }
        let now = self.state.clock.now();
        // Reading ends when the daemon does, or when it dials again.
        let end = |connection: usize| {
            let begin = log.connected.get(&connection).copied().unwrap_or(now);
            let ends = log.accepted.iter().chain(deaths).filter(|end| **end > begin);
            ends.min().copied().unwrap_or(now)
        };
        let sent = log.emitted.iter().enumerate().map(|(number, emitted)| {
            let latest = |connection: &usize| {
                let answers = answered.get(connection).map_or(&[][..], Vec::as_slice);
                let next = answers.partition_point(|(answered, _)| *answered < number);
                answers.get(next).map_or_else(|| end(*connection), |(_, at)| *at)
            };
            let latest = emitted.connections.iter().map(latest).max().unwrap_or(emitted.at);
            let is_accepted = |connection: &usize| {
                let newest = answered.get(connection).and_then(|answers| answers.last());
                newest.is_some_and(|(newest, _)| number + behind <= *newest)
            };
            let accepted = emitted.connections.iter().any(is_accepted);
            Sent { earliest: emitted.earliest, latest: latest.max(emitted.at), accepted }
        });
        sent.collect()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

impl ServerState {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no thread panics with it")
    }

    /// The frame of an event.
    fn frame(&self, number: usize) -> String {
        let padding = &self.padding;
        match self.protocol {
            Protocol::Sub0 => {
                format!(r#"{{"uid":null,"action":"tick","data":{{"n":{number},"text":"{padding}"}}}}"#)
            }
            Protocol::Chat => {
                // Up to a day too early or too late, in milliseconds.
                let off = (number as i64 * 7_919_993) % 172_800_000 - 86_400_000;
                let at = self.clock.now() / 1_000 + off;
                format!(
                    r#"{{"type":"tick","room":"r","id":"{number}","at":{at},"data":{{"n":{number}}},"text":"{padding}"}}"#
                )
            }
        }
    }
}

/// Sends events without end, and behind them a ping whose answer shows what was read.
async fn send(server: Arc<WebSocketServer>, state: Arc<ServerState>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut tick = 0_usize;
    loop {
        ticks.tick().await;
        tick += 1;
        let pace = match state.pace.load(Ordering::Relaxed) {
            0 if tick.is_multiple_of(10) => 1,
            pace => pace,
        };
        let mut log = state.log();
        // Under the lock: a connection that is not among these yet is an upgrade under way.
        let open = server.connections();
        if log.connected.is_empty() || pace == 0 {
            continue;
        }
        for _ in 0..pace {
            let number = log.emitted.len();
            let at = state.clock.now();
            let earliest = log.upgrading.filter(|begun| at - begun < UPGRADE).unwrap_or(at);
            let connections = open.iter().map(|connection| connection.id()).collect();
            log.emitted.push(Emitted { earliest, at, connections });
            let frame = state.frame(number);
            open.iter().for_each(|connection| connection.send_text(&frame));
        }
        let newest = (log.emitted.len() - 1).to_string();
        open.iter().for_each(|connection| connection.send_ping(newest.as_bytes()));
    }
}

/// Accepts every client.
struct Listener(Arc<ServerState>);

impl Service for Listener {
    fn authorize(&self, _: &Request) -> Result<Option<String>, Refusal> {
        let now = self.0.clock.now();
        let mut log = self.0.log();
        log.accepted.push(now);
        log.upgrading = Some(now);
        Ok(None)
    }

    fn connected(&self, connection: &Arc<Connection>) {
        let now = self.0.clock.now();
        let mut log = self.0.log();
        log.connected.insert(connection.id(), now);
        log.upgrading = None;
    }

    /// Carries out a command or a job of Sub0.
    fn text(&self, connection: &Arc<Connection>, text: &str) {
        let Ok(call) = serde_json::from_str::<Value>(text) else { return };
        let number = |kind: &str| call["payload"][kind].as_u64();
        let mut log = self.0.log();
        if let Some(number) = number("command") {
            *log.done.commands.entry(number).or_default() += 1;
        }
        if let Some(number) = number("job") {
            *log.done.jobs.entry(number).or_default() += 1;
        }
        drop(log);
        let uid = connection.request().parameter("uid");
        let answer = json!({ "uid": uid, "action": call["action"], "data": { "done": call["payload"] } });
        connection.send_text(&answer.to_string());
    }
}
