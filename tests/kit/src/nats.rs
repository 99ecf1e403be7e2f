//! A real nats-server, on a free port and with a new store.

mod users;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::dir::Dir;
use crate::port::reserved_port;
use crate::process::Process;
use crate::tools;

pub use users::INSTANCES;

/// How long a server may take to listen, or to bring a client in.
const START: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// The program: the one that `PONTOON_NATS_SERVER` names, else `target/tools/nats-server`, else the one in `PATH`.
fn binary() -> PathBuf {
    let found = tools::find("PONTOON_NATS_SERVER", "nats-server");
    found.expect("there is no nats-server: run `make tools`, or name one in PONTOON_NATS_SERVER")
}

/// How a [`NatsServer`] is to run.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    jetstream: bool,
    max_file_store: Option<String>,
    own_group: bool,
    shipped_users: bool,
    every_right: bool,
    config: String,
}

impl NatsOptions {
    /// No JetStream.
    #[must_use]
    pub fn without_jetstream(mut self) -> Self {
        self.jetstream = false;
        self
    }

    /// So much for the files of all streams, such as `1GB`.
    #[must_use]
    pub fn max_file_store(mut self, size: &str) -> Self {
        self.max_file_store = Some(size.to_owned());
        self
    }

    /// More configuration for the server, such as `max_payload: 4096` or `authorization { … }`.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        let _ = writeln!(self.config, "{text}");
        self
    }

    /// The users of the configuration that is shipped, with permissions for these instances: `pontoon`, `reader` and
    /// `caller`, all with the password [`NatsServer::PASSWORD`]. Clients without credentials may do everything.
    #[must_use]
    pub fn shipped_users(mut self, instances: &[&str]) -> Self {
        self.shipped_users = true;
        self.config(&users::authorization(instances))
    }

    /// The daemon may do everything, even where the suite runs with the shipped users: for subjects and
    /// streams that are not the usual ones.
    #[must_use]
    pub fn every_right(mut self) -> Self {
        self.every_right = true;
        self
    }

    /// A new process group, so that a Ctrl-C at the terminal ends others first.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// If there is no such server, or it does not listen; the message shows its log.
    pub async fn start(mut self) -> NatsServer {
        let binary = binary();
        let has_own_users = ["authorization", "operator"].iter().any(|word| self.config.contains(word));
        if users::wanted() && !self.every_right && !has_own_users {
            self.shipped_users = true;
            let _ = writeln!(self.config, "{}", users::for_all_tests());
        }
        let mut server =
            NatsServer { dir: Dir::new("nats"), port: reserved_port(), process: None, binary, options: self };
        server.run().await;
        server
    }
}

/// A running nats-server. It dies with this value.
#[derive(Debug)]
pub struct NatsServer {
    binary: PathBuf,
    options: NatsOptions,
    port: u16,
    // Before the directory, so that the server is gone when its store is removed.
    process: Option<Process>,
    dir: Dir,
}

impl NatsServer {
    /// The password of the shipped users in a test.
    pub const PASSWORD: &str = users::PASSWORD;

    /// A current server with JetStream.
    ///
    /// # Panics
    /// As [`NatsOptions::start`].
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// What may be chosen; a current server with JetStream where nothing is.
    pub fn options() -> NatsOptions {
        NatsOptions {
            jetstream: true,
            max_file_store: None,
            own_group: false,
            shipped_users: false,
            every_right: false,
            config: String::new(),
        }
    }

    /// The program's version: `[2, 9, 10]`.
    ///
    /// # Panics
    /// If there is none, or it cannot be run.
    pub fn version() -> Vec<u32> {
        let output = Command::new(binary()).arg("--version").output().expect("nats-server runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.rsplit('v').next().unwrap_or_default();
        number.trim().split('.').map_while(|part| part.parse().ok()).collect()
    }

    /// Its address; the same after every restart.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Its address, to put a proxy before it.
    pub fn address(&self) -> net::SocketAddr {
        net::SocketAddr::from((net::Ipv4Addr::LOCALHOST, self.port))
    }

    /// A client without credentials.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.expect("the nats-server takes a client")
    }

