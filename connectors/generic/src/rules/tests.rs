//! What is remembered, and what is answered: bounds, and what a service cannot do.

use std::time::{Duration, Instant};

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Action, Connector as _, End, Kind, LinkKey, Outbox, Session as _};
use pontoon_transcript::{play, recipe_settings, recipe_transcript};
use serde_json::{Value, json};

use crate::Websocket;
use crate::tests::{session, with_url};

fn websocket(settings: Value) -> Websocket {
    use pontoon_sdk::Connector as _;
    Websocket::new(serde_json::from_value(with_url(settings, "wss://h")).unwrap()).unwrap()
}

fn sent(out: &mut Outbox<Frame>) -> Vec<String> {
    let text = |action| match action {
        Action::Send(frame, None) => Some(String::from_utf8(Frame::bytes(&frame).to_vec()).unwrap()),
        _ => None,
    };
    out.drain().filter_map(text).collect()
}

/// A service that resumes sessions.
fn resuming() -> Value {
    json!({
        "kind": "/op",
        "secrets": {"token": "hunter2"},
        "remember": {
            "seq": "/s",
            "interval": {"when": "10", "from": "/d/interval"},
            "session": {
                "when": {"where": {"/t": "READY"}},
                "from": "/d/session_id",
                "forget_when": [{"where": {"/op": 9, "/d": false}}, {"code": [4007, 4009]}]
            }
        },
        "heartbeat": {"every": {"from": "interval", "unit": "ms"}, "send": {"op": 1, "d": "${seq}"}, "ignore": ["11"]},
        "reconnect_when": ["7", "9"],
        "refused_when": {"code": 4004},
        "ready_when": {"where": {"/t": "READY"}},
        "on": [
            {"when": "10", "unless_remembered": "session", "send": {"op": 2, "d": {"token": "Bot ${token}"}}},
            {"when": "10", "if_remembered": ["session"], "send": {"op": 6, "d": {"session_id": "${session}", "seq": "${seq}"}}},
            {"when": "1", "send": {"op": 1, "d": "${seq}"}}
        ]
    })
}

