//! The real `pontoon` as a child process, and the configuration that it runs with.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::aui::Aui;
use crate::dir::Dir;
use crate::eliza::Eliza;
use crate::metrics::Metrics;
use crate::minchat::MinChat;
use crate::nats::NatsServer;
use crate::process::Process;
use crate::sub0::Sub0;
use crate::wait::until_some;

/// How long the daemon may take to listen, or to answer a request.
const ANSWER: Duration = Duration::from_secs(30);

/// The variables that a service manager sets.
const MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A configuration file in the making.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    text: String,
    environment: Vec<(String, String)>,
    own_group: bool,
}

impl DaemonConfig {
    /// The daemon against this server, with an admin endpoint on a free port.
    pub fn new(nats: &NatsServer) -> Self {
        Self::at(nats, &nats.url())
    }

    /// The same with another address, and with the credentials for this server.
    pub fn at(nats: &NatsServer, url: &str) -> Self {
        let config = Self::with_nats_url(url);
        if !nats.has_shipped_users() {
            return config;
        }
        config
            .with("nats.user = \"pontoon\"\nnats.password = { env = \"NATS_PASSWORD_OF_THE_TESTS\" }")
            .environment("NATS_PASSWORD_OF_THE_TESTS", NatsServer::PASSWORD)
    }

    /// The same with another address, such as a proxy's.
    pub fn with_nats_url(url: &str) -> Self {
        let text = format!("admin.listen = \"127.0.0.1:0\"\nnats.url = \"{url}\"\n");
        Self { text, environment: Vec::new(), own_group: false }
    }

    /// Several addresses of NATS instead of the one.
    #[must_use]
    pub fn nats_urls(mut self, urls: &[String]) -> Self {
        let (before, line) = self.text.split_once("nats.url = ").expect("there is an address");
        let rest = line.split_once('\n').map_or("", |(_, rest)| rest);
        self.text = format!("{before}nats.url = {urls:?}\n{rest}");
        self
    }

    /// Another address for the admin endpoint than a free port.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.text = self.text.replace("127.0.0.1:0", address);
        self
    }

    /// An instance of Sub0 at this simulator.
    #[must_use]
    pub fn sub0(self, instance: &str, sub0: &Sub0) -> Self {
        self.connector(instance, "sub0", &format!("url = \"{}\"", sub0.url()))
    }

    /// An instance of AUI at this simulator, with its key. All else may be added with [`DaemonConfig::with`].
    #[must_use]
    pub fn aui(self, instance: &str, aui: &Aui) -> Self {
        let settings = format!("url = \"{}\"\nnetwork_api_key = \"{}\"", aui.url(), aui.api_key());
        self.connector(instance, "aui", &settings)
    }

    /// An instance of ElizaOS at this simulator, with the key that it wants. Rooms and all else may be added with
    /// [`DaemonConfig::with`].
    #[must_use]
    pub fn eliza(self, instance: &str, eliza: &Eliza) -> Self {
        let key = eliza.api_key().map(|key| format!("\napi_key = \"{key}\"")).unwrap_or_default();
        self.connector(instance, "elizaos", &format!("url = \"{}\"{key}", eliza.url()))
    }

    /// An instance of MinChat at this simulator, with this user, in these chats.
    #[must_use]
    pub fn minchat(self, instance: &str, minchat: &MinChat, user: &str, chats: &[&str]) -> Self {
        let (url, key) = (minchat.url(), minchat.api_key());
        let settings =
            format!("url = \"{url}\"\napi_key = \"{key}\"\nuser_id = \"{user}\"\nchats = {chats:?}");
        self.connector(instance, "minchat", &settings)
    }

    /// An instance, with its settings as lines of TOML.
    #[must_use]
    pub fn connector(mut self, instance: &str, kind: &str, settings: &str) -> Self {
        let _ = writeln!(self.text, "\n[connectors.{instance}]\ntype = \"{kind}\"\n{settings}");
        self
    }

    /// More lines of TOML: keys with dots (`delivery.mode = "core"`) before the first instance, settings of an
    /// instance after it, or tables of their own.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        let _ = writeln!(self.text, "{lines}");
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A new process group, so that a Ctrl-C at the terminal does not reach the daemon.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// The environment variables.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The file.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A running daemon. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    config: DaemonConfig,
    log: Arc<Mutex<Vec<String>>>,
    /// Reads the log until the process ends.
    reader: Option<thread::JoinHandle<()>>,
    // Before the directory, so that the daemon is gone when its file is removed.
    process: Process,
    dir: Dir,
}

