//! Tests: dials through a proxy, with a real proxy and a real server.

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::connector::AllowList;
use pontoon_sdk::websocket::{Endpoint, Frame};
use pontoon_sdk::{Secret, SocketIo, WebSocket, socketio};
use pontoon_testkit::{ConnectAnswer, ConnectProxy, Connection, Service, WebSocketServer};
use tokio::net::TcpListener;

use crate::settings;
use crate::transport::{Dial as _, DialError, DialErrorKind, Read as _, Received, Settings, Write as _};

/// Sends back every text.
struct Echo;

impl Service for Echo {
    fn text(&self, connection: &Arc<Connection>, text: &str) {
        connection.send_text(text);
    }
}

fn through(proxy: &str) -> Settings {
    Settings::new(settings::Transport { proxy: Some(Secret::plain(proxy)), ..settings::Transport::default() })
}

async fn dial(url: &str, settings: &Settings) -> Result<(), DialError> {
    WebSocket::dial(&Endpoint::new(url).unwrap(), &mut (), settings).await.map(|_| ())
}

#[tokio::test]
async fn messages_pass_through_a_tunnel_to_a_name_that_only_the_proxy_knows() {
    let (server, proxy) = (WebSocketServer::start(Arc::new(Echo)).await, ConnectProxy::start().await);
    proxy.name("svc.internal.example:80", server.address());
    let url = format!("http://user:p%40ss@{}", proxy.address());
    proxy.demand("Basic dXNlcjpwQHNz");
    let endpoint = Endpoint::new("ws://svc.internal.example/ws?x=1").unwrap();
    let mut dialled = WebSocket::dial(&endpoint, &mut (), &through(&url)).await.unwrap();
    dialled.writer.feed(Frame::text("hello")).await.unwrap();
    dialled.writer.flush().await.unwrap();
    assert_eq!(dialled.reader.read().await.unwrap(), Received::Message(Frame::text("hello")));
    let [request] = &proxy.requests()[..] else { panic!("one request") };
    assert_eq!(request.line, "CONNECT svc.internal.example:80");
    assert_eq!(request.header("host"), Some("svc.internal.example:80"));
    assert!(request.header("user-agent").unwrap().starts_with("pontoon/"));
    // The proxy's credentials do not reach the service.
    let upgrade = &server.requests()[0];
    assert_eq!((upgrade.header("host"), upgrade.parameter("x")), (Some("svc.internal.example"), Some("1")));
    assert_eq!(upgrade.header("proxy-authorization"), None);
}