#[test]
fn a_session_is_resumed_over_connections_and_begun_again_once_it_is_forgotten() {
    let connector = websocket(resuming());
    let (mut session, mut out) = session(&connector);
    let hello = Frame::text(r#"{"op":10,"s":null,"d":{"interval":41250}}"#);
    session.decode(&hello, &mut out).unwrap();
    assert_eq!(out.wake(), Some(out.now() + Duration::from_millis(41_250)));
    assert_eq!(sent(&mut out), [r#"{"d":{"token":"Bot hunter2"},"op":2}"#]);
    session.decode(&Frame::text(r#"{"op":1}"#), &mut out).unwrap();
    assert_eq!(sent(&mut out), [r#"{"d":null,"op":1}"#]);
    session.decode(&Frame::text(r#"{"op":0,"t":"READY","s":1,"d":{"session_id":"abc"}}"#), &mut out).unwrap();
    session.decode(&Frame::text(r#"{"op":0,"t":"X","s":12345678901234567890}"#), &mut out).unwrap();
    out.drain();
    let asked = session.decode(&Frame::text(r#"{"op":7}"#), &mut out).unwrap_err();
    assert_eq!(asked.kind(), Kind::Disconnected);

    let mut session = connector.session(&LinkKey::main());
    session.open(&[], &mut out).unwrap();
    session.decode(&hello, &mut out).unwrap();
    let resume = r#"{"d":{"seq":12345678901234567890,"session_id":"abc"},"op":6}"#;
    assert_eq!(sent(&mut out), [resume]);
    for (code, kind) in [(4000, Kind::Disconnected), (4004, Kind::Auth), (4009, Kind::Disconnected)] {
        session.decode(&hello, &mut out).unwrap();
        assert_eq!(sent(&mut out), [resume], "before {code}");
        assert_eq!(session.ended(&End::closed(Some(code), ""), &mut out), kind, "{code}");
    }
    session.decode(&hello, &mut out).unwrap();
    assert_eq!(sent(&mut out), [r#"{"d":{"token":"Bot hunter2"},"op":2}"#]);
}

#[test]
fn an_acknowledgement_waits_for_its_event_to_be_stored() {
    let (mut session, mut out) = session(&websocket(json!({
        "kind": "/t",
        "events": {"m": {"type": "message.created"}},
        "on": [{"when": "m", "after": "stored", "send": {"ack": "${/id}"}}, {"when": "n", "after": "stored", "send": "n"}]
    })));
    let mut numbers = Vec::new();
    for id in 1..=3 {
        session.decode(&Frame::text(json!({"t": "m", "id": id}).to_string()), &mut out).unwrap();
        let done: Vec<_> = out.drain().collect();
        let [Action::Publish(event)] = done.as_slice() else { panic!("{done:?}") };
        numbers.push(event.stored.unwrap());
    }
    session.stored(numbers[1], &mut out).unwrap();
    assert_eq!(sent(&mut out), [r#"{"ack":2}"#]);
    for number in [numbers[1], 99] {
        session.stored(number, &mut out).unwrap();
        assert!(sent(&mut out).is_empty(), "{number}");
    }
    // What no entry lists is published, too, and acknowledged then.
    session.decode(&Frame::text(r#"{"t":"n"}"#), &mut out).unwrap();
    assert!(
        matches!(out.drain().collect::<Vec<_>>().as_slice(), [Action::Publish(event)] if event.stored.is_some())
    );
}

#[test]
fn a_frame_of_several_events_is_acknowledged_after_the_last() {
    let settings = json!({
        "kind": "/t",
        "events": {"m": {"type": "log.entry", "each": "/d"}},
        "on": [{"when": "m", "after": "stored", "send": {"ack": "${/id}"}}]
    });
    let (mut session, mut out) = session(&websocket(settings));
    session.decode(&Frame::text(r#"{"t":"m","id":7,"d":[1,2,3]}"#), &mut out).unwrap();
    let number = |action| if let Action::Publish(event) = action { event.stored } else { None };
    let numbers: Vec<_> = out.drain().filter_map(number).collect();
    assert_eq!(numbers.len(), 3);
    let acknowledged = numbers.iter().map(|number| {
        session.stored(*number, &mut out).unwrap();
        sent(&mut out)
    });
    assert_eq!(acknowledged.collect::<Vec<_>>(), [vec![], vec![], vec![r#"{"ack":7}"#.to_owned()]]);
}

#[test]
fn acknowledgements_that_wait_are_bounded_in_bytes() {
    let settings = json!({"kind": "/t", "on": [{"when": "m", "after": "stored", "send": "${/x}"}]});
    let (mut session, mut out) = session(&websocket(settings));
    let frame = Frame::text(json!({"t": "m", "x": "x".repeat(1 << 20)}).to_string());
    let numbers: Vec<_> = (0..40)
        .map(|_| {
            session.decode(&frame, &mut out).unwrap();
            out.drain()
                .find_map(|action| if let Action::Publish(event) = action { event.stored } else { None })
                .unwrap()
        })
        .collect();
    let acknowledged = numbers.into_iter().filter(|number| {
        session.stored(*number, &mut out).unwrap();
        !sent(&mut out).is_empty()
    });
    assert_eq!(acknowledged.count(), 16);
}

#[test]
fn a_value_of_10_mb_is_not_remembered_and_not_the_one_before_it_either() {
    let (mut session, mut out) = session(&websocket(json!({
        "remember": {"x": "/x"},
        "on": [{"when": {"where": {"/ask": true}}, "send": ["${x}"]}]
    })));
    let mut answer = |frame: Value| {
        let _ = session.decode(&Frame::text(frame.to_string()), &mut out);
        sent(&mut out)
    };
    answer(json!({"x": "short"}));
    assert_eq!(answer(json!({"ask": true})), ["[\"short\"]"]);
    answer(json!({"x": "x".repeat(10 << 20)}));
    assert_eq!(answer(json!({"ask": true})), ["[null]"]);
}

#[test]
fn a_service_that_answers_what_it_is_answered_ends_its_link() {
    let (mut session, mut out) =
        session(&websocket(json!({"on": [{"when": {"where": {"/n": 1}}, "send": {"n": 1}}]})));
    let frame = Frame::text(r#"{"n":1}"#);
    let end = (0..2_000).find_map(|_| session.decode(&frame, &mut out).err()).unwrap();
    assert_eq!((end.kind(), sent(&mut out).len()), (Kind::Throttled, 1_000));
    out.advance(Instant::now() + Duration::from_secs(2));
    assert!(session.decode(&frame, &mut out).is_ok());
}

#[test]
fn a_service_sets_the_heartbeat_within_bounds() {
    for (interval, wanted) in [
        (json!(1), Some(100)),
        (json!("2500"), Some(2_500)),
        (json!(1e300), None),
        (json!(u64::MAX), None),
        (json!(9_000_000_000_u64), Some(3_600_000)),
        (json!(-5), None),
        (json!([1]), None),
    ] {
        let (mut session, mut out) = session(&websocket(resuming()));
        session
            .decode(&Frame::text(json!({"op": 10, "d": {"interval": interval}}).to_string()), &mut out)
            .unwrap();
        let every = out.wake().map(|at| (at - out.now()).as_millis());
        assert_eq!(every, wanted, "{interval}");
    }
}

/// Every transcript of every recipe, with the recipe's own settings.
#[test]
fn the_recipes_play() {
    let recipes = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes");
    let mut played = 0;
    for recipe in std::fs::read_dir(recipes).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(config) = std::fs::read_to_string(recipe.join("config.toml")) else { continue };
        let (kind, settings) = recipe_settings(&config).unwrap();
        // Scripts have their own tests.
        if kind != "websocket" {
            continue;
        }
        Websocket::new(serde_json::from_value(Value::Object(settings)).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", recipe.display()));
        for file in std::fs::read_dir(recipe.join("transcripts")).unwrap().map(|entry| entry.unwrap().path())
        {
            let text = recipe_transcript(&config, &std::fs::read_to_string(&file).unwrap()).unwrap();
            play::<Websocket>(&file.display().to_string(), &text).unwrap_or_else(|wrong| panic!("{wrong}"));
            played += 1;
        }
    }
    assert!(played >= 12, "{played}");
}
