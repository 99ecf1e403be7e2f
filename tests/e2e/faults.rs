//! Peers that freeze, refuse, or are not who they should be: noticed, recovered from, and without effect on others.

use std::time::{Duration, Instant};

use pontoon_testkit::{
    DaemonConfig, Listener, NatsServer, Refusal, Sub0, SubprotocolEcho, eventually, until_some,
};
use serde_json::Value;

use crate::support::{DEADLINE, Fixture, ask, contents, instance, listen, next, numbered, numbers, start};

#[tokio::test]
async fn a_frozen_nats_is_noticed_and_nothing_that_was_read_is_lost() {
    let mut fixture = Fixture::start().await;
    assert_eq!(fixture.sub0.blast(1_000, numbered).await, 1);
    fixture.nats.freeze();
    let since = Instant::now();
    assert_eq!(fixture.sub0.blast(1_000, |number| numbered(number + 1_000)).await, 1);
    fixture
        .status(|status| status["bus"]["connected"] == false || status["bus"]["publishing"] == false)
        .await;
    // The frozen time is the test's subject; no condition shows when it is over.
    tokio::time::sleep(Duration::from_secs(20).saturating_sub(since.elapsed())).await;
    fixture.nats.thaw();
    fixture.at_rest(2_000).await;
    let events = contents(&fixture.nats, "PONTOON_SHOP").await;
    assert!(numbers(&events) == (0..2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_frozen_service_is_noticed_and_the_other_instance_is_not_touched() {
    let nats = NatsServer::start().await;
    let (sick, well) = (Sub0::start().await, Sub0::start().await);
    let client = nats.client().await;
    let _daemon = start(DaemonConfig::new(&nats).sub0("sick", &sick).sub0("well", &well));
    sick.connected(1, DEADLINE).await;
    well.connected(1, DEADLINE).await;
    for name in ["sick", "well"] {
        let subject = format!("pontoon.command.sub0.{name}.call.x");
        eventually(DEADLINE, async || ask(&client, &subject, "{}", &[]).await.status == "response").await;
    }
    let mut states = listen(&client, "pontoon.state.sub0.sick").await;
    let mut gaps = listen(&client, "pontoon.event.sub0.sick.gap.detected.>").await;
    let phase = |state: &Value| state["links"][0]["phase"].as_str().unwrap_or_default().to_owned();
    sick.freeze();
    let since = Instant::now();
    let noticed = async {
        loop {
            let (_, state) = next(&mut states, |_, _| true).await;
            if phase(&state) != "ready" {
                return;
            }
        }
    };
    // All the while the other instance answers, fast enough for a caller with five seconds.
    let answered = async {
        while since.elapsed() < Duration::from_secs(40) {
            let reply =
                ask(&client, "pontoon.command.sub0.well.call.x", "{}", &[("Pontoon-Timeout", "5s")]).await;
            assert_eq!(reply.status, "response");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(noticed, answered);
    sick.thaw();
    next(&mut states, |_, state| phase(state) == "ready").await;
    let (_, gap) = next(&mut gaps, |_, body| body["reason"] != "restarted").await;
    assert_eq!(gap["reason"], "disconnected");
    assert_eq!(well.upgrades(), 1, "the other instance kept its socket");
    assert_eq!(ask(&client, "pontoon.command.sub0.sick.call.x", "{}", &[]).await.status, "response");
}

#[tokio::test]
async fn a_frozen_service_is_noticed_while_it_is_written_to_and_replies_claim_no_more_than_is_known() {
    let fixture = Fixture::with(NatsServer::options(), "").await;
    let mut states = listen(&fixture.client, "pontoon.state.sub0.shop").await;
    fixture.sub0.freeze();
    let body = format!("\"{}\"", "x".repeat(500_000));
    // More than the sockets' buffers hold, and then more than the queue does.
    let calls = (0..40).map(|number| {
        let (body, operation) = (body.clone(), format!("call.r{number}"));
        let fixture = &fixture;
        async move { fixture.ask(&operation, &body, &[("Pontoon-Timeout", "20s")]).await }
    });
    let noticed = next(&mut states, |_, state| state["links"][0]["phase"] != "ready");
    let (replies, _) = tokio::join!(futures_util::future::join_all(calls), noticed);
    for reply in &replies {
        let verdict = reply.verdict();
        let truthful = [
            ("unknown", Some("504")),
            ("failed", Some("503")),
            ("rejected", Some("429")),
            ("expired", Some("408")),
        ];
        assert!(truthful.contains(&verdict), "{verdict:?}: {}", reply.message());
    }
    let unknown = replies.iter().filter(|reply| reply.status == "unknown").count();
    fixture.sub0.thaw();
    eventually(DEADLINE, async || fixture.sub0.upgrades() >= 2).await;
    let arrived = fixture.sub0.texts().len();
    assert!(
        arrived <= unknown,
        "{arrived} calls arrived, and only {unknown} callers got the reply that theirs might have"
    );
}

#[tokio::test]
async fn refusals_name_what_the_operator_must_do_and_are_not_hammered() {
    for (refusal, phase, words) in [
        (Refusal::status(401), "credentials_refused", "credentials"),
        (Refusal::status(403), "credentials_refused", "credentials"),
        (Refusal::status(404), "wrong_address", "path"),
        (
            Refusal::status(301).header("Location", "ws://elsewhere.example/"),
            "wrong_address",
            "redirects are not followed",
        ),
        (Refusal::status(400), "wrong_address", "no WebSocket"),
        (Refusal::status(429).header("Retry-After", "600"), "waiting", "429"),
        (Refusal::status(500), "waiting", "500"),
    ] {
        let nats = NatsServer::start().await;
        let sub0 = Sub0::start().await;
        sub0.refuse(refusal.clone());
        let mut daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
        let mut link = Value::Null;
        eventually(DEADLINE, async || {
            let (_, text) = daemon.get("/status").await;
            let status: Value = serde_json::from_str(&text).expect("JSON");
            link = status["instances"][0]["links"][0].clone();
            link["phase"] == phase
        })
        .await;
        assert!(link["detail"].as_str().expect("a detail").contains(words), "{refusal:?}: {link}");
        if phase == "credentials_refused" || words == "429" {
            assert_eq!(sub0.dials().len(), 1, "{refusal:?}");
            let retry = link["retry_at"].as_str().expect("a time");
            let since = link["since"].as_str().expect("a time");
            assert!(minutes(retry) - minutes(since) >= 3 || minutes(retry) < minutes(since), "{link}");
        }
    }
}

/// Minutes of the hour and the hours of the day, as one number.
fn minutes(time: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| time[range].parse::<i64>().expect("digits");
    part(11..13) * 60 + part(14..16)
}

#[tokio::test]
async fn a_service_that_closes_with_1008_at_once_has_refused_the_credentials() {
    let mut fixture = Fixture::start().await;
    // Every connection: the first may have been open for longer than that already.
    let link = until_some(DEADLINE, async || {
        fixture.sub0.close(1008, "who are you?");
        let link = instance(&mut fixture.daemon, "shop").await?["links"][0].clone();
        (link["phase"] == "credentials_refused").then_some(link)
    })
    .await;
    assert!(link["detail"].as_str().expect("a detail").contains("who are you?"), "{link}");
}

#[tokio::test]
async fn a_service_that_is_silent_or_hangs_up_is_dialled_again() {
    for listener in [Listener::Silent, Listener::Slam] {
        let nats = NatsServer::start().await;
        let sub0 = Sub0::start().await;
        sub0.listener(listener.clone());
        let config = DaemonConfig::new(&nats).sub0("shop", &sub0).with("transport.connect_timeout = \"1s\"");
        let mut daemon = start(config);
        eventually(DEADLINE, async || sub0.dials().len() >= 2).await;
        sub0.authorize();
        sub0.connected(1, DEADLINE).await;
        daemon.ready(DEADLINE).await;
    }
}

#[tokio::test]
async fn a_token_is_offered_and_any_echo_or_none_is_accepted() {
    for echo in [SubprotocolEcho::First, SubprotocolEcho::Token, SubprotocolEcho::None] {
        let nats = NatsServer::start().await;
        let sub0 = Sub0::start().await;
        sub0.require_token("x-access-token", "tok.en");
        sub0.echo_subprotocol(echo);
        let settings = format!("url = \"{}\"\ntoken = {{ env = \"TOKEN\" }}", sub0.url());
        let config =
            DaemonConfig::new(&nats).connector("shop", "sub0", &settings).environment("TOKEN", "tok.en");
        let _daemon = start(config);
        sub0.connected(1, DEADLINE).await;
        assert_eq!(sub0.requests()[0].subprotocols(), ["x-access-token", "tok.en"], "{echo:?}");
    }
}
