use pontoon_sdk::transcript::Names;

use super::*;
use crate::raw::{DEADLINE, Raw};

const ROOM: &str = "11111111-1111-4111-8111-111111111111";
const USER: &str = "22222222-2222-4222-8222-222222222222";

async fn enter(eliza: &Eliza) -> Raw {
    let mut client = Raw::joined(eliza.address(), &json!({ "entityId": USER }).to_string()).await;
    if eliza.mind.version() >= ElizaVersion::V1_6_5 {
        let told = client.event("authenticated").await;
        assert!(told[0]["entityId"] == USER && told[0]["timestamp"].is_u64(), "{told:?}");
    }
    let told = client.event("connection_established").await;
    assert!(told[0]["socketId"].is_string(), "{told:?}");
    client
}

async fn enter_room(eliza: &Eliza) -> Raw {
    let mut client = enter(eliza).await;
    client.emit("1", &json!({"channelId": ROOM, "entityId": USER})).await;
    let joined = client.event("channel_joined").await;
    assert_eq!(joined, client.event("room_joined").await);
    assert_eq!((&joined[0]["channelId"], &joined[0]["roomId"]), (&json!(ROOM), &json!(ROOM)));
    client
}

/// A message with both names of everything, as it works with every release.
fn message(text: &str) -> Value {
    json!({
        "channelId": ROOM,
        "roomId": ROOM,
        "serverId": DEFAULT_SERVER,
        "messageServerId": DEFAULT_SERVER,
        "senderId": USER,
        "senderName": "Ada",
        "message": text,
        "messageId": "mine-1",
    })
}

fn is_like(got: &Value, expected: Value) {
    assert!(Names::default().matches_fields(&expected, got), "{got} is not {expected}");
}

#[tokio::test]
async fn newer_releases_want_an_entity_and_the_key_and_leave_the_connection_open() {
    for version in [ElizaVersion::V1_6_5, ElizaVersion::V1_7_2] {
        let eliza = Eliza::options().version(version).api_key("k").start().await;
        let auth = json!({ "entityId": USER });
        for (auth, words) in [
            (json!({}), "Valid entityId required"),
            (json!({"entityId": "ada"}), "Valid entityId required"),
            (auth.clone(), "Invalid or missing API Key"),
            (json!({"entityId": USER, "apiKey": "wrong"}), "Invalid or missing API Key"),
        ] {
            let mut client = Raw::join(eliza.address(), &auth.to_string()).await;
            assert_eq!(client.hear().await, format!("44{{\"message\":\"{words}\"}}"));
            client.nothing_more().await;
            // One who goes on as if nothing were is dropped, as by real servers.
            client.emit("1", &json!({ "channelId": ROOM })).await;
            while client.next().await.is_some() {}
        }
        assert_eq!((eliza.connections(), eliza.joins(ROOM), eliza.connects().len()), (0, 0, 4));
        let auth = json!({"entityId": USER, "apiKey": "k"});
        let mut client = Raw::joined(eliza.address(), &auth.to_string()).await;
        client.event("authenticated").await;
        assert_eq!(eliza.connects().last().unwrap().auth, Some(auth));
    }
    let eliza = Eliza::options().version(ElizaVersion::V1_4).api_key("k").start().await;
    Raw::joined(eliza.address(), "").await.event("connection_established").await;
}

#[tokio::test]
async fn a_room_is_joined_with_two_events_in_both_framings() {
    for version in [ElizaVersion::V1_2, ElizaVersion::V1_7_2] {
        let eliza = Eliza::options().version(version).start().await;
        let mut client = enter_room(&eliza).await;
        let payload = json!({"roomId": "any text", "agentId": AGENT});
        client.emit("message", &json!({"type": 1, "payload": payload})).await;
        let joined = client.event("channel_joined").await;
        assert_eq!(joined, client.event("room_joined").await);
        is_like(&joined[0], json!({"channelId": "any text", "roomId": "any text", "agentId": AGENT}));
        client.call(1, "1", &json!({})).await;
        let error = client.event("messageError").await;
        assert_eq!(error, [json!({"error": "channelId is required for joining."})]);
        // No acknowledgement comes.
        client.nothing_more().await;
        assert_eq!((eliza.joins(ROOM), eliza.members(ROOM), eliza.members("any text")), (1, 1, 1));
        assert!(eliza.emitted().last().unwrap().asks);
    }
}

