//! The contenders: Pontoon as it is shipped, and what people would write instead.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pontoon_testkit::{Daemon, DaemonConfig, Dir, NatsServer};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::probe::Shape;

/// How many events wait for their confirmation by a stream at a time, at every contender.
const IN_FLIGHT: usize = 1024;
/// Room in the stream for all events of a run.
const STREAM: &str = "8GiB";
const START: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Contender {
    Pontoon,
    /// Pontoon with a script instead of a table.
    Script,
    /// Pontoon with a connector in Rust instead of a table.
    Connector,
    /// A loop in Rust.
    Minimal,
    /// The same, which writes all requests that are there together.
    Coalescing,
    /// The same on the crate rust_socketio.
    RustSocketio,
    Node,
    Python,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Events of one WebSocket.
    WebSocket { jetstream: bool },
    /// The same with a script instead of a table, to core NATS.
    Script,
    /// The same with a connector in Rust instead of a table, to core NATS.
    Connector,
    /// Events of one Socket.IO connection.
    SocketIo { jetstream: bool },
    /// Requests that the service answers.
    Calls,
    /// So many connections in one instance.
    Links { count: usize, tls: bool },
    /// So many instances with a connection each.
    Instances { count: usize },
}

/// The programs that there are, and why others are not.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) pontoon: PathBuf,
    connector: PathBuf,
    minimal: PathBuf,
    rust_socketio: Option<PathBuf>,
    pub(crate) node: Option<PathBuf>,
    pub(crate) python: Option<PathBuf>,
}

impl Contender {
    /// Its name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pontoon => "Pontoon",
            Self::Script => "Pontoon, script",
            Self::Connector => "Pontoon, Rust connector",
            Self::Minimal => "Rust loop",
            Self::Coalescing => "Rust loop, coalescing",
            Self::RustSocketio => "rust_socketio loop",
            Self::Node => "Node script",
            Self::Python => "Python script",
        }
    }
}

impl Programs {
    /// The programs beside this one, and the runtimes that the environment names.
    pub(crate) fn find() -> io::Result<Self> {
        let me = std::env::current_exe()?;
        let folder = me.parent().unwrap_or(Path::new("."));
        let runtime =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let beside = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let needed = |name: &str| {
            beside(name).ok_or_else(|| io::Error::other(format!("{name} was not built; run `make bench`")))
        };
        Ok(Self {
            pontoon: needed("pontoon")?,
            connector: needed("pontoon-bench-connector")?,
            minimal: needed("pontoon-bench-minimal")?,
            rust_socketio: beside("pontoon-bench-rust-socketio"),
            node: runtime("PONTOON_BENCH_NODE"),
            python: runtime("PONTOON_BENCH_PYTHON"),
        })
    }

    /// Why a contender cannot run here.
    pub(crate) fn missing(&self, contender: Contender) -> Option<&'static str> {
        match contender {
            Contender::RustSocketio if self.rust_socketio.is_none() => Some("it was built without OpenSSL"),
            Contender::Node if self.node.is_none() => Some("there is no Node.js with the packages"),
            Contender::Python if self.python.is_none() => Some("there is no Python with the packages"),
            _ => None,
        }
    }

    fn command(&self, contender: Contender, task: Task) -> io::Result<Command> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("contenders");
        let (program, script) = match contender {
            Contender::Pontoon | Contender::Script => (Some(&self.pontoon), None),
            Contender::Connector => (Some(&self.connector), None),
            Contender::Minimal | Contender::Coalescing => (Some(&self.minimal), None),
            Contender::RustSocketio => (self.rust_socketio.as_ref(), None),
            Contender::Node if task == Task::Calls => (self.node.as_ref(), Some("node/calls.js")),
            Contender::Node => (self.node.as_ref(), Some("node/events.js")),
            Contender::Python => (self.python.as_ref(), Some("python/events.py")),
        };
        let program = program.ok_or_else(|| io::Error::other(format!("there is no {}", contender.name())))?;
        let mut command = Command::new(program);
        command.args(script.map(|script| scripts.join(script)));
        Ok(command)
    }
}

/// Where a contender is between.
pub(crate) struct Place<'a> {
    pub(crate) service: SocketAddr,
    pub(crate) nats: &'a NatsServer,
    /// The certificate of the service.
    pub(crate) ca_file: Option<&'a Path>,
    /// What Pontoon makes of an event, which the others are to make, too; `None` where there are no events.
    pub(crate) shape: Option<&'a Shape>,
}

/// A contender that runs. It is killed when this value is dropped.
pub(crate) enum Running {
    Pontoon(Box<Daemon>),
    Other { child: Child, _dir: Dir },
}

impl Running {
    /// Starts one.
    pub(crate) fn start(
        programs: &Programs,
        contender: Contender,
        task: Task,
        place: &Place<'_>,
    ) -> io::Result<Self> {
        let daemon = match contender {
            Contender::Pontoon | Contender::Script => Some(&programs.pontoon),
            Contender::Connector => Some(&programs.connector),
            _ => None,
        };
        if let Some(daemon) = daemon {
            return Ok(Self::Pontoon(Box::new(Daemon::start(daemon, config(task, place)))));
        }
        let dir = Dir::new("bench");
        let job = dir.write("job.json", &job(contender, task, place).to_string());
        let mut command = programs.command(contender, task)?;
        let child = command.arg(job).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Self::Other { child, _dir: dir })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        match self {
            Self::Pontoon(daemon) => daemon.id(),
            Self::Other { child, .. } => child.id(),
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        match self {
            // It stays; its log says why it does nothing.
            Self::Pontoon(_) => false,
            Self::Other { child, .. } => child.try_wait().is_ok_and(|status| status.is_some()),
        }
    }

