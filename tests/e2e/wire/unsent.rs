//! Joins whose frames are never written, because the service reads no more: they are not made over the next connection.

use pontoon_testkit::{BareListener, BareSocket};
use serde_json::{Value, json};

use super::{Scenario, TEXT, welcome};
use crate::support::{DEADLINE, Reply, ask};

/// How many messages may be sent before the buffers of both sockets are full.
const MESSAGES: usize = 500;

async fn send(scenario: &Scenario, operation: &str, body: Value, headers: &[(&str, &str)]) -> Reply {
    let subject = format!("pontoon.command.minchat.any.{operation}");
    ask(&scenario.client, &subject, &body.to_string(), headers).await
}

fn room(name: &str) -> Value {
    json!({ "channelId": name })
}

/// Fills the connection, which is not read, and joins rooms meanwhile. Returns those for which the reply is `sent`, and the
/// first whose frame was not written in time.
async fn fill(scenario: &Scenario) -> (Vec<String>, String) {
    let message = json!({ "channel": "c1", "text": "x".repeat(500_000) });
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        send(scenario, "message.send", message.clone(), &[("Pontoon-Wait", "accepted")]).await;
        let name = format!("r{number}");
        let reply = send(scenario, "room.join", room(&name), &[("Pontoon-Timeout", "1s")]).await;
        match reply.verdict() {
            ("sent", None) => sent.push(name),
            ("expired", Some("408")) => return (sent, name),
            // Its frame is the one that is being written.
            ("unknown", Some("504")) => {}
            other => panic!("{other:?}: {}", reply.message()),
        }
    }
    panic!("all of {MESSAGES} messages were written to a socket that is not read");
}

/// The rooms that are joined before the user begins to type.
async fn joined(socket: &mut BareSocket) -> Vec<String> {
    let mut joined = Vec::new();
    loop {
        let frame = socket.frame().await.expect("the connection stays");
        if frame.first != TEXT {
            continue;
        }
        let text = String::from_utf8(frame.payload).unwrap();
        let event: Value = serde_json::from_str(text.trim_start_matches("42")).unwrap();
        match event[0].as_str() {
            Some("room.join") => joined.push(event[1]["channelId"].as_str().unwrap().to_owned()),
            Some("typing.start") => return joined,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_join_that_was_never_written_is_not_made_over_the_next_connection() {
    let listener = BareListener::start().await;
    let url = listener.url().replace("ws:", "http:");
    let settings = format!(
        "url = \"{url}\"\nuser_id = \"u1\"\napi_key = \"key\"\nlinks = \"shared\"\nchats = [\"c1\"]\ntransport.write_timeout = \"10m\""
    );
    let scenario = Scenario::new("minchat", &settings).await;
    let (_, mut socket) = listener.accept().await;
    welcome(&mut socket).await;
    scenario.ready().await;
    let (sent, expired) = fill(&scenario).await;
    assert!(!sent.is_empty(), "nothing was written");
    // The same with a room that is left.
    let left = send(&scenario, "room.leave", room("c1"), &[("Pontoon-Timeout", "1s")]).await;
    assert_eq!(left.verdict(), ("expired", Some("408")), "{}", left.message());

    // The connection is lost while a join waits to be written; what is accepted behind it shows that it does.
    let inbox = scenario.client.new_inbox();
    let mut replies = scenario.client.subscribe(inbox.clone()).await.unwrap();
    let join = "pontoon.command.minchat.any.room.join";
    scenario.client.publish_with_reply(join, inbox, room("lost").to_string().into()).await.unwrap();
    let behind = send(&scenario, "typing.stop", room("c1"), &[("Pontoon-Wait", "accepted")]).await;
    assert_eq!(behind.verdict(), ("accepted", None), "{}", behind.message());
    drop(socket);
    let reply = tokio::time::timeout(DEADLINE, futures_util::StreamExt::next(&mut replies)).await;
    let reply = Reply::of(&reply.expect("in time").expect("subscribed"));
    assert_eq!(reply.verdict(), ("failed", Some("503")), "{}", reply.message());
    assert!(reply.message().contains("before it was sent"), "{}", reply.message());

    let (_, mut socket) = listener.accept().await;
    welcome(&mut socket).await;
    scenario.ready().await;
    assert_eq!(send(&scenario, "typing.start", room("c1"), &[]).await.verdict(), ("sent", None));
    let again = joined(&mut socket).await;
    assert_eq!(again.first().map(String::as_str), Some("c1"), "{again:?}");
    assert!(sent.iter().all(|room| again.contains(room)), "sent {sent:?}, joined again {again:?}");
    let kept: Vec<_> = again.iter().filter(|room| [&*expired, "lost"].contains(&room.as_str())).collect();
    assert!(kept.is_empty(), "their joins were never written: {kept:?}");
}
