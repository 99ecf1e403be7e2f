//! What outlives the daemon besides events, jobs and keys of commands: what callers joined, what connectors remember, the sessions
//! of services that resume them, and which events were published last.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_nats::Client;
use pontoon_sdk::Raw;
use pontoon_sdk::socketio::{Event, Frame};
use pontoon_testkit::{
    Daemon, DaemonConfig, Dir, Echo, MinChat, NatsServer, SocketIoServer, WebSocketServer, Welcome,
    eventually,
};
use serde_json::{Value, json};

use crate::support::{DEADLINE, SilentService, ask, contents, filled, instance, link_state, start};

/// How a daemon ends.
const ENDS: [&str; 2] = ["KILL", "TERM"];

/// A daemon with one instance, named `any`, that keeps events in a folder.
struct Bridge<S> {
    // Dropped in this order.
    daemon: Daemon,
    service: S,
    nats: NatsServer,
    client: Client,
    kind: &'static str,
    dir: Dir,
}

impl<S> Bridge<S> {
    async fn start(kind: &'static str, settings: &str, service: S) -> Self {
        let (nats, dir) = (NatsServer::start().await, Dir::new("restarts"));
        let client = nats.client().await;
        let daemon = start(config(&nats, &dir, kind, settings));
        let bridge = Self { daemon, service, nats, client, kind, dir };
        bridge.ready().await;
        bridge
    }

    async fn ready(&self) {
        link_state(&self.client, &self.daemon, self.kind, "any", |link| link["phase"] == "ready").await;
    }

    /// Waits until the next run has these bytes, or lacks them.
    async fn kept(&self, text: &str, is_kept: bool) {
        let found = |bytes: Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        // It is written again now and then, and is away in between for a moment.
        eventually(DEADLINE, async || fs::read(self.file()).is_ok_and(|bytes| found(bytes) == is_kept)).await;
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(format!("{}.any/checkpoints", self.kind))
    }

    async fn end(&mut self, how: &str) {
        self.daemon.signal(how);
        self.daemon.wait_exit(DEADLINE).await;
    }

    async fn restart(&mut self, how: &str) {
        self.end(how).await;
        self.daemon.restart();
        self.ready().await;
    }

    async fn ask(&self, operation: &str, body: &Value) -> String {
        let subject = format!("pontoon.command.{}.any.{operation}", self.kind);
        ask(&self.client, &subject, &body.to_string(), &[]).await.status
    }

    /// What the stream holds once it has this many: texts of messages, and gaps with whether the service has resumed.
    async fn stored(&self, number: u64) -> Vec<String> {
        filled(&self.nats, "PONTOON_ANY", number, DEADLINE).await;
        let events = contents(&self.nats, "PONTOON_ANY").await;
        let stored = events.iter().map(|(_, body)| match body["reason"].as_str() {
            Some(reason) => format!("{reason} {}", body["recovered"]),
            None => body["message"]["text"].as_str().unwrap_or_default().to_owned(),
        });
        stored.collect()
    }
}

fn config(nats: &NatsServer, dir: &Dir, kind: &str, settings: &str) -> DaemonConfig {
    let line = format!("delivery.spool.path = {:?}", dir.path());
    DaemonConfig::new(nats).with(&line).connector("any", kind, settings)
}

async fn socketio(pid: &'static str, settings: &str) -> Bridge<SocketIoServer> {
    let service = SocketIoServer::start().await;
    service.welcome(session(pid));
    let settings = said(&service, settings);
    Bridge::start("socketio", &settings, service).await
}

fn session(pid: &str) -> Welcome {
    Welcome::ConfirmWith(json!({"sid": "s", "pid": pid}))
}

fn said(service: &SocketIoServer, settings: &str) -> String {
    format!(
        "url = \"{}\"\nevents.said = {{ type = \"message.created\", channel = \"/0/room\", id = \"/0/id\", version = \"/0/id\", text = \"/0/text\" }}\n{settings}",
        service.url()
    )
}

/// A message, and behind it the place in the session.
fn at(number: u64) -> Frame {
    let value = json!({"room": "r", "id": format!("m{number}"), "text": number.to_string()});
    let place = format!("offset-{number}");
    Frame::Event(Event::new("said", vec![Raw::json(&value).unwrap(), Raw::json(&place).unwrap()]))
}

#[tokio::test]
async fn a_session_is_resumed_after_a_restart_and_the_gap_says_whether_it_was() {
    for how in ENDS {
        let mut bridge = socketio("first", "").await;
        bridge.service.send(&at(1));
        assert_eq!(bridge.stored(1).await, ["1"], "{how}");
        bridge.kept("offset-1", true).await;
        bridge.restart(how).await;
        // A server forgets the session of a client that disconnects from the namespace.
        assert!(!bridge.service.peer(0).others.contains(&"41".to_owned()), "{how}");
        let auth = bridge.service.peer(1).connects[0].auth.clone();
        assert_eq!(auth, Some(json!({"pid": "first", "offset": "offset-1"})), "{how}");
        bridge.service.send(&at(2));
        assert_eq!(bridge.stored(3).await, ["1", "restarted true", "2"], "{how}");
        // Now the server has forgotten the session.
        bridge.kept("offset-2", true).await;
        bridge.service.welcome(session("second"));
        bridge.restart(how).await;
        assert_eq!(bridge.service.peer(2).connects[0].auth.clone().unwrap()["offset"], "offset-2", "{how}");
        bridge.service.send(&at(3));
        let stored = bridge.stored(5).await;
        assert_eq!(stored, ["1", "restarted true", "2", "restarted false", "3"], "{how}");
    }
}

