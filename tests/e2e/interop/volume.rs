//! Much, and too much.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::fixture::{Fixture, NUMBERED};

#[tokio::test]
async fn fifty_thousand_events_are_stored_in_order() {
    let mut fixture = Fixture::ready(NUMBERED, json!({})).await;
    fixture.joined(1).await;
    let count = 50_000;
    fixture.blast(0, count).await;
    let numbers: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    assert!(fixture.stored(numbers.len()).await == numbers, "there is a hole, or the order is another");
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn what_is_larger_than_the_server_takes_is_refused_and_the_link_lives_on() {
    let limit = 20_000;
    let fixture = Fixture::ready("", json!({"maxHttpBufferSize": limit})).await;
    let text = |size: usize| json!("x".repeat(size));
    let blob = |size: usize| {
        let attachments = [STANDARD.encode(vec![0x1e_u8; size])];
        json!({"event": "echo", "args": [{"_placeholder": true, "num": 0}], "attachments": attachments})
    };
    for operation in ["emit.echo", "call.echo"] {
        let reply = fixture.ask(operation, &text(limit)).await;
        assert_eq!(reply.verdict(), ("rejected", Some("413")), "{operation}");
        assert!(reply.message().contains("20000"), "{}", reply.message());
    }
    for operation in ["emit", "call"] {
        assert_eq!(
            fixture.ask(operation, &blob(limit + 1)).await.verdict(),
            ("rejected", Some("413")),
            "{operation}"
        );
    }
    // What just fits passes.
    assert_eq!(fixture.ask("call.echo", &text(limit - 100)).await.verdict(), ("response", None));
    assert_eq!(fixture.ask("call", &blob(limit)).await.verdict(), ("response", None));
    assert_eq!(fixture.server.receives("echo", 2).await.len(), 2);
    assert_eq!(fixture.server.saw("connect").len(), 1);
}
