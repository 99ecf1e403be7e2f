//! Daemons that are killed, stopped for a while, ended, cut off from NATS and started again in turn, while a service sends
//! events and callers send commands.
//!
//! `make cluster` runs it at full length. `PONTOON_CLUSTER_FAULTS` names the kinds of faults and how many there are of each,
//! `PONTOON_CLUSTER_SEED` draws their order, the daemons and the pauses, `PONTOON_CLUSTER_INSTANCES`, `_SERVERS` and `_TTL` are
//! how many instances and servers of NATS there are, and the seconds of a lease; `PONTOON_CLUSTER_ON_NATS_LOSS` is the setting.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use pontoon_testkit::INSTANCES;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::fixture::{Fixture, Settings};
use super::history::Outcome;
use super::service::{late_writes, overlaps};
use super::traffic::Traffic;
use crate::support::{DEADLINE, contents, listen};

const FAULTS: &str = "kill=1,freeze=1,stop=1,cut=1,roll=1";
const NAMES: [&str; 3] = ["a", "b", "c"];
/// How long a daemon is stopped, if another one has taken over by then.
const FROZEN: Duration = Duration::from_secs(10);
/// The longest pause behind a fault, in milliseconds.
const PAUSE: u64 = 2_000;
/// A take-over that takes so much longer than a lease is printed.
const LATE: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn three_servers_with_three_replicas_keep_one_owner_for_each_instance_while_one_of_them_is_away() {
    let settings = Settings { servers: 3, ttl: 5, ..Settings::default() };
    let mut fixture = Fixture::start(settings, &["a", "b", "c"]).await;
    let owner = fixture.settled("shop").await;
    fixture.sub0.broadcast("tick", &json!({"n": 1}));
    fixture.stored(1).await;
    fixture.others[0].kill();
    fixture.daemon(&owner).kill();
    fixture.gone(&owner);
    let next = fixture.owner("shop").await;
    fixture.sub0.broadcast("tick", &json!({"n": 2}));
    fixture.stored(2).await;
    assert_eq!(fixture.numbers().await, [1, 2]);
    fixture.others[0].restart().await;
    fixture.daemon(&next).ready(DEADLINE).await;
}

#[tokio::test]
async fn what_is_missed_lies_in_a_gap_and_nothing_is_done_twice_whatever_happens_to_daemons() {
    let text = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let number = |name: &str, usual: u64| text(name, &usual.to_string()).parse::<u64>().expect("a number");
    let instances = number("PONTOON_CLUSTER_INSTANCES", 6);
    let (ttl, seed) = (number("PONTOON_CLUSTER_TTL", 2), number("PONTOON_CLUSTER_SEED", 1));
    let settings = Settings {
        instances: &INSTANCES[..usize::try_from(instances).expect("small")],
        of_daemon: "jobs.enabled = false\ndelivery.max_bytes = \"64MiB\"",
        ttl,
        servers: usize::try_from(number("PONTOON_CLUSTER_SERVERS", 1)).expect("small"),
        ..Settings::default()
    };
    let on_nats_loss = text("PONTOON_CLUSTER_ON_NATS_LOSS", "step_down");
    let on_nats_loss = format!("cluster.on_nats_loss = \"{on_nats_loss}\"");
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan = Vec::new();
    for fault in text("PONTOON_CLUSTER_FAULTS", FAULTS).split(',') {
        let (kind, times) = fault.split_once('=').expect("kind=number");
        plan.extend(std::iter::repeat_n(kind.to_owned(), times.parse().expect("a number")));
    }
    plan.shuffle(&mut random);
    println!("seed {seed}, {instances} instances, {} servers, a ttl of {ttl} s, {plan:?}", settings.servers);

    let mut fixture = Fixture::unstarted(settings).await;
    for name in NAMES {
        fixture.join_with(name, &on_nats_loss).await;
    }
    let period = Duration::from_millis(10.max(3 * instances));
    let traffic = Traffic::start(&fixture.client, &fixture.sub0, settings.instances, period).await;
    let mut run = Run { fixture, traffic, ttl: Duration::from_secs(ttl), faults: Vec::new(), late: 0 };
    run.all_publish().await;
    run.fixture.balanced().await;
    for kind in &plan {
        // Of a daemon that has some, then.
        let instance = settings.instances.choose(&mut random).expect("there are some");
        let name = run.fixture.owner(instance).await;
        run.fault(kind, &name).await;
        sleep(Duration::from_millis(random.random_range(0..PAUSE))).await;
    }
    run.finish().await;
}

