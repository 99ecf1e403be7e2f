//! Daemons that are killed and stopped while jobs are under way: each job has one result, which claims no more than is
//! known, and none is done twice unless it may be.
//!
//! `PONTOON_JOBS` and `PONTOON_JOBS_KILLS` set how many jobs and kills the long test has.

use std::collections::BTreeMap;
use std::time::Duration;

use pontoon_testkit::{Daemon, DaemonConfig, Dir, NatsServer, Resource, Sub0, eventually};
use serde_json::json;

use super::service::Client;
use crate::support::{DEADLINE, start};

/// How many jobs and kills there are unless the environment sets other numbers.
const JOBS: usize = 300;
const KILLS: usize = 5;
/// Every job of this place may be done twice.
const REPEATABLE: usize = 5;
const LONG: (&str, &str) = ("Pontoon-Expires", "30m");

struct Fixture {
    daemon: Daemon,
    sub0: Sub0,
    jobs: Client,
    _nats: NatsServer,
    _folder: Dir,
}

impl Fixture {
    /// With a record of intents on disk, or in memory.
    async fn start(on_disk: bool, lines: &str) -> Self {
        let (nats, sub0, folder) = (NatsServer::start().await, Sub0::start().await, Dir::new("state"));
        let mut config = DaemonConfig::new(&nats).with(lines);
        if on_disk {
            config = config.with(&format!("delivery.spool.path = {:?}", folder.path()));
        }
        let daemon = start(config.sub0("shop", &sub0));
        let jobs = Client::new(&nats, "pontoon.job.sub0.shop").await;
        sub0.connected(1, DEADLINE).await;
        Self { daemon, sub0, jobs, _nats: nats, _folder: folder }
    }

    /// Waits until the service was called so often.
    async fn called(&self, resource: &str, times: usize) {
        eventually(DEADLINE, async || self.sub0.calls(resource).len() == times).await;
    }

    async fn waiting(&mut self, number: u64) {
        let daemon = &mut self.daemon;
        let labels = [("pontoon_instance", "shop")];
        eventually(DEADLINE, async || {
            daemon.metrics().await.value("pontoon_jobs_waiting", &labels) == Some(number as f64)
        })
        .await;
    }
}

#[tokio::test]
async fn a_job_that_was_written_when_the_daemon_was_killed_is_unknown_or_sent_again_if_it_may_be() {
    let mut fixture = Fixture::start(true, "").await;
    for resource in ["once", "again"] {
        fixture.sub0.resource(resource, Resource::nothing());
    }
    fixture.jobs.publish("call.once", Some("once"), "{}", &[LONG]).await;
    let headers = [LONG, ("Pontoon-Repeat", "true"), ("Pontoon-Action", "other")];
    fixture.jobs.publish("call.again", Some("again"), "{}", &headers).await;
    fixture.called("once", 1).await;
    fixture.called("again", 1).await;
    fixture.daemon.kill();
    for resource in ["once", "again"] {
        fixture.sub0.resource(resource, Resource::echo());
    }
    fixture.daemon.restart();
    let mut results = [fixture.jobs.next(|_| true).await, fixture.jobs.next(|_| true).await];
    results.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(results.each_ref().map(|result| result.id.as_str()), ["again", "once"]);
    let verdicts = results.each_ref().map(|result| result.verdict());
    assert_eq!(verdicts, [("response", None), ("unknown", Some("504"))]);
    fixture.jobs.queue_is_empty().await;
    assert_eq!((fixture.sub0.calls("once").len(), fixture.sub0.calls("again").len()), (1, 2));
}

#[tokio::test]
async fn a_job_that_was_not_written_when_the_daemon_was_killed_is_done_by_the_next() {
    let mut fixture = Fixture::start(true, "").await;
    fixture.sub0.stop_listening().await;
    fixture.sub0.cut();
    fixture.jobs.publish("call.x", Some("kept"), "{}", &[LONG]).await;
    fixture.waiting(1).await;
    fixture.daemon.restart();
    fixture.sub0.listen_again().await;
    assert_eq!(fixture.jobs.result("kept").await.verdict(), ("response", None));
    assert_eq!(fixture.sub0.calls("x").len(), 1);
}

