//! The static binary where an image has it: in a root without a system, with a file of names and one of certificate
//! authorities. `make static` builds it and runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use async_nats::ConnectOptions;
use futures_util::StreamExt as _;
use pontoon_testkit::{Dir, NatsServer, eventually, until_some};

const DEADLINE: Duration = Duration::from_secs(60);
/// What the image has of a system, and where it looks for its configuration.
const FILES: [&str; 4] =
    ["etc/hosts", "etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt", "etc/pontoon/pontoon.toml"];
/// The instances of the demonstration: the type of each, its name in upper case, and how its URL begins and ends.
const INSTANCES: [(&str, &str, &str, &str); 3] =
    [("sub0", "SHOP", "ws", "/ws"), ("elizaos", "AGENTS", "http", "/"), ("minchat", "SUPPORT", "http", "/")];

/// A root with the static binary and nothing else that could be run.
struct Image {
    root: Dir,
    enter: Vec<String>,
    environment: BTreeMap<String, String>,
}

/// A process that does not outlive its guard.
struct Running(Child);

impl Image {
    fn new(authority: &str) -> Self {
        let binary =
            std::env::var("PONTOON_STATIC").expect("`make static` names the binary in PONTOON_STATIC");
        let root = Dir::new("image");
        for file in FILES.into_iter().chain(["usr/bin/pontoon"]) {
            fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
        }
        fs::copy(binary, root.path().join("usr/bin/pontoon")).unwrap();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/compose/pontoon.toml");
        let config = fs::read_to_string(config).unwrap();
        let texts = ["127.0.0.1 localhost nats simulators\n", "nameserver 127.0.0.1\n", authority, &config];
        for (file, text) in FILES.into_iter().zip(texts) {
            root.write(file, text);
        }
        let enter = Self::way_in(root.path());
        Self { root, enter, environment: BTreeMap::new() }
    }

    /// How this system lets us make a folder the root: as root itself, and then as the user nobody inside, or in
    /// a namespace.
    fn way_in(root: &Path) -> Vec<String> {
        let ways: [&[&str]; 2] =
            [&["chroot", "--userspec=65532:65532"], &["unshare", "--map-root-user", "chroot"]];
        let way = ways.into_iter().find(|way| {
            let trial = Command::new(way[0])
                .args(&way[1..])
                .arg(root)
                .args(["/usr/bin/pontoon", "--version"])
                .output();
            trial.is_ok_and(|output| output.status.success())
        });
        let way = way.expect("neither chroot nor unshare makes a folder the root here");
        way.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The daemon's command line, with the variables of the container alone.
    fn pontoon(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]).arg(self.root.path()).arg("/usr/bin/pontoon").args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(&self.environment);
        command
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.insert(name.to_owned(), value.into());
    }
}

impl Running {
    async fn ended(&mut self) -> ExitStatus {
        until_some(DEADLINE, async || self.0.try_wait().unwrap()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The simulators on ports that are free, and the port of each type.
fn simulators() -> (Running, BTreeMap<String, String>) {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_pontoon")).with_file_name("pontoon-demo");
    let places = INSTANCES.map(|(kind, ..)| format!("{kind}=127.0.0.1:0"));
    let mut command = Command::new(beside);
    let mut child = command.arg("simulators").args(places).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // "Sub0 at 127.0.0.1:40123, and more of it", in the order in which they were named.
    let ports = INSTANCES.map(|(kind, ..)| {
        let line = lines.next().unwrap().unwrap();
        let address = line.split(" at ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        (kind.to_owned(), address.rsplit(':').next().unwrap().to_owned())
    });
    (Running(child), BTreeMap::from(ports))
}

#[tokio::test]
async fn in_an_empty_root_it_looks_up_names_trusts_what_the_image_trusts_and_carries_events() {
    let names = ["nats", "localhost", "127.0.0.1"].map(str::to_owned);
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let files = Dir::new("certificate");
    let cert = files.write("cert.pem", &certified.cert.pem());
    let key = files.write("key.pem", &certified.signing_key.serialize_pem());
    let tls = format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}");
    let nats = NatsServer::options().config(&tls).start().await;
    let client = ConnectOptions::new().add_root_certificates(cert).connect(nats.url()).await.unwrap();
    let mut events = client.subscribe("pontoon.event.>").await.unwrap();
    let (_simulators, ports) = simulators();

    let mut image = Image::new(&certified.cert.pem());
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    image.set("MINCHAT_API_KEY", "key-of-the-demo");
    image.set("AUI_NETWORK_API_KEY", "key-of-the-demo");
    image.set("PONTOON_NATS__URL", format!("tls://nats:{}", port(&nats.url())));
    image.set("PONTOON_ADMIN__LISTEN", free.to_string());
    for (kind, instance, scheme, path) in INSTANCES {
        let url = format!("{scheme}://simulators:{}{path}", ports[kind]);
        image.set(&format!("PONTOON_CONNECTORS__{instance}__URL"), url);
    }

    let output = image.pontoon(&["check"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = files.path().join("log");
    let stderr = fs::File::create(&log).unwrap();
    let mut daemon = Running(image.pontoon(&["run"]).stderr(stderr).spawn().unwrap());
    let mut silent: Vec<_> =
        INSTANCES.iter().map(|(kind, instance, ..)| format!("{kind}.{}.", instance.to_lowercase())).collect();
    let all_received = async {
        while let Some(event) = events.next().await {
            silent.retain(|instance| !event.subject.contains(instance.as_str()));
            if silent.is_empty() {
                break;
            }
        }
    };
    let received = tokio::time::timeout(DEADLINE, all_received).await;
    let log_text = || fs::read_to_string(&log).unwrap();
    assert!(received.is_ok(), "nothing of {silent:?}:\n{}", log_text());

    // The image's own probe, which has no shell and no flags to go by.
    eventually(DEADLINE, async || {
        let output = image.pontoon(&["health"]).output().unwrap();
        // What does not keep it from being ready may follow.
        output.status.success() && output.stdout.starts_with(b"ok\n")
    })
    .await;
    let term = format!("kill -TERM {}", daemon.0.id());
    assert!(Command::new("sh").args(["-c", &term]).status().unwrap().success());
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", log_text());
    let output = image.pontoon(&["health"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
