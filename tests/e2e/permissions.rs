//! What is shipped for the server: its users may do what they must, and nothing else; its streams are the daemon's own.

use std::fs;
use std::path::Path;

use async_nats::jetstream::{self, consumer, stream};
use async_nats::{Client, ConnectOptions};
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_testkit::{DaemonConfig, NatsServer, Sub0, eventually, repeat};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cli::{output, pontoon};
use crate::support::{DEADLINE, Fixture, ask, contents, listen, next, round_trip, start};

/// A client of one of the shipped users.
async fn client(nats: &NatsServer, user: &str) -> Client {
    let options = ConnectOptions::with_user_and_password(user.into(), NatsServer::PASSWORD.into());
    let options = options.custom_inbox_prefix(format!("_INBOX.{user}"));
    options.connect(nats.url()).await.expect("the server knows the user")
}

async fn fixture() -> Fixture {
    let nats = NatsServer::options().shipped_users(&["shop"]).start().await;
    let sub0 = Sub0::start().await;
    let daemon = start(DaemonConfig::new(&nats).sub0("shop", &sub0));
    let client = nats.client().await;
    let fixture = Fixture { daemon, sub0, nats, client };
    fixture.state(|state| state["links"][0]["phase"] == "ready" && state["bus"]["publishing"] == true).await;
    fixture
}

