//! Where a link is dialled when the service says so: a request over HTTP before a connection, and the address in its answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_nats::{Client, Subscriber};
use pontoon_testkit::{
    Connection, Daemon, DaemonConfig, NatsServer, Refusal, Service, WebSocketServer, eventually, until_some,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{DEADLINE, SilentService, ask, listen, next, start};

const TOKEN: &str = "hunter2";

/// An HTTP server that gives every request the same answer.
pub(crate) struct Api {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Api {
    pub(crate) async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, answer): (Arc<Mutex<Vec<String>>>, _) = (Arc::default(), Arc::new(Mutex::new(answer)));
        let (seen, given) = (Arc::clone(&requests), Arc::clone(&answer));
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                let answer = given.lock().unwrap().clone();
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, requests, answer, task }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn answers(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }
}

/// An answer with this body.
pub(crate) fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A daemon whose one instance asks `api` for its address.
async fn bridge(nats: &NatsServer, api: &Api, lines: &str) -> (Daemon, Client) {
    let settings = format!(
        "url = \"ws://127.0.0.1:1/\"\nsecrets.token = {{ env = \"API_TOKEN\" }}\n\
         before_connect = {{ url = \"http://{}/open?a=b\", method = \"POST\", headers = {{ Authorization = \"Bearer ${{token}}\" }}, \
         remember = {{ address = \"/url\" }}, refused_when = {{ where = {{ \"/error\" = \"invalid_auth\" }} }} }}\n{lines}",
        api.address
    );
    let config = DaemonConfig::new(nats).environment("API_TOKEN", TOKEN);
    let daemon = start(config.connector("any", "websocket", &settings));
    (daemon, nats.client().await)
}

const INSIDE: &str = "address = { from = \"address\", hosts = [\"127.0.0.1\"], addresses = [\"127.0.0.1\"] }";

