//! How a link comes to be: namespaces, paths, what is sent along, and refusals.

use std::time::Duration;

use pontoon_testkit::eventually;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fixture::Fixture;
use super::server::Server;
use crate::support::DEADLINE;

#[tokio::test]
async fn a_link_is_in_its_namespace_and_receives_no_other() {
    let mut fixture = Fixture::ready("namespace = \"/chat\"", json!({"namespaces": ["/", "/chat"]})).await;
    for namespace in ["/", "/chat"] {
        let order = json!({"do": "emit", "namespace": namespace, "name": format!("in {namespace}")});
        fixture.server.order(order).await;
    }
    fixture.event("in /chat").await;
    assert_eq!(fixture.events().len(), 1, "{:?}", fixture.events());
    assert_eq!(fixture.ask("call.echo", &json!("hello")).await.verdict(), ("response", None));
    let connects = fixture.server.sees("connect", 1).await;
    assert_eq!(connects.len(), 1);
    assert_eq!(connects[0]["namespace"], "/chat");
    assert_eq!(fixture.server.receives("echo", 1).await[0]["namespace"], "/chat");
}

#[tokio::test]
async fn what_is_sent_right_after_the_handshake_is_received() {
    let fixture = Fixture::ready("", json!({"greetings": 100})).await;
    eventually(DEADLINE, async || fixture.events().len() == 100).await;
    let numbers: Vec<_> = fixture.events().iter().map(|event| event.body["raw"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..100).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_a_wrong_address() {
    let fixture = Fixture::start("namespace = \"/nowhere\"", json!({})).await;
    let link = fixture.link(|link| link["phase"] == "wrong_address").await;
    assert!(link["detail"].as_str().unwrap().contains("/nowhere"), "{link}");
}

#[tokio::test]
async fn what_lets_us_in_arrives_and_is_not_logged() {
    let server = Server::start(json!({"token": "open sesame", "path": "/base/io/"})).await;
    let url = format!("{}/base/io/", server.url());
    let settings = r#"
        auth = { token = { env = "TOKEN" }, user = { id = 7, tags = ["a", "ü"] } }
        query = { room = "a b&c=ü+%", empty = "" }
        headers = { X-Team = "bridge", X-Key = { env = "KEY" } }
    "#;
    let fixture = Fixture::at(&url, settings, server, |config| {
        config.environment("TOKEN", "open sesame").environment("KEY", "key-to-it")
    })
    .await;
    fixture.link(|link| link["phase"] == "ready").await;
    let connect = fixture.server.sees("connect", 1).await[0].clone();
    assert_eq!(connect["auth"], json!({"token": "open sesame", "user": {"id": 7, "tags": ["a", "ü"]}}));
    assert_eq!(connect["query"]["room"], "a b&c=ü+%");
    assert_eq!(connect["query"]["empty"], "");
    assert_eq!(
        (&connect["headers"]["x-team"], &connect["headers"]["x-key"]),
        (&json!("bridge"), &json!("key-to-it"))
    );
    let log = fixture.daemon.log();
    assert!(!log.contains("open sesame") && !log.contains("key-to-it"), "{log}");
}

/// The reference server leaves what is not for it to others, and hangs up if there are none.
#[tokio::test]
async fn another_path_belongs_to_no_listener() {
    let fixture = Fixture::start("", json!({"path": "/elsewhere/"})).await;
    let link = fixture.link(|link| link["phase"] == "waiting").await;
    assert!(link["detail"].is_string(), "{link}");
    assert!(fixture.server.saw("connect").is_empty());
}

#[tokio::test]
async fn a_refusal_is_reported_with_the_servers_message_and_not_hammered() {
    let mut fixture =
        Fixture::start("auth = { token = \"open-poppy\" }", json!({"token": "open sesame"})).await;
    let link = fixture.link(|link| link["phase"] == "credentials_refused").await;
    assert!(link["detail"].as_str().unwrap().contains("the token is not ours"), "{link}");
    let moment = |name: &str| OffsetDateTime::parse(link[name].as_str().unwrap(), &Rfc3339).unwrap();
    assert!(moment("retry_at") - moment("since") > Duration::from_secs(120), "{link}");
    assert_eq!(fixture.server.sees("refused", 1).await.len(), 1);
    assert_eq!(fixture.ask("emit.anything", &Value::Null).await.verdict(), ("failed", Some("503")));
    assert!(!fixture.daemon.log().contains("open-poppy"));
    let labels = [("pontoon_instance", "any"), ("outcome", "credentials")];
    let metrics = fixture.daemon.metrics().await;
    assert_eq!(metrics.value("pontoon_link_connects_total", &labels), Some(1.0));
    // An operator who has mended it need not wait.
    fixture.ask("reconnect", &Value::Null).await;
    eventually(DEADLINE, async || fixture.server.saw("refused").len() == 2).await;
}
