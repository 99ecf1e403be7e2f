//! A gap covers every event that was read and not stored, after a kill of the daemon, a deleted stream or a clock that was
//! set.

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use pontoon_testkit::{BareListener, DaemonConfig, Echo, NatsServer, Sub0, eventually};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::support::{DEADLINE, Fixture, ask, listen, next, numbered, start};

/// How long after it came an event may have been read.
const READ_WITHIN: Duration = Duration::seconds(1);

/// One message of a stream, with what gaps are judged by.
struct Stored {
    recorded: OffsetDateTime,
    sequence: String,
    body: Value,
}

impl Stored {
    fn number(&self) -> Option<u64> {
        self.body["data"]["n"].as_u64()
    }

    fn is_restart(&self) -> bool {
        self.body["reason"] == "restarted"
    }

    fn from(&self) -> Option<OffsetDateTime> {
        self.body["from"].as_str().map(time)
    }
}

fn time(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).expect("RFC 3339")
}

/// Everything that the stream of `shop` holds; nothing where the server does not answer yet.
async fn stored(nats: &NatsServer) -> Vec<Stored> {
    let jetstream = jetstream::new(nats.client().await);
    let Ok(stream) = jetstream.get_stream("PONTOON_SHOP").await else { return Vec::new() };
    let Ok(info) = stream.get_info().await else { return Vec::new() };
    let mut all = Vec::new();
    for sequence in 1..=info.state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { return Vec::new() };
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
        let recorded = header("ce-recordedtime").or_else(|| header("ce-time")).expect("a time");
        all.push(Stored {
            recorded: time(&recorded),
            sequence: header("ce-sequence").expect("a sequence"),
            body: serde_json::from_slice(&message.payload).expect("JSON"),
        });
    }
    all
}

/// Waits until a run that began after `runs` others has stored its first gap and the event `n`.
async fn stored_with(nats: &NatsServer, runs: usize, n: u64) -> Vec<Stored> {
    pontoon_testkit::until_some(DEADLINE, async || {
        let all = stored(nats).await;
        let begun = all.iter().filter(|stored| stored.is_restart()).count() > runs;
        (begun && all.iter().any(|stored| stored.number() == Some(n))).then_some(all)
    })
    .await
}

#[tokio::test]
async fn what_a_frozen_nats_did_not_store_before_the_daemon_died_is_covered() {
    let mut fixture = Fixture::start().await;
    fixture.nats.freeze();
    assert_eq!(fixture.sub0.blast(5_000, numbered).await, 1);
    fixture.status(|status| status["unconfirmed_events"].as_u64() >= Some(5_000)).await;
    fixture.daemon.kill();
    let thawed = OffsetDateTime::now_utc();
    fixture.nats.thaw();
    fixture.daemon.restart();
    fixture.sub0.connected(1, DEADLINE).await;
    fixture.status(|status| status["links"][0]["phase"] == "ready").await;
    fixture.sub0.broadcast("tick", &json!({"n": 5_000}));
    let all = stored_with(&fixture.nats, 1, 5_000).await;
    let second = all.iter().skip(1).position(Stored::is_restart).expect("the second run") + 1;
    let kept: Vec<_> = all[..second].iter().filter_map(Stored::number).collect();
    assert!(kept == (0..kept.len() as u64).collect::<Vec<_>>() && kept.len() < 5_000, "{}", kept.len());
    // The stream stored its last event when it was thawed; events that it never saw were read before.
    let from = all[second].from().expect("a beginning");
    assert_eq!(from, all[second - 1].recorded - READ_WITHIN);
    assert!(from < thawed, "{from} {thawed}");
}

#[tokio::test]
async fn a_run_that_never_reached_nats_is_covered_by_the_next() {
    let mut nats = NatsServer::start().await;
    nats.kill();
    let sub0 = Sub0::start().await;
    let daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    assert_eq!(sub0.blast(100, numbered).await, 1);
    let client = async_nats::ConnectOptions::new().retry_on_initial_connect();
    let client = client.connect(nats.url()).await.expect("a client");
    let mut fixture = Fixture { daemon, sub0, nats, client };
    fixture.status(|status| status["unconfirmed_events"].as_u64() >= Some(100)).await;
    fixture.daemon.kill();
    fixture.nats.restart().await;
    fixture.daemon.restart();
    fixture.sub0.connected(1, DEADLINE).await;
    fixture.status(|status| status["links"][0]["phase"] == "ready").await;
    fixture.sub0.broadcast("tick", &json!({"n": 100}));
    let all = stored_with(&fixture.nats, 0, 100).await;
    assert!(all[0].is_restart() && all[0].from().is_none(), "{}", all[0].body);
}