/// Waits until the link is in this phase, and returns why.
async fn phase(client: &Client, wanted: &str, words: &str) {
    until_some(DEADLINE, async || {
        let state = ask(client, "pontoon.command.websocket.any.status", "", &[]).await.body["data"].take();
        let link = &state["links"][0];
        let detail = link["detail"].as_str().unwrap_or_default().to_owned();
        assert!(!detail.contains(TOKEN) && !detail.contains("ticket-1"), "{detail}");
        (link["phase"] == wanted && detail.contains(words)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_connection_is_made_at_the_address_that_was_asked_for() {
    let nats = NatsServer::options().every_right().start().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let answer =
        |ticket: &str| json(&format!(r#"{{"ok":true,"url":"ws://{}/link?t={ticket}"}}"#, service.address()));
    let api = Api::start(answer("ticket-1")).await;
    let (daemon, client) = bridge(&nats, &api, INSIDE).await;
    phase(&client, "ready", "").await;
    let tickets = || -> Vec<String> {
        service
            .requests()
            .iter()
            .map(|request| request.parameter("t").unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(tickets(), ["ticket-1"]);
    let first = api.requests.lock().unwrap()[0].clone();
    assert!(first.starts_with("POST /open?a=b HTTP/1.1\r\n"), "{first}");
    assert!(first.to_lowercase().contains("\r\nauthorization: bearer hunter2\r\n"), "{first}");

    api.answers(answer("ticket-2"));
    service.cut();
    eventually(DEADLINE, async || tickets().last().is_some_and(|last| last == "ticket-2")).await;
    assert!(!daemon.log().contains(TOKEN) && !daemon.log().contains("ticket-1"), "{}", daemon.log());
}

#[tokio::test]
async fn answers_that_give_no_address_are_named_and_nothing_is_dialled() {
    let nats = NatsServer::options().every_right().start().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let address = json(&format!(r#"{{"url":"ws://{}/"}}"#, service.address()));
    let api = Api::start(json(r#"{"ok":false,"error":"invalid_auth"}"#)).await;
    let (_daemon, client) = bridge(&nats, &api, INSIDE).await;
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n{}", "x".repeat(1 << 20));
    let header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    for (answer, wanted, words) in [
        (None, "credentials_refused", "invalid_auth"),
        (Some(json("{}")), "wrong_address", "lacks /url"),
        (
            Some(
                "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
                    .to_owned(),
            ),
            "wrong_address",
            "not followed",
        ),
        (Some("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_owned()), "credentials_refused", "401"),
        (Some(endless), "wrong_address", "more than 65536 bytes"),
        (Some(header), "wrong_address", "does not speak HTTP"),
        (Some("what?".to_owned()), "wrong_address", "does not speak HTTP"),
    ] {
        if let Some(answer) = answer {
            api.answers(answer);
            let reply = ask(&client, "pontoon.command.websocket.any.reconnect", "", &[]).await;
            assert_eq!(reply.body["status"], "accepted", "{}", reply.body);
        }
        phase(&client, wanted, words).await;
    }
    assert!(service.requests().is_empty());
    api.answers(address);
    ask(&client, "pontoon.command.websocket.any.reconnect", "", &[]).await;
    phase(&client, "ready", "").await;
}

#[tokio::test]
async fn an_address_that_leads_inside_is_not_dialled() {
    let nats = NatsServer::options().every_right().start().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let api = Api::start(json(&format!(r#"{{"url":"ws://{}/"}}"#, service.address()))).await;
    for (address, reason) in [
        ("hosts = [\"*.service.example\"]", "is not among address.hosts"),
        // The host is listed, and its address is not public.
        ("hosts = [\"*\", \"127.0.0.1\"]", "may not be dialled"),
    ] {
        let (_daemon, client) =
            bridge(&nats, &api, &format!("address = {{ from = \"address\", {address} }}")).await;
        phase(&client, "wrong_address", reason).await;
        assert!(service.requests().is_empty(), "{address}");
    }
}

#[tokio::test]
async fn a_secret_in_the_url_is_filled_in_and_shown_nowhere() {
    const KEY: &str = "key/of&ours";
    let nats = NatsServer::options().every_right().start().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!(
        "url = \"ws://{}/link?t=${{key}}\"\nsecrets.key = {{ env = \"URL_KEY\" }}",
        service.address()
    );
    let config = DaemonConfig::new(&nats).environment("URL_KEY", KEY);
    let daemon = start(config.connector("any", "websocket", &settings));
    let client = nats.client().await;
    phase(&client, "ready", "").await;
    assert_eq!(service.requests()[0].parameter("t"), Some(KEY));
    service.refuse(Refusal::status(401).body(&format!("no {KEY}")));
    service.cut();
    phase(&client, "credentials_refused", "").await;
    let log = daemon.log();
    for form in [KEY, "key%2Fof%26ours"] {
        assert!(!log.contains(form), "{log}");
    }
}

#[tokio::test]
async fn what_is_remembered_opens_the_next_connection_until_it_is_refused() {
    let nats = NatsServer::options().every_right().start().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!(
        "url = \"ws://{}/${{room}}\"\nquery = {{ session = \"${{session}}\" }}\nheaders = {{ X-Last = \"n${{seq}}\" }}\n\
         remember = {{ session = \"/session\", seq = \"/seq\", room = \"/room\" }}\nkind = \"/type\"\n\
         events.hello = {{ type = \"log.entry\", text = \"/type\" }}",
        service.address()
    );
    let daemon = start(DaemonConfig::new(&nats).connector("any", "websocket", &settings));
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.websocket.any.log.entry.>").await;
    let opened = || -> Vec<_> {
        let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let requests = service.requests().into_iter();
        requests
            .map(|request| {
                (request.path.clone(), text(request.parameter("session")), text(request.header("x-last")))
            })
            .collect()
    };
    let nothing = ("/".to_owned(), "-".to_owned(), "-".to_owned());
    phase(&client, "ready", "").await;
    assert_eq!(opened()[0], nothing);

    // A service can neither lead us elsewhere nor add a header.
    let hello = r#"{"type":"hello","session":"a b\r\nX: 1","seq":"7\r\nX-Evil: 1","room":"../inside?"}"#;
    service.send_text(hello);
    next(&mut events, |_, _| true).await;
    service.cut();
    eventually(DEADLINE, async || service.connections().iter().any(|connection| connection.id() == 1)).await;
    assert_eq!(opened()[1], ("/..%2Finside%3F".to_owned(), "a b\r\nX: 1".to_owned(), "-".to_owned()));
    assert_eq!(service.requests()[1].header("x-evil"), None);

    service.send_text(r#"{"type":"hello","session":"s","seq":8,"room":"r"}"#);
    next(&mut events, |_, _| true).await;
    service.refuse(Refusal::status(404));
    service.cut();
    phase(&client, "wrong_address", "404").await;
    eventually(DEADLINE, async || opened().len() > 3).await;
    let remembered = ("/r".to_owned(), "s".to_owned(), "n8".to_owned());
    assert_eq!(opened()[2..4], [remembered, nothing], "{}", daemon.log());
    service.authorize();
    phase(&client, "ready", "").await;
}

/// A table that moves where a frame says so, within `hosts`.
fn moving(service: &WebSocketServer, hosts: &str) -> String {
    format!(
        "url = \"ws://{}/\"\nkind = \"/type\"\nreconnect_when = \"move\"\n\
         remember = {{ to = {{ when = \"move\", from = \"/url\" }} }}\n\
         address = {{ from = \"to\", hosts = [\"{hosts}\"], addresses = [\"127.0.0.1\"] }}\n\
         events.m = {{ type = \"log.entry\", text = \"/n\" }}\ntransport.connect_timeout = \"60s\"",
        service.address()
    )
}

/// A link that is ready at one service, and is asked to move to another one.
struct Moving {
    daemon: Daemon,
    client: Client,
    events: Subscriber,
    first: WebSocketServer,
    second: WebSocketServer,
    // Behind the daemon, so that it is gone last.
    _nats: NatsServer,
}

impl Moving {
    async fn start(settings: &str) -> Self {
        let nats = NatsServer::options().every_right().start().await;
        let first = WebSocketServer::start(Arc::new(SilentService)).await;
        let second = WebSocketServer::start(Arc::new(SilentService)).await;
        let settings = format!("{}\n{settings}", moving(&first, "127.0.0.1"));
        let client = nats.client().await;
        let mut events = listen(&client, "pontoon.event.websocket.any.>").await;
        let daemon = start(DaemonConfig::new(&nats).connector("any", "websocket", &settings));
        first.connected(1, DEADLINE).await;
        first.send_text(r#"{"type":"hello"}"#);
        phase(&client, "ready", "").await;
        next(&mut events, |_, body| body["reason"] == "restarted").await;
        first.send_text(&format!(r#"{{"type":"move","url":"ws://{}/?ticket-1"}}"#, second.address()));
        second.connected(1, DEADLINE).await;
        Self { daemon, client, events, first, second, _nats: nats }
    }

    /// The next event.
    async fn next(&mut self) -> Value {
        next(&mut self.events, |_, _| true).await.1
    }
}

#[tokio::test]
async fn a_link_that_moves_is_read_until_the_next_connection_is_made_and_has_no_gap() {
    let mut moving = Moving::start("ready_when = \"hello\"").await;
    // The other one has not sent anything yet.
    moving.first.send_text(r#"{"type":"m","n":1}"#);
    assert_eq!(moving.next().await["text"], "1");
    assert_eq!(moving.first.connections().len(), 1);

    moving.second.send_text(r#"{"type":"hello"}"#);
    moving.second.send_text(r#"{"type":"m","n":2}"#);
    assert_eq!(moving.next().await["text"], "2", "{}", moving.daemon.log());
    moving.first.connected(0, DEADLINE).await;
    phase(&moving.client, "ready", "").await;
    assert_eq!((moving.first.upgrades(), moving.second.upgrades()), (1, 1));

    // A break afterwards is one.
    moving.second.cut();
    let again = async || moving.second.connections().iter().any(|connection| connection.id() == 1);
    eventually(DEADLINE, again).await;
    moving.second.send_text(r#"{"type":"hello"}"#);
    assert_eq!(moving.next().await["reason"], "disconnected");
    assert!(!moving.daemon.log().contains("ticket-1"), "{}", moving.daemon.log());
}

#[tokio::test]
async fn a_link_that_moves_has_a_gap_where_the_next_connection_has_to_sign_in() {
    for settings in [
        "ready_when = \"hello\"\nsend_on_connect = [\"login\"]",
        "ready_when = \"hello\"\non = [{ when = \"hello\", send = \"login\" }]",
        // It is ready before it knows what is asked of it.
        "on = [{ when = \"hello\", send = \"login\" }]",
    ] {
        let mut moving = Moving::start(settings).await;
        moving.second.send_text(r#"{"type":"hello"}"#);
        moving.second.send_text(r#"{"type":"m","n":2}"#);
        assert_eq!(moving.next().await["reason"], "disconnected", "{settings}: {}", moving.daemon.log());
        assert_eq!(moving.next().await["text"], "2", "{settings}");
        moving.daemon.logs("link moved").await;
    }
}

/// A service that has every client move at once.
struct Restless;

impl Service for Restless {
    fn connected(&self, connection: &Arc<Connection>) {
        let host = connection.request().header("host").unwrap_or_default().to_owned();
        connection.send_text(r#"{"type":"hello"}"#);
        connection.send_text(&format!(r#"{{"type":"move","url":"ws://{host}/"}}"#));
    }

    fn text(&self, _: &Arc<Connection>, _: &str) {}
}

#[tokio::test]
async fn a_link_that_is_to_move_again_and_again_is_dialled_as_after_breaks() {
    let nats = NatsServer::options().every_right().start().await;
    let service = WebSocketServer::start(Arc::new(Restless)).await;
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.websocket.any.gap.detected.>").await;
    let settings = format!("{}\nready_when = \"hello\"", moving(&service, "127.0.0.1"));
    let daemon = start(DaemonConfig::new(&nats).connector("any", "websocket", &settings));
    next(&mut events, |_, body| body["reason"] == "disconnected").await;
    daemon.logs("link moved").await;
    daemon.logs("link down").await;
}

#[tokio::test]
async fn a_link_does_not_move_inside() {
    let nats = NatsServer::options().every_right().start().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!("{}\nready_when = \"hello\"", moving(&service, "*.service.example"));
    let _daemon = start(DaemonConfig::new(&nats).connector("any", "websocket", &settings));
    let client = nats.client().await;
    let mut events = listen(&client, "pontoon.event.websocket.any.gap.detected.>").await;
    service.connected(1, DEADLINE).await;
    service.send_text(r#"{"type":"hello"}"#);
    phase(&client, "ready", "").await;
    service.send_text(&format!(r#"{{"type":"move","url":"ws://{}/inside"}}"#, service.address()));
    // It is dialled again where it was, as after a break.
    eventually(DEADLINE, async || service.connections().iter().any(|connection| connection.id() == 1)).await;
    service.send_text(r#"{"type":"hello"}"#);
    next(&mut events, |_, body| body["reason"] == "disconnected").await;
    assert!(service.requests().iter().all(|request| request.path == "/"));
}
