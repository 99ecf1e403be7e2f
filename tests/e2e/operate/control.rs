//! Operators steer instances and the daemon over NATS, where the configuration allows it.

use serde_json::json;

use super::*;
use pontoon_testkit::until_some;

use crate::cli::{output, pontoon};
use crate::support::{ask, ask_when_served, contents, link, listen, next, request};

const ALLOWED: &str = "admin.commands = true";

#[tokio::test]
async fn a_paused_instance_has_no_connection_until_it_is_resumed() {
    let (nats, sub0, mut daemon) = fixture(ALLOWED).await;
    let client = nats.client().await;
    let command = |operation: &str| format!("pontoon.command.sub0.shop.{operation}");
    let reply = ask(&client, &command("pause"), "{}", &[]).await;
    assert_eq!(reply.status, "accepted", "{reply:?}");
    sub0.connected(0, DEADLINE).await;
    link(&mut daemon, "shop", "paused").await;
    // What an operator wants is not a fault.
    let (code, reasons) = daemon.get("/readyz?strict").await;
    assert_eq!(code, 200, "{reasons}");
    let reply = ask(&client, &command("call.x"), "{}", &[]).await;
    assert_eq!(reply.verdict(), ("failed", Some("503")), "{reply:?}");
    // It changes nothing that the links are to be dialled again.
    ask(&client, &command("reconnect"), "{}", &[]).await;
    assert_eq!((sub0.upgrades(), link(&mut daemon, "shop", "paused").await.as_str()), (1, ""));

    let reply = ask(&client, &command("resume"), "{}", &[]).await;
    assert_eq!(reply.status, "accepted", "{reply:?}");
    link(&mut daemon, "shop", "ready").await;
    let reply = ask(&client, &command("call.x"), "{}", &[]).await;
    assert_eq!(reply.status, "response", "{reply:?}");
    counted(&mut daemon, "pontoon_events_published_total", "shop", 2.0).await;
    let events = contents(&nats, "PONTOON_SHOP").await;
    let (subject, gap) = events.last().unwrap();
    assert!(subject.contains(".gap.detected") && gap["from"].is_string(), "the pause is a gap: {events:?}");
}

#[tokio::test]
async fn without_permission_nothing_is_paused_and_the_daemon_takes_no_commands() {
    let (nats, sub0, mut daemon) = fixture("").await;
    let client = nats.client().await;
    let reply = ask(&client, "pontoon.command.sub0.shop.pause", "{}", &[]).await;
    assert_eq!(reply.verdict(), ("rejected", Some("403")), "{reply:?}");
    assert!(reply.message().contains("admin.commands"), "{reply:?}");
    let unknown = ask(&client, "pontoon.command.sub0.shop.nothing", "{}", &[]).await;
    assert!(!unknown.message().contains("pause"), "it is not offered: {unknown:?}");
    assert_eq!(request(&client, "pontoon.control.status").await, None);
    assert_eq!(sub0.connections().len(), 1);

    // A reload allows it, and the sockets stay. It also moves the admin endpoint to another free port.
    daemon.reconfigure(DaemonConfig::new(&nats).with(ALLOWED).sub0("shop", &sub0));
    daemon.signal("HUP");
    ask_when_served(&client, "pontoon.control.status", "").await;
    assert_eq!(sub0.upgrades(), 1);
    let reply = ask(&client, "pontoon.command.sub0.shop.pause", "{}", &[]).await;
    assert_eq!(reply.status, "accepted", "{reply:?}");
}

