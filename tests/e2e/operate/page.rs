//! The page in the browser: who may see what, and that it shows in a real browser what happens, as text and nothing else.

use std::path::{Path, PathBuf};

use pontoon_testkit::{Browser, repeat};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::probes::exchange;
use super::*;

/// Text of a service that would run a script if it became markup.
const HOSTILE: &str = "<img src=x onerror='window.ran=1'><script>window.ran=1</script>";

/// The status of a request.
async fn status_of(address: &str, request: &str, headers: &str) -> String {
    let answer = exchange(address, &format!("{request} HTTP/1.0\r\n{headers}\r\n")).await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// The beginning of a response that goes on, up to this text.
async fn stream_up_to(address: &str, path: &str, headers: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let (mut read, mut buffer) = (String::new(), [0; 4096]);
    while !read.contains(text) {
        let length = tokio::time::timeout(DEADLINE, stream.read(&mut buffer)).await;
        let length = length.unwrap_or_else(|_| panic!("no {text} in\n{read}")).unwrap();
        assert!(length > 0, "no {text} in\n{read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    read
}

#[tokio::test]
async fn the_page_has_a_strict_policy_and_no_other_site_may_use_what_it_uses() {
    let (_nats, _sub0, mut daemon) = fixture("").await;
    let address = daemon.admin().await;
    let page = exchange(&address, "GET / HTTP/1.0\r\n\r\n").await.to_ascii_lowercase();
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{page:.600}");
    assert!(
        !page.contains("unsafe-inline") && page.contains("x-content-type-options: nosniff"),
        "{page:.600}"
    );
    for file in ["style.css", "main.js", "instances.js", "dom.js"] {
        assert_eq!(status_of(&address, &format!("GET /page/{file}"), "").await, "200", "{file}");
    }
    let live = stream_up_to(&address, "/live", "", "\n\n").await;
    assert!(live.contains("event: status\ndata: {") && live.contains("\"instance\":\"shop\""), "{live}");
    for site in ["cross-site", "same-site"] {
        assert_eq!(status_of(&address, "GET /live", &format!("Sec-Fetch-Site: {site}\r\n")).await, "403");
    }
    // The page can only look unless it may do more.
    for request in ["GET /operations", "POST /command"] {
        assert_eq!(status_of(&address, request, "").await, "404", "{request}");
    }
}

#[tokio::test]
async fn what_services_send_needs_the_token_or_an_address_of_this_machine() {
    let nats = NatsServer::start().await;
    let sub0 = Sub0::start().await;
    let config = || DaemonConfig::new(&nats).sub0("shop", &sub0);
    let mut open = start(config().listen("0.0.0.0:0"));
    let address = open.admin().await.replace("0.0.0.0", "127.0.0.1");
    for path in ["/live", "/wire/shop"] {
        assert_eq!(status_of(&address, &format!("GET {path}"), "").await, "403", "{path}");
    }
    for path in ["/", "/livez", "/metrics", "/status"] {
        assert_eq!(status_of(&address, &format!("GET {path}"), "").await, "200", "{path}");
    }
    drop(open);
    let lines = "admin.token = { env = \"PAGE_TOKEN\" }";
    let config = DaemonConfig::new(&nats).with(lines).sub0("shop", &sub0);
    let mut daemon = start(config.environment("PAGE_TOKEN", "of-the-page"));
    let address = daemon.admin().await;
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic of-the-page\r\n"] {
        assert_eq!(status_of(&address, "GET /live", headers).await, "401", "{headers}");
    }
    stream_up_to(&address, "/live", "Authorization: Bearer of-the-page\r\n", "event: status").await;
    assert_eq!(status_of(&address, "GET /metrics", "").await, "200");
}

#[tokio::test]
async fn the_wire_shows_frames_in_both_directions_without_secrets() {
    const TOKEN: &str = "canary of the \"test\"";
    let (nats, service) = (NatsServer::start().await, pontoon_testkit::Echo::start().await);
    let settings = format!(
        "url = \"{}\"\nkind = \"/type\"\nsecrets = {{ token = {{ env = \"ECHO_TOKEN\" }} }}\n\
         send_on_connect = [{{ type = \"hello\", token = \"${{token}}\" }}]",
        service.url()
    );
    let config = DaemonConfig::new(&nats)
        .with("log.level = \"trace\"")
        .connector("echo", "websocket", &settings)
        .environment("ECHO_TOKEN", TOKEN);
    let mut daemon = start(config);
    let address = daemon.admin().await;
    support::link(&mut daemon, "echo", "ready").await;
    let client = nats.client().await;
    let watched = async |arguments: &[&str]| {
        let mut watch = crate::cli::pontoon(&nats, &[&["--admin-listen", &address], arguments].concat());
        let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
        // It may not watch yet.
        let reconnects = repeat(Duration::from_millis(500), async || {
            support::ask(&client, "pontoon.command.websocket.echo.reconnect", "", &[]).await;
        });
        let mut output = String::new();
        let mut stdout = watch.stdout.take().unwrap();
        tokio::select! {
            read = tokio::time::timeout(DEADLINE, stdout.read_to_string(&mut output)) => drop(read.expect("in time")),
            never = reconnects => match never {},
        }
        output
    };
    // Each reconnect ends a connection.
    let recorded = watched(&["record", "echo", "--count", "4"]).await;
    let close = recorded.find("\nup close ").unwrap_or_else(|| panic!("{recorded}"));
    assert!(recorded[close..].contains("\nup open\n"), "{recorded}");
    let line = |arrow: &str| recorded.lines().any(|line| line.starts_with(arrow) && line.contains("hello"));
    assert!(line("up  -> {") && recorded.contains("***") && !recorded.contains("canary"), "{recorded}");
    let output = watched(&["tail", "--wire", "echo", "--json", "--count", "2"]).await;
    let shown = output.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let (frames, others): (Vec<_>, Vec<_>) = shown.partition(|shown| shown.get("frame").is_some());
    assert_eq!(frames.len(), 2, "{output}");
    assert!(
        others.iter().all(|other| ["opened", "ended"].contains(&other["direction"].as_str().unwrap())),
        "{output}"
    );
    for text in [&output, &daemon.log()] {
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("hello") && text.contains("***"), "{text}");
    }
    for direction in ["sent", "received"] {
        assert!(daemon.log().contains(&format!("\"direction\":\"{direction}\"")), "{}", daemon.log());
    }
}

/// Chromium: the one that is named, else the system's. `None` only where it could not be had and that is accepted.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PONTOON_CHROMIUM") {
        return Some(named.into());
    }
    let installed = Path::new("/usr/bin/chromium");
    if installed.is_file() {
        return Some(installed.to_owned());
    }
    let needed = std::env::var_os("PONTOON_WITHOUT_DEBIAN").is_none();
    assert!(!needed, "there is no chromium: run `make tools`, or name one in PONTOON_CHROMIUM");
    eprintln!("not tested: there is no chromium");
    None
}

