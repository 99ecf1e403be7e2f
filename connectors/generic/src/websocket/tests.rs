//! The connector from outside: transcripts, the sample, good and bad settings, what must not change or be shown.

mod settings;

use std::time::{Duration, Instant};

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Action, Bytes, Code, Command, CommandId, Kind, Outbox, Reply, Session};
use pontoon_transcript::play_folder;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::tests::{self, BODY, encode, route, with_url};

const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/websocket/transcripts");
const URL: &str = "wss://h";

#[test]
fn every_transcript_plays() {
    let count = play_folder::<Websocket>(TRANSCRIPTS).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(count >= 60, "only {count} transcripts");
}

/// What a daemon refuses to start with: a secret that is not there.
#[test]
fn every_transcript_plays_that_needs_no_daemon() {
    assert_eq!(play_folder::<Websocket>(format!("{TRANSCRIPTS}/alone")).unwrap(), 1);
}

/// A connector with these settings, and a URL.
fn websocket(settings: Value) -> Websocket {
    Websocket::new(serde_json::from_value(with_url(settings, URL)).unwrap()).unwrap()
}

fn session(settings: Value) -> (WebsocketSession, Outbox<Frame>) {
    tests::session(&websocket(settings))
}

fn command(id: u64, operation: &'static str, body: &str) -> Command {
    tests::command(id, operation, None, body)
}

fn done(out: &mut Outbox<Frame>) -> Vec<Action<Frame>> {
    out.drain().collect()
}

/// What is sent, each as text.
fn sent(out: &mut Outbox<Frame>) -> Vec<String> {
    let frames = out.drain().filter_map(|action| match action {
        Action::Send(Frame::Text(text), _) => Some(String::from_utf8(text.to_vec()).unwrap()),
        _ => None,
    });
    frames.collect()
}