    /// Waits until Pontoon says that it is ready; the others are once they are connected.
    pub(crate) fn ready(&mut self, runtime: &Runtime) {
        if let Self::Pontoon(daemon) = self {
            runtime.block_on(daemon.ready(START));
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        match self {
            Self::Pontoon(daemon) => daemon.log(),
            Self::Other { .. } => String::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Other { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The type of Pontoon's connector for a task.
pub(crate) fn connector(task: Task) -> &'static str {
    match task {
        Task::WebSocket { .. } | Task::Connector | Task::Calls | Task::Instances { .. } => "websocket",
        Task::Script => "script",
        Task::SocketIo { .. } => "socketio",
        Task::Links { .. } => "streamavatars",
    }
}

/// Pontoon's configuration: as shipped, but for where to connect and what messages mean.
fn config(task: Task, place: &Place<'_>) -> DaemonConfig {
    let (service, kind) = (place.service, connector(task));
    let config = DaemonConfig::new(place.nats);
    let core = |config: DaemonConfig| config.with("delivery.mode = \"core\"");
    let delivery = |config: DaemonConfig, jetstream: bool| {
        if jetstream { config.with(&format!("delivery.max_bytes = \"{STREAM}\"")) } else { core(config) }
    };
    let websocket = format!(
        "url = \"ws://{service}/\"\nkind = \"/type\"\nevents.message = {{ type = \"message.created\", channel = \"/room\" }}"
    );
    match task {
        Task::WebSocket { jetstream } => delivery(config, jetstream).connector("bench", kind, &websocket),
        Task::Script => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contenders/script/events.js");
            let settings = format!("url = \"ws://{service}/\"\nscript = {script:?}");
            core(config).connector("bench", kind, &settings)
        }
        Task::Connector => core(config).connector("bench", kind, &format!("url = \"ws://{service}/\"")),
        Task::SocketIo { jetstream } => {
            let settings = format!(
                "url = \"http://{service}/\"\nevents.message = {{ type = \"message.created\", channel = \"/0/room\" }}"
            );
            delivery(config, jetstream).connector("bench", kind, &settings)
        }
        Task::Calls => {
            let settings = format!("{websocket}\ncall = {{ id = \"/id\", data = \"/result\" }}");
            core(config).connector("bench", kind, &settings)
        }
        Task::Links { count, tls } => {
            let scheme = if tls { "wss" } else { "ws" };
            let host = if tls { format!("localhost:{}", service.port()) } else { service.to_string() };
            let sockets: String = (0..count)
                .map(|number| format!("sockets.t{number}.url = \"{scheme}://{host}/\"\n"))
                .collect();
            let ca =
                place.ca_file.map(|file| format!("\ntransport.tls.ca_file = {file:?}")).unwrap_or_default();
            let settings = format!("transport.max_links = {}{ca}\n{sockets}", count.max(1024));
            core(config).connector("bench", kind, &settings)
        }
        Task::Instances { count } => {
            let instances = 0..count;
            instances.fold(core(config), |config, number| {
                config.connector(&format!("bench{number}"), kind, &websocket)
            })
        }
    }
}

/// The job of another contender.
fn job(contender: Contender, task: Task, place: &Place<'_>) -> serde_json::Value {
    let (service, kind) = (place.service, connector(task));
    let jetstream = matches!(task, Task::WebSocket { jetstream: true } | Task::SocketIo { jetstream: true });
    let (name, url, links) = match task {
        Task::WebSocket { .. } | Task::Script | Task::Connector => ("events", format!("ws://{service}/"), 1),
        Task::SocketIo { .. } => ("events", format!("http://{service}"), 1),
        Task::Calls if contender == Contender::Coalescing => ("calls-at-once", format!("ws://{service}/"), 1),
        Task::Calls => ("calls", format!("ws://{service}/"), 1),
        Task::Links { count, tls: false } => ("links", format!("ws://{service}/"), count),
        Task::Links { count, tls: true } => ("links", format!("wss://localhost:{}/", service.port()), count),
        Task::Instances { count } => ("links", format!("ws://{service}/"), count),
    };
    let shape = place.shape;
    let subject = match task {
        Task::Calls => format!("pontoon.command.{kind}.bench.call"),
        _ => shape.map(|shape| shape.subject.clone()).unwrap_or_default(),
    };
    json!({
        "task": name,
        "url": url,
        "ca_file": place.ca_file,
        "nats": place.nats.url(),
        "jetstream": jetstream,
        "source": format!("{kind}.bench"),
        "subject": subject,
        "ce_type": shape.map_or("", |shape| &shape.ce_type),
        "upstream": shape.map_or("", |shape| &shape.upstream),
        "headers": shape.map_or(&[][..], |shape| &shape.form.headers),
        "in_flight": IN_FLIGHT,
        "links": links,
    })
}