/// Where screenshots are left for people.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page").join(name)
}

#[tokio::test]
async fn a_browser_shows_instances_events_frames_and_commands_and_runs_no_markup_of_a_service() {
    let Some(chromium) = chromium() else { return };
    let (nats, sub0, mut daemon) = fixture("admin.commands = true").await;
    let refused = Sub0::start().await;
    refused.refuse(pontoon_testkit::Refusal::status(401));
    daemon.reconfigure(
        DaemonConfig::new(&nats).with("admin.commands = true").sub0("shop", &sub0).sub0("bank", &refused),
    );
    daemon.signal("HUP");
    let url = format!("http://{}/", daemon.admin().await);
    let mut browser = Browser::open(&chromium, &url, 1000, 720).await;

    browser.until("document.querySelectorAll('article.card').length === 2").await;
    browser.until("document.querySelector('#instances').innerText.includes('credentials refused')").await;
    browser.until("document.querySelector('#instances').innerText.includes('publishing')").await;

    browser.evaluate("location.hash = '#events'").await;
    browser.evaluate("document.querySelector('#events [name=clear]').click()").await;
    let explained = "document.querySelector('#events').innerText.includes('Nothing to show')";
    browser.until(explained).await;
    sub0.broadcast("tick", &json!({ "text": HOSTILE }));
    sub0.send_text(&json!({"uid": null, "action": "error", "error": HOSTILE}).to_string());
    browser.until("document.querySelectorAll('#events details').length >= 1").await;
    browser.until("document.querySelector('#events').innerText.includes('onerror')").await;
    browser.until(&format!("!{explained}")).await;
    // By keyboard: an event opens, and shows its whole body.
    browser.evaluate("[...document.querySelectorAll('#events summary')].find((row) => row.innerText.includes('tick')).focus()").await;
    browser.press("Enter").await;
    browser
        .until("document.querySelector('#events details[open] pre')?.innerText.startsWith('pontoon.event.sub0.shop.resource.broadcast.tick\\n{\\n  \"action\"')")
        .await;
    browser.screenshot(&picture("events.png")).await;
    browser.evaluate("document.querySelector('#events [name=filter]').focus()").await;
    browser.type_text("no such event").await;
    browser.until("[...document.querySelectorAll('#events .list > *')].every((row) => row.hidden)").await;
    browser.until(explained).await;

    browser.evaluate("location.hash = '#wire'").await;
    browser.evaluate("document.querySelector('#wire select').value = 'shop'").await;
    browser.evaluate("document.querySelector('#wire [type=submit]').click()").await;
    browser.until("document.querySelector('#wire output').innerText === 'live'").await;
    sub0.broadcast("on-the-wire", &json!(HOSTILE));
    browser.until("document.querySelector('#wire .list').innerText.includes('on-the-wire')").await;

    browser.evaluate("location.hash = '#command'").await;
    browser.until("document.querySelector('#command [name=instance]').options.length === 2").await;
    for (name, value) in [("instance", "shop"), ("operation", "call")] {
        let select = format!("document.querySelector('#command [name={name}]')");
        browser.evaluate(&format!("{select}.value = '{value}'")).await;
        browser.evaluate(&format!("{select}.dispatchEvent(new Event('change'))")).await;
    }
    browser.evaluate("document.querySelector('#command [name=argument]').focus()").await;
    browser.type_text("echo").await;
    browser.evaluate("document.querySelector('#command textarea').focus()").await;
    browser.type_text(&json!({ "text": HOSTILE }).to_string()).await;
    browser.evaluate("document.querySelector('#command button').focus()").await;
    browser.press("Enter").await;
    browser.until("document.querySelector('#command .replies').innerText.includes('response')").await;
    browser.until("document.querySelector('#command .replies').innerText.includes('onerror')").await;
    browser.screenshot(&picture("command.png")).await;

    browser.evaluate("location.hash = '#instances'").await;
    browser.screenshot(&picture("light.png")).await;
    browser.scheme("dark").await;
    browser.screenshot(&picture("dark.png")).await;
    browser.resize(390, 800).await;
    browser.until("document.documentElement.scrollWidth <= innerWidth").await;
    browser.screenshot(&picture("phone.png")).await;
    assert_eq!(browser.evaluate("window.ran ?? null").await, Value::Null);
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}

