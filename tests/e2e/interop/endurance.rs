//! A server that dies again and again in the middle of a flood.

use std::time::Duration;

use pontoon_testkit::{Proxy, eventually, until_some};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fixture::{Fixture, NUMBERED};
use super::recovery::cut;
use super::server::Server;
use crate::support::DEADLINE;

/// How many events it sends in a second.
const RATE: u64 = 2_000;
/// How many of them are waited for before anything happens to the connection.
const SOME: usize = 2_500;
/// The numbers of one life; no life is so long.
const LIFE: u64 = 1_000_000;
/// How long a link may take to be back by itself: some times its longest pause.
const BACK: Duration = Duration::from_secs(150);

#[tokio::test]
async fn a_server_that_dies_twenty_times_leaves_a_gap_each_time_and_nothing_else_is_missed() {
    endure(20, false).await;
}

#[tokio::test]
async fn breaks_that_the_server_makes_good_leave_no_gap_among_those_that_do() {
    endure(5, true).await;
}

/// So many deaths; between them, perhaps, breaks of the connection after which the session is resumed.
async fn endure(deaths: u64, resumed: bool) {
    let server = Server::start(json!({ "recovery": resumed })).await;
    let proxy = Proxy::to(server.address()).await;
    let url = format!("http://{}", proxy.address());
    let mut fixture = Fixture::at(&url, NUMBERED, server, |config| config).await;
    let mut connections = 0;
    for life in 0..=deaths {
        let first = life * LIFE;
        let order =
            json!({"do": "blast", "name": "tick", "first": first, "count": LIFE, "rate": RATE, "room": "r"});
        fixture.server.begin(order);
        connections += 1;
        back(&fixture, connections).await;
        some(&fixture).await;
        if resumed {
            cut(&fixture, &proxy).await;
            proxy.accept_again().await;
            connections += 1;
            back(&fixture, connections).await;
            some(&fixture).await;
        }
        if life < deaths {
            fixture.server.restart().await;
        }
    }
    fixture.server.kill();
    proxy.refuse().await;
    fixture.link(|link| link["phase"] != "ready").await;

    let connects = fixture.server.saw("connect");
    let afresh = connects.iter().filter(|connect| connect["recovered"] == false).count() as u64;
    assert_eq!(afresh, deaths + 1, "there was no other break");
    let sids = |reports: &[Value]| reports.iter().map(|report| report["sid"].clone()).collect::<Vec<_>>();
    assert_eq!(sids(&fixture.server.saw("joined")), sids(&connects), "the room is joined in each connection");

    let sent = at_rest(&mut fixture, deaths).await;
    let stored = fixture.stored(sent).await;
    assert_eq!(stored.len(), sent + deaths as usize, "all that was read, and the gaps");
    assert_eq!(gaps(&stored), deaths, "one for each death");
}

/// Waits until the link is back in its room, for the so-and-so-many-th time. A link waits longer the more often it
/// fails, up to half a minute. With `PONTOON_ENDURANCE` set it is left to that, which takes minutes; else it is asked to
/// dial at once, as an operator would.
async fn back(fixture: &Fixture, times: usize) {
    let patient = std::env::var_os("PONTOON_ENDURANCE").is_some();
    let mut asked = Value::Null;
    eventually(BACK, async || {
        if fixture.server.saw("joined").len() >= times {
            return true;
        }
        let link = fixture.status().await["links"][0].clone();
        let retry = link["retry_at"].as_str().and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
        let soon = OffsetDateTime::now_utc() + Duration::from_secs(5);
        // Asked for once in each pause, and never when it is about to end anyway: that would break what is there.
        if !patient && link["retry_at"] != asked && retry.is_some_and(|retry| retry > soon) {
            asked = link["retry_at"].clone();
            fixture.ask("reconnect", &Value::Null).await;
        }
        false
    })
    .await;
}

/// Waits until some more events have come.
async fn some(fixture: &Fixture) {
    let before = fixture.ticks();
    eventually(DEADLINE, async || fixture.ticks() >= before + SOME).await;
}

/// Waits until all that was read is published, and the gap with which the run begins. Returns how many
/// events the service sent.
async fn at_rest(fixture: &mut Fixture, gaps: u64) -> usize {
    let labels = [("pontoon_instance", "any"), ("type", "socketio")];
    until_some(DEADLINE, async || {
        let metrics = fixture.daemon.metrics().await;
        let value = |name: &str| metrics.value(name, &labels).unwrap_or_else(|| panic!("no {name}"));
        let waiting = value("pontoon_spool_events") + value("pontoon_publish_inflight");
        let sent = value("pontoon_frames_received_total");
        let published = value("pontoon_events_published_total");
        assert_eq!(value("pontoon_events_dropped_total") + value("pontoon_events_deduplicated_total"), 0.0);
        (waiting == 0.0 && published == sent + (gaps + 1) as f64).then_some(sent as usize)
    })
    .await
}

/// Compares the stream with what the server sent: in order, nothing twice, no hole in a life, and between two lives a gap.
/// Returns how many gaps there are.
fn gaps(stored: &[String]) -> u64 {
    let (mut last, mut since, mut all) = (None, 0, 0);
    for entry in stored {
        if entry == "gap disconnected" {
            since += 1;
            all += 1;
            continue;
        }
        let number: u64 = entry.parse().unwrap_or_else(|_| panic!("{entry} was never sent"));
        if let Some(last) = last {
            let same_life = number / LIFE == last / LIFE;
            assert!(
                if same_life { number == last + 1 } else { number > last },
                "{number} comes after {last}"
            );
            assert_eq!(since, u64::from(!same_life), "gaps between {last} and {number}");
        }
        (last, since) = (Some(number), 0);
    }
    all
}
