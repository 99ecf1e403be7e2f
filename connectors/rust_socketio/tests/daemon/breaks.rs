//! Links that end with this engine: each end is noticed, whatever the crate makes of it, and nothing is left behind.

use std::time::Duration;

use pontoon_testkit::{DaemonConfig, NatsServer, eventually, repeat};
use serde_json::{Value, json};

use crate::ENGINE;
use crate::fixture::{Fixture, NUMBERED};
use crate::scenario::Scenario;
use crate::server::Server;
use crate::support::{DEADLINE, ask, listen, next, start};

/// How often a link is broken to see what stays behind.
const BREAKS: usize = 20;

#[tokio::test]
async fn a_server_that_dies_is_dialled_again_and_its_rooms_are_joined_again() {
    let mut fixture = Fixture::ready(&format!("{ENGINE}{NUMBERED}"), json!({})).await;
    for life in 1..=2 {
        fixture.joined(life).await;
        fixture.blast(life as u64, 1).await;
        eventually(DEADLINE, async || fixture.ticks() == life).await;
        fixture.server.restart().await;
    }
    fixture.joined(3).await;
    fixture.blast(3, 1).await;
    assert_eq!(fixture.stored(5).await, ["1", "gap disconnected", "2", "gap disconnected", "3"]);
}

#[tokio::test]
async fn a_server_that_disconnects_is_dialled_again() {
    let mut fixture = Fixture::ready(&format!("{ENGINE}{NUMBERED}"), json!({})).await;
    let away = [
        json!({"do": "disconnect", "close": false}),
        json!({"do": "disconnect", "close": true}),
        json!({"do": "close"}),
    ];
    for (place, order) in away.into_iter().enumerate() {
        fixture.joined(place + 1).await;
        fixture.blast(place as u64, 1).await;
        fixture.server.order(order).await;
        fixture.server.sees("disconnect", place + 1).await;
    }
    fixture.joined(4).await;
    fixture.blast(3, 1).await;
    let gap = "gap disconnected";
    assert_eq!(fixture.stored(7).await, ["0", gap, "1", gap, "2", gap, "3"]);
    assert_eq!(fixture.server.saw("connect").len(), 4);
}

#[tokio::test]
async fn a_session_that_could_be_resumed_is_not_and_a_gap_is_published() {
    let mut fixture = Fixture::ready(&format!("{ENGINE}{NUMBERED}"), json!({"recovery": true})).await;
    for life in 1..=2 {
        fixture.joined(life).await;
        fixture.blast(life as u64, 1).await;
        eventually(DEADLINE, async || fixture.ticks() == life).await;
        if life == 1 {
            fixture.server.order(json!({"do": "close"})).await;
        }
    }
    assert_eq!(fixture.stored(3).await, ["1", "gap disconnected", "2"]);
    assert!(fixture.server.saw("connect").iter().all(|connect| connect["recovered"] == false));
}

/// The crate waits for ever to write while it holds what its reader needs; the time limit on writing ends that.
#[tokio::test]
async fn a_frozen_server_is_noticed_while_little_or_much_is_written_and_another_is_not_touched() {
    let lively = json!({"pingInterval": 1_000, "pingTimeout": 1_000});
    // Little fits into the sockets' buffers; much does not.
    for size in [10, 400_000] {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        let (sick, well) = (Server::start(lively.clone()).await, Server::start(lively.clone()).await);
        let settings =
            |server: &Server| format!("url = \"{}\"\n{ENGINE}transport.write_timeout = \"2s\"", server.url());
        let config = DaemonConfig::new(&nats).connector("sick", "socketio", &settings(&sick)).connector(
            "well",
            "socketio",
            &settings(&well),
        );
        let mut daemon = start(config);
        daemon.ready(DEADLINE).await;
        for server in [&sick, &well] {
            server.sees("connect", 1).await;
        }
        let emit = async |instance: &str, body: &str, headers: &[(&str, &str)]| {
            ask(&client, &format!("pontoon.command.socketio.{instance}.emit.load"), body, headers).await
        };
        eventually(DEADLINE, async || emit("well", "0", &[]).await.status == "sent").await;
        let mut states = listen(&client, "pontoon.state.socketio.sick").await;
        let mut gaps = listen(&client, "pontoon.event.socketio.sick.gap.detected.>").await;
        let is_ready = |state: &Value| state["links"][0]["phase"] == "ready";
        sick.freeze();
        let noticed = next(&mut states, |_, state| !is_ready(state));
        let body = json!("x".repeat(size)).to_string();
        let mut rounds = 0;
        let busy = repeat(Duration::from_millis(50), async || {
            // Their answers are not awaited: they are only to be written.
            emit("sick", &body, &[("Pontoon-Wait", "accepted")]).await;
            let reply = emit("well", "1", &[]).await;
            assert_eq!(reply.verdict(), ("sent", None), "round {rounds}: {}", reply.message());
            rounds += 1;
        });
        tokio::select! { _ = noticed => {}, never = busy => match never {} };
        sick.thaw();
        next(&mut states, |_, state| is_ready(state)).await;
        next(&mut gaps, |_, gap| gap["reason"] == "disconnected").await;
        assert_eq!(well.saw("connect").len(), 1, "the other instance kept its socket");
        // The first was heard before, and the last may have been dropped with the loop.
        well.receives("load", rounds + 1).await;
    }
}

