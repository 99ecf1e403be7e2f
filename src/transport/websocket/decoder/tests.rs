//! Tests: frames whole and in pieces, what is discarded, and every violation with its close code.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1000;

/// A frame of a server: the first byte as it is, the length as short as it can be written.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(u8::try_from(short).unwrap()),
        medium @ 126..65536 => {
            bytes.push(126);
            bytes.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(127);
            bytes.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// The same, masked as a client does it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [1, 2, 3, 250];
    let mut bytes = frame(first, payload);
    let head = bytes.len() - payload.len();
    bytes[1] |= 0x80;
    mask(&mut bytes[head..], key);
    bytes.splice(head..head, key);
    bytes
}

/// All that these bytes hold, received in pieces of this size.
fn decode(role: Role, bytes: &[u8], piece: usize) -> (Vec<Item>, Option<Violation>) {
    let mut decoder = Decoder::new(role, LIMIT, &[]);
    let mut items = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.add(piece);
        loop {
            match decoder.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(violation) => return (items, Some(violation)),
            }
        }
    }
    (items, None)
}

fn text(text: &str) -> Item {
    Item::Message(Frame::text(text))
}

#[test]
fn messages_come_out_whole_however_they_were_received() {
    let long = "x".repeat(LIMIT);
    let bytes = [
        frame(0x81, b"one"),
        frame(0x01, "zw\u{e4}".as_bytes().split_at(3).0),
        frame(0x89, b"ping"),
        frame(0x00, "\u{e4}".as_bytes().split_at(1).1),
        frame(0x8A, b""),
        frame(0x80, b""),
        frame(0x82, &[0, 255]),
        frame(0x02, b""),
        frame(0x80, b"b"),
        frame(0x81, long.as_bytes()),
        frame(0x88, &[0x03, 0xE8, b'b', b'y', b'e']),
    ]
    .concat();
    let expected = [
        text("one"),
        Item::Ping(Bytes::from_static(b"ping")),
        Item::Pong,
        text("zw\u{e4}"),
        Item::Message(Frame::Binary(Bytes::from_static(&[0, 255]))),
        Item::Message(Frame::Binary(Bytes::from_static(b"b"))),
        text(&long),
        Item::Close { code: Some(1000), reason: "bye".into() },
    ];
    for piece in [1, 2, 3, 7, 64, bytes.len()] {
        let (items, violation) = decode(Role::Client, &bytes, piece);
        assert_eq!((items.as_slice(), violation), (&expected[..], None), "{piece}");
    }
}

#[test]
fn a_client_is_read_through_its_mask() {
    let bytes = [masked(0x81, b"hello"), masked(0x89, b"1234567"), masked(0x88, b"")].concat();
    let expected = [
        text("hello"),
        Item::Ping(Bytes::from_static(b"1234567")),
        Item::Close { code: None, reason: String::new() },
    ];
    assert_eq!(decode(Role::Server, &bytes, 3), (expected.into(), None));
}

#[test]
fn a_message_over_the_limit_is_discarded_and_the_next_one_comes() {
    let (large, half) = (vec![b'x'; LIMIT + 1], vec![0xFF; LIMIT / 2 + 1]);
    let bytes = [
        frame(0x81, b"one"),
        frame(0x81, &large),
        frame(0x81, b"two"),
        // In fragments, with a ping between them; not checked to be UTF-8, as it is not read.
        frame(0x02, &half),
        frame(0x89, b"p"),
        frame(0x00, &half),
        frame(0x80, &[b'x'; 10]),
        frame(0x81, b"three"),
        frame(0x01, b"y"),
        frame(0x80, &[0xFF; LIMIT]),
        frame(0x81, b"four"),
    ]
    .concat();
    let expected = [
        text("one"),
        Item::TooLarge(1001),
        text("two"),
        Item::Ping(Bytes::from_static(b"p")),
        Item::TooLarge(1012),
        text("three"),
        Item::TooLarge(1001),
        text("four"),
    ];
    for piece in [1, 100, bytes.len()] {
        let (items, violation) = decode(Role::Client, &bytes, piece);
        assert_eq!((items.as_slice(), violation), (&expected[..], None), "{piece}");
    }
    let bytes = [masked(0x82, &large), masked(0x81, b"next")].concat();
    assert_eq!(decode(Role::Server, &bytes, 77), (vec![Item::TooLarge(1001), text("next")], None));
}

#[test]
fn what_is_discarded_takes_no_memory() {
    let mut decoder = Decoder::new(Role::Client, LIMIT, &frame(0x82, &vec![0; 64 * LIMIT])[..4]);
    let mut left = 64 * LIMIT;
    while left > 0 {
        assert_eq!(decoder.next(), Ok(None));
        let piece = left.min(4096);
        assert!(decoder.large_payload().is_none());
        decoder.add(&vec![0; piece]);
        assert!(decoder.buffer.capacity() <= 2 * piece, "{}", decoder.buffer.capacity());
        left -= piece;
    }
    assert_eq!(decoder.next(), Ok(Some(Item::TooLarge(64_000))));
}