#[tokio::test]
async fn a_session_is_not_ahead_of_events_that_neither_the_disk_nor_nats_has() {
    let mut bridge = socketio("first", "").await;
    bridge.service.send(&at(1));
    bridge.stored(1).await;
    bridge.kept("offset-1", true).await;
    // Nothing is accepted from now on, though what goes with it could be written.
    bridge.nats.kill();
    let folder = bridge.file().parent().unwrap().to_owned();
    let segments: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let segment = segments.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "events"));
    let segment = segment.unwrap();
    let stem = segment.file_stem().unwrap().to_str().unwrap();
    let next = format!("{:0width$}.events", stem.parse::<u64>().unwrap() + 1, width = stem.len());
    let in_the_way = segment.with_file_name(next);
    fs::create_dir(&in_the_way).unwrap();
    fs::remove_file(segment).unwrap();
    bridge.service.send(&at(2));
    let daemon = &mut bridge.daemon;
    eventually(DEADLINE, async || {
        let status = instance(daemon, "any").await;
        status.is_some_and(|status| {
            status["spool"]["on_disk"] == false && status["unconfirmed_events"].as_u64() >= Some(1)
        })
    })
    .await;
    bridge.end("KILL").await;
    bridge.nats.restart().await;
    fs::remove_dir(in_the_way).unwrap();
    bridge.daemon.restart();
    bridge.ready().await;
    // The service sends again what was lost.
    assert_eq!(bridge.service.peer(1).connects[0].auth.clone().unwrap()["offset"], "offset-1");
    bridge.service.send(&at(2));
    assert_eq!(bridge.stored(3).await, ["1", "restarted true", "2"]);
}

#[tokio::test]
async fn what_is_kept_is_discarded_if_the_settings_have_changed_or_the_file_is_damaged() {
    let mut bridge = socketio("first", "").await;
    for (damaged, reason) in [(false, "the settings have changed"), (true, "the file checkpoints is damaged")]
    {
        let before = bridge.service.upgrades();
        bridge.service.send(&at(before as u64));
        bridge.kept(&format!("offset-{before}"), true).await;
        bridge.end("KILL").await;
        if damaged {
            let mut bytes = fs::read(bridge.file()).unwrap();
            let place = bytes.windows(7).position(|window| window == b"offset-").unwrap();
            bytes[place] = b'x';
            fs::write(bridge.file(), bytes).unwrap();
        } else {
            let settings = said(&bridge.service, "events.other = { type = \"log.entry\" }");
            bridge.daemon.reconfigure(config(&bridge.nats, &bridge.dir, "socketio", &settings));
        }
        bridge.daemon.restart();
        bridge.ready().await;
        assert!(bridge.daemon.log().contains(reason), "{}", bridge.daemon.log());
        assert_eq!(bridge.service.peer(before).connects[0].auth, None, "{reason}");
    }
}

#[tokio::test]
async fn what_is_sent_again_after_a_restart_is_published_once() {
    for how in ENDS {
        let mut bridge = socketio("first", "").await;
        bridge.service.send(&at(1));
        bridge.stored(1).await;
        // Their identities are written with it.
        bridge.kept("offset-1", true).await;
        bridge.restart(how).await;
        for number in [1, 2] {
            bridge.service.send(&at(number));
        }
        assert_eq!(bridge.stored(3).await, ["1", "restarted true", "2"], "{how}");
    }
}

#[tokio::test]
async fn links_that_commands_have_opened_and_closed_stay_so() {
    for how in ENDS {
        let service = MinChat::start("key-of-the-office").await;
        service.add_user(&json!({"id": "u1", "username": "u1", "name": "U1"}));
        for chat in ["c1", "c2", "c3"] {
            service.add_chat(chat, chat, &["u1"]);
        }
        let (nats, dir) = (NatsServer::start().await, Dir::new("restarts"));
        let client = nats.client().await;
        let line = format!("delivery.spool.path = {:?}", dir.path());
        let config = DaemonConfig::new(&nats).with(&line).minchat("support", &service, "u1", &["c1"]);
        let mut daemon = start(config);
        let links = async |wanted: &[&str]| {
            eventually(DEADLINE, async || {
                let state = ask(&client, "pontoon.command.minchat.support.status", "", &[]).await.body;
                let links = state["data"]["links"].as_array().cloned().unwrap_or_default();
                let up = links.iter().all(|link| link["phase"] == "ready");
                let mut keys: Vec<_> = links.iter().filter_map(|link| link["key"].as_str()).collect();
                keys.sort_unstable();
                up && keys == wanted && state["data"]["bus"]["publishing"] == true
            })
            .await;
        };
        links(&["c1", "user"]).await;
        for (operation, chat) in
            [("room.join", "c2"), ("room.join", "c3"), ("room.leave", "c3"), ("room.leave", "c1")]
        {
            let subject = format!("pontoon.command.minchat.support.{operation}");
            let reply = ask(&client, &subject, &json!({ "channelId": chat }).to_string(), &[]).await;
            assert_eq!(reply.status, "accepted", "{operation} {chat}");
        }
        links(&["c2", "user"]).await;
        let file = dir.path().join("minchat.support/checkpoints");
        eventually(DEADLINE, async || {
            fs::read(&file)
                .is_ok_and(|bytes| bytes.windows(10).filter(|window| window == b"room.leave").count() >= 1)
        })
        .await;
        daemon.signal(how);
        daemon.wait_exit(DEADLINE).await;
        daemon.restart();
        links(&["c2", "user"]).await;
    }
}

