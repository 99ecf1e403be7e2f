//! The script that is shipped for Stream Avatars, in a stub of the app, against a server in the daemon's place.

mod commands;
mod connection;
mod events;
mod stub;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pontoon_testkit::{
    Connection, LuaApp, LuaOptions, LuaScript, Refusal, Request, Service, WebSocketServer, eventually,
};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);
const TOKEN: &str = "a-token-of-24-characters";
const TITLE: &str = "pontoon";

/// The daemon's side of the script's socket.
#[derive(Default)]
struct DaemonStub {
    /// It does not answer heartbeats.
    silent: AtomicBool,
}

impl Service for DaemonStub {
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        Ok(request.subprotocols().contains(&TOKEN).then(|| TOKEN.to_owned()))
    }

    fn connected(&self, connection: &Arc<Connection>) {
        if connection.request().subprotocols().contains(&TOKEN) {
            let title = connection.request().parameter("title").unwrap();
            connection.send_text(&json!({ "type": "welcome", "title": title }).to_string());
        }
    }

    fn text(&self, connection: &Arc<Connection>, text: &str) {
        let frame: Value = serde_json::from_str(text).unwrap();
        match frame["type"].as_str() {
            Some("auth") if frame["token"] == TOKEN => {
                connection.send_text(&json!({ "type": "welcome", "title": frame["title"] }).to_string());
            }
            Some("auth") => connection.close(1008, "wrong token"),
            Some("heartbeat") if !self.silent.load(Ordering::Relaxed) => {
                connection.send_text(r#"{"type":"heartbeat"}"#);
            }
            _ => {}
        }
    }
}

/// The daemon, and the app with the script.
struct Fixture {
    server: WebSocketServer,
    daemon: Arc<DaemonStub>,
    app: LuaApp,
}

impl Fixture {
    /// The script is connected. `None` where there may be no Lua.
    async fn open() -> Option<Self> {
        Self::open_with(LuaApp::options(), |script| script).await
    }

    /// The same, with other options and settings.
    async fn open_with(options: LuaOptions, fill_in: impl FnOnce(LuaScript) -> LuaScript) -> Option<Self> {
        let fixture = Self::begin(options, fill_in).await?;
        fixture.next_dial().await;
        fixture.joined(1).await;
        Some(fixture)
    }

    /// The script has begun, and not dialled yet.
    async fn begin(options: LuaOptions, fill_in: impl FnOnce(LuaScript) -> LuaScript) -> Option<Self> {
        if !LuaApp::available() {
            return None;
        }
        let daemon = Arc::new(DaemonStub::default());
        let server = WebSocketServer::start(Arc::clone(&daemon) as Arc<dyn Service>).await;
        let script = LuaScript::pontoon(&format!("ws://{}/", server.address()), TOKEN);
        let app = options.start(&fill_in(script)).await;
        Some(Self { server, daemon, app })
    }

    /// Waits until the script has logged so many times that it is connected.
    async fn joined(&self, times: usize) {
        eventually(DEADLINE, async || self.logged("connected as main") == times).await;
        // The app's frame in which it logged that is over.
        self.app.advance(0.0).await;
    }

    /// How often the script logged something with this text.
    fn logged(&self, words: &str) -> usize {
        self.app.log().iter().filter(|line| line.contains(words)).count()
    }

    /// The frames of a type that the script sent.
    fn received(&self, kind: &str) -> Vec<Value> {
        let frames =
            self.server.texts().into_iter().map(|text| serde_json::from_str::<Value>(&text).unwrap());
        frames.filter(|frame| frame["type"] == kind).collect()
    }

    /// Waits until the script has sent so many frames of a type.
    async fn receives(&self, kind: &str, count: usize) -> Vec<Value> {
        eventually(DEADLINE, async || self.received(kind).len() >= count).await;
        self.received(kind)
    }

    /// Lets time pass until the script dials again. Returns the time.
    async fn next_dial(&self) -> f64 {
        let before = self.app.dialled().len();
        for _ in 0..600 {
            if let Some(dialled) = self.app.dialled().get(before) {
                return dialled.at;
            }
            self.app.advance(0.1).await;
        }
        panic!("the script does not dial again: {:?}", self.app.log());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (app, server) = (&self.app, &self.server);
            eprintln!(
                "log: {:#?}\nfailures: {:#?}\ndialled: {:#?}",
                app.log(),
                app.failures(),
                app.dialled()
            );
            eprintln!("delivered: {}, waiting: {}", app.delivered(), app.waiting());
            eprintln!("received: {:#?}", server.received());
        }
    }
}
