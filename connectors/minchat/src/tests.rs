//! The connector from outside: transcripts, the sample, good and bad settings, routes, and what no transcript reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pontoon_sdk::socketio::{Event, Frame};
use pontoon_sdk::{
    Action, Code, CommandId, DeliveryLevel, EventType, Join, Kind, Outbox, Raw, Reply, Request as _, Session,
};
use pontoon_transcript::{check_sample, play_folder};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::config::{MAX_CHATS, MAX_ID};

#[test]
fn every_transcript_plays() {
    let count = play_folder::<MinChat>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 45, "only {count} transcripts");
}

#[test]
fn the_sample_lists_every_setting_with_its_default() {
    let (plain, all) = check_sample::<MinChat>().unwrap();
    assert_eq!((&all.url, all.links), (&plain.url, plain.links));
    assert!(all.user.is_some() && plain.user.is_none());
}

fn settings(mut more: Value) -> Value {
    let table = more.as_object_mut().unwrap();
    table.entry("api_key").or_insert(json!("secret-key"));
    table.entry("user_id").or_insert(json!("u1"));
    more
}

fn minchat(more: Value) -> MinChat {
    MinChat::new(serde_json::from_value(settings(more)).unwrap()).unwrap()
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    let many: Vec<_> = (0..=MAX_CHATS).map(|number| number.to_string()).collect();
    for (more, pointer) in [
        (json!({"url": "ftp://h/"}), "/url"),
        (json!({"chats": ["c1", "c2", "c1"]}), "/chats/2"),
        (json!({"chats": many, "links": "shared"}), "/chats"),
    ] {
        let error = MinChat::new(serde_json::from_value(settings(more)).unwrap()).err().unwrap();
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some(pointer)), "{error}");
    }
    for more in [
        json!({"colour": "red"}),
        json!({"links": "one"}),
        json!({"chats": "c1"}),
        json!({"user": {"nick": "x"}}),
        json!({"user_id": 1}),
        json!({"user_id": ""}),
        json!({"user_id": "a\nb"}),
        json!({"user": {"id": ""}}),
        json!({"chats": ["c1", ""]}),
        json!({"chats": ["x".repeat(MAX_ID + 1)]}),
    ] {
        assert!(serde_json::from_value::<Config>(settings(more.clone())).is_err(), "{more}");
    }
    for missing in [json!({"user_id": "u1"}), json!({"api_key": "k"})] {
        assert!(serde_json::from_value::<Config>(missing).is_err());
    }
}

#[test]
fn links_are_one_for_each_chat_or_one_for_all() {
    let keys =
        |more| -> Vec<_> { minchat(more).links().iter().map(|link| link.key.as_str().to_owned()).collect() };
    assert_eq!(keys(json!({"chats": ["c1", "user"]})), ["user", "c1", "user_"]);
    assert_eq!(keys(json!({})), ["user"]);
    assert_eq!(keys(json!({"chats": ["c1", "user"], "links": "shared"})), ["main"]);
}

#[test]
fn the_key_can_be_masked_and_never_prints() {
    let minchat = minchat(json!({}));
    let endpoint = minchat.links().remove(0).endpoint;
    assert_eq!((endpoint.url.as_str(), endpoint.namespace.as_str()), ("https://api.minchat.io", "/"));
    assert_eq!(endpoint.secrets.len(), 1);
    assert_eq!(endpoint.secrets[0].reveal().unwrap(), "secret-key");
    assert!(!format!("{endpoint:?} {:?}", minchat.config).contains("secret-key"));
}

#[test]
fn no_two_links_share_a_name() {
    let names = ["user", "user_", "user__", "main", "users", "c1", "_", "user_x", " user"];
    let chats = names.iter().map(|name| LinkKind::Chat(Id::try_from((*name).to_owned()).unwrap()));
    let links: Vec<_> = chats.chain([LinkKind::User]).collect();
    let keys: BTreeSet<_> = links.iter().map(LinkKind::key).collect();
    assert_eq!(keys.len(), links.len());
    for link in links {
        assert_eq!(LinkKind::of(&link.key(), Links::PerChat), link);
    }
    assert_eq!(LinkKind::of(&LinkKind::Shared.key(), Links::Shared), LinkKind::Shared);
}