impl Daemon {
    /// Runs the daemon; in the root package's tests, `binary` is `env!("CARGO_BIN_EXE_pontoon")`. Returns at once.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn start(binary: impl AsRef<Path>, config: DaemonConfig) -> Self {
        let binary = binary.as_ref().to_owned();
        let dir = Dir::new("daemon");
        let log = Arc::default();
        let (process, reader) = launch(&binary, &config, &dir, &log);
        Self { binary, config, log, reader: Some(reader), process, dir }
    }

    /// The daemon beside the program that is running, or beside the folder of the test that is running.
    ///
    /// # Panics
    /// If there is none.
    pub fn binary_nearby() -> PathBuf {
        let program = env::current_exe().expect("a program knows its own file");
        let places = program.ancestors().skip(1).take(2).map(|dir| dir.join("pontoon"));
        places
            .into_iter()
            .find(|path| path.is_file())
            .expect("the daemon was not built; run `cargo build` first")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it, if it still runs, and runs it again with the same configuration.
    pub fn restart(&mut self) {
        self.kill();
        self.log.lock().unwrap().clear();
        let (process, reader) = launch(&self.binary, &self.config, &self.dir, &self.log);
        (self.process, self.reader) = (process, Some(reader));
    }

    /// Replaces the file. The daemon reads it on `SIGHUP`, or when it is restarted.
    pub fn reconfigure(&mut self, config: DaemonConfig) {
        self.dir.write("pontoon.toml", config.text());
        self.config = config;
    }

    // --- What it sends ---

    /// The address of its admin endpoint, as soon as it is logged.
    ///
    /// # Panics
    /// If it is not logged in time; the message shows the log.
    pub async fn admin(&mut self) -> String {
        let found = timeout(ANSWER, until_some(ANSWER * 2, async || self.admin_logged())).await;
        found.unwrap_or_else(|_| panic!("the daemon does not listen:\n{}", self.log()))
    }

    /// Where an instance listens for services, as soon as it is logged.
    ///
    /// # Panics
    /// If it is not logged in time; the message shows the log.
    pub async fn listener(&mut self, instance: &str) -> String {
        let logged = async || {
            let lines = self.logged("listening");
            let line = lines.iter().rfind(|line| field(line, "instance") == Some(instance))?;
            field(line, "url").map(str::to_owned)
        };
        let found = timeout(ANSWER, until_some(ANSWER * 2, logged)).await;
        found.unwrap_or_else(|_| panic!("the instance does not listen:\n{}", self.log()))
    }

    /// The metrics.
    ///
    /// # Panics
    /// If they cannot be had.
    pub async fn metrics(&mut self) -> Metrics {
        let (status, body) = self.get("/metrics").await;
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Status and body of an admin page.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn get(&mut self, path: &str) -> (u16, String) {
        let address = self.admin().await;
        let answer = timeout(ANSWER, get(&address, path)).await.expect("the admin endpoint answers in time");
        answer.unwrap_or_else(|error| panic!("GET {path} from {address}: {error}\n{}", self.log()))
    }

    /// Waits until `/readyz` replies 200.
    ///
    /// # Panics
    /// If it does not within `deadline`; the message shows the log.
    pub async fn ready(&mut self, deadline: Duration) {
        let address = self.admin().await;
        let ready = async || matches!(get(&address, "/readyz").await, Ok((200, _)));
        let ready = timeout(deadline, until_some(deadline * 2, async || ready().await.then_some(()))).await;
        assert!(ready.is_ok(), "the daemon is not ready within {deadline:?}:\n{}", self.log());
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until it has logged this text: a line may come a moment after what it reports.
    ///
    /// # Panics
    /// If it does not in time; the message shows the log.
    pub async fn logs(&self, text: &str) {
        let logged = async || self.log().contains(text).then_some(());
        let found = timeout(ANSWER, until_some(ANSWER * 2, logged)).await;
        assert!(found.is_ok(), "{text:?} is not logged:\n{}", self.log());
    }

    /// The lines of the log with this message, as JSON.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| field(line, "message") == Some(message)).collect()
    }

    /// How much memory it holds, in bytes.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of kB") * 1024
    }

    /// How many files it has open, sockets among them.
    ///
    /// # Panics
    /// If it does not run.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the daemon runs").count()
    }

    // --- What is done to it ---

    /// Sends a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Stops it where it stands: its sockets stay open.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Kills it (SIGKILL). Its log is complete then.
    pub fn kill(&mut self) {
        self.process.kill();
        self.read_log_to_end();
    }

    /// Waits until it ends, and its log is complete. Returns its exit code; `None` if a signal ended it.
    ///
    /// # Panics
    /// If it does not end within `deadline`; the message shows the log.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Option<i32> {
        let process = &mut self.process;
        let status = timeout(deadline, until_some(deadline * 2, async || process.ended())).await;
        let status = status.unwrap_or_else(|_| panic!("the daemon runs after {deadline:?}:\n{}", self.log()));
        self.read_log_to_end();
        status.code()
    }

    /// Waits for the rest of the log of a process that has ended.
    fn read_log_to_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log can be read");
        }
    }

    fn admin_logged(&mut self) -> Option<String> {
        let line = self.logged("admin listens").pop();
        if line.is_none()
            && let Some(status) = self.process.ended()
        {
            panic!("the daemon ended with {status}:\n{}", self.log());
        }
        Some(field(&line?, "address")?.to_owned())
    }
}

