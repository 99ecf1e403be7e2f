//! What passes over a link: any name, any number of arguments, binary data, acknowledgements, both ways.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use pontoon_testkit::eventually;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::server::Server;
use crate::support::DEADLINE;

/// How many acknowledgements are awaited at once.
const MANY: usize = 400;

/// Names that mean something to one Socket.IO library or another, and are just names.
const NAMES: [&str; 14] = [
    "error",
    "open",
    "close",
    "message",
    "Message",
    "ping",
    "reconnect",
    "data",
    "a name with spaces",
    "naïve ☃ 名前",
    "a.b.*.>",
    "\"quoted\\\"",
    "1",
    "",
];

/// Arguments as one value.
fn payload(args: &Value) -> Value {
    match args.as_array().unwrap().as_slice() {
        [] => Value::Null,
        [only] => only.clone(),
        _ => args.clone(),
    }
}

#[tokio::test]
async fn many_calls_at_once_each_get_their_own_answer() {
    let server = Server::start(json!({})).await;
    let url = server.url();
    let mut fixture =
        Fixture::at(&url, "", server, |config| config.with("[commands]\nmax_in_flight = 1000")).await;
    fixture.link(|link| link["phase"] == "ready").await;
    // None is answered before all are asked, and the last is answered first.
    fixture.server.order(json!({"do": "answer", "how": MANY})).await;
    let calls = (0..MANY).map(|number| {
        let fixture = &fixture;
        async move { (number, fixture.ask("call.echo", &json!({"n": number})).await) }
    });
    let replies = join_all(calls).await;
    assert_eq!(fixture.server.receives("echo", MANY).await.len(), MANY);
    for (number, reply) in replies {
        assert_eq!(reply.verdict(), ("response", None), "{}", reply.message());
        assert_eq!(reply.body["data"], json!({"n": number}));
    }
    assert_eq!(fixture.events().len(), 0, "{:?}", fixture.events());
}

#[tokio::test]
async fn many_questions_at_once_are_all_answered() {
    let settings =
        r#"events.question = { type = "message.created", text = "/0/n", acknowledge = [{ taken = true }] }"#;
    let mut fixture = Fixture::ready(settings, json!({})).await;
    // With binary data they are other packets.
    let args = json!([{"$base64": "HgAe"}]);
    let order = json!({"do": "ask", "name": "question", "count": MANY, "timeout": 25_000, "args": args});
    fixture.server.order(order).await;
    let reports = fixture.server.saw("answers");
    let answers = reports[0]["answers"].as_array().unwrap();
    let expected: Vec<Value> = (0..MANY).map(|number| json!([number, {"taken": true}])).collect();
    assert_eq!(*answers, expected);
    let numbers: Vec<_> = (0..MANY).map(|number| number.to_string()).collect();
    assert_eq!(fixture.stored(MANY).await, numbers);
}

