//! What a session sends to the service, promises its callers and has the daemon keep.

use super::*;

#[test]
fn nothing_is_sent_or_taken_before_the_dialect_is_decided() {
    let elizaos = elizaos(json!({"rooms": [ROOM]}));
    let mut session = elizaos.session(&LinkKey::main());
    let start = Instant::now();
    let mut out = Outbox::new(start);
    session.open(&[], &mut out).unwrap();
    assert_eq!(out.drain().len(), 0);
    // The daemon may wake a session too early.
    session.tick(&mut out).unwrap();
    assert_eq!(out.drain().len(), 0);
    let error = encode(&mut session, command(1, "join", r#"{"roomId":"a"}"#), &mut out).unwrap_err();
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
    encode(&mut session, command(1, "message", &body), &mut out).unwrap();
    let got = sent(&mut out);
    let numbers = r#""a":123456789012345678901234567890,"#;
    assert!(got.contains(&format!(r#""metadata":{{{numbers}"z":1.0,"z2":1e999}}"#)), "{got}");
    assert!(got.contains(r#""message":"é\n\"""#), "{got}");
    // In a room with an agent, fields are added.
    let body = body.replace(OTHER, ROOM).replace(r#""messageId":"x""#, r#""messageId":"y""#);
    encode(&mut session, command(2, "message", &body), &mut out).unwrap();
    let got = sent(&mut out);
    let direct = format!(r#""channelType":"DM","isDm":true,"targetUserId":"{AGENT}","#);
    assert!(got.contains(&format!(r#""metadata":{{{numbers}{direct}"z":1.0,"#)), "{got}");
    // A field that the caller gives is not repeated.
    let body = format!(r#"{{"text":"x","roomId":"{ROOM}","metadata":{{"isDm":false,"targetUserId":"me"}}}}"#);
    encode(&mut session, command(3, "message", &body), &mut out).unwrap();
    let got = sent(&mut out);
    assert!(got.contains(r#""metadata":{"channelType":"DM","isDm":false,"targetUserId":"me"}"#), "{got}");
}

#[test]
fn ids_of_messages_are_unlike_those_of_any_other_connection() {
    let elizaos = elizaos(json!({}));
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let (mut session, mut out) = session(&elizaos);
        for number in 0..3 {
            let body = format!(r#"{{"channel":"{ROOM}","text":"x"}}"#);
            encode(&mut session, command(number, "message.send", &body), &mut out).unwrap();
            let frame: Value = serde_json::from_str(&sent(&mut out)).unwrap();
            ids.insert(frame["payload"]["messageId"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 9);
}

#[test]
fn an_acknowledgement_names_its_command_even_after_that_was_abandoned() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    for (id, is_abandoned) in [(1, false), (2, true)] {
        let body = format!(r#"{{"roomId":"{ROOM}","text":"x","messageId":"m{id}"}}"#);
        encode(&mut session, command(id, "message", &body), &mut out).unwrap();
        if is_abandoned {
            session.abandoned(CommandId(id), true, &mut out);
        }
        out.drain();
        let ack = json!({"clientMessageId": format!("m{id}"), "messageId": "s", "roomId": ROOM});
        let actions = receive(&mut session, &mut out, "messageAck", &ack);
        let replies = actions.iter().filter(|action| matches!(action, Action::Reply(..))).count();
        assert_eq!(replies, usize::from(!is_abandoned));
        let event = event(actions);
        assert_eq!((event.kind, event.command), (EventType::MessageAccepted, Some(CommandId(id))));
    }
    let ack = json!({"clientMessageId": "m1", "messageId": "s"});
    assert_eq!(event(receive(&mut session, &mut out, "messageAck", &ack)).command, None);
}

#[test]
fn a_version_has_one_identity_over_every_connection_of_an_instance() {
    let elizaos = elizaos(json!({}));
    let message = json!({"id": "m1", "text": "x", "roomId": ROOM, "createdAt": 1_700_000_000_000_i64});
    let observe = |message: &Value| {
        let (mut session, mut out) = session(&elizaos);
        let event = event(receive(&mut session, &mut out, "messageBroadcast", message));
        (event.kind, event.identity.clone().unwrap(), event.time)
    };
    let first = observe(&message);
    assert_eq!(first.0, EventType::MessageCreated);
    assert_eq!(first.2.unwrap().unix_timestamp(), 1_700_000_000);
    assert_eq!(observe(&message), first);
    let mut changed = message.clone();
    changed["updatedAt"] = json!(1_700_000_009_000_i64);
    let second = observe(&changed);
    assert_eq!((second.0, second.2.unwrap().unix_timestamp()), (EventType::MessageUpdated, 1_700_000_009));
    assert_ne!(second.1, first.1);
    assert_eq!(observe(&changed), second);
    // Without an id, there is no identity.
    let (mut session, mut out) = session(&elizaos);
    assert_eq!(
        event(receive(&mut session, &mut out, "messageBroadcast", &json!({"text": "x"}))).identity,
        None
    );
}

/// The rooms and the log events that a new session subscribes to.
fn subscribed_after(elizaos: &ElizaOs, joins: &[Join]) -> Vec<String> {
    let mut out = Outbox::with_joins(Instant::now(), joins.to_vec());
    let mut session = elizaos.session(&LinkKey::main());
    session.open(joins, &mut out).unwrap();
    receive(&mut session, &mut out, "connection_established", &json!({}))
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
fn a_change_that_was_not_written_is_not_kept() {
    let elizaos = elizaos(json!({"rooms": ["a"]}));
    let (mut session, mut out) = session(&elizaos);
    encode(&mut session, command(1, "join", r#"{"roomId":"b"}"#), &mut out).unwrap();
    encode(&mut session, command(2, "logs.subscribe", "{}"), &mut out).unwrap();
    encode(&mut session, command(3, "logs.filter", r#"{"level":"warn"}"#), &mut out).unwrap();
    encode(&mut session, command(4, "leave", r#"{"roomId":"a"}"#), &mut out).unwrap();
    let filter = r#"update_log_filters {"level":"warn"}"#;
    assert_eq!(subscribed_after(&elizaos, out.joins()), ["b", "subscribe_logs {}", filter]);
    // As the daemon does for commands whose frames were never written.
    for id in [3, 2, 1, 4] {
        out.undo(CommandId(id));
        session.abandoned(CommandId(id), false, &mut out);
    }
    assert_eq!(subscribed_after(&elizaos, out.joins()), ["a"]);
    // A change that may have been written is kept.
    encode(&mut session, command(5, "join", r#"{"roomId":"c"}"#), &mut out).unwrap();
    session.abandoned(CommandId(5), true, &mut out);
    assert_eq!(subscribed_after(&elizaos, out.joins()), ["a", "c"]);
    // A join that no session wrote changes nothing.
    let mut joins = out.joins().to_vec();
    joins.push(Join { key: "room:d".into(), data: raw("7") });
    joins.push(Join { key: "elsewhere".into(), data: raw("true") });
    joins.push(Join { key: "logs".into(), data: raw("{}") });
    assert_eq!(subscribed_after(&elizaos, &joins), ["a", "c"]);
}

#[test]
fn the_number_of_rooms_is_bounded() {
    let rooms: Vec<_> = (0..MAX_ROOMS).map(|number| format!("r{number}")).collect();
    let elizaos = elizaos(json!({"rooms": rooms}));
    let (mut session, mut out) = session(&elizaos);
    let mut join = |session: &mut ElizaOsSession, id, operation, room: &str| {
        let body = json!({"roomId": room}).to_string();
        encode(session, command(id, operation, &body), &mut out).map_err(|error| error.code())
    };
    assert_eq!(join(&mut session, 1, "join", "one more"), Err(Code::TooMany));
    assert_eq!(join(&mut session, 2, "join", "r0"), Ok(()));
    assert_eq!(join(&mut session, 3, "leave", "r0"), Ok(()));
    assert_eq!(join(&mut session, 4, "join", "one more"), Ok(()));
}

#[test]
fn a_native_leave_promises_no_more_than_that_it_was_accepted() {
    let elizaos = elizaos(json!({"rooms": ["a"]}));
    let (mut session, mut out) = session(&elizaos);
    encode(&mut session, command(1, "leave", r#"{"roomId":"a"}"#), &mut out).unwrap();
    let actions: Vec<_> = out.drain().collect();
    assert!(
        matches!(
            actions.as_slice(),
            [Action::Remember(_), Action::DeliveryLevel(CommandId(1), DeliveryLevel::Accepted)]
        ),
        "{actions:?}"
    );
}

#[test]
fn the_documented_dialect_promises_no_more_than_that_a_frame_was_sent() {
    let elizaos = elizaos(json!({"dialect": "documented", "rooms": [ROOM]}));
    let mut session = elizaos.session(&LinkKey::main());
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
        encode(&mut session, command(1, operation, &body.to_string()), &mut out).unwrap();
        let actions: Vec<_> = out.drain().collect();
        let delivery =
            |action: &Action<Frame>| matches!(action, Action::DeliveryLevel(_, DeliveryLevel::Sent));
        let send = |action: &Action<Frame>| matches!(action, Action::Send(_, Some(_)));
        let place = actions.iter().position(delivery).unwrap();
        assert!(actions.iter().position(send).unwrap() > place, "{operation}: {actions:?}");
    }
    // The answer of an agent is more than that.
    let body = json!({"roomId": ROOM, "text": "x"}).to_string();
    encode(&mut session, Command { stream: true, ..command(2, "message", &body) }, &mut out).unwrap();
    assert!(matches!(out.drain().as_slice(), [Action::Send(_, Some(CommandId(2)))]));
}

#[test]
fn the_second_event_of_a_join_is_counted_and_the_first_ones_are_bounded() {
    let elizaos = elizaos(json!({}));
    let (mut session, mut out) = session(&elizaos);
    let joined = json!({"channelId": "a"});
    event(receive(&mut session, &mut out, "channel_joined", &joined));
    assert!(matches!(
        receive(&mut session, &mut out, "room_joined", &joined).as_slice(),
        [Action::Duplicate]
    ));
    for number in 0..1_000 {
        event(receive(&mut session, &mut out, "channel_joined", &json!({"channelId": number})));
    }
    assert_eq!(session.unpaired.len(), 64);
}
