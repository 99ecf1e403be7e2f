//! How services are dialled: what handshakes carry, what refusals mean, and the proxies in between.

use std::sync::Arc;
use std::time::SystemTime;

use pontoon_testkit::{
    ConnectProxy, DaemonConfig, Echo, NatsServer, Refusal, SocketIoServer, Sub0, WebSocketServer, eventually,
};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::support::{DEADLINE, SilentService, ask, ask_when_served, instance, link, start};

#[tokio::test]
async fn handshakes_carry_the_user_agent_unless_another_is_configured() {
    let nats = NatsServer::start().await;
    let (sub0, echo, chat) = (Sub0::start().await, Echo::start().await, SocketIoServer::start().await);
    let (own, named) = (Echo::start().await, Sub0::start().await);
    let header = |url: &str| format!("url = \"{url}\"\nheaders = {{ user-agent = \"mine/1\" }}");
    let mut daemon = start(
        DaemonConfig::new(&nats)
            .sub0("shop", &sub0)
            .connector("echo", "websocket", &format!("url = \"{}\"", echo.url()))
            .connector("chat", "socketio", &format!("url = \"{}\"", chat.url()))
            .connector("own", "websocket", &header(&own.url()))
            .connector(
                "named",
                "sub0",
                &format!("url = \"{}\"\ntransport.user_agent = \"acme/2 (x)\"", named.url()),
            ),
    );
    for name in ["shop", "echo", "chat", "own", "named"] {
        link(&mut daemon, name, "ready").await;
    }
    let usual = concat!("pontoon/", env!("CARGO_PKG_VERSION"));
    for (name, requests, agent) in [
        ("shop", sub0.requests(), usual),
        ("echo", echo.requests(), usual),
        ("chat", chat.requests(), usual),
        ("own", own.requests(), "mine/1"),
        ("named", named.requests(), "acme/2 (x)"),
    ] {
        let agents: Vec<_> = requests[0].headers.iter().filter(|(name, _)| name == "user-agent").collect();
        assert_eq!(agents, [&("user-agent".to_owned(), agent.to_owned())], "{name}");
    }
}

#[tokio::test]
async fn refusals_name_the_server_and_are_dialled_again_when_they_ask() {
    let nats = NatsServer::start().await;
    let date = |seconds: i64| {
        let at = OffsetDateTime::from(SystemTime::now()) + time::Duration::seconds(seconds);
        // RFC 9110 writes the zone as GMT.
        at.format(&Rfc2822).expect("a date").replace("+0000", "GMT")
    };
    let html = |status| Refusal::status(status).header("Content-Type", "text/html").body("<html>");
    let to = "https://u:canary@new.example/ws?token=canary#canary";
    let cases = [
        (
            "plain",
            html(403).header("Server", "nginx"),
            "credentials_refused",
            "check the credentials",
            200..400,
        ),
        (
            "cloudflare",
            html(403).header("Server", "cloudflare").header("CF-RAY", "1-FRA"),
            "waiting",
            "Cloudflare",
            200..400,
        ),
        ("akamai", html(403).header("Server", "AkamaiGHost"), "waiting", "User-Agent", 200..400),
        ("dated", Refusal::status(503).header("Retry-After", &date(900)), "waiting", "503", 600..901),
        ("far", Refusal::status(429).header("Retry-After", &date(900_000)), "waiting", "429", 3000..3601),
        ("past", Refusal::status(503).header("Retry-After", &date(-900)), "waiting", "503", -60..40),
        ("garbage", Refusal::status(503).header("Retry-After", "soon"), "waiting", "503", -60..40),
        (
            "moved",
            Refusal::status(301).header("Location", to),
            "wrong_address",
            "it leads to https://new.example/ws;",
            -60..40,
        ),
    ];
    let mut config = DaemonConfig::new(&nats);
    let mut services = Vec::new();
    for (name, refusal, ..) in &cases {
        let sub0 = Sub0::start().await;
        sub0.refuse(refusal.clone());
        config = config.sub0(name, &sub0);
        services.push(sub0);
    }
    let mut daemon = start(config);
    for (name, _, phase, words, pause) in &cases {
        let detail = link(&mut daemon, name, phase).await;
        assert!(detail.contains(words) && !detail.contains("canary"), "{name}: {detail}");
        let status = instance(&mut daemon, name).await.expect("the instance is there");
        // It may just be dialled again.
        let Some(at) = status["links"][0]["retry_at"].as_str() else { continue };
        let at = OffsetDateTime::parse(at, &Rfc3339).expect("a time");
        let pauses = (at - OffsetDateTime::now_utc()).whole_seconds();
        // What lies far ahead cannot be confused with the usual backoff, however slow this machine is.
        assert!(pause.contains(&pauses), "{name}: {pauses} s");
    }
}

