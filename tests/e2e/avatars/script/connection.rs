//! Getting in, staying in, and coming back.

use pontoon_testkit::{Farewell, Listener, ThirdArgument};

use super::*;

#[tokio::test]
async fn the_first_frame_is_the_token() {
    let Some(fixture) = Fixture::open().await else { return };
    assert_eq!(fixture.received("auth"), [json!({ "type": "auth", "token": TOKEN, "title": "main" })]);
    assert_eq!(fixture.server.texts().len(), 1);
    let requests = fixture.server.requests();
    assert_eq!((requests[0].path.as_str(), requests[0].query.len()), ("/", 0));
    assert_eq!(requests[0].header("sec-websocket-protocol"), None);
    assert_eq!(fixture.app.failures(), [""; 0]);
}

#[tokio::test]
async fn the_token_can_go_in_the_request_however_the_app_reads_the_third_argument() {
    for (meaning, offered) in [
        (ThirdArgument::Subprotocols, vec!["Sec-WebSocket-Protocol", TOKEN]),
        (ThirdArgument::HeaderPairs, vec![TOKEN]),
    ] {
        let options = LuaApp::options().third_argument(meaning);
        let Some(fixture) =
            Fixture::open_with(options, |script| script.code("pontoon_token_in_request", "true")).await
        else {
            return;
        };
        let request = fixture.server.requests().remove(0);
        assert_eq!((request.subprotocols(), request.parameter("title")), (offered, Some("main")));
        fixture.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
        fixture.receives("event", 1).await;
        assert_eq!(fixture.received("auth"), [Value::Null; 0]);
    }
}

#[tokio::test]
async fn a_socket_may_open_before_it_is_made() {
    let Some(fixture) = Fixture::open_with(LuaApp::options().opens_at_once(), |script| script).await else {
        return;
    };
    assert_eq!(fixture.received("auth").len(), 1);
    assert_eq!(fixture.app.failures(), [""; 0]);
}

#[tokio::test]
async fn a_wrong_token_is_tried_slowly_and_the_log_has_the_reason() {
    let Some(fixture) =
        Fixture::begin(LuaApp::options(), |script| script.text("pontoon_token", "wrong")).await
    else {
        return;
    };
    let mut before = fixture.next_dial().await;
    for times in 1..=3 {
        eventually(DEADLINE, async || fixture.logged("check pontoon_token") == times).await;
        let at = fixture.next_dial().await;
        assert!((30.0..33.0).contains(&(at - before)), "{:?}", fixture.app.dialled());
        before = at;
    }
    assert_eq!(fixture.logged("connected"), 0);
}

#[tokio::test]
async fn waits_grow_while_the_daemon_is_gone_and_nothing_is_sent_twice_after() {
    let Some(fixture) = Fixture::open().await else { return };
    fixture.server.stop_listening().await;
    fixture.server.cut();
    let mut waits = Vec::new();
    let mut before: Option<f64> = None;
    for failures in 1..=8 {
        eventually(DEADLINE, async || fixture.logged("Trying again") == failures).await;
        let at = fixture.next_dial().await;
        waits.extend(before.map(|before| (at - before).round()));
        before = Some(at);
    }
    // A second more than the wait each, for an old socket to go.
    assert_eq!(waits, [3.0, 5.0, 9.0, 17.0, 31.0, 31.0, 31.0]);
    eventually(DEADLINE, async || fixture.logged("Trying again") == 9).await;
    fixture.server.listen_again().await;
    fixture.next_dial().await;
    fixture.joined(2).await;
    for again in 3..=4 {
        fixture.server.hang_up();
        fixture.server.connected(0, DEADLINE).await;
        fixture.next_dial().await;
        fixture.joined(again).await;
    }
    fixture.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
    fixture.app.fire("jumpCatchStar", json!([{ "displayName": "Ben" }])).await;
    let events = fixture.receives("event", 2).await;
    assert_eq!([&events[0]["event"], &events[1]["event"]], ["raid", "jumpCatchStar"]);
    assert_eq!(events.len(), 2);
    assert_eq!(fixture.app.subscriptions().len(), 16);
    assert_eq!(fixture.app.failures(), [""; 0]);
}

#[tokio::test]
async fn one_failure_is_one_reconnect_however_it_is_reported() {
    for farewell in [Farewell::Close, Farewell::Error, Farewell::Both] {
        let Some(fixture) = Fixture::open_with(LuaApp::options().farewell(farewell), |script| script).await
        else {
            return;
        };
        fixture.app.cut(TITLE);
        eventually(DEADLINE, async || fixture.logged("Trying again in 1 s") == 1).await;
        fixture.next_dial().await;
        fixture.joined(2).await;
        fixture.app.advance(10.0).await;
        assert_eq!((fixture.app.dialled().len(), fixture.logged("Trying again")), (2, 1), "{farewell:?}");
        assert_eq!(fixture.app.failures(), [""; 0]);
    }
}

