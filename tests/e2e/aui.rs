//! AUI with the simulated service: many tasks at once over few links, each with its own answer, whole and in order.

mod breaks;
mod errors;
mod keys;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use pontoon_testkit::{Aui, AuiAnswer, AuiEnvelope, Daemon, DaemonConfig, NatsServer, until_some};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{DEADLINE, Reply, ask, contents, filled, start};

/// A daemon with one instance of AUI, named `agents`.
struct Network {
    // Dropped in this order.
    daemon: Daemon,
    service: Aui,
    nats: NatsServer,
    client: Client,
}

/// A request whose answer is still to come.
struct Asked(Subscriber);

impl Network {
    /// With these settings beside the address and the key.
    async fn start(settings: &str) -> Self {
        let nats = NatsServer::start().await;
        let service = Aui::start("key-of-the-network").await;
        let client = nats.client().await;
        let daemon = start(DaemonConfig::new(&nats).aui("agents", &service).with(settings));
        let network = Self { daemon, service, nats, client };
        network.state(|state| state["bus"]["publishing"] == true).await;
        network
    }

    /// Sends a message in a task, behind all that was sent before, and asks for parts.
    async fn send(&self, task: &str, text: &str, headers: &[(&str, &str)]) -> Asked {
        let inbox = self.client.new_inbox();
        let replies = self.client.subscribe(inbox.clone()).await.unwrap();
        let mut map = HeaderMap::new();
        map.insert("Pontoon-Stream", "true");
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let body = json!({"task_id": task, "text": text}).to_string().into();
        let subject = "pontoon.command.aui.agents.message";
        self.client.publish_with_reply_and_headers(subject, inbox, map, body).await.unwrap();
        Asked(replies)
    }

    /// Waits for a state of the instance that is so.
    async fn state(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until_some(DEADLINE, async || {
            let state =
                ask(&self.client, "pontoon.command.aui.agents.status", "", &[]).await.body["data"].take();
            wanted(&state).then_some(state)
        })
        .await
    }

    /// Waits until the service has taken so many messages. Returns their texts, in order.
    async fn taken(&self, count: usize) -> Vec<String> {
        until_some(DEADLINE, async || {
            let turns = self.service.turns();
            (turns.len() >= count).then(|| turns.into_iter().map(|turn| turn.text).collect())
        })
        .await
    }
}

impl Asked {
    /// The parts of the answer, and the last reply.
    async fn answer(mut self) -> (Vec<Value>, Reply) {
        let mut parts = Vec::new();
        loop {
            let message = timeout(DEADLINE, self.0.next()).await.expect("in time").expect("one more");
            let mut reply = Reply::of(&message);
            if reply.status != "part" {
                return (parts, reply);
            }
            parts.push(reply.body["data"].take());
        }
    }

    /// The last reply alone.
    async fn end(self) -> Reply {
        self.answer().await.1
    }
}

/// The text that these parts make, which are numbered from 0 and each hold what is new.
fn whole(parts: &[Value]) -> String {
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        text.push_str(part["delta"].as_str().unwrap());
        assert_eq!((&part["index"], &part["length"]), (&json!(index), &json!(text.chars().count())));
    }
    text
}

#[tokio::test]
async fn two_hundred_tasks_at_once_over_64_links_each_get_their_own_answer_whole_and_in_order() {
    const TASKS: usize = 200;
    const UPDATES: usize = 50;
    let network = Network::start("max_links = 64").await;
    let answer = AuiAnswer::default().updates(UPDATES);
    network.service.answers(answer.clone());
    network.service.one_at_a_time();
    let mut asked = Vec::new();
    for number in 0..TASKS {
        let task = format!("task {number}");
        if number % 2 == 0 {
            network.service.answers_in(&task, answer.clone().envelope(AuiEnvelope::Full));
        }
        let text = format!("{}of {task}", "some words ".repeat(10));
        let request = network.send(&task, &text, &[]).await;
        asked.push(async move { (task, text, request.answer().await) });
    }
    let answers = join_all(asked).await;

    let turns: BTreeMap<_, _> =
        network.service.turns().into_iter().map(|turn| (turn.task.clone(), turn)).collect();
    assert_eq!((network.service.turns().len(), turns.len()), (TASKS, TASKS));
    for (task, text, (parts, last)) in &answers {
        assert_eq!(
            (last.verdict(), parts.len()),
            (("response", None), UPDATES),
            "{task}: {}",
            last.message()
        );
        assert_eq!((&whole(parts), &turns[task].text), (text, text));
        assert_eq!(Some(&last.body["data"]), turns[task].answer.as_ref());
        assert_eq!(last.body["data"]["text"], **text);
    }
    let links: BTreeSet<_> = turns.values().map(|turn| turn.connection).collect();
    assert_eq!(links.len(), TASKS, "no connection was used for two tasks");
    assert!(network.service.most_connections() <= 64, "{}", network.service.most_connections());

    let number = TASKS * (UPDATES + 1);
    filled(&network.nats, "PONTOON_AGENTS", number as u64, DEADLINE).await;
    let events = contents(&network.nats, "PONTOON_AGENTS").await;
    assert_eq!(events.len(), number);
    let mut received: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for (kind, body) in &events {
        let channel = body["channel"].as_str().unwrap();
        let (index, text) = received.entry(channel).or_default();
        match kind.as_str() {
            "pontoon.message.delta.v1" => {
                text.push_str(body["delta"].as_str().unwrap());
                assert_eq!((&body["index"], &body["length"]), (&json!(index), &json!(text.chars().count())));
            }
            "pontoon.message.completed.v1" => {
                assert_eq!((&body["message"]["text"], *index), (&json!(turns[channel].text), UPDATES));
                assert_eq!(*text, turns[channel].text);
            }
            other => panic!("{other} {body}"),
        }
        *index += 1;
    }
    assert!(received.len() == TASKS && received.values().all(|(count, _)| *count == UPDATES + 1));
}

#[tokio::test]
async fn no_more_is_sent_than_the_rate_limit_lets_through() {
    let network = Network::start(r#"rate_limit = { requests = 2, per = "1s" }"#).await;
    let started = Instant::now();
    let mut asked = Vec::new();
    for number in 0..6 {
        asked.push(network.send(&format!("t{}", number % 3), &number.to_string(), &[]).await);
    }
    for request in asked {
        assert_eq!(request.end().await.verdict(), ("response", None));
    }
    // Two at once, and then one whenever half a second has brought another token.
    let arrived: Vec<_> = network.service.turns().iter().map(|turn| turn.at - started).collect();
    assert_eq!(arrived.len(), 6);
    for (number, at) in arrived.iter().enumerate().skip(2) {
        assert!(*at >= Duration::from_millis(500) * (number as u32 - 1), "{arrived:?}");
    }
}
