//! Getting in, staying in, and coming back.

use super::*;
use crate::Listener;

#[tokio::test]
async fn the_first_frame_is_the_token() {
    let Some(stage) = Stage::open().await else { return };
    assert_eq!(stage.heard("auth"), [json!({ "type": "auth", "token": TOKEN, "title": "main" })]);
    assert_eq!(stage.server.texts().len(), 1);
    let requests = stage.server.requests();
    assert_eq!((requests[0].path.as_str(), requests[0].query.len()), ("/", 0));
    assert_eq!(requests[0].header("sec-websocket-protocol"), None);
    assert_eq!(stage.app.failures(), [""; 0]);
}

#[tokio::test]
async fn the_token_can_go_in_the_request_however_the_app_reads_the_third_argument() {
    for (meaning, offered) in [
        (ThirdArgument::Subprotocols, vec!["Sec-WebSocket-Protocol", TOKEN]),
        (ThirdArgument::HeaderPairs, vec![TOKEN]),
    ] {
        let options = LuaApp::options().third_argument(meaning);
        let Some(stage) =
            Stage::open_with(options, |script| script.code("pontoon_token_in_request", "true")).await
        else {
            return;
        };
        let request = stage.server.requests().remove(0);
        assert_eq!((request.subprotocols(), request.parameter("title")), (offered, Some("main")));
        stage.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
        stage.hears("event", 1).await;
        assert_eq!(stage.heard("auth"), [Value::Null; 0]);
    }
}

#[tokio::test]
async fn a_socket_may_open_before_it_is_made() {
    let Some(stage) = Stage::open_with(LuaApp::options().opens_at_once(), |script| script).await else {
        return;
    };
    assert_eq!(stage.heard("auth").len(), 1);
    assert_eq!(stage.app.failures(), [""; 0]);
}

#[tokio::test]
async fn a_wrong_token_is_tried_slowly_and_the_log_says_why() {
    let Some(stage) = Stage::begin(LuaApp::options(), |script| script.text("pontoon_token", "wrong")).await
    else {
        return;
    };
    let mut before = stage.next_dial().await;
    for times in 1..=3 {
        eventually(DEADLINE, async || stage.logged("check pontoon_token") == times).await;
        let at = stage.next_dial().await;
        assert!((30.0..33.0).contains(&(at - before)), "{:?}", stage.app.dialled());
        before = at;
    }
    assert_eq!(stage.logged("connected"), 0);
}

#[tokio::test]
async fn waits_grow_while_the_daemon_is_gone_and_nothing_is_told_twice_after() {
    let Some(stage) = Stage::open().await else { return };
    stage.server.stop_listening().await;
    stage.server.cut();
    let mut waits = Vec::new();
    let mut before: Option<f64> = None;
    for failures in 1..=8 {
        eventually(DEADLINE, async || stage.logged("Trying again") == failures).await;
        let at = stage.next_dial().await;
        waits.extend(before.map(|before| (at - before).round()));
        before = Some(at);
    }
    // A second more than the wait each, for an old socket to go.
    assert_eq!(waits, [3.0, 5.0, 9.0, 17.0, 31.0, 31.0, 31.0]);
    eventually(DEADLINE, async || stage.logged("Trying again") == 9).await;
    stage.server.listen_again().await;
    stage.next_dial().await;
    stage.joined(2).await;
    for again in 3..=4 {
        stage.server.hang_up();
        stage.server.connected(0, DEADLINE).await;
        stage.next_dial().await;
        stage.joined(again).await;
    }
    stage.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
    stage.app.fire("jumpCatchStar", json!([{ "displayName": "Ben" }])).await;
    let events = stage.hears("event", 2).await;
    assert_eq!([&events[0]["event"], &events[1]["event"]], ["raid", "jumpCatchStar"]);
    assert_eq!(events.len(), 2);
    assert_eq!(stage.app.subscriptions().len(), 16);
    assert_eq!(stage.app.failures(), [""; 0]);
}

#[tokio::test]
async fn one_failure_is_one_reconnect_however_it_is_told() {
    for farewell in [Farewell::Close, Farewell::Error, Farewell::Both] {
        let Some(stage) = Stage::open_with(LuaApp::options().farewell(farewell), |script| script).await
        else {
            return;
        };
        stage.app.cut(TITLE);
        eventually(DEADLINE, async || stage.logged("Trying again in 1 s") == 1).await;
        stage.next_dial().await;
        stage.joined(2).await;
        stage.app.advance(10.0).await;
        assert_eq!((stage.app.dialled().len(), stage.logged("Trying again")), (2, 1), "{farewell:?}");
        assert_eq!(stage.app.failures(), [""; 0]);
    }
}

