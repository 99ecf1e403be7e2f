//! The connector from outside: transcripts, the sample, good and bad settings, bytes that must not change.

use std::time::{Duration, Instant};

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Action, Command, CommandId, Kind, Outbox, Param, Reply, Request as _, Session};
use pontoon_transcript::{check_sample, play_folder};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

#[test]
fn every_transcript_plays() {
    let count = play_folder::<Sub0>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 20, "only {count} transcripts");
}

#[test]
fn the_sample_lists_every_setting_with_its_default() {
    let (plain, all) = check_sample::<Sub0>().unwrap();
    assert_eq!(
        (&all.token_name, all.call_timeout, all.late_answer_window, all.correlation, all.publish_responses),
        (
            &plain.token_name,
            plain.call_timeout,
            plain.late_answer_window,
            plain.correlation,
            plain.publish_responses
        )
    );
    assert_eq!(
        (all.require_subprotocol, all.max_calls, all.max_queue_bytes),
        (plain.require_subprotocol, plain.max_calls, plain.max_queue_bytes)
    );
}

fn settings(mut more: Value) -> Value {
    let table = more.as_object_mut().unwrap();
    table.entry("url").or_insert(json!("wss://h/ws"));
    more
}

#[test]
fn the_endpoint_is_made_from_the_settings() {
    let more = json!({"uid": "a b", "token": "hunter2", "token_name": "t", "origin": "https://o"});
    let sub0 = Sub0::new(serde_json::from_value(settings(more)).unwrap()).unwrap();
    let endpoint = sub0.links().remove(0).endpoint;
    assert_eq!(endpoint.query, [("uid".to_owned(), Param::Plain("a b".to_owned()))]);
    assert_eq!(endpoint.headers, [("Origin".to_owned(), Param::Plain("https://o".to_owned()))]);
    let subprotocols: Vec<_> = endpoint.subprotocols.iter().map(|param| param.reveal().unwrap()).collect();
    assert_eq!(subprotocols, ["t", "hunter2"]);
    assert!(!endpoint.require_subprotocol);
    assert!(!format!("{endpoint:?}").contains("hunter2"));
    assert_eq!(sub0.timeout("call"), Some(Duration::from_secs(10)));
}

#[test]
fn without_a_token_nothing_is_offered() {
    let sub0 = Sub0::new(serde_json::from_value(settings(json!({}))).unwrap()).unwrap();
    let endpoint = sub0.links().remove(0).endpoint;
    assert!(endpoint.subprotocols.is_empty() && endpoint.query.is_empty() && endpoint.headers.is_empty());
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    for (more, pointer) in [
        (json!({"url": "https://h/ws"}), "/url"),
        (json!({"uid": ""}), "/uid"),
        (json!({"token_name": "x access"}), "/token_name"),
        (json!({"token_name": ""}), "/token_name"),
        (json!({"origin": "https://h\r\nX: y"}), "/origin"),
        (json!({"default_action": ""}), "/default_action"),
        (json!({"default_action": "x".repeat(300)}), "/default_action"),
        (json!({"call_timeout": "0s"}), "/call_timeout"),
        (json!({"max_calls": 0}), "/max_calls"),
    ] {
        let error = Sub0::new(serde_json::from_value(settings(more)).unwrap()).err().unwrap();
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some(pointer)), "{error}");
    }
    for more in [
        json!({"uidd": "x"}),
        json!({"correlation": "guess"}),
        json!({"call_timeout": 10}),
        json!({"max_queue_bytes": "lots"}),
    ] {
        assert!(serde_json::from_value::<Config>(settings(more.clone())).is_err(), "{more}");
    }
}

/// A session and its outbox, past `open`.
fn session(more: Value) -> (Sub0Session, Outbox<Frame>) {
    let sub0 = Sub0::new(serde_json::from_value(settings(more)).unwrap()).unwrap();
    let mut session = sub0.session(&LinkKey::main());
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    out.drain();
    (session, out)
}

fn call(id: u64, resource: &str, body: &str) -> Command {
    Command {
        id: CommandId(id),
        operation: "call",
        argument: Some(resource.to_owned()),
        body: RawValue::from_string(body.to_owned()).unwrap(),
        headers: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(3600),
        stream: false,
    }
}

/// Reads the command as the daemon does, and hands it to the session.
fn encode(session: &mut Sub0Session, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
    session.encode(Request::parse(&command)?, command, out)
}

#[test]
fn payload_and_answer_keep_every_byte() {
    let (mut session, mut out) = session(json!({}));
    let body = r#"{"z": 1.0, "a": 123456789012345678901234567890, "u":"\u00e9", "z2" :1e999}"#;
    encode(&mut session, call(1, "a b/\"c\"", body), &mut out).unwrap();
    let sent: Vec<_> = out.drain().collect();
    let [Action::Send(frame, Some(CommandId(1)))] = sent.as_slice() else { panic!("{sent:?}") };
    let expected = format!(r#"{{"resource":"a b/\"c\"","action":"a b/\"c\"","payload":{body}}}"#);
    assert_eq!(frame, &Frame::text(expected));

    let answer = Frame::text(format!(r#"{{"action":"a b/\"c\"","data":{body}}}"#));
    session.decode(&answer, &mut out).unwrap();
    let actions: Vec<_> = out.drain().collect();
    let [Action::Reply(CommandId(1), Reply::Response(data))] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(data.get(), body);
}

#[test]
fn a_broadcast_shares_the_memory_of_its_frame() {
    let (mut session, mut out) = session(json!({}));
    let frame = Frame::text(r#"{"uid":7,"action":"tick","data":[1]}"#);
    session.decode(&frame, &mut out).unwrap();
    let actions: Vec<_> = out.drain().collect();
    let [Action::Publish(event)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(event.raw.as_ref().unwrap().as_bytes().as_ptr(), frame.bytes().as_ptr());
}

#[test]
fn nothing_from_outside_panics_or_ends_the_session() {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "\"action\":",
        "\"a\"",
        "\"data\":",
        "null",
        ",",
        "\"error\":",
        "1e999",
        "\u{e9}",
        " ",
    ];
    for correlation in ["serial", "unique_action", "fifo"] {
        let (mut session, mut out) = session(json!({"correlation": correlation, "max_calls": 3}));
        let mut seed = 7_usize;
        for round in 0..20_000_u64 {
            let mut text = String::new();
            for _ in 0..seed % 12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(seed >> 33) % pieces.len()]);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
            let _ = encode(&mut session, call(round, "a", "{}"), &mut out);
            if let Err(error) = session.decode(&Frame::text(text.clone()), &mut out) {
                assert_eq!(error.kind(), Kind::Protocol, "{text}");
            }
            if round % 3 == 0 {
                session.abandoned(
                    CommandId(round.saturating_sub(seed as u64 % 4)),
                    seed.is_multiple_of(2),
                    &mut out,
                );
            }
            session.tick(&mut out).unwrap();
            out.drain();
        }
    }
}
