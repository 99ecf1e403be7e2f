use std::io::Write as _;

use flate2::{Compress, Compression, FlushCompress};
use pontoon_sdk::Kind;
use serde_json::{Value, json};

use super::transcode::json as json_of;
use super::*;

/// A text as gzip, or as zlib.
pub(super) fn compressed(text: &[u8], as_gzip: bool) -> Vec<u8> {
    if as_gzip {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
        writer.write_all(text).unwrap();
        return writer.finish().unwrap();
    }
    let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    writer.write_all(text).unwrap();
    writer.finish().unwrap()
}

/// The next part of a stream, flushed.
pub(super) fn flushed(state: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1024);
    state.compress_vec(text, &mut bytes, FlushCompress::Sync).unwrap();
    assert!(bytes.ends_with(&[0, 0, 0xFF, 0xFF]));
    bytes
}

fn reader(codec: Codec, inflate: impl Into<Option<Inflate>>) -> FrameReader {
    FrameReader::new(Encoding { codec, inflate: inflate.into() })
}

fn binary(bytes: impl Into<Vec<u8>>) -> Frame {
    Frame::Binary(bytes.into().into())
}

fn new_outbox() -> Outbox<Frame> {
    Outbox::new(std::time::Instant::now())
}

#[test]
fn values_keep_what_they_hold() {
    for (codec, bytes, wanted) in [
        // fixmap { "a": [nil, true, -1, 2^64 - 1, 1.5, "é"] }
        (
            Codec::Msgpack,
            &b"\x81\xa1a\x96\xc0\xc3\xff\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xcb\x3f\xf8\0\0\0\0\0\0\xa2\xc3\xa9"[..],
            r#"{"a":[null,true,-1,18446744073709551615,1.5,"é"]}"#,
        ),
        (Codec::Msgpack, b"\x82\x05\xc4\x02\x01\xff\xc2\x90", r#"{"5":{"base64":"Af8="},"false":[]}"#),
        (Codec::Msgpack, b"\xd6\xff\0\0\0\x01", r#"{"extension":-1,"base64":"AAAAAQ=="}"#),
        (Codec::Msgpack, b"\x92\xca\x7f\xc0\0\0\xcb\x7f\xf0\0\0\0\0\0\0", "[null,null]"),
        (Codec::Msgpack, b"\x80\x01\x90", "{}\n1\n[]"),
        // A text that is not UTF-8 is data.
        (Codec::Msgpack, b"\xa1\xff", r#"{"base64":"/w=="}"#),
        // {"a": [null, undefined, -2^64, 1.5 (half), h'01ff']}, of lengths that are not known before
        (
            Codec::Cbor,
            b"\xbf\x61a\x9f\xf6\xf7\x3b\xff\xff\xff\xff\xff\xff\xff\xff\xf9\x3e\0\x42\x01\xff\xff\xff",
            r#"{"a":[null,null,-18446744073709551616,1.5,{"base64":"Af8="}]}"#,
        ),
        // RFC 8949 appendix A: a tagged time, a bignum, a tagged text within a tagged array
        (Codec::Cbor, b"\xc1\x1a\x51\x4b\x67\xb0", "1363896240"),
        (Codec::Cbor, b"\xc2\x49\x01\0\0\0\0\0\0\0\0", "18446744073709551616"),
        (Codec::Cbor, b"\xd9\xd9\xf7\x81\xd8\x20\x61a", r#"["a"]"#),
        (Codec::Cbor, b"\xa1\x20\xf5", r#"{"-1":true}"#),
    ] {
        assert_eq!(json_of(codec, bytes).as_deref(), Ok(wanted), "{codec:?} {bytes:02x?}");
    }
}

#[test]
fn what_is_encoded_is_read_back() {
    let value = json!({ "a": [1, -1, 1.5, null, true, "text", u64::MAX, i64::MIN], "b": {} });
    for codec in [Codec::Msgpack, Codec::Cbor] {
        let encoding = Encoding { codec, inflate: None };
        let frame = encoding.encoded(Frame::text(value.to_string()));
        assert!(matches!(frame, Frame::Binary(_)));
        let read = reader(codec, None).read(&frame, &mut new_outbox()).unwrap().unwrap().into_owned();
        assert_eq!(serde_json::from_slice::<Value>(read.bytes()).unwrap(), value);
        assert_eq!(serde_json::from_str::<Value>(&encoding.json(&frame).unwrap()).unwrap(), value);
        for text in ["plain", "5", "[broken"] {
            assert_eq!(encoding.encoded(Frame::text(text)), Frame::text(text));
        }
    }
}

/// Nothing of these panics, takes memory that it does not bring, or ends in a value.
#[test]
fn hostile_frames_are_refused() {
    let deep = |opening: &[u8]| opening.repeat(200_000);
    for (codec, bytes) in [
        (Codec::Msgpack, vec![]),
        (Codec::Msgpack, vec![0xC1]),
        // Lengths of 4 GiB with nothing behind them: array, map, text, data, extension.
        (Codec::Msgpack, b"\xdd\xff\xff\xff\xff".to_vec()),
        (Codec::Msgpack, b"\xdf\xff\xff\xff\xff".to_vec()),
        (Codec::Msgpack, b"\xdb\xff\xff\xff\xff".to_vec()),
        (Codec::Msgpack, b"\xc6\xff\xff\xff\xff".to_vec()),
        (Codec::Msgpack, b"\xc9\xff\xff\xff\xff\x01".to_vec()),
        (Codec::Msgpack, deep(b"\x91")),
        (Codec::Msgpack, deep(b"\x81\xa1a")),
        (Codec::Msgpack, deep(b"\x81\x90")),
        (Codec::Msgpack, b"\x81\x90\x01".to_vec()),
        (Codec::Msgpack, b"\x81\xc0\x01".to_vec()),
        (Codec::Msgpack, b"\x92\x01".to_vec()),
        (Codec::Cbor, vec![]),
        (Codec::Cbor, vec![0xFF]),
        (Codec::Cbor, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        (Codec::Cbor, b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        (Codec::Cbor, b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        (Codec::Cbor, b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        (Codec::Cbor, deep(b"\x81")),
        (Codec::Cbor, deep(b"\xc1")),
        (Codec::Cbor, deep(b"\xa1")),
        (Codec::Cbor, b"\x61\xff".to_vec()),
        (Codec::Cbor, b"\xa1\x80\x01".to_vec()),
        (Codec::Cbor, b"\x1c".to_vec()),
        // What becomes much more as JSON.
        (Codec::Msgpack, [&b"\xdd\0\x40\0\0"[..], &vec![0xC0; 4 << 20]].concat()),
        (Codec::Msgpack, vec![0xC0; 4 << 20]),
        (Codec::Cbor, [&b"\x9a\0\x40\0\0"[..], &vec![0xF6; 4 << 20]].concat()),
        (Codec::Cbor, vec![0xF6; 4 << 20]),
    ] {
        let error = reader(codec, None).read(&binary(&*bytes), &mut new_outbox()).unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol);
        assert!(error.message().contains("cannot be read as"), "{error}");
    }
}

#[test]
fn any_bytes_are_read_or_refused() {
    // A generator of Lehmer's: the same bytes in each run.
    let mut seed = 7_u64;
    let mut byte = move || {
        seed = seed * 48_271 % 2_147_483_647;
        seed.to_le_bytes()[1]
    };
    for length in 0..4_000 {
        let bytes: Vec<u8> = (0..length % 97).map(|_| byte()).collect();
        for codec in [Codec::Json, Codec::Msgpack, Codec::Cbor] {
            for inflate in [None, Some(Inflate::Gzip), Some(Inflate::Zlib), Some(Inflate::ZlibStream)] {
                let _ = reader(codec, inflate).read(&binary(&*bytes), &mut new_outbox());
            }
            if let (Codec::Msgpack | Codec::Cbor, Ok(json)) = (codec, json_of(codec, &bytes)) {
                let values = serde_json::Deserializer::from_str(&json).into_iter::<Value>();
                values.for_each(|value| drop(value.unwrap()));
            }
        }
    }
}

#[test]
fn frames_are_inflated_and_then_decoded() {
    let map = b"\x81\xa1a\x01";
    for (inflate, as_gzip) in [(Inflate::Gzip, true), (Inflate::Zlib, false)] {
        let read = |codec, bytes: &[u8]| {
            let frame = binary(compressed(bytes, as_gzip));
            let read = reader(codec, inflate).read(&frame, &mut new_outbox());
            read.map(|frame| frame.unwrap().into_owned())
        };
        assert_eq!(read(Codec::Msgpack, map).unwrap(), Frame::text("{\"a\":1}"));
        assert_eq!(read(Codec::Json, b"plain text").unwrap(), Frame::text("plain text"));
        assert_eq!(read(Codec::Json, b"\xff").unwrap(), binary(*b"\xff"));
        assert_eq!(read(Codec::Msgpack, b"\xc1").unwrap_err().kind(), Kind::Protocol);
        // A text frame is not compressed.
        let text = Frame::text("{}");
        assert_eq!(*reader(Codec::Msgpack, inflate).read(&text, &mut new_outbox()).unwrap().unwrap(), text);
    }
}

#[test]
fn a_stream_that_breaks_ends_the_connection_and_the_frame_is_published() {
    let mut state = Compress::new(Compression::default(), true);
    let mut reader = reader(Codec::Json, Inflate::ZlibStream);
    let mut out = new_outbox();
    let first = binary(flushed(&mut state, b"{}"));
    assert_eq!(*reader.read(&first, &mut out).unwrap().unwrap(), Frame::text("{}"));
    assert_eq!(out.drain().count(), 0);
    let error = reader.read(&binary(*b"\x06\xff"), &mut out).unwrap_err();
    assert_eq!(error.kind(), Kind::Disconnected);
    let Some(pontoon_sdk::Action::Publish(event)) = out.drain().next() else { panic!("it is published") };
    assert_eq!(event.kind, EventType::FrameUnrecognised);
    assert!(event.fields.reason.unwrap().contains("zlib-stream"));
}
