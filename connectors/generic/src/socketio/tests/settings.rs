//! Settings: the sample, the README's example, what the endpoint is made of, and every way to be wrong.

use pontoon_sdk::{Param, Secret};
use pontoon_transcript::check_sample;
use schemars::schema_for;

use super::*;
use crate::tests::{example, refusal};

#[test]
fn the_sample_and_the_readme_have_every_setting_with_its_default() {
    let (plain, all) = check_sample::<Socketio>().unwrap();
    assert_eq!((&all.namespace, all.engine, all.unmapped), (&plain.namespace, plain.engine, plain.unmapped));
    assert_eq!(all.events.len(), 3);
    let mapping = schema_for!(Mapping);
    for field in mapping.get("properties").unwrap().as_object().unwrap().keys() {
        assert!(Socketio::SAMPLE.contains(field.as_str()), "the sample lacks the mapping's {field}");
        assert!(
            include_str!("../../../socketio/README.md").contains(&format!("`{field}")),
            "the README lacks {field}"
        );
    }
}

/// The README's example makes the event that the README shows.
#[test]
fn the_example_of_the_readme_works() {
    let (mut settings, rest) = example::<Socketio>(include_str!("../../../socketio/README.md"));
    settings["auth"] = json!({});
    let (mut session, mut out) = session(settings);
    let argument = r#"{"room":"lobby","id":7,"rev":1,"from":{"id":"u1"},"text":"hi","at":1700000000123}"#;
    assert!(rest.contains(&format!("42[\"message\",{argument}]")));
    session.decode(&said("message", &[argument]), &mut out).unwrap();
    let told: Vec<_> = out.drain().collect();
    let [Action::Publish(event)] = told.as_slice() else { panic!("{told:?}") };
    let fields = serde_json::to_string(&event.fields).unwrap();
    let shown = rest.lines().find(|line| line.starts_with("{\"channel\"")).unwrap();
    assert_eq!(format!("{},\"raw\":{{…}}}}", fields.strip_suffix('}').unwrap()), shown);
    assert_eq!(event.scope.as_deref(), Some("lobby"));
}

#[test]
fn the_endpoint_is_made_from_the_settings() {
    let connector = socketio(json!({
        "url": "https://h/path/?a=b",
        "namespace": "/admin",
        "auth": {"token": {"env": "T"}, "n": 1, "in": {"file": "/f", "x": 1}},
        "query": {"v": "2", "k": {"env": "K"}},
        "headers": {"Origin": "https://o", "X-Key": {"file": "/k"}},
        "secrets": {"key": "hunter2"},
        "engine": "rust-socketio",
    }));
    let secret = |json: Value| serde_json::from_value::<Secret>(json).unwrap();
    let endpoint = connector.links().remove(0).endpoint;
    assert_eq!((endpoint.url.as_str(), endpoint.namespace.as_str()), ("https://h/path/?a=b", "/admin"));
    assert_eq!(
        endpoint.auth,
        [
            ("in".to_owned(), Param::Plain(json!({"file": "/f", "x": 1}))),
            ("n".to_owned(), Param::Plain(json!(1))),
            ("token".to_owned(), Param::Secret(secret(json!({"env": "T"})))),
        ]
    );
    let param = |name: &str, param: Param| (name.to_owned(), param);
    let query = [param("k", secret(json!({"env": "K"})).into()), param("v", "2".into())];
    assert_eq!(endpoint.query, query);
    let headers = [param("Origin", "https://o".into()), param("X-Key", secret(json!({"file": "/k"})).into())];
    assert_eq!(endpoint.headers, headers);
    assert_eq!(endpoint.secrets, [Secret::plain("hunter2")]);
    assert_eq!(endpoint.engine, Some("rust-socketio"));
    assert!(!format!("{endpoint:?} {:?}", connector.config).contains("hunter2"));
}

#[test]
fn without_settings_there_is_nothing_but_the_url() {
    let connector = socketio(json!({}));
    assert_eq!(connector.links().len(), 1);
    let endpoint = connector.links().remove(0).endpoint;
    assert_eq!((endpoint.namespace.as_str(), endpoint.engine), ("/", None));
    assert!(endpoint.auth.is_empty() && endpoint.query.is_empty() && endpoint.headers.is_empty());
    assert!(endpoint.secrets.is_empty());
    for good in ["/", "/admin", "/a/b-c_d.e", "/müll", "/a=b"] {
        socketio(json!({"namespace": good}));
    }
}

