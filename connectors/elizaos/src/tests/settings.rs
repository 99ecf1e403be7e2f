//! The sample, good and bad settings, and what follows from them.

use pontoon_sdk::Param;
use pontoon_transcript::check_sample;

use super::*;
use crate::uuid::Uuid;

#[test]
fn the_sample_lists_every_setting_with_its_default() {
    let (plain, all) = check_sample::<ElizaOs>().unwrap();
    assert_eq!(
        (all.dialect, &all.name, all.server_id, all.logs, &all.rooms),
        (plain.dialect, &plain.name, plain.server_id, plain.logs, &plain.rooms)
    );
    assert!(all.entity_id.is_some() && plain.entity_id.is_none());
    assert!(all.api_key.is_some() && plain.api_key.is_none());
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
    for (room, text) in [
        (json!(7), "expected a room: its id, or { id"),
        (json!({"agent_id": AGENT}), "missing field `id`"),
        (json!({"id": ROOM, "agent": AGENT}), "unknown field `agent`"),
        (json!({"id": ROOM, "agent_id": "Eliza"}), "\"Eliza\" is no UUID; write one such as"),
    ] {
        let error = read(json!({"rooms": [room]})).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn wrong_settings_are_refused() {
    let many: Vec<_> = (0..=MAX_ROOMS).map(|number| number.to_string()).collect();
    for (more, pointer) in [
        (json!({"url": "ftp://h/"}), "/url"),
        (json!({"rooms": ["a", "b", {"id": "a", "agent_id": AGENT}]}), "/rooms/2"),
        (json!({"rooms": many}), "/rooms"),
    ] {
        let error = ElizaOs::new(read(more).unwrap()).err().unwrap();
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some(pointer)), "{error}");
    }
    for (more, text) in [
        (json!({"name": ""}), "1 to 256 bytes"),
        (json!({"name": "a\nb"}), "no control characters"),
        (json!({"rooms": [""]}), "1 to 256 bytes"),
        (json!({"rooms": ["a", {"id": "x".repeat(MAX_ID + 1)}]}), "1 to 256 bytes"),
        (json!({"colour": "red"}), "colour"),
        (json!({"dialect": "latin"}), "latin"),
        (json!({"entity_id": "me"}), "me"),
        (json!({"server_id": "0"}), "0"),
        (json!({"rooms": ROOM}), ROOM),
        (json!({"logs": "yes"}), "yes"),
    ] {
        let error = read(more.clone()).unwrap_err();
        assert!(error.contains(text), "{more}: {error}");
    }
    assert!(serde_json::from_value::<Config>(json!({})).is_err());
}

#[test]
fn the_entity_is_the_one_set_or_always_the_same() {
    let entity = |more| match elizaos(more).endpoint.auth.remove(0) {
        (field, Param::Plain(Value::String(entity))) if field == "entityId" => entity,
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
    let [_, (field, Param::Secret(key))] = endpoint.auth.as_slice() else { panic!("{endpoint:?}") };
    assert_eq!((field.as_str(), key.reveal().unwrap().as_str()), ("apiKey", "secret-key"));
    assert!(endpoint.headers.is_empty() && endpoint.query.is_empty());
    assert!(!format!("{endpoint:?} {:?}", elizaos.setup.config).contains("secret-key"));
}

#[test]
fn every_operation_goes_to_the_one_link() {
    let elizaos = elizaos(json!({}));
    assert_eq!(elizaos.links().remove(0).key, LinkKey::main());
    for body in ["join", "leave", "request-world-state"].map(|name| command(1, name, r#"{"roomId":"a"}"#)) {
        let request = Request::parse(&body).unwrap();
        assert!(matches!(elizaos.route(&body, &request), Ok(Route::To(key)) if key == LinkKey::main()));
    }
    for operation in Request::operations() {
        let error = Request::parse(&command(1, operation.name, "7")).err().unwrap();
        assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::BadBody), "{error}");
        assert_eq!(operation.body.get("type").and_then(Value::as_str), Some("object"), "{}", operation.name);
    }
}
