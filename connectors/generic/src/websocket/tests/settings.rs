//! Settings: the sample, the README's example, what the endpoint is made of, and every way to be wrong.

use pontoon_sdk::{EventType, Param, Secret};
use pontoon_transcript::check_sample;
use schemars::schema_for;

use super::*;
use crate::tests::{example, refusal};

#[test]
fn the_sample_and_the_readme_have_every_setting_with_its_default() {
    let (plain, all) = check_sample::<Websocket>().unwrap();
    assert_eq!((all.unmapped, all.require_subprotocol), (plain.unmapped, plain.require_subprotocol));
    assert_eq!(all.events.len(), 4);
    let least: Call = serde_json::from_value(json!({"id": "/id"})).unwrap();
    let call = all.call.unwrap();
    assert_eq!((call.form, call.answer(), call.timeout), (least.form, least.answer(), least.timeout));
    let schema = schema_for!(Config).to_value();
    let readme = include_str!("../../../websocket/README.md");
    for table in [
        "Mapping",
        "Heartbeat",
        "Answer",
        "Reaction",
        "RememberTable",
        "RememberedTime",
        "Call",
        "SendTemplate",
        "Ask",
        "Conditions",
        "HasField",
    ] {
        for (field, described) in schema["$defs"][table]["properties"].as_object().unwrap() {
            assert!(Websocket::SAMPLE.contains(field.as_str()), "the sample lacks {field} of {table}");
            assert!(readme.contains(field.as_str()), "the README lacks {field} of {table}");
            assert!(described.get("description").is_some(), "{field} of {table} has no description");
        }
    }
}