#[tokio::test]
async fn the_reader_receives_events_live_and_from_the_stream_and_does_nothing_else() {
    let fixture = fixture().await;
    let reader = client(&fixture.nats, "reader").await;
    let info = "$JS.API.STREAM.INFO.PONTOON_SHOP";
    let mut events = reader.subscribe("pontoon.event.>").await.expect("subscribed");
    answer(&reader, info).await;
    fixture.sub0.broadcast("tick", &json!({ "n": 1 }));
    next(&mut events, |_, body| body["data"]["n"] == 1).await;

    let streams = jetstream::new(reader.clone());
    let stream = streams.get_stream("PONTOON_SHOP").await.expect("the reader may look at the stream");
    let config = consumer::pull::Config { durable_name: Some("copy".into()), ..Default::default() };
    let consumer = stream.create_consumer(config).await.expect("the reader may have a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    let message =
        timeout(DEADLINE, messages.next()).await.expect("in time").expect("more").expect("a message");
    message.ack().await.expect("acknowledged");

    for subject in ["pontoon.command.sub0.shop.call.x", "$JS.API.STREAM.PURGE.PONTOON_SHOP"] {
        assert!(!is_received(&fixture, &reader, subject, info).await, "{subject}");
    }
    assert_eq!(fixture.sub0.texts(), [""; 0]);
}

#[tokio::test]
async fn the_caller_commands_its_instance_and_nothing_else() {
    let mut fixture = fixture().await;
    let caller = client(&fixture.nats, "caller").await;
    let reply = ask(&caller, "pontoon.command.sub0.shop.call.x", r#"{"n":2}"#, &[]).await;
    assert_eq!(reply.status, "response", "{reply:?}");
    let status = "pontoon.command.sub0.shop.status";
    for subject in ["pontoon.command.sub0.other.call.x", "pontoon.event.sub0.shop.x.y.z", "$JS.API.INFO"] {
        assert!(!is_received(&fixture, &caller, subject, status).await, "{subject}");
    }
    // It may choose the subject of the reply, which is how it would have the daemon do what it may not.
    fixture.sub0.broadcast("tick", &json!({ "n": 1 }));
    fixture.at_rest(1).await;
    let before = contents(&fixture.nats, "PONTOON_SHOP").await;
    let replies = ["$JS.API.STREAM.PURGE.PONTOON_SHOP", "pontoon.event.sub0.shop.x.y.z"];
    for reply in replies {
        let sent = caller.publish_with_reply("pontoon.command.sub0.shop.call.x", reply, "{}".into());
        sent.await.expect("sent");
    }
    answer(&caller, status).await;
    let labels = [("pontoon_instance", "shop"), ("operation", "call"), ("outcome", "bad_reply")];
    let daemon = &mut fixture.daemon;
    eventually(DEADLINE, async || {
        daemon.metrics().await.value("pontoon_commands_total", &labels) == Some(2.0)
    })
    .await;
    assert_eq!(contents(&fixture.nats, "PONTOON_SHOP").await, before);
}

/// Publishes with the rights of a user. Returns whether anybody received it; `allowed` is a subject that the user gets an
/// answer from.
async fn is_received(fixture: &Fixture, user: &Client, subject: &str, allowed: &str) -> bool {
    let mut all = listen(&fixture.client, ">").await;
    user.publish(subject.to_owned(), "not allowed".into()).await.expect("sent");
    answer(user, allowed).await;
    round_trip(&fixture.client).await;
    let mut received = false;
    while let Some(message) = all.next().now_or_never().flatten() {
        received |= message.payload == "not allowed";
    }
    received
}

/// Asks, and waits for the answer: what the user sent before has been judged then.
async fn answer(user: &Client, subject: &str) {
    let inbox = user.new_inbox();
    let mut answers = user.subscribe(inbox.clone()).await.expect("subscribed");
    user.publish_with_reply(subject.to_owned(), inbox, "".into()).await.expect("sent");
    timeout(DEADLINE, answers.next()).await.expect("an answer in time");
}

#[tokio::test]
async fn people_use_the_commands_as_these_users_and_see_what_is_refused() {
    let fixture = fixture().await;
    let as_user = |user: &str, arguments: &[&str]| {
        let mut command = pontoon(&fixture.nats, arguments);
        command.env("PONTOON_NATS__USER", user).env("PONTOON_NATS__PASSWORD", NatsServer::PASSWORD);
        command
    };
    let (code, out, err) = output(as_user("caller", &["send", "shop", "call.x", r#"{"n":2}"#])).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(r#""status":"response""#) || out.contains(r#""status": "response""#), "{out}");
    for (user, arguments) in [("caller", &["tail"][..]), ("reader", &["send", "shop", "call.x"])] {
        let (code, _, err) = output(as_user(user, arguments)).await;
        assert_eq!(code, Some(1), "{user} {arguments:?}: {err}");
        assert!(err.contains("Permissions Violation") && err.contains("nats.user"), "{err}");
    }
    // What was sent before the subscription is not received, so it is sent again and again.
    let broadcasts = repeat(std::time::Duration::from_millis(50), async || {
        fixture.sub0.broadcast("tick", &json!({ "n": 1 }));
    });
    tokio::select! {
        (code, out, err) = output(as_user("reader", &["tail", "--count", "1"])) => {
            assert_eq!(code, Some(0), "{err}");
            assert!(out.contains("resource.broadcast"), "{out}");
        }
        never = broadcasts => match never {},
    }
    let (code, out, err) = output(as_user("reader", &["tail", "shop", "--last", "1", "--count", "1"])).await;
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{out}{err}");
}

#[tokio::test]
async fn the_stream_files_are_what_the_daemon_would_make() {
    let fixture = Fixture::start().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nats/streams");
    let read = |file: &Path| -> Value { serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap() };
    let streams = jetstream::new(fixture.client.clone());
    let mut made = streams.get_stream("PONTOON_SHOP").await.unwrap();
    let made = made.info().await.unwrap().config.clone();
    let shipped: stream::Config = serde_json::from_value(read(&folder.join("shop.json"))).unwrap();
    let essence = |config: &stream::Config| {
        (
            (config.name.clone(), config.subjects.clone(), config.max_age, config.max_bytes),
            (config.max_message_size, config.duplicate_window, config.allow_direct, config.deny_delete),
            (config.num_replicas, config.discard, config.retention, config.allow_rollup),
        )
    };
    assert_eq!(essence(&shipped), essence(&made));
    for entry in fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        let config: stream::Config = serde_json::from_value(read(&file)).unwrap();
        let instance = file.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(config.name, format!("PONTOON_{}", instance.to_uppercase()));
        assert_eq!(config.metadata["instance"], instance);
        if instance != "shop" {
            streams.create_stream(config).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}
