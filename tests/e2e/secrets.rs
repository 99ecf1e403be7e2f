//! A secret appears nowhere but where it belongs: not in logs at their loudest, metrics, status, or on NATS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_testkit::{DaemonConfig, NatsServer, Refusal, Sub0, eventually};
use serde_json::json;

use crate::support::{DEADLINE, ask, link, listen, next, start};

const TOKEN: &str = "canary-token-5f1c";
const PASSWORD: &str = "canary-password-9a7e";

#[tokio::test]
async fn a_secret_appears_nowhere() {
    let users = format!("authorization {{ user: pontoon, password: \"{PASSWORD}\" }}");
    let nats = NatsServer::options().config(&users).start().await;
    let options = async_nats::ConnectOptions::with_user_and_password("pontoon".into(), PASSWORD.into());
    let client = options.connect(nats.url()).await.expect("connected");
    let mut all = listen(&client, ">").await;
    let sub0 = Sub0::start().await;
    sub0.require_token("x-access-token", TOKEN);
    let settings = format!("url = \"{}\"\ntoken = {{ env = \"CANARY_TOKEN\" }}", sub0.url());
    let config = DaemonConfig::new(&nats)
        .with("log.level = \"trace,async_nats=trace\"\nnats.user = \"pontoon\"\nnats.password = { env = \"CANARY_PASSWORD\" }")
        .connector("shop", "sub0", &settings)
        .environment("CANARY_TOKEN", TOKEN)
        .environment("CANARY_PASSWORD", PASSWORD);
    let mut daemon = start(config);
    sub0.connected(1, DEADLINE).await;
    next(&mut all, |message, state| {
        message.subject.as_str() == "pontoon.state.sub0.shop" && state["links"][0]["phase"] == "ready"
    })
    .await;
    daemon.ready(DEADLINE).await;
    assert_eq!(ask(&client, "pontoon.command.sub0.shop.call.x", "{}", &[]).await.status, "response");
    ask(&client, "pontoon.command.sub0.shop.status", "", &[]).await;
    sub0.broadcast("tick", &json!(1));
    // A service may repeat what we signed in with.
    sub0.close(4_001, &format!("who is {TOKEN}?"));
    eventually(DEADLINE, async || daemon.log().contains("who is ***?")).await;
    sub0.connected(1, DEADLINE).await;
    // Refusals and breaks are logged most.
    sub0.refuse(Refusal::status(401));
    sub0.cut();
    eventually(DEADLINE, async || daemon.get("/status").await.1.contains("credentials_refused")).await;
    let pages =
        [daemon.get("/status").await.1, daemon.get("/metrics").await.1, daemon.get("/readyz").await.1];
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
    let mut output = daemon.log();
    assert!(output.contains("TRACE") || output.contains("DEBUG"), "the log was loud");
    output.push_str(&pages.concat());
    while let Some(Some(message)) = futures_util::FutureExt::now_or_never(all.next()) {
        output.push_str(&format!(
            "{} {:?} {}",
            message.subject,
            message.headers,
            String::from_utf8_lossy(&message.payload)
        ));
    }
    for secret in [TOKEN, PASSWORD] {
        assert!(!output.contains(secret), "{secret} was shown");
    }
}

/// With all that forms differ in.
const ODD: &str = "k/e+y&\"7";

/// The forms of it that a service may send back.
fn forms() -> Vec<String> {
    let mut forms: Vec<_> = [
        ODD,
        "k%2Fe%2By%26%227",
        "k%2fe%2by%26%227",
        "k%252Fe%252By%2526%25227",
        r#"k/e+y&\"7"#,
        r#"k\/e\u002by\u0026\u00227"#,
        "k/e+y&amp;&quot;7",
    ]
    .map(str::to_owned)
    .to_vec();
    forms.push(STANDARD.encode(ODD));
    forms
}

#[tokio::test]
async fn a_secret_is_masked_in_every_form_in_which_it_comes_back() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let mut all = listen(&client, "pontoon.>").await;
    let (feed, sockets) = (Sub0::start().await, Sub0::start().await);
    let settings = format!(
        "url = \"{}\"\nquery = {{ key = {{ env = \"ODD\" }} }}\ncall = {{ id = \"/id\", error = \"/error\" }}\n\
         kind = \"/type\"\n[connectors.feed.events]\nfault = {{ type = \"error.raised\", text = \"/why\" }}",
        feed.url()
    );
    let titled =
        format!("sockets.a = {{ url = \"{}\", query = {{ key = {{ env = \"ODD\" }} }} }}", sockets.url());
    let config = DaemonConfig::new(&nats)
        .with("log.level = \"debug\"")
        .connector("avatars", "streamavatars", &titled)
        .connector("feed", "websocket", &settings)
        .environment("ODD", ODD);
    let mut daemon = start(config);
    feed.connected(1, DEADLINE).await;
    sockets.connected(1, DEADLINE).await;
    assert_eq!(feed.requests()[0].parameter("key"), Some(ODD));
    daemon.ready(DEADLINE).await;
    link(&mut daemon, "feed", "ready").await;

    // An answer, an event and a frame that is not recognised, in each form.
    let call = "pontoon.command.websocket.feed.call";
    for (number, form) in forms().iter().enumerate() {
        let quoted = serde_json::Value::from(format!("bad key {form}, no"));
        let answered = async {
            eventually(DEADLINE, async || feed.texts().len() == number + 1).await;
            let sent: serde_json::Value = serde_json::from_str(&feed.texts()[number]).expect("JSON");
            feed.send_text(&json!({"id": sent["id"], "error": quoted}).to_string());
        };
        let (reply, ()) = tokio::join!(ask(&client, call, "{}", &[]), answered);
        assert_eq!(reply.verdict(), ("failed", Some("502")), "{}", reply.message());
        assert!(reply.message().contains("bad key ***, no"), "{}", reply.message());
        feed.send_text(&json!({"type": "fault", "why": quoted}).to_string());
        let (_, event) = next(&mut all, |message, _| message.subject.contains(".error.raised.")).await;
        assert_eq!(event["error"]["message"], "bad key ***, no", "{event}");
        // What was received stays as it was received.
        assert_eq!(event["raw"]["why"], quoted);
    }

    // Reasons of both: in states, logs and events.
    for (number, some) in forms().chunks(2).enumerate() {
        let reason = format!("who is {}?", some.join(" or "));
        feed.close(4_001, &reason);
        sockets.close(4_001, &reason);
        let wanted = format!("who is {}?", vec!["***"; some.len()].join(" or "));
        let (_, event) = next(&mut all, |message, _| message.subject.contains(".socket.closed.")).await;
        assert_eq!(event["reason"], wanted.as_str(), "{event}");
        eventually(DEADLINE, async || daemon.log().matches(&wanted).count() >= 2).await;
        feed.connected(1, DEADLINE).await;
        sockets.connected(1, DEADLINE).await;
        eventually(DEADLINE, async || feed.upgrades() >= number + 2 && sockets.upgrades() >= number + 2)
            .await;
    }
    feed.refuse(Refusal::status(401).body(&format!("no such key {ODD}")));
    feed.cut();
    eventually(DEADLINE, async || daemon.get("/status").await.1.contains("credentials_refused")).await;
    let mut output = daemon.get("/status").await.1 + &daemon.get("/readyz").await.1 + &daemon.log();
    while let Some(Some(message)) = all.next().now_or_never() {
        output.push_str(&String::from_utf8_lossy(&message.payload));
    }
    for form in forms() {
        assert!(!output.contains(&form), "{form} was shown");
    }
}
