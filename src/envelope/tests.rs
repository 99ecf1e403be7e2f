//! What is published of an event, in both modes.

use std::collections::BTreeMap;

use bytes::Bytes;
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

fn seal(envelope: &Envelope, event: Event) -> Record {
    envelope.seal(event, &LinkKey::new("c1"), Instant::now(), at(), None)
}

fn headers_of(lines: [&[u8]; 2]) -> BTreeMap<String, String> {
    let (lines, mut headers) = (String::from_utf8(lines.concat()).unwrap(), BTreeMap::new());
    for line in lines.split_terminator("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        assert!(headers.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
    }
    headers
}

fn headers(record: &Record) -> BTreeMap<String, String> {
    headers_of(record.header_lines(true))
}

fn subject(record: &Record) -> &str {
    std::str::from_utf8(record.subject()).unwrap()
}

fn body(record: &Record) -> &str {
    std::str::from_utf8(record.body()).unwrap()
}

fn owned<const N: usize>(headers: [(&str, String); N]) -> BTreeMap<String, String> {
    headers.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The body of structured mode.
fn document(record: &Record) -> Value {
    serde_json::from_str(&body(record).replace("1e999", "1")).unwrap()
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
    let record = seal(&envelope, sample());
    assert_eq!(subject(&record), "pontoon.event.minchat.support.message.created.room=2042");
    assert_eq!(
        headers(&record),
        owned([
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
    assert_eq!(body(&record), r#"{"channel":"room 42","message":{"id":"m1"},"raw":{"n": 1e999}}"#);
}

#[test]
fn structured_mode_is_one_document() {
    let envelope = envelope(EventMode::Structured, true);
    let record = seal(&envelope, sample());
    assert_eq!(subject(&record), "pontoon.event.minchat.support.message.created.room=2042");
    assert_eq!(
        document(&record),
        json!({
            "specversion": "1.0",
            "id": "1763711520123-1",
            "sequence": "001763711520123-000000000001",
            "source": "urn:pontoon:minchat:support",
            "type": "pontoon.message.created.v1",
            "time": "2025-11-21T07:52:01.000Z",
            "datacontenttype": "application/json",
            "link": "c1",
            "subject": "room 42",
            "upstreamevent": "message",
            "data": {"channel":"room 42","message":{"id":"m1"},"raw":{"n":1}},
        })
    );
    assert_eq!(
        headers(&record),
        owned([
            ("Content-Type", "application/cloudevents+json".to_owned()),
            ("Nats-Msg-Id", "minchat.support:1763711520123-1".to_owned()),
        ])
    );
}

#[test]
fn raw_can_be_left_out_and_the_body_stays_json() {
    let record = seal(&envelope(EventMode::Binary, false), sample());
    assert_eq!(body(&record), r#"{"channel":"room 42","message":{"id":"m1"}}"#);
    let empty = Event::new(EventType::StateSnapshot, Raw::null());
    let record = seal(&envelope(EventMode::Binary, true), empty);
    assert_eq!(body(&record), r#"{"raw":null}"#);
}

#[test]
fn sequences_grow_and_ids_are_read_back() {
    let envelope = envelope(EventMode::Binary, true);
    let mut first = seal(&envelope, sample());
    let second = seal(&envelope, sample());
    assert!(headers(&first)["ce-sequence"] < headers(&second)["ce-sequence"]);
    let named = headers(&second);
    let get = |name: &str| named.get(name).map(String::as_str);
    let (message_id, source, id) = (get("Nats-Msg-Id"), get("ce-source"), get("ce-id"));
    assert!(!headers_of(second.header_lines(false)).contains_key("Nats-Msg-Id"));
    for ids in [(message_id, None, None), (None, source, id), (message_id, source, id)] {
        assert_eq!(envelope.parse_id(ids.0, ids.1, ids.2), Some((envelope.epoch(), 2)), "{ids:?}");
    }
    for ids in [(Some("minchat.other:1-2"), source, id), (None, Some("urn:other"), id), (None, None, id)] {
        assert_eq!(envelope.parse_id(ids.0, ids.1, ids.2), None, "{ids:?}");
    }
    // A later epoch sorts behind, and is never left again.
    assert!(envelope.follow_epoch(1_863_711_520_123));
    assert!(!envelope.follow_epoch(5));
    envelope.move_to(&mut first, envelope.epoch());
    assert_eq!(headers(&first)["ce-id"], "1863711520124-1");
    assert!(headers(&first)["ce-sequence"].starts_with("001863711520124-"));
}

#[test]
fn the_time_of_reading_is_there_where_the_service_gave_another() {
    let time = |text: &str| parse_time(text).unwrap();
    for (given, read, recorded) in [
        (None, "2025-11-21T08:00:00.100Z", None),
        (Some("2025-11-21T08:00:00.100Z"), "2025-11-21T08:00:00.100Z", None),
        (Some("2025-11-21T07:59:58.5Z"), "2025-11-21T08:00:00.2Z", Some("2025-11-21T08:00:00.200Z")),
        // The clock was set back in between.
        (None, "2025-11-21T07:00:00Z", Some("2025-11-21T08:00:00.300Z")),
    ] {
        let mut event = sample();
        event.time = given.map(time);
        for mode in [EventMode::Binary, EventMode::Structured] {
            let envelope = envelope(mode, true);
            if read.starts_with("2025-11-21T07") {
                let before = time("2025-11-21T08:00:00.3Z");
                envelope.seal(sample(), &LinkKey::new("c1"), Instant::now(), before, None);
            }
            let event = Event { time: event.time, ..sample() };
            let record = envelope.seal(event, &LinkKey::new("c1"), Instant::now(), time(read), Some(at()));
            let of_mode: [Option<String>; 2] = match mode {
                EventMode::Binary => {
                    ["ce-recordedtime", "ce-ongoinggap"].map(|name| headers(&record).get(name).cloned())
                }
                EventMode::Structured => ["recordedtime", "ongoinggap"]
                    .map(|name| document(&record)[name].as_str().map(str::to_owned)),
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
        let mut record = seal(&envelope(EventMode::Binary, true), event.clone());
        assert!(record.omit_raw());
        assert_eq!(super::tests::body(&record), body);
        assert!(!record.omit_raw());
        let mut record = seal(&envelope(EventMode::Structured, true), event);
        assert!(record.omit_raw());
        assert_eq!(document(&record)["data"], serde_json::from_str::<Value>(body).unwrap());
    }
    let mut record = seal(&envelope(EventMode::Binary, false), sample());
    assert!(!record.omit_raw());
}

#[test]
fn an_absurd_time_gives_way_to_the_time_of_reading() {
    let mut event = sample();
    event.time = Some(OffsetDateTime::from_unix_timestamp(-62_167_219_200).unwrap());
    let record = seal(&envelope(EventMode::Binary, true), event);
    assert_eq!(headers(&record)["ce-time"], "2025-11-21T07:52:01.000Z");
}

#[test]
fn a_record_that_cannot_go_leaves_a_gap_in_its_place() {
    let envelope = envelope(EventMode::Binary, true);
    let mut record = seal(&envelope, sample());
    let link = Some(LinkKey::new("c1"));
    let gap = Gap { dropped: Some(1), ..Gap::new(GapReason::TooLarge, link, Start::At(at())) };
    envelope.replace_by_gap(&mut record, gap, None);
    assert_eq!((record.sequence, record.recorded), (1, at()));
    assert_eq!(headers(&record)["ce-type"], "pontoon.gap.detected.v1");
    assert!(!record.omit_raw());
    let body: Value = serde_json::from_slice(record.body()).unwrap();
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
        let record = envelope.seal(event, &LinkKey::new(link), Instant::now(), at(), None);
        for (name, value) in headers(&record) {
            prop_assert!(value.bytes().all(|byte| (0x21..=0x7E).contains(&byte)), "{name}: {value:?}");
            prop_assert!(value.len() <= 1_024);
        }
    }
}

/// All that is published of a record.
fn published(record: &Record) -> (&str, BTreeMap<String, String>, &str) {
    (subject(record), headers(record), body(record))
}

proptest! {
    #[test]
    fn a_record_that_follows_is_as_if_it_had_been_made_later(
        scope in ".*", upstream in ".*", epoch in any::<u64>(), gap in proptest::option::of(0..2_000_000_000_i64),
        structured in any::<bool>(), raw in any::<bool>()
    ) {
        let mode = if structured { EventMode::Structured } else { EventMode::Binary };
        let event = sample().scope(scope).upstream(upstream);
        let gap = gap.map(|second| OffsetDateTime::from_unix_timestamp(second).unwrap());
        let envelope = envelope(mode, raw);
        let record = seal(&envelope, event.clone());
        envelope.follow_epoch(epoch);
        envelope.reshape("acme.prod", &Events { mode, raw });
        let mut stored = Vec::new();
        record.store(&mut stored, None);
        let mut record = Record::restore(&stored).unwrap();
        envelope.move_to(&mut record, envelope.epoch());
        if let Some(gap) = gap {
            envelope.set_ongoing_gap(&mut record, gap);
        }
        let later = Envelope::new("acme.prod", "minchat", "support", envelope.epoch(), &Events { mode, raw });
        let wanted = later.seal(event, &LinkKey::new("c1"), Instant::now(), at(), gap);
        prop_assert_eq!(published(&record), published(&wanted));
        prop_assert_eq!(record.size(), wanted.size());
        prop_assert_eq!(record.omit_raw(), raw);
    }
}

#[test]
fn a_record_stays_in_the_mode_in_which_it_was_made() {
    let both = [EventMode::Structured, EventMode::Binary];
    for (before, after) in [(both[0], both[1]), (both[1], both[0])] {
        let envelope = envelope(before, true);
        let mut old = seal(&envelope, sample());
        envelope.reshape("acme.prod", &Events { mode: after, raw: false });
        envelope.rehome(&mut old);
        let new = seal(&envelope, sample());
        assert_eq!(new.sequence, old.sequence + 1);
        for (record, mode) in [(&old, before), (&new, after)] {
            assert_eq!(subject(record), "acme.prod.event.minchat.support.message.created.room=2042");
            assert_eq!(headers(record).contains_key("ce-id"), mode == EventMode::Binary);
        }
        assert!(body(&old).contains("\"raw\""), "raw stays where it is");
    }
}
