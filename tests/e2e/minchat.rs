//! MinChat with the simulated service: many chats at once, and what is joined and left while it runs.

use std::collections::BTreeMap;

use async_nats::Client;
use pontoon_testkit::{Daemon, DaemonConfig, MinChat, NatsServer, eventually};
use serde_json::{Value, json};

use crate::support::{DEADLINE, ask, listen, next, start};

/// A daemon with one instance of MinChat, named `support`, whose user is `u1`.
struct Fixture {
    // Dropped in this order.
    daemon: Daemon,
    service: MinChat,
    _nats: NatsServer,
    client: Client,
}

impl Fixture {
    /// With these chats joined from the start, of those that there are.
    async fn start(chats: usize, joined: &[&str]) -> Self {
        let nats = NatsServer::start().await;
        let service = MinChat::start("key-of-the-office").await;
        for user in ["u1", "u2"] {
            service.add_user(&json!({"id": user, "username": user, "name": user.to_uppercase()}));
        }
        for chat in 1..=chats {
            service.add_chat(&format!("c{chat}"), &format!("Chat {chat}"), &["u1", "u2"]);
        }
        let client = nats.client().await;
        let daemon = start(DaemonConfig::new(&nats).minchat("support", &service, "u1", joined));
        let fixture = Self { daemon, service, _nats: nats, client };
        fixture.links(joined.len() + 1).await;
        fixture
    }

    /// Waits until so many links are ready, and there are no others.
    async fn links(&self, number: usize) {
        let ready = async || {
            let state = ask(&self.client, "pontoon.command.minchat.support.status", "", &[]).await.body;
            let links = state["data"]["links"].as_array().cloned().unwrap_or_default();
            let up = links.iter().all(|link| link["phase"] == "ready");
            up && links.len() == number && state["data"]["bus"]["publishing"] == true
        };
        eventually(DEADLINE, ready).await;
    }

    async fn ask(&self, operation: &str, body: &Value) -> String {
        let subject = format!("pontoon.command.minchat.support.{operation}");
        ask(&self.client, &subject, &body.to_string(), &[]).await.status
    }

    async fn resident(&mut self) -> f64 {
        self.daemon.metrics().await.value("process_resident_memory_bytes", &[]).unwrap()
    }
}

#[tokio::test]
async fn fifty_chats_know_who_types_where() {
    let names: Vec<String> = (1..=50).map(|chat| format!("c{chat}")).collect();
    let mut fixture = Fixture::start(50, &["c1"]).await;
    let with_one = fixture.resident().await;
    for name in &names {
        assert_eq!(fixture.ask("room.join", &json!({"channelId": name})).await, "accepted");
    }
    fixture.links(51).await;
    let per_link = (fixture.resident().await - with_one) / 49.0 / 1024.0;
    println!("one more link takes about {per_link:.0} KiB of resident memory");
    let mut events = listen(&fixture.client, "pontoon.event.minchat.support.typing.>").await;
    for name in &names {
        fixture.service.typing(name, "u2", true);
        fixture.service.typing(name, "u2", false);
    }
    let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..names.len() * 2 {
        let (message, body) = next(&mut events, |_, _| true).await;
        assert_eq!(body["sender"]["id"], "u2");
        let chat = body["channel"].as_str().unwrap().to_owned();
        assert!(message.subject.ends_with(&format!(".{chat}")), "{}", message.subject);
        let verb = message.subject.split('.').nth(5).unwrap().to_owned();
        received.entry(chat).or_default().push(verb);
    }
    let each = ["started".to_owned(), "stopped".to_owned()];
    assert!(received.len() == 50 && received.values().all(|verbs| *verbs == each), "{received:?}");
}

#[tokio::test]
async fn chats_are_joined_and_left_while_it_runs_and_a_message_is_published_once() {
    let mut fixture = Fixture::start(3, &["c1"]).await;
    for _ in 0..5 {
        assert_eq!(fixture.ask("room.join", &json!({"channelId": "c2"})).await, "accepted");
        assert_eq!(fixture.ask("room.leave", &json!({"channelId": "c2"})).await, "accepted");
    }
    assert_eq!(fixture.ask("room.join", &json!({"channelId": "c2"})).await, "accepted");
    fixture.links(3).await;
    eventually(DEADLINE, async || fixture.service.members("c2") == 1).await;
    // What was joined is joined again, by new connections.
    let joins = fixture.service.user_joins("u1");
    fixture.service.cut();
    eventually(DEADLINE, async || fixture.service.user_joins("u1") >= joins + 3).await;
    fixture.links(3).await;
    let members = async || {
        (fixture.service.members("c1"), fixture.service.members("c2"), fixture.service.user_members("u1"))
    };
    eventually(DEADLINE, async || members().await == (1, 1, 3)).await;

    let mut events = listen(&fixture.client, "pontoon.event.minchat.support.>").await;
    assert_eq!(fixture.ask("message.send", &json!({"channel": "c2", "text": "ours"})).await, "acked");
    fixture.service.post("c2", "u2", "theirs");
    let message = |body: &Value| body["message"]["text"].as_str().map(str::to_owned);
    let mut received = Vec::new();
    while received.len() < 2 {
        let (event, body) = next(&mut events, |_, body| message(body).is_some()).await;
        if event.subject.contains(".message.created.") {
            received.push((message(&body).unwrap(), body["sender"]["kind"].as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(received, [("ours".into(), "self".into()), ("theirs".into(), "user".into())]);
    assert_eq!(fixture.ask("message.send", &json!({"channel": "c3", "text": "x"})).await, "rejected");
    // Every link receives a chat's new message, and one of them publishes it.
    let labels = [("pontoon_instance", "support"), ("type", "minchat")];
    let repeated = async || {
        let metrics = fixture.daemon.metrics().await;
        metrics.value("pontoon_events_deduplicated_total", &labels).unwrap() >= 2.0
    };
    eventually(DEADLINE, repeated).await;
    assert!(!fixture.daemon.log().contains("key-of-the-office"));
}