/// Settings that are read and then refused: the place, and words that say what to write.
#[test]
fn wrong_settings_are_refused_with_their_place() {
    let events = |entry: Value| json!({"events": {"a/b.c": entry}});
    let send = |send: Value| json!({"send": send});
    let second = |mut more: Value| {
        more["engine"] = json!("rust-socketio");
        more
    };
    for (settings, pointer, words) in [
        (json!({"url": "ftp://h"}), "/url", "write http://host/path or https://host/path or"),
        (json!({"url": "https://u:p@h/"}), "/url", "use a secret setting instead"),
        (json!({"url": "https://h/?a=1&EIO=3"}), "/url", "the query's EIO is set by pontoon itself"),
        (json!({"namespace": ""}), "/namespace", "write / or a name such as /admin"),
        (json!({"namespace": "admin"}), "/namespace", "write / or a name such as /admin"),
        (json!({"namespace": "/a,b"}), "/namespace", "without commas"),
        (json!({"namespace": "/a b"}), "/namespace", "white space"),
        (json!({"namespace": "/a?b=c"}), "/namespace", "question marks"),
        (json!({"namespace": "/a\n"}), "/namespace", "white space"),
        (
            json!({"query": {"transport": "polling"}}),
            "/query/transport",
            "set by pontoon itself; leave it out",
        ),
        (json!({"query": {"sid": {"env": "X"}}}), "/query/sid", "set by pontoon itself"),
        (json!({"headers": {"X-A": "a\r\nX-B: b"}}), "/headers/X-A", "printable ASCII"),
        (json!({"secrets": {"a-b": "x"}}), "/secrets/a-b", "letters, digits and _"),
        (json!({"secrets": {"": "x"}}), "/secrets/", "letters, digits and _"),
        (json!({"secrets": {"text": "x"}}), "/secrets/text", "but none of channel, text"),
        (
            json!({"emit_on_connect": [{"event": "a"}, {"event": "disconnect"}]}),
            "/emit_on_connect/1/event",
            "reserved by Socket.IO",
        ),
        (
            json!({"emit_on_connect": [{"event": "a", "args": ["${key}"]}]}),
            "/emit_on_connect/0/args/0",
            "${key} stands for nothing; none is known here; list it under `secrets`",
        ),
        (
            json!({"secrets": {"key": "x", "other": "y"}, "emit_on_connect": [{"event": "a", "args": [1, {"b/c": ["${kee}"]}]}]}),
            "/emit_on_connect/0/args/1/b~1c/0",
            "${kee} stands for nothing; known are ${key}, ${other}",
        ),
        (
            json!({"secrets": {"key": "x"}, "emit_on_connect": [{"event": "a", "args": ["Bearer ${kee}"]}]}),
            "/emit_on_connect/0/args/0",
            "to send it as it is, write $${kee}",
        ),
        (
            json!({"emit_on_connect": [{"event": "a", "args": ["${text}"]}]}),
            "/emit_on_connect/0/args/0",
            "stands for nothing",
        ),
        (
            send(json!({"event": "newListener", "args": ["${text}"]})),
            "/send/event",
            "newListener is reserved",
        ),
        (
            json!({"emit_on_connect": [{"event": "a", "args": ["${/0/a}"]}]}),
            "/emit_on_connect/0/args/0",
            "${/0/a} stands for a part of what is answered, and nothing is answered here",
        ),
        (send(json!({"event": "a"})), "/send/args", "no argument is \"${text}\""),
        (
            send(json!({"event": "a", "args": ["${channel}"]})),
            "/send/args",
            "the caller's text would be lost",
        ),
        (send(json!({"event": "a", "args": ["${txt}"]})), "/send/args/0", "known are ${channel}, ${text}"),
        (
            send(json!({"event": "a", "args": [{"m": "<b>${txt}</b>"}]})),
            "/send/args/0/m",
            "known are ${channel}, ${text}",
        ),
        (
            events(json!({"type": "message.created", "status": "/0"})),
            "/events/a~1b.c/status",
            "message.created has no status; it has channel, id, version, time, server, sender, sender_name, text",
        ),
        (
            second(events(json!({"type": "message.seen", "acknowledge": []}))),
            "/events/a~1b.c/acknowledge",
            "set engine = \"native\"",
        ),
        (
            second(send(json!({"event": "a", "args": ["${text}"], "acknowledged": true}))),
            "/send/acknowledged",
            "set engine = \"native\"",
        ),
    ] {
        let error = refusal::<Socketio>(&with_url(settings.clone(), URL));
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some(pointer)), "{settings}: {error}");
        assert!(error.message().contains(words), "{settings}: {error}");
    }
}

