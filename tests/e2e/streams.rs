//! Answers that come in parts: what callers receive, and what becomes of a command whose caller is gone.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_testkit::{AgentReply, NatsServer, Proxy, until_some};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cli::{output, pontoon};
use crate::elizaos::fixture::{ElizaFixture, ROOM};
use crate::support::{DEADLINE, Reply, ask, listen, round_trip};

const OTHER_ROOM: &str = "4c1f0a7e-2b6d-4e95-a3c8-7d9e0f1a2b3c";
const SUBJECT: &str = "pontoon.command.elizaos.agents.message";
const OPERATION: [(&str, &str); 2] = [("pontoon_instance", "agents"), ("operation", "message")];

/// A caller that asked for parts.
struct Listener {
    client: Client,
    inbox: String,
    replies: Subscriber,
}

impl Listener {
    /// Sends a message to a room, and asks for the answer in parts.
    async fn ask(client: &Client, room: &str, text: &str, headers: &[(&str, &str)]) -> Self {
        let inbox = client.new_inbox();
        let replies = listen(client, &inbox).await;
        let mut map = HeaderMap::new();
        map.insert("Pontoon-Stream", "true");
        map.insert("Pontoon-Timeout", "60s");
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let body = json!({"roomId": room, "text": text}).to_string();
        client.publish_with_reply_and_headers(SUBJECT, inbox.clone(), map, body.into()).await.unwrap();
        Self { client: client.clone(), inbox, replies }
    }

    async fn receive(&mut self) -> Reply {
        Reply::of(&timeout(DEADLINE, self.replies.next()).await.expect("in time").expect("subscribed"))
    }

    async fn receive_parts(&mut self, number: usize) {
        for _ in 0..number {
            assert_eq!(self.receive().await.status, "part");
        }
    }

    /// All parts up to the last reply.
    async fn all(&mut self) -> (Vec<Value>, Reply) {
        let mut parts = Vec::new();
        loop {
            let reply = self.receive().await;
            if reply.status != "part" {
                return (parts, reply);
            }
            parts.push(reply.body["data"].clone());
        }
    }

    /// Nothing more has come.
    async fn receives_nothing(&mut self) {
        round_trip(&self.client).await;
        assert!(self.replies.next().now_or_never().is_none());
    }

    async fn leave(&mut self) {
        self.replies.unsubscribe().await.unwrap();
        round_trip(&self.client).await;
    }

    async fn come_back(&mut self) {
        self.replies = listen(&self.client, &self.inbox).await;
    }
}

/// Waits until the agent has sent so many more parts, whether they are received or not.
async fn sent_parts(fixture: &ElizaFixture, number: usize) {
    let mut deltas = listen(&fixture.client, "pontoon.event.elizaos.agents.message.delta.>").await;
    for _ in 0..number {
        timeout(DEADLINE, deltas.next()).await.expect("in time").expect("subscribed");
    }
}

/// An answer that takes as many words as this, each a while after the last.
fn slowly(words: usize) -> AgentReply {
    AgentReply::default().text(&"word ".repeat(words)).chunks(words).after(Duration::from_millis(50))
}

fn deltas_of(parts: &[Value]) -> String {
    parts.iter().filter_map(|part| part["delta"].as_str()).collect()
}

/// How often a streamed command ended so.
async fn ended(fixture: &mut ElizaFixture, outcome: &str) -> f64 {
    let labels = [OPERATION[0], OPERATION[1], ("outcome", outcome)];
    fixture.daemon.metrics().await.value("pontoon_commands_total", &labels).unwrap_or_default()
}

async fn ended_at_all(fixture: &mut ElizaFixture) -> f64 {
    fixture.daemon.metrics().await.value("pontoon_commands_total", &OPERATION).unwrap_or_default()
}

/// Requests and errors of the operation, as the micro service reports them.
async fn tallied(fixture: &ElizaFixture) -> (Value, Value) {
    let mut answers = listen(&fixture.client, "_INBOX.stats").await;
    let subject = "$SRV.STATS.pontoon-elizaos-agents";
    fixture.client.publish_with_reply(subject, "_INBOX.stats", "".into()).await.unwrap();
    let answer = timeout(DEADLINE, answers.next()).await.expect("in time").expect("subscribed");
    let stats: Value = serde_json::from_slice(&answer.payload).unwrap();
    let endpoints = stats["endpoints"].as_array().unwrap();
    let message = endpoints.iter().find(|endpoint| endpoint["name"] == "message").unwrap();
    (message["num_requests"].clone(), message["num_errors"].clone())
}

