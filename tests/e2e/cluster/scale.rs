//! Many instances in one daemon that is killed: all of them go on in two others. And how many renewals of leases NATS takes.
//!
//! `PONTOON_CLUSTER_INSTANCES` is how many there are, `PONTOON_CLUSTER_TTL` the seconds of a lease, `PONTOON_CLUSTER_SERVERS` how
//! many servers NATS has.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, HeaderValue, jetstream};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use pontoon_testkit::{DaemonConfig, NatsServer, Sub0, eventually};
use serde_json::Value;

use super::fixture::clustered;
use crate::support::{DEADLINE, start};

#[tokio::test]
async fn all_instances_of_a_daemon_that_is_killed_go_on_in_two_others() {
    let variable = |name: &str, usual: usize| {
        std::env::var(name).map_or(usual, |value| value.parse().expect("a number"))
    };
    let (instances, ttl) = (variable("PONTOON_CLUSTER_INSTANCES", 20), variable("PONTOON_CLUSTER_TTL", 2));
    let (nats, sub0) = (NatsServer::options().every_right().start().await, Sub0::start().await);
    let member = |name: &str| {
        let lines =
            "cluster.enabled = true\ncluster.moves = 1\ndelivery.max_bytes = \"1MiB\"\njobs.enabled = false";
        let config = DaemonConfig::new(&nats).with(lines);
        let config = config.with(&format!("cluster.name = \"{name}\"\ncluster.ttl = \"{ttl}s\""));
        let config = (0..instances).fold(config, |config, number| config.sub0(&format!("i{number}"), &sub0));
        start(config)
    };
    let mut first = member("a");
    sub0.connected(instances, DEADLINE * 4).await;
    let mut others = [member("b"), member("c")];
    for other in &mut others {
        // It knows all owners, and is ready to take what is to be its.
        eventually(DEADLINE * 4, async || {
            let (_, text) = other.get("/status").await;
            let status: Value = serde_json::from_str(&text).expect("JSON");
            let all = status["cluster"]["instances"].as_array().cloned().unwrap_or_default();
            status["cluster"]["members"].as_array().map_or(0, Vec::len) == 3
                && all.iter().all(|one| one["owner"].is_string())
        })
        .await;
    }
    println!("one daemon with {instances} instances takes {} MiB", first.resident_bytes() >> 20);
    let before = sub0.upgrades();
    first.kill();
    let killed = Instant::now();
    eventually(DEADLINE * 4, async || {
        let mut running = 0;
        for other in &mut others {
            let (_, text) = other.get("/status").await;
            let status: Value = serde_json::from_str(&text).expect("JSON");
            let all = status["instances"].as_array().cloned().unwrap_or_default();
            let serves = |one: &&Value| {
                one["links"][0]["phase"] == "ready"
                    && one["bus"]["publishing"] == true
                    && one["commands"]["subscribed"] == true
            };
            running += all.iter().filter(serves).count();
        }
        running == instances
    })
    .await;
    println!("{instances} instances go on {:?} after the kill", killed.elapsed());
    // Each was dialled once more, but for one or two that may have moved before.
    assert!(
        (instances - 2..=instances).contains(&(sub0.upgrades() - before)),
        "{}",
        sub0.upgrades() - before
    );
    assert_eq!(sub0.connections().len(), instances);
}

/// How many leases are renewed in turn, how many renewals are under way at a time, and for how long.
const LEASES: usize = 500;
const UNDER_WAY: usize = 64;
const RENEWED_FOR: Duration = Duration::from_millis(500);

/// As members do it: each renewal is stored only if the lease has the revision that the last one gave it.
#[tokio::test]
async fn no_renewal_of_many_leases_is_refused_and_the_rate_is_printed() {
    let servers: usize = std::env::var("PONTOON_CLUSTER_SERVERS").map_or(1, |text| text.parse().unwrap());
    let nats = if servers == 1 { vec![NatsServer::start().await] } else { clustered(servers).await };
    let js = jetstream::new(nats[0].client().await);
    let bucket = jetstream::stream::Config {
        name: "KV_pontoon_leases".into(),
        subjects: vec!["$KV.pontoon_leases.>".into()],
        max_age: Duration::from_secs(60),
        max_messages_per_subject: 1,
        num_replicas: servers,
        ..Default::default()
    };
    js.create_stream(bucket).await.expect("a bucket");
    let renew = async |lease: usize, revision: u64| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", HeaderValue::from(revision));
        let value = r#"{"owner":"pontoon-12","run":"0123456789abcdef"}"#;
        let subject = format!("$KV.pontoon_leases.pontoon.i{lease}");
        let sent = js.publish_with_headers(subject, headers, value.into()).await.expect("it is sent");
        (lease, sent.await.expect("it is renewed").sequence)
    };
    let mut waiting: VecDeque<_> = (0..LEASES).map(|lease| (lease, 0)).collect();
    let mut under_way = FuturesUnordered::new();
    let (began, mut renewed) = (Instant::now(), 0_u32);
    while renewed == 0 || began.elapsed() < RENEWED_FOR || !under_way.is_empty() {
        while under_way.len() < UNDER_WAY && (renewed == 0 || began.elapsed() < RENEWED_FOR) {
            let (lease, revision) = waiting.pop_front().expect("more than are under way");
            under_way.push(renew(lease, revision));
        }
        if let Some(done) = under_way.next().await {
            waiting.push_back(done);
            renewed += 1;
        }
    }
    let rate = f64::from(renewed) / began.elapsed().as_secs_f64();
    println!("{servers} servers: {renewed} renewals, {rate:.0} a second");
}
