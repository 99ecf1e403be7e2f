use super::*;
use crate::connector::Frame as _;

fn raw(json: &str) -> Raw {
    Raw::of_bytes(&Bytes::copy_from_slice(json.as_bytes()))
}

fn text(raw: &Raw) -> &str {
    str::from_utf8(raw.as_bytes()).unwrap()
}

#[test]
fn a_payload_is_the_only_argument_or_all_of_them() {
    let payload = |values: &[&str]| {
        let args = Args::new(values.iter().map(|value| raw(value)).collect());
        text(&args.payload()).to_owned()
    };
    assert_eq!(payload(&[]), "null");
    assert_eq!(payload(&["{\"a\": 1e999}"]), "{\"a\": 1e999}");
    assert_eq!(payload(&["1", "[2]"]), "[1,[2]]");
    let args = Args::with_attachments(
        vec![raw(r#"{"a":{"_placeholder":true,"num":0}}"#)],
        vec![Bytes::from_static(b"\x00\x1e")],
    );
    assert_eq!(
        text(&args.unwrap().payload()),
        r#"{"args":[{"a":{"_placeholder":true,"num":0}}],"attachments":["AB4="]}"#
    );
}

#[test]
fn attachments_are_named_once_each() {
    let one = || vec![Bytes::from_static(b"x")];
    let named = |number: u64| raw(&format!(r#"{{"_placeholder":true,"num":{number}}}"#));
    assert!(Args::with_attachments(vec![named(0)], one()).is_ok());
    for wrong in [vec![], vec![named(1)], vec![named(0), named(0)], vec![raw(r#"{"_placeholder":true}"#)]] {
        assert!(Args::with_attachments(wrong, one()).is_err());
    }
    let many = (0..11).map(named).collect();
    assert!(Args::with_attachments(many, vec![Bytes::new(); 11]).is_err());
}

#[test]
fn an_event_without_an_argument_reads_as_null() {
    let event = Event::new("open", Vec::new());
    assert_eq!(event.read::<Option<String>>(0).unwrap(), None);
    assert!(event.read::<String>(0).is_err());
    assert_eq!(text(&Frame::Event(event).raw()), r#"["open"]"#);
}

#[test]
fn an_endpoint_takes_web_and_socket_urls() {
    for good in ["https://api.example.test", "http://h:3000/base/socket.io/", "ws://h", "wss://h/x?y=z"] {
        assert!(Endpoint::new(good).is_ok(), "{good}");
    }
    for bad in ["", "h:3000", "ftp://h", "https://u:p@h/", "https://h/#x", "https://"] {
        assert!(Endpoint::new(bad).is_err(), "{bad}");
    }
}
