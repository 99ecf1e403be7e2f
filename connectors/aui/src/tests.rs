//! The connector from outside: transcripts, the sample, good and bad settings, what transcripts cannot say.

use std::time::Instant;

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Action, CommandId, End, EventType, Kind, Outbox, Param, Reply, Request as _, Secret, Session,
};
use pontoon_transcript::{check_sample, play_folder};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

#[test]
fn every_transcript_plays() {
    let count = play_folder::<Aui>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 55, "only {count} transcripts");
}

#[test]
fn the_sample_lists_every_setting_with_its_default() {
    let (plain, all) = check_sample::<Aui>().unwrap();
    assert_eq!(
        (all.auth, all.text, all.max_links, all.idle_timeout, all.answer_timeout),
        (plain.auth, plain.text, plain.max_links, plain.idle_timeout, plain.answer_timeout)
    );
    assert_eq!(
        (all.late_answer_window, all.max_queue, all.max_queue_bytes),
        (plain.late_answer_window, plain.max_queue, plain.max_queue_bytes)
    );
    assert_eq!((plain.rate_limit, all.rate_limit.unwrap().requests), (None, 5));
    assert!(
        Aui::SAMPLE.contains("wss://data-services.aui.io/") && Aui::SAMPLE.contains("wss://azure.aui.io/")
    );
}

fn settings(mut more: Value) -> Value {
    let table = more.as_object_mut().unwrap();
    table.entry("url").or_insert(json!("wss://h/session"));
    table.entry("network_api_key").or_insert(json!("k-secret"));
    more
}

fn aui(more: Value) -> Aui {
    Aui::new(serde_json::from_value(settings(more)).unwrap()).unwrap()
}

fn command(id: u64, body: &str) -> Command {
    Command {
        id: CommandId(id),
        operation: "message",
        argument: None,
        body: RawValue::from_string(body.to_owned()).unwrap(),
        headers: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(3600),
        stream: true,
    }
}

/// Reads the command as the daemon does, and hands it to the session.
fn encode(session: &mut AuiSession, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
    session.encode(Request::parse(&command)?, command, out)
}

/// Where a command goes, read as the daemon reads it.
fn route(aui: &Aui, command: &Command) -> Result<Route<WebSocket>> {
    aui.route(command, &Request::parse(command)?)
}

