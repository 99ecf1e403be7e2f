use pontoon_sdk::socketio::Args;

use super::*;

/// The crate's text for a packet that it cannot decode.
const CRATE_ERROR: &str = "Error while parsing an incomplete packet";

fn text(values: Value) -> Payload {
    Payload::Text(values.as_array().unwrap().clone())
}

#[test]
fn events_of_the_service_are_distinguished_from_those_of_the_connection() {
    let disconnected = |reason: &str| Outcome::Signal(Signal::Ended(End::disconnected(reason)));
    let refused = |text: &str| Outcome::Signal(Signal::Refused(text.to_owned()));
    let event = |name: &str, values: Value| {
        let values = values.as_array().unwrap().iter().map(|value| Raw::json(value).unwrap()).collect();
        Outcome::Frame(Frame::Event(Event { name: name.to_owned(), args: Args::new(values), ack: None }))
    };
    let refusal = |json: &str| text(json!([format!("{REFUSED}{json}")]));
    for (name, payload, means) in [
        ("news", text(json!(["a", 1, null])), event("news", json!(["a", 1, null]))),
        ("Message", text(json!(["a"])), event("message", json!(["a"]))),
        ("connect", text(json!([1])), event("connect", json!([1]))),
        ("open", text(json!([{}])), event("open", json!([{}]))),
        ("Close", text(json!(["", ""])), event("close", json!(["", ""]))),
        ("close", text(json!([""])), disconnected("the service ended the session")),
        ("error", text(json!(["out of milk"])), event("error", json!(["out of milk"]))),
        ("error", text(json!([{"code": 1}])), event("error", json!([{"code": 1}]))),
        ("error", text(json!([CRATE_ERROR, 2])), event("error", json!([CRATE_ERROR, 2]))),
        (
            "error",
            text(json!([CRATE_ERROR])),
            disconnected(&format!("the connection broke, or the service broke the protocol: {CRATE_ERROR}")),
        ),
        ("error", refusal(r#"{"message":"no such user","data":{}}"#), refused("no such user")),
        ("error", refusal(r#""no""#), refused("no")),
        ("error", refusal("{"), refused("{")),
    ] {
        let shown = format!("{name} {payload:?}");
        assert_eq!(outcome(Name::from(name), payload, true), means, "{shown}");
    }
}

#[test]
fn only_the_first_confirmation_is_one() {
    assert_eq!(outcome(Name::Connect, text(json!([""])), false), Outcome::Signal(Signal::Confirmed));
    let Outcome::Frame(Frame::Malformed { raw, .. }) = outcome(Name::Connect, text(json!([""])), true) else {
        panic!("the outcome is another");
    };
    assert_eq!(raw.as_bytes(), br#"["open",""]"#);
}

#[test]
fn of_a_binary_event_the_part_that_the_crate_passes_is_shown() {
    let payload = Payload::Binary(Bytes::from_static(&[0, 255]));
    let Outcome::Final(Frame::Malformed { raw, .. }, _) =
        outcome(Name::from("file,{size:2,data:}"), payload, true)
    else {
        panic!("the outcome is another");
    };
    assert_eq!(raw.as_bytes(), br#"{"attachments":["AP8="],"packet":"file,{size:2,data:}"}"#);
}

/// Every error that the crate passes on as an event is recognised.
#[test]
fn the_crates_errors_are_recognised() {
    use ::rust_socketio::Error;
    let own = [
        Error::InvalidPacketId('9'),
        Error::IncompletePacket(),
        Error::InvalidPacket(),
        Error::InvalidUrlScheme("x".into()),
        Error::InvalidHandshake("x".into()),
        Error::IllegalActionBeforeOpen(),
        Error::InvalidJson(serde_json::from_str::<Value>("{").unwrap_err()),
        Error::InvalidPoisonedLock(),
        Error::IncompleteIo(std::io::ErrorKind::Other.into()),
        Error::InvalidInteger("x".parse::<u8>().unwrap_err()),
        Error::InvalidUtf8(String::from_utf8(vec![255]).unwrap_err().utf8_error()),
        Error::InvalidAttachmentPacketType(1),
        Error::StoppedEngineIoSocket,
    ];
    for fault in own {
        let outcome = outcome(Name::Error, Payload::from(fault.to_string()), true);
        assert!(matches!(outcome, Outcome::Signal(Signal::Ended(_))), "{fault}: {outcome:?}");
    }
    // For errors of another crate that it wraps, it shows only this.
    let outcome = outcome(Name::Error, Payload::from("EngineIO Error"), true);
    assert!(matches!(outcome, Outcome::Signal(Signal::Ended(_))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_ends_the_link_after_the_queued_frames() {
    let (callbacks, mut queue, mut signals) = Callbacks::new(1_000);
    let event = |n: u64| callbacks.clone().receive(Name::from("e"), text(json!([n, "x".repeat(400)])));
    for n in [0, 1] {
        event(n).await;
    }
    // The third does not fit, and the crate stays blocked there.
    assert!(timeout(HOLD_LIMIT * 3, event(2)).await.is_err());
    let Some(Signal::Ended(end)) = signals.recv().await else { panic!("no end") };
    assert!(end.reason.contains("full"), "{end}");
    for n in [0, 1] {
        let Frame::Event(event) = queue.recv().await.unwrap().frame else { panic!("no event") };
        assert_eq!(event.read::<u64>(0).unwrap(), n);
    }
    assert!(queue.try_recv().is_err());
}
