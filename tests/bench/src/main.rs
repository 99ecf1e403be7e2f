//! Measures Pontoon beside what people would write instead: a loop in Rust, a script for Node.js, one in Python.
//!
//! `pontoon-bench [--full | --smoke] [--only W1] [FOLDER]` writes `results.md` and `results.svg` into the folder, `tests/bench` unless
//! another is named; with `--only` it prints the results of the workloads whose numbers begin so. `make bench` builds and fetches what it needs. It ends with 1 if a run of Pontoon is void.
//!
//! * [`section`]: the workloads; [`runs`]: one run of one contender; [`contender`]: how each is started
//! * [`service`]: what sends the messages; [`caller`]: what makes the requests
//! * [`nats`], [`tally`]: what receives the events, and counts what is lost, doubled or reordered
//! * [`probe`]: what Pontoon makes of a message, which the others are to make, too
//! * [`usage`]: CPU time and memory; [`machine`]: where it runs; [`report`], [`plot`]: the results

// A harness: what cannot be set up ends it, with the reason.
#![allow(clippy::unwrap_used)]

mod caller;
mod contender;
mod machine;
mod nats;
mod plot;
mod probe;
mod report;
mod runs;
mod section;
mod service;
mod tally;
mod tls;
mod usage;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use contender::Programs;
use report::About;
use runs::Bench;
use section::{Extent, Runner};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pontoon-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every run of Pontoon counts.
fn run() -> io::Result<bool> {
    let (mut extent, mut command) = (Extent::usual(), "make bench");
    let mut folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (mut only, mut arguments) = (String::new(), std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only = arguments.next().unwrap_or_default(),
            "--full" => (extent, command) = (Extent::full(), "make bench FULL=1"),
            "--smoke" => (extent, command) = (Extent::smoke(), "pontoon-bench --smoke"),
            other if other.starts_with('-') => {
                return Err(io::Error::other("usage: pontoon-bench [--full | --smoke] [--only W1] [FOLDER]"));
            }
            other => folder = other.into(),
        }
    }
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bench = Bench { programs: Programs::find()?, runtime, warm_up: extent.warm_up };
    let versions = machine::versions(&bench.programs);
    let before = machine::load();
    let mut runner = Runner::new(&bench, &extent, only.clone());
    runner.run()?;
    let missing = runner.missing.iter();
    let about = About {
        date: machine::date(),
        machine: machine::machine(),
        versions,
        load: (before, machine::load()),
        missing: missing.map(|(contender, reason)| format!("{} ({reason})", contender.name())).collect(),
        rounds: extent.rounds,
        command: command.to_owned(),
    };
    let (text, took) = (report::markdown(&about, &runner.sections), start.elapsed().as_secs());
    if only.is_empty() {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("results.md"), text)?;
        std::fs::write(folder.join("results.svg"), plot::svg(&about, &runner.sections))?;
        eprintln!("{} and results.svg, in {took} s", folder.join("results.md").display());
    } else {
        println!("{text}");
    }
    let void = runner.sections.iter().filter_map(|section| section.rows.first());
    Ok(void.flat_map(|row| row.faults()).next().is_none())
}
