//! A secret appears nowhere but where it belongs: not in logs at their loudest, metrics, status, or on NATS.

use futures_util::StreamExt as _;
use pontoon_testkit::{DaemonConfig, NatsServer, Refusal, Sub0, eventually};
use serde_json::json;

use crate::support::{PATIENCE, ask, listen, next, start};

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
    sub0.connected(1, PATIENCE).await;
    next(&mut all, |message, state| {
        message.subject.as_str() == "pontoon.state.sub0.shop" && state["links"][0]["phase"] == "ready"
    })
    .await;
    assert_eq!(ask(&client, "pontoon.command.sub0.shop.call.x", "{}", &[]).await.status, "response");
    ask(&client, "pontoon.command.sub0.shop.status", "", &[]).await;
    sub0.broadcast("tick", &json!(1));
    // A service may repeat what we signed in with.
    sub0.close(4_001, &format!("who is {TOKEN}?"));
    eventually(PATIENCE, async || daemon.log().contains("who is ***?")).await;
    sub0.connected(1, PATIENCE).await;
    // Refusals and breaks make the daemon talk most.
    sub0.refuse(Refusal::status(401));
    sub0.cut();
    eventually(PATIENCE, async || daemon.get("/status").await.1.contains("credentials_refused")).await;
    let pages =
        [daemon.get("/status").await.1, daemon.get("/metrics").await.1, daemon.get("/readyz").await.1];
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit(PATIENCE).await, Some(0));
    let mut said = daemon.log();
    assert!(said.contains("TRACE") || said.contains("DEBUG"), "the log was loud");
    said.push_str(&pages.concat());
    while let Some(Some(message)) = futures_util::FutureExt::now_or_never(all.next()) {
        said.push_str(&format!(
            "{} {:?} {}",
            message.subject,
            message.headers,
            String::from_utf8_lossy(&message.payload)
        ));
    }
    for secret in [TOKEN, PASSWORD] {
        assert!(!said.contains(secret), "{secret} was said");
    }
}
