//! The connector from outside: transcripts, the sample, good and bad settings, and what no transcript reaches.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use figment::Figment;
use figment::providers::{Format, Toml};
use pontoon_sdk::event::Message;
use pontoon_sdk::socketio::{AuthValue, Frame};
use pontoon_sdk::transcript::play_folder;
use pontoon_sdk::{
    Action, Code, CommandId, Error, Event, EventType, Join, Kind, Outbox, Promise, Raw, Reply, Session, Uuid,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::config::{MAX_ID, MAX_ROOMS};

const ROOM: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const OTHER: &str = "aaaaaaaa-0000-4000-8000-000000000002";
const AGENT: &str = "bbbbbbbb-0000-4000-8000-00000000000a";

#[test]
fn every_transcript_plays() {
    let count = play_folder::<ElizaOs>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 55, "only {count} transcripts");
}

// --- Settings ---

fn sample(text: &str) -> Config {
    let mut table: Value = Figment::from(Toml::string(text)).extract_inner("connectors.agents").unwrap();
    assert_eq!(table.as_object_mut().unwrap().remove("type").unwrap(), ElizaOs::TYPE);
    serde_json::from_value(table).unwrap()
}

#[test]
fn the_sample_is_a_configuration() {
    assert!(ElizaOs::new(sample(ElizaOs::SAMPLE)).is_ok());
}

#[test]
fn the_sample_names_every_setting_with_its_default() {
    let uncommented = ElizaOs::SAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => setting,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let (plain, all) = (sample(ElizaOs::SAMPLE), sample(&uncommented));
    assert_eq!(
        (all.dialect, &all.name, all.server_id, all.logs, &all.rooms),
        (plain.dialect, &plain.name, plain.server_id, plain.logs, &plain.rooms)
    );
    assert!(all.entity_id.is_some() && plain.entity_id.is_none());
    assert!(all.api_key.is_some() && plain.api_key.is_none());
    let schema = schemars::schema_for!(Config);
    for (setting, described) in schema.get("properties").unwrap().as_object().unwrap() {
        assert!(uncommented.contains(&format!("\n{setting} = ")), "the sample lacks {setting}");
        assert!(described.get("description").is_some(), "{setting} has no description");
    }
}

fn read(more: Value) -> Result<Config, String> {
    let mut table = json!({"url": "http://localhost:3000"});
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(table).map_err(|error| error.to_string())
}

fn elizaos(more: Value) -> ElizaOs {
    ElizaOs::new(read(more).unwrap()).unwrap()
}

#[test]
fn a_room_is_an_id_or_a_table() {
    let config = read(json!({"rooms": ["kitchen", {"id": ROOM}, {"id": OTHER, "agent_id": AGENT}]})).unwrap();
    let rooms: Vec<_> = config
        .rooms
        .iter()
        .map(|room| (room.id.as_str(), room.agent_id.map(|agent| agent.to_string())))
        .collect();
    assert_eq!(rooms, [("kitchen", None), (ROOM, None), (OTHER, Some(AGENT.to_owned()))]);
    for (room, words) in [
        (json!(7), "expected a room: its id, or { id"),
        (json!({"agent_id": AGENT}), "missing field `id`"),
        (json!({"id": ROOM, "agent": AGENT}), "unknown field `agent`"),
        (json!({"id": ROOM, "agent_id": "Eliza"}), "\"Eliza\" is no UUID; write one such as"),
    ] {
        let error = read(json!({"rooms": [room]})).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    let many: Vec<_> = (0..=MAX_ROOMS).map(|number| number.to_string()).collect();
    for (more, pointer) in [
        (json!({"url": "ftp://h/"}), "/url"),
        (json!({"name": ""}), "/name"),
        (json!({"name": "a\nb"}), "/name"),
        (json!({"rooms": [""]}), "/rooms/0"),
        (json!({"rooms": ["a", {"id": "x".repeat(MAX_ID + 1)}]}), "/rooms/1"),
        (json!({"rooms": ["a", "b", {"id": "a", "agent_id": AGENT}]}), "/rooms/2"),
        (json!({"rooms": many}), "/rooms"),
    ] {
        let error = ElizaOs::new(read(more).unwrap()).err().unwrap();
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some(pointer)), "{error}");
    }
    for more in [
        json!({"colour": "red"}),
        json!({"dialect": "latin"}),
        json!({"entity_id": "me"}),
        json!({"server_id": "0"}),
        json!({"rooms": ROOM}),
        json!({"logs": "yes"}),
    ] {
        assert!(read(more.clone()).is_err(), "{more}");
    }
    assert!(serde_json::from_value::<Config>(json!({})).is_err());
}

