//! What an instance offers is what its configuration allows: in the micro service, in refusals, and to callers that
//! name a level to wait for.

use std::collections::BTreeMap;

use pontoon_testkit::{DaemonConfig, Eliza, ElizaDialect, NatsServer, Sub0, eventually};
use serde_json::Value;

use crate::cli::{output, pontoon};
use crate::support::{DEADLINE, ask, request, start};

const NOWHERE: &str = "url = \"ws://127.0.0.1:1/\"";
const WEB: &str = "url = \"http://127.0.0.1:1/\"";

/// A type, settings, what is listed with which promise, and what is not, with a part of the reason.
type Case = (&'static str, String, &'static [Pair], &'static [Pair]);
type Pair = (&'static str, &'static str);

/// The operations that the micro service of an instance lists, with their promises.
async fn offers(client: &async_nats::Client, kind: &str, instance: &str) -> BTreeMap<String, String> {
    let info = request(client, &format!("$SRV.INFO.pontoon-{kind}-{instance}")).await.expect("an answer");
    let endpoints = info["endpoints"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    endpoints.iter().map(|one| (text(&one["name"]), text(&one["metadata"]["promise"]))).collect()
}

#[tokio::test]
async fn what_the_configuration_refuses_is_not_listed_and_promises_are_the_instances() {
    let cases: &[Case] = &[
        ("websocket", NOWHERE.into(), &[("send", "sent")], &[("call", "call ="), ("message.send", "send =")]),
        (
            "websocket",
            format!("{NOWHERE}\ncall = {{ id = \"/id\" }}\nsend = {{ frame = {{ t = \"${{text}}\" }} }}"),
            &[("call", "response"), ("message-send", "sent")],
            &[],
        ),
        (
            "websocket",
            format!(
                "{NOWHERE}\ncall = {{ id = \"/id\" }}\nsend = {{ frame = {{ t = \"${{text}}\" }}, acknowledged = true }}"
            ),
            &[("call", "response"), ("message-send", "acked")],
            &[],
        ),
        ("socketio", WEB.into(), &[("emit", "sent"), ("call", "response")], &[("message.send", "send =")]),
        (
            "socketio",
            format!("{WEB}\nsend = {{ event = \"say\", args = [\"${{text}}\"] }}"),
            &[("message-send", "sent")],
            &[],
        ),
        (
            "socketio",
            format!("{WEB}\nsend = {{ event = \"say\", args = [\"${{text}}\"], acknowledged = true }}"),
            &[("message-send", "acked")],
            &[],
        ),
        ("elizaos", WEB.into(), &[("message", "acked"), ("logs-filter", "acked")], &[]),
        (
            "elizaos",
            format!("{WEB}\ndialect = \"documented\""),
            &[
                ("message", "sent"),
                ("message-send", "sent"),
                ("join", "sent"),
                ("request-world-state", "sent"),
            ],
            &[("logs.subscribe", "log"), ("logs.unsubscribe", "log"), ("logs.filter", "log")],
        ),
        (
            "elizaos",
            format!("{WEB}\ndialect = \"native\""),
            &[("message", "acked"), ("join", "acked"), ("leave", "accepted")],
            &[("request-world-state", "world state")],
        ),
        (
            "minchat",
            format!("{WEB}\nuser_id = \"u\"\napi_key = \"key-of-this\""),
            &[("room-join", "accepted"), ("room-leave", "accepted"), ("message", "acked")],
            &[],
        ),
        (
            "minchat",
            format!("{WEB}\nuser_id = \"u\"\napi_key = \"key-of-this\"\nlinks = \"shared\""),
            &[("room-join", "sent"), ("room-leave", "sent")],
            &[],
        ),
        (
            "streamavatars",
            "sockets.a.url = \"ws://127.0.0.1:1/\"".into(),
            &[("send", "sent"), ("list", "response"), ("message-send", "sent")],
            &[("create", "dynamic.enabled"), ("remove", "dynamic.enabled"), ("script.send", "listen")],
        ),
        (
            "streamavatars",
            "listen.token = \"token-of-this\"\nlisten.address = \"127.0.0.1:0\"".into(),
            &[("script-send", "sent")],
            &[("create", "dynamic.enabled"), ("send", "sockets")],
        ),
        (
            "streamavatars",
            "dynamic.enabled = true\ndynamic.hosts = [\"ws.example\"]".into(),
            &[("create", "acked"), ("remove", "accepted"), ("send", "sent")],
            &[("script.send", "listen")],
        ),
        ("sub0", NOWHERE.into(), &[("call", "response")], &[]),
        ("aui", format!("{NOWHERE}\nnetwork_api_key = \"key-of-this\""), &[("message", "response")], &[]),
    ];
    let nats = NatsServer::options().every_right().start().await;
    let mut config = DaemonConfig::new(&nats);
    for (number, (kind, settings, ..)) in cases.iter().enumerate() {
        config = config.connector(&format!("i{number}"), kind, settings);
    }
    let mut daemon = start(config);
    daemon.ready(DEADLINE).await;
    let client = nats.client().await;
    for (number, (kind, settings, listed, refused)) in cases.iter().enumerate() {
        let instance = format!("i{number}");
        let offers = offers(&client, kind, &instance).await;
        for (name, delivery) in *listed {
            assert_eq!(offers.get(*name).map(String::as_str), Some(*delivery), "{kind} {settings}: {name}");
        }
        let subject = |operation: &str| format!("pontoon.command.{kind}.{instance}.{operation}");
        let unknown = ask(&client, &subject("no-such"), "{}", &[]).await;
        assert_eq!(unknown.verdict(), ("rejected", Some("404")));
        for (name, reason) in *refused {
            assert!(!offers.contains_key(&name.replace('.', "-")), "{kind} {settings}: {name} is listed");
            let names = unknown.message().split("there are ").nth(1).unwrap_or_default().to_owned();
            assert!(!names.split(", ").any(|known| known == *name), "{kind} {settings}: {names}");
            let reply = ask(&client, &subject(name), "{}", &[]).await;
            assert_eq!(reply.status, "rejected", "{kind} {settings}: {name}");
            assert!(reply.message().contains(reason), "{name}: {}", reply.message());
        }
        // A wait for more than is promised is refused, even if the body is wrong too.
        let levels = ["accepted", "sent", "acked", "response"];
        for (name, delivery) in *listed {
            let place = levels.iter().position(|level| level == delivery).expect("a level");
            let Some(more) = levels.get(place + 1) else { continue };
            // An endpoint's name has hyphens where the operation has dots, but for this one.
            let operation =
                if *name == "request-world-state" { (*name).to_owned() } else { name.replace('-', ".") };
            let reply = ask(&client, &subject(&operation), "{}", &[("Pontoon-Wait", *more)]).await;
            assert_eq!(
                reply.verdict(),
                ("rejected", Some("400")),
                "{kind} {settings}: {name} {}",
                reply.message()
            );
            assert!(reply.message().contains(delivery), "{}", reply.message());
        }
    }
    let metrics = daemon.metrics().await;
    let refused: usize = cases.iter().map(|(.., refused)| refused.len() + 1).sum();
    let counted =
        metrics.value("pontoon_commands_total", &[("operation", "unknown"), ("outcome", "rejected")]);
    assert_eq!(counted, Some(refused as f64));
}

#[tokio::test]
async fn send_fails_if_it_waits_for_more_than_the_instance_can_promise() {
    let (nats, service) = (NatsServer::start().await, Sub0::start().await);
    let settings = format!("url = \"{}\"\nsend = {{ frame = {{ t = \"${{text}}\" }} }}", service.url());
    let _daemon = start(DaemonConfig::new(&nats).connector("shop", "websocket", &settings));
    service.connected(1, DEADLINE).await;
    let body = r#"{"text":"hi"}"#;
    let arguments =
        |wait: &'static str| ["send", "--type", "websocket", "shop", "message.send", body, "--wait", wait];
    eventually(DEADLINE, async || output(pontoon(&nats, &arguments("sent"))).await.0 == Some(0)).await;
    eventually(DEADLINE, async || service.texts().len() == 1).await;
    let (code, out, _) = output(pontoon(&nats, &arguments("acked"))).await;
    assert_eq!(code, Some(1), "{out}");
    let reply: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&reply["status"], &reply["error"]["code"]), (&"rejected".into(), &400.into()), "{out}");
    assert_eq!(output(pontoon(&nats, &arguments("sent"))).await.0, Some(0));
    eventually(DEADLINE, async || service.texts().len() > 1).await;
    assert_eq!(service.texts().len(), 2, "what was refused was not sent");
}

#[tokio::test]
async fn where_only_the_connection_decides_a_caller_that_waits_for_more_is_refused_and_nothing_is_done() {
    let nats = NatsServer::start().await;
    let eliza = Eliza::options().dialect(ElizaDialect::Documented).start().await;
    let _daemon = start(DaemonConfig::new(&nats).eliza("eliza", &eliza));
    let client = nats.client().await;
    let room = "00000000-0000-0000-0000-000000000009";
    let body = format!("{{\"roomId\":\"{room}\"}}");
    let join = async |wait: &str| {
        let subject = "pontoon.command.elizaos.eliza.join";
        ask(&client, subject, &body, &[("Pontoon-Wait", wait)]).await
    };
    let mut last = join("acked").await;
    eventually(DEADLINE, async || {
        last = join("acked").await;
        last.code.as_deref() == Some("400")
    })
    .await;
    assert!(last.message().contains("sent"), "{}", last.message());
    assert_eq!(eliza.joins(room), 0);
    assert_eq!(join("sent").await.verdict(), ("sent", None));
    eventually(DEADLINE, async || eliza.joins(room) == 1).await;
}
