//! The SDK of CloudEvents reads our events in both modes, whatever services name their messages.

use std::process::Stdio;

use futures_util::StreamExt as _;
use pontoon_testkit::NatsServer;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::asyncapi::node;
use crate::support::{DEADLINE, Fixture, listen};

/// What services may call their messages, and what stands in these.
const TEXTS: [&str; 9] = [
    "tick",
    "a b",
    "100%",
    "100%25",
    "\u{1f600} \u{2603} é",
    "say \"hi\", 'now'",
    "back\\slash",
    "line\r\nbreak\ttab",
    "\u{1}\u{7f}",
];

#[tokio::test]
async fn the_sdk_reads_events_in_both_modes() {
    for mode in ["binary", "structured"] {
        let lines = format!("events.mode = \"{mode}\"");
        let fixture = Fixture::with(NatsServer::options(), &lines).await;
        let mut events = listen(&fixture.client, "pontoon.event.*.*.resource.broadcast.>").await;
        let mut input = String::new();
        for text in TEXTS {
            fixture.sub0.broadcast(text, &json!({ "text": text }));
            let message = timeout(DEADLINE, events.next()).await.expect("in time").expect("an event");
            let headers = message.headers.unwrap_or_default();
            let headers: serde_json::Map<_, _> = headers
                .iter()
                .map(|(name, values)| (name.to_string(), Value::from(values[0].as_str())))
                .collect();
            let body = String::from_utf8(message.payload.to_vec()).expect("UTF-8");
            input += &json!({ "headers": headers, "body": body }).to_string();
            input.push('\n');
        }
        let mut read = node("cloudevents/read.js", "cloudevents");
        let mut read =
            read.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = read.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("node reads");
        drop(stdin);
        let output = timeout(DEADLINE * 2, read.wait_with_output()).await.expect("in time").unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{mode}: {err}");
        let read: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(read.len(), TEXTS.len(), "{mode}: {out}");
        for (event, text) in read.iter().zip(TEXTS) {
            assert_eq!(event["specversion"], "1.0", "{mode}: {event}");
            assert_eq!(event["type"], "pontoon.resource.broadcast.v1");
            assert_eq!(event["source"], "urn:pontoon:sub0:shop");
            for name in ["upstreamevent", "subject"] {
                assert_eq!(event[name], text, "{mode}, {name}: {event}");
            }
            assert_eq!(event["data"]["action"], text, "{mode}");
            assert_eq!(event["data"]["data"]["text"], text, "{mode}");
        }
    }
}
