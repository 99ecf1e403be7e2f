//! Links that end, because the server dies, disconnects or is silent: they are dialled again, and gaps report what may have
//! been missed.

use std::time::Duration;

use futures_util::future::join_all;
use pontoon_testkit::{NatsServer, eventually, repeat};
use serde_json::{Value, json};

use super::fixture::{Fixture, NUMBERED};
use super::server::Server;
use crate::support::{DEADLINE, ask, listen, next, start};

#[tokio::test]
async fn a_server_that_dies_is_dialled_again_and_its_rooms_are_joined_again() {
    let mut fixture = Fixture::ready(NUMBERED, json!({})).await;
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
async fn a_server_that_sends_us_away_is_dialled_again() {
    let mut fixture = Fixture::ready(NUMBERED, json!({})).await;
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
    fixture.daemon.logs("disconnected us from the namespace").await;
}

#[tokio::test]
async fn calls_that_are_under_way_when_the_server_dies_get_unknown() {
    let mut fixture = Fixture::ready("", json!({})).await;
    fixture.server.order(json!({"do": "answer", "how": "never"})).await;
    let body = json!("hello");
    let calls = join_all((0..50).map(|_| fixture.ask("call.echo", &body)));
    let killed = async {
        fixture.server.sees("event", 50).await;
        fixture.server.signal("KILL");
    };
    let (replies, ()) = tokio::join!(calls, killed);
    for reply in replies {
        assert_eq!(reply.status, "unknown", "{}", reply.message());
    }
    fixture.server.restart().await;
    eventually(DEADLINE, async || fixture.ask("call.echo", &json!("again")).await.status == "response").await;
}

/// Pings are sent every second here. Their answers may take longer, as on a busy machine.
fn lively() -> Value {
    json!({"pingInterval": 1_000, "pingTimeout": 4_000})
}

#[tokio::test]
async fn a_server_that_asks_for_signs_of_life_gets_them() {
    let mut fixture = Fixture::ready(NUMBERED, lively()).await;
    fixture.joined(1).await;
    fixture.server.sees("alive", 4).await;
    fixture.blast(0, 1).await;
    assert_eq!(fixture.stored(1).await, ["0"]);
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn a_frozen_server_is_noticed_while_little_or_much_is_written_and_another_is_not_touched() {
    // Little fits into the sockets' buffers; much does not.
    for size in [10, 400_000] {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        let (sick, well) = (Server::start(lively()).await, Server::start(lively()).await);
        let config = ["sick", "well"].iter().zip([&sick, &well]).fold(
            pontoon_testkit::DaemonConfig::new(&nats),
            |config, (name, server)| {
                config.connector(name, "socketio", &format!("url = \"{}\"", server.url()))
            },
        );
        let mut daemon = start(config);
        daemon.ready(DEADLINE).await;
        for name in ["sick", "well"] {
            let subject = format!("pontoon.command.socketio.{name}.call.echo");
            eventually(DEADLINE, async || ask(&client, &subject, "1", &[]).await.status == "response").await;
        }
        let mut states = listen(&client, "pontoon.state.socketio.sick").await;
        let mut gaps = listen(&client, "pontoon.event.socketio.sick.gap.detected.>").await;
        let is_ready = |state: &Value| state["links"][0]["phase"] == "ready";
        sick.freeze();
        let noticed = next(&mut states, |_, state| !is_ready(state));
        let body = json!("x".repeat(size)).to_string();
        let mut round = 0;
        let busy = repeat(Duration::from_millis(50), async || {
            // Their answers are not awaited: they are only to be written.
            let headers = [("Pontoon-Wait", "accepted")];
            ask(&client, "pontoon.command.socketio.sick.emit.load", &body, &headers).await;
            let reply = ask(&client, "pontoon.command.socketio.well.call.echo", "1", &[]).await;
            assert_eq!(reply.verdict(), ("response", None), "round {round}: {}", reply.message());
            round += 1;
        });
        tokio::select! { _ = noticed => {}, never = busy => match never {} }
        sick.thaw();
        next(&mut states, |_, state| is_ready(state)).await;
        next(&mut gaps, |_, gap| gap["reason"] == "disconnected").await;
        assert_eq!(well.saw("connect").len(), 1, "the other instance kept its socket");
    }
}