#[test]
fn a_request_opens_the_link_of_its_task() {
    for (auth, query) in [("query", true), ("header", false)] {
        let aui = aui(json!({"auth": auth}));
        assert!(aui.links().is_empty());
        let Ok(Route::OnDemand(spec)) = route(&aui, &command(1, r#"{"task_id":"t 1","text":"x"}"#)) else {
            panic!("no link is opened");
        };
        assert_eq!(spec.key.as_str(), "t 1");
        let key = |name: &str| vec![(name.to_owned(), Param::Secret(Secret::plain("k-secret")))];
        let none = Vec::new();
        let (in_query, in_header) =
            if query { (key("network_api_key"), none) } else { (none, key("x-network-api-key")) };
        assert_eq!((&spec.endpoint.query, &spec.endpoint.headers), (&in_query, &in_header));
        assert!(!format!("{:?}", spec.endpoint).contains("k-secret"));
        assert!(route(&aui, &command(2, r#"{"task_id":"t"}"#)).is_err());
    }
    let settings =
        aui(json!({"max_links": 3, "max_queue": 4, "max_queue_bytes": "5B", "answer_timeout": "7s"}));
    assert_eq!(settings.on_demand_limits(), OnDemandLimits { links: 3, commands: 4, bytes: 5 });
    assert_eq!(settings.timeout("message"), Some(Duration::from_secs(7)));
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    for (more, pointer) in [
        (json!({"url": "https://h/session"}), "/url"),
        (json!({"url": "wss://h/session?network_api_key=k-secret"}), "/url"),
        (json!({"max_links": 0}), "/max_links"),
        (json!({"max_queue": 0}), "/max_queue"),
        (json!({"idle_timeout": "0s"}), "/idle_timeout"),
        (json!({"answer_timeout": "0s"}), "/answer_timeout"),
        (json!({"rate_limit": {"requests": 0, "per": "1s"}}), "/rate_limit/requests"),
        (json!({"rate_limit": {"requests": 1, "per": "0s"}}), "/rate_limit/per"),
    ] {
        let error = Aui::new(serde_json::from_value(settings(more)).unwrap()).err().unwrap();
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some(pointer)), "{error}");
        assert!(!error.to_string().contains("k-secret"), "{error}");
    }
    for more in [
        json!({"network_api_kye": "x"}),
        json!({"auth": "cookie"}),
        json!({"text": "whole"}),
        json!({"rate_limit": {"requests": 1}}),
        json!({"rate_limit": {"requests": 1, "per": "1s", "burst": 2}}),
        json!({"max_queue_bytes": "lots"}),
        json!({"network_api_key": null}),
    ] {
        assert!(serde_json::from_value::<Config>(settings(more.clone())).is_err(), "{more}");
    }
}

/// A session and its outbox, past `open`.
fn session(aui: &Aui) -> (AuiSession, Outbox<Frame>) {
    let mut session = aui.session(&LinkKey::new("t1"));
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    out.drain();
    (session, out)
}

fn request(session: &mut AuiSession, out: &mut Outbox<Frame>, id: u64) {
    assert!(session.takes(out));
    out.busy();
    encode(session, command(id, r#"{"task_id":"t1","text":"x"}"#), out).unwrap();
    out.drain();
}

const FINAL: &str = r#"{"id":"m1","text":"a","sender":{"type":"agent"}}"#;

#[test]
fn request_and_answer_keep_every_byte() {
    let (mut session, mut out) = session(&aui(json!({})));
    let body = r#"{"text":"\u00e9", "task_id" :"t1","context":{"lead_details":{"n":1.0,"z":1e999}}}"#;
    encode(&mut session, command(1, body), &mut out).unwrap();
    let sent: Vec<_> = out.drain().collect();
    let [Action::Send(frame, Some(CommandId(1)))] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(frame, &Frame::text(body));

    let answer = r#"{"text":"\u00e9", "id" :1.0,"sender":{},"cards":[1e999,123456789012345678901234567890]}"#;
    let frame = Frame::text(answer);
    session.decode(&frame, &mut out).unwrap();
    let actions: Vec<_> = out.drain().collect();
    let [Action::Publish(event), Action::Reply(CommandId(1), Reply::Response(data))] = actions.as_slice()
    else {
        panic!("{actions:?}");
    };
    assert_eq!(event.raw.as_ref().unwrap().as_bytes().as_ptr(), frame.bytes().as_ptr());
    assert_eq!(data.get(), answer);
}

/// What an end with code 1008 that the daemon takes for bad credentials is, after this conversation.
fn verdict(aui: &Aui, asked: bool, heard: &[&str]) -> Kind {
    let (mut session, mut out) = session(aui);
    if asked {
        request(&mut session, &mut out, 1);
    }
    for frame in heard {
        session.decode(&Frame::text(*frame), &mut out).unwrap();
    }
    session.ended(&End { kind: Kind::Auth, ..End::closed(Some(1008), "") }, &mut out)
}

#[test]
fn an_early_end_is_about_credentials_unless_something_speaks_against_it() {
    let error = |status: u16| format!(r#"{{"status_code":{status},"message":"no"}}"#);
    let aui = aui(json!({}));
    assert_eq!(verdict(&aui, false, &[]), Kind::Auth);
    assert_eq!(verdict(&aui, true, &[]), Kind::Auth);
    assert_eq!(verdict(&aui, true, &[&error(401)]), Kind::Auth);
    assert_eq!(verdict(&aui, false, &[&error(403)]), Kind::Auth);
    assert_eq!(verdict(&aui, true, &[&error(403)]), Kind::Disconnected);
    assert_eq!(verdict(&aui, true, &[&error(422)]), Kind::Disconnected);
    assert_eq!(verdict(&aui, true, &[r#"{"detail":"no"}"#]), Kind::Disconnected);
    assert_eq!(verdict(&aui, true, &["what?"]), Kind::Auth);
    assert_eq!(verdict(&aui, true, &[FINAL]), Kind::Disconnected);
    // The key was good a moment ago: it was the request. If it goes on, it is the key.
    assert_eq!(verdict(&aui, true, &[]), Kind::Disconnected);
    assert_eq!(verdict(&aui, true, &[]), Kind::Auth);
    verdict(&aui, true, &[FINAL]);
    assert_eq!(verdict(&aui, false, &[]), Kind::Auth);
    assert_eq!(verdict(&aui, true, &[]), Kind::Auth);
}

#[test]
fn an_idle_link_is_not_dialled_again_unless_its_key_is_bad() {
    let aui = aui(json!({}));
    for (asked, kind, finishes) in [
        (false, Kind::Disconnected, true),
        (false, Kind::Auth, false),
        (false, Kind::Internal, false),
        (true, Kind::Disconnected, false),
    ] {
        let (mut session, mut out) = session(&aui);
        if asked {
            request(&mut session, &mut out, 1);
        }
        assert_eq!(session.ended(&End { kind, ..End::disconnected("") }, &mut out), kind);
        assert_eq!(out.drain().any(|action| matches!(action, Action::Finish)), finishes, "{kind:?}");
    }
}

#[test]
fn a_link_is_idle_unless_a_request_is_under_way() {
    let (mut session, mut out) = session(&aui(json!({})));
    assert!(out.is_idle());
    request(&mut session, &mut out, 1);
    assert!(!out.is_idle() && !session.takes(&mut out));
    session.decode(&Frame::text(FINAL), &mut out).unwrap();
    assert!(out.is_idle() && session.takes(&mut out));
    request(&mut session, &mut out, 2);
    session.abandoned(CommandId(2), true, &mut out);
    assert!(!out.is_idle() && !session.takes(&mut out));
}

#[test]
fn a_request_that_was_never_written_leaves_nothing_to_wait_for() {
    let (mut session, mut out) = session(&aui(json!({})));
    request(&mut session, &mut out, 1);
    session.abandoned(CommandId(1), false, &mut out);
    request(&mut session, &mut out, 2);
    session.abandoned(CommandId(1), true, &mut out);
    session.decode(&Frame::text(FINAL), &mut out).unwrap();
    let answered = |action| matches!(action, Action::Reply(CommandId(2), Reply::Response(_)));
    assert!(out.drain().any(answered));
}

#[test]
fn all_links_draw_on_one_bucket() {
    let aui = aui(json!({"rate_limit": {"requests": 2, "per": "1h"}}));
    let [one, two] = ["t1", "t2"].map(|task| aui.rate_limiter(&LinkKey::new(task)).unwrap());
    let now = Instant::now();
    assert_eq!((one.take(now), two.take(now)), (Ok(()), Ok(())));
    assert!(one.take(now).is_err() && two.take(now).is_err());
}

#[test]
fn nothing_from_outside_panics_or_ends_the_session() {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "1e999",
        " ",
        "\"x\"",
        "\"event\":\"thread-message-text-content-updated\"",
        "\"data\":{\"text\":\"a\"}",
        "\"channel\":{\"event_name\":\"thread-message-text-content-updated\"}",
        "\"scope\":{\"context\":{\"message_id\":\"m1\",\"task_id\":\"t1\"}}",
        "\"id\":\"m1\"",
        "\"id\":7",
        "\"text\":\"\u{e9}\"",
        "\"sender\":{\"type\":\"user\"}",
        "\"sender\":{\"type\":\"agent\"}",
        "\"status_code\":500",
        "\"detail\":[{\"loc\":[1],\"msg\":\"k-secret\"}]",
    ];
    for text in ["cumulative", "delta", "auto"] {
        let aui = aui(json!({"text": text, "rate_limit": {"requests": 1000, "per": "1ms"}}));
        let (mut session, mut out) = session(&aui);
        let mut seed = 7_u64;
        let mut dice = |sides: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % sides
        };
        let mut kinds = std::collections::HashMap::<EventType, usize>::new();
        for round in 0..30_000_u64 {
            let mut frame: Vec<_> = (0..dice(5)).map(|_| pieces[dice(pieces.len())]).collect();
            if dice(3) > 0 {
                frame.retain(|piece| piece.contains(':') && *piece != ":");
                session.decode(&Frame::text(format!("{{{}}}", frame.join(","))), &mut out).unwrap();
            } else {
                session.decode(&Frame::text(frame.concat()), &mut out).unwrap();
            }
            out.advance(out.now() + Duration::from_millis(dice(5_000) as u64));
            if session.takes(&mut out) {
                encode(&mut session, command(round, r#"{"task_id":"t1","text":"x"}"#), &mut out).unwrap();
            }
            if dice(4) == 0 {
                session.abandoned(CommandId(round.saturating_sub(dice(4) as u64)), dice(2) == 0, &mut out);
            }
            if out.take_due() {
                session.tick(&mut out).unwrap();
            }
            let mut over = false;
            for action in out.drain() {
                match action {
                    Action::Publish(event) => {
                        assert!(
                            !String::from_utf8_lossy(
                                event.raw.as_ref().map_or(&b""[..], |raw| raw.as_bytes())
                            )
                            .contains("k-secret")
                        );
                        *kinds.entry(event.kind).or_default() += 1;
                    }
                    Action::Close(_) | Action::Finish => over = true,
                    _ => {}
                }
            }
            if over {
                session.ended(&End::disconnected("over"), &mut out);
                session = aui.session(&LinkKey::new("t1"));
                session.open(&[], &mut out).unwrap();
                out.drain();
            }
        }
        for kind in [
            EventType::MessageDelta,
            EventType::MessageCompleted,
            EventType::MessageCreated,
            EventType::ErrorRaised,
            EventType::FrameUnrecognised,
        ] {
            assert!(kinds.get(&kind).is_some_and(|count| *count > 100), "{text}: few {kind:?} in {kinds:?}");
        }
    }
}