#[test]
fn only_what_is_acknowledged_is_waited_for_longer() {
    let minchat = minchat(json!({}));
    for operation in Request::operations() {
        let waits = minchat.timeout(operation.name) == Some(Duration::from_secs(15));
        assert_eq!(waits, operation.delivery == DeliveryLevel::Acked, "{}", operation.name);
    }
}

fn command(id: u64, operation: &'static str, body: &str) -> Command {
    Command {
        id: CommandId(id),
        operation,
        argument: None,
        body: RawValue::from_string(body.to_owned()).unwrap(),
        headers: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(3600),
        stream: false,
    }
}

/// Where a command goes, in a word.
fn route(minchat: &MinChat, operation: &'static str, body: &str) -> String {
    let command = command(1, operation, body);
    match Request::parse(&command).and_then(|request| minchat.route(&command, &request)) {
        Ok(Route::To(key)) => format!("to {key}"),
        Ok(Route::Open(spec)) => format!("open {}", spec.key),
        Ok(Route::Close(key)) => format!("close {key}"),
        Ok(_) => "elsewhere".to_owned(),
        Err(error) => format!("{}", error.code().number()),
    }
}

#[test]
fn a_command_goes_to_its_chats_link_whether_there_is_one_or_not() {
    let per_chat = minchat(json!({"chats": ["c1"]}));
    let shared = minchat(json!({"chats": ["c1"], "links": "shared"}));
    for (operation, body, expected) in [
        ("message", r#"{"chat_id":"c1","text":"x"}"#, "to c1"),
        ("message.send", r#"{"channel":"c9","text":"x"}"#, "to c9"),
        ("message.send", r#"{"channel":"user","text":"x"}"#, "to user_"),
        ("typing.start", r#"{"channelId":"c1"}"#, "to c1"),
        ("typing.stop", r#"{"channelId":"c1"}"#, "to c1"),
        ("room.join", r#"{"channelId":"c9"}"#, "open c9"),
        ("room.leave", r#"{"channelId":"c1"}"#, "close c1"),
        ("room.user.join", "{}", "to user"),
        ("room.user.leave", r#"{"channel":"c1"}"#, "to c1"),
        ("message.update", r#"{"messageId":"m1","text":"x"}"#, "to user"),
        ("message.update", r#"{"messageId":"m1","text":"x","channel":"c1"}"#, "to c1"),
        ("message.delete", r#"{"messageId":"m1"}"#, "to user"),
        ("message.delete", r#"{"messageId":"m1","channel":"c1"}"#, "to c1"),
        ("message.seen", r#"{"lastMessageId":"m1"}"#, "to user"),
        ("message.seen", r#"{"lastMessageId":"m1","channel":"c1"}"#, "to c1"),
    ] {
        assert_eq!(route(&per_chat, operation, body), expected, "{operation} {body}");
        assert_eq!(route(&shared, operation, body), "to main", "{operation} {body}");
        assert_eq!(route(&per_chat, operation, "{\"apiKey\":\"x\"}"), "400");
        assert_eq!(route(&shared, operation, "7"), "400");
    }
}

/// Gives a command to a session.
fn encode(
    session: &mut MinChatSession,
    id: u64,
    operation: &'static str,
    body: &str,
    out: &mut Outbox<Frame>,
) -> Result<()> {
    let command = command(id, operation, body);
    session.encode(Request::parse(&command)?, command, out)
}

/// A session on a link, and its outbox, past `open`.
fn session(minchat: &MinChat, link: &str) -> (MinChatSession, Outbox<Frame>) {
    let mut session = minchat.session(&LinkKey::new(link));
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    out.drain();
    (session, out)
}

#[test]
fn a_key_that_is_not_there_is_named_at_open_and_at_each_command() {
    let minchat = minchat(json!({"api_key": {"env": "PONTOON_NO_SUCH_VARIABLE"}, "links": "shared"}));
    let mut session = minchat.session(&LinkKey::new("main"));
    let mut out = Outbox::new(Instant::now());
    let error = session.open(&[], &mut out).unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
    assert!(error.message().contains("PONTOON_NO_SUCH_VARIABLE"), "{error}");
    // A key that goes missing later harms no more than the command that needs it.
    let body = r#"{"messageId":"m1"}"#;
    let error = encode(&mut session, 1, "message.delete", body, &mut out).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::NotConnected));
    assert!(error.message().contains("PONTOON_NO_SUCH_VARIABLE"), "{error}");
    assert_eq!(out.drain().len(), 0);
}

#[test]
fn text_and_metadata_keep_their_meaning_to_the_last_digit() {
    let minchat = minchat(json!({"links": "shared", "chats": ["c1"]}));
    let (mut session, mut out) = session(&minchat, "main");
    let metadata = r#"{"z": 1.0, "a": 123456789012345678901234567890, "z2" :1e999}"#;
    let body = format!(r#"{{"metadata":{metadata},"text":"\u00e9\n\"","chat_id":"c1"}}"#);
    encode(&mut session, 1, "message", &body, &mut out).unwrap();
    let sent: Vec<_> = out.drain().collect();
    let [Action::Send(Frame::Event(event), Some(CommandId(1)))] = sent.as_slice() else { panic!("{sent:?}") };
    let expected = format!(
        r#"{{"chat_id":"c1","text":"é\n\"","metadata":{metadata},"apiKey":"secret-key","user_id":"u1"}}"#
    );
    assert_eq!(String::from_utf8_lossy(event.args.payload().as_bytes()), expected);

    let stored = format!(r#"{{ "success":true,"id":"m1","metadata":{metadata}}}"#);
    let values = vec![Raw::from(RawValue::from_string(stored.clone()).unwrap())];
    session.decode(&Frame::ack(0, values), &mut out).unwrap();
    let written: Vec<_> = out.drain().collect();
    let [Action::Publish(accepted), Action::Publish(created), Action::Reply(_, Reply::Acked(data))] =
        written.as_slice()
    else {
        panic!("{written:?}")
    };
    assert_eq!(data.get(), stored);
    assert_eq!(accepted.raw.as_ref().unwrap().as_bytes(), stored.as_bytes());
    assert_eq!(created.raw.as_ref().unwrap().as_bytes(), stored.as_bytes());
}

/// What a session would join if its link were dialled again now.
fn rooms_after(minchat: &MinChat, joins: &[Join]) -> Vec<String> {
    let mut out = Outbox::new(Instant::now());
    minchat.session(&LinkKey::new("main")).open(joins, &mut out).unwrap();
    out.drain()
        .filter_map(|action| match action {
            Action::Send(Frame::Event(event), None) => {
                let payload: Value = event.read(0).unwrap();
                Some(payload["channelId"].as_str().unwrap_or("(user)").to_owned())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_join_that_was_never_written_is_not_kept() {
    let minchat = minchat(json!({"links": "shared", "chats": ["c1"]}));
    let (mut session, mut out) = session(&minchat, "main");
    encode(&mut session, 1, "room.join", r#"{"channelId":"c2"}"#, &mut out).unwrap();
    encode(&mut session, 2, "room.leave", r#"{"channelId":"c1"}"#, &mut out).unwrap();
    encode(&mut session, 3, "room.user.leave", "{}", &mut out).unwrap();
    assert_eq!(rooms_after(&minchat, out.joins()), ["c2"]);
    // As the daemon does for commands whose frames were never written.
    for command in [CommandId(1), CommandId(2)] {
        out.undo(command);
        session.abandoned(command, false, &mut out);
    }
    assert_eq!(rooms_after(&minchat, out.joins()), ["c1"]);
    let refused = encode(&mut session, 4, "typing.start", r#"{"channelId":"c2"}"#, &mut out).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    encode(&mut session, 5, "typing.start", r#"{"channelId":"c1"}"#, &mut out).unwrap();
}

#[test]
fn one_socket_joins_so_many_chats_and_no_more() {
    let chats: Vec<_> = (0..MAX_CHATS).map(|number| format!("c{number}")).collect();
    let minchat = minchat(json!({"links": "shared", "chats": chats}));
    let (mut session, mut out) = session(&minchat, "main");
    let refused = encode(&mut session, 1, "room.join", r#"{"channelId":"one more"}"#, &mut out);
    assert_eq!(refused.unwrap_err().code(), Code::TooMany);
    encode(&mut session, 2, "room.join", r#"{"channelId":"c0"}"#, &mut out).unwrap();
    encode(&mut session, 3, "room.leave", r#"{"channelId":"c0"}"#, &mut out).unwrap();
    encode(&mut session, 4, "room.join", r#"{"channelId":"one more"}"#, &mut out).unwrap();
}

#[test]
fn a_message_of_several_links_has_one_identity() {
    let minchat = minchat(json!({"chats": ["c1", "c2"]}));
    let mut identities = BTreeSet::new();
    let mut sessions: BTreeMap<&str, _> =
        ["user", "c1", "c2"].map(|link| (link, session(&minchat, link))).into_iter().collect();
    let mut decode = |link: &str, name: &str, value: Value| {
        let (session, out) = sessions.get_mut(link).unwrap();
        session.decode(&Frame::event(name, Raw::json(&value).unwrap()), out).unwrap();
        let written: Vec<_> = out.drain().collect();
        let [Action::Publish(event)] = written.as_slice() else { panic!("{written:?}") };
        let new = identities.insert(event.identity.clone().unwrap());
        (event.fields.channel.clone(), new)
    };
    let c1 = || Some("c1".to_owned());
    assert_eq!(decode("c1", "message", json!({"id": "m1", "text": "x"})), (c1(), true));
    assert_eq!(decode("user", "message", json!({"id": "m1", "chat_id": "c1", "text": "x"})), (c1(), false));
    for (link, new) in [("c2", true), ("user", false), ("c1", false)] {
        assert_eq!(decode(link, "message.seen", json!("m1")), (c1(), new), "{link}");
    }
    // Somebody else has seen it.
    for (link, new) in [("user", true), ("c1", false), ("c2", false)] {
        assert_eq!(decode(link, "message.seen", json!("m1")), (c1(), new), "{link}");
    }
    for (link, new) in [("c1", true), ("user", false)] {
        assert_eq!(decode(link, "message.delete", json!("m1")), (c1(), new), "{link}");
    }
    let chat = json!({"id": "c1", "last_message": {"id": "m2"}});
    for (link, new) in [("user", true), ("c1", false), ("c2", false)] {
        assert_eq!(decode(link, "chat", chat.clone()), (c1(), new), "{link}");
    }
    // Its title was changed, and changed back.
    let changed = json!({"id": "c1", "title": "x", "last_message": {"id": "m2"}});
    for (chat, new) in [(&changed, true), (&chat, true)] {
        assert_eq!(decode("user", "chat", chat.clone()), (c1(), new));
        assert_eq!(decode("c1", "chat", chat.clone()), (c1(), false));
    }
}

#[test]
fn the_acknowledgement_and_the_broadcast_of_a_message_are_the_same() {
    let minchat = minchat(json!({"chats": ["c1"]}));
    let (mut ours, mut out) = session(&minchat, "c1");
    encode(&mut ours, 1, "message.send", r#"{"channel":"c1","text":"x"}"#, &mut out).unwrap();
    out.drain();
    let stored = Raw::json(&json!({"success": true, "id": "m1"})).unwrap();
    ours.decode(&Frame::ack(0, vec![stored]), &mut out).unwrap();
    let broadcast = Raw::json(&json!({"success": true, "id": "m1", "chat_id": "c1", "text": "x"})).unwrap();
    session(&minchat, "user").0.decode(&Frame::event("message", broadcast), &mut out).unwrap();
    let events: Vec<_> = out
        .drain()
        .filter_map(|action| match action {
            Action::Publish(event) => Some(event),
            _ => None,
        })
        .collect();
    assert_eq!((events[0].kind, events[0].command), (EventType::MessageAccepted, Some(CommandId(1))));
    let identities: Vec<_> = events.into_iter().filter_map(|event| event.identity).collect();
    assert_eq!(identities.len(), 2);
    assert_eq!(identities[0], identities[1]);
}

#[test]
fn nothing_from_outside_panics_or_ends_the_session() {
    let names =
        ["chat", "message", "message.update", "message.delete", "message.seen", "typing.start", "error"];
    let names = [names.as_slice(), &["typing.stop", "user.status", "ai.event", "room.join", ""]].concat();
    let values = [
        "null",
        "true",
        "0",
        "-0",
        "1e999",
        "\"\"",
        "\"c1\"",
        "[]",
        "{}",
        "[null]",
        "{\"_placeholder\":true}",
        "\"\\ud83d\\ude00\"",
        "18446744073709551616",
    ];
    let keys =
        ["success", "id", "chat_id", "text", "file", "user", "user_id", "metadata", "created_at", "seen"];
    let keys =
        [keys.as_slice(), &["last_message", "title", "participant_user_ids", "memberId", "status"]].concat();
    let keys =
        [keys.as_slice(), &["message", "error", "code", "chatbotUsername", "messageId", "name"]].concat();
    let bodies = [r#"{"chat_id":"c1","text":"x"}"#, r#"{"channel":"c1","text":"x"}"#, "{}", "[", "null"];
    let mut seed = 7_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for (links, link) in [("per_chat", "user"), ("per_chat", "c1"), ("shared", "main")] {
        let minchat = minchat(json!({"chats": ["c1"], "links": links}));
        let (mut session, mut out) = session(&minchat, link);
        for round in 0..20_000_u64 {
            let mut value = values[next(values.len())].to_owned();
            for _ in 0..next(4) {
                let pairs: Vec<_> = (0..next(5))
                    .map(|_| {
                        let other = values[next(values.len())].to_owned();
                        format!("{:?}:{}", keys[next(keys.len())], [&value, &other][next(2)])
                    })
                    .collect();
                value = format!("{{{}}}", pairs.join(","));
            }
            let arguments = vec![Raw::from(RawValue::from_string(value.clone()).unwrap()); next(3)];
            let frame = match next(4) {
                0 => Frame::ack(round / 3, arguments),
                1 if next(9) == 0 => Frame::Malformed { raw: Raw::null(), reason: "broken".to_owned() },
                _ => Frame::Event(Event::new(names[next(names.len())], arguments)),
            };
            if let Err(error) = session.decode(&frame, &mut out) {
                assert_eq!(error.kind(), Kind::Protocol, "{frame:?}");
            } else {
                assert!(out.drain().any(|action| matches!(action, Action::Publish(_))), "{frame:?}");
            }
            let operations = Request::operations();
            let operation = operations[next(operations.len())].name;
            let body = [bodies[next(bodies.len())], value.as_str()][next(2)];
            if let Ok(body) = RawValue::from_string(body.to_owned())
                && let Err(error) = encode(&mut session, round, operation, body.get(), &mut out)
            {
                assert_eq!(error.kind(), Kind::Rejected, "{body}");
            }
            if next(3) == 0 {
                session.abandoned(CommandId(round.saturating_sub(next(4) as u64)), next(2) == 0, &mut out);
            }
            out.drain();
        }
    }
}
