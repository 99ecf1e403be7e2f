//! The connector from outside: transcripts, the sample, good and bad settings, what must not change or be shown.

mod settings;

use std::time::Instant;

use pontoon_sdk::socketio::{Args, Event, Frame};
use pontoon_sdk::{Action, Code, Command, CommandId, EventType, Kind, Outbox, Raw, Reply, Session};
use pontoon_transcript::play_folder;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::tests::{self, BODY, command, encode, route, with_url};

const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/socketio/transcripts");
const URL: &str = "https://h";

#[test]
fn every_transcript_plays() {
    let count = play_folder::<Socketio>(TRANSCRIPTS).unwrap();
    assert!(count >= 30, "only {count} transcripts");
}

/// What a daemon refuses to start with: a secret that is not there, an engine that it was built without.
#[test]
fn every_transcript_plays_that_needs_no_daemon() {
    assert_eq!(play_folder::<Socketio>(format!("{TRANSCRIPTS}/alone")).unwrap(), 2);
}

/// A connector with these settings, and a URL.
fn socketio(settings: Value) -> Socketio {
    Socketio::new(serde_json::from_value(with_url(settings, URL)).unwrap()).unwrap()
}

fn session(settings: Value) -> (SocketioSession, Outbox<Frame>) {
    tests::session(&socketio(settings))
}

fn raw(json: &str) -> Raw {
    Raw::from(RawValue::from_string(json.to_owned()).unwrap())
}

fn said(name: &str, args: &[&str]) -> Frame {
    Frame::Event(Event::new(name, args.iter().map(|json| raw(json)).collect()))
}