#[test]
fn frames_calls_and_answers_keep_every_byte() {
    let (mut session, mut out) =
        session(json!({"call": {"id": "/head/id", "answer": "/id", "data": "/data"}}));
    encode(&mut session, command(1, "send", BODY), &mut out).unwrap();
    encode(&mut session, command(2, "send.text", r#"{"text":" \u00e9 \n"}"#), &mut out).unwrap();
    encode(&mut session, command(3, "call", &format!(r#"{{"data": {BODY}}}"#)), &mut out).unwrap();
    assert_eq!(sent(&mut out), [BODY, " \u{e9} \n", &format!(r#"{{"data":{BODY},"head":{{"id":1}}}}"#)]);
    session.decode(&Frame::text(format!(r#" {{"id":1, "data": {BODY} }} "#)), &mut out).unwrap();
    let told = done(&mut out);
    let [Action::Reply(CommandId(3), Reply::Response(data))] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(data.get(), BODY);
}

#[test]
fn an_event_keeps_every_byte_and_shares_the_memory_of_its_frame() {
    let (mut session, mut out) = session(json!({
        "kind": "/u",
        "events": {"\u{e9}": {"type": "message.created", "text": "/a", "time": "/at"}},
    }));
    let frame = Frame::text(BODY);
    session.decode(&frame, &mut out).unwrap();
    let other = Frame::text(BODY.replace("\\u00e9", "other"));
    session.decode(&other, &mut out).unwrap();
    let told = done(&mut out);
    let [Action::Publish(event), Action::Publish(unmapped)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(event.raw.as_ref().unwrap().as_bytes().as_ptr(), frame.bytes().as_ptr());
    assert_eq!(unmapped.raw.as_ref().unwrap().as_bytes().as_ptr(), other.bytes().as_ptr());
    let text = r#"{"u":"\u00e9","at":1700000000123}"#;
    session.decode(&Frame::text(text), &mut out).unwrap();
    let told = done(&mut out);
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(event.time.unwrap().unix_timestamp_nanos(), 1_700_000_000_123_000_000);
}

#[test]
fn binary_data_goes_out_as_it_is() {
    let (mut session, mut out) = session(json!({}));
    encode(&mut session, command(1, "send.binary", r#"{"base64":"AP8="}"#), &mut out).unwrap();
    let told = done(&mut out);
    let [Action::DeliveryLevel(..), Action::Send(frame, Some(CommandId(1)))] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(frame, &Frame::Binary(Bytes::from_static(&[0, 255])));
}

#[test]
fn four_hundred_calls_at_once_get_their_own_answers() {
    for form in ["number", "text"] {
        let (mut session, mut out) =
            session(json!({"call": {"id": "/id", "form": form, "data": "/data", "error": "/error"}}));
        for id in 1..=400 {
            encode(&mut session, command(id, "call", &json!({ "n": id }).to_string()), &mut out).unwrap();
        }
        let asked = sent(&mut out);
        let asked: Vec<Value> = asked.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(asked.len(), 400);
        // Every third from the end first, so that no order can be taken for another.
        let order = (0..3).flat_map(|rest| asked.iter().rev().skip(rest).step_by(3));
        let mut answered = 0;
        for asked in order {
            let answer = json!({"id": asked["id"], "data": format!("answer {}", asked["n"])});
            session.decode(&Frame::text(answer.to_string()), &mut out).unwrap();
            let told = done(&mut out);
            let [Action::Reply(CommandId(to), Reply::Response(data))] = told.as_slice() else {
                panic!("{told:?}")
            };
            assert_eq!(json!(to), asked["n"]);
            assert_eq!(data.get(), format!("\"answer {to}\""));
            answered += 1;
        }
        assert_eq!(answered, 400);
    }
}

#[test]
fn numbers_go_on_over_connections() {
    let connector = websocket(json!({"call": {"id": "/id"}}));
    let mut old = connector.session(&LinkKey::main());
    let mut new = connector.session(&LinkKey::main());
    let mut out = Outbox::new(Instant::now());
    encode(&mut old, command(1, "call", "{}"), &mut out).unwrap();
    encode(&mut new, command(2, "call", "{}"), &mut out).unwrap();
    assert_eq!(sent(&mut out), [r#"{"id":1}"#, r#"{"id":2}"#]);
    assert!(new.decode(&Frame::text(r#"{"id":1}"#), &mut out).is_err());
    new.decode(&Frame::text(r#"{"id":2}"#), &mut out).unwrap();
    let told = done(&mut out);
    assert!(matches!(told.as_slice(), [Action::Reply(CommandId(2), _)]), "{told:?}");
}

#[test]
fn what_was_never_written_is_not_waited_for() {
    let (mut session, mut out) = session(json!({"call": {"id": "/id"}}));
    encode(&mut session, command(1, "call", "{}"), &mut out).unwrap();
    session.abandoned(CommandId(1), false, &mut out);
    encode(&mut session, command(2, "call", "{}"), &mut out).unwrap();
    done(&mut out);
    assert_eq!(session.decode(&Frame::text(r#"{"id":1}"#), &mut out).unwrap_err().kind(), Kind::Protocol);
    session.decode(&Frame::text(r#"{"id":2}"#), &mut out).unwrap();
    let told = done(&mut out);
    assert!(matches!(told.as_slice(), [Action::Reply(CommandId(2), Reply::Response(_))]), "{told:?}");
}

#[test]
fn what_is_not_configured_is_refused_before_a_link_is_looked_for() {
    for operation in ["call", "message.send"] {
        let error = route(&websocket(json!({})), &command(1, operation, "{}")).err().unwrap();
        assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::NotFound));
        let settings = json!({"call": {"id": "/id"}, "send": {"frame": "${text}"}});
        let body = r#"{"text":"x"}"#;
        assert!(route(&websocket(settings), &command(1, operation, body)).is_ok());
    }
    assert!(route(&websocket(json!({})), &command(1, "send", "{}")).is_ok());
}

#[test]
fn secrets_are_looked_up_at_each_connect() {
    let file = std::env::temp_dir().join(format!("pontoon-websocket-{}.secret", std::process::id()));
    let settings = json!({
        "secrets": {"key": {"file": file}},
        "send_on_connect": [{"login": "${key}"}],
        "send": {"frame": {"key": "${key}", "say": "${text}"}},
    });
    std::fs::write(&file, "first\n").unwrap();
    let connector = websocket(settings);
    for secret in ["first", "second"] {
        std::fs::write(&file, secret).unwrap();
        let mut session = connector.session(&LinkKey::main());
        let mut out = Outbox::new(Instant::now());
        session.open(&[], &mut out).unwrap();
        // What is written later belongs to the next connection.
        std::fs::write(&file, "later").unwrap();
        encode(&mut session, command(1, "message.send", r#"{"text":"hi"}"#), &mut out).unwrap();
        let login = format!(r#"{{"login":"{secret}"}}"#);
        assert_eq!(sent(&mut out), [login, format!(r#"{{"key":"{secret}","say":"hi"}}"#)]);
    }
    std::fs::remove_file(&file).unwrap();
    let mut out = Outbox::new(Instant::now());
    let error = connector.session(&LinkKey::main()).open(&[], &mut out).unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
    assert_eq!(out.drain().count(), 0);
}

#[test]
fn what_callers_and_the_service_write_is_never_filled_in() {
    let (mut session, mut out) = session(json!({
        "kind": "/t",
        "secrets": {"key": "hunter2"},
        "call": {"id": "/id"},
        "send": {"frame": ["${channel}", "${text}", "${ text }", "$${other}"]},
        "heartbeat": {"answer": [{"when": "ping", "send": ["${/n}"]}]},
    }));
    let body = r#"{"channel":"${key}","text":"${channel}"}"#;
    encode(&mut session, command(1, "message.send", body), &mut out).unwrap();
    encode(&mut session, command(2, "send", r#"["${key}"]"#), &mut out).unwrap();
    encode(&mut session, command(3, "send.text", r#"{"text":"${key}"}"#), &mut out).unwrap();
    encode(&mut session, command(4, "call", r#"{"a":"${key}"}"#), &mut out).unwrap();
    session.decode(&Frame::text(r#"{"t":"ping","n":"${key}"}"#), &mut out).unwrap();
    assert_eq!(
        sent(&mut out),
        [
            r#"["${key}","${channel}","${ text }","${other}"]"#,
            r#"["${key}"]"#,
            "${key}",
            r#"{"a":"${key}","id":1}"#,
            r#"["${key}"]"#,
        ]
    );
}

#[test]
fn heartbeats_do_not_catch_up() {
    let (mut session, mut out) = session(json!({"heartbeat": {"every": "10s", "send": "beat"}}));
    let start = out.now();
    assert_eq!(out.wake(), Some(start + Duration::from_secs(10)));
    // The machine slept: one beat, and the next in ten seconds.
    out.advance(start + Duration::from_secs(100));
    assert!(out.take_due());
    session.tick(&mut out).unwrap();
    assert_eq!(sent(&mut out), ["beat"]);
    assert_eq!(out.wake(), Some(start + Duration::from_secs(110)));
}

#[test]
fn what_a_caller_and_a_state_receive_is_without_secrets() {
    let (mut session, mut out) = session(json!({
        "kind": "/t",
        "secrets": {"key": "hunter2"},
        "refused_when": "no",
        "call": {"id": "/id", "error": "/error"},
    }));
    encode(&mut session, command(1, "call", "{}"), &mut out).unwrap();
    done(&mut out);
    let text = "hunter2 is wrong";
    session.decode(&Frame::text(json!({"id": 1, "error": text}).to_string()), &mut out).unwrap();
    let sent = done(&mut out);
    let [Action::Reply(_, Reply::Failed(error))] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(error.message(), "*** is wrong");
    let refused = json!({"t": "no", "message": text}).to_string();
    let error = session.decode(&Frame::text(refused), &mut out).unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
    assert!(error.message().ends_with("*** is wrong"), "{error}");
}

/// JSON allows half a surrogate pair; a text does not. U+FFFD stands in its place, in values and in keys.
#[test]
fn half_a_pair_loses_neither_field_nor_frame() {
    let (mut session, mut out) = session(json!({
        "kind": "/t",
        "events": {"m": {"type": "message.created", "id": "/id", "text": "/x"}},
    }));
    let frame = Frame::text(r#"{"t":"m","x":"\ud800","id":7}"#);
    session.decode(&frame, &mut out).unwrap();
    let told = done(&mut out);
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(
        serde_json::to_value(&event.fields).unwrap(),
        json!({"message": {"id": "7", "text": "\u{FFFD}"}})
    );
    assert_eq!(event.raw.as_ref().unwrap().as_bytes(), frame.bytes());
    let half_a_key = Frame::text(r#"{"\ud800":1,"t":"m","x":"y"}"#);
    session.decode(&half_a_key, &mut out).unwrap();
    let told = done(&mut out);
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(serde_json::to_value(&event.fields).unwrap(), json!({"message": {"text": "y"}}));
}

/// Errors of errors of errors: no frame may lead us as deep as it likes.
#[test]
fn deep_frames_do_no_harm() {
    let (mut session, mut out) = session(json!({
        "kind": ["/a/a/a", "/error"],
        "events": {"x": {"type": "message.created", "text": "/a"}},
        "call": {"id": "/id", "error": "/error"},
        "refused_when": {"where": {"/error": "no"}},
        "heartbeat": {"ignore": [{"where": {"/a": 1}}], "answer": [{"when": {"where": {"/a": 2}}, "send": "x"}]},
    }));
    encode(&mut session, command(1, "call", "{}"), &mut out).unwrap();
    done(&mut out);
    for (open, close) in [("{\"a\":", "}"), ("[", "]"), ("{\"error\":", "}")] {
        let deep = open.repeat(100_000) + "1" + &close.repeat(100_000);
        let _ = session.decode(&Frame::text(deep.clone()), &mut out);
        let _ = session.decode(&Frame::text(format!("{{\"id\":2,\"error\":{deep}}}")), &mut out);
        let _ = encode(&mut session, command(9, "call", &deep), &mut out);
    }
    let deep = "{\"error\":".repeat(100_000) + "1" + &"}".repeat(100_000);
    done(&mut out);
    session.decode(&Frame::text(format!("{{\"id\":1,\"error\":{deep}}}")), &mut out).unwrap();
    let told = done(&mut out);
    assert!(matches!(told.as_slice(), [Action::Reply(CommandId(1), Reply::Failed(_))]), "{}", told.len());
}

#[test]
fn nothing_from_outside_panics_or_ends_the_session() {
    let events = json!({
        "a": {"type": "message.created", "channel": "/a", "id": "/0", "version": "/1", "time": "/a/a", "text": ""},
        "0": {"type": "error.raised", "code": "/a/0", "text": "/1/a", "time": "/0", "time_unit": "s"},
    });
    let (mut session, mut out) = session(json!({
        "kind": ["/a", "/0", {"has": "/1", "is": "0"}],
        "events": events,
        "text": {"type": "log.entry", "text": "", "time": "", "time_unit": "ns"},
        "binary": {"type": "socket.message", "text": "/base64"},
        "ready_when": {"where": {"/a": [0]}},
        "heartbeat": {"ignore": ["b"], "answer": [{"when": {"text": "a"}, "send": ["${/a}", "${/0/a}"]}]},
        "call": {"id": "/a", "error": "/error", "data": "/0", "failed_when": {"where": {"/0": null}}},
        "send": {"frame": {"x": "${text}", "y": "${channel}"}, "acknowledged": true},
    }));
    let pieces = ["{", "}", "[", "]", "\"a\":", "\"a\"", "0", ",", "1e999", "\u{e9}", "null", "\"error\":"];
    let mut seed = 7_usize;
    let mut next = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut published, mut replied, mut asked, mut latest) = (0, 0, 0, 0);
    for round in 0..40_000_u64 {
        let mut text: String = (0..next(9)).map(|_| pieces[next(pieces.len())]).collect();
        let dice = next(60);
        if dice < 6 {
            text = format!("{{\"a\":{},\"error\":{}}}", latest, pieces[6 + dice]);
        }
        let frame = if dice == 59 { Frame::Binary(text.clone().into()) } else { Frame::text(text.clone()) };
        if let Err(error) = session.decode(&frame, &mut out) {
            assert_eq!(error.kind(), Kind::Protocol, "{frame:?}");
        }
        let operation = ["send", "call", "message.send", "send.text", "send.binary"][dice % 5];
        let text = if dice % 3 == 0 { format!("{{\"text\":\"{round}\",\"channel\":{round}}}") } else { text };
        if let Ok(body) = RawValue::from_string(text) {
            match encode(&mut session, command(round, operation, body.get()), &mut out) {
                Err(error) => assert_eq!(error.kind(), Kind::Rejected, "{operation} {body}"),
                Ok(()) => asked += 1,
            }
        }
        if dice.is_multiple_of(7) {
            session.abandoned(CommandId(round.saturating_sub(3)), dice.is_multiple_of(2), &mut out);
        }
        for action in out.drain() {
            match action {
                Action::Publish(_) => published += 1,
                Action::Reply(..) => replied += 1,
                Action::Send(frame, Some(_)) => {
                    let sent = serde_json::from_slice::<Value>(frame.bytes()).unwrap_or_default();
                    latest = sent["a"].as_u64().unwrap_or(latest);
                }
                _ => {}
            }
        }
    }
    assert!(published > 10_000 && replied > 300 && asked > 5_000, "{published} {replied} {asked}");
}