#[tokio::test]
async fn two_streams_at_once_do_not_mix() {
    let fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    fixture.ask("join", &json!({"roomId": OTHER_ROOM, "agentId": fixture.eliza.agent()})).await;
    fixture.eliza.add_agent(OTHER_ROOM);
    fixture.eliza.replies(AgentReply::default().chunks(20).after(Duration::from_millis(5)));
    let mut first = Listener::ask(&fixture.client, ROOM, "which room is this, the first?", &[]).await;
    let mut second = Listener::ask(&fixture.client, OTHER_ROOM, "and is this the second of them?", &[]).await;
    for (listener, words) in [(&mut first, "the first?"), (&mut second, "the second of them?")] {
        let (parts, last) = listener.all().await;
        assert_eq!(last.verdict(), ("response", None), "{}", last.message());
        assert!(parts.iter().enumerate().all(|(index, part)| part["index"] == index), "{parts:?}");
        assert!(deltas_of(&parts).ends_with(words) && parts.len() > 10, "{parts:?}");
        listener.receives_nothing().await;
    }
}

#[tokio::test]
async fn a_caller_who_does_not_ask_for_parts_gets_none() {
    let fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    fixture.eliza.replies(slowly(100));
    let mut listener = Listener::ask(&fixture.client, ROOM, "hello", &[("Pontoon-Stream", "false")]).await;
    assert_eq!(listener.receive().await.verdict(), ("acked", None));
    sent_parts(&fixture, 3).await;
    listener.receives_nothing().await;
}

#[tokio::test]
async fn a_caller_who_is_gone_ends_its_command_once() {
    let mut fixture = ElizaFixture::with(NatsServer::start().await, "commands.max_in_flight = 1").await;
    fixture.eliza.replies(slowly(500));
    let mut listener = Listener::ask(&fixture.client, ROOM, "a long story, please", &[]).await;
    listener.receive_parts(3).await;
    let body = json!({"roomId": ROOM, "text": "me, too"});
    assert_eq!(fixture.ask("message", &body).await.verdict(), ("rejected", Some("429")));
    listener.leave().await;
    until_some(DEADLINE, async || (ended(&mut fixture, "unknown").await == 1.0).then_some(())).await;
    listener.come_back().await;
    sent_parts(&fixture, 3).await;
    listener.receives_nothing().await;
    // Its place is free, and the session serves others in the same room.
    fixture.eliza.replies(AgentReply::default().text("as you like").chunks(2));
    let (parts, last) = Listener::ask(&fixture.client, ROOM, "and now a short one", &[]).await.all().await;
    assert_eq!((deltas_of(&parts).as_str(), last.status.as_str()), ("as you like", "response"));
    // The agent sends more parts: the caller is gone, not the agent.
    sent_parts(&fixture, 3).await;
    assert_eq!((ended(&mut fixture, "unknown").await, ended_at_all(&mut fixture).await), (1.0, 3.0));
    assert_eq!(tallied(&fixture).await, (json!(3), json!(2)));
}

#[tokio::test]
async fn a_deadline_between_parts_is_the_last_reply() {
    let mut fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    fixture.eliza.replies(slowly(500));
    let mut listener = Listener::ask(&fixture.client, ROOM, "a story", &[("Pontoon-Timeout", "2s")]).await;
    let (parts, last) = listener.all().await;
    assert!(!parts.is_empty());
    assert_eq!(last.verdict(), ("unknown", Some("504")));
    sent_parts(&fixture, 3).await;
    listener.receives_nothing().await;
    assert_eq!((ended(&mut fixture, "unknown").await, ended_at_all(&mut fixture).await), (1.0, 1.0));
}

#[tokio::test]
async fn those_who_joined_get_the_answer_though_the_first_is_gone() {
    let mut fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    // Longer than a caller may be gone.
    fixture.eliza.replies(slowly(200));
    let key = [("Idempotency-Key", "story")];
    let mut first = Listener::ask(&fixture.client, ROOM, "a story", &key).await;
    first.receive_parts(3).await;
    let mut second = Listener::ask(&fixture.client, ROOM, "a story", &key).await;
    round_trip(&fixture.client).await;
    first.leave().await;
    let (parts, last) = second.all().await;
    assert_eq!((parts.len(), last.verdict()), (0, ("response", None)), "{}", last.message());
    // Each of the two callers counts.
    assert_eq!(ended_at_all(&mut fixture).await, 2.0);
    let kept =
        ask(&fixture.client, SUBJECT, &json!({"roomId": ROOM, "text": "a story"}).to_string(), &key).await;
    assert_eq!(kept.body, last.body);
}

#[tokio::test]
async fn a_caller_who_comes_back_receives_the_rest() {
    let mut fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    fixture.eliza.replies(slowly(250));
    let mut listener = Listener::ask(&fixture.client, ROOM, "a story", &[]).await;
    // Between the first time and the last it is longer than a caller may be gone.
    for _ in 0..3 {
        listener.receive_parts(60).await;
        listener.leave().await;
        sent_parts(&fixture, 2).await;
        listener.come_back().await;
    }
    let (parts, last) = listener.all().await;
    assert!(!parts.is_empty());
    assert_eq!(last.verdict(), ("response", None), "{}", last.message());
    assert_eq!(ended_at_all(&mut fixture).await, 1.0);
}

