//! Daemons that are killed, stopped for a while, ended, and cut off from NATS while a service sends events and callers send
//! commands.
//!
//! `PONTOON_CLUSTER_FAULTS` is how many faults there are, `PONTOON_CLUSTER_TTL` the seconds of a lease, and
//! `PONTOON_CLUSTER_SERVERS` the servers of NATS; `PONTOON_CLUSTER_KINDS` names some of the kinds of faults: `kill,freeze,stop,cut`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use pontoon_testkit::eventually;
use serde_json::json;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::fixture::{Fixture, Settings};
use super::history::History;
use crate::support::{DEADLINE, contents, listen};

const FAULTS: usize = 4;
const KINDS: &str = "kill,freeze,stop,cut";
/// How often the service sends an event, and how often a command is sent.
const PERIOD: Duration = Duration::from_millis(10);

fn variable(name: &str, usual: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| usual.to_owned())
}

/// When the first event of each epoch arrived.
type Firsts = Arc<Mutex<BTreeMap<u64, Instant>>>;

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
    let faults = variable("PONTOON_CLUSTER_FAULTS", &FAULTS.to_string()).parse().expect("a number");
    let ttl = variable("PONTOON_CLUSTER_TTL", "2").parse().expect("seconds");
    let kinds = variable("PONTOON_CLUSTER_KINDS", KINDS);
    let kinds: Vec<&str> = kinds.split(',').collect();
    let servers = variable("PONTOON_CLUSTER_SERVERS", "1").parse().expect("a number");
    let mut fixture =
        Fixture::start(Settings { ttl, servers, ..Settings::default() }, &["a", "b", "c"]).await;
    let mut owner = fixture.owner("shop").await;
    let history = Arc::new(Mutex::new(History::default()));
    let firsts = Firsts::default();
    let mut traffic = JoinSet::new();
    traffic.spawn(note_epochs(fixture.client.clone(), firsts.clone()));
    traffic.spawn(send_commands(fixture.client.clone(), history.clone()));
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    eventually(DEADLINE, async || {
        number += 1;
        history.lock().unwrap().sent.insert(number, OffsetDateTime::now_utc());
        fixture.sub0.broadcast("tick", &json!({"n": number}));
        !firsts.lock().unwrap().is_empty()
    })
    .await;
    for round in 0..faults {
        let kind = kinds[round % kinds.len()];
        let known = firsts.lock().unwrap().keys().next_back().copied();
        let began = Instant::now();
        match kind {
            "kill" => fixture.daemon(&owner).kill(),
            "freeze" => fixture.daemon(&owner).freeze(),
            "stop" => fixture.daemon(&owner).signal("TERM"),
            "cut" => fixture.proxy(&owner).refuse().await,
            other => panic!("{other} is not a kind of fault"),
        }
        // Until an event of the next owner arrives, and for a while after it.
        let mut taken = None;
        let end = Instant::now() + DEADLINE * 2;
        while taken.is_none_or(|at: Instant| at.elapsed() < Duration::from_millis(500)) {
            ticks.tick().await;
            number += 1;
            history.lock().unwrap().sent.insert(number, OffsetDateTime::now_utc());
            fixture.sub0.broadcast("tick", &json!({"n": number}));
            let newest = firsts.lock().unwrap().last_key_value().map(|(epoch, at)| (*epoch, *at));
            taken = newest.filter(|(epoch, _)| Some(*epoch) > known).map(|(_, at)| at);
            assert!(
                Instant::now() < end,
                "no daemon takes over after {kind}:\n{}",
                fixture.daemon(&owner).log()
            );
        }
        if let Some(at) = taken {
            if at - began > Duration::from_secs(ttl) + Duration::from_millis(1_500) {
                println!("{kind} took {:?}; the owner was {owner}", at - began);
                for name in ["a", "b", "c"] {
                    println!("--- {name}\n{}", fixture.daemon(name).log());
                }
            }
            times.entry(kind).or_default().push(at - began);
        }
        match kind {
            "kill" => fixture.daemon(&owner).restart(),
            "freeze" => fixture.daemon(&owner).thaw(),
            "stop" => {
                assert_eq!(fixture.daemon(&owner).wait_exit(DEADLINE).await, Some(0));
                fixture.daemon(&owner).restart();
            }
            _ => fixture.proxy(&owner).accept_again().await,
        }
        // It may come back to where it was.
        owner = fixture.settled("shop").await;
    }
    number += 1;
    history.lock().unwrap().sent.insert(number, OffsetDateTime::now_utc());
    fixture.sub0.broadcast("tick", &json!({"n": number}));
    fixture.stored(number).await;
    traffic.shutdown().await;
    let mut history = std::mem::take(&mut *history.lock().unwrap());
    for call in fixture.sub0.calls("x") {
        *history.received.entry(call["payload"]["c"].as_u64().expect("a number")).or_default() += 1;
    }
    let outcome = history.check(&contents(&fixture.nats, "PONTOON_SHOP").await);
    let mut statuses: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    history.replied.values().for_each(|status| *statuses.entry(status.as_deref()).or_default() += 1);
    println!("{faults} faults: {outcome:?}, replies: {statuses:?}");
    for (kind, mut times) in times {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        println!(
            "{kind}: {} take-overs, p50 {:?}, p90 {:?}, p99 {:?}, most {:?}",
            times.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    assert!(outcome.stored > 0 && outcome.answered > 0, "{outcome:?}");
}

async fn note_epochs(client: Client, firsts: Firsts) {
    let mut events = listen(&client, "pontoon.event.sub0.shop.>").await;
    while let Some(event) = events.next().await {
        let id = event.headers.as_ref().and_then(|headers| headers.get("ce-id")).map(ToString::to_string);
        let epoch = id.and_then(|id| id.split_once('-')?.0.parse().ok());
        if let Some(epoch) = epoch {
            firsts.lock().unwrap().entry(epoch).or_insert_with(Instant::now);
        }
    }
}

/// Sends commands one after the other, each with another number.
async fn send_commands(client: Client, history: Arc<Mutex<History>>) {
    let mut headers = HeaderMap::new();
    headers.insert("Pontoon-Timeout", "1s");
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for command in 0_u64.. {
        ticks.tick().await;
        let body = json!({"c": command}).to_string();
        history.lock().unwrap().replied.insert(command, None);
        let reply = request(&client, headers.clone(), body);
        if let Ok(Some(status)) = timeout(Duration::from_secs(3), reply).await {
            history.lock().unwrap().replied.insert(command, Some(status));
        }
    }
}

/// The status of the reply to a command.
async fn request(client: &Client, headers: HeaderMap, body: String) -> Option<String> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.ok()?;
    let subject = "pontoon.command.sub0.shop.call.x".to_owned();
    client.publish_with_reply_and_headers(subject, inbox, headers, body.into()).await.ok()?;
    let reply = replies.next().await?;
    if reply.status.is_some() {
        return Some("no responders".to_owned());
    }
    Some(reply.headers?.get("Pontoon-Status")?.as_str().to_owned())
}
