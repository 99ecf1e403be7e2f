//! The connector from outside: transcripts, the sample, good and bad settings, routes, and who may connect.

use std::time::{Duration, Instant};

use pontoon_sdk::{CommandId, Kind, Request as _};
use pontoon_transcript::{check_sample, play_folder, uncommented};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

#[test]
fn every_transcript_plays() {
    let count = play_folder::<StreamAvatars>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 29, "only {count} transcripts");
}

#[test]
fn the_sample_lists_every_setting_with_its_default() {
    let (plain, all) = check_sample::<StreamAvatars>().unwrap();
    let defaults = |config: &Config| {
        let listen = config.listen.as_ref().unwrap();
        let dynamic = &config.dynamic;
        (
            (
                listen.address,
                listen.path.clone(),
                listen.max,
                listen.silence,
                listen.max_frame,
                listen.rate_limit,
            ),
            (dynamic.enabled, dynamic.max),
        )
    };
    assert_eq!(defaults(&plain), defaults(&all));
    let avatars = StreamAvatars::new(plain).unwrap();
    let listener = avatars.listener().unwrap();
    assert_eq!(
        (listener.listen.to_string().as_str(), listener.path.as_str()),
        ("127.0.0.1:9465", "/streamavatars")
    );
    assert_eq!(avatars.links().len(), 1);
    let sample = uncommented(StreamAvatars::SAMPLE);
    let definitions = serde_json::to_value(schemars::schema_for!(Config)).unwrap()["$defs"].take();
    for table in ["Listen", "Socket", "Dynamic"] {
        for (setting, described) in definitions[table]["properties"].as_object().unwrap() {
            assert!(sample.contains(&format!("\n{setting} = ")), "the sample lacks {setting} of {table}");
            assert!(described.get("description").is_some(), "{setting} has no description");
        }
    }
}

fn avatars(config: Value) -> StreamAvatars {
    StreamAvatars::new(serde_json::from_value(config).unwrap()).unwrap()
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    for (config, pointer) in [
        (json!({}), None),
        (json!({"dynamic": {"hosts": ["h"]}}), None),
        (json!({"dynamic": {"enabled": true}}), Some("/dynamic/hosts")),
        (json!({"dynamic": {"enabled": true, "hosts": ["h"], "max": 0}}), Some("/dynamic/max")),
        (json!({"sockets": {"a/b": {"url": "http://h"}}}), Some("/sockets/a~1b/url")),
        (json!({"sockets": {"script/x": {"url": "ws://h"}}}), Some("/sockets/script~1x")),
        (json!({"sockets": {"": {"url": "ws://h"}}}), Some("/sockets/")),
        (json!({"listen": {"token": "t", "path": "no"}}), Some("/listen/path")),
        (json!({"listen": {"token": "t", "path": "/a?b"}}), Some("/listen/path")),
        (json!({"listen": {"token": "t", "max": 0}}), Some("/listen/max")),
        (json!({"listen": {"token": "t", "silence": "0s"}}), Some("/listen/silence")),
        (json!({"listen": {"token": "t", "max_frame": "0B"}}), Some("/listen/max_frame")),
        (
            json!({"listen": {"token": "t", "rate_limit": {"requests": 0, "per": "1s"}}}),
            Some("/listen/rate_limit/requests"),
        ),
    ] {
        let error = StreamAvatars::new(serde_json::from_value(config).unwrap()).err().unwrap();
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, pointer), "{error}");
    }
}

fn command(operation: &'static str, body: &str) -> Command {
    Command {
        id: CommandId(1),
        operation,
        argument: None,
        body: RawValue::from_string(body.to_owned()).unwrap(),
        headers: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(3600),
        stream: false,
    }
}

#[test]
fn an_address_without_a_port_is_refused_with_an_example() {
    let wrong = json!({"listen": {"token": "t", "address": "127.0.0.1"}});
    let error = serde_json::from_value::<Config>(wrong).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:9465"), "{error}");
}

/// Where a command goes, as text.
fn route(avatars: &StreamAvatars, operation: &'static str, body: &str) -> String {
    let command = command(operation, body);
    match Request::parse(&command).and_then(|request| avatars.route(&command, &request)) {
        Ok(Route::To(key)) => format!("to {key}"),
        Ok(Route::Create { spec, most }) => {
            let guarded = if spec.endpoint.allow_list.as_ref() == avatars.allow_list() {
                "guarded"
            } else {
                "not guarded"
            };
            format!("create {} once={} most={most} {guarded}", spec.key, !spec.redial)
        }
        Ok(Route::Close(key)) => format!("close {key}"),
        Ok(Route::Local(_)) => "local".to_owned(),
        Ok(Route::OnDemand(_) | Route::Open(_)) => "elsewhere".to_owned(),
        Err(error) => format!("{}", error.code().number()),
    }
}