#[tokio::test]
async fn a_caller_who_loses_its_connection_receives_the_rest() {
    let fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    let proxy = Proxy::to(fixture.nats.address()).await;
    let client = async_nats::connect(proxy.address().to_string()).await.unwrap();
    fixture.eliza.replies(slowly(200));
    let mut listener = Listener::ask(&client, ROOM, "a story", &[]).await;
    listener.receive_parts(3).await;
    proxy.refuse().await;
    sent_parts(&fixture, 3).await;
    proxy.accept_again().await;
    let (parts, last) = listener.all().await;
    assert!(!parts.is_empty());
    assert_eq!(last.verdict(), ("response", None), "{}", last.message());
}

#[tokio::test]
async fn a_stream_outlives_a_restart_of_nats() {
    let mut fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    fixture.eliza.replies(slowly(200));
    let mut listener = Listener::ask(&fixture.client, ROOM, "a story", &[]).await;
    listener.receive_parts(3).await;
    fixture.nats.restart().await;
    let (_, last) = listener.all().await;
    assert_eq!(last.verdict(), ("response", None), "{}", last.message());
    listener.receives_nothing().await;
    assert_eq!(ended_at_all(&mut fixture).await, 1.0);
}

#[tokio::test]
async fn a_caller_who_answers_parts_does_no_harm() {
    let fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    fixture.eliza.replies(slowly(10));
    let mut listener = Listener::ask(&fixture.client, ROOM, "a story", &[]).await;
    loop {
        let message = timeout(DEADLINE, listener.replies.next()).await.unwrap().unwrap();
        let reply = Reply::of(&message);
        let Some(report) = message.reply else {
            assert_eq!(reply.verdict(), ("response", None), "{}", reply.message());
            break;
        };
        assert_eq!(reply.status, "part");
        for words in ["", "+ACK", "{}"] {
            let mut headers = HeaderMap::new();
            headers.insert("Status", "503");
            fixture.client.publish_with_headers(report.clone(), headers, words.into()).await.unwrap();
        }
        fixture.client.publish(format!("{report}.more"), "".into()).await.unwrap();
    }
}

#[tokio::test]
async fn while_nats_takes_nothing_parts_are_dropped_and_the_last_reply_is_kept() {
    // More than the bus and the connection to NATS hold of parts.
    let nats = NatsServer::options().config("max_payload: 41943040").start().await;
    let settings = "transport.message_limit = \"40MiB\"";
    let mut fixture = ElizaFixture::with_settings(nats, "delivery.buffer = \"160MiB\"", settings).await;
    let text = "a long word ".repeat(1_500_000);
    fixture.eliza.replies(AgentReply::default().text(&text).chunks(600).after(Duration::from_micros(1)));
    let mut listener = Listener::ask(&fixture.client, ROOM, "all at once", &[]).await;
    listener.receive_parts(1).await;
    fixture.nats.freeze();
    until_some(DEADLINE, async || (ended(&mut fixture, "response").await == 1.0).then_some(())).await;
    fixture.nats.thaw();
    let (parts, last) = listener.all().await;
    assert_eq!(last.verdict(), ("response", None), "{}", last.message());
    assert!(last.body["data"]["text"] == text, "the answer is whole");
    let index: Vec<_> = parts.iter().filter_map(|part| part["index"].as_u64()).collect();
    assert!(index.is_sorted_by(|a, b| a < b) && index.len() < 599, "{index:?}");
    listener.receives_nothing().await;
}

#[tokio::test]
async fn a_part_that_is_larger_than_nats_takes_comes_without_its_data() {
    let nats = NatsServer::options().config("max_payload: 8192").start().await;
    let fixture = ElizaFixture::with(nats, "").await;
    fixture.eliza.replies(AgentReply::default().text(&"many words ".repeat(10_000)).chunks(10));
    let mut listener = Listener::ask(&fixture.client, ROOM, "a story", &[]).await;
    let mut codes = Vec::new();
    loop {
        let reply = listener.receive().await;
        codes.push(reply.code.clone());
        if reply.status != "part" {
            assert_eq!(reply.verdict(), ("response", Some("413")), "{}", reply.message());
            break;
        }
    }
    assert_eq!(codes, vec![Some("413".to_owned()); 11]);
}

#[tokio::test]
async fn send_prints_parts_as_they_come() {
    let fixture = ElizaFixture::with(NatsServer::start().await, "").await;
    fixture.eliza.replies(AgentReply::default().text("one two three four").chunks(4));
    let body = json!({"roomId": ROOM, "text": "count"}).to_string();
    let send = ["send", "--type", "elizaos", "--stream", "agents", "message", &body];
    let (code, out, err) = output(pontoon(&fixture.nats, &send)).await;
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, parts) = lines.split_last().unwrap();
    assert_eq!((parts.len(), &last["status"]), (4, &json!("response")), "{out}");
    assert!(parts.iter().all(|part| part["status"] == "part"), "{out}");
}
