//! What is published of an event, in both modes.

use std::collections::BTreeMap;

use pontoon_sdk::{Raw, event::Message, event::MessageObject};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn envelope(mode: EventMode, raw: bool) -> Envelope {
    Envelope::new("pontoon", "minchat", "support", 1_763_711_520_123, &Events { mode, raw })
}

fn at() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_763_711_521).unwrap()
}

fn headers(envelope: &Envelope, record: &Record) -> BTreeMap<&'static str, String> {
    let mut headers = BTreeMap::new();
    envelope.headers(record, |name, value| {
        assert!(headers.insert(name, value.to_owned()).is_none(), "{name} twice");
    });
    headers
}

fn sample() -> Event {
    let mut event =
        Event::new(EventType::MessageCreated, Raw::of_bytes(&Bytes::from_static(b"{\"n\": 1e999}")))
            .scope("room 42")
            .upstream("message");
    event.fields.channel = Some("room 42".into());
    event.fields.message =
        Some(Message::Object(MessageObject { id: Some("m1".into()), ..Default::default() }));
    event
}

#[test]
fn binary_mode_puts_the_attributes_into_headers() {
    let envelope = envelope(EventMode::Binary, true);
    let record = envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
    assert_eq!(record.subject, "pontoon.event.minchat.support.message.created.room=2042");
    assert_eq!(
        headers(&envelope, &record),
        BTreeMap::from([
            ("Content-Type", "application/json".to_owned()),
            ("Nats-Msg-Id", "minchat.support:1763711520123-1".to_owned()),
            ("ce-datacontenttype", "application/json".to_owned()),
            ("ce-id", "1763711520123-1".to_owned()),
            ("ce-link", "c1".to_owned()),
            ("ce-sequence", "001763711520123-000000000001".to_owned()),
            ("ce-source", "urn:pontoon:minchat:support".to_owned()),
            ("ce-specversion", "1.0".to_owned()),
            ("ce-subject", "room%2042".to_owned()),
            ("ce-time", "2025-11-21T07:52:01.000Z".to_owned()),
            ("ce-type", "pontoon.message.created.v1".to_owned()),
            ("ce-upstreamevent", "message".to_owned()),
        ])
    );
    assert_eq!(record.body, r#"{"channel":"room 42","message":{"id":"m1"},"raw":{"n": 1e999}}"#);
}

#[test]
fn structured_mode_is_one_document() {
    let envelope = envelope(EventMode::Structured, true);
    let record = envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
    let document: Value =
        serde_json::from_str(&String::from_utf8_lossy(&record.body).replace("1e999", "1")).unwrap();
    assert_eq!(document["id"], "1763711520123-1");
    assert_eq!(document["subject"], "room 42");
    assert_eq!(document["data"], json!({"channel":"room 42","message":{"id":"m1"},"raw":{"n":1}}));
    assert_eq!(
        headers(&envelope, &record).keys().copied().collect::<Vec<_>>(),
        ["Content-Type", "Nats-Msg-Id"]
    );
}

#[test]
fn raw_can_be_left_out_and_the_body_stays_json() {
    let record = envelope(EventMode::Binary, false).seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
    assert_eq!(record.body, r#"{"channel":"room 42","message":{"id":"m1"}}"#);
    let empty = Event::new(EventType::StateSnapshot, Raw::null());
    let record = envelope(EventMode::Binary, true).seal(empty, &LinkKey::new("c1"), Instant::now(), at());
    assert_eq!(record.body, r#"{"raw":null}"#);
}

#[test]
fn sequences_grow_and_ids_are_read_back() {
    let envelope = envelope(EventMode::Binary, true);
    let first = envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
    let second = envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
    assert!(headers(&envelope, &first)["ce-sequence"] < headers(&envelope, &second)["ce-sequence"]);
    assert_eq!(envelope.parse_message_id(&envelope.message_id(&second)), Some((envelope.epoch, 2)));
    assert_eq!(envelope.parse_message_id("minchat.other:1-2"), None);
}

#[test]
fn an_absurd_time_gives_way_to_the_time_of_reading() {
    let mut event = sample();
    event.time = Some(OffsetDateTime::from_unix_timestamp(-62_167_219_200).unwrap());
    let record = envelope(EventMode::Binary, true).seal(event, &LinkKey::new("c1"), Instant::now(), at());
    assert_eq!(rfc3339(record.time()), "2025-11-21T07:52:01.000Z");
}

#[test]
fn a_record_that_cannot_go_leaves_a_gap_in_its_place() {
    let envelope = envelope(EventMode::Binary, true);
    let mut record = envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
    envelope.replace_by_gap(&mut record, "too_large");
    assert_eq!((record.sequence, record.kind), (1, EventType::GapDetected));
    let body: Value = serde_json::from_slice(&record.body).unwrap();
    assert_eq!(
        (&body["reason"], &body["link"], &body["dropped"]),
        (&json!("too_large"), &json!("c1"), &json!(1))
    );
}

proptest! {
    #[test]
    fn no_value_can_break_a_protocol_line(scope in ".*", upstream in "\\PC*", link in ".*", trace in ".*") {
        let envelope = envelope(EventMode::Binary, true);
        let mut event = sample().scope(scope).upstream(upstream);
        event.traceparent = Some(trace);
        let record = envelope.seal(event, &LinkKey::new(link), Instant::now(), at());
        for (name, value) in headers(&envelope, &record) {
            prop_assert!(value.bytes().all(|byte| (0x21..=0x7E).contains(&byte)), "{name}: {value:?}");
            prop_assert!(value.len() <= 1_024);
        }
    }
}