    /// Whether it has the shipped users, so that the daemon is to be `pontoon`.
    pub fn has_shipped_users(&self) -> bool {
        self.options.shipped_users
    }

    /// What the shipped user of the daemon tried and may not do.
    pub fn violations(&self) -> Vec<String> {
        users::violations(&self.log()).into_iter().map(str::to_owned).collect()
    }

    /// Kills it (SIGKILL): what it had not written is lost.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again after [`NatsServer::kill`], on the same port and with the same store.
    ///
    /// # Panics
    /// As [`NatsOptions::start`].
    pub async fn restart(&mut self) {
        self.kill();
        self.run().await;
    }

    /// Stops it where it stands (SIGSTOP): its sockets stay open, and nothing answers.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&self) {
        self.running().freeze();
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&self) {
        self.running().thaw();
    }

    /// Replaces what [`NatsOptions::config`] gave, and has the server read it while it runs.
    ///
    /// # Panics
    /// If it does not run.
    pub fn reconfigure(&mut self, text: &str) {
        text.clone_into(&mut self.options.config);
        self.write_config();
        self.running().signal("HUP");
    }

    /// Its store of streams, to look at or to damage.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// What it has logged since it was first started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("the nats-server runs")
    }

    fn write_config(&self) -> PathBuf {
        let mut text = format!("listen: \"{}\"\n{}", self.address(), self.options.config);
        if self.options.jetstream {
            let most = self.options.max_file_store.as_ref();
            let most = most.map(|size| format!("max_file_store: {size}")).unwrap_or_default();
            let _ = writeln!(text, "\njetstream {{ store_dir: {:?}, {most} }}", self.store());
        }
        self.dir.write("nats.conf", &text)
    }

    async fn run(&mut self) {
        let end = Instant::now() + START;
        while !self.launch(end).await {
            // Another process may have taken the port, and may give it back.
            assert!(Instant::now() < end, "nats-server does not start:\n{}", self.log());
            sleep(POLL).await;
        }
    }

    /// Starts the process. Returns whether it listens; it has ended if it does not.
    async fn launch(&mut self, end: Instant) -> bool {
        let config = self.write_config();
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.expect("the server's log can be written");
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(config).arg("--ports_file_dir").arg(self.dir.path());
        command.stdout(log.try_clone().expect("a file has more than one handle")).stderr(log);
        let mut process = Process::spawn(&mut command, self.options.own_group);
        let name = self.binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ports = self.dir.path().join(format!("{name}_{}.ports", process.id()));
        while process.ended().is_none() {
            if ports.exists() {
                self.process = Some(process);
                return true;
            }
            assert!(Instant::now() < end, "nats-server does not listen:\n{}", self.log());
            sleep(POLL).await;
        }
        false
    }
}

impl Drop for NatsServer {
    /// In every test, the daemon must get by with what its user may do.
    fn drop(&mut self) {
        if self.options.shipped_users && !std::thread::panicking() {
            let violations = self.violations();
            assert!(violations.is_empty(), "the daemon's user may not do this:\n{}", violations.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "the daemon's user may not do this")]
    async fn what_the_daemons_user_may_not_do_fails_the_test() {
        let nats = NatsServer::options().shipped_users(&["shop"]).start().await;
        let options =
            async_nats::ConnectOptions::with_user_and_password("pontoon".into(), NatsServer::PASSWORD.into());
        let client = options.connect(nats.url()).await.unwrap();
        assert_eq!(nats.violations(), [""; 0]);
        client.publish("pontoon.command.sub0.shop.call.x", "".into()).await.unwrap();
        crate::eventually(START, async || !nats.violations().is_empty()).await;
    }
}
