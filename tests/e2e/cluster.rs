//! Several daemons that share instances: each runs in one of them, whatever happens to the others.

mod faults;
mod fixture;
mod history;
mod scale;
mod service;
mod traffic;

use std::collections::BTreeSet;
use std::time::Duration;

use pontoon_testkit::{NatsServer, Resource, eventually};
use serde_json::{Value, json};

use self::fixture::{Fixture, Settings};
use crate::support::{DEADLINE, ask, round_trip};

#[tokio::test]
async fn instances_are_shared_and_move_to_a_daemon_that_joins_and_back_when_it_stops() {
    let settings =
        Settings { instances: &["shop", "support", "echo", "chat", "bank", "tavern"], ..Settings::default() };
    let mut fixture = Fixture::start(settings, &["a"]).await;
    fixture.owned_by_all(&["a"]).await;
    assert!(fixture.sub0.most_connections() <= 6);
    fixture.join("b").await;
    fixture.owned_by_all(&["a", "b"]).await;
    // One that waits for instances of others is ready, and reports it.
    fixture.daemon("b").ready(DEADLINE).await;
    let status = fixture.status("b").await;
    let members: Vec<_> =
        status["members"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(members, ["a", "b"]);
    // No instance ever had two connections.
    assert!(fixture.sub0.most_connections() <= 6, "{}", fixture.sub0.most_connections());
    fixture.daemon("b").signal("TERM");
    assert_eq!(fixture.daemon("b").wait_exit(DEADLINE).await, Some(0));
    fixture.gone("b");
    fixture.owned_by_all(&["a"]).await;
    eventually(DEADLINE, async || {
        let metrics = fixture.daemon("a").metrics().await;
        metrics.value("pontoon_cluster_instances_owned", &[]) == Some(6.0)
            && metrics.value("pontoon_cluster_takeovers_total", &[("reason", "released")]) > Some(0.0)
    })
    .await;
    assert!(fixture.sub0.most_connections() <= 6, "{}", fixture.sub0.most_connections());
}

#[tokio::test]
async fn an_instance_stays_with_the_daemons_that_have_its_label() {
    let only = "cluster.only = [\"eu\"]";
    let settings = Settings { instances: &["shop"], of_instance: only, ..Settings::default() };
    let mut fixture = Fixture::start(settings, &["a"]).await;
    eventually(DEADLINE, async || {
        let metrics = fixture.daemon("a").metrics().await;
        metrics.value("pontoon_cluster_instances_unowned", &[]) == Some(1.0)
    })
    .await;
    fixture.join_with("b", "cluster.labels = [\"asia\", \"eu\"]").await;
    fixture.owned_by("shop", "b").await;
    fixture.daemon("b").kill();
    fixture.gone("b");
    eventually(DEADLINE, async || fixture.owners("a").await == [("shop".to_owned(), None)]).await;
    assert_eq!(fixture.sub0.upgrades(), 1);
}

#[tokio::test]
async fn a_daemon_that_was_stopped_for_a_while_does_nothing_when_it_goes_on() {
    let mut fixture = Fixture::start(Settings::default(), &["a", "b"]).await;
    let owner = fixture.owner("shop").await;
    let other = if owner == "a" { "b" } else { "a" };
    let subject = "pontoon.command.sub0.shop.call.x";
    assert_eq!(ask(&fixture.client, subject, r#"{"c":0}"#, &[]).await.status, "response");
    let connection = fixture.sub0.received().last().unwrap().connection;
    fixture.daemon(&owner).freeze();
    fixture.sub0.broadcast("tick", &json!({"n": 1}));
    fixture.owned_by("shop", other).await;
    // Commands reach the new owner, and not the old one as well.
    for c in 1..20 {
        let reply = ask(&fixture.client, subject, &json!({"c": c}).to_string(), &[]).await;
        assert_eq!(reply.status, "response", "{reply:?}");
    }
    let thawed = std::time::Instant::now();
    fixture.daemon(&owner).thaw();
    fixture.daemon(&owner).logs("the lease of the instance is lost").await;
    fixture.sub0.connected(1, DEADLINE).await;
    for c in 20..30 {
        assert_eq!(ask(&fixture.client, subject, &json!({"c": c}).to_string(), &[]).await.status, "response");
    }
    let written = fixture.sub0.received().into_iter();
    let written: Vec<_> =
        written.filter(|frame| frame.connection == connection && frame.at >= thawed).collect();
    assert!(written.is_empty(), "{written:?}");
    let calls: Vec<_> = fixture.sub0.calls("x").iter().map(|call| call["payload"]["c"].clone()).collect();
    assert_eq!(calls, (0..30).map(Value::from).collect::<Vec<_>>());
    // Its events have the epoch of the new owner, and none of the old one follows.
    fixture.sub0.broadcast("tick", &json!({"n": 2}));
    fixture.stored(2).await;
    let epochs = fixture.epochs("PONTOON_SHOP").await;
    assert!(epochs.is_sorted() && epochs.iter().collect::<BTreeSet<_>>().len() == 2, "{epochs:?}");
}

#[tokio::test]
async fn what_a_former_owner_has_on_disk_comes_late_and_marked_once_it_is_back() {
    let settings = Settings { on_disk: true, ..Settings::default() };
    let mut fixture = Fixture::start(settings, &["a", "b"]).await;
    let owner = fixture.settled("shop").await;
    fixture.sub0.broadcast("tick", &json!({"n": 1}));
    fixture.stored(1).await;
    fixture.proxy(&owner).refuse().await;
    // Read and written to the disk, while its lease still lasts.
    fixture.sub0.broadcast("tick", &json!({"n": 2}));
    fixture.owned_by("shop", if owner == "a" { "b" } else { "a" }).await;
    fixture.sub0.broadcast("tick", &json!({"n": 3}));
    fixture.stored(3).await;
    fixture.proxy(&owner).accept_again().await;
    assert_eq!(fixture.settled("shop").await, owner);
    fixture.sub0.broadcast("tick", &json!({"n": 4}));
    fixture.stored(4).await;
    let events = fixture.events("PONTOON_SHOP").await;
    let numbered: Vec<_> =
        events.iter().filter_map(|(_, late, body)| Some((body["data"]["n"].as_u64()?, *late))).collect();
    assert_eq!(numbered, [(1, false), (3, false), (2, true), (4, false)]);
    let sequences: Vec<_> = events
        .iter()
        .filter(|(.., body)| !body["data"]["n"].is_null())
        .map(|(sequence, ..)| sequence)
        .collect();
    assert!(
        sequences[0] < sequences[2] && sequences[2] < sequences[1] && sequences[1] < sequences[3],
        "{sequences:?}"
    );
}

#[tokio::test]
async fn the_next_owner_knows_the_keys_of_commands_and_carries_out_none_twice() {
    let mut fixture = Fixture::start(Settings::default(), &["a", "b"]).await;
    let owner = fixture.settled("shop").await;
    let send = async |fixture: &Fixture, resource: &str, key: &str| {
        let subject = format!("pontoon.command.sub0.shop.call.{resource}");
        ask(&fixture.client, &subject, r#"{"c":1}"#, &[("Idempotency-Key", key), ("Pontoon-Timeout", "1s")])
            .await
    };
    let answered = send(&fixture, "x", "one").await;
    assert_eq!(answered.status, "response", "{answered:?}");
    fixture.sub0.resource("y", Resource::nothing());
    assert_eq!(send(&fixture, "y", "two").await.status, "unknown");
    fixture.sub0.resource("z", Resource::nothing());
    let headers = [("Idempotency-Key", "three"), ("Pontoon-Timeout", "60s")];
    let under_way = ask(&fixture.client, "pontoon.command.sub0.shop.call.z", r#"{"c":1}"#, &headers);
    tokio::select! {
        reply = under_way => panic!("{reply:?}"),
        () = eventually(DEADLINE, async || fixture.sub0.calls("z").len() == 1) => {}
    }
    fixture.daemon(&owner).kill();
    fixture.gone(&owner);
    fixture.owned_by("shop", if owner == "a" { "b" } else { "a" }).await;
    let again = send(&fixture, "x", "one").await;
    assert_eq!((&again.status, &again.body), (&answered.status, &answered.body));
    assert_eq!(send(&fixture, "y", "two").await.status, "unknown");
    let reply = send(&fixture, "z", "three").await;
    assert_eq!(reply.verdict(), ("unknown", Some("504")), "{reply:?}");
    assert_eq!(["x", "y", "z"].map(|resource| fixture.sub0.calls(resource).len()), [1, 1, 1]);
    let reply = send(&fixture, "w", "one").await;
    assert_eq!(reply.verdict(), ("rejected", Some("409")), "{reply:?}");
}

#[tokio::test]
async fn a_bucket_that_keeps_leases_for_another_time_is_refused_with_the_reason() {
    let mut fixture = Fixture::start(Settings::default(), &["a"]).await;
    fixture.owned_by("shop", "a").await;
    fixture.join_with("b", "cluster.ttl = \"60s\"").await;
    eventually(DEADLINE, async || {
        let problem = fixture.status("b").await["problem"].as_str().unwrap_or_default().to_owned();
        problem.contains("cluster.ttl") && problem.contains("pontoon_leases")
    })
    .await;
    assert_eq!(fixture.owner("shop").await, "a");
}

#[tokio::test]
async fn links_are_held_while_nats_is_away_if_that_is_configured_and_closed_else() {
    for (on_nats_loss, dials) in [("hold", 1), ("step_down", 2)] {
        let settings = Settings { ..Settings::default() };
        let mut fixture = Fixture::unstarted(settings).await;
        fixture.join_with("a", &format!("cluster.on_nats_loss = \"{on_nats_loss}\"")).await;
        fixture.owned_by("shop", "a").await;
        fixture.sub0.broadcast("tick", &json!({"n": 1}));
        fixture.stored(1).await;
        fixture.nats.kill();
        if dials == 1 {
            // Far longer than the lease: nothing is asked of NATS meanwhile, so that only its time can end it.
            tokio::time::timeout(Duration::from_secs(8), fixture.sub0.connected(0, DEADLINE))
                .await
                .unwrap_err();
        } else {
            fixture.sub0.connected(0, DEADLINE).await;
        }
        fixture.sub0.broadcast("tick", &json!({"n": 2}));
        fixture.nats.restart().await;
        fixture.owned_by("shop", "a").await;
        fixture.sub0.broadcast("tick", &json!({"n": 3}));
        fixture.stored(3).await;
        assert_eq!(fixture.sub0.upgrades(), dials, "{on_nats_loss}");
        let numbers = fixture.numbers().await;
        let wanted: &[u64] = if dials == 1 { &[1, 2, 3] } else { &[1, 3] };
        assert_eq!(numbers, wanted, "{on_nats_loss}");
    }
}

#[tokio::test]
async fn a_link_whose_lease_is_lost_is_closed_although_a_call_is_under_way() {
    // Far longer than the test waits, as all that follow.
    let settings = Settings { of_instance: "transport.ping_interval = \"5m\"", ..Settings::default() };
    let mut fixture = Fixture::unstarted(settings).await;
    fixture.join_with("a", "shutdown.timeout = \"20m\"").await;
    fixture.owned_by("shop", "a").await;
    fixture.sub0.resource("slow", Resource::nothing());
    let headers = [("Pontoon-Timeout", "5m")];
    let under_way = ask(&fixture.client, "pontoon.command.sub0.shop.call.slow", "{}", &headers);
    tokio::select! {
        reply = under_way => panic!("{reply:?}"),
        () = eventually(DEADLINE, async || fixture.sub0.calls("slow").len() == 1) => {}
    }
    fixture.proxy("a").refuse().await;
    fixture.sub0.connected(0, DEADLINE).await;
    fixture.daemon("a").kill();
}

#[tokio::test]
async fn the_users_that_are_shipped_may_do_what_a_cluster_needs() {
    let nats = NatsServer::options().shipped_users(&["shop"]).start().await;
    let mut fixture = Fixture::on(nats, Settings::default()).await;
    for name in ["a", "b"] {
        fixture.join(name).await;
    }
    let owner = fixture.owner("shop").await;
    fixture.daemon(&owner).signal("TERM");
    assert_eq!(fixture.daemon(&owner).wait_exit(DEADLINE).await, Some(0));
    fixture.gone(&owner);
    fixture.owned_by("shop", if owner == "a" { "b" } else { "a" }).await;
    round_trip(&fixture.client).await;
}