#[tokio::test]
async fn a_reloaded_script_drops_the_socket_of_the_one_before() {
    let Some(fixture) = Fixture::open().await else { return };
    for again in 2..=3 {
        // Something of the old socket's still waits for the script.
        fixture.app.freeze();
        fixture.server.send_text(r#"{"type":"writeChat","text":"too late"}"#);
        eventually(DEADLINE, async || fixture.app.waiting() == 1).await;
        fixture.app.reload().await;
        fixture.app.thaw();
        eventually(DEADLINE, async || fixture.app.waiting() == 0).await;
        fixture.next_dial().await;
        fixture.joined(again).await;
        fixture.server.connected(1, DEADLINE).await;
    }
    fixture.app.advance(10.0).await;
    fixture.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
    assert_eq!(fixture.receives("event", 1).await.len(), 1);
    assert_eq!((fixture.server.upgrades(), fixture.logged("Trying again")), (3, 0));
    assert_eq!((fixture.app.chat(), fixture.app.failures()), (vec![], vec![]));
}

#[tokio::test]
async fn the_socket_of_another_script_is_none_of_ours() {
    let Some(fixture) = Fixture::open().await else { return };
    let message_of_another = r#"{"type":"writeChat","text":"not for us"}"#;
    for (kind, message, code) in
        [("OnMessage", message_of_another, ""), ("OnError", "", ""), ("OnClose", "", "1008")]
    {
        fixture.app.fire("websocket", json!(["another", kind, message, code])).await;
        fixture.app.advance(1.0).await;
    }
    assert_eq!((fixture.app.chat(), fixture.app.dialled().len()), (vec![], 1));
    fixture.server.connected(1, DEADLINE).await;
}

#[tokio::test]
async fn answered_heartbeats_keep_the_connection() {
    let Some(fixture) = Fixture::open().await else { return };
    for beats in 1..=5 {
        let delivered = fixture.app.delivered();
        fixture.app.advance(15.2).await;
        fixture.receives("heartbeat", beats).await;
        eventually(DEADLINE, async || fixture.app.delivered() == delivered + 1).await;
    }
    assert_eq!((fixture.received("heartbeat").len(), fixture.server.upgrades()), (5, 1));
}

#[tokio::test]
async fn after_45_seconds_of_silence_the_script_connects_again() {
    let Some(fixture) = Fixture::open().await else { return };
    fixture.daemon.silent.store(true, Ordering::Relaxed);
    fixture.app.advance(44.0).await;
    assert_eq!((fixture.logged("nothing was heard"), fixture.receives("heartbeat", 2).await.len()), (0, 2));
    fixture.app.advance(1.5).await;
    assert_eq!(fixture.logged("nothing was heard"), 1);
    fixture.server.connected(0, DEADLINE).await;
    fixture.next_dial().await;
    fixture.joined(2).await;
    // As with a daemon that takes a connection and sends nothing.
    fixture.server.listener(Listener::Silent);
    fixture.server.cut();
    eventually(DEADLINE, async || fixture.logged("Trying again") == 2).await;
    let at = fixture.next_dial().await;
    assert!((46.0..52.0).contains(&(fixture.next_dial().await - at)), "{:?}", fixture.app.dialled());
}

#[tokio::test]
async fn a_flood_ends_the_connection_and_not_the_script() {
    let Some(fixture) = Fixture::open().await else { return };
    fixture.app.freeze();
    for number in 0..40 {
        fixture.server.send_text(&json!({ "type": "writeChat", "text": number.to_string() }).to_string());
    }
    fixture.server.connected(0, DEADLINE).await;
    fixture.app.thaw();
    eventually(DEADLINE, async || fixture.logged("Trying again") == 1).await;
    fixture.next_dial().await;
    fixture.joined(2).await;
    assert_eq!(fixture.app.failures(), [""; 0]);
}

#[tokio::test]
async fn it_all_goes_by_itself_where_time_does() {
    let Some(fixture) = Fixture::begin(LuaApp::options().speed(50.0), |script| script).await else { return };
    eventually(DEADLINE, async || fixture.logged("connected as main") > 0).await;
    fixture.receives("heartbeat", 2).await;
    fixture.server.send_text(r#"{"type":"runCommand","command":"!jump"}"#);
    eventually(DEADLINE, async || !fixture.app.commands().is_empty()).await;
    fixture.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
    fixture.receives("event", 1).await;
    assert_eq!(fixture.app.failures(), [""; 0]);
}