#[test]
fn every_command_goes_to_the_link_of_its_title() {
    let avatars = avatars(json!({
        "sockets": {"fixed": {"url": "ws://h/"}},
        "dynamic": {"enabled": true, "hosts": ["h"], "max": 3},
        "listen": {"token": "t0ken"},
    }));
    for (operation, body, expected) in [
        ("create", r#"{"title":"t","url":"ws://h"}"#, "create t once=true most=3 guarded"),
        ("create", r#"{"title":"t","url":"ws://h","reconnect":true}"#, "create t once=false most=3 guarded"),
        ("create", r#"{"title":"fixed","url":"ws://h"}"#, "403"),
        ("send", r#"{"title":"fixed","message":"x"}"#, "to fixed"),
        ("send", r#"{"title":"script/main","message":"x"}"#, "400"),
        ("message.send", r#"{"channel":"t","text":"x"}"#, "to t"),
        ("message.send", r#"{"channel":"script/s 1","text":"x"}"#, "to script/s 1"),
        ("message.send", r#"{"channel":"script/","text":"x"}"#, "400"),
        ("script.send", r#"{"message":[1]}"#, "to script/main"),
        ("script.send", r#"{"title":"s","message":"x"}"#, "to script/s"),
        ("remove", r#"{"title":"t"}"#, "close t"),
        ("remove", r#"{"title":"fixed"}"#, "403"),
        ("list", "{}", "local"),
    ] {
        assert_eq!(route(&avatars, operation, body), expected, "{operation} {body}");
    }
}

#[test]
fn a_secret_of_a_socket_does_not_print() {
    let avatars = avatars(json!({"sockets": {"t": {
        "url": "ws://h/", "query": {"key": {"env": "HOME"}}, "protocols": ["a", {"env": "HOME"}],
    }}}));
    let endpoint = &avatars.links()[0].endpoint;
    let home = std::env::var("HOME").unwrap();
    assert_eq!((endpoint.query.len(), endpoint.subprotocols.len()), (1, 2));
    assert!(!format!("{endpoint:?}").contains(&home));
}

#[test]
fn a_failed_dial_is_published_as_the_app_would_report_it() {
    let avatars = avatars(json!({"sockets": {"t": {"url": "ws://h/"}}}));
    let event = avatars.on_dial_error(&LinkKey::new("t"), "h:80 cannot be reached").unwrap();
    assert_eq!((event.kind, event.upstream.as_deref()), (EventType::SocketFailed, Some("OnError")));
    assert_eq!(event.fields.reason.as_deref(), Some("h:80 cannot be reached"));
}

/// The link that a handshake is accepted as, or the kind of the refusal.
fn accepted(query: &[(&str, &str)], subprotocols: &[&str], first: Option<&str>) -> Result<Accept, Kind> {
    let avatars = avatars(json!({"listen": {"token": "t0ken"}}));
    let query: Vec<_> = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let subprotocols: Vec<_> = subprotocols.iter().map(|name| (*name).to_owned()).collect();
    let first = first.map(Frame::text);
    let handshake = Handshake { query: &query, subprotocols: &subprotocols, first: first.as_ref() };
    avatars.authorize(&handshake).map_err(|error| error.kind())
}

#[test]
fn only_the_token_is_accepted() {
    let accept = |link: &str, subprotocol: Option<&str>| {
        Ok(Accept::As { link: LinkKey::new(link), subprotocol: subprotocol.map(str::to_owned) })
    };
    let auth = |title: &str| format!(r#"{{"type":"auth","token":"t0ken"{title}}}"#);
    assert_eq!(accepted(&[], &[], None), Ok(Accept::AfterFirstMessage));
    assert_eq!(accepted(&[], &["t0ken"], None), accept("script/main", Some("t0ken")));
    assert_eq!(accepted(&[("title", "a b")], &["x", "t0ken"], None), accept("script/a b", Some("t0ken")));
    assert_eq!(accepted(&[], &[], Some(&auth(""))), accept("script/main", None));
    assert_eq!(accepted(&[("title", "q")], &[], Some(&auth(""))), accept("script/q", None));
    assert_eq!(accepted(&[("title", "q")], &[], Some(&auth(r#","title":"f""#))), accept("script/f", None));
    for wrong in ["t0ke", "t0kenn", "T0ken", " t0ken"] {
        assert_eq!(accepted(&[], &[wrong], None), Err(Kind::Auth), "{wrong}");
        let first = format!(r#"{{"type":"auth","token":"{wrong}"}}"#);
        assert_eq!(accepted(&[], &[], Some(&first)), Err(Kind::Auth), "{wrong}");
    }
    for first in [
        "hello",
        "{}",
        r#"{"type":"event","token":"t0ken"}"#,
        r#"{"type":"auth"}"#,
        r#"{"type":"auth","token":5}"#,
    ] {
        assert_eq!(accepted(&[], &[], Some(first)), Err(Kind::Auth), "{first}");
    }
    for title in [r#","title":"""#, r#","title":"script/x""#, r#","title":"a\nb""#] {
        assert_eq!(accepted(&[], &[], Some(&auth(title))), Err(Kind::Rejected), "{title}");
    }
    let closed = avatars(json!({"sockets": {"t": {"url": "ws://h/"}}}));
    let handshake = Handshake { query: &[], subprotocols: &[], first: None };
    assert_eq!(closed.authorize(&handshake).unwrap_err().kind(), Kind::Auth);
    assert!(closed.listener().is_none());
}