/// The README's example makes the event and the call that the README shows.
#[test]
fn the_example_of_the_readme_works() {
    let (mut settings, rest) = example::<Websocket>(include_str!("../../../websocket/README.md"));
    settings["secrets"]["token"] = json!("hunter2");
    let connector = Websocket::new(serde_json::from_value(settings).unwrap()).unwrap();
    let mut session = connector.session(&LinkKey::main());
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    assert_eq!(sent(&mut out), [r#"{"token":"hunter2","type":"hello"}"#]);
    session.decode(&Frame::text(r#"{"type":"welcome"}"#), &mut out).unwrap();
    assert!(matches!(done(&mut out).as_slice(), [Action::Ready]));
    let frame = r#"{"type":"message","room":"lobby","id":7,"rev":1,"from":{"id":"u1"},"text":"hi","at":1700000000123}"#;
    assert!(rest.contains(&format!("`{frame}`")));
    session.decode(&Frame::text(frame), &mut out).unwrap();
    let told = done(&mut out);
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    let fields = serde_json::to_string(&event.fields).unwrap();
    let shown = rest.lines().find(|line| line.starts_with("{\"channel\"")).unwrap();
    assert_eq!(format!("{},\"raw\":{{…}}}}", fields.strip_suffix('}').unwrap()), shown);
    assert_eq!(event.scope.as_deref(), Some("lobby"));
    encode(&mut session, command(1, "call", r#"{"type":"history","room":"lobby"}"#), &mut out).unwrap();
    let call = sent(&mut out).remove(0);
    assert!(rest.contains(&format!("`{call}`")), "{call}");
    encode(&mut session, command(2, "message.send", r#"{"channel":"lobby","text":"hello"}"#), &mut out)
        .unwrap();
    assert_eq!(sent(&mut out), [r#"{"room":"lobby","text":"hello","type":"say"}"#]);
}

#[test]
fn the_endpoint_is_made_from_the_settings() {
    let connector = websocket(json!({
        "url": "wss://h/path?a=b",
        "query": {"v": "2", "k": {"env": "K"}},
        "headers": {"Origin": "https://o", "X-Key": {"file": "/k"}, "Z-Auth": "Bearer ${key} $${key}"},
        "subprotocols": ["b.v1", "a", {"env": "S"}, "h"],
        "require_subprotocol": true,
        "secrets": {"key": "hunter2"},
        "send_on_connect": ["${key}"],
    }));
    let secret = |json: Value| Param::from(serde_json::from_value::<Secret>(json).unwrap());
    let endpoint = connector.links().remove(0).endpoint;
    assert_eq!(endpoint.url, "wss://h/path?a=b");
    let param = |name: &str, param: Param| (name.to_owned(), param);
    assert_eq!(endpoint.query, [param("k", secret(json!({"env": "K"}))), param("v", "2".into())]);
    let headers = [param("Origin", "https://o".into()), param("X-Key", secret(json!({"file": "/k"})))];
    assert_eq!(endpoint.headers[..2], headers);
    assert_eq!(endpoint.headers[2].1.reveal().unwrap(), "Bearer hunter2 ${key}");
    assert_eq!(endpoint.subprotocols, ["b.v1".into(), "a".into(), secret(json!({"env": "S"})), "h".into()]);
    assert!(endpoint.require_subprotocol);
    assert_eq!(endpoint.secrets, [Secret::plain("hunter2")]);
    assert!(!format!("{endpoint:?} {:?}", connector.config).contains("hunter2"));
}

#[test]
fn without_settings_there_is_nothing_but_the_url() {
    let connector = websocket(json!({}));
    assert_eq!(connector.links().len(), 1);
    let endpoint = connector.links().remove(0).endpoint;
    assert!(endpoint.query.is_empty() && endpoint.headers.is_empty() && endpoint.subprotocols.is_empty());
    assert!(endpoint.secrets.is_empty() && !endpoint.require_subprotocol);
    assert_eq!(connector.timeout("call"), None);
    let connector = websocket(json!({"call": {"id": "/id", "timeout": "3s"}}));
    assert_eq!(connector.timeout("call"), Some(Duration::from_secs(3)));
    assert_eq!(connector.timeout("message.send"), Some(Duration::from_secs(3)));
    assert_eq!(connector.timeout("send"), None);
}

/// Settings that are read and then refused: the place, and words that say what to write.
#[test]
fn wrong_settings_are_refused_with_their_place() {
    let events = |entry: Value| json!({"kind": "/t", "events": {"a/b.c": entry}});
    let call = |mut more: Value| {
        more.as_object_mut().unwrap().entry("call").or_insert(json!({"id": "/id"}));
        more
    };
    for (settings, pointer, words) in [
        (json!({"url": "https://h"}), "/url", "write ws://host/path or wss://host/path"),
        (json!({"url": "wss://u:p@h/"}), "/url", "use a secret setting instead"),
        (
            json!({"headers": {"sec-websocket-protocol": "x"}}),
            "/headers/sec-websocket-protocol",
            "write subprotocols = [\"…\"]",
        ),
        (json!({"headers": {"X-A": "a\r\nX-B: b"}}), "/headers/X-A", "printable ASCII"),
        (json!({"subprotocols": ["a", "b c"]}), "/subprotocols/1", "such as v1.json"),
        (json!({"subprotocols": [""]}), "/subprotocols/0", "this is not a subprotocol"),
        (json!({"subprotocols": ["a", "b", "a"]}), "/subprotocols/2", "offered already"),
        (json!({"require_subprotocol": true}), "/require_subprotocol", "set subprotocols, or leave this out"),
        (json!({"secrets": {"a-b": "x"}}), "/secrets/a-b", "letters, digits and _"),
        (json!({"secrets": {"": "x"}}), "/secrets/", "letters, digits and _"),
        (json!({"secrets": {"text": "x"}}), "/secrets/text", "but none of channel, text, id"),
        (json!({"secrets": {"id": "x"}}), "/secrets/id", "but none of channel, text, id"),
        (
            json!({"send_on_connect": ["a", {"x": "${key}"}]}),
            "/send_on_connect/1/x",
            "${key} stands for nothing; none is known here; list it under `secrets`",
        ),
        (
            json!({"secrets": {"key": "x", "other": "y"}, "send_on_connect": [[1, {"b/c": "${kee}"}]]}),
            "/send_on_connect/0/1/b~1c",
            "${kee} stands for nothing; known are ${key}, ${other}",
        ),
        (
            json!({"secrets": {"key": "x"}, "send_on_connect": ["Bearer ${kee}"]}),
            "/send_on_connect/0",
            "to send it as it is, write $${kee}",
        ),
        (json!({"send_on_connect": ["${text}"]}), "/send_on_connect/0", "stands for nothing"),
        (json!({"send_on_connect": [{"id": "${id}"}]}), "/send_on_connect/0/id", "stands for nothing"),
        (
            json!({"send_on_connect": ["${/a}"]}),
            "/send_on_connect/0",
            "only on and heartbeat.answer answer one",
        ),
        (
            call(json!({"send_on_connect": [{"id": 5}]})),
            "/send_on_connect/0",
            "could be taken for that of a call; write \"${id}\" at /id, or set call.form = \"text\"",
        ),
        (call(json!({"send_on_connect": ["{\"id\":\"5\"}"]})), "/send_on_connect/0", "that of a call"),
        (json!({"ready_when": {}}), "/ready_when", "this means every frame"),
        (json!({"ready_when": "welcome"}), "/ready_when", "set kind, such as kind = \"/type\""),
        (json!({"ready_when": {"text": "a", "where": {"/a": 1}}}), "/ready_when", "write text alone"),
        (
            json!({"kind": "/t", "refused_when": {"text": "a", "kind": "b"}}),
            "/refused_when",
            "write text alone",
        ),
        (json!({"heartbeat": {"every": "1s"}}), "/heartbeat/every", "set heartbeat.send"),
        (
            json!({"heartbeat": {"every": {"from": "x", "unit": "ms"}, "send": "y"}}),
            "/heartbeat/every/from",
            "nothing is remembered as x",
        ),
        (
            json!({"kind": "/t", "on": [{"when": "a", "if_remembered": ["b"], "send": "c"}]}),
            "/on/0/if_remembered/0",
            "nothing is remembered as b",
        ),
        (json!({"on": [{"when": {"code": 1}, "send": "c"}]}), "/on/0/when", "write what a frame has"),
        (json!({"on": [{"when": {"text": "a"}, "send": ["${b}"]}]}), "/on/0/send/0", "stands for nothing"),
        (json!({"refused_when": [{"code": 1, "text": "a"}]}), "/refused_when/0", "write code alone"),
        (
            json!({"secrets": {"a": "x"}, "remember": {"a": "/a"}}),
            "/remember/a",
            "not a name for a remembered value",
        ),
        (json!({"remember": {"a": {"from": "/a", "when": "b"}}}), "/remember/a/when", "set kind"),
        (
            json!({"remember": {"a": {"from": "/a", "forget_when": {}}}}),
            "/remember/a/forget_when",
            "every frame",
        ),
        (json!({"headers": {"X-A": "Bearer ${b}"}}), "/headers/X-A", "list it under `secrets`"),
        (json!({"query": {"a": "${/b}"}}), "/query/a", "there is none yet"),
        (
            json!({"kind": [{"has": "/error", "is": "error"}, {"has": "/ok", "is": "ok"}], "events": {"errr": {"type": "error.raised"}}}),
            "/events/errr",
            "kind has only error, ok",
        ),
        (json!({"query": {"a": "${b}"}, "remember": {"c": "/c"}}), "/query/a", "known are ${c}"),
        (json!({"url": "wss://h/${b}"}), "/url", "${b} stands for nothing"),
        (json!({"url": "wss://${b}/", "remember": {"b": "/b"}}), "/url", "cannot stand for the host"),
        (json!({"send_on_connect": ["x", {"base64": "AA"}]}), "/send_on_connect/1/base64", "as a text"),
        (
            json!({"heartbeat": {"every": "1s", "send": {"base64": "${b}"}}, "remember": {"b": "/b"}}),
            "/heartbeat/send/base64",
            "not base64",
        ),
        (
            json!({"call": {"id": "/id", "constants": {"a": "${b}"}}}),
            "/call/constants/a",
            "stands for nothing",
        ),
        (json!({"heartbeat": {"send": "x"}}), "/heartbeat/send", "set heartbeat.every, such as \"20s\""),
        (json!({"heartbeat": {"every": "99ms", "send": "x"}}), "/heartbeat/every", "write \"100ms\" or more"),
        (json!({"heartbeat": {"every": "1s", "send": "${x}"}}), "/heartbeat/send", "stands for nothing"),
        (call(json!({"heartbeat": {"every": "1s", "send": {"id": 1}}})), "/heartbeat/send", "that of a call"),
        (json!({"heartbeat": {"ignore": ["pong"]}}), "/heartbeat/ignore/0", "set kind"),
        (
            json!({"kind": "/t", "heartbeat": {"answer": [{"when": {}, "send": "x"}]}}),
            "/heartbeat/answer/0/when",
            "this means every frame",
        ),
        (
            json!({"kind": "/t", "heartbeat": {"answer": [{"when": "ping", "send": {"a": "${/x~}"}}]}}),
            "/heartbeat/answer/0/send/a",
            "is not a JSON pointer",
        ),
        (
            json!({"events": {"a": {"type": "message.created"}}}),
            "/events",
            "set kind, such as kind = \"/type\"",
        ),
        (
            json!({"kind": [], "events": {"a": {"type": "message.created"}}}),
            "/events",
            "nothing says where the kind of a frame stands",
        ),
        (
            events(json!({"type": "message.created", "status": "/0"})),
            "/events/a~1b.c/status",
            "message.created has no status; it has channel, id, version, time, server, sender, sender_name, text",
        ),
        (
            events(json!({"type": "message.created", "acknowledge": []})),
            "/events/a~1b.c/acknowledge",
            "the service asks for no acknowledgement of frames",
        ),
        (
            json!({"text": {"type": "message.created", "text": "/a"}}),
            "/text/text",
            "write text = \"\", or leave it out",
        ),
        (json!({"codec": "msgpack", "split": "lines"}), "/split", "write \"array\" or \"concatenated\""),
        (json!({"codec": "cbor", "split": "\u{1e}"}), "/split", "has no lines and no characters"),
        (json!({"codec": "cbor", "binary": {"type": "log.entry"}}), "/binary", "codec = \"json\""),
        (json!({"text": {"type": "log.entry", "title": ""}}), "/text/title", "log.entry has no title"),
        (
            json!({"binary": {"type": "socket.message", "text": ""}}),
            "/binary/text",
            "write text = \"/base64\", or leave it out",
        ),
        (json!({"call": {"id": ""}}), "/call/id", "point to a field, such as \"/id\""),
        (json!({"call": {"id": "/id", "answer": ""}}), "/call/answer", "point to a field"),
        (json!({"call": {"id": "/id", "when": "a"}}), "/call/when", "set kind"),
        (json!({"call": {"id": "/id", "failed_when": {}}}), "/call/failed_when", "this means every frame"),
        (json!({"call": {"id": "/id", "timeout": "0s"}}), "/call/timeout", "write a time such as \"10s\""),
        (json!({"send": {"frame": {"a": "b"}}}), "/send/frame", "no string is \"${text}\""),
        (json!({"send": {"frame": "${channel}"}}), "/send/frame", "the caller's text would be lost"),
        (json!({"send": {"frame": "${txt}"}}), "/send/frame", "known are ${channel}, ${text}"),
        (
            json!({"send": {"frame": {"m": "<b>${txt}</b>"}}}),
            "/send/frame/m",
            "known are ${channel}, ${text}",
        ),
        (
            json!({"send": {"frame": {"m": "${text}"}, "acknowledged": true}}),
            "/send/acknowledged",
            "set call, or leave this out",
        ),
        (
            call(json!({"send": {"frame": "${text}", "acknowledged": true}})),
            "/send/frame",
            "write a JSON frame",
        ),
        (
            call(json!({"send": {"frame": {"m": "${text}", "id": "x"}, "acknowledged": true}})),
            "/send/frame",
            "put in at /id, where stands something already; leave that place free",
        ),
        (
            call(json!({"send": {"frame": {"m": "${text}", "id": "${id}"}, "acknowledged": true}})),
            "/send/frame/id",
            "${id} stands for nothing",
        ),
        (
            call(json!({"send": {"frame": ["${text}"], "acknowledged": true}})),
            "/send/frame",
            "the list is too short; write null in its place",
        ),
        (
            call(json!({"send": {"frame": {"m": "${text}", "id": 7}}})),
            "/send/frame",
            "this number could be taken for that of a call",
        ),
        (
            call(json!({"send": {"frame": {"m": "${text}", "id": "${channel}"}}})),
            "/send/frame",
            "what a caller writes here could be taken for the number of a call",
        ),
    ] {
        let error = refusal::<Websocket>(&with_url(settings.clone(), URL));
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some(pointer)), "{settings}: {error}");
        assert!(error.message().contains(words), "{settings}: {error}");
    }
}

/// Settings that look like those above, and are good.
#[test]
fn good_settings_are_taken() {
    let text = json!({"id": "/id", "form": "text"});
    for settings in [
        json!({"call": {"id": "/id"}, "send_on_connect": [{"id": "mine"}, {"id": "${id}"}, {"x": 5}, "5"]}),
        json!({"call": text, "send_on_connect": [{"id": 5}]}),
        json!({"call": text, "send": {"frame": {"m": "${text}", "id": "${channel}"}}}),
        json!({"call": {"id": "/1"}, "send": {"frame": ["${text}", null], "acknowledged": true}}),
        json!({"call": {"id": "/a/id"}, "send": {"frame": {"m": "${text}"}, "acknowledged": true}}),
        json!({"kind": {"has": "/a", "is": "a"}, "ready_when": {"kind": "a"}}),
        json!({"kind": "", "events": {"a": {"type": "message.created"}}}),
        json!({"call": {"id": "/id"}, "heartbeat": {"answer": [{"when": {"where": {"/a": 1}}, "send": {"id": "${/id}"}}]}}),
        json!({"subprotocols": [{"env": "A"}, {"env": "A"}]}),
    ] {
        websocket(settings);
    }
}

/// Settings that cannot be read.
#[test]
fn settings_of_a_wrong_form_are_refused() {
    let with = |more: Value| with_url(more, URL);
    let events = |entry: Value| json!({"url": URL, "kind": "/t", "events": {"a": entry}});
    for (settings, words) in [
        (json!({}), "missing field `url`"),
        (with(json!({"urll": "x"})), "unknown field `urll`"),
        (with(json!({"unmapped": "ignore"})), "expected `publish` or `drop`"),
        (with(json!({"query": {"a": 1}})), "write \"text\", { env = \"NAME\" } or { file = \"/path\" }"),
        (with(json!({"headers": {"a": {"env": "X", "file": "/x"}}})), "neither a text nor a secret"),
        (with(json!({"subprotocols": "a"})), "expected a sequence"),
        (with(json!({"secrets": {"a": {"var": "X"}}})), "expected `env` or `file`"),
        (with(json!({"send_on_connect": "hello"})), "expected a sequence"),
        (with(json!({"kind": "type"})), "\"type\" is not a JSON pointer; write \"/type\""),
        (
            with(json!({"kind": 1})),
            "expected a JSON pointer such as \"/type\", or { has = \"/error\", is = \"error\" }",
        ),
        (with(json!({"kind": [1]})), "expected a JSON pointer such as \"/type\", or { has"),
        (with(json!({"kind": [{"has": "/a"}]})), "missing field `is`"),
        (with(json!({"kind": {"has": "/a", "is": "b", "not": "c"}})), "unknown field `not`"),
        (with(json!({"ready_when": 5})), "expected a kind, or a table with kind, text, code and where"),
        (
            with(json!({"ready_when": {"type": "x"}})),
            "unknown field `type`, expected one of `kind`, `text`, `code`, `where`",
        ),
        (with(json!({"ready_when": {"where": {"ok": true}}})), "\"ok\" is not a JSON pointer"),
        (with(json!({"heartbeat": {"every": 20}})), "expected a"),
        (with(json!({"heartbeat": {"every": "20"}})), "\"20\" is not a duration"),
        (with(json!({"heartbeat": {"reply": []}})), "unknown field `reply`"),
        (with(json!({"heartbeat": {"answer": [{"when": "x"}]}})), "missing field `send`"),
        (with(json!({"heartbeat": {"answer": [{"send": "x"}]}})), "missing field `when`"),
        (with(json!({"call": {}})), "missing field `id`"),
        (with(json!({"call": {"id": "id"}})), "\"id\" is not a JSON pointer"),
        (with(json!({"call": {"id": "/id", "form": "string"}})), "expected `number` or `text`"),
        (with(json!({"call": {"id": "/id", "errors": "/e"}})), "unknown field `errors`"),
        (with(json!({"send": {"acknowledged": true}})), "missing field `frame`"),
        (with(json!({"send": {"frame": "x", "event": "y"}})), "unknown field `event`"),
        (events(json!({})), "missing field `type`"),
        (events(json!({"type": "message.made"})), "the types are message.created, message.updated"),
        (
            events(json!({"type": "gap.detected"})),
            "\"gap.detected\" is not a type that frames can be mapped to",
        ),
        (events(json!({"type": "frame.unrecognised"})), "is not a type that frames can be mapped to"),
        (events(json!({"type": "message.created", "txt": "/0"})), "unknown field `txt`"),
        (events(json!({"type": "message.created", "text": "text"})), "\"/data/0/text\""),
        (events(json!({"type": "message.created", "text": "/~2"})), "is not a JSON pointer"),
        (
            events(json!({"type": "message.created", "time_unit": "h"})),
            "expected one of `s`, `ms`, `us`, `ns`",
        ),
    ] {
        let error = serde_json::from_value::<Config>(settings.clone()).err();
        let error = error.unwrap_or_else(|| panic!("{settings} is taken")).to_string();
        assert!(error.contains(words), "{settings}: {error}");
    }
}

#[test]
fn the_schema_finds_secrets_and_lists_the_types() {
    let schema = schema_for!(Config).to_value();
    let secret = schema_for!(Secret).to_value()["oneOf"].clone();
    assert_eq!(schema["$defs"]["Secret"]["oneOf"], secret);
    // The daemon takes the first form that fits: a text is no secret, a table of a secret's shape is one.
    let forms = &schema["$defs"]["TextOrSecret"]["anyOf"];
    assert_eq!(forms[1]["$ref"], "#/$defs/Secret", "{forms}");
    let words = schema["$defs"]["MappedType"]["anyOf"][0]["enum"].as_array().unwrap();
    assert_eq!(words.len(), EventType::ALL.len() - 2);
}