#[tokio::test]
async fn what_is_not_answered_is_unknown_and_what_we_do_not_answer_is_seen() {
    let mut fixture = Fixture::ready("", json!({})).await;
    fixture.server.order(json!({"do": "answer", "how": "never"})).await;
    let reply = fixture.ask_within("1s", "call.echo", &json!(1)).await;
    assert_eq!(reply.verdict(), ("unknown", Some("504")));
    fixture.server.order(json!({"do": "ask", "name": "question", "count": 1, "timeout": 1_000})).await;
    let answers = fixture.server.saw("answers")[0]["answers"].clone();
    assert!(answers[0][1]["error"].is_string(), "{answers}");
    fixture.event("question").await;
    fixture.server.order(json!({"do": "answer", "how": "echo"})).await;
    assert_eq!(fixture.ask("call.echo", &json!(2)).await.body["data"], 2);
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn any_name_with_any_arguments_arrives_as_it_was_emitted() {
    let mut fixture = Fixture::ready("", json!({})).await;
    let emitted: Vec<(&str, Value)> = NAMES
        .into_iter()
        .flat_map(|name| {
            [json!([]), json!([1]), json!(["a", {"b": [null, "é\u{1e}☃"]}, 1.50])].map(|args| (name, args))
        })
        .collect();
    for (name, args) in &emitted {
        fixture.server.emit(name, args.clone()).await;
    }
    eventually(DEADLINE, async || fixture.events().len() >= emitted.len()).await;
    let events = fixture.events();
    for (event, (name, args)) in events.iter().zip(&emitted) {
        assert_eq!((event.kind.as_str(), event.body["name"].as_str()), ("frame.unrecognised", Some(*name)));
        assert_eq!(event.body["raw"], payload(args), "{name}");
    }
    assert_eq!(events.len(), emitted.len());
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

/// The reference server's `emit` refuses these names, and its connections carry them all the same.
#[tokio::test]
async fn even_reserved_names_are_just_names_when_they_come() {
    let mut fixture = Fixture::ready("", json!({})).await;
    let names = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    for name in names {
        fixture.server.order(json!({"do": "packet", "data": [name, {"reason": "a word"}]})).await;
    }
    for name in names {
        assert_eq!(fixture.event(name).await.body["raw"], json!({"reason": "a word"}));
        // When they go, the reference server closes the connection over them.
        let reply = fixture.ask("emit", &json!({"event": name})).await;
        assert_eq!(reply.verdict(), ("rejected", Some("400")), "{name}");
    }
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn any_name_with_any_arguments_goes_as_it_was_asked_for() {
    let fixture = Fixture::ready("", json!({})).await;
    let mut asked = Vec::new();
    for name in NAMES {
        for args in [json!([]), json!([1]), json!(["a", {"b": [null, "é\u{1e}☃"]}, 1.50])] {
            let body = json!({"event": name, "args": args});
            let reply = fixture.ask("call", &body).await;
            assert_eq!(reply.verdict(), ("response", None), "{body}: {}", reply.message());
            assert_eq!(reply.body["data"], payload(&args));
            assert_eq!(fixture.ask("emit", &body).await.verdict(), ("sent", None), "{body}");
            asked.extend([true, false].map(|asks| (json!(name), args.clone(), json!(asks))));
        }
    }
    let received = fixture.server.sees("event", asked.len()).await;
    let received: Vec<_> = received
        .iter()
        .map(|event| (event["name"].clone(), event["args"].clone(), event["asks"].clone()))
        .collect();
    assert_eq!(received, asked);
    assert_eq!(fixture.server.saw("connect").len(), 1);
}

#[tokio::test]
async fn binary_data_pass_both_ways_byte_by_byte() {
    let mut fixture = Fixture::ready("", json!({})).await;
    let every: Vec<u8> = (0..=255).collect();
    let blobs = [
        every.clone(),
        vec![0x1e],
        vec![0x1e; 300],
        b"4\x1e42[\"x\"]".to_vec(),
        every.repeat(100),
        Vec::new(),
    ];
    let base64: Vec<String> = blobs.iter().map(|blob| STANDARD.encode(blob)).collect();
    let given = |place: usize| json!({"$base64": base64[place]});
    let args = json!([{"a": given(0), "list": [given(1), 7, given(2)]}, "between", given(3), given(4), {"z": given(5)}]);
    fixture.server.emit("files", args.clone()).await;

    let place = |number: usize| json!({"_placeholder": true, "num": number});
    let placed = json!([{"a": place(0), "list": [place(1), 7, place(2)]}, "between", place(3), place(4), {"z": place(5)}]);
    let raw = fixture.event("files").await.body["raw"].clone();
    assert_eq!(raw, json!({"args": placed, "attachments": base64}));

    let body = json!({"event": "files", "args": placed, "attachments": base64});
    assert_eq!(fixture.ask("emit", &body).await.verdict(), ("sent", None));
    // The server echoes what it received.
    let reply = fixture.ask("call", &body).await;
    assert_eq!(reply.verdict(), ("response", None), "{}", reply.message());
    assert_eq!(reply.body["data"], raw);
    let received = fixture.server.sees("event", 2).await;
    assert!(received.iter().all(|event| event["args"] == args), "{received:?}");
}

#[tokio::test]
async fn ten_attachments_pass_and_more_are_published_raw() {
    let mut fixture = Fixture::ready("", json!({})).await;
    let blobs = |number: usize| {
        (0..number).map(|n| json!({"$base64": STANDARD.encode([n as u8])})).collect::<Value>()
    };
    fixture.server.emit("ten", json!([blobs(10)])).await;
    assert_eq!(fixture.event("ten").await.body["raw"]["attachments"].as_array().unwrap().len(), 10);
    fixture.server.emit("eleven", json!([blobs(11)])).await;
    fixture.server.emit("after", json!([])).await;
    fixture.event("after").await;
    let events = fixture.events();
    let published = &events[1..events.len() - 1];
    assert!(published.iter().all(|event| event.kind == "frame.unrecognised"), "{published:?}");
    let all = format!("{published:?}");
    assert!(all.contains("eleven"), "{all}");
    for n in 0..11_u8 {
        assert!(all.contains(&STANDARD.encode([n])), "{n}: {all}");
    }
    assert_eq!(fixture.server.saw("connect").len(), 1);
}