#[tokio::test]
async fn a_stream_that_was_deleted_while_the_daemon_was_down_is_covered() {
    let mut fixture = Fixture::with(NatsServer::options(), "").await;
    assert_eq!(fixture.sub0.blast(100, numbered).await, 1);
    fixture.at_rest(100).await;
    fixture.daemon.kill();
    jetstream::new(fixture.client.clone()).delete_stream("PONTOON_SHOP").await.expect("deleted");
    fixture.daemon.restart();
    fixture.sub0.connected(1, DEADLINE).await;
    fixture.status(|status| status["links"][0]["phase"] == "ready").await;
    fixture.sub0.broadcast("tick", &json!({"n": 100}));
    let all = stored_with(&fixture.nats, 0, 100).await;
    assert!(all[0].is_restart() && all[0].from().is_none(), "{}", all[0].body);
}

#[tokio::test]
async fn ids_and_gaps_of_a_run_stay_right_if_the_clock_was_set_back_before_it() {
    let nats = NatsServer::options().every_right().start().await;
    let jetstream = jetstream::new(nats.client().await);
    let config = jetstream::stream::Config {
        name: "PONTOON_SHOP".into(),
        subjects: vec!["pontoon.event.sub0.shop.>".into()],
        ..Default::default()
    };
    jetstream.create_stream(config).await.expect("created");
    let tomorrow = OffsetDateTime::now_utc() + Duration::days(1);
    let epoch = tomorrow.unix_timestamp() * 1_000;
    earlier_run(&jetstream, epoch, tomorrow).await;
    let sub0 = Sub0::start().await;
    let daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    sub0.connected(1, DEADLINE).await;
    let client = nats.client().await;
    let mut fixture = Fixture { daemon, sub0, nats, client };
    fixture.status(|status| status["links"][0]["phase"] == "ready").await;
    fixture.sub0.broadcast("tick", &json!({"n": 1}));
    let all = stored_with(&fixture.nats, 0, 1).await;
    let gap = all.iter().find(|stored| stored.is_restart()).expect("a gap");
    assert!(gap.from().is_none(), "it would begin behind its end: {}", gap.body);
    assert!(
        all.is_sorted_by(|before, after| before.sequence < after.sequence),
        "sequences grow over all runs"
    );
}

