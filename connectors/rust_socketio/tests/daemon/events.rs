//! What passes over a link with this engine, what it makes of it, and what is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pontoon_sdk::Raw;
use pontoon_sdk::socketio::{Args, Event, Frame};
use pontoon_testkit::eventually;
use serde_json::{Value, json};

use crate::ENGINE;
use crate::fixture::{Fixture, NUMBERED};
use crate::scenario::Scenario;
use crate::support::DEADLINE;

#[tokio::test]
async fn ten_thousand_events_are_stored_in_order() {
    let mut fixture = Fixture::ready(&format!("{ENGINE}{NUMBERED}"), json!({})).await;
    fixture.joined(1).await;
    let count = 10_000;
    fixture.blast(0, count).await;
    let numbers: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    assert!(fixture.stored(numbers.len()).await == numbers, "there is a hole, or the order is another");
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn any_name_is_sent_with_any_arguments() {
    let fixture = Fixture::ready(ENGINE, json!({})).await;
    let names =
        ["news", "open", "Close", "error", "message", "a name with spaces", "\"quoted\\\"", "名前", "1", ""];
    let mut sent = 0;
    for name in names {
        for args in [json!([]), json!([[1]]), json!(["a", {"b": [null, "é\u{1e}☃"]}, 1.5])] {
            let reply = fixture.ask("emit", &json!({"event": name, "args": args})).await;
            assert_eq!(reply.verdict(), ("sent", None), "{name} {args}: {}", reply.message());
            sent += 1;
            eventually(DEADLINE, async || fixture.server.saw("event").len() == sent).await;
            let received = fixture.server.receives(name, 1).await.pop().unwrap();
            assert_eq!((&received["args"], &received["asks"]), (&args, &json!(false)));
        }
    }
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn what_the_engine_cannot_do_is_refused_before_anything_is_sent() {
    let fixture = Fixture::ready(ENGINE, json!({})).await;
    for (operation, body) in [
        ("call.echo", json!(1)),
        ("call", json!({"event": "echo", "args": [1]})),
        (
            "emit",
            json!({"event": "file", "args": [{"_placeholder": true, "num": 0}], "attachments": ["AA=="]}),
        ),
    ] {
        let reply = fixture.ask(operation, &body).await;
        assert_eq!(reply.verdict(), ("rejected", Some("403")), "{operation}");
        assert!(reply.message().contains("engine = \"native\""), "{}", reply.message());
    }
    assert_eq!(fixture.ask("emit.last", &json!(1)).await.verdict(), ("sent", None));
    fixture.server.sees("event", 1).await;
    assert_eq!(fixture.server.saw("event").len(), 1);
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

/// The table in the engine's documentation, row by row.
#[tokio::test]
async fn events_are_published_as_the_crate_passes_them() {
    let mut fixture = Fixture::ready(ENGINE, json!({})).await;
    let cases = [
        (json!(["news", "a", 1]), "news", json!(["a", 1])),
        (json!(["connect", {"a": 1}]), "connect", json!({"a": 1})),
        (json!(["disconnect", "x"]), "disconnect", json!("x")),
        (json!(["Message", "x"]), "message", json!("x")),
        (json!(["Open", "x"]), "open", json!("x")),
        (json!(["CLOSE", "x"]), "close", json!("x")),
        (json!(["Error", "out of milk"]), "error", json!("out of milk")),
        (json!(["error", {"message": "m"}, 2]), "error", json!([{"message": "m"}, 2])),
        (json!(["bare"]), "message", json!("bare")),
        (json!(["keys", {"b": 1, "a": 2}]), "keys", json!({"a": 2, "b": 1})),
    ];
    for (sent, ..) in &cases {
        fixture.server.order(json!({"do": "packet", "data": sent})).await;
    }
    eventually(DEADLINE, async || fixture.events().len() >= cases.len()).await;
    for (event, (sent, name, raw)) in fixture.events().iter().zip(&cases) {
        assert_eq!((event.name.as_str(), &event.body["raw"]), (*name, raw), "{sent}");
    }
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn numbers_and_keys_may_change_form_and_nothing_else_does() {
    let scenario = Scenario::ready("").await;
    let sent = r#"42["data",{"z":1.50,"a":12345678901234567890123,"text":"\u00e9\u001e☃"},1E2]"#;
    scenario.service.send_text(sent);
    let published = r#"data [{"a":1.2345678901234568e+22,"text":"é\u001e☃","z":1.5},100.0]"#;
    assert_eq!(scenario.published(1).await, [published]);
}

/// What the engine does not tell apart is said to be so.
#[tokio::test]
async fn an_event_that_looks_like_one_of_the_connection_is_published_or_ends_the_link() {
    let scenario = Scenario::ready("").await;
    let send =
        |name: &str, value: &Value| scenario.service.send(&Frame::event(name, Raw::json(value).unwrap()));
    send("open", &json!(""));
    assert_eq!(scenario.published(1).await, [r#"- ["open",""]"#]);
    let words = ["", "EngineIO Error", "Received an ConnectError frame: no"];
    for (place, (name, value)) in ["close", "error", "error"].into_iter().zip(words).enumerate() {
        send(name, &json!(value));
        scenario.joined(place + 2).await;
    }
    let gap = "gap disconnected";
    assert_eq!(scenario.published(4).await[1..], [gap, gap, gap]);
}

#[tokio::test]
async fn a_service_that_asks_for_an_acknowledgement_gets_none() {
    let mut fixture = Fixture::ready(ENGINE, json!({})).await;
    fixture.server.order(json!({"do": "ask", "name": "question", "count": 1, "timeout": 1_000})).await;
    let answers = fixture.server.saw("answers")[0]["answers"].clone();
    assert!(answers[0][1]["error"].is_string(), "{answers}");
    assert_eq!(fixture.event("question").await.body["raw"], json!({"n": 0}));
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

/// Arguments and attachments of a binary event; what is told of its packet, and of its first attachment.
type File = (Vec<Value>, Vec<&'static [u8]>, &'static str, &'static [u8]);

/// The crate takes the byte 0x1E for the border between two packets: what follows it could be anybody's.
#[tokio::test]
async fn of_a_binary_event_a_part_is_published_and_nothing_after_it_is_read() {
    let scenario = Scenario::ready("").await;
    let place = |num: u64| json!({"_placeholder": true, "num": num});
    let files: [File; 3] = [
        (vec![place(0)], vec![b"abc"], "file", b"abc"),
        (
            vec![json!({"meta": 1}), place(0), place(1)],
            vec![b"abc", b"2[\"forged\",1]"],
            "file,{meta:1},,{_placeholder:true,num:1}",
            b"abc",
        ),
        (vec![place(0)], vec![b"a\x1e42[\"forged\",2]"], "file", b"a"),
    ];
    let mut expected = Vec::new();
    for (round, (values, attachments, packet, part)) in files.into_iter().enumerate() {
        scenario.joined(round + 1).await;
        let values = values.iter().map(|value| Raw::json(value).unwrap()).collect();
        let attachments = attachments.into_iter().map(bytes::Bytes::from_static).collect();
        let args = Args::with_attachments(values, attachments).unwrap();
        scenario.service.send(&Frame::Event(Event { name: "file".into(), args, ack: None }));
        let part = STANDARD.encode(part);
        expected.push(format!(r#"- {{"attachments":["{part}"],"packet":"{packet}"}}"#));
        expected.push("gap disconnected".to_owned());
    }
    scenario.joined(4).await;
    assert_eq!(scenario.published(expected.len() as u64).await, expected);
}
