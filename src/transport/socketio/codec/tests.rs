//! Tests: valid and malformed packets, round trips, a million random ones.

use pontoon_sdk::connector::Frame as _;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

fn raw(json: &str) -> Raw {
    Raw::of_bytes(&Bytes::copy_from_slice(json.as_bytes()))
}

fn decode(decoder: &mut Decoder) -> Vec<Packet> {
    std::iter::from_fn(|| decoder.take()).collect()
}

fn decode_text(text: &str) -> Vec<Packet> {
    let mut decoder = Decoder::new("/");
    decoder.text(Bytes::copy_from_slice(text.as_bytes()));
    decode(&mut decoder)
}

fn event(name: &str, values: &[&str], ack: Option<u64>) -> Packet {
    let values = values.iter().map(|value| raw(value)).collect();
    Packet::Frame(Frame::Event(Event { ack, ..Event::new(name, values) }))
}

#[test]
fn valid_packets_are_decoded() {
    let cases = [
        (r#"42["hi"]"#, event("hi", &[], None)),
        (r#"42["hi",1,{"a": [1e999]}]"#, event("hi", &["1", r#"{"a": [1e999]}"#], None)),
        (r#"4217["hi",null]"#, event("hi", &["null"], Some(17))),
        (r#"42[5,"x"]"#, event("5", &["\"x\""], None)),
        (r#"42["error"]"#, event("error", &[], None)),
        (r#"42["disconnect","\ud83d\ude00"]"#, event("disconnect", &[r#""\ud83d\ude00""#], None)),
        (r#"42/,["hi"]"#, event("hi", &[], None)),
        (r#"42["hi\ud83d","\udc4d"]"#, event("hi\u{FFFD}", &[r#""\udc4d""#], None)),
        ("\u{FEFF}42[\"hi\",1]\0", event("hi", &["1"], None)),
        (r#"450-["hi"]"#, event("hi", &[], None)),
        ("430[]", Packet::Frame(Frame::ack(0, vec![]))),
        ("4318446744073709551615[true]", Packet::Frame(Frame::ack(u64::MAX, vec![raw("true")]))),
        ("2", Packet::Ping(Bytes::new())),
        ("2probe", Packet::Ping(Bytes::from_static(b"probe"))),
        ("1", Packet::Disconnect("the service closed the session")),
        ("41", Packet::Disconnect("the service disconnected us from the namespace")),
        ("40", Packet::Connect(Raw::null())),
        (r#"40{"sid":"s"}"#, Packet::Connect(raw(r#"{"sid":"s"}"#))),
        (r#"44{"message":"no"}"#, Packet::ConnectError("no".into())),
        (r#"44"no""#, Packet::ConnectError("no".into())),
        ("44", Packet::ConnectError(String::new())),
    ];
    for (text, expected) in cases {
        assert_eq!(decode_text(text), [expected], "{text}");
    }
    for silent in ["3", "3probe", "6"] {
        assert_eq!(decode_text(silent), [], "{silent}");
    }
}

#[test]
fn a_malformed_packet_is_kept_as_received() {
    for text in [
        "",
        "4",
        "5",
        "7",
        "z",
        "0{}",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        "42[[\"a\"]]",
        "42[\"a\"",
        "42[\"a\"]x",
        "42-1[\"a\"]",
        "4299999999999999999999[\"a\"]",
        "43[]",
        "430",
        "430{}",
        "47[]",
        "45[\"a\"]",
        "45-[\"a\"]",
        "451[\"a\"]",
        "4511-[\"a\"]",
        "45x-[\"a\"]",
        "42/other,[\"a\"]",
        "42/[\"a\"]",
        "40[]",
        "4٣[]",
    ] {
        let packets = decode_text(text);
        let [Packet::Frame(Frame::Malformed { raw, reason })] = packets.as_slice() else {
            panic!("{text:?}: {packets:?}")
        };
        assert_eq!(*raw, Raw::of_bytes(&Bytes::copy_from_slice(text.as_bytes())));
        assert!(!reason.is_empty());
    }
}

#[test]
fn packets_of_another_namespace_are_malformed() {
    let mut decoder = Decoder::new("/a");
    for text in [r#"42/a,["x"]"#, r#"42["x"]"#, r#"42/ab,["x"]"#, "41/a", "40/a"] {
        decoder.text(Bytes::from(text));
    }
    let packets = decode(&mut decoder);
    assert_eq!(packets[0], event("x", &[], None));
    assert!(packets[1..3].iter().all(|packet| matches!(packet, Packet::Frame(Frame::Malformed { .. }))));
    assert!(matches!(&packets[3..], [Packet::Disconnect(_), Packet::Connect(_)]), "{packets:?}");
}

#[test]
fn attachments_come_behind_their_packet() {
    let mut decoder = Decoder::new("/");
    let packet = r#"452-7["f",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#;
    decoder.text(Bytes::from(packet));
    decoder.binary(Bytes::from_static(b"\x1e\x00"));
    // A ping may come in between, as it is not a message of the session.
    decoder.text(Bytes::from_static(b"2"));
    assert!(decoder.is_partial());
    decoder.binary(Bytes::from_static(b"b"));
    let packets = decode(&mut decoder);
    let [Packet::Ping(_), Packet::Frame(Frame::Event(event))] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!((event.name.as_str(), event.ack), ("f", Some(7)));
    assert_eq!(event.args.attachments(), [Bytes::from_static(b"\x1e\x00"), Bytes::from_static(b"b")]);
}

#[test]
fn attachments_that_are_missing_or_too_many_cost_only_their_packet() {
    let mut decoder = Decoder::new("/");
    let place = |number: u64| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
    decoder.text(Bytes::from(format!(r#"452-["a",{},{}]"#, place(0), place(1))));
    decoder.binary(Bytes::from_static(b"1"));
    decoder.text(Bytes::from_static(b"42[\"b\"]"));
    decoder.binary(Bytes::from_static(b"2"));
    decoder.text(Bytes::from(format!(r#"451-["c",{}]"#, place(9))));
    decoder.binary(Bytes::from_static(b"3"));
    decoder.text(Bytes::from_static(b"42[\"d\"]"));
    let packets = decode(&mut decoder);
    let names: Vec<_> = packets
        .iter()
        .map(|packet| match packet {
            Packet::Frame(Frame::Event(event)) => event.name.clone(),
            Packet::Frame(Frame::Malformed { raw, .. }) => {
                String::from_utf8_lossy(raw.as_bytes()).into_owned()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names.len(), 5);
    assert!(
        names[0].contains(r#""attachments":[{"base64":"MQ=="}]"#) && names[0].contains("452-"),
        "{}",
        names[0]
    );
    assert_eq!((names[1].as_str(), names[2].as_str()), ("b", r#"{"base64":"Mg=="}"#));
    assert!(names[3].contains("Mw==") && names[4] == "d");
}

#[test]
fn deep_and_wide_arguments_are_passed_on() {
    let deep = format!("42[\"deep\",{}{}]", "[".repeat(200_000), "]".repeat(200_000));
    assert!(matches!(decode_text(&deep).as_slice(), [Packet::Frame(Frame::Event(_))]));
    let wide = format!("42[\"wide\"{}]", ",0".repeat(200_000));
    let packets = decode_text(&wide);
    let [Packet::Frame(Frame::Event(event))] = packets.as_slice() else { panic!("no event") };
    assert_eq!(event.args.values().len(), 200_000);
}

#[test]
fn a_namespace_is_connected_and_disconnected() {
    let auth = json!({"token": "t"});
    assert_eq!(connect("/", &serde_json::Map::new()), "40");
    assert_eq!(connect("/", auth.as_object().unwrap()), r#"40{"token":"t"}"#);
    assert_eq!(connect("/a", auth.as_object().unwrap()), r#"40/a,{"token":"t"}"#);
    assert_eq!((disconnect("/").as_str(), disconnect("/a").as_str()), ("41", "41/a,"));
}

/// JSON of any shape, without placeholders.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((any::<String>(), inner), 0..5)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let values = prop::collection::vec(json(), 0..4);
    let attachments = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..=MAX_ATTACHMENTS);
    let args = (values, attachments).prop_map(|(values, attachments)| {
        let places =
            (0..attachments.len()).map(|number| json!({"deep": [{"_placeholder": true, "num": number}]}));
        let values = values.into_iter().chain(places).map(|value| Raw::json(&value).unwrap()).collect();
        Args::with_attachments(values, attachments.into_iter().map(Bytes::from).collect()).unwrap()
    });
    (any::<Option<u64>>(), prop::option::of(any::<String>()), args).prop_map(
        |(number, name, args)| match name {
            Some(name) => Frame::Event(Event { name, args, ack: number }),
            None => Frame::Ack { id: number.unwrap_or(0), args },
        },
    )
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_went(frame in frame(), namespace in prop_oneof![Just("/"), Just("/a"), Just("/ü/b")]) {
        let (text, attachments) = encode(frame.clone(), namespace);
        prop_assert!(text.len() + namespace.len() <= frame.largest().max(text.len() + namespace.len()));
        prop_assert!(text.len() <= frame.size() + namespace.len());
        let mut decoder = Decoder::new(namespace);
        decoder.text(text.into());
        for attachment in attachments {
            decoder.binary(attachment);
        }
        prop_assert_eq!(decode(&mut decoder), vec![Packet::Frame(frame)]);
        prop_assert!(!decoder.is_partial());
    }
}

/// How many random packets are tried.
const PACKETS: usize = 1_000_000;

/// After every packet the decoder can decode the next valid one, and keeps at most one partial packet.
#[test]
fn a_million_random_packets() {
    let good = [
        r#"42["hi",{"a":[1,2,{"b":"c"}]},null]"#,
        r#"4217["hi","text \u00e4 \ud83d\ude00"]"#,
        r#"433[{"ok":true}]"#,
        r#"452-["f",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        r#"461-9[{"_placeholder":true,"num":0}]"#,
        r#"42/a,["hi"]"#,
        r#"40{"sid":"s","pid":"p"}"#,
        r#"44{"message":"no"}"#,
        "2probe",
        "41",
        "6",
    ];
    let mut random = StdRng::seed_from_u64(0x50_4f_4e_54);
    let (mut frames, mut malformed) = (0_usize, 0_usize);
    let mut decoder = Decoder::new("/");
    for number in 0..PACKETS {
        let packet = match random.random_range(0..4) {
            0 => noise(&mut random),
            _ => mutated(&mut random, good[number % good.len()]),
        };
        if random.random_ratio(1, 8) {
            decoder.binary(packet.into());
        } else {
            // The WebSocket layer delivers only texts that are UTF-8.
            decoder.text(String::from_utf8_lossy(&packet).into_owned().into());
        }
        let mut packets = 0;
        while let Some(next) = decoder.take() {
            packets += 1;
            match next {
                Packet::Frame(Frame::Malformed { .. }) => malformed += 1,
                Packet::Frame(_) => frames += 1,
                _ => {}
            }
        }
        assert!(packets <= 2, "one message made {packets} packets");
        let waiting =
            decoder.partial.as_ref().map_or(0, |partial| partial.attachments.len() + partial.missing);
        assert!(waiting <= MAX_ATTACHMENTS);
    }
    decoder.give_up("the end");
    let _ = decode(&mut decoder);
    decoder.text(Bytes::from_static(b"42[\"alive\"]"));
    assert_eq!(decode(&mut decoder), [event("alive", &[], None)]);
    assert!(frames > PACKETS / 100 && malformed > PACKETS / 10, "{frames} frames, {malformed} malformed");
}

fn noise(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(0..48);
    (0..length).map(|_| random.random()).collect()
}

/// A good packet with some bytes changed, left out, doubled or put in.
fn mutated(random: &mut StdRng, good: &str) -> Vec<u8> {
    let mut packet = good.as_bytes().to_vec();
    for _ in 0..random.random_range(0..4) {
        if packet.is_empty() {
            break;
        }
        let place = random.random_range(0..packet.len());
        match random.random_range(0..5) {
            0 => packet[place] = random.random(),
            1 => packet[place] = b"0123456789-/,[]{}\"\\:"[random.random_range(0..20)],
            2 => drop(packet.remove(place)),
            3 => packet.truncate(place),
            _ => packet.insert(place, packet[place]),
        }
    }
    packet
}