#[test]
fn an_idle_connection_keeps_no_buffer() {
    let mut decoder = Decoder::new(Role::Client, LIMIT, &[]);
    decoder.add(&[frame(0x81, b"a"), frame(0x81, b"b")].concat());
    assert_eq!((decoder.next(), decoder.next()), (Ok(Some(text("a"))), Ok(Some(text("b")))));
    assert_eq!((decoder.next(), decoder.buffer.capacity()), (Ok(None), 0));
}

#[test]
fn the_rest_of_a_large_payload_is_received_where_it_stays() {
    let payload = vec![b'x'; 4 * RECEIVED];
    let bytes = frame(0x82, &payload);
    let mut decoder = Decoder::new(Role::Client, payload.len(), &[]);
    let (first, rest) = bytes.split_at(100);
    decoder.add(first);
    assert_eq!(decoder.next(), Ok(None));
    let buffer = decoder.large_payload().unwrap();
    let (capacity, place) = (buffer.capacity(), buffer.as_ptr());
    assert!(capacity >= payload.len());
    buffer.extend_from_slice(rest);
    let Ok(Some(Item::Message(message))) = decoder.next() else { panic!("no message") };
    assert_eq!((message.bytes().len(), message.bytes().as_ptr()), (payload.len(), place));
}

#[test]
fn every_violation_has_its_code() {
    let huge = |length: u64| [&[0x82, 127][..], &length.to_be_bytes()].concat();
    let close = |code: u16, reason: &[u8]| frame(0x88, &[&code.to_be_bytes()[..], reason].concat());
    let cases = [
        ("reserved bit 1", frame(0xC1, b"x"), 1002),
        ("reserved bit 2", frame(0xA1, b"x"), 1002),
        ("reserved bit 3", frame(0x91, b"x"), 1002),
        ("reserved opcode 3", frame(0x83, b""), 1002),
        ("reserved opcode 11", frame(0x8B, b""), 1002),
        ("masked", masked(0x81, b"x"), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("fragmented close", frame(0x08, b""), 1002),
        ("ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("close of 126 bytes", close(1000, &[b'x'; 124]), 1002),
        ("close of one byte", frame(0x88, &[3]), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        ("message in a message", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        ("highest bit of a length", huge(1 << 63), 1002),
        ("text that is not UTF-8", frame(0x81, &[b'a', 0xFF]), 1007),
        ("text cut in a character", frame(0x81, &[0xE2, 0x82]), 1007),
        ("surrogate in a text", frame(0x81, &[0xED, 0xA0, 0x80]), 1007),
        (
            "bad text in a later fragment",
            [frame(0x01, "\u{e4}".as_bytes()), frame(0x00, &[0xFE])].concat(),
            1007,
        ),
        ("character that does not go on", [frame(0x01, &[0xE2]), frame(0x80, b"a")].concat(), 1007),
        ("text that ends in a character", [frame(0x01, &[0xE2]), frame(0x80, &[0x82])].concat(), 1007),
        ("reason that is not UTF-8", close(1000, &[0xFF]), 1007),
        ("too large to discard", huge(64 * 1000 + 1), 1009),
        ("exabytes", huge(1 << 62), 1009),
    ];
    for (what, bytes, code) in cases {
        for piece in [1, bytes.len()] {
            let (items, violation) = decode(Role::Client, &bytes, piece);
            assert_eq!(violation.map(|violation| violation.code), Some(code), "{what}: {items:?}");
            assert_eq!(items, [], "{what}");
        }
    }
    let (_, violation) = decode(Role::Server, &frame(0x81, b"x"), 1);
    assert_eq!(violation.unwrap().code, 1002);
}

#[test]
fn fragments_without_end_are_too_large_at_some_point() {
    let bytes = [frame(0x02, &[0; 500]), frame(0x00, &[0; 500]).repeat(200)].concat();
    let (items, violation) = decode(Role::Client, &bytes, 1 << 16);
    assert_eq!((items, violation.unwrap().code), (Vec::new(), 1009));
}

#[test]
fn a_close_code_is_reported_as_it_came() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535] {
        let (items, violation) = decode(Role::Client, &frame(0x88, &u16::to_be_bytes(code)), 9);
        let close = Item::Close { code: Some(code), reason: String::new() };
        assert_eq!((items, violation), (vec![close], None));
    }
}

proptest! {
    #[test]
    fn noise_ends_in_items_or_a_violation_and_takes_little_memory(
        bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        server in any::<bool>(),
    ) {
        let role = if server { Role::Server } else { Role::Client };
        let mut decoder = Decoder::new(role, LIMIT, &[]);
        for piece in bytes.chunks(100) {
            decoder.add(piece);
            while let Ok(Some(item)) = decoder.next() {
                if let Item::Message(frame) = item {
                    prop_assert!(frame.bytes().len() <= LIMIT);
                }
            }
            prop_assert!(decoder.buffer.capacity() <= 2 * 4096);
        }
    }
}
