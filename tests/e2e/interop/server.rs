//! The reference server as a child process: what it is ordered to do, and what it has seen. `server.js` lists both.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{env, thread};

use pontoon_testkit::{eventually, until_some};
use serde_json::{Value, json};

use crate::support::DEADLINE;

/// A server. It is killed when this value is dropped.
pub(crate) struct Server {
    options: Value,
    port: u16,
    process: Option<Process>,
    /// Over all its lives.
    reports: Arc<Mutex<Vec<Value>>>,
    orders: u64,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
}

impl Server {
    /// Starts one with these options, on a free port, and waits until it listens.
    pub(crate) async fn start(options: Value) -> Self {
        let mut server = Self { options, port: 0, process: None, reports: Arc::default(), orders: 0 };
        server.restart().await;
        server
    }

    /// Kills it (SIGKILL) if it runs, and starts it on the same port.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        // Another socket may have the port for a moment: also that of a connection that was being made to it.
        self.port = until_some(DEADLINE, async || self.launch()).await;
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it where it stands (SIGSTOP): its sockets stay open, and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Gives an order, and waits until it is carried out.
    pub(crate) async fn order(&mut self, order: Value) {
        let number = self.begin(order);
        eventually(DEADLINE, async || self.is_done(number)).await;
    }

    /// Gives an order that takes its time. Returns its number.
    pub(crate) fn begin(&mut self, mut order: Value) -> u64 {
        self.orders += 1;
        order["id"] = self.orders.into();
        let process = self.process.as_mut().expect("the server runs");
        writeln!(process.stdin, "{order}").expect("the server takes orders");
        self.orders
    }

    /// Whether an order was carried out.
    pub(crate) fn is_done(&self, number: u64) -> bool {
        self.saw("done").iter().any(|report| report["order"] == number)
    }

    /// An event for every client in the first namespace.
    pub(crate) async fn emit(&mut self, name: &str, args: Value) {
        self.order(json!({ "do": "emit", "name": name, "args": args })).await;
    }

    /// What it has reported of this kind.
    pub(crate) fn saw(&self, what: &str) -> Vec<Value> {
        let reports = self.reports.lock().unwrap();
        reports.iter().filter(|report| report["saw"] == what).cloned().collect()
    }

    /// Waits until it has reported so many of this kind.
    pub(crate) async fn sees(&self, what: &str, number: usize) -> Vec<Value> {
        until_some(DEADLINE, async || Some(self.saw(what)).filter(|seen| seen.len() >= number)).await
    }

    /// Waits until it has reported so many events with this name that clients have sent. What it answers may be here
    /// before its report.
    pub(crate) async fn receives(&self, name: &str, number: usize) -> Vec<Value> {
        let received = || self.saw("event").into_iter().filter(|event| event["name"] == name);
        until_some(DEADLINE, async || Some(received().collect::<Vec<_>>()).filter(|all| all.len() >= number))
            .await
    }

    /// Sends a signal such as `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("the server runs").child.id();
        let kill = format!("kill -{name} {id}");
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success(), "{kill}");
    }

    /// Returns its port, or `None` if it could not listen.
    fn launch(&mut self) -> Option<u16> {
        let mut options = self.options.clone();
        options["port"] = self.port.into();
        let mut child = script("server.js")
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let stdin = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        self.process = Some(Process { child, stdin });
        let first: Value = serde_json::from_str(&lines.next()?.ok()?).expect("JSON");
        let reports = Arc::clone(&self.reports);
        thread::spawn(move || {
            // The last line of one that is killed may be half a line.
            for report in lines.map_while(Result::ok).map_while(|line| serde_json::from_str(&line).ok()) {
                reports.lock().unwrap().push(report);
            }
        });
        Some(first["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a script of this folder with what npm installed.
fn script(name: &str) -> Command {
    // The package of the second engine runs this, too.
    let holds = |folder: &&Path| folder.join("tests/e2e/interop").is_dir();
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(holds).expect("the root of the checkout");
    let modules = root.join("target/tools/interop/node_modules");
    assert!(modules.is_dir(), "the reference server is missing; run `make tools`");
    let own = root.join("target/tools/node/bin/node");
    let node = match env::var_os("PONTOON_NODE") {
        Some(given) => given.into(),
        None if own.is_file() => own,
        None => PathBuf::from("node"),
    };
    let mut command = Command::new(node);
    command.arg(root.join("tests/e2e/interop").join(name)).env("NODE_PATH", modules);
    command
}

/// What fails between the server and the daemon is not the server's: the reference client has no complaints.
#[tokio::test]
async fn the_server_carries_out_orders_with_the_reference_client() {
    let output = tokio::task::spawn_blocking(|| script("selftest.js").output().expect("node runs"));
    let output = output.await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "ok\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