#[tokio::test]
async fn the_environments_proxy_is_used_but_for_what_it_excepts() {
    let nats = NatsServer::start().await;
    let (proxied, excepted, refused, proxy) =
        (Sub0::start().await, Sub0::start().await, Sub0::start().await, ConnectProxy::start().await);
    proxy.name("shop.internal.example:8000", proxied.address());
    let chat = SocketIoServer::start().await;
    proxy.name("chat.internal.example:80", chat.address());
    let at = |sub0: &Sub0, more: &str| format!("url = \"{}\"\n{more}", sub0.url());
    let mut daemon = start(
        DaemonConfig::new(&nats)
            .environment("HTTP_PROXY", &format!("http://user:canary@{}", proxy.address()))
            .environment("NO_PROXY", "10.0.0.0/8, 127.0.0.0/8")
            .environment("https_proxy", "socks5://u:canary@127.0.0.1:1")
            .connector("shop", "sub0", "url = \"ws://shop.internal.example:8000/ws\"")
            .connector("chat", "socketio", "url = \"http://chat.internal.example\"")
            .connector("near", "sub0", &at(&excepted, ""))
            .connector("none", "sub0", &at(&refused, "transport.proxy = \"none\""))
            .connector("socks", "sub0", "url = \"wss://shop.internal.example:8000/ws\""),
    );
    for name in ["shop", "chat", "near", "none"] {
        link(&mut daemon, name, "ready").await;
    }
    let client = nats.client().await;
    let reply = ask_when_served(&client, "pontoon.command.sub0.shop.call.x", r#"{"n":1}"#).await;
    assert_eq!((reply.status.as_str(), &reply.body["data"]["n"]), ("response", &json!(1)), "{reply:?}");
    let mut lines: Vec<_> = proxy.requests().into_iter().map(|request| request.line).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines, ["CONNECT chat.internal.example:80", "CONNECT shop.internal.example:8000"]);
    assert_eq!(proxy.requests()[0].header("proxy-authorization"), Some("Basic dXNlcjpjYW5hcnk="));
    let detail = link(&mut daemon, "socks", "wrong_address").await;
    assert!(detail.contains("HTTPS_PROXY") && detail.contains("socks5"), "{detail}");

    // A wrong password of the proxy is not reported as one of the service.
    proxy.demand("Basic another");
    proxied.cut();
    let detail = link(&mut daemon, "shop", "credentials_refused").await;
    assert!(detail.contains(&format!("the proxy {}", proxy.address())) && detail.contains("407"), "{detail}");
    for text in [daemon.log(), daemon.get("/status").await.1, daemon.get("/metrics").await.1] {
        assert!(!text.contains("canary") && !text.contains("dXNlcjpjYW5hcnk"), "{text}");
    }
}

#[tokio::test]
async fn sockets_that_callers_create_go_through_the_proxy_only_if_configured() {
    let nats = NatsServer::start().await;
    let (echo, proxy) = (Echo::start().await, ConnectProxy::start().await);
    proxy.name("ws.example:80", echo.address());
    let dynamic = |more: &str| {
        format!(
            "dynamic = {{ enabled = true, hosts = [\"127.0.0.1\", \"ws.example\"], addresses = [\"127.0.0.1\"]{more} }}"
        )
    };
    let _daemon = start(
        DaemonConfig::new(&nats)
            .environment("all_proxy", &format!("http://{}", proxy.address()))
            .connector("direct", "streamavatars", &dynamic(""))
            .connector("proxied", "streamavatars", &dynamic(", proxy = true")),
    );
    let client = nats.client().await;
    let create = async |name: &str, url: &str| {
        let subject = format!("pontoon.command.streamavatars.{name}.create");
        let body = json!({ "title": "t", "url": url }).to_string();
        ask_when_served(&client, &subject, &body).await
    };
    assert_eq!(create("direct", &echo.url()).await.status, "acked");
    assert_eq!((echo.upgrades(), proxy.requests().len()), (1, 0));
    assert_eq!(create("proxied", "ws://ws.example/").await.status, "acked");
    eventually(DEADLINE, async || echo.upgrades() == 2).await;
    let lines: Vec<_> = proxy.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["CONNECT ws.example:80"]);
    let refused = create("proxied", "ws://other.example/").await;
    assert_eq!((refused.status.as_str(), proxy.requests().len()), ("rejected", 1), "{refused:?}");
}

#[tokio::test]
async fn messages_over_the_rate_wait_and_a_new_connection_has_its_own() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!(
        "url = \"ws://{}/\"\nkind = \"/type\"\nsend_on_connect = [\"hello\"]\ntransport.send_rate = {{ requests = 3, per = \"1h\" }}",
        service.address()
    );
    let _daemon = start(DaemonConfig::new(&nats).connector("any", "websocket", &settings));
    let send = async |text: &str, timeout: &str| {
        let body = format!("{{\"text\":\"{text}\"}}");
        let headers = [("Pontoon-Timeout", timeout), ("Pontoon-Wait", "sent")];
        ask(&client, "pontoon.command.websocket.any.send.text", &body, &headers).await.status
    };
    eventually(DEADLINE, async || send("first", "20s").await == "sent").await;
    assert_eq!(send("second", "20s").await, "sent");
    assert_eq!(send("third", "2s").await, "expired");
    ask(&client, "pontoon.command.websocket.any.reconnect", "", &[]).await;
    service.connected(1, DEADLINE).await;
    eventually(DEADLINE, async || send("fourth", "20s").await == "sent").await;
    let texts = service.texts();
    assert_eq!(texts, ["hello", "first", "second", "hello", "fourth"], "{texts:?}");
}
