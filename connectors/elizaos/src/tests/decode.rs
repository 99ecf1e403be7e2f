//! Anything that a service may send: published once, within bounds.

use super::*;

/// Everything that released servers and the page send, and more.
const NAMES: [&str; 24] = [
    "connection_established",
    "authenticated",
    "messageBroadcast",
    "messageComplete",
    "world-state",
    "logEntry",
    "error",
    "messageError",
    "messageAck",
    "messageStreamChunk",
    "messageStreamError",
    "messageDeleted",
    "channelCleared",
    "channelDeleted",
    "channelUpdated",
    "channel_joined",
    "room_joined",
    "log_stream",
    "log_subscription_confirmed",
    "log_filters_updated",
    "controlMessage",
    "unauthorized",
    "message",
    "",
];

#[test]
fn any_event_is_published_once() {
    let values = [json!(null), json!(true), json!(-1.5e300), json!(""), json!("x"), json!([]), json!({})];
    let fields = [
        "id",
        "messageId",
        "clientMessageId",
        "channelId",
        "roomId",
        "text",
        "chunk",
        "index",
        "createdAt",
        "updatedAt",
        "senderId",
        "entityId",
        "error",
        "details",
        "level",
        "time",
        "msg",
        "payload",
        "type",
        "subscribed",
        "success",
        "updates",
        "attachments",
        "metadata",
        "thought",
        "source",
        "agentId",
    ];
    let deep = json!({"a": {"b": [{"c": [[[[[[]]]]]]}]}});
    let mut payloads: Vec<Value> = values.to_vec();
    for field in fields {
        payloads.extend(values.iter().map(|value| json!({field: value})));
        payloads.push(json!({field: deep, "messageId": "m", "channelId": "c", "id": "i", "level": 30}));
        payloads
            .push(json!({field: "x".repeat(1_000), "type": "log_entry", "payload": {field: 1, "msg": ""}}));
    }
    let elizaos = elizaos(json!({"logs": true, "rooms": [ROOM]}));
    for name in NAMES {
        let (mut session, mut out) = session(&elizaos);
        let mut published = 0;
        for payload in &payloads {
            let actions = receive(&mut session, &mut out, name, payload);
            let events = actions.iter().filter(|action| matches!(action, Action::Publish(_)));
            let count = events.count();
            assert!(count <= 1, "{name} {payload}: {count} events");
            published += count;
        }
        // Greetings, and the confirmation of the subscription on connect.
        let unpublished = match name {
            "connection_established" => payloads.len(),
            "authenticated" => payloads.iter().filter(|payload| is_greeting(payload)).count(),
            "log_subscription_confirmed" => 1,
            _ => 0,
        };
        assert_eq!(published, payloads.len() - unpublished, "{name}");
    }
}

/// Whether it names no other entity.
fn is_greeting(payload: &Value) -> bool {
    match payload {
        Value::Object(fields) => match fields.get("entityId") {
            None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => true,
            Some(text) => text == "",
        },
        _ => false,
    }
}

#[test]
fn lines_of_a_log_that_is_not_subscribed_to_are_not_published() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    for name in ["logEntry", "log_stream"] {
        for payload in [json!({"level": 30, "msg": "secret"}), json!("secret"), json!(null)] {
            assert!(receive(&mut session, &mut out, name, &payload).is_empty(), "{name} {payload}");
        }
    }
}

#[test]
fn a_part_behind_a_missing_one_has_no_length() {
    let elizaos = elizaos(json!({"rooms": [ROOM]}));
    let (mut session, mut out) = session(&elizaos);
    let body = format!(r#"{{"roomId":"{ROOM}","text":"x","messageId":"m1"}}"#);
    encode(&mut session, Command { stream: true, ..command(1, "message", &body) }, &mut out).unwrap();
    receive(&mut session, &mut out, "messageAck", &json!({"clientMessageId": "m1", "messageId": "s1"}));
    let chunk = json!({"messageId": "s2", "channelId": ROOM, "chunk": "b", "index": 1, "agentId": AGENT});
    let actions = receive(&mut session, &mut out, "messageStreamChunk", &chunk);
    let part = actions.iter().find_map(|action| match action {
        Action::Reply(CommandId(1), Reply::Part(part)) => Some(part.get().to_owned()),
        _ => None,
    });
    assert_eq!(part.as_deref(), Some(r#"{"delta":"b","index":1}"#));
    let event = event(actions);
    assert!(matches!(&event.fields.message, Some(Message::Object(message)) if message.text.is_none()));
}

#[test]
fn errors_of_the_connector_have_the_kind_of_their_cause() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    let unexpected = session.decode(&Frame::ack(0, Vec::new()), &mut out).unwrap_err();
    assert_eq!(unexpected.kind(), Kind::Protocol);
    let unknown = encode(&mut session, command(1, "sing", "{}"), &mut out).unwrap_err();
    assert_eq!(unknown.kind(), Kind::Internal);
    assert_eq!(out.drain().len(), 0);
}