#[test]
fn arguments_and_acknowledgements_keep_every_byte() {
    let (mut session, mut out) = session(json!({}));
    for (id, name, body) in [
        (1, Some("a b/\"c\""), BODY.to_owned()),
        (2, Some("a b/\"c\""), format!("[{BODY}]")),
        (3, None, format!(r#"{{"event":"a b/\"c\"","args":[{BODY}]}}"#)),
    ] {
        encode(&mut session, command(id, "call", name, &body), &mut out).unwrap();
        let sent: Vec<_> = out.drain().collect();
        let [Action::Send(frame, Some(CommandId(for_id)))] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!((frame, *for_id), (&Frame::call(id - 1, "a b/\"c\"", raw(BODY)), id));
        session.decode(&Frame::ack(id - 1, vec![raw(BODY)]), &mut out).unwrap();
        let told: Vec<_> = out.drain().collect();
        let [Action::Reply(_, Reply::Response(data))] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(data.get(), BODY);
    }
}

#[test]
fn an_event_keeps_every_byte_and_shares_the_memory_of_its_frame() {
    let (mut session, mut out) =
        session(json!({"events": {"m": {"type": "message.created", "text": "/0/a", "time": "/1"}}}));
    let argument = raw(BODY);
    for name in ["m", "other"] {
        let frame = Frame::Event(Event::new(name, vec![argument.clone()]));
        session.decode(&frame, &mut out).unwrap();
        let told: Vec<_> = out.drain().collect();
        let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(event.raw.as_ref().unwrap().as_bytes().as_ptr(), argument.as_bytes().as_ptr());
    }
    let frame = said("m", &["{}", "1700000000123"]);
    session.decode(&frame, &mut out).unwrap();
    let told: Vec<_> = out.drain().collect();
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(event.time.unwrap().unix_timestamp_nanos(), 1_700_000_000_123_000_000);
}

#[test]
fn four_hundred_calls_at_once_get_their_own_answers() {
    let (mut session, mut out) = session(json!({}));
    for id in 1..=400 {
        encode(&mut session, command(id, "call", Some("ask"), &id.to_string()), &mut out).unwrap();
    }
    let sent: Vec<_> = out.drain().collect();
    let asked: Vec<_> = sent
        .iter()
        .map(|action| match action {
            Action::Send(Frame::Event(Event { ack: Some(number), args, .. }), Some(CommandId(id))) => {
                assert_eq!(args.values(), [raw(&id.to_string())]);
                (*number, *id)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked.len(), 400);
    // Every third from the end first, so that no order can be taken for another.
    let order = (0..3).flat_map(|rest| asked.iter().rev().skip(rest).step_by(3));
    let mut answered = 0;
    for (number, id) in order {
        session.decode(&Frame::ack(*number, vec![raw(&format!("\"answer {id}\""))]), &mut out).unwrap();
        let told: Vec<_> = out.drain().collect();
        let [Action::Reply(CommandId(to), Reply::Response(data))] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!((to, data.get()), (id, format!("\"answer {id}\"").as_str()));
        answered += 1;
    }
    assert_eq!(answered, 400);
    let again = session.decode(&Frame::ack(0, Vec::new()), &mut out).unwrap_err();
    assert_eq!(again.kind(), Kind::Protocol);
}

#[test]
fn what_was_never_written_is_not_waited_for() {
    let (mut session, mut out) = session(json!({}));
    encode(&mut session, command(1, "call", Some("ask"), "{}"), &mut out).unwrap();
    out.drain();
    session.abandoned(CommandId(1), false, &mut out);
    assert_eq!(session.decode(&Frame::ack(0, Vec::new()), &mut out).unwrap_err().kind(), Kind::Protocol);
    encode(&mut session, command(2, "call", Some("ask"), "{}"), &mut out).unwrap();
    out.drain();
    session.decode(&Frame::ack(1, Vec::new()), &mut out).unwrap();
    let told: Vec<_> = out.drain().collect();
    assert!(matches!(told.as_slice(), [Action::Reply(CommandId(2), Reply::Response(_))]), "{told:?}");
}

#[test]
fn a_late_acknowledgement_is_no_event_of_the_called_name() {
    let (mut session, mut out) = session(json!({"events": {"ask": {"type": "message.created"}}}));
    encode(&mut session, command(1, "call", Some("ask"), "{}"), &mut out).unwrap();
    out.drain();
    session.abandoned(CommandId(1), true, &mut out);
    session.decode(&Frame::ack(0, vec![raw("7")]), &mut out).unwrap();
    let told: Vec<_> = out.drain().collect();
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((event.kind, event.upstream.as_deref()), (EventType::FrameUnrecognised, None));
    assert_eq!(event.fields.name.as_deref(), Some("ask"));
}

#[test]
fn names_are_bounded_so_that_what_is_waited_for_is() {
    let (mut session, mut out) = session(json!({}));
    let (fits, over) = ("n".repeat(1024), "n".repeat(1025));
    let exact = |name: &str| json!({ "event": name }).to_string();
    encode(&mut session, command(1, "emit", Some(&fits), "{}"), &mut out).unwrap();
    encode(&mut session, command(2, "call", None, &exact(&fits)), &mut out).unwrap();
    let commands =
        [command(3, "call", Some(&over), "{}"), command(4, "emit", None, &exact(&over))].into_iter();
    for command in commands {
        let error = encode(&mut session, command, &mut out).unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::BadBody));
        assert!(error.message().contains("at most 1024"), "{error}");
    }
}

#[test]
fn what_can_never_be_done_is_refused_before_a_link_is_looked_for() {
    let refused = |settings: Value, command: Command| {
        let error = route(&socketio(settings), &command).err().unwrap();
        (error.kind(), error.code())
    };
    let second = || json!({"engine": "rust-socketio"});
    for (settings, command, code) in [
        (json!({}), command(1, "message.send", None, r#"{"text":"x"}"#), Code::NotFound),
        (json!({}), command(1, "emit", Some("disconnect"), "{}"), Code::BadBody),
        (second(), command(1, "call", Some("ask"), "{}"), Code::Forbidden),
        (second(), command(1, "call", None, r#"{"event":"ask"}"#), Code::Forbidden),
    ] {
        assert_eq!(refused(settings, command), (Kind::Rejected, code));
    }
    assert!(route(&socketio(second()), &command(1, "emit", Some("say"), "{}")).is_ok());
}

#[test]
fn secrets_are_looked_up_at_each_connect() {
    let file = std::env::temp_dir().join(format!("pontoon-socketio-{}.secret", std::process::id()));
    let settings = json!({
        "secrets": {"key": {"file": file}},
        "emit_on_connect": [{"event": "login", "args": ["${key}"]}],
        "send": {"event": "say", "args": ["${key}", "${text}"]},
    });
    std::fs::write(&file, "first\n").unwrap();
    let connector = socketio(settings);
    for secret in ["first", "second"] {
        std::fs::write(&file, secret).unwrap();
        let mut session = connector.session(&LinkKey::main());
        let mut out = Outbox::new(Instant::now());
        session.open(&[], &mut out).unwrap();
        // What is written later belongs to the next connection.
        std::fs::write(&file, "later").unwrap();
        encode(&mut session, command(1, "message.send", None, r#"{"text":"hi"}"#), &mut out).unwrap();
        let done: Vec<_> = out.drain().collect();
        let [Action::Send(login, None), Action::Ready, Action::DeliveryLevel(..), Action::Send(say, Some(_))] =
            done.as_slice()
        else {
            panic!("{done:?}")
        };
        let secret = format!("\"{secret}\"");
        assert_eq!(login, &said("login", &[&secret]));
        assert_eq!(say, &said("say", &[&secret, "\"hi\""]));
    }
    std::fs::remove_file(&file).unwrap();
    let mut out = Outbox::new(Instant::now());
    let error = connector.session(&LinkKey::main()).open(&[], &mut out).unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
    assert_eq!(out.drain().count(), 0);
}

#[test]
fn what_callers_write_is_never_filled_in() {
    let (mut session, mut out) = session(json!({
        "secrets": {"key": "hunter2"},
        "emit_on_connect": [{"event": "a", "args": ["${key}"]}],
        "send": {"event": "say", "args": ["${channel}", "${text}", "${ text }", "$${other}"]},
    }));
    let body = r#"{"channel":"${key}","text":"${channel}"}"#;
    encode(&mut session, command(1, "message.send", None, body), &mut out).unwrap();
    encode(&mut session, command(2, "emit", Some("${key}"), "[\"${key}\"]"), &mut out).unwrap();
    let sent: Vec<_> = out.drain().collect();
    let [_, Action::Send(say, _), _, Action::Send(emitted, _)] = sent.as_slice() else { panic!("{sent:?}") };
    let literal = ["\"${key}\"", "\"${channel}\"", "\"${ text }\"", "\"${other}\""];
    assert_eq!(say, &said("say", &literal));
    assert_eq!(emitted, &said("${key}", &["\"${key}\""]));
}

#[test]
fn a_channel_keeps_its_digits() {
    let (mut session, mut out) =
        session(json!({"send": {"event": "say", "args": ["${channel}", "${text}"]}}));
    let body = r#"{"channel":123456789012345678901234567890,"text":"hi"}"#;
    encode(&mut session, command(1, "message.send", None, body), &mut out).unwrap();
    let sent: Vec<_> = out.drain().collect();
    let [_, Action::Send(say, _)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(say, &said("say", &["123456789012345678901234567890", "\"hi\""]));
}

#[test]
fn nothing_from_outside_panics_or_ends_the_session() {
    let events = json!({
        "a": {"type": "message.created", "channel": "/0/a", "id": "/0/0", "version": "/1", "time": "/0/a/a", "text": "/0"},
        "": {"type": "error.raised", "code": "/0/a/0", "text": "/1/a", "acknowledge": [1]},
    });
    let send = json!({"event": "a", "args": ["${text}", "${channel}"], "acknowledged": true});
    let (mut session, mut out) = session(json!({"events": events, "send": send}));
    let pieces =
        ["{", "}", "[", "]", "\"a\":", "\"a\"", "0", ",", "1e999", "\u{e9}", "null", "\"_placeholder\":true"];
    let mut seed = 7_usize;
    let mut next = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut json = move || loop {
        let text: String = (0..next(9)).map(|_| pieces[next(pieces.len())]).collect();
        if let Ok(value) = RawValue::from_string(text) {
            return (Raw::from(value.clone()), value, next(60));
        }
    };
    let mut published = 0;
    for round in 0..20_000_u64 {
        let (value, body, dice) = json();
        let values = vec![value.clone(); dice % 3];
        let name = ["a", "", "b"][dice % 3].to_owned();
        let frame = match dice % 5 {
            0 => Frame::ack(round / 4, values),
            1 => Frame::Event(Event { name, args: Args::new(values), ack: Some(round) }),
            _ => Frame::Event(Event { name, args: Args::new(values), ack: None }),
        };
        if let Err(error) = session.decode(&frame, &mut out) {
            assert_eq!(error.kind(), Kind::Protocol, "{frame:?}");
        }
        let operation = ["emit", "call", "message.send"][dice % 3];
        let argument = if dice % 2 == 0 { Some("x") } else { None };
        let text = ["", "{\"event\":\"b\",\"args\":"][dice / 30].to_owned() + body.get();
        let text = if dice >= 30 { text + "}" } else { text };
        if let Err(error) = encode(&mut session, command(round, operation, argument, &text), &mut out) {
            assert_eq!(error.kind(), Kind::Rejected, "{operation} {text}");
        }
        if dice.is_multiple_of(7) {
            session.abandoned(CommandId(round.saturating_sub(3)), dice.is_multiple_of(2), &mut out);
        }
        published += out.drain().filter(|action| matches!(action, Action::Publish(_))).count();
    }
    assert!(published > 10_000, "{published}");
}

#[test]
fn an_unmapped_event_has_the_services_name_and_no_scope() {
    let (mut session, mut out) = session(json!({}));
    session.decode(&said("weather", &["1"]), &mut out).unwrap();
    let told: Vec<_> = out.drain().collect();
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((event.kind, event.scope.as_deref()), (EventType::FrameUnrecognised, None));
    assert_eq!(event.upstream.as_deref(), Some("weather"));
    assert_eq!(event.identity, None);
}
