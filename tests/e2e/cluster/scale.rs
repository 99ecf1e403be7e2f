//! Many instances in one daemon that is killed: all of them go on in two others.
//!
//! `PONTOON_CLUSTER_INSTANCES` is how many there are, `PONTOON_CLUSTER_TTL` the seconds of a lease.

use std::time::Instant;

use pontoon_testkit::{DaemonConfig, NatsServer, Sub0, eventually};
use serde_json::Value;

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
