//! The script that streamers paste in, run by a real Lua, with a client of NATS on the other side of the daemon.

use pontoon_testkit::{LuaApp, LuaScript, RanCommand, eventually};
use serde_json::json;

use super::Fixture;
use crate::support::DEADLINE;

const LISTEN: &str = r#"listen = { address = "127.0.0.1:0", token = "canary-t0ken" }"#;
/// The title under which the script has its socket in the app.
const SOCKET: &str = "pontoon";
/// How much faster time passes in the app. Its heartbeats wait for 45 seconds of the app's time.
const SPEED: f64 = 5.0;

/// The app with the script in it, let in by the daemon. `None` where there may be no Lua.
async fn connected(fixture: &mut Fixture, fill_in: impl FnOnce(LuaScript) -> LuaScript) -> Option<LuaApp> {
    if !LuaApp::available() {
        return None;
    }
    let url = fixture.daemon.listener("avatars").await;
    let script = fill_in(LuaScript::pontoon(&url, "canary-t0ken"));
    let app = LuaApp::options().speed(SPEED).start(&script).await;
    assert_eq!(fixture.event("socket.opened").await.1["title"], "main");
    welcomed(&app, 1).await;
    Some(app)
}

/// The script has been let in so many times, and knows.
async fn welcomed(app: &LuaApp, times: usize) {
    let logged = || app.log().iter().filter(|line| line.contains("connected as main")).count();
    eventually(DEADLINE, async || logged() == times).await;
}

#[tokio::test]
async fn the_script_and_a_client_of_nats_exchange_messages() {
    let mut fixture = Fixture::start(LISTEN).await;
    let Some(app) = connected(&mut fixture, |script| script).await else { return };
    app.fire("chatMessage", json!([{"displayName": "Ann"}, "see http://a.example/"])).await;
    let (name, body) = fixture.event("socket.message").await;
    assert_eq!(name, "chatMessage");
    let data = &body["raw"]["data"];
    assert_eq!(
        (&data["user"]["displayName"], &data["message"]),
        (&json!("Ann"), &json!("see http://a.example/"))
    );

    let reply = fixture
        .ask(
            "script.send",
            r#"{"message":{"type":"runCommand","command":"!go http:\/\/a.example\/","quiet":true}}"#,
        )
        .await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    let ran = [RanCommand { command: "!go http://a.example/".to_owned(), quiet: true }];
    eventually(DEADLINE, async || app.commands() == ran).await;
    let reply = fixture.ask("message.send", r#"{"channel":"script/main","text":"Hello / chat"}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    eventually(DEADLINE, async || app.chat() == ["Hello / chat"]).await;

    let reply = fixture.ask("script.send", r#"{"message":{"type":"dance"}}"#).await;
    assert_eq!(reply.status, "sent", "{reply:?}");
    let (_, body) = fixture.event("error.raised").await;
    assert!(body["error"]["message"].as_str().unwrap().contains("dance"), "{body}");
    assert_eq!(app.failures(), [""; 0]);
}

#[tokio::test]
async fn the_script_comes_back_after_a_break_a_restart_of_the_daemon_and_f5() {
    let lines = LISTEN.replace(":0", &format!(":{}", free_port()));
    let mut fixture = Fixture::start(&lines).await;
    let Some(app) = connected(&mut fixture, |script| script).await else { return };
    app.cut(SOCKET);
    fixture.event("socket.failed").await;
    assert_eq!(fixture.event("gap.detected").await.1["link"], "script/main");
    welcomed(&app, 2).await;

    fixture.daemon.restart();
    assert_eq!(fixture.event("socket.opened").await.1["title"], "main");
    welcomed(&app, 3).await;
    app.reload().await;
    fixture.event("socket.opened").await;
    welcomed(&app, 4).await;

    // However often it came back, an event is forwarded once.
    app.fire("raid", json!([{"displayName": "Ben"}])).await;
    app.fire("follower", json!([{"displayName": "Eve"}])).await;
    let names = [fixture.event("socket.message").await.0, fixture.event("socket.message").await.0];
    assert_eq!(names, ["raid", "follower"]);
    assert_eq!(app.failures(), [""; 0]);
}

#[tokio::test]
async fn the_token_goes_in_the_request_as_well() {
    let mut fixture = Fixture::start(LISTEN).await;
    let in_request = |script: LuaScript| script.code("pontoon_token_in_request", "true");
    let Some(app) = connected(&mut fixture, in_request).await else { return };
    assert_eq!(fixture.ask("message.send", r#"{"channel":"script/main","text":"hi"}"#).await.status, "sent");
    eventually(DEADLINE, async || app.chat() == ["hi"]).await;
    assert!(!fixture.daemon.log().contains("canary"), "{}", fixture.daemon.log());
}

#[tokio::test]
async fn a_script_with_a_wrong_token_is_refused_with_the_reason() {
    let mut fixture = Fixture::start(LISTEN).await;
    if !LuaApp::available() {
        return;
    }
    let url = fixture.daemon.listener("avatars").await;
    let app = LuaApp::options().speed(SPEED).start(&LuaScript::pontoon(&url, "wrong")).await;
    eventually(DEADLINE, async || app.log().iter().any(|line| line.contains("check pontoon_token"))).await;
    assert_eq!(fixture.ask("list", "").await.body["data"], json!([]));
}

/// A free port: the daemon listens on it again after a restart. It is below those that the system gives to others meanwhile
/// (`net.ipv4.ip_local_port_range`).
fn free_port() -> u16 {
    let first = 20_000 + std::process::id() as u16 % 10_000;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_768).find(is_free).expect("a port is free")
}
