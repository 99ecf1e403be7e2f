//! ElizaOS with the simulated server, in the releases that differ and in the dialect of its page.

pub(crate) mod fixture;

use futures_util::StreamExt as _;
use pontoon_testkit::{AgentReply, Eliza, ElizaDialect, ElizaVersion, eventually};
use serde_json::json;
use tokio::time::timeout;

use self::fixture::{ElizaFixture, ROOM};
use crate::support::{DEADLINE, Reply, listen, next};

#[tokio::test]
async fn every_release_takes_a_message_and_its_agent_answers() {
    for version in [ElizaVersion::V1_2, ElizaVersion::V1_4, ElizaVersion::V1_6_5, ElizaVersion::V1_7_2] {
        let fixture = ElizaFixture::ready(Eliza::options().version(version)).await;
        let mut events = listen(&fixture.client, "pontoon.event.elizaos.agents.>").await;
        let reply = fixture.ask("message.send", &json!({"channel": ROOM, "text": "hello"})).await;
        assert_eq!(reply.verdict(), ("acked", None), "{version:?}: {}", reply.message());
        let (mut own, mut answer) = (false, false);
        while !(own && answer) {
            let (message, body) = next(&mut events, |message, _| message.subject.contains(".message.")).await;
            if !message.subject.contains(".message.created.") {
                continue;
            }
            assert_eq!((&body["channel"], &body["message"]["created_at"].is_string()), (&json!(ROOM), &true));
            match body["sender"]["kind"].as_str() {
                Some("self") => own = body["message"]["text"] == "hello",
                Some("agent") => answer = true,
                other => panic!("{version:?}: a sender of the kind {other:?}: {body}"),
            }
        }
        assert!(!fixture.eliza.was_killed(), "{version:?}");
    }
}

#[tokio::test]
async fn nothing_that_a_caller_sends_kills_an_old_server() {
    let fixture = ElizaFixture::ready(Eliza::options().version(ElizaVersion::V1_2)).await;
    for operation in ["join", "leave", "message", "message.send", "request-world-state", "logs.filter"] {
        for body in
            [json!(null), json!({}), json!([]), json!(1), json!("x"), json!({"roomId": null, "text": 5})]
        {
            let reply = fixture.ask(operation, &body).await;
            let harmless = reply.status == "rejected" || operation == "logs.filter";
            assert!(harmless, "{operation} {body}: {}", reply.status);
        }
    }
    assert_eq!(
        fixture.ask("message.send", &json!({"channel": ROOM, "text": "still there?"})).await.status,
        "acked"
    );
    assert!(!fixture.eliza.was_killed());
}

#[tokio::test]
async fn an_answer_comes_in_parts_that_add_up() {
    let fixture = ElizaFixture::ready(Eliza::options()).await;
    fixture.eliza.replies(AgentReply::default().text("one two three four").chunks(4));
    let inbox = fixture.client.new_inbox();
    let mut replies = fixture.client.subscribe(inbox.clone()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Pontoon-Stream", "true");
    let body = json!({"roomId": ROOM, "text": "count"}).to_string();
    let subject = "pontoon.command.elizaos.agents.message";
    fixture.client.publish_with_reply_and_headers(subject, inbox, headers, body.into()).await.unwrap();
    let (mut parts, mut sum) = (0, String::new());
    let answer = loop {
        let message = timeout(DEADLINE, replies.next()).await.unwrap().unwrap();
        let reply = Reply::of(&message);
        if reply.status != "part" {
            break reply;
        }
        parts += 1;
        sum.push_str(reply.body["data"]["delta"].as_str().unwrap());
        assert_eq!(reply.body["data"]["length"], sum.len());
    };
    assert_eq!(answer.verdict(), ("response", None), "{}", answer.message());
    assert_eq!((parts, sum.as_str()), (4, "one two three four"));
    assert!(answer.body["data"].to_string().contains("one two three four"), "{}", answer.body);
}

#[tokio::test]
async fn rooms_are_joined_again_before_anything_is_sent_to_them() {
    let fixture = ElizaFixture::ready(Eliza::options()).await;
    let other = "4c1f0a7e-2b6d-4e95-a3c8-7d9e0f1a2b3c";
    assert_eq!(fixture.ask("join", &json!({"roomId": other})).await.verdict(), ("acked", None));
    for _ in 0..2 {
        let before = fixture.eliza.joins(other);
        fixture.eliza.cut();
        eventually(DEADLINE, async || {
            fixture.eliza.joins(other) > before && fixture.eliza.members(ROOM) == 1
        })
        .await;
        fixture.link(|link| link["phase"] == "ready").await;
        let reply = fixture.ask("message.send", &json!({"channel": other, "text": "again"})).await;
        assert_eq!(reply.verdict(), ("acked", None));
    }
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_reported_with_the_servers_message() {
    let guarded = || Eliza::options().version(ElizaVersion::V1_6_5).api_key("open-sesame-7");
    for settings in ["", "api_key = \"wrong-sesame-8\""] {
        let fixture = ElizaFixture::unconnected(guarded(), settings).await;
        let link = fixture.link(|link| link["phase"] == "credentials_refused").await;
        assert!(link["detail"].as_str().unwrap().contains("API Key"), "{link}");
        assert!(!fixture.daemon.log().contains("wrong-sesame-8"));
    }
    let fixture = ElizaFixture::unconnected(guarded(), "api_key = \"open-sesame-7\"").await;
    fixture.link(|link| link["phase"] == "ready").await;
    assert!(!fixture.daemon.log().contains("open-sesame-7"));
}

#[tokio::test]
async fn the_dialect_of_the_page_is_used_where_none_is_configured() {
    let fixture = ElizaFixture::ready(Eliza::options().dialect(ElizaDialect::Documented)).await;
    let mut events = listen(&fixture.client, "pontoon.event.elizaos.agents.>").await;
    let reply = fixture.ask("message.send", &json!({"channel": ROOM, "text": "hello"})).await;
    assert_eq!(reply.verdict(), ("sent", None), "nothing acknowledges it");
    next(&mut events, |message, body| {
        message.subject.contains(".message.created.") && body["message"]["text"] == "hello"
    })
    .await;
    assert_eq!(fixture.ask("request-world-state", &json!({"roomId": ROOM})).await.verdict(), ("sent", None));
    next(&mut events, |message, _| message.subject.contains(".state.snapshot.")).await;
}