#[tokio::test]
async fn a_reloaded_script_drops_the_socket_of_the_one_before() {
    let Some(stage) = Stage::open().await else { return };
    for again in 2..=3 {
        // Something of the old socket's still waits for the script.
        stage.app.freeze();
        stage.server.send_text(r#"{"type":"writeChat","text":"too late"}"#);
        eventually(DEADLINE, async || stage.app.waiting() == 1).await;
        stage.app.reload().await;
        stage.app.thaw();
        eventually(DEADLINE, async || stage.app.waiting() == 0).await;
        stage.next_dial().await;
        stage.joined(again).await;
        stage.server.connected(1, DEADLINE).await;
    }
    stage.app.advance(10.0).await;
    stage.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
    assert_eq!(stage.hears("event", 1).await.len(), 1);
    assert_eq!((stage.server.upgrades(), stage.logged("Trying again")), (3, 0));
    assert_eq!((stage.app.chat(), stage.app.failures()), (vec![], vec![]));
}

#[tokio::test]
async fn the_socket_of_another_script_is_none_of_ours() {
    let Some(stage) = Stage::open().await else { return };
    let said = r#"{"type":"writeChat","text":"not for us"}"#;
    for (kind, message, code) in [("OnMessage", said, ""), ("OnError", "", ""), ("OnClose", "", "1008")] {
        stage.app.fire("websocket", json!(["another", kind, message, code])).await;
        stage.app.advance(1.0).await;
    }
    assert_eq!((stage.app.chat(), stage.app.dialled().len()), (vec![], 1));
    stage.server.connected(1, DEADLINE).await;
}

#[tokio::test]
async fn answered_heartbeats_keep_the_connection() {
    let Some(stage) = Stage::open().await else { return };
    for beats in 1..=5 {
        let delivered = stage.app.delivered();
        stage.app.advance(15.2).await;
        stage.hears("heartbeat", beats).await;
        eventually(DEADLINE, async || stage.app.delivered() == delivered + 1).await;
    }
    assert_eq!((stage.heard("heartbeat").len(), stage.server.upgrades()), (5, 1));
}

#[tokio::test]
async fn after_45_seconds_of_silence_the_script_connects_anew() {
    let Some(stage) = Stage::open().await else { return };
    stage.post.silent.store(true, Ordering::Relaxed);
    stage.app.advance(44.0).await;
    assert_eq!((stage.logged("nothing was heard"), stage.hears("heartbeat", 2).await.len()), (0, 2));
    stage.app.advance(1.5).await;
    assert_eq!(stage.logged("nothing was heard"), 1);
    stage.server.connected(0, DEADLINE).await;
    stage.next_dial().await;
    stage.joined(2).await;
    // As with a daemon that takes a connection and says nothing.
    stage.server.listener(Listener::Silent);
    stage.server.cut();
    eventually(DEADLINE, async || stage.logged("Trying again") == 2).await;
    let at = stage.next_dial().await;
    assert!((46.0..52.0).contains(&(stage.next_dial().await - at)), "{:?}", stage.app.dialled());
}

#[tokio::test]
async fn a_flood_ends_the_connection_and_not_the_script() {
    let Some(stage) = Stage::open().await else { return };
    stage.app.freeze();
    for number in 0..40 {
        stage.server.send_text(&json!({ "type": "writeChat", "text": number.to_string() }).to_string());
    }
    stage.server.connected(0, DEADLINE).await;
    stage.app.thaw();
    eventually(DEADLINE, async || stage.logged("Trying again") == 1).await;
    stage.next_dial().await;
    stage.joined(2).await;
    assert_eq!(stage.app.failures(), [""; 0]);
}

#[tokio::test]
async fn it_all_goes_by_itself_where_time_does() {
    let Some(stage) = Stage::begin(LuaApp::options().speed(50.0), |script| script).await else { return };
    eventually(DEADLINE, async || stage.logged("connected as main") > 0).await;
    stage.hears("heartbeat", 2).await;
    stage.server.send_text(r#"{"type":"runCommand","command":"!jump"}"#);
    eventually(DEADLINE, async || !stage.app.commands().is_empty()).await;
    stage.app.fire("raid", json!([{ "displayName": "Ann" }])).await;
    stage.hears("event", 1).await;
    assert_eq!(stage.app.failures(), [""; 0]);
}
