use pontoon_sdk::transcript::FrameText as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;
use crate::raw::{DEADLINE, Raw};

fn frame(text: &str) -> Frame {
    Frame::from_text(text).unwrap()
}

fn texts(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| frame.to_text()).collect()
}

fn short(ping_interval: u64, ping_timeout: u64) -> Timers {
    let (ping_interval, ping_timeout) =
        (Duration::from_millis(ping_interval), Duration::from_millis(ping_timeout));
    Timers { ping_interval, ping_timeout, max_payload: 1_000 }
}

#[tokio::test]
async fn a_connection_is_opened_and_its_connect_confirmed() {
    let server = SocketIoServer::start().await;
    let mut client = Raw::dial(server.address()).await;
    let open: Value = serde_json::from_str(client.hear().await.strip_prefix('0').unwrap()).unwrap();
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(25_000), &json!(20_000)));
    assert_eq!((&open["maxPayload"], &open["upgrades"]), (&json!(1_000_000), &json!([])));
    client.say(r#"40/chat,{"token":"t"}"#).await;
    assert_eq!(client.hear().await, r#"40/chat,{"sid":"socket-0"}"#);
    server.joined(1, DEADLINE).await;
    let connect = Connect { namespace: "/chat".into(), auth: Some(json!({"token": "t"})) };
    assert_eq!(server.peer(0).connects, [connect]);
    server.send(&frame("hello#3 1 [2]"));
    assert_eq!(client.hear().await, r#"42/chat,3["hello",1,[2]]"#);
    server.disconnect();
    assert_eq!(client.hear().await, "41/chat,");
    client.nothing_more().await;
}

#[tokio::test]
async fn a_connect_is_refused_without_a_close_or_met_with_silence() {
    let server = SocketIoServer::start().await;
    server.welcome(Welcome::refuse("Valid entityId required"));
    let mut client = Raw::join(server.address(), "").await;
    assert_eq!(client.hear().await, r#"44{"message":"Valid entityId required"}"#);
    server.welcome(Welcome::Silence);
    client.say("40").await;
    client.nothing_more().await;
    server.welcome(Welcome::ConfirmWith(json!({"sid": "a", "pid": "b"})));
    client.say(r#"40{"pid":"b","offset":"c"}"#).await;
    assert_eq!(client.hear().await, r#"40{"pid":"b","sid":"a"}"#);
    assert_eq!(server.peer(0).connects.len(), 3);
    assert_eq!(server.connections().len(), 1);
}

#[tokio::test]
async fn those_who_speak_another_protocol_are_refused() {
    let server = SocketIoServer::start().await;
    for query in ["EIO=3&transport=websocket", "EIO=4&transport=polling", ""] {
        let refused = Raw::dial_with(server.address(), query).await.err();
        assert!(matches!(refused, Some(Error::Http(ref answer)) if answer.status() == 400), "{query}");
    }
    let _taken = Raw::dial_with(server.address(), "token=t&EIO=4&transport=websocket").await.unwrap();
    assert_eq!(server.requests().last().unwrap().parameter("token"), Some("t"));
}

#[tokio::test]
async fn what_comes_is_read_as_frames() {
    let server = SocketIoServer::start().await;
    let mut client = Raw::joined(server.address(), "").await;
    client.say(r#"42["plain"]"#).await;
    client.say(r#"4212["asked",{"n":1e999},null]"#).await;
    client.say(r#"437[true]"#).await;
    client.say(r#"452-0["file",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#).await;
    client.say_binary(&[0, 1]).await;
    client.say("3").await;
    client.say_binary(&[2]).await;
    client.say(r#"461-8[{"_placeholder":true,"num":0}]"#).await;
    client.say_binary(&[]).await;
    client.say("41").await;
    client.nothing_more().await;
    let expected = [
        "plain",
        r#"asked#12 {"n":1e999} null"#,
        "#7 true",
        r#"file#0 {"_placeholder":true,"num":1} {"_placeholder":true,"num":0} @AAE= @Ag=="#,
        r#"#8 {"_placeholder":true,"num":0} @"#,
    ];
    let peer = server.peer(0);
    assert_eq!(texts(&peer.frames), expected);
    assert_eq!((peer.pongs, peer.others), (1, vec!["41".to_owned()]));
}

#[tokio::test]
async fn what_is_wrong_is_shown_as_it_came() {
    let server = SocketIoServer::start().await;
    let mut client = Raw::joined(server.address(), "").await;
    let wrong = [
        r#"42{"no":"array"}"#,
        r#"42[1]"#,
        r#"42[]"#,
        r#"42/other,["a"]"#,
        r#"43["no number"]"#,
        r#"4299999999999999999999["a"]"#,
        r#"45["no count"]"#,
        "44{}",
        "9",
    ];
    for text in wrong {
        client.say(text).await;
    }
    client.say_binary(b"nobody asked").await;
    client.say(r#"451-["cut off",{"_placeholder":true,"num":0}]"#).await;
    client.say(r#"42["next"]"#).await;
    client.nothing_more().await;
    let frames = server.frames();
    assert_eq!(frames.len(), wrong.len() + 3);
    let malformed = |frame: &Frame| matches!(frame, Frame::Malformed(_));
    assert!(frames[..frames.len() - 1].iter().all(malformed), "{frames:?}");
    assert_eq!(frames[0].to_text(), format!("packet {}", wrong[0]));
    assert_eq!(frames.last().unwrap().to_text(), "next");
}

#[tokio::test]
async fn frames_and_packets_are_sent_as_they_are_given() {
    let server = SocketIoServer::start().await;
    let mut client = Raw::joined(server.address(), "").await;
    server.joined(1, DEADLINE).await;
    for (text, packet) in [
        ("open", r#"42["open"]"#),
        (r#""a 1" {"b":[1, 2]}"#, r#"42["a 1",{"b":[1, 2]}]"#),
        ("#5 \"ok\"", r#"435["ok"]"#),
        ("packet 42[\"cut", "42[\"cut"),
        ("packet 6", "6"),
    ] {
        server.send(&frame(text));
        assert_eq!(client.hear().await, packet);
    }
    server.send(&frame(r#"file#1 {"_placeholder":true,"num":0} @AAE="#));
    assert_eq!(client.hear().await, r#"451-1["file",{"_placeholder":true,"num":0}]"#);
    assert_eq!(client.next().await, Some(Message::binary(vec![0, 1])));
    server.send_text("anything");
    server.send_binary(b"at all");
    assert_eq!(client.hear().await, "anything");
    assert_eq!(client.next().await, Some(Message::binary(b"at all".to_vec())));
}

#[tokio::test]
async fn pings_are_sent_and_those_who_do_not_answer_are_dropped() {
    let server = SocketIoServer::start().await;
    // The timeout leaves room for a slow machine.
    server.timers(short(5, 2_000));
    let mut good = Raw::joined(server.address(), "").await;
    server.joined(1, DEADLINE).await;
    let reading = async { while good.next().await.is_some() {} };
    tokio::select! {
        () = reading => panic!("who answers is kept"),
        () = eventually(DEADLINE, async || server.peer(0).pongs >= 3) => {}
    }
    drop(good);
    server.connected(0, DEADLINE).await;

    server.timers(short(5, 20));
    let mut dead = Raw::joined(server.address(), "").await;
    dead.pongs = false;
    assert_eq!(dead.hear().await, "2");
    assert_eq!(dead.next().await, None);

    server.timers(short(1, 1));
    server.pings(false);
    let mut left_alone = Raw::joined(server.address(), "").await;
    left_alone.pongs = false;
    left_alone.nothing_more().await;
    server.freeze();
    server.pings(true);
    server.thaw();
    assert_eq!(left_alone.hear().await, "2");
}

#[tokio::test]
async fn a_connection_may_begin_in_any_way() {
    let server = SocketIoServer::start().await;
    server.opening(Opening::Text("0{\"sid\":5".into()));
    let mut client = Raw::dial(server.address()).await;
    assert_eq!(client.hear().await, "0{\"sid\":5");
    server.opening(Opening::Nothing);
    let mut client = Raw::dial(server.address()).await;
    client.nothing_more().await;
    client.close().await;
}
