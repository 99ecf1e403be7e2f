//! Sockets that callers create: which are allowed, what is replied, and how the sockets end.

use pontoon_testkit::{Listener, Refusal, eventually};
use serde_json::json;

use super::Fixture;
use crate::support::DEADLINE;

/// Loopback is allowed by its address, and by no name.
const DYNAMIC: &str =
    r#"dynamic = { enabled = true, hosts = ["127.0.0.1", "localhost"], addresses = ["127.0.0.1"], max = 3 }"#;

fn create(title: &str, url: &str, more: &str) -> String {
    format!(r#"{{"title":"{title}","url":"{url}"{more}}}"#)
}

#[tokio::test]
async fn a_socket_lives_from_create_to_remove() {
    let mut fixture = Fixture::start(DYNAMIC).await;
    let url = fixture.echo.url();
    let reply = fixture.ask("create", &create("t", &url, r#","protocols":["a","b"]"#)).await;
    assert_eq!((reply.status.as_str(), &reply.body["data"]), ("acked", &json!({"title": "t"})), "{reply:?}");
    assert_eq!(fixture.echo.requests()[0].subprotocols(), ["a", "b"]);
    fixture.event("socket.opened").await;
    fixture.event("socket.message").await;
    assert_eq!(fixture.ask("send", r#"{"title":"t","message":"gogo!"}"#).await.status, "sent");
    assert_eq!(fixture.event("socket.message").await.1["message"], "gogo!");
    assert_eq!(fixture.ask("remove", r#"{"title":"t"}"#).await.status, "accepted");
    let (name, body) = fixture.event("socket.closed").await;
    assert_eq!((name.as_str(), &body["title"]), ("OnClose", &json!("t")));
    assert_eq!(fixture.ask("remove", r#"{"title":"t"}"#).await.status, "accepted");
    fixture.echo.connected(0, DEADLINE).await;
    let reply = fixture.ask("send", r#"{"title":"t","message":"x"}"#).await;
    assert_eq!(reply.verdict(), ("rejected", Some("404")), "{reply:?}");
    fixture.state(|state| state["links"] == json!([])).await;
}

#[tokio::test]
async fn a_title_that_exists_is_taken_over_in_order() {
    let mut fixture = Fixture::start(DYNAMIC).await;
    let url = fixture.echo.url();
    for turn in 0..5 {
        let reply = fixture.ask("create", &create("t", &format!("{url}{turn}"), "")).await;
        assert_eq!(reply.status, "acked", "{reply:?}");
    }
    // The end of each comes before the beginning of the next.
    fixture.event("socket.opened").await;
    for _ in 1..5 {
        let kinds = ["socket.closed", "socket.opened"];
        for kind in kinds {
            let (message, _) = crate::support::next(&mut fixture.events, |message, _| {
                let kind = message.headers.as_ref().and_then(|headers| headers.get("ce-type"));
                kind.is_some_and(|kind| {
                    kind.as_str().contains("socket.") && !kind.as_str().contains("message")
                })
            })
            .await;
            let got = message.headers.unwrap().get("ce-type").unwrap().to_string();
            assert_eq!(got, format!("pontoon.{kind}.v1"));
        }
    }
    fixture.echo.connected(1, DEADLINE).await;
    assert_eq!(fixture.echo.connections()[0].request().path, "/4");
}

#[tokio::test]
async fn a_created_socket_ends_with_its_connection_unless_it_is_to_reconnect() {
    let mut fixture = Fixture::start(DYNAMIC).await;
    let url = fixture.echo.url();
    for (title, more) in [("once", ""), ("again", r#","reconnect":true"#)] {
        let reply = fixture.ask("create", &create(title, &url, more)).await;
        assert_eq!(reply.status, "acked", "{reply:?}");
    }
    // What would not be made again is left alone.
    assert_eq!(fixture.ask("reconnect", "").await.status, "accepted");
    assert_eq!(fixture.event("socket.closed").await.1["title"], "again");
    assert_eq!(fixture.event("socket.opened").await.1["title"], "again");
    fixture.echo.close(1000, "bye");
    let mut closed = [fixture.event("socket.closed").await.1, fixture.event("socket.closed").await.1];
    closed.sort_by_key(|body| body["title"].to_string());
    assert_eq!((&closed[0]["title"], &closed[1]["title"]), (&json!("again"), &json!("once")));
    fixture
        .state(|state| {
            let links = state["links"].as_array().unwrap();
            links.len() == 1 && links[0]["key"] == "again" && links[0]["phase"] == "ready"
        })
        .await;
    fixture.echo.connected(1, DEADLINE).await;
}

#[tokio::test]
async fn a_created_socket_that_breaks_leaves_a_gap_and_one_that_is_closed_does_not() {
    let mut fixture = Fixture::start(DYNAMIC).await;
    let url = fixture.echo.url();
    for (title, breaks) in [("closed", false), ("broken", true), ("end", false)] {
        assert_eq!(fixture.ask("create", &create(title, &url, "")).await.status, "acked");
        if breaks {
            fixture.echo.cut()
        } else {
            fixture.echo.close(1000, "")
        }
        fixture.state(|state| state["links"] == json!([])).await;
    }
    let mut received = Vec::new();
    while received.last().map(String::as_str) != Some("socket.closed end") {
        let (message, body) = crate::support::next(&mut fixture.events, |_, _| true).await;
        let kind = message.headers.unwrap().get("ce-type").unwrap().to_string();
        let kind = kind.trim_start_matches("pontoon.").trim_end_matches(".v1").to_owned();
        let title = body["title"].as_str().or(body["link"].as_str()).unwrap_or_default();
        let ignored = kind.ends_with("message") || kind.ends_with("opened") || body["reason"] == "restarted";
        if !ignored {
            received.push(format!("{kind} {title}"));
        }
    }
    assert_eq!(
        received,
        ["socket.closed closed", "socket.failed broken", "gap.detected broken", "socket.closed end"]
    );
}

#[tokio::test]
async fn a_socket_that_cannot_be_opened_is_reported_to_its_caller() {
    let mut fixture = Fixture::start(DYNAMIC).await;
    let url = fixture.echo.url();
    fixture.echo.refuse(Refusal::status(401));
    let reply = fixture.ask("create", &create("t", &url, "")).await;
    assert_eq!(reply.verdict(), ("failed", Some("503")), "{reply:?}");
    assert!(reply.message().contains("401"), "{reply:?}");
    let (name, body) = fixture.event("socket.failed").await;
    assert_eq!((name.as_str(), &body["title"]), ("OnError", &json!("t")));
    fixture.state(|state| state["links"] == json!([])).await;

    let reply = fixture.ask("create", &create("u", &url, r#","reconnect":true"#)).await;
    assert_eq!(reply.status, "accepted", "{reply:?}");
    fixture.echo.authorize();
    fixture.state(|state| state["links"][0]["key"] == "u").await;
    // A slow retry is cut short by the operation that is there for that.
    assert_eq!(fixture.ask("reconnect", "").await.status, "accepted");
    fixture.event("socket.opened").await;
    fixture.echo.connected(1, DEADLINE).await;
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_the_rule_and_nothing_is_dialled() {
    let lines =
        r#"dynamic = { enabled = true, hosts = ["127.0.0.1", "localhost", "*.example.com"], max = 1 }"#;
    let fixture = Fixture::start(lines).await;
    let port = fixture.echo.address().port();
    for (url, code, rule) in [
        (format!("http://127.0.0.1:{port}/"), "403", "ws://"),
        (format!("ws://127.0.0.1:{port}/"), "403", "loopback"),
        (format!("ws://0x7f.1:{port}/"), "403", ""),
        (format!("ws://[::1]:{port}/"), "403", "dynamic.hosts"),
        ("ws://evil.example/".to_owned(), "403", "dynamic.hosts"),
        ("nonsense".to_owned(), "400", ""),
    ] {
        let reply = fixture.ask("create", &create("t", &url, "")).await;
        assert_eq!(reply.verdict(), ("rejected", Some(code)), "{url}: {reply:?}");
        assert!(reply.message().contains(rule), "{url}: {reply:?}");
    }
    // Known only once the name is looked up: then a socket of that title may have been closed for it.
    let reply = fixture.ask("create", &create("t", &format!("ws://localhost:{port}/"), "")).await;
    assert_eq!(reply.verdict(), ("failed", Some("403")), "{reply:?}");
    assert!(reply.message().contains("loopback"), "{reply:?}");
    assert_eq!(fixture.echo.dials().len(), 0);
    fixture.state(|state| state["links"] == json!([])).await;
    let reply =
        fixture.ask_with("create", &create("t", "ws://127.0.0.1/", ""), &[("Pontoon-Wait", "sent")]).await;
    assert_eq!(reply.verdict(), ("rejected", Some("403")), "{reply:?}");
}

#[tokio::test]
async fn a_caller_whose_time_runs_out_gets_unknown() {
    let mut fixture = Fixture::start(DYNAMIC).await;
    fixture.echo.listener(Listener::Silent);
    let url = fixture.echo.url();
    let reply = fixture.ask_with("create", &create("t", &url, ""), &[("Pontoon-Timeout", "200ms")]).await;
    assert_eq!(reply.verdict(), ("unknown", Some("504")), "{reply:?}");
    let phase = |phase: &'static str| move |state: &serde_json::Value| state["links"][0]["phase"] == phase;
    fixture.state(phase("connecting")).await;
    assert_eq!(fixture.ask("remove", r#"{"title":"t"}"#).await.status, "accepted");
    fixture.state(|state| state["links"] == json!([])).await;
    fixture.echo.authorize();
    assert_eq!(fixture.ask("create", &create("t", &url, "")).await.status, "acked");
    fixture.event("socket.opened").await;
}

#[tokio::test]
async fn no_more_sockets_are_created_than_there_may_be() {
    let fixture = Fixture::start(DYNAMIC).await;
    let url = fixture.echo.url();
    for title in ["a", "b", "c"] {
        assert_eq!(fixture.ask("create", &create(title, &url, "")).await.status, "acked");
    }
    let reply = fixture.ask("create", &create("d", &url, "")).await;
    assert_eq!(reply.verdict(), ("rejected", Some("403")), "{reply:?}");
    assert!(reply.message().contains('3'), "{reply:?}");
    // One that takes a title over is not one more.
    assert_eq!(fixture.ask("create", &create("c", &url, "")).await.status, "acked");
    assert_eq!(fixture.ask("remove", r#"{"title":"a"}"#).await.status, "accepted");
    assert_eq!(fixture.ask("create", &create("d", &url, "")).await.status, "acked");
    fixture.echo.connected(3, DEADLINE).await;
    fixture.echo.close(1000, "");
    eventually(DEADLINE, async || fixture.ask("list", "").await.body["data"] == json!([])).await;
    assert_eq!(fixture.ask("create", &create("e", &url, "")).await.status, "acked");
}