#[tokio::test]
async fn a_link_that_a_command_has_opened_has_a_gap_in_the_next_run() {
    let (echo, other) = (Echo::start().await, Echo::start().await);
    let settings = format!(
        "sockets.fixed = {{ url = \"{}\" }}\ndynamic = {{ enabled = true, hosts = [\"127.0.0.1\"], addresses = [\"127.0.0.1\"] }}",
        echo.url()
    );
    let mut bridge = Bridge::start("streamavatars", &settings, echo).await;
    let socket = json!({ "title": "made", "url": other.url(), "reconnect": true });
    assert_eq!(bridge.ask("create", &socket).await, "acked");
    bridge.kept("create", true).await;
    for how in ENDS {
        bridge.restart(how).await;
        let gaps = async || {
            let events = contents(&bridge.nats, "PONTOON_ANY").await;
            let gaps =
                events.iter().filter(|(_, body)| body["reason"] == "restarted" && body["link"] == "made");
            gaps.count()
        };
        let runs = ENDS.iter().position(|end| *end == how).unwrap_or_default() + 1;
        eventually(DEADLINE, async || gaps().await == runs).await;
    }
}

#[tokio::test]
async fn subscriptions_and_remembered_values_of_the_generic_connector_outlive_the_daemon() {
    for how in ENDS {
        let service = WebSocketServer::start(Arc::new(SilentService)).await;
        let settings = format!(
            "url = \"ws://{}/\"\nremember = {{ session = \"/session\" }}\n\
             send_on_connect = [{{ hello = \"${{session}}\" }}]\n\
             subscriptions = {{ subscribe = {{ join = \"${{/room}}\" }}, unsubscribe = {{ leave = \"${{/room}}\" }} }}",
            service.address()
        );
        let mut bridge = Bridge::start("websocket", &settings, service).await;
        assert_eq!(bridge.ask("subscribe", &json!({"room": "a"})).await, "sent");
        assert_eq!(bridge.ask("subscribe", &json!({"room": "b"})).await, "sent");
        assert_eq!(bridge.ask("unsubscribe", &json!({"room": "a"})).await, "sent");
        bridge.service.send_text(r#"{"session":"kept-1"}"#);
        bridge.kept("kept-1", true).await;
        let before = bridge.service.texts().len();
        bridge.restart(how).await;
        eventually(DEADLINE, async || bridge.service.texts().len() >= before + 2).await;
        let texts = bridge.service.texts().split_off(before);
        assert_eq!(texts, [r#"{"hello":"kept-1"}"#, r#"{"join":"b"}"#], "{how}");
    }
}

#[tokio::test]
async fn what_a_script_remembers_outlives_the_daemon_until_the_script_changes() {
    const SCRIPT: &str = r#"
        export default {
          open(out, remembered) { out.send(JSON.stringify(remembered)); out.ready(); },
          decode(frame, out) {
            out.remember("cursor", frame.json.cursor);
            out.publish({ type: "message.created", message: { id: `${frame.json.cursor}` } });
          },
        };
    "#;
    let (service, scripts) = (WebSocketServer::start(Arc::new(SilentService)).await, Dir::new("scripts"));
    let script = scripts.write("feed.js", SCRIPT);
    let settings = format!("script = \"{}\"\nurl = \"ws://{}/\"", script.display(), service.address());
    let mut bridge = Bridge::start("script", &settings, service).await;
    bridge.service.send_text(r#"{"cursor":4711}"#);
    bridge.kept("4711", true).await;
    for how in ENDS {
        let before = bridge.service.texts().len();
        bridge.restart(how).await;
        eventually(DEADLINE, async || bridge.service.texts().len() > before).await;
        assert_eq!(bridge.service.texts()[before], r#"[{"data":4711,"key":"cursor"}]"#, "{how}");
    }
    scripts.write("feed.js", &format!("{SCRIPT}// changed"));
    let before = bridge.service.texts().len();
    bridge.restart("KILL").await;
    eventually(DEADLINE, async || bridge.service.texts().len() > before).await;
    assert_eq!(bridge.service.texts()[before], "[]");
}