#[tokio::test]
async fn the_sender_gets_its_message_and_an_ack_and_others_the_message() {
    for (version, server) in [
        (ElizaVersion::V1_2, "serverId"),
        (ElizaVersion::V1_4, "serverId"),
        (ElizaVersion::V1_6_5, "messageServerId"),
        (ElizaVersion::V1_7_2, "messageServerId"),
    ] {
        let eliza = Eliza::options().version(version).start().await;
        let mut other = enter_room(&eliza).await;
        // One who has not joined can send, and is told of it.
        let mut sender = enter(&eliza).await;
        sender.emit("message", &json!({"type": 2, "payload": message("hello")})).await;
        let echo = sender.event("messageBroadcast").await.remove(0);
        is_like(
            &echo,
            json!({"clientMessageId": "mine-1", "senderId": USER, "senderName": "Ada", "text": "hello",
                "channelId": ROOM, "roomId": ROOM, server: DEFAULT_SERVER}),
        );
        assert!(echo["createdAt"].is_u64());
        let names = ["serverId", "messageServerId"].iter().filter(|name| echo.get(**name).is_some());
        assert_eq!(names.count(), 1);
        let ack = sender.event("messageAck").await;
        let expected = json!({"clientMessageId": "mine-1", "messageId": echo["id"],
            "status": "received_by_server_and_processing", "channelId": ROOM, "roomId": ROOM});
        assert_eq!(ack, [expected]);
        sender.nothing_more().await;
        let told = other.event("messageBroadcast").await.remove(0);
        assert!(told["id"] == echo["id"] && told.get("clientMessageId").is_none(), "{told}");
        // Without an id of the client's there is none in what comes back, and a number is as good as a text.
        let mut unnamed = message("");
        unnamed["message"] = json!(5);
        unnamed.as_object_mut().unwrap().remove("messageId");
        sender.emit("2", &unnamed).await;
        let echo = sender.event("messageBroadcast").await.remove(0);
        assert!(echo["text"] == 5 && echo.get("clientMessageId").is_none(), "{echo}");
        assert!(sender.event("messageAck").await[0].get("clientMessageId").is_none());
        assert_eq!(eliza.messages(ROOM).len(), 2);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_said_without_its_id() {
    for (version, name) in [
        (ElizaVersion::V1_2, "serverId (server_id)"),
        (ElizaVersion::V1_7_2, "messageServerId (message_server_id)"),
    ] {
        let eliza = Eliza::options().version(version).start().await;
        let mut client = enter_room(&eliza).await;
        let required =
            format!("For SEND_MESSAGE: channelId, {name}, senderId (author_id), and message are required.");
        let field = eliza.mind.server_field();
        for (field, value, words) in [
            ("message", json!(""), required.as_str()),
            ("senderId", json!("ada"), &required),
            (field, Value::Null, &required),
            (field, json!(ROOM), &format!("Server {ROOM} does not exist")),
        ] {
            let mut wrong = message("x");
            wrong[field] = value;
            client.emit("2", &wrong).await;
            assert_eq!(client.event("messageError").await, [json!({ "error": words })]);
        }
        assert!(eliza.messages(ROOM).is_empty());
        eliza.add_server(ROOM);
        let mut right = message("x");
        right[field] = json!(ROOM);
        client.emit("2", &right).await;
        assert_eq!(client.event("messageBroadcast").await[0][field], ROOM);
    }
}

#[tokio::test]
async fn an_agent_that_takes_part_answers_those_who_joined() {
    let eliza = Eliza::start().await;
    let mut client = enter_room(&eliza).await;
    client.emit("2", &message("anybody?")).await;
    client.event("messageBroadcast").await;
    client.event("messageAck").await;
    client.nothing_more().await;
    let mut direct = message("hello");
    direct["metadata"] = json!({"isDm": true, "targetUserId": eliza.agent()});
    eliza.replies(AgentReply::default().chunks(3).after(Duration::from_millis(1)));
    client.emit("2", &direct).await;
    client.event("messageBroadcast").await;
    client.event("messageAck").await;
    let (mut text, mut id) = (String::new(), Value::Null);
    for index in 0..3 {
        let chunk = client.event("messageStreamChunk").await.remove(0);
        is_like(&chunk, json!({"index": index, "agentId": AGENT, "channelId": ROOM}));
        text.push_str(chunk["chunk"].as_str().unwrap());
        id = chunk["messageId"].clone();
    }
    let whole = client.event("messageBroadcast").await.remove(0);
    is_like(
        &whole,
        json!({"id": id, "text": text, "roomId": ROOM, "channelId": null, "senderId": AGENT,
            "serverId": DEFAULT_SERVER, "messageServerId": null, "source": "agent_response"}),
    );
    assert_eq!(text, "You said: hello");
    client.nothing_more().await;

    eliza.replies(AgentReply::default().text("no").chunks(1).fails("overloaded"));
    client.emit("2", &message("again")).await;
    client.event("messageBroadcast").await;
    client.event("messageAck").await;
    client.event("messageStreamChunk").await;
    let error = client.event("messageStreamError").await.remove(0);
    is_like(&error, json!({"error": "overloaded", "partialText": "no", "channelId": ROOM}));
    eliza.is_mute();
    client.emit("2", &message("and again")).await;
    client.event("messageBroadcast").await;
    client.event("messageAck").await;
    client.nothing_more().await;
}

#[tokio::test]
async fn older_releases_do_not_stream_and_say_when_the_answer_is_complete() {
    for (version, completes) in [
        (ElizaVersion::V1_2, true),
        (ElizaVersion::V1_4, true),
        (ElizaVersion::V1_6_5, false),
        (ElizaVersion::V1_7_2, false),
    ] {
        let eliza = Eliza::options().version(version).start().await;
        eliza.add_agent(ROOM);
        let streams = version == ElizaVersion::V1_7_2;
        eliza.replies(AgentReply::default().chunks(1));
        let mut client = enter_room(&eliza).await;
        client.emit("2", &message("hello")).await;
        client.event("messageBroadcast").await;
        client.event("messageAck").await;
        if streams {
            client.event("messageStreamChunk").await;
        }
        assert_eq!(client.event("messageBroadcast").await[0]["text"], "You said: hello");
        if completes {
            let complete = json!({"channelId": ROOM, "serverId": DEFAULT_SERVER});
            assert_eq!(client.event("messageComplete").await, [complete]);
        }
        client.nothing_more().await;
    }
}

#[tokio::test]
async fn what_is_unknown_is_ignored_and_an_event_without_a_payload_kills_the_oldest() {
    for version in [ElizaVersion::V1_4, ElizaVersion::V1_7_2, ElizaVersion::V1_2] {
        let eliza = Eliza::options().version(version).start().await;
        let mut client = enter_room(&eliza).await;
        for name in ["join", "leave", "request-world-state", "3", "hello"] {
            client.call(9, name, &json!({"roomId": ROOM, "agentId": AGENT})).await;
        }
        for payload in
            [json!({"text": "x", "roomId": ROOM}), json!({"type": 1}), json!({"type": 7, "payload": {}})]
        {
            client.emit("message", &payload).await;
        }
        client.say(r#"42["message"]"#).await;
        client.nothing_more().await;
        assert_eq!(eliza.emitted().len(), 10);
        client.say(r#"42["1"]"#).await;
        if version != ElizaVersion::V1_2 {
            client.event("messageError").await;
            assert!(!eliza.was_killed());
            continue;
        }
        assert_eq!(client.next().await, None);
        assert!(eliza.was_killed());
        let refused = async || tokio::net::TcpStream::connect(eliza.address()).await.is_err();
        crate::eventually(DEADLINE, refused).await;
        eliza.restart().await;
        enter_room(&eliza).await;
    }
}

#[tokio::test]
async fn rooms_are_lost_with_the_connection() {
    let eliza = Eliza::start().await;
    let mut client = enter_room(&eliza).await;
    eliza.disconnect();
    assert_eq!(client.hear().await, "41");
    client.nothing_more().await;
    client.say(&format!(r#"40{{"entityId":"{USER}"}}"#)).await;
    assert!(client.hear().await.starts_with("40{"));
    client.event("authenticated").await;
    client.event("connection_established").await;
    eliza.say(ROOM, USER, "nobody hears this");
    client.nothing_more().await;
    eliza.cut();
    assert_eq!(client.next().await, None);
    eliza.connected(0, DEADLINE).await;
    let mut client = enter_room(&eliza).await;
    eliza.stop().await;
    assert_eq!(client.next().await, None);
    assert!(tokio::net::TcpStream::connect(eliza.address()).await.is_err());
    eliza.restart().await;
    let mut client = enter(&eliza).await;
    assert_eq!((eliza.members(ROOM), eliza.joins(ROOM), eliza.connections()), (0, 2, 1));
    client.nothing_more().await;
}

#[tokio::test]
async fn old_messages_come_again_if_that_is_how_it_was_started() {
    let eliza = Eliza::options().replays(2).start().await;
    for text in ["one", "two", "three"] {
        eliza.say(ROOM, USER, text);
    }
    let mut client = enter_room(&eliza).await;
    for text in ["two", "three"] {
        assert_eq!(client.event("messageBroadcast").await[0]["text"], text);
    }
    client.nothing_more().await;
}

#[tokio::test]
async fn what_happens_in_a_channel_is_told_there() {
    let eliza = Eliza::start().await;
    let mut client = enter_room(&eliza).await;
    let mut elsewhere = enter(&eliza).await;
    let id = eliza.agent_says(ROOM, "hello");
    is_like(&client.event("messageBroadcast").await[0], json!({"id": id, "senderId": AGENT}));
    let id = eliza.acts(ROOM, None, "looking");
    let first = client.event("messageBroadcast").await.remove(0);
    assert_eq!(eliza.acts(ROOM, Some(&id), "found"), id);
    let second = client.event("messageBroadcast").await.remove(0);
    is_like(&second, json!({"id": id, "text": "found", "messageServerId": DEFAULT_SERVER, "serverId": null}));
    assert!(first["id"] == second["id"] && second["updatedAt"].is_u64());
    eliza.delete(ROOM, &id);
    eliza.clear(ROOM);
    eliza.update_channel(ROOM, &json!({"name": "new"}));
    eliza.delete_channel(ROOM);
    eliza.emit_to(ROOM, "controlMessage", &json!({"action": "enable_input"}));
    let expected = [
        ("messageDeleted", json!({"messageId": id, "channelId": ROOM})),
        ("channelCleared", json!({ "channelId": ROOM })),
        ("channelUpdated", json!({"channelId": ROOM, "updates": {"name": "new"}})),
        ("channelDeleted", json!({ "channelId": ROOM })),
        ("controlMessage", json!({"action": "enable_input"})),
    ];
    for (name, payload) in expected {
        assert_eq!(client.event(name).await, [payload]);
    }
    eliza.emit("unauthorized", &json!("why"));
    assert_eq!(client.event("unauthorized").await, [json!("why")]);
    assert_eq!(elsewhere.event("unauthorized").await, [json!("why")]);
}

#[tokio::test]
async fn those_who_subscribe_get_the_log() {
    let eliza = Eliza::start().await;
    let mut client = enter(&eliza).await;
    eliza.log("fatal", "nobody reads this");
    client.emit("update_log_filters", &json!({})).await;
    let refused = json!({"success": false, "error": "Not subscribed to log stream"});
    assert_eq!(client.event("log_filters_updated").await, [refused]);
    client.say(r#"42["subscribe_logs"]"#).await;
    assert_eq!(client.event("log_subscription_confirmed").await[0]["subscribed"], true);
    client.emit("update_log_filters", &json!({"level": "warn"})).await;
    let taken = json!({"success": true, "filters": {"level": "warn"}});
    assert_eq!(client.event("log_filters_updated").await, [taken]);
    eliza.log("info", "too little");
    eliza.log("error", "enough");
    let entry = client.event("log_stream").await.remove(0);
    is_like(&entry, json!({"type": "log_entry"}));
    is_like(&entry["payload"], json!({"level": 50, "msg": "enough"}));
    client.emit("update_log_filters", &json!({"agentName": "Eliza"})).await;
    client.event("log_filters_updated").await;
    eliza.log("fatal", "of no agent");
    client.say(r#"42["unsubscribe_logs"]"#).await;
    assert_eq!(client.event("log_subscription_confirmed").await[0]["subscribed"], false);
    eliza.log("fatal", "nobody reads this");
    client.nothing_more().await;
}

#[tokio::test]
async fn the_documented_dialect_is_that_of_the_page() {
    let eliza = Eliza::options().dialect(ElizaDialect::Documented).start().await;
    let mut client = Raw::joined(eliza.address(), "").await;
    let mut other = Raw::joined(eliza.address(), "").await;
    client.emit("join", &json!({"roomId": ROOM, "agentId": AGENT})).await;
    other.emit("join", &json!({"roomId": ROOM, "agentId": AGENT})).await;
    crate::eventually(DEADLINE, async || eliza.members(ROOM) == 2).await;
    client.emit("message", &json!({"text": "hi", "roomId": ROOM, "userId": USER, "name": "Ada"})).await;
    for client in [&mut client, &mut other] {
        let told = client.event("messageBroadcast").await.remove(0);
        is_like(
            &told,
            json!({"text": "hi", "roomId": ROOM, "senderId": USER, "senderName": "Ada", "channelId": null,
                "serverId": DEFAULT_SERVER}),
        );
        let answer = client.event("messageBroadcast").await.remove(0);
        is_like(&answer, json!({"senderId": AGENT, "roomId": ROOM, "actions": ["REPLY"]}));
        client.event("messageComplete").await;
    }
    client.emit("request-world-state", &json!({ "roomId": ROOM })).await;
    let world = client.event("world-state").await.remove(0);
    assert!(world["agents"][AGENT].is_object() && world["channels"][ROOM].is_object(), "{world}");
    assert_eq!(
        (&world["users"][USER]["name"], world["messages"][ROOM].as_array().unwrap().len()),
        (&json!("Ada"), 2)
    );
    client.emit("leave", &json!({"roomId": ROOM, "agentId": AGENT})).await;
    client.emit("join", &json!({})).await;
    assert_eq!(client.event("error").await[0]["error"], "roomId is required");
    eliza.log("info", "working");
    is_like(&client.event("logEntry").await[0], json!({"level": 30, "msg": "working", "agentName": "Eliza"}));
    assert_eq!(eliza.members(ROOM), 1);
    client.call(1, "1", &json!({ "channelId": ROOM })).await;
    client.nothing_more().await;
}

#[tokio::test]
async fn it_pings_as_it_was_started_and_drops_those_who_do_not_answer() {
    let timers = Timers {
        ping_interval: Duration::from_millis(20),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000,
    };
    let eliza = Eliza::options().version(ElizaVersion::V1_2).timers(timers).start().await;
    let mut client = Raw::dial(eliza.address()).await;
    client.pongs = false;
    let open: Value = serde_json::from_str(client.hear().await.strip_prefix('0').unwrap()).unwrap();
    assert_eq!((&open["pingInterval"], &open["maxPayload"]), (&json!(20), &json!(1_000)));
    client.say("40").await;
    let mut pings = 0;
    while let Some(message) = client.next().await {
        pings += usize::from(message.to_text().is_ok_and(|text| text == "2"));
    }
    assert_eq!(pings, 1);
    eliza.connected(0, DEADLINE).await;
}