#[tokio::test]
async fn a_browser_shows_the_members_of_a_cluster_and_the_owner_of_each_instance() {
    let Some(chromium) = chromium() else { return };
    let (nats, _sub0, mut daemon) = fixture("cluster.enabled = true\ncluster.name = \"alpha\"").await;
    let url = format!("http://{}/", daemon.admin().await);
    let mut browser = Browser::open(&chromium, &url, 1000, 720).await;
    browser.until("document.querySelector('nav a[href=\"#cluster\"]')?.hidden === false").await;
    browser.evaluate("location.hash = '#cluster'").await;
    browser.until("document.querySelector('#cluster').innerText.match(/shop\\s+alpha\\s.* s ago/)").await;
    browser
        .until("document.querySelector('#cluster').innerText.includes('has taken 1 free instances')")
        .await;
    // What other members send of themselves is text, too.
    let client = nats.client().await;
    let member =
        json!({"run": "1", "weight": 0, "labels": [HOSTILE], "leaving": true, "owns": [], "waits": []});
    pontoon_testkit::eventually(DEADLINE, async || {
        client.publish("$KV.pontoon_members.pontoon.beta", member.to_string().into()).await.unwrap();
        let shown = "document.querySelector('#cluster').innerText";
        let shown =
            browser.evaluate(&format!("{shown}.includes('beta') && {shown}.includes('onerror')")).await;
        shown == true
    })
    .await;
    browser.screenshot(&picture("cluster.png")).await;
    assert_eq!(browser.evaluate("window.ran ?? null").await, Value::Null);
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}
