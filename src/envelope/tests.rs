//! What is published of an event, in both modes.

use std::collections::BTreeMap;

use pontoon_sdk::{Raw, event::Message, event::MessageObject};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::metrics::GapReason;

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
    assert_eq!(
        envelope.subjects().event(&record.subject),
        "pontoon.event.minchat.support.message.created.room=2042"
    );
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
        serde_json::from_str(&String::from_utf8_lossy(&envelope.body(&record)).replace("1e999", "1"))
            .unwrap();
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
    assert_eq!(envelope.parse_message_id(&envelope.message_id(&second)), Some((envelope.epoch(), 2)));
    // A later epoch sorts behind, and is never left again.
    envelope.follow_epoch(1_863_711_520_123);
    envelope.follow_epoch(5);
    assert_eq!(headers(&envelope, &first)["ce-id"], "1863711520124-1");
    assert!(headers(&envelope, &first)["ce-sequence"].starts_with("001863711520124-"));
    assert_eq!(envelope.parse_message_id("minchat.other:1-2"), None);
}

#[test]
fn the_time_of_reading_is_there_where_the_service_gave_another() {
    let time = |text: &str| parse_time(text).unwrap();
    for (said, read, recorded) in [
        (None, "2025-11-21T08:00:00.100Z", None),
        (Some("2025-11-21T08:00:00.100Z"), "2025-11-21T08:00:00.100Z", None),
        (Some("2025-11-21T07:59:58.5Z"), "2025-11-21T08:00:00.2Z", Some("2025-11-21T08:00:00.200Z")),
        // The clock was set back in between.
        (None, "2025-11-21T07:00:00Z", Some("2025-11-21T08:00:00.300Z")),
    ] {
        let mut event = sample();
        event.time = said.map(time);
        for mode in [EventMode::Binary, EventMode::Structured] {
            let envelope = envelope(mode, true);
            if read.starts_with("2025-11-21T07") {
                let before = time("2025-11-21T08:00:00.3Z");
                envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), before);
            }
            let event = Event { time: event.time, ..sample() };
            let mut record = envelope.seal(event, &LinkKey::new("c1"), Instant::now(), time(read));
            record.ongoing_gap = Some(at());
            let of_mode: [Option<String>; 2] = match mode {
                EventMode::Binary => ["ce-recordedtime", "ce-ongoinggap"]
                    .map(|name| headers(&envelope, &record).get(name).cloned()),
                EventMode::Structured => {
                    let body = String::from_utf8_lossy(&envelope.body(&record)).replace("1e999", "1");
                    let document: Value = serde_json::from_str(&body).unwrap();
                    ["recordedtime", "ongoinggap"].map(|name| document[name].as_str().map(str::to_owned))
                }
            };
            assert_eq!(of_mode, [recorded.map(str::to_owned), Some("2025-11-21T07:52:01.000Z".to_owned())]);
        }
    }
}

#[test]
fn the_payload_can_be_left_out_of_a_record() {
    let mut without_fields = Event::new(EventType::LogEntry, Raw::of_bytes(&Bytes::from_static(b"[1,2]")));
    without_fields.time = None;
    for (event, body) in [
        (sample(), r#"{"channel":"room 42","message":{"id":"m1"},"raw_omitted":12}"#),
        (without_fields, r#"{"raw_omitted":5}"#),
    ] {
        let envelope = envelope(EventMode::Binary, true);
        let mut record = envelope.seal(event, &LinkKey::new("c1"), Instant::now(), at());
        assert!(record.omit_raw());
        assert_eq!(record.body, body);
        assert!(!record.omit_raw());
    }
    let mut record =
        envelope(EventMode::Binary, false).seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
    assert!(!record.omit_raw());
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
    let link = Some(LinkKey::new("c1"));
    let gap = Gap { dropped: Some(1), ..Gap::new(GapReason::TooLarge, link, Start::At(at())) };
    envelope.replace_by_gap(&mut record, gap, None);
    assert_eq!((record.sequence, record.kind, record.recorded()), (1, EventType::GapDetected, at()));
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

#[test]
fn what_was_sealed_before_a_change_follows_it() {
    let both = [EventMode::Structured, EventMode::Binary];
    for (before, after) in [(both[0], both[1]), (both[1], both[0])] {
        let envelope = envelope(before, true);
        let old = envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
        envelope.reshape("acme.prod", &Events { mode: after, raw: false });
        let new = envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), at());
        assert_eq!(new.sequence, old.sequence + 1);
        for record in [&old, &new] {
            let subject = envelope.subjects().event(&record.subject);
            assert_eq!(subject, "acme.prod.event.minchat.support.message.created.room=2042");
            let body = String::from_utf8(envelope.body(record).to_vec()).unwrap();
            let structured = after == EventMode::Structured;
            assert_eq!(body.contains("specversion"), structured);
            assert_eq!(headers(&envelope, record).contains_key("ce-id"), !structured);
        }
        assert!(old.body.len() > new.body.len(), "raw stays where it is");
    }
}