/// Stores an event as a run of this epoch would have.
async fn earlier_run(jetstream: &Context, epoch: i64, at: OffsetDateTime) {
    let mut headers = HeaderMap::new();
    let at = at.format(&Rfc3339).expect("a time");
    let id = format!("{epoch}-7");
    headers.insert("ce-id", id.as_str());
    headers.insert("Nats-Msg-Id", format!("sub0.shop:{id}").as_str());
    headers.insert("ce-time", at.as_str());
    headers.insert("ce-sequence", format!("{epoch:015}-{:012}", 7).as_str());
    let subject = "pontoon.event.sub0.shop.resource.broadcast.tick";
    let stored = jetstream.publish_with_headers(subject, headers, r#"{"data":{"n":0}}"#.into()).await;
    stored.expect("published").await.expect("stored");
}

#[tokio::test]
async fn a_gap_after_a_death_begins_where_a_link_broke_though_others_went_on() {
    let (nats, mut echoes) = (NatsServer::start().await, Vec::new());
    let mut settings = String::new();
    for title in ["broken", "whole"] {
        let echo = Echo::start().await;
        settings += &format!("sockets.{title} = {{ url = \"{}\" }}\n", echo.url());
        echoes.push(echo);
    }
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.streamavatars.avatars.>").await;
    let mut daemon = start(DaemonConfig::new(&nats).connector("avatars", "streamavatars", &settings));
    for _ in 0..2 {
        next(&mut events, |_, body| body["message"] == Echo::GREETING).await;
    }
    drop(echoes.remove(0));
    next(&mut events, |_, body| body["title"] == "broken").await;
    let after = OffsetDateTime::now_utc();
    // The other link goes on, and its events are stored.
    let send = "pontoon.command.streamavatars.avatars.send";
    let status = ask(&client, send, r#"{"title":"whole","message":"on"}"#, &[]).await.status;
    assert_eq!(status, "sent");
    let (message, _) = next(&mut events, |_, body| body["message"] == "on").await;
    let header = message.headers.expect("headers").get("ce-ongoinggap").map(|value| time(value.as_str()));
    let since = header.expect("a link is down");
    assert!(since < after, "{since} {after}");
    until_stored(&mut daemon).await;
    daemon.kill();
    daemon.restart();
    let (_, gap) = next(&mut events, |_, body| body["reason"] == "restarted").await;
    assert_eq!(gap["from"].as_str().map(time), Some(since - READ_WITHIN), "{gap}");
}

/// Bounds the stream of `avatars`: past so many messages it refuses more.
async fn bound(jetstream: &Context, max_messages: i64) {
    let stream = jetstream.get_stream("PONTOON_AVATARS").await.expect("the stream");
    let discard = jetstream::stream::DiscardPolicy::New;
    let config = stream.cached_info().config.clone();
    let config = jetstream::stream::Config { max_messages, discard, ..config };
    jetstream.update_stream(config).await.expect("updated");
}

#[tokio::test]
async fn a_gap_begins_no_later_than_a_socket_was_not_read_any_more_for_lack_of_room() {
    const TEXT: u8 = 0x81;
    let nats = NatsServer::options().every_right().start().await;
    let (busy, late) = (BareListener::start().await, BareListener::start().await);
    let settings = format!(
        "sockets.busy = {{ url = \"{}\" }}\nsockets.late = {{ url = \"{}\" }}\n",
        busy.url(),
        late.url()
    );
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.streamavatars.avatars.>").await;
    let config = DaemonConfig::new(&nats).with("delivery.buffer_events = 16\ndelivery.max_pause = \"10m\"");
    let mut daemon = start(config.connector("avatars", "streamavatars", &settings));
    let ((_, mut busy), (_, mut socket)) = (busy.accept().await, late.accept().await);
    socket.send(TEXT, b"first").await;
    let jetstream = jetstream::new(client.clone());
    next(&mut events, |_, body| body["message"] == "first").await;
    until_stored(&mut daemon).await;
    let stream = jetstream.get_stream("PONTOON_AVATARS").await.expect("the stream");
    bound(&jetstream, stream.cached_info().state.messages.try_into().expect("a few")).await;
    for _ in 0..32 {
        busy.send(TEXT, b"more").await;
    }
    eventually(DEADLINE, async || {
        let (_, text) = daemon.get("/status").await;
        let status: Value = serde_json::from_str(&text).unwrap_or_default();
        status["instances"][0]["room"] == false
    })
    .await;
    // From this command on, its link knows that there is no room.
    let send = "pontoon.command.streamavatars.avatars.send";
    assert_eq!(ask(&client, send, r#"{"title":"late","message":"on"}"#, &[]).await.status, "sent");
    // What the service sends then waits in the socket; how long is what the test is about.
    let sent = OffsetDateTime::now_utc();
    for _ in 0..200 {
        socket.send(TEXT, b"waits").await;
    }
    drop(socket);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    bound(&jetstream, -1).await;
    let (_, _again) = late.accept().await;
    let (_, gap) = next(&mut events, |_, body| body["reason"] == "disconnected").await;
    let from = gap["from"].as_str().map(time).expect("a beginning");
    assert!(from <= sent + Duration::SECOND, "{sent} {gap}");
}

/// Waits until NATS has confirmed every event.
async fn until_stored(daemon: &mut pontoon_testkit::Daemon) {
    eventually(DEADLINE, async || {
        let (_, text) = daemon.get("/status").await;
        let status: Value = serde_json::from_str(&text).unwrap_or_default();
        status["instances"][0]["unconfirmed_events"] == 0
    })
    .await;
}
