//! What people watch the daemon with: the rules, scrape configurations and the dashboard in `deploy/`, held to the real
//! daemon by the real Prometheus.
//!
//! * `prometheus`: a running Prometheus with what is shipped, made faster
//! * `shipped`: what can be checked of the files without a daemon
//! * `alerts`: what breaks is seen, and seen to be well again
//! * `expressions`: everything that is asked has an answer
//! * `exemplars`: the traces of commands
//! * `links`: which links count as wanted, and which as down

mod alerts;
mod exemplars;
mod expressions;
mod links;
mod prometheus;
mod shipped;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long anything may take that is not itself a matter of time. Prometheus looks once a second.
const DEADLINE: Duration = Duration::from_secs(120);

/// A file or folder of `deploy/`.
fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// What is in it.
fn shipped(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// A program of Prometheus': the one that is named, else the one that was fetched. `None` only where it could not be had
/// and that is accepted.
fn program(name: &str) -> Option<PathBuf> {
    let variable = format!("PONTOON_{}", name.to_uppercase());
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name);
    if let Some(named) = std::env::var_os(&variable) {
        return Some(named.into());
    }
    if fetched.is_file() {
        return Some(fetched);
    }
    let needed = std::env::var_os("PONTOON_WITHOUT_DEBIAN").is_none();
    assert!(!needed, "there is no {name}: run `make tools`, or name one in {variable}");
    eprintln!("not tested: there is no {name}");
    None
}