#[tokio::test]
async fn a_refusal_names_the_proxy_or_the_service_and_what_to_do() {
    let (server, proxy) = (WebSocketServer::start(Arc::new(Echo)).await, ConnectProxy::start().await);
    let settings = through(&format!("http://user:canary@{}", proxy.address()));
    let url = format!("ws://{}/", server.address());
    let response = |head: &str| ConnectAnswer::Send(format!("{head}\r\n\r\ncanary"));
    for (answer, kind, retry_after, text) in [
        (
            response("HTTP/1.1 407 canary"),
            DialErrorKind::Credentials,
            None,
            "407: it wants other credentials",
        ),
        (
            response("HTTP/1.1 403 Forbidden"),
            DialErrorKind::WrongAddress,
            None,
            "403: it does not allow that",
        ),
        (
            response("HTTP/1.0 405 No\r\nAllow: GET"),
            DialErrorKind::WrongAddress,
            None,
            "405: it does not allow that",
        ),
        (
            response("HTTP/1.1 301 Moved\r\nLocation: http://h/"),
            DialErrorKind::WrongAddress,
            None,
            "301: it does not",
        ),
        (
            response("HTTP/1.1 502 Bad Gateway"),
            DialErrorKind::Unreachable,
            None,
            "502: it has no way to the service",
        ),
        (
            response("HTTP/1.1 503 Busy\r\nRetry-After: 7"),
            DialErrorKind::Unreachable,
            Some(7),
            "503: it has no way",
        ),
        (response("SSH-2.0-OpenSSH_9.6"), DialErrorKind::WrongAddress, None, "does not speak HTTP"),
        (ConnectAnswer::Send(String::new()), DialErrorKind::Unreachable, None, "broke off"),
        (
            response(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(20_000))),
            DialErrorKind::WrongAddress,
            None,
            "speak HTTP",
        ),
        (
            response("HTTP/1.1 200 OK"),
            DialErrorKind::WrongAddress,
            None,
            "sent data before the tunnel was used",
        ),
    ] {
        proxy.answer(answer.clone());
        let error = dial(&url, &settings).await.expect_err(text);
        assert!(error.message.starts_with(&format!("the proxy {} ", proxy.address())), "{error}");
        assert!(error.message.contains(text), "{answer:?}: {error}");
        assert!(!error.message.contains("canary"), "{error}");
        assert_eq!((error.kind, error.retry_after), (kind, retry_after.map(Duration::from_secs)), "{error}");
    }
    assert!(server.dials().is_empty());
    // The service's own refusals are not the proxy's.
    proxy.answer(ConnectAnswer::Tunnel);
    server.refuse(pontoon_testkit::Refusal::status(403));
    let error = dial(&url, &settings).await.unwrap_err();
    assert!(error.message.starts_with(&server.address().to_string()), "{error}");
    server.authorize();
    dial(&url, &settings).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_is_away_or_silent_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = dial("ws://svc.example/", &through(&format!("http://{closed}"))).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Unreachable);
    assert!(error.message.starts_with(&format!("the proxy {closed} cannot be reached: ")), "{error}");
    let proxy = ConnectProxy::start().await;
    proxy.answer(ConnectAnswer::Silent);
    let mut settings = through(&format!("http://{}", proxy.address()));
    settings.config.connect_timeout = pontoon_sdk::Span(Duration::from_millis(800));
    let error = dial("wss://svc.example/", &settings).await.unwrap_err();
    assert_eq!(
        error.message,
        format!("the proxy {} made no tunnel to svc.example:443 within 600ms", proxy.address())
    );
}

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_an_error() {
    let server = WebSocketServer::start(Arc::new(Echo)).await;
    let url = format!("ws://{}/", server.address());
    for setting in
        ["socks5://u:canary@127.0.0.1:1", "https://127.0.0.1:1", "http://u:canary@127.0.0.1:0", "http://"]
    {
        let error = dial(&url, &through(setting)).await.expect_err(setting);
        assert_eq!(error.kind, DialErrorKind::WrongAddress, "{error}");
        assert!(error.message.starts_with("transport.proxy") && !error.message.contains("canary"), "{error}");
    }
    assert!(server.dials().is_empty());
    dial(&url, &through("none")).await.unwrap();
}

#[tokio::test]
async fn a_guarded_endpoint_uses_the_proxy_only_if_the_operator_allows_it() {
    let (server, proxy) = (WebSocketServer::start(Arc::new(Echo)).await, ConnectProxy::start().await);
    let settings = through(&format!("http://{}", proxy.address()));
    let port = server.address().port();
    let endpoint = |url: &str, host: &str, proxy| {
        let (hosts, addresses) = (vec![host.to_owned()], vec!["127.0.0.1".to_owned()]);
        Endpoint::restricted(url, AllowList { hosts, addresses, proxy, pointer: "/dynamic" })
    };
    let direct = endpoint(&format!("ws://127.0.0.1:{port}/"), "*", false);
    WebSocket::dial(&direct, &mut (), &settings).await.unwrap();
    assert_eq!((proxy.requests().len(), server.upgrades()), (0, 1));

    proxy.name("svc.internal.example:80", server.address());
    let allowed = endpoint("ws://svc.internal.example/", "*.example", true);
    WebSocket::dial(&allowed, &mut (), &settings).await.unwrap();
    assert_eq!((proxy.requests().len(), server.upgrades()), (1, 2));

    // Hosts and literal addresses are still checked.
    for (url, hosts) in [("ws://other.test/", "*.example"), ("ws://10.0.0.1/", "*")] {
        let error = WebSocket::dial(&endpoint(url, hosts, true), &mut (), &settings)
            .await
            .map(|_| ())
            .expect_err(url);
        assert_eq!(error.kind, DialErrorKind::Forbidden, "{error}");
    }
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn socket_io_goes_through_the_proxy_as_well() {
    let (server, proxy) = (WebSocketServer::start(Arc::new(Echo)).await, ConnectProxy::start().await);
    proxy.name("chat.internal.example:3000", server.address());
    let endpoint = socketio::Endpoint::new("http://chat.internal.example:3000").unwrap();
    let mut settings = through(&format!("http://{}", proxy.address()));
    settings.config.connect_timeout = pontoon_sdk::Span(Duration::from_secs(2));
    // The server has no Engine.IO: what matters is that it was reached.
    SocketIo::dial(&endpoint, &mut Default::default(), &settings).await.map(|_| ()).unwrap_err();
    assert_eq!(proxy.requests()[0].line, "CONNECT chat.internal.example:3000");
    assert_eq!(server.requests()[0].path, "/socket.io/");
}