/// Settings that cannot be read.
#[test]
fn settings_of_a_wrong_form_are_refused() {
    let events = |entry: Value| json!({"url": "https://h", "events": {"a": entry}});
    for (settings, words) in [
        (json!({}), "missing field `url`"),
        (json!({"url": "https://h", "urll": "x"}), "unknown field `urll`"),
        (json!({"url": "https://h", "engine": "native2"}), "expected `native` or `rust-socketio`"),
        (json!({"url": "https://h", "unmapped": "ignore"}), "expected `publish` or `drop`"),
        (json!({"url": "https://h", "auth": "token"}), "expected a map"),
        (
            json!({"url": "https://h", "query": {"a": 1}}),
            "write \"text\", { env = \"NAME\" } or { file = \"/path\" }",
        ),
        (
            json!({"url": "https://h", "headers": {"a": {"env": "X", "file": "/x"}}}),
            "neither a text nor a secret",
        ),
        (json!({"url": "https://h", "secrets": {"a": {"var": "X"}}}), "expected `env` or `file`"),
        (json!({"url": "https://h", "emit_on_connect": [{"args": []}]}), "missing field `event`"),
        (
            json!({"url": "https://h", "emit_on_connect": [{"event": "a", "args": "b"}]}),
            "expected a sequence",
        ),
        (json!({"url": "https://h", "emit_on_connect": [{"event": "a", "arg": []}]}), "unknown field `arg`"),
        (json!({"url": "https://h", "send": {"args": ["${text}"]}}), "missing field `event`"),
        (json!({"url": "https://h", "send": {"event": "a", "ack": true}}), "unknown field `ack`"),
        (events(json!({})), "missing field `type`"),
        (events(json!({"type": "message.made"})), "the types are message.created, message.updated"),
        (
            events(json!({"type": "gap.detected"})),
            "\"gap.detected\" is not a type that events can be mapped to",
        ),
        (events(json!({"type": "frame.unrecognised"})), "is not a type that events can be mapped to"),
        (events(json!({"type": "message.created", "txt": "/0"})), "unknown field `txt`"),
        (events(json!({"type": "message.created", "text": "text"})), "write \"/0\" for the first argument"),
        (events(json!({"type": "message.created", "text": "/text"})), "\"/text\" is not a JSON pointer"),
        (events(json!({"type": "message.created", "text": "/0/~2"})), "is not a JSON pointer"),
        (events(json!({"type": "message.created", "text": 0})), "expected a string"),
        (events(json!({"type": "message.created", "text": "/0".repeat(33)})), "at most 32 are followed"),
        (events(json!({"type": "message.created", "acknowledge": true})), "expected a sequence"),
        (events(json!({"acknowledge": []})), "missing field `type`"),
        (events(json!("message.created")), "expected a table such as { type = "),
    ] {
        let error = serde_json::from_value::<Config>(settings.clone()).err();
        let error = error.unwrap_or_else(|| panic!("{settings} is taken")).to_string();
        assert!(error.contains(words), "{settings}: {error}");
        assert!(!error.contains("gap.detected,") && !error.ends_with("frame.unrecognised"), "{error}");
    }
}

#[test]
fn the_schema_finds_secrets_and_lists_the_types() {
    let schema = schema_for!(Config).to_value();
    let secret = schema_for!(Secret).to_value()["oneOf"].clone();
    assert_eq!(schema["$defs"]["Secret"]["oneOf"], secret);
    // The daemon takes the first form that fits: a text is no secret, a table of a secret's shape is one.
    for (name, place) in [("JsonOrSecret", 1), ("TextOrSecret", 1)] {
        let forms = &schema["$defs"][name]["anyOf"];
        assert_eq!(forms[place]["$ref"], "#/$defs/Secret", "{forms}");
    }
    assert_eq!(schema["$defs"]["Mapping"]["additionalProperties"], false);
    assert!(schema["$defs"]["Mapping"]["properties"]["acknowledge"]["description"].is_string());
    let words = schema["$defs"]["MappedType"]["anyOf"][0]["enum"].as_array().unwrap();
    assert_eq!(words.len(), EventType::ALL.len() - 2);
}
