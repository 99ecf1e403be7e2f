//! The promise under random faults: every event that a service sent and that the streams lack lies inside a gap; no gap is
//! published without a cause; nothing is stored twice or out of order.
//!
//! Each run is drawn from a seed: a nats-server, the daemon with two instances, and two services that send numbered events,
//! under kills, freezes, outages, deletions, full disks, reloads, breaks and clocks that are set. `PONTOON_CHAOS_RUNS` is the
//! number of runs, `PONTOON_CHAOS_SEED` repeats one, or begins with it where there are more.
//!
//! A long run has commands and jobs, too, and a fault every few seconds, until `PONTOON_CHAOS_EVENTS` were sent.
//! `PONTOON_CHAOS_CLUSTER=1` has three nats-servers, `PONTOON_CHAOS_STORAGE` is `memory`, `process` or `power`.

mod bridge;
mod callers;
mod disk;
mod faketime;
mod history;
mod oracle;
mod plan;
mod report;
mod servers;
mod source;
mod stream;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use self::faketime::FakeTime;
use self::plan::{Plan, Storage};
use self::report::Report;

/// How many runs there are unless the environment sets another number.
const RUNS: u64 = 10;
/// From so many runs on, every kind of fault must have been among them.
const ENOUGH: u64 = 200;
/// How many kinds there are, besides the clock's and none at all.
const KINDS: usize = 15;

#[test]
fn what_is_lost_lies_inside_a_gap_and_no_gap_is_without_a_cause() {
    let given = variable("PONTOON_CHAOS_SEED");
    let runs = variable("PONTOON_CHAOS_RUNS").unwrap_or(if given.is_some() { 1 } else { RUNS });
    // The short form of the tests draws the same runs each time; `make chaos` draws others.
    let short = variable("PONTOON_CHAOS_RUNS").is_none();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    let first = given.unwrap_or(if short { 60_000 } else { now.as_secs() << 16 });
    let fake_time = FakeTime::library().is_some();
    if !fake_time {
        println!("no clock is set in these runs: there is no libfaketime; run `make tools`");
    }
    println!("{runs} runs from seed {first} on");
    let (next, report) = (AtomicU64::new(0), Mutex::new(Report::default()));
    thread::scope(|scope| {
        // Runs wait most of the time.
        let side_by_side = thread::available_parallelism().map_or(2, |cores| cores.get() * 2);
        for _ in 0..side_by_side {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs {
                        return;
                    }
                    let plan = Plan::draw(first + run, fake_time);
                    let outcome = carry_out(&plan);
                    report.lock().expect("no thread panics with it").add(&plan, outcome);
                }
            });
        }
    });
    let report = report.into_inner().expect("no thread panicked with it");
    println!("{report}");
    assert!(report.is_kept(), "the promise was broken; see above");
    let kinds = KINDS + usize::from(fake_time);
    let done = report.faults().values().filter(|number| **number > 0).count();
    assert!(runs < ENOUGH || done >= kinds, "{done} of {kinds} kinds of faults were among the runs");
}

/// How many events a long run has, and its seed, unless the environment sets others.
const EVENTS: u64 = 12_000;
const SEED: u64 = 7;

#[test]
fn in_a_long_run_nothing_that_was_accepted_is_lost_and_no_status_claims_too_much() {
    let events = variable("PONTOON_CHAOS_EVENTS").unwrap_or(EVENTS);
    let seed = variable("PONTOON_CHAOS_SEED").unwrap_or(SEED);
    let storage = match std::env::var("PONTOON_CHAOS_STORAGE").as_deref() {
        Ok("memory") => Storage::Memory,
        Ok("power") => Storage::Disk("power"),
        Ok("process") | Err(_) => Storage::Disk("process"),
        Ok(other) => panic!("PONTOON_CHAOS_STORAGE is memory, process or power, not {other:?}"),
    };
    let is_cluster = variable("PONTOON_CHAOS_CLUSTER") == Some(1);
    let plan = Plan::long(seed, usize::try_from(events).expect("small"), is_cluster, storage);
    println!("{events} events from seed {seed}, {storage:?}, {} steps", plan.steps.len());
    let mut report = Report::default();
    report.add(&plan, carry_out(&plan));
    println!("{report}");
    assert!(report.is_kept(), "the promise was broken; see above");
}

/// Runs on new threads, so that a run that panics ends alone.
fn carry_out(plan: &Plan) -> Result<bridge::Outcome, String> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(bridge::run(plan))
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}
