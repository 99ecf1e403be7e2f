//! Jobs: each has one result, and none is done twice that must not be.

mod crashes;
mod service;

use async_nats::jetstream::{self, stream};
use pontoon_testkit::{DaemonConfig, MinChat, NatsServer, Resource, Sub0, eventually};
use serde_json::{Value, json};

use self::service::Client;
use crate::cli::{output, pontoon};
use crate::support::{DEADLINE, Fixture, ask_when_served, start};

async fn jobs(fixture: &Fixture) -> Client {
    Client::new(&fixture.nats, "pontoon.job.sub0.shop").await
}

#[tokio::test]
async fn a_job_is_carried_out_and_its_result_is_stored() {
    let mut fixture = Fixture::start().await;
    let jobs = jobs(&fixture).await;
    fixture.sub0.resource("fetch-balance", Resource::data(json!({ "wallet_balance": 12 })));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("Pontoon-Action", "balance_check"), ("traceparent", trace)];
    jobs.publish("call.fetch-balance", Some("job-1"), r#"{"a":1}"#, &headers).await;
    let result = jobs.result("job-1").await;
    assert_eq!(result.verdict(), ("response", None));
    assert_eq!(result.subject, "pontoon.result.sub0.shop.call.fetch-balance");
    assert_eq!(result.body["data"], json!({ "wallet_balance": 12 }));
    assert_eq!((&result.body["id"], result.header("traceparent")), (&json!("job-1"), Some(trace)));
    let sent: Value = serde_json::from_str(&fixture.sub0.texts()[0]).expect("JSON");
    assert_eq!(
        sent,
        json!({ "resource": "fetch-balance", "action": "balance_check", "payload": { "a": 1 } })
    );
    // Without an id it gets one, which ends in the sequence that the stream has confirmed.
    let sequence = jobs.publish("call.other", None, "{}", &[]).await;
    let result = jobs.next(|result| result.id.ends_with(&format!("-{sequence}"))).await;
    assert_eq!(result.verdict(), ("response", None));
    jobs.queue_is_empty().await;
    let metrics = fixture.daemon.metrics().await;
    let labels = [("pontoon_instance", "shop"), ("type", "sub0"), ("outcome", "response")];
    assert_eq!(metrics.value("pontoon_jobs_total", &labels), Some(2.0));
    let labels =
        [("pontoon_instance", "shop"), ("type", "sub0"), ("operation", "call"), ("outcome", "response")];
    assert_eq!(metrics.value("pontoon_commands_total", &labels), Some(2.0));
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_its_result_and_nothing_is_sent() {
    let fixture = Fixture::with(NatsServer::options().config("max_payload: 4194304"), "").await;
    let jobs = jobs(&fixture).await;
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    let long = "x".repeat(300);
    for (operation, body, headers, verdict, result) in [
        ("call.x", "{bad", vec![], ("rejected", "400"), "call.x"),
        ("call.x", large.as_str(), vec![], ("rejected", "413"), "call.x"),
        ("nope", "{}", vec![], ("rejected", "404"), "nope"),
        ("call.=ZZ", "{}", vec![], ("rejected", "400"), "call.=ZZ"),
        ("call.*", "{bad", vec![], ("rejected", "400"), "call.=2A"),
        ("call.x", "{}", vec![("Pontoon-Wait", "soon")], ("rejected", "400"), "call.x"),
        ("call.x", "{}", vec![("Pontoon-Timeout", "1h")], ("rejected", "400"), "call.x"),
        ("call.x", "{}", vec![("Pontoon-Expires", "soon")], ("rejected", "400"), "call.x"),
        ("call.x", "{}", vec![("Pontoon-Expires", "25h")], ("rejected", "400"), "call.x"),
        ("call.x", "{}", vec![("Nats-Msg-Id", long.as_str())], ("rejected", "400"), "call.x"),
    ] {
        let sequence = jobs.publish(operation, None, body, &headers).await;
        let found = jobs.next(|result| result.id.ends_with(&format!("-{sequence}"))).await;
        assert_eq!(found.verdict(), (verdict.0, Some(verdict.1)), "{operation} {headers:?}");
        assert_eq!(found.subject, format!("pontoon.result.sub0.shop.{result}"));
        assert!(!found.message().is_empty());
    }
    // What a publisher writes for the server, or where it may not, has no effect.
    let hostile =
        [("Nats-Expected-Stream", "PONTOON_JOBS"), ("Pontoon-Status", "x"), ("Reply", "$JS.API.INFO")];
    jobs.publish("call.y", Some("hostile"), "{}", &hostile).await;
    assert_eq!(jobs.result("hostile").await.verdict(), ("response", None));
    jobs.queue_is_empty().await;
    assert_eq!(jobs.results().await.len(), 11, "each has one");
    assert_eq!(fixture.sub0.texts().len(), 1);
}

#[tokio::test]
async fn a_job_waits_for_the_link_until_it_expires() {
    let mut fixture = Fixture::start().await;
    let jobs = jobs(&fixture).await;
    fixture.sub0.stop_listening().await;
    fixture.sub0.cut();
    fixture.state(|state| state["links"][0]["phase"] == "waiting").await;
    jobs.publish("call.x", Some("late"), "{}", &[("Pontoon-Expires", "200ms")]).await;
    assert_eq!(jobs.result("late").await.verdict(), ("expired", Some("408")));
    jobs.publish("call.x", Some("in time"), "{}", &[("Pontoon-Expires", "10m")]).await;
    // It is in flight for a moment each time it is tried.
    let waiting = json!({ "taken": true, "waiting": 1, "in_flight": 0 });
    let is_waiting =
        |jobs: &Value| waiting.as_object().unwrap().iter().all(|(name, value)| jobs[name] == *value);
    fixture.status(|status| is_waiting(&status["jobs"])).await;
    assert!(fixture.sub0.texts().is_empty());
    fixture.sub0.listen_again().await;
    assert_eq!(jobs.result("in time").await.verdict(), ("response", None));
    assert_eq!(fixture.sub0.calls("x").len(), 1);
    fixture.status(|status| status["jobs"]["waiting"] == 0 && status["jobs"]["in_flight"] == 0).await;
    // It was tried many times, and is one command.
    let metrics = fixture.daemon.metrics().await;
    let commands = |outcome| {
        let labels = [("pontoon_instance", "shop"), ("operation", "call"), ("outcome", outcome)];
        metrics.value("pontoon_commands_total", &labels)
    };
    assert_eq!(["response", "failed", "expired"].map(commands), [Some(1.0), Some(0.0), Some(1.0)]);
}

#[tokio::test]
async fn one_job_of_a_scope_is_under_way_and_other_scopes_go_on() {
    let fixture = Fixture::start().await;
    let jobs = jobs(&fixture).await;
    fixture.sub0.resource("slow", Resource::nothing());
    let long = ("Pontoon-Timeout", "60s");
    let action = |name: &'static str| ("Pontoon-Action", name);
    jobs.publish("call.slow", None, "{}", &[long, action("first")]).await;
    jobs.publish("call.slow", None, "{}", &[long, action("second")]).await;
    jobs.publish("call.named", None, "{}", &[("Pontoon-Scope", "slow"), action("third")]).await;
    for number in 0..40 {
        jobs.publish("call.fast", Some(&format!("fast-{number}")), "{}", &[]).await;
    }
    for number in 0..40 {
        let result = jobs.next(|_| true).await;
        assert_eq!((result.id, result.status), (format!("fast-{number}"), "response".to_owned()), "in order");
    }
    assert_eq!((fixture.sub0.calls("slow").len(), fixture.sub0.calls("named").len()), (1, 0));
}

#[tokio::test]
async fn a_job_that_is_published_twice_is_done_once_and_large_results_are_cut() {
    let fixture = Fixture::with(NatsServer::options().config("max_payload: 65536"), "").await;
    let jobs = jobs(&fixture).await;
    fixture.sub0.resource("large", Resource::data(json!("x".repeat(100_000))));
    let first = jobs.publish("call.large", Some("twice"), "{}", &[]).await;
    assert_eq!(jobs.publish("call.large", Some("twice"), "{}", &[]).await, first);
    let result = jobs.result("twice").await;
    assert_eq!(result.verdict(), ("response", Some("413")));
    jobs.queue_is_empty().await;
    assert_eq!((fixture.sub0.calls("large").len(), jobs.results().await.len()), (1, 1));
}

#[tokio::test]
async fn jobs_of_a_socketio_service_wait_for_it_and_keep_their_order() {
    let nats = NatsServer::start().await;
    let service = MinChat::start("key-of-the-office").await;
    for user in ["u1", "u2"] {
        service.add_user(&json!({ "id": user, "username": user, "name": user.to_uppercase() }));
    }
    service.add_chat("c1", "Chat 1", &["u1", "u2"]);
    let _daemon = start(DaemonConfig::new(&nats).minchat("support", &service, "u1", &["c1"]));
    let jobs = Client::new(&nats, "pontoon.job.minchat.support").await;
    let client = nats.client().await;
    let status = "pontoon.command.minchat.support.status";
    let all = async |phase: &str| {
        let state = ask_when_served(&client, status, "").await.body;
        let links = state["data"]["links"].as_array().cloned().unwrap_or_default();
        !links.is_empty() && links.iter().all(|link| link["phase"] == phase)
    };
    eventually(DEADLINE, async || all("ready").await).await;
    jobs.publish("message.send", Some("m0"), r#"{"channel":"c1","text":"0"}"#, &[]).await;
    assert_eq!(jobs.result("m0").await.verdict(), ("acked", None));
    service.stop_listening().await;
    service.cut();
    eventually(DEADLINE, async || all("waiting").await).await;
    for number in 1..=5 {
        let body = json!({ "channel": "c1", "text": number.to_string() }).to_string();
        jobs.publish("message.send", Some(&format!("m{number}")), &body, &[("Pontoon-Expires", "10m")]).await;
    }
    service.listen_again().await;
    for number in 1..=5 {
        assert_eq!(jobs.result(&format!("m{number}")).await.verdict(), ("acked", None));
    }
    let texts = service.messages("c1");
    let texts: Vec<_> = texts.iter().filter_map(|message| message["text"].as_str()).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn send_waits_for_the_result_of_a_job() {
    let fixture = Fixture::start().await;
    let jobs = jobs(&fixture).await;
    let send = |arguments: &[&str]| {
        let all = [&["send", "--job", "shop"], arguments].concat();
        output(pontoon(&fixture.nats, &all))
    };
    let (code, out, err) = send(&["call.echo", r#"{"a":1}"#, "--id", "mine"]).await;
    assert_eq!(code, Some(0), "{err}");
    let result: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&result["id"], &result["data"]), (&json!("mine"), &json!({ "a": 1 })));
    assert_eq!(jobs.result("mine").await.verdict(), ("response", None));
    // Sent again, it is not done again; its result is the one that is stored.
    let (code, again, err) = send(&["call.echo", r#"{"a":1}"#, "--id", "mine"]).await;
    assert_eq!((code, again), (Some(0), out), "{err}");
    assert!(err.contains("a job with this id was stored before"), "{err}");
    assert_eq!(fixture.sub0.calls("echo").len(), 1);
    let (code, out, _) = send(&["nothing"]).await;
    assert_eq!(code, Some(1));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["error"]["code"], 404);
    let (code, _, err) = send(&["call.echo", "--id", ""]).await;
    assert_eq!(code, Some(2), "{err}");
}

#[tokio::test]
async fn without_a_stream_the_status_says_what_to_do_and_commands_go_on() {
    let nats = NatsServer::options().every_right().start().await;
    let client = nats.client().await;
    let other =
        stream::Config { name: "TAKEN".into(), subjects: vec!["taken.>".into()], ..Default::default() };
    jetstream::new(client.clone()).create_stream(other).await.expect("a stream");
    let sub0 = Sub0::start().await;
    let lines = "delivery.provision = true\njobs.results = \"TAKEN\"";
    let daemon = start(DaemonConfig::new(&nats).with(lines).sub0("shop", &sub0));
    let mut fixture = Fixture { daemon, sub0, nats, client };
    let status = fixture.status(|status| status["jobs"]["detail"].is_string()).await;
    let detail = status["jobs"]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("TAKEN") && detail.contains("pontoon.result.>"), "{detail}");
    assert_eq!(status["jobs"]["taken"], false);
    assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "response");
}
