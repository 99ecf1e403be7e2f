//! Where and with which versions was measured.

use std::fs;
use std::process::Command;

use time::OffsetDateTime;

use crate::contender::Programs;

/// The machine in a line.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let memory = memory.unwrap_or_default() / 1024.0 / 1024.0;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, {memory:.0} GiB, Linux {}", kernel.trim())
}

/// The date in UTC.
pub(crate) fn date() -> String {
    let now = OffsetDateTime::now_utc();
    format!("{}-{:02}-{:02}", now.year(), u8::from(now.month()), now.day())
}

/// How many processes wanted to run, over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The versions of everything that takes part.
pub(crate) fn versions(programs: &Programs) -> Vec<String> {
    let mut all = Vec::new();
    let commit = output(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
    let changed = output(Command::new("git").args([
        "status",
        "--porcelain",
        "--untracked-files=no",
        "src",
        "connectors",
    ]));
    let changed = if changed.as_deref().is_some_and(|text| !text.is_empty()) { " with changes" } else { "" };
    all.extend(
        output(Command::new(&programs.pontoon).arg("--version"))
            .map(|version| format!("{version} ({}{changed})", commit.as_deref().unwrap_or("no commit"))),
    );
    let nats = pontoon_testkit::NatsServer::version();
    all.push(format!("nats-server {}", nats.iter().map(u32::to_string).collect::<Vec<_>>().join(".")));
    all.extend(output(Command::new("rustc").arg("--version")));
    all.extend(["async-nats", "tokio-tungstenite", "rust_socketio"].iter().filter_map(|name| locked(name)));
    if let Some(node) = &programs.node {
        all.extend(output(Command::new(node).arg("--version")).map(|version| format!("Node.js {version}")));
        all.extend(dependencies());
    }
    if let Some(python) = &programs.python {
        all.extend(output(Command::new(python).arg("--version")));
        let script = "from importlib.metadata import version as v\n\
                      print('websockets ' + v('websockets') + ', nats-py ' + v('nats-py'))";
        all.extend(output(Command::new(python).args(["-c", script])));
    }
    all
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a crate in our lock.
fn locked(name: &str) -> Option<String> {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
    let text = fs::read_to_string(lock).ok()?;
    let versions =
        text.split("[[package]]").filter(|package| package.contains(&format!("name = \"{name}\"\n")));
    // The newest, where there are two: the last.
    let package = versions.last()?;
    let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(format!("{name} {}", version.trim_matches('"')))
}

/// What the Node scripts depend on.
fn dependencies() -> Vec<String> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/contenders/node/package.json");
    let text = fs::read_to_string(file).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let dependencies = package["dependencies"].as_object().cloned().unwrap_or_default();
    dependencies.iter().map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?"))).collect()
}
