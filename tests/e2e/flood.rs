//! More commands at once than can be carried out: each is counted, and what was carried out is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectOptions, Subscriber};
use futures_util::StreamExt as _;
use pontoon_testkit::{Metrics, NatsServer};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::support::{Fixture, Reply, ask};

/// How long a flood may take on a busy machine.
const FLOOD: Duration = Duration::from_secs(240);

/// Sends this many calls at once, and reads the replies as they come. Returns the status of each that was answered, and
/// the metrics once all are accounted for.
async fn flood(fixture: &mut Fixture, count: usize) -> (HashMap<usize, (String, Option<String>)>, Metrics) {
    let options = ConnectOptions::new().subscription_capacity(count * 2).client_capacity(16_384);
    let flooder = options.connect(fixture.nats.url()).await.expect("connected");
    let inbox = flooder.new_inbox();
    let mut replies = flooder.subscribe(format!("{inbox}.*")).await.expect("subscribed");
    let sending = tokio::spawn(async move {
        for number in 0..count {
            let (subject, reply) =
                (format!("pontoon.command.sub0.shop.call.r{number}"), format!("{inbox}.{number}"));
            flooder.publish_with_reply(subject, reply, "{}".into()).await.expect("published");
        }
        flooder
    });
    let mut seen = HashMap::new();
    let end = Instant::now() + FLOOD;
    loop {
        read(&mut replies, &mut seen).await;
        let metrics = fixture.daemon.metrics().await;
        let dropped = |name| metrics.value(name, &[("pontoon_instance", "shop")]).expect("a series") as usize;
        let unheard =
            dropped("pontoon_replies_dropped_total") + dropped("pontoon_nats_messages_dropped_total");
        if sending.is_finished() && seen.len() + unheard >= count {
            assert_eq!(seen.len() + unheard, count);
            drop(sending.await);
            return (seen, metrics);
        }
        assert!(Instant::now() < end, "{} answered, {unheard} dropped\n{}", seen.len(), fixture.daemon.log());
    }
}

/// Reads replies until none comes for a moment.
async fn read(replies: &mut Subscriber, seen: &mut HashMap<usize, (String, Option<String>)>) {
    while let Ok(Some(message)) = timeout(Duration::from_millis(200), replies.next()).await {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        let Reply { status, code, .. } = Reply::of(&message);
        let before = seen.insert(number.expect("a number"), (status, code));
        assert!(before.is_none(), "{number:?} was answered twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_a_flood_is_counted_and_what_was_carried_out_is_answered() {
    let mut fixture = Fixture::with(NatsServer::options(), "").await;
    let mut total = 0;
    for count in [20_000, 100_000] {
        let carried_out = fixture.sub0.texts().len();
        let (seen, metrics) = flood(&mut fixture, count).await;
        total += count;
        let mut responses = 0;
        for (number, (status, code)) in &seen {
            match (status.as_str(), code.as_deref()) {
                ("response", None) => responses += 1,
                ("rejected", Some("429")) => {}
                other => panic!("{number}: {other:?}"),
            }
        }
        assert!(responses >= 256, "{responses}");
        assert_eq!(
            fixture.sub0.texts().len() - carried_out,
            responses,
            "what was carried out was answered, and nothing else"
        );
        // Nothing was dropped on the way in, so each is counted by how it ended.
        assert_eq!(metrics.value("pontoon_nats_messages_dropped_total", &[]), Some(0.0));
        let counted = metrics.value("pontoon_commands_total", &[("operation", "call")]);
        assert_eq!(counted, Some(total as f64));
    }
    let state = fixture.state(|_| true).await;
    assert_eq!(state["commands"], json!({"subscribed": true, "dropped": 0}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_caller_beside_a_flood_is_answered() {
    let mut fixture = Fixture::with(NatsServer::options(), "").await;
    let (client, over) = (fixture.client.clone(), Arc::new(AtomicBool::new(false)));
    let honest = tokio::spawn({
        let over = over.clone();
        async move {
            let mut statuses = HashMap::new();
            while !over.load(Ordering::Relaxed) {
                let reply = ask(&client, "pontoon.command.sub0.shop.call.honest", "{}", &[]).await;
                *statuses.entry((reply.status, reply.code)).or_insert(0) += 1;
            }
            statuses
        }
    });
    flood(&mut fixture, 60_000).await;
    over.store(true, Ordering::Relaxed);
    // Every one of its commands had a reply, else it would have failed.
    let statuses = honest.await.expect("each was answered");
    let known = |(status, code): &(String, Option<String>)| {
        matches!((status.as_str(), code.as_deref()), ("response", None) | ("rejected", Some("429")))
    };
    assert!(!statuses.is_empty() && statuses.keys().all(known), "{statuses:?}");
    assert_eq!(fixture.ask("call.honest", "{}", &[]).await.status, "response");
}
