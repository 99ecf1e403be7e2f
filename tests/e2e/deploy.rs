//! What is shipped for hosts and containers fits what it is about: the image's sources are there, its probe and its
//! signals are the daemon's, and the configuration beside it is a good one.

use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// An instruction of a Dockerfile, its arguments and the stage that it is in.
struct Instruction {
    stage: String,
    name: String,
    rest: String,
}

fn dockerfile() -> Vec<Instruction> {
    let text = read("deploy/Dockerfile");
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let mut stage = String::new();
    let mut all = Vec::new();
    for line in text.replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
        let (name, rest) = line.trim().split_once(' ').expect("an instruction has arguments");
        if name == "FROM" {
            rest.rsplit(" AS ").next().unwrap().clone_into(&mut stage);
        }
        all.push(Instruction { stage: stage.clone(), name: name.to_owned(), rest: rest.to_owned() });
    }
    all
}

/// The arguments of this instruction in a stage.
fn arguments<'a>(all: &'a [Instruction], stage: &str, name: &str) -> Vec<&'a str> {
    let its = all.iter().filter(|one| one.stage == stage && one.name == name);
    its.map(|one| one.rest.as_str()).collect()
}

/// The daemon with this configuration and these variables only: its exit code and output.
fn check(config: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
    command.env_clear().envs(variables.iter().copied());
    let output = command.args(["check", "--config"]).arg(root().join(config)).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

#[test]
fn the_image_is_made_from_what_is_there_and_from_nothing_else() {
    let all = dockerfile();
    let mut sources = Vec::new();
    for copy in arguments(&all, "sources", "COPY") {
        let mut paths: Vec<_> = copy.split_whitespace().collect();
        let target = paths.pop().unwrap();
        for path in &paths {
            assert!(root().join(path).exists(), "{path} is not there");
            assert!(target == "./" || target == *path, "{path} is put elsewhere: {target}");
        }
        sources.extend(paths);
    }
    let ignore = read(".dockerignore");
    let mut let_in: Vec<_> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    sources.sort_unstable();
    let_in.sort_unstable();
    assert_eq!(let_in, sources, ".dockerignore lets in what is copied");
    assert!(ignore.lines().any(|line| line == "*"));

    // Every stage that something is copied from is there.
    for one in all.iter().filter(|one| one.name == "COPY") {
        if let Some(from) = one.rest.strip_prefix("--from=") {
            let from = from.split(' ').next().unwrap();
            assert!(all.iter().any(|one| one.name == "FROM" && one.stage == from), "{from}");
        }
    }
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert_eq!(arguments(&all, "", "ARG"), [format!("RUST_VERSION={}", rust.trim_matches('"'))]);
}

#[test]
fn the_image_runs_without_privileges_stops_by_the_daemons_signal_and_asks_its_probe() {
    let all = dockerfile();
    let last = all.last().unwrap().stage.clone();
    assert_eq!(last, "pontoon", "what is built where no target is named");
    for stage in ["pontoon", "simulators"] {
        assert_eq!(arguments(&all, stage, "FROM"), [format!("scratch AS {stage}")]);
        assert_eq!(arguments(&all, stage, "USER"), ["65532:65532"]);
        assert_eq!(arguments(&all, stage, "STOPSIGNAL"), ["SIGTERM"]);
    }
    // There is no shell, so that every command is a list of arguments.
    assert_eq!(arguments(&all, &last, "ENTRYPOINT"), [r#"["/usr/bin/pontoon"]"#]);
    assert_eq!(arguments(&all, &last, "CMD"), [r#"["run"]"#]);
    let probe = arguments(&all, &last, "HEALTHCHECK");
    assert!(probe[0].ends_with(r#"CMD ["/usr/bin/pontoon", "health"]"#), "{probe:?}");
    let labels = arguments(&all, &last, "LABEL").concat();
    for label in ["title", "description", "version", "revision", "licenses"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=\"")), "{label}");
    }
    let version = format!("VERSION={}", env!("CARGO_PKG_VERSION"));
    assert!(arguments(&all, &last, "ARG").contains(&version.as_str()), "the image's version is the daemon's");
}

#[test]
fn the_demonstration_is_configured_well_and_mounts_what_is_there() {
    let compose = read("deploy/compose.yaml");
    let key = compose.lines().find_map(|line| line.trim().strip_prefix("MINCHAT_API_KEY: ")).unwrap();
    let keys = [("MINCHAT_API_KEY", key), ("AUI_NETWORK_API_KEY", key)];
    let (code, printed) = check("deploy/compose/pontoon.toml", &keys);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.starts_with("ok: 5 configured, 5 to run"), "{printed}");
    let warnings = printed.lines().filter(|line| line.starts_with("warning: "));
    assert!(warnings.clone().all(|line| line.contains("without encryption")), "{printed}");
    assert_eq!(check("deploy/compose/pontoon.toml", &[]).0, Some(78), "without the key it is not");

    // Each simulated service is where an instance looks for it.
    let config = read("deploy/compose/pontoon.toml");
    let services = compose.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once("=0.0.0.0:"));
    let services: Vec<_> = services.collect();
    assert_eq!(services.len(), 5);
    for (kind, port) in services {
        let table = config.split("[connectors.").find(|table| table.contains(&format!("type = \"{kind}\"")));
        assert!(table.unwrap().contains(&format!("//simulators:{port}")), "{kind}");
    }
    let mounts = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next());
    let mounts: Vec<_> = mounts.collect();
    assert!(mounts.len() >= 5, "{mounts:?}");
    for mount in mounts {
        assert!(root().join("deploy").join(mount).exists(), "deploy/{mount} is not there");
    }
}

#[test]
fn the_unit_waits_as_long_as_the_daemon_may_take_and_restarts_only_what_may_help() {
    let unit = read("deploy/systemd/pontoon.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let seconds = |key: &str| value(key).unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    let drain = pontoon::settings::Config::default().shutdown.timeout.0.as_secs();
    assert!(seconds("TimeoutStopSec") > drain);
    assert!(seconds("WatchdogSec") > 2 * pontoon::daemon::InstanceStatuses::STUCK.as_secs());
    assert_eq!((value("Type"), value("Restart")), (Some("notify"), Some("on-failure")));
    assert_eq!(value("RestartPreventExitStatus"), Some("78"));
    assert!(value("ExecStart").unwrap().ends_with("/pontoon --config /etc/pontoon/pontoon.toml run"));
}