#[test]
fn the_entity_is_the_one_set_or_always_the_same() {
    let entity = |more| match elizaos(more).endpoint.auth.remove(0) {
        (field, AuthValue::Plain(Value::String(entity))) if field == "entityId" => entity,
        other => panic!("{other:?}"),
    };
    assert_eq!(entity(json!({"entity_id": AGENT})), AGENT);
    let derived = entity(json!({}));
    assert!(derived.parse::<Uuid>().is_ok());
    assert_eq!(derived, entity(json!({"rooms": [ROOM], "dialect": "native"})));
    assert_ne!(derived, entity(json!({"name": "Bridge"})));
    assert_ne!(derived, entity(json!({"url": "http://localhost:3001"})));
}

#[test]
fn the_key_goes_with_the_connect_and_never_prints() {
    let elizaos = elizaos(json!({"api_key": "secret-key", "entity_id": AGENT}));
    let endpoint = elizaos.links().remove(0).endpoint;
    assert_eq!((endpoint.url.as_str(), endpoint.namespace.as_str()), ("http://localhost:3000", "/"));
    let [_, (field, AuthValue::Secret(key))] = endpoint.auth.as_slice() else { panic!("{endpoint:?}") };
    assert_eq!((field.as_str(), key.reveal().unwrap().as_str()), ("apiKey", "secret-key"));
    assert!(endpoint.headers.is_empty() && endpoint.query.is_empty());
    assert!(!format!("{endpoint:?} {:?}", elizaos.setup.config).contains("secret-key"));
}

#[test]
fn every_operation_goes_to_the_one_link() {
    let elizaos = elizaos(json!({}));
    assert_eq!(elizaos.links().remove(0).key.as_str(), LINK);
    for operation in ElizaOs::operations() {
        let command = command(1, operation.name, "{}");
        assert!(matches!(elizaos.route(&command), Ok(Route::To(key)) if key.as_str() == LINK));
        let object = operation.body.get("type").and_then(Value::as_str) == Some("object");
        assert!(object, "{}: {:?}", operation.name, operation.body);
        // The session knows what the list names, and refuses a body that fits nothing.
        let (mut session, mut out) = session(&elizaos);
        let error = session
            .encode(Command { body: raw("7"), ..command }, &mut out)
            .err()
            .unwrap_or_else(|| panic!("{} takes 7", operation.name));
        assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::BadBody), "{error}");
        assert_eq!(out.drain().len(), 0);
    }
}

// --- Sessions ---

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn command(id: u64, operation: &'static str, body: &str) -> Command {
    Command {
        id: CommandId(id),
        operation,
        argument: None,
        body: raw(body),
        headers: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(3600),
        stream: false,
    }
}

/// A session that speaks natively, past `open`, and its outbox.
fn session(elizaos: &ElizaOs) -> (ElizaOsSession, Outbox<Frame>) {
    let mut session = elizaos.session(&LinkKey::new(LINK));
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    hear(&mut session, &mut out, "connection_established", &json!({}));
    (session, out)
}

/// What a session makes of an event.
fn hear(
    session: &mut ElizaOsSession,
    out: &mut Outbox<Frame>,
    name: &str,
    payload: &Value,
) -> Vec<Action<Frame>> {
    session.decode(&Frame::event(name, Raw::json(payload).unwrap()), out).unwrap();
    out.drain().collect()
}

/// The only event among what a session did.
fn event(actions: Vec<Action<Frame>>) -> Box<Event> {
    let mut events = actions.into_iter().filter_map(|action| match action {
        Action::Publish(event) => Some(event),
        _ => None,
    });
    let event = events.next().unwrap();
    assert!(events.next().is_none());
    event
}

/// The payload of what a session sent for a command.
fn sent(out: &mut Outbox<Frame>) -> String {
    let mut frames = out.drain().filter_map(|action| match action {
        Action::Send(Frame::Event(event), _) => Some(event.args.payload()),
        _ => None,
    });
    let payload = frames.next().unwrap();
    assert!(frames.next().is_none());
    String::from_utf8(payload.as_bytes().to_vec()).unwrap()
}

