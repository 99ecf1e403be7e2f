//! Dials with this engine: headers and auth, refusals, and silent servers.

use std::time::Duration;

use pontoon_testkit::{Listener, Opening, Refusal, SocketIoServer, Welcome, eventually};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ENGINE;
use crate::fixture::Fixture;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::support::DEADLINE;

#[tokio::test]
async fn what_lets_us_in_arrives_and_is_not_logged() {
    let options = json!({"token": "open sesame", "path": "/base/io/", "namespaces": ["/", "/chat"]});
    let server = Server::start(options).await;
    let url = format!("{}/base/io/", server.url());
    let settings = r#"
        namespace = "/chat"
        auth = { token = { env = "TOKEN" }, user = { id = 7, tags = ["a", "ü"] } }
        query = { room = "a b&c=ü+%", empty = "" }
        headers = { X-Team = "bridge", X-Key = { env = "KEY" } }
    "#;
    let fixture = Fixture::at(&url, &format!("{ENGINE}{settings}"), server, |config| {
        config.environment("TOKEN", "open sesame").environment("KEY", "key-to-it")
    })
    .await;
    fixture.link(|link| link["phase"] == "ready").await;
    let connect = fixture.server.saw("connect")[0].clone();
    assert_eq!(connect["namespace"], "/chat");
    assert_eq!(connect["auth"], json!({"token": "open sesame", "user": {"id": 7, "tags": ["a", "ü"]}}));
    assert_eq!(connect["query"]["room"], "a b&c=ü+%");
    assert_eq!(connect["query"]["empty"], "");
    assert_eq!(
        (&connect["query"]["EIO"], &connect["query"]["transport"]),
        (&json!("4"), &json!("websocket"))
    );
    assert_eq!(
        (&connect["headers"]["x-team"], &connect["headers"]["x-key"]),
        (&json!("bridge"), &json!("key-to-it"))
    );
    let log = fixture.daemon.log();
    assert!(!log.contains("open sesame") && !log.contains("key-to-it"), "{log}");
}

#[tokio::test]
async fn a_refusal_is_reported_with_the_servers_message_and_not_hammered() {
    let settings = format!("{ENGINE}auth = {{ token = \"open-poppy\" }}");
    let mut fixture = Fixture::start(&settings, json!({"token": "open sesame"})).await;
    let link = fixture.link(|link| link["phase"] == "credentials_refused").await;
    assert!(link["detail"].as_str().unwrap().contains("the token is not ours"), "{link}");
    let moment = |name: &str| OffsetDateTime::parse(link[name].as_str().unwrap(), &Rfc3339).unwrap();
    assert!(moment("retry_at") - moment("since") > Duration::from_secs(120), "{link}");
    assert_eq!(fixture.server.saw("refused").len(), 1);
    assert_eq!(fixture.ask("emit.anything", &Value::Null).await.verdict(), ("failed", Some("503")));
    assert!(!fixture.daemon.log().contains("open-poppy"));
    let labels = [("pontoon_instance", "any"), ("outcome", "credentials")];
    let metrics = fixture.daemon.metrics().await;
    assert_eq!(metrics.value("pontoon_link_connects_total", &labels), Some(1.0));
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_a_wrong_address() {
    let fixture = Fixture::start(&format!("{ENGINE}namespace = \"/nowhere\""), json!({})).await;
    let link = fixture.link(|link| link["phase"] == "wrong_address").await;
    assert!(link["detail"].as_str().unwrap().contains("/nowhere"), "{link}");
}

#[tokio::test]
async fn a_dial_that_fails_reports_the_cause() {
    let refuse = |status| move |service: &SocketIoServer| service.refuse(Refusal::status(status));
    for (status, phase) in [(401, "credentials_refused"), (404, "wrong_address"), (503, "waiting")] {
        let scenario = Scenario::with("", refuse(status)).await;
        let detail = scenario.link(phase).await;
        assert!(detail.contains(&status.to_string()), "{status}: {detail}");
    }
    let scenario = Scenario::with("", |service| service.opening(Opening::Text("hello".into()))).await;
    let detail = scenario.link("wrong_address").await;
    assert!(detail.contains("not an Engine.IO 4 server"), "{detail}");
    let scenario = Scenario::with("", |service| service.listener(Listener::Slam)).await;
    scenario.link("waiting").await;
    let scenario = Scenario::ready("").await;
    scenario.service.stop_listening().await;
    scenario.service.hang_up();
    let detail = async {
        loop {
            let detail = scenario.link("waiting").await;
            if detail.contains("refused") {
                return detail;
            }
        }
    };
    assert!(detail.await.contains("cannot be reached"));
}

/// Each of these servers keeps its socket open and sends too little; the dial ends at its deadline.
#[tokio::test]
async fn a_service_that_keeps_silent_is_given_up_and_dialled_again() {
    for name in ["no upgrade", "no open packet", "no confirmation"] {
        let keep_silent = |service: &SocketIoServer| match name {
            "no upgrade" => service.listener(Listener::Silent),
            "no open packet" => service.opening(Opening::Nothing),
            _ => service.welcome(Welcome::Silence),
        };
        let scenario = Scenario::with("transport.connect_timeout = \"1s\"", keep_silent).await;
        let detail = scenario.link("waiting").await;
        assert!(detail.contains("within 1s"), "{name}: {detail}");
        scenario.service.authorize();
        scenario.service.opening(Opening::Timers(Default::default()));
        scenario.service.welcome(Welcome::Confirm);
        scenario.link("ready").await;
        // The threads of the dials that failed are gone.
        eventually(DEADLINE, async || scenario.threads() == 1).await;
    }
}

#[tokio::test]
async fn it_says_who_dials_and_that_it_cannot_go_through_a_proxy() {
    let scenario = Scenario::ready("").await;
    let agent = concat!("pontoon/", env!("CARGO_PKG_VERSION"));
    assert_eq!(scenario.service.requests()[0].header("user-agent"), Some(agent));
    let scenario = Scenario::ready("headers = { user-agent = \"mine/1\" }").await;
    assert_eq!(scenario.service.requests()[0].header("user-agent"), Some("mine/1"));
    let scenario = Scenario::with("transport.proxy = \"http://127.0.0.1:1\"", |_| {}).await;
    let detail = scenario.link("wrong_address").await;
    assert!(detail.contains("cannot go through a proxy; write engine = \"native\""), "{detail}");
    assert!(scenario.service.dials().is_empty());
}