struct Run {
    fixture: Fixture,
    traffic: Traffic,
    ttl: Duration,
    faults: Vec<Fault>,
    /// How many late take-overs were printed.
    late: usize,
}

struct Fault {
    kind: String,
    began: Instant,
    /// How long each instance took from the fault to the first event of its next owner; of a restart of all daemons, for how
    /// long each had no event.
    took: Vec<Duration>,
}

impl Run {
    /// Waits until an event of each instance has arrived, under a newer epoch than these where there is one.
    async fn publish_again(&mut self, known: &BTreeMap<String, u64>) -> BTreeMap<String, Instant> {
        let newer = |traffic: &Traffic| {
            let epochs = traffic.epochs();
            let is_newer = |(name, before): (&String, &u64)| {
                epochs.get(name).filter(|(epoch, _)| epoch > before).map(|(_, at)| (name.clone(), *at))
            };
            known.iter().map(is_newer).collect::<Option<BTreeMap<_, _>>>()
        };
        let end = Instant::now() + DEADLINE * 4;
        loop {
            if let Some(all) = newer(&self.traffic) {
                return all;
            }
            if Instant::now() > end {
                let epochs = self.traffic.epochs();
                for name in
                    known.keys().filter(|name| epochs.get(*name).is_none_or(|one| one.0 <= known[*name]))
                {
                    self.print_log_of(name);
                }
                panic!("instances are not taken over");
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn all_publish(&mut self) {
        let all = self.fixture.instances().iter().map(|name| ((*name).to_owned(), 0)).collect();
        self.publish_again(&all).await;
    }

    async fn fault(&mut self, kind: &str, name: &str) {
        if kind == "roll" {
            return self.restart_all().await;
        }
        // Before it is asked which instances are affected: one that moves meanwhile has a newer epoch, too.
        let known = self.traffic.epochs();
        let owned = self.fixture.owners(name).await;
        let owned = owned.iter().filter(|(_, owner)| owner.as_deref() == Some(name));
        let known: BTreeMap<_, _> =
            owned.map(|(name, _)| (name.clone(), known.get(name).map_or(0, |(epoch, _)| *epoch))).collect();
        let mut began = Instant::now();
        match kind {
            "kill" => self.fixture.daemon(name).kill(),
            "freeze" => {
                // Returns when the last of its threads is stopped.
                self.fixture.daemon(name).freeze();
                began = Instant::now();
            }
            "stop" => self.fixture.daemon(name).signal("TERM"),
            "cut" => self.fixture.proxy(name).refuse().await,
            other => panic!("{other} is not a kind of fault"),
        }
        let taken = self.publish_again(&known).await;
        for (instance, at) in &taken {
            if *at > began + self.ttl + LATE && self.late < 5 {
                self.late += 1;
                println!("{instance} took {:?} after {kind} of {name}", *at - began);
                self.print_log_of(instance);
            }
        }
        let mut took: Vec<_> = taken.values().map(|at| at.saturating_duration_since(began)).collect();
        println!("{kind} of {name}: {}", quantiles(&mut took));
        self.faults.push(Fault { kind: kind.to_owned(), began, took });
        match kind {
            "kill" => self.fixture.daemon(name).restart(),
            "freeze" => {
                sleep(FROZEN.min(self.ttl * 2).saturating_sub(began.elapsed())).await;
                self.fixture.daemon(name).thaw();
            }
            "stop" => {
                assert_eq!(self.fixture.daemon(name).wait_exit(DEADLINE).await, Some(0));
                self.fixture.daemon(name).restart();
            }
            _ => self.fixture.proxy(name).accept_again().await,
        }
        self.fixture.daemon(name).ready(DEADLINE).await;
    }

    /// Ends and starts one daemon after the other, as for a new version.
    async fn restart_all(&mut self) {
        self.fixture.balanced().await;
        let began = Instant::now();
        self.traffic.begin_of_silences();
        for name in NAMES {
            self.fixture.daemon(name).signal("TERM");
            assert_eq!(self.fixture.daemon(name).wait_exit(DEADLINE).await, Some(0));
            self.fixture.daemon(name).restart();
            self.fixture.daemon(name).ready(DEADLINE).await;
        }
        self.fixture.balanced().await;
        self.all_publish().await;
        let mut took = self.traffic.silences();
        println!("restart of all: {}", quantiles(&mut took));
        self.faults.push(Fault { kind: "roll".to_owned(), began, took });
    }

    /// Checks what has happened, and prints it.
    async fn finish(self) {
        let Self { mut fixture, traffic, faults, .. } = self;
        fixture.balanced().await;
        let seen = traffic.stop().await;
        fixture.serve_all().await;
        // Behind all that was sent before.
        let mut last = listen(&fixture.client, "pontoon.event.sub0.*.*.*.last").await;
        fixture.sub0.broadcast("last", &json!({}));
        for _ in fixture.instances() {
            timeout(DEADLINE * 2, last.next()).await.expect("the last event of each instance arrives");
        }
        // And is confirmed.
        fixture.serve_all().await;
        let (lifetimes, received) = (fixture.sub0.lifetimes(), fixture.sub0.received());
        let mut overlaps = overlaps(&lifetimes, Instant::now());
        let mut kinds: BTreeMap<&str, (usize, Vec<Duration>, Vec<Duration>)> = BTreeMap::new();
        for fault in faults.iter().rev() {
            let (number, took, overlapped) = kinds.entry(&fault.kind).or_default();
            *number += 1;
            took.extend(&fault.took);
            let later = overlaps.extract_if(.., |overlap| overlap.began >= fault.began);
            overlapped.extend(later.map(|overlap| overlap.took));
        }
        for (kind, (number, took, overlapped)) in &mut kinds {
            println!("{kind}: {number} times, {}", quantiles(took));
            println!("{kind}: two connections at a time: {}", quantiles(overlapped));
        }
        let mut all = Outcome::default();
        let mut sent_to_it = 0;
        let calls = fixture.sub0.texts();
        let calls: Vec<Value> = calls.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        let mut statuses: BTreeMap<Option<String>, usize> = BTreeMap::new();
        for (instance, mut seen) in seen {
            let stream = format!("PONTOON_{}", instance.to_uppercase());
            let own = calls.iter().filter(|call| call["resource"] == instance.as_str());
            seen.history.received =
                own.map(|call| call["payload"]["c"].as_u64().expect("a number")).collect();
            for status in seen.history.replied.values() {
                *statuses.entry(status.clone()).or_default() += 1;
            }
            let outcome = seen.history.check(&contents(&fixture.nats, &stream).await);
            assert!(outcome.stored > 0 && outcome.answered > 0, "{instance}: {outcome:?}");
            all += outcome;
            sent_to_it += seen.sent_to_it;
        }
        println!("{all:?} of {sent_to_it} that were sent to a connection, replies: {statuses:?}");
        let late = late_writes(&lifetimes, &received);
        assert!(late.is_empty(), "written after another daemon had taken the instance over: {late:?}");
    }

    /// What the daemons have logged of an instance and of the cluster.
    fn print_log_of(&mut self, instance: &str) {
        for name in NAMES {
            let log = self.fixture.daemon(name).log();
            let is_of = |line: &&str| line.contains(&format!("\"{instance}\"")) || line.contains("cluster");
            let lines: Vec<_> = log.lines().filter(is_of).collect();
            println!("--- {name}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return "none".to_owned() };
    let at = |share: f64| times[(last as f64 * share).round() as usize];
    format!("{}, p50 {:?}, p90 {:?}, p99 {:?}, most {:?}", times.len(), at(0.5), at(0.9), at(0.99), at(1.0))
}