#[test]
fn nothing_is_sent_or_taken_before_the_dialect_is_known() {
    let elizaos = elizaos(json!({"rooms": [ROOM]}));
    let mut session = elizaos.session(&LinkKey::new(LINK));
    let start = Instant::now();
    let mut out = Outbox::new(start);
    session.open(&[], &mut out).unwrap();
    assert_eq!(out.drain().len(), 0);
    // The daemon may wake a session too early.
    session.tick(&mut out).unwrap();
    assert_eq!(out.drain().len(), 0);
    let error = session.encode(command(1, "join", r#"{"roomId":"a"}"#), &mut out).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::NotConnected));
    assert_eq!(out.wake(), Some(start + Duration::from_secs(2)));
    out.advance(start + Duration::from_secs(2));
    assert!(out.take_due());
    session.tick(&mut out).unwrap();
    assert!(matches!(out.drain().as_slice(), [Action::Send(..), Action::Ready]));
    session.tick(&mut out).unwrap();
    assert_eq!(out.drain().len(), 0);
}

#[test]
fn text_and_metadata_keep_their_meaning_to_the_last_digit() {
    let elizaos = elizaos(json!({"entity_id": AGENT, "rooms": [{"id": ROOM, "agent_id": AGENT}]}));
    let (mut session, mut out) = session(&elizaos);
    let metadata = r#"{ "z": 1.0, "a": 123456789012345678901234567890, "z2" :1e999}"#;
    let body = format!(r#"{{"metadata":{metadata},"text":"\u00e9\n\"","roomId":"{OTHER}","messageId":"x"}}"#);
    session.encode(command(1, "message", &body), &mut out).unwrap();
    let got = sent(&mut out);
    assert!(got.contains(&format!(r#""metadata":{metadata}"#)), "{got}");
    assert!(got.contains(r#""message":"é\n\"""#), "{got}");
    // Where something must be added, what the caller gave stays as it is behind that.
    let body = body.replace(OTHER, ROOM).replace(r#""messageId":"x""#, r#""messageId":"y""#);
    session.encode(command(2, "message", &body), &mut out).unwrap();
    let got = sent(&mut out);
    let direct = format!(r#"{{"channelType":"DM","isDm":true,"targetUserId":"{AGENT}","#);
    assert!(got.contains(&format!(r#""metadata":{direct}{}"#, &metadata[1..])), "{got}");
}

#[test]
fn ids_of_messages_are_unlike_those_of_any_other_connection() {
    let elizaos = elizaos(json!({}));
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let (mut session, mut out) = session(&elizaos);
        for number in 0..3 {
            let body = format!(r#"{{"channel":"{ROOM}","text":"x"}}"#);
            session.encode(command(number, "message.send", &body), &mut out).unwrap();
            let frame: Value = serde_json::from_str(&sent(&mut out)).unwrap();
            ids.insert(frame["payload"]["messageId"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 9);
}

#[test]
fn an_acknowledgement_names_its_command_even_when_nobody_waits() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    for (id, given_up) in [(1, false), (2, true)] {
        let body = format!(r#"{{"roomId":"{ROOM}","text":"x","messageId":"m{id}"}}"#);
        session.encode(command(id, "message", &body), &mut out).unwrap();
        if given_up {
            session.abandoned(CommandId(id), true, &mut out);
        }
        out.drain();
        let ack = json!({"clientMessageId": format!("m{id}"), "messageId": "s", "roomId": ROOM});
        let told = hear(&mut session, &mut out, "messageAck", &ack);
        let replies = told.iter().filter(|action| matches!(action, Action::Reply(..))).count();
        assert_eq!(replies, usize::from(!given_up));
        let event = event(told);
        assert_eq!((event.kind, event.command), (EventType::MessageAccepted, Some(CommandId(id))));
    }
    let ack = json!({"clientMessageId": "m1", "messageId": "s"});
    assert_eq!(event(hear(&mut session, &mut out, "messageAck", &ack)).command, None);
}

#[test]
fn a_message_is_told_as_the_same_over_every_connection_of_an_instance() {
    let elizaos = elizaos(json!({}));
    let message = json!({"id": "m1", "text": "x", "roomId": ROOM, "createdAt": 1_700_000_000_000_i64});
    let mut tell = |message: &Value| {
        let (mut session, mut out) = session(&elizaos);
        let event = event(hear(&mut session, &mut out, "messageBroadcast", message));
        (event.kind, event.identity.clone().unwrap(), event.time)
    };
    let first = tell(&message);
    assert_eq!(first.0, EventType::MessageCreated);
    assert_eq!(first.2.unwrap().unix_timestamp(), 1_700_000_000);
    assert_eq!(tell(&message), first);
    let mut changed = message.clone();
    changed["updatedAt"] = json!(1_700_000_009_000_i64);
    let second = tell(&changed);
    assert_eq!((second.0, second.2.unwrap().unix_timestamp()), (EventType::MessageUpdated, 1_700_000_009));
    assert_ne!(second.1, first.1);
    assert_eq!(tell(&changed), second);
    // What has no id may mean anything.
    let (mut session, mut out) = session(&elizaos);
    assert_eq!(event(hear(&mut session, &mut out, "messageBroadcast", &json!({"text": "x"}))).identity, None);
}

/// Does with joins what the daemon does.
fn keep(joins: &mut Vec<Join>, out: &mut Outbox<Frame>) {
    for action in out.drain() {
        match action {
            Action::Remember(join) => {
                joins.retain(|known| known.key != join.key);
                joins.push(join);
            }
            Action::Forget(key) => joins.retain(|known| known.key != key),
            _ => {}
        }
    }
}

/// What a session would ask for if its link were dialled again now.
fn asks_after(elizaos: &ElizaOs, joins: &[Join]) -> Vec<String> {
    let mut out = Outbox::new(Instant::now());
    let mut session = elizaos.session(&LinkKey::new(LINK));
    session.open(joins, &mut out).unwrap();
    hear(&mut session, &mut out, "connection_established", &json!({}))
        .into_iter()
        .filter_map(|action| match action {
            Action::Send(Frame::Event(event), None) => {
                let payload: Value = event.read(0).unwrap();
                let room = payload["payload"]["channelId"].as_str().map(str::to_owned);
                Some(room.unwrap_or_else(|| format!("{} {payload}", event.name)))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn what_was_never_written_is_not_kept() {
    let elizaos = elizaos(json!({"rooms": ["a"]}));
    let (mut session, mut out) = session(&elizaos);
    let mut joins = Vec::new();
    session.encode(command(1, "join", r#"{"roomId":"b"}"#), &mut out).unwrap();
    session.encode(command(2, "logs.subscribe", "{}"), &mut out).unwrap();
    session.encode(command(3, "logs.filter", r#"{"level":"warn"}"#), &mut out).unwrap();
    session.encode(command(4, "leave", r#"{"roomId":"a"}"#), &mut out).unwrap();
    keep(&mut joins, &mut out);
    let filter = r#"update_log_filters {"level":"warn"}"#;
    assert_eq!(asks_after(&elizaos, &joins), ["b", "subscribe_logs {}", filter]);
    for id in [3, 2, 1, 4] {
        // To leave takes no writing.
        session.abandoned(CommandId(id), false, &mut out);
    }
    keep(&mut joins, &mut out);
    assert_eq!(asks_after(&elizaos, &joins), [""; 0]);
    // One that may have been written is kept as it was wanted.
    session.encode(command(5, "join", r#"{"roomId":"c"}"#), &mut out).unwrap();
    session.abandoned(CommandId(5), true, &mut out);
    keep(&mut joins, &mut out);
    assert_eq!(asks_after(&elizaos, &joins), ["c"]);
    // What the daemon keeps and no session wrote changes nothing.
    joins.push(Join { key: "room:d".into(), data: raw("7") });
    joins.push(Join { key: "elsewhere".into(), data: raw("true") });
    joins.push(Join { key: "logs".into(), data: raw("{}") });
    assert_eq!(asks_after(&elizaos, &joins), ["c"]);
}

#[test]
fn one_socket_joins_so_many_rooms_and_no_more() {
    let rooms: Vec<_> = (0..MAX_ROOMS).map(|number| format!("r{number}")).collect();
    let elizaos = elizaos(json!({"rooms": rooms}));
    let (mut session, mut out) = session(&elizaos);
    let mut join = |session: &mut ElizaOsSession, id, operation, room: &str| {
        let body = json!({"roomId": room}).to_string();
        session.encode(command(id, operation, &body), &mut out).map_err(|error| error.code())
    };
    assert_eq!(join(&mut session, 1, "join", "one more"), Err(Code::TooMany));
    assert_eq!(join(&mut session, 2, "join", "r0"), Ok(()));
    assert_eq!(join(&mut session, 3, "leave", "r0"), Ok(()));
    assert_eq!(join(&mut session, 4, "join", "one more"), Ok(()));
}

#[test]
fn a_leave_promises_no_more_than_that_it_was_taken() {
    let elizaos = elizaos(json!({"rooms": ["a"]}));
    let (mut session, mut out) = session(&elizaos);
    session.encode(command(1, "leave", r#"{"roomId":"a"}"#), &mut out).unwrap();
    let actions: Vec<_> = out.drain().collect();
    assert!(
        matches!(actions.as_slice(), [Action::Promise(CommandId(1), Promise::Accepted), Action::Remember(_)]),
        "{actions:?}"
    );
}

#[test]
fn what_a_documented_server_is_asked_is_sent_and_no_more_is_promised() {
    let elizaos = elizaos(json!({"dialect": "documented", "rooms": [ROOM]}));
    let mut session = elizaos.session(&LinkKey::new(LINK));
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    out.drain();
    for (operation, body) in [
        ("join", json!({"roomId": "a"})),
        ("message", json!({"roomId": ROOM, "text": "x"})),
        ("message.send", json!({"channel": ROOM, "text": "x"})),
        ("request-world-state", json!({"roomId": ROOM})),
        ("leave", json!({"roomId": "a"})),
    ] {
        session.encode(command(1, operation, &body.to_string()), &mut out).unwrap();
        let actions: Vec<_> = out.drain().collect();
        let promise = |action: &Action<Frame>| matches!(action, Action::Promise(_, Promise::Sent));
        let send = |action: &Action<Frame>| matches!(action, Action::Send(_, Some(_)));
        let place = actions.iter().position(promise).unwrap();
        assert!(actions.iter().position(send).unwrap() > place, "{operation}: {actions:?}");
    }
    // An answer is more than that it was sent.
    let body = json!({"roomId": ROOM, "text": "x"}).to_string();
    session.encode(Command { stream: true, ..command(2, "message", &body) }, &mut out).unwrap();
    assert!(matches!(out.drain().as_slice(), [Action::Send(_, Some(CommandId(2)))]));
}

#[test]
fn news_that_is_told_twice_is_counted_and_kept_within_bounds() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    let joined = json!({"channelId": "a"});
    event(hear(&mut session, &mut out, "channel_joined", &joined));
    assert!(matches!(hear(&mut session, &mut out, "room_joined", &joined).as_slice(), [Action::Duplicate]));
    for number in 0..1_000 {
        event(hear(&mut session, &mut out, "channel_joined", &json!({"channelId": number})));
    }
    assert_eq!(session.halves.len(), 64);
}

/// Everything that released servers and the page send, and more.
const NAMES: [&str; 24] = [
    "connection_established",
    "authenticated",
    "messageBroadcast",
    "messageComplete",
    "world-state",
    "logEntry",
    "error",
    "messageError",
    "messageAck",
    "messageStreamChunk",
    "messageStreamError",
    "messageDeleted",
    "channelCleared",
    "channelDeleted",
    "channelUpdated",
    "channel_joined",
    "room_joined",
    "log_stream",
    "log_subscription_confirmed",
    "log_filters_updated",
    "controlMessage",
    "unauthorized",
    "message",
    "",
];

#[test]
fn whatever_the_service_says_is_told_once() {
    let values = [json!(null), json!(true), json!(-1.5e300), json!(""), json!("x"), json!([]), json!({})];
    let fields = [
        "id",
        "messageId",
        "clientMessageId",
        "channelId",
        "roomId",
        "text",
        "chunk",
        "index",
        "createdAt",
        "updatedAt",
        "senderId",
        "entityId",
        "error",
        "details",
        "level",
        "time",
        "msg",
        "payload",
        "type",
        "subscribed",
        "success",
        "updates",
        "attachments",
        "metadata",
        "thought",
        "source",
        "agentId",
    ];
    let deep = json!({"a": {"b": [{"c": [[[[[[]]]]]]}]}});
    let mut payloads: Vec<Value> = values.to_vec();
    for field in fields {
        payloads.extend(values.iter().map(|value| json!({field: value})));
        payloads.push(json!({field: deep, "messageId": "m", "channelId": "c", "id": "i", "level": 30}));
        payloads
            .push(json!({field: "x".repeat(1_000), "type": "log_entry", "payload": {field: 1, "msg": ""}}));
    }
    let elizaos = elizaos(json!({"logs": true, "rooms": [ROOM]}));
    for name in NAMES {
        let (mut session, mut out) = session(&elizaos);
        let mut told = 0;
        for payload in &payloads {
            let actions = hear(&mut session, &mut out, name, payload);
            let events = actions.iter().filter(|action| matches!(action, Action::Publish(_)));
            let count = events.count();
            assert!(count <= 1, "{name} {payload}: {count} events");
            told += count;
        }
        // Greetings, and what confirms what the session asked for on connecting.
        let silent = match name {
            "connection_established" => payloads.len(),
            "authenticated" => payloads.iter().filter(|payload| is_greeting(payload)).count(),
            "log_subscription_confirmed" => 1,
            _ => 0,
        };
        assert_eq!(told, payloads.len() - silent, "{name}");
    }
}

/// Whether it names no other entity.
fn is_greeting(payload: &Value) -> bool {
    match payload {
        Value::Object(fields) => match fields.get("entityId") {
            None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => true,
            Some(text) => text == "",
        },
        _ => false,
    }
}

#[test]
fn lines_of_the_log_that_nobody_wants_are_told_to_nobody() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    for name in ["logEntry", "log_stream"] {
        for payload in [json!({"level": 30, "msg": "secret"}), json!("secret"), json!(null)] {
            assert!(hear(&mut session, &mut out, name, &payload).is_empty(), "{name} {payload}");
        }
    }
}

#[test]
fn the_services_words_are_cut_for_callers() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    let body = format!(r#"{{"channel":"{ROOM}","text":"x"}}"#);
    session.encode(command(1, "message.send", &body), &mut out).unwrap();
    out.drain();
    let told = hear(&mut session, &mut out, "messageError", &json!({"error": "é".repeat(5_000)}));
    let words = told.iter().find_map(|action| match action {
        Action::Reply(CommandId(1), Reply::Failed(error)) => Some(error.message().to_owned()),
        _ => None,
    });
    assert_eq!(words, Some("é".repeat(1_000)));
}

#[test]
fn a_part_of_an_answer_says_no_more_than_is_known() {
    let elizaos = elizaos(json!({"rooms": [ROOM]}));
    let (mut session, mut out) = session(&elizaos);
    let body = format!(r#"{{"roomId":"{ROOM}","text":"x","messageId":"m1"}}"#);
    session.encode(Command { stream: true, ..command(1, "message", &body) }, &mut out).unwrap();
    hear(&mut session, &mut out, "messageAck", &json!({"clientMessageId": "m1", "messageId": "s1"}));
    let chunk = json!({"messageId": "s2", "channelId": ROOM, "chunk": "b", "index": 1, "agentId": AGENT});
    let actions = hear(&mut session, &mut out, "messageStreamChunk", &chunk);
    let part = actions.iter().find_map(|action| match action {
        Action::Reply(CommandId(1), Reply::Part(part)) => Some(part.get().to_owned()),
        _ => None,
    });
    assert_eq!(part.as_deref(), Some(r#"{"delta":"b","index":1}"#));
    let event = event(actions);
    assert!(matches!(&event.fields.message, Some(Message::Object(message)) if message.text.is_none()));
}

#[test]
fn errors_of_the_connector_are_the_callers_or_the_services() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    let unasked = session.decode(&Frame::ack(0, Vec::new()), &mut out).unwrap_err();
    assert_eq!(unasked.kind(), Kind::Protocol);
    let unknown: Error = session.encode(command(1, "sing", "{}"), &mut out).unwrap_err();
    assert_eq!(unknown.kind(), Kind::Internal);
    assert_eq!(out.drain().len(), 0);
}