/// A binary event whose attachment never comes makes the crate's task panic when the service closes the connection.
#[tokio::test]
async fn a_panic_of_the_crate_is_noticed_and_the_daemon_lives() {
    let mut scenario = Scenario::ready("").await;
    for life in 1..=2 {
        scenario.joined(life).await;
        scenario.service.send_text(&format!(r#"42["before",{life}]"#));
        scenario.service.send_text(r#"451-["file",{"_placeholder":true,"num":0}]"#);
        scenario.service.close(1000, "");
        scenario.joined(life + 1).await;
    }
    scenario.service.send_text(r#"42["after",0]"#);
    let gap = "gap disconnected";
    assert_eq!(scenario.published(5).await, ["before 1", gap, "before 2", gap, "after 0"]);
    let panics = scenario.daemon.logged("a fault of the daemon (panic)");
    assert_eq!(panics.len(), 2, "the crate has panicked, else this shows nothing: {}", scenario.daemon.log());
    assert!(panics.iter().all(|panic| panic.to_string().contains("rust_socketio")), "{panics:?}");
    assert!(scenario.daemon.log().contains("stopped without an error"), "{}", scenario.daemon.log());
    assert_eq!(scenario.daemon.get("/livez").await.0, 200);
    eventually(DEADLINE, async || scenario.threads() == 1).await;
}

/// None of these can be read by the crate; the link ends, and is back.
#[tokio::test]
async fn a_malformed_packet_ends_the_link_and_not_the_daemon() {
    let scenario = Scenario::ready("").await;
    let wrong = ["42[\"x\"", "49", "4", "", "x", "42[]", "4299999999999[\"x\"]", "0{}", "45[\"x\"]", "3"];
    for (place, packet) in wrong.iter().enumerate() {
        scenario.joined(place + 1).await;
        scenario.service.send_text(&format!(r#"42["before",{place}]"#));
        scenario.service.send_text(packet);
    }
    scenario.joined(wrong.len() + 1).await;
    let published = scenario.published(wrong.len() as u64 * 2).await;
    for (place, pair) in published.chunks(2).enumerate() {
        assert_eq!(pair, [format!("before {place}"), "gap disconnected".to_owned()], "{:?}", wrong[place]);
    }
}

/// The crate does not report these, so the daemon cannot.
#[tokio::test]
async fn some_packets_are_ignored_without_notice() {
    let scenario = Scenario::ready("").await;
    for packet in
        ["42{\"a\":1}", "42", "431[\"an answer\"]", "42/elsewhere,[\"x\"]", "450-[\"no file\"]", "6"]
    {
        scenario.service.send_text(packet);
    }
    scenario.service.send_text(r#"42["after",0]"#);
    assert_eq!(scenario.published(1).await, ["after 0"]);
    assert_eq!(scenario.service.upgrades(), 1);
}

#[tokio::test]
async fn nothing_is_left_behind_by_links_that_end() {
    let scenario = Scenario::ready("").await;
    for life in 1..=BREAKS {
        scenario.joined(life).await;
        // By turns: a clean end, a break, and a link that is given up by us while the service is frozen.
        match life % 3 {
            0 => scenario.service.close(1001, ""),
            1 => scenario.service.cut(),
            _ => {
                scenario.service.freeze();
                scenario.ask("reconnect", "").await;
                scenario.link("connecting").await;
                scenario.service.thaw();
            }
        }
    }
    scenario.joined(BREAKS + 1).await;
    eventually(DEADLINE, async || scenario.threads() == 1).await;
    eventually(DEADLINE, async || scenario.service.connections().len() == 1).await;
}
