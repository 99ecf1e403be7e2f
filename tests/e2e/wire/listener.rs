//! Floods: guesses at the listener, and commands whose reply may not be sent.

use std::time::Instant;

use async_nats::HeaderMap;
use pontoon_testkit::{ScriptSocket, eventually};
use serde_json::Value;

use super::Scenario;
use crate::support::{DEADLINE, ask};

/// How many the lines of this message count together.
fn counted(scenario: &Scenario, message: &str) -> u64 {
    let lines = scenario.daemon.logged(message);
    let count = |line: &Value| line.get("count").or_else(|| line.get("fields")?.get("count"))?.as_u64();
    lines.iter().filter_map(count).sum()
}

#[tokio::test]
async fn a_thousand_guesses_are_slowed_and_written_once_a_second() {
    let settings = r#"listen = { address = "127.0.0.1:0", token = "t0ken", max = 2 }"#;
    let mut scenario = Scenario::new("streamavatars", settings).await;
    let url = scenario.daemon.listener("any").await;
    let begin = Instant::now();
    let guessing = (0..1_000).map(|number| {
        let url = url.clone();
        async move { ScriptSocket::dial(&url, &[&format!("guess{number}")]).await.err() }
    });
    let answers = futures_util::future::join_all(guessing).await;
    let message = "a connection was not accepted";
    eventually(DEADLINE, async || counted(&scenario, message) == 1_000).await;
    let lines = scenario.daemon.logged(message).len();
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap();
    assert!(lines <= seconds + 2, "{lines} lines in {seconds} s");
    // Almost none was judged by its token.
    let judged = answers.iter().filter(|answer| **answer == Some(401)).count();
    assert!((1..=40).contains(&judged), "{judged} guesses were judged");
    // The right token still opens, once it is its turn.
    let opened = async || ScriptSocket::dial(&url, &["t0ken"]).await.is_ok();
    eventually(DEADLINE * 2, opened).await;
}

#[tokio::test]
async fn a_flood_of_replies_that_are_refused_is_written_once_a_second() {
    let settings = r#"listen = { address = "127.0.0.1:0", token = "t0ken" }"#;
    let scenario = Scenario::new("streamavatars", settings).await;
    let subject = "pontoon.command.streamavatars.any.status";
    eventually(DEADLINE, async || ask(&scenario.client, subject, "", &[]).await.status == "response").await;
    let begin = Instant::now();
    for number in 0..1_000 {
        let reply = format!("elsewhere.{number}");
        scenario
            .client
            .publish_with_reply_and_headers(subject, reply, HeaderMap::new(), "".into())
            .await
            .unwrap();
    }
    let message = "a command was refused: its reply subject is not under commands.reply_prefixes";
    eventually(DEADLINE, async || counted(&scenario, message) == 1_000).await;
    let lines = scenario.daemon.logged(message).len();
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap();
    assert!(lines <= seconds + 2, "{lines} lines in {seconds} s");
}
