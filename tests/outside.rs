//! That anybody can add a connector and a transport: `tests/outside/` does, in a crate that is not in this workspace. Its
//! own tests play its transcripts, and run the binary that it builds between NATS and its service.

// Test code: what should not be fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn a_crate_outside_the_workspace_builds_a_daemon_of_its_own_and_passes_its_tests() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is within the target folder");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(ROOT).args(["test", "--locked", "--manifest-path", "tests/outside/Cargo.toml"]);
    // What both are made of is there already.
    cargo.arg("--target-dir").arg(target);
    // Some build scripts run again when these change, as they do from the cargo that runs this test to the one it runs.
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_"];
    for (name, _) in env::vars_os() {
        if ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().expect("cargo runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}\n{out}\nIf it is the lock, run `make outside-lock`.");
    println!("{err}\n{out}");
}

#[test]
fn its_lock_holds_nothing_that_ours_does_not() {
    let ours = packages("Cargo.lock");
    let more: Vec<_> = packages("tests/outside/Cargo.lock").difference(&ours).cloned().collect();
    assert!(more.is_empty(), "these are not in ours, run `make outside-lock`: {more:#?}");
}

/// What a lock has from elsewhere: name, version, source and checksum of each.
fn packages(lock: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(lock)).expect("the lock is there");
    let packages = text.split("[[package]]\n").filter_map(|package| {
        let (described, _) = package.split_once("\ndependencies = ").unwrap_or((package, ""));
        described.contains("\nsource = ").then(|| described.trim().to_owned())
    });
    packages.collect()
}
