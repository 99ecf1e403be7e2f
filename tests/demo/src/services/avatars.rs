//! Stream Avatars: a script in the app that forwards the chat, an echo server under a title, and a socket that comes and
//! goes by commands.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pontoon_testkit::{DaemonConfig, Echo, ScriptSocket};
use serde_json::json;

use super::{Check, Service};
use crate::calls::{Call, Reply};
use crate::event::Event;
use crate::flows::{Flow, Flows};

const TOKEN: &str = "token-of-the-demo";
/// The script's title, and that of the socket in the configuration.
const SCRIPT: &str = "main";
const ECHO: &str = "echo";
/// How long a script waits before it dials again.
const PAUSE: Duration = Duration::from_millis(100);

/// The app, and the server that its sockets lead to.
pub(super) struct Avatars {
    echo: Echo,
    /// The port that the daemon opens for scripts.
    port: u16,
    script: Arc<Mutex<Option<ScriptSocket>>>,
    /// How often there was something in the chat.
    chats: usize,
    calls: usize,
    /// The socket that was created and not removed yet.
    created: Option<String>,
    /// What was sent to the script, in order.
    sent_to_script: Vec<String>,
    expected: Flows,
}

impl Avatars {
    pub(super) async fn start() -> Self {
        let port = free_port();
        let script = Arc::new(Mutex::new(None));
        tokio::spawn(dial(port, Arc::clone(&script)));
        let mut avatars = Self {
            echo: Echo::start().await,
            port,
            script,
            chats: 0,
            calls: 0,
            created: None,
            sent_to_script: Vec::new(),
            expected: Flows::default(),
        };
        avatars.opened(ECHO);
        avatars.expected.push(Flow::new("socket.opened", SCRIPT, ""), "opened");
        avatars
    }

    /// A socket opens, and the server greets.
    fn opened(&mut self, title: &str) {
        self.expected.push(Flow::new("socket.opened", title, ""), "opened");
        self.expected.push(Flow::new("socket.message", title, ""), Echo::GREETING);
    }

    fn with_script<T>(&self, read: impl FnOnce(&ScriptSocket) -> T) -> Option<T> {
        self.script.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref().map(read)
    }

    /// What the script received after its welcome.
    fn received_by_script(&self) -> Vec<String> {
        self.with_script(|script| script.texts().split_off(1)).unwrap_or_default()
    }
}

/// Dials until the daemon has opened its door, as a script does: again and again.
async fn dial(port: u16, script: Arc<Mutex<Option<ScriptSocket>>>) {
    let url = format!("ws://127.0.0.1:{port}/streamavatars");
    let socket = loop {
        match ScriptSocket::dial(&url, &[]).await {
            Ok(socket) => break socket,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    socket.send(&json!({"type": "auth", "token": TOKEN, "title": SCRIPT}).to_string());
    *script.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(socket);
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map_or(0, |address| address.port())
}

impl Service for Avatars {
    fn name(&self) -> &'static str {
        "Avatars"
    }

    fn kind(&self) -> &'static str {
        "streamavatars"
    }

    fn instance(&self) -> &'static str {
        "avatars"
    }

    fn url(&self) -> String {
        self.echo.url()
    }

    fn note(&self) -> String {
        format!("an echo; a script dials :{}", self.port)
    }

    fn configure(&self, config: DaemonConfig) -> DaemonConfig {
        let (port, url) = (self.port, self.echo.url());
        let settings = format!(
            "listen = {{ address = \"127.0.0.1:{port}\", token = \"{TOKEN}\" }}\n\
             sockets.{ECHO} = {{ url = \"{url}\" }}\n\
             dynamic = {{ enabled = true, hosts = [\"127.0.0.1\"], addresses = [\"127.0.0.1\"] }}"
        );
        config.connector(self.instance(), self.kind(), &settings)
    }

    fn is_listened_to(&self) -> bool {
        self.with_script(|script| !script.texts().is_empty()).unwrap_or(false)
    }

    fn send_next(&mut self) {
        self.chats += 1;
        let message = format!("chat number {}", self.chats);
        let frame =
            json!({"type": "event", "event": "chatMessage", "data": {"message": message}}).to_string();
        self.with_script(|script| script.send(&frame));
        self.expected.push(Flow::new("socket.message", SCRIPT, ""), message);
    }

    fn call(&mut self) -> Call {
        let (turn, number) = (self.calls % 4, self.calls / 4 + 1);
        self.calls += 1;
        let title = format!("live-{number}");
        let (operation, body) = match turn {
            0 => {
                self.opened(&title);
                self.created = Some(title.clone());
                ("create", json!({"title": title, "url": self.echo.url()}))
            }
            1 => {
                let message = format!("gogo {number}!");
                self.expected.push(Flow::new("socket.message", &title, ""), &message);
                ("send", json!({"title": title, "message": message}))
            }
            2 => {
                let message = json!({"type": "runCommand", "command": format!("!jump {number}")});
                self.sent_to_script.push(message.to_string());
                ("script.send", json!({"title": SCRIPT, "message": message}))
            }
            _ => {
                self.created = None;
                self.expected.push(Flow::new("socket.closed", &title, ""), "closed");
                ("remove", json!({"title": title}))
            }
        };
        Call::new(self.kind(), self.instance(), operation, body)
    }

    // Of these commands only `create` is answered by the other side: it has upgraded the connection.
    fn authorize(&mut self, _parts: &[Reply], last: &Reply) -> bool {
        match (self.calls - 1) % 4 {
            0 => last.status == "acked" && last.data["title"] == self.created.as_deref().unwrap_or_default(),
            3 => last.status == "accepted",
            _ => last.status == "sent",
        }
    }

    fn is_idle(&self) -> bool {
        self.received_by_script().len() >= self.sent_to_script.len()
    }

    fn expected(&self) -> Flows {
        let mut expected = self.expected.clone();
        // Once the daemon has ended, it has closed every socket.
        if self.echo.upgrades() > 0 && self.echo.connections().is_empty() {
            for title in self.created.iter().map(String::as_str).chain([ECHO]) {
                expected.push(Flow::new("socket.closed", title, ""), "closed");
            }
        }
        if self.with_script(ScriptSocket::is_open) == Some(false) {
            expected.push(Flow::new("socket.closed", SCRIPT, ""), "closed");
        }
        expected
    }

    fn flow(&self, event: &Event) -> (Flow, String) {
        let kind = event.kind();
        let words = match (kind.as_str(), event.text("/raw/event")) {
            ("socket.opened", _) => "opened",
            ("socket.closed", _) => "closed",
            (_, "chatMessage") => event.text("/raw/data/message"),
            _ => event.text("/message"),
        };
        (Flow::new(&kind, event.text("/title"), ""), words.to_owned())
    }

    fn checks(&self, _heard: &Flows) -> Vec<Check> {
        let tried = !self.sent_to_script.is_empty();
        let all = tried.then(|| self.received_by_script() == self.sent_to_script);
        vec![("what was sent to the script came to it once, in order", all)]
    }
}