#[tokio::test]
async fn in_memory_a_stopped_daemon_hands_its_jobs_on_and_a_killed_one_leaves_them_unknown() {
    let mut fixture = Fixture::start(false, "").await;
    fixture.sub0.stop_listening().await;
    fixture.sub0.cut();
    fixture.jobs.publish("call.x", Some("stopped"), "{}", &[LONG]).await;
    fixture.waiting(1).await;
    fixture.daemon.signal("TERM");
    assert_eq!(fixture.daemon.wait_exit(DEADLINE).await, Some(0));
    fixture.daemon.restart();
    fixture.waiting(1).await;
    fixture.sub0.listen_again().await;
    assert_eq!(fixture.jobs.result("stopped").await.verdict(), ("response", None));
    assert_eq!(fixture.sub0.calls("x").len(), 1);

    fixture.sub0.stop_listening().await;
    fixture.sub0.cut();
    fixture.jobs.publish("call.x", Some("killed"), "{}", &[LONG]).await;
    fixture.waiting(1).await;
    fixture.daemon.restart();
    fixture.sub0.listen_again().await;
    assert_eq!(fixture.jobs.result("killed").await.verdict(), ("unknown", Some("504")));
    // What is published after that is not suspect.
    fixture.jobs.publish("call.x", Some("new"), "{}", &[LONG]).await;
    assert_eq!(fixture.jobs.result("new").await.verdict(), ("response", None));
}

#[tokio::test]
async fn each_job_has_one_result_and_none_is_done_twice_however_often_the_daemon_is_killed() {
    let jobs = variable("PONTOON_JOBS").unwrap_or(JOBS);
    let kills = variable("PONTOON_JOBS_KILLS").unwrap_or(KILLS);
    let mut fixture = Fixture::start(true, "jobs.max_bytes = \"64MiB\"").await;
    let resource = |number: usize| format!("r{}", number % 16);
    for number in 0..16 {
        fixture.sub0.resource(&resource(number), Resource::echo().after(Duration::from_millis(2)));
    }
    let publish = async |from: usize, to: usize| {
        for number in from..to {
            let repeat = if number.is_multiple_of(REPEATABLE) { "true" } else { "false" };
            let (action, headers) = (resource(number), [LONG, ("Pontoon-Repeat", repeat)]);
            let headers = [headers.as_slice(), &[("Pontoon-Action", action.as_str())]].concat();
            let (operation, id) = (format!("call.{action}"), format!("job-{number}"));
            fixture.jobs.publish(&operation, Some(&id), &json!({ "n": number }).to_string(), &headers).await;
        }
    };
    let calls = || (0..16).map(|number| fixture.sub0.calls(&resource(number)).len()).sum::<usize>();
    for kill in 0..kills {
        let share = |kill: usize| jobs * kill / kills;
        publish(share(kill), share(kill + 1)).await;
        // Somewhere among the jobs of this round, and at another place in each.
        let wanted = share(kill) + (share(kill + 1) - share(kill)) * (kill * 7 % 10 + 1) / 12;
        eventually(DEADLINE * 4, async || calls() >= wanted).await;
        fixture.daemon.restart();
    }
    fixture.jobs.queue_is_empty().await;
    let mut done = vec![0_usize; jobs];
    for number in 0..16 {
        for call in fixture.sub0.calls(&resource(number)) {
            done[usize::try_from(call["payload"]["n"].as_u64().expect("a number")).expect("small")] += 1;
        }
    }
    let results = fixture.jobs.results().await;
    let (mut outcomes, mut unknown_and_done, mut repeated) = (BTreeMap::<String, usize>::new(), 0, 0);
    let mut seen = vec![0_usize; jobs];
    for result in &results {
        let number: usize = result.id.strip_prefix("job-").expect("ours").parse().expect("a number");
        seen[number] += 1;
        *outcomes.entry(result.status.clone()).or_default() += 1;
        let (times, repeatable) = (done[number], number.is_multiple_of(REPEATABLE));
        assert!(times <= 1 || repeatable, "job {number} was done {times} times: {result:?}");
        repeated += usize::from(times > 1);
        match result.status.as_str() {
            "response" => assert!(times >= 1, "job {number} was not done: {result:?}"),
            "unknown" => {
                assert!(!repeatable, "job {number} is sent again: {result:?}");
                unknown_and_done += times;
            }
            _ => panic!("job {number} has another result: {result:?}"),
        }
    }
    println!(
        "{jobs} jobs, {kills} kills: {outcomes:?}; of the unknown ones {unknown_and_done} were done; {repeated} of those \
         that may be were done more than once"
    );
    let odd: Vec<_> = seen.iter().enumerate().filter(|(_, times)| **times != 1).collect();
    assert!(odd.is_empty(), "not one result each: {odd:?}");
}

fn variable(name: &str) -> Option<usize> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}