/// Runs the daemon. Returns the thread that reads its log, too.
fn launch(
    binary: &Path,
    config: &DaemonConfig,
    dir: &Dir,
    log: &Arc<Mutex<Vec<String>>>,
) -> (Process, thread::JoinHandle<()>) {
    let file = dir.write("pontoon.toml", config.text());
    let mut command = Command::new(binary);
    command.args(["run", "--config"]).arg(file).current_dir(dir.path());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    // The settings, service manager and proxy of the environment that runs the tests are not the daemon's.
    let theirs = |name: &str| {
        name.starts_with("PONTOON_")
            || MANAGER.contains(&name)
            || name.to_ascii_lowercase().ends_with("_proxy")
    };
    for (name, _) in env::vars_os().filter(|(name, _)| theirs(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.envs(config.variables());
    let mut process = Process::spawn(&mut command, config.own_group);
    let lines = BufReader::new(process.stderr()).split(b'\n');
    let mut copy = fs::File::create(dir.path().join("log")).expect("the daemon's log can be written");
    let log = Arc::clone(log);
    let reader = thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let _ = writeln!(copy, "{line}");
            log.lock().unwrap().push(line);
        }
    });
    (process, reader)
}

/// A field of a line of the log, wherever the format puts it.
fn field<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    line.get(name).or_else(|| line.get("fields")?.get(name))?.as_str()
}

async fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    status.map(|status| (status, body)).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// The body without the sizes of its chunks (RFC 9112 §7.1).
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunked("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789");
    }

    #[test]
    fn a_field_is_found_in_both_formats() {
        let flat = serde_json::json!({"message": "a"});
        let nested = serde_json::json!({"fields": {"message": "a"}});
        assert_eq!((field(&flat, "message"), field(&nested, "message")), (Some("a"), Some("a")));
    }
}