#[tokio::test]
async fn the_daemon_is_a_micro_service_that_pauses_resumes_and_reloads() {
    let (nats, sub0, mut daemon) = fixture(ALLOWED).await;
    let client = nats.client().await;
    let control =
        async |operation: &str| ask(&client, &format!("pontoon.control.{operation}"), "", &[]).await;
    let info = until_some(DEADLINE, async || request(&client, "$SRV.INFO.pontoon").await).await;
    let one = ask(&client, "pontoon.control.pause", r#"{"instance":"shop"}"#, &[]).await;
    assert_eq!(one.verdict(), ("rejected", Some("400")), "{one:?}");
    assert!(one.message().contains("is for the whole daemon"), "{one:?}");
    let subjects: Vec<_> = info["endpoints"].as_array().unwrap().iter().map(|it| &it["subject"]).collect();
    for operation in ["reload", "status", "pause", "resume"] {
        assert!(subjects.contains(&&json!(format!("pontoon.control.{operation}"))), "{info}");
    }

    let reply = control("status").await;
    assert_eq!(reply.body["data"]["instances"][0]["instance"], "shop", "{reply:?}");
    let reply = control("pause").await;
    assert_eq!(reply.body["data"]["instances"]["shop"]["status"], "accepted", "{reply:?}");
    sub0.connected(0, DEADLINE).await;
    control("resume").await;
    sub0.connected(1, DEADLINE).await;
    let reply = control("nothing").await;
    assert_eq!(reply.verdict(), ("rejected", Some("404")), "{reply:?}");

    let more = Sub0::start().await;
    let base = || DaemonConfig::new(&nats).with(ALLOWED).sub0("shop", &sub0);
    daemon.reconfigure(base().sub0("more", &more));
    let reply = control("reload").await;
    assert_eq!(reply.body["data"], json!({ "stop": [], "start": ["more"] }), "{reply:?}");
    more.connected(1, DEADLINE).await;
    daemon.reconfigure(base().connector("bad", "sub9", ""));
    let reply = control("reload").await;
    assert_eq!(reply.verdict(), ("rejected", Some("400")), "{reply:?}");
    assert!(reply.message().contains("sub9"), "{reply:?}");
    assert_eq!(more.connections().len(), 1, "it changes nothing");
}

#[tokio::test]
async fn the_command_line_steers_the_daemon() {
    let (nats, sub0, mut daemon) = fixture("").await;
    let control = async |operation: &str| output(pontoon(&nats, &["control", operation])).await;
    let (code, _, error) = control("pause").await;
    assert!(code == Some(1) && error.contains("admin.commands = true"), "{error}");
    assert_eq!(control("start").await.0, Some(2));

    daemon.reconfigure(DaemonConfig::new(&nats).with(ALLOWED).sub0("shop", &sub0));
    daemon.signal("HUP");
    ask_when_served(&nats.client().await, "pontoon.control.status", "").await;
    let (code, text, error) = control("status").await;
    let reply: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &reply["data"]["instances"][0]["instance"]), (Some(0), &json!("shop")), "{error}");
    assert_eq!(control("pause").await.0, Some(0));
    link(&mut daemon, "shop", "paused").await;
    assert_eq!(control("resume").await.0, Some(0));
    link(&mut daemon, "shop", "ready").await;
    daemon.reconfigure(DaemonConfig::new(&nats).with(ALLOWED).connector("bad", "sub9", ""));
    let (code, text, _) = control("reload").await;
    assert!(code == Some(1) && text.contains("sub9"), "{text}");
}

#[tokio::test]
async fn an_operator_may_steer_and_a_caller_may_not() {
    let nats = NatsServer::options().shipped_users(&["shop"]).start().await;
    let sub0 = Sub0::start().await;
    let mut daemon = start(DaemonConfig::new(&nats).with(ALLOWED).sub0("shop", &sub0));
    publishing(&mut daemon, "shop").await;
    let (operator, caller) = (user(&nats, "operator").await, user(&nats, "caller").await);
    ask_when_served(&operator, "pontoon.control.status", "").await;
    let status = "pontoon.command.sub0.shop.status";
    for subject in ["pontoon.command.sub0.shop.pause", "pontoon.job.sub0.shop.pause", "pontoon.control.pause"]
    {
        caller.publish(subject, "{}".into()).await.unwrap();
        ask(&caller, status, "{}", &[]).await;
    }
    for (user, code, text) in [("operator", 0, "\"instances\""), ("caller", 1, "")] {
        let mut control = pontoon(&nats, &["control", "status"]);
        control.env("PONTOON_NATS__USER", user).env("PONTOON_NATS__PASSWORD", NatsServer::PASSWORD);
        let (ended, out, error) = output(control).await;
        assert!(ended == Some(code) && out.contains(text), "{out}\n{error}");
        assert_eq!(error.contains("another user may be needed"), code == 1, "{error}");
    }
    let mut calls = listen(&nats.client().await, "pontoon.command.>").await;
    operator.publish("pontoon.command.sub0.shop.call.x", "{}".into()).await.unwrap();
    let reply = ask(&operator, "pontoon.command.sub0.shop.pause", "{}", &[]).await;
    assert_eq!(reply.status, "accepted", "{reply:?}");
    let (first, _) = next(&mut calls, |_, _| true).await;
    assert_eq!(first.subject.as_str(), "pontoon.command.sub0.shop.pause", "an operator calls no service");
    sub0.connected(0, DEADLINE).await;
    counted(&mut daemon, "pontoon_events_published_total", "shop", 1.0).await;
}

/// A client of one of the shipped users.
async fn user(nats: &NatsServer, user: &str) -> async_nats::Client {
    let options =
        async_nats::ConnectOptions::with_user_and_password(user.into(), NatsServer::PASSWORD.into());
    options.custom_inbox_prefix(format!("_INBOX.{user}")).connect(nats.url()).await.unwrap()
}
