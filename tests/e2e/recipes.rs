//! The recipes, with the real daemon between a real nats-server and a strict service of each protocol; and their transcripts.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use pontoon::recipes::{RECIPES, Recipe};
use pontoon_testkit::{
    Daemon, DaemonConfig, Dir, NatsServer, Profile, Strict, TranscriptPlayer, WebSocketServer, eventually,
    strict,
};
use pontoon_transcript::{SECRET, Transcript, recipe_transcript};
use tokio::time::timeout;

use crate::BINARY;
use crate::address::{Api, json};
use crate::support::{DEADLINE, SilentService, ask, listen, start};

/// What is seen of a protocol.
struct Case {
    protocol: strict::Protocol,
    /// What its events become.
    event: &'static str,
    /// A call, if it has some, and the status of its reply.
    call: Option<(&'static str, &'static str, &'static str)>,
    /// Whether sessions are resumed.
    resumes: bool,
    /// Whether it refuses credentials.
    refuses: bool,
}

#[tokio::test]
async fn discord() {
    play(Case {
        protocol: strict::DISCORD,
        event: "message.created",
        call: None,
        resumes: true,
        refuses: true,
    })
    .await;
}

#[tokio::test]
async fn phoenix() {
    let call = Some(("message.send", r#"{"channel":"room:lobby","text":"hi"}"#, "acked"));
    play(Case { protocol: strict::PHOENIX, event: "message.created", call, resumes: false, refuses: true })
        .await;
}

#[tokio::test]
async fn graphql() {
    let call = Some(("call", r#"{"payload":{"query":"mutation { done }"}}"#, "response"));
    play(Case { protocol: strict::GRAPHQL, event: "message.created", call, resumes: false, refuses: true })
        .await;
}

#[tokio::test]
async fn pusher() {
    play(Case {
        protocol: strict::PUSHER,
        event: "message.created",
        call: None,
        resumes: false,
        refuses: true,
    })
    .await;
}

#[tokio::test]
async fn home_assistant() {
    let call = Some(("call", r#"{"type":"call_service","domain":"light","service":"turn_on"}"#, "response"));
    play(Case {
        protocol: strict::HOME_ASSISTANT,
        event: "x-state.changed",
        call,
        resumes: false,
        refuses: true,
    })
    .await;
}

#[tokio::test]
async fn json_rpc() {
    let call = Some(("call", r#"{"method":"sum","params":[1,2]}"#, "response"));
    play(Case { protocol: strict::JSON_RPC, event: "message.created", call, resumes: false, refuses: true })
        .await;
}

#[tokio::test]
async fn signalr() {
    let call = Some(("call", r#"{"target":"Add","arguments":[1,2]}"#, "response"));
    play(Case { protocol: strict::SIGNALR, event: "message.created", call, resumes: false, refuses: true })
        .await;
}

#[tokio::test]
async fn market() {
    let call = Some(("call", r#"{"method":"LIST_SUBSCRIPTIONS"}"#, "response"));
    play(Case { protocol: strict::MARKET, event: "x-trade.executed", call, resumes: false, refuses: false })
        .await;
}

#[tokio::test]
async fn stomp() {
    let call = Some(("message.send", r#"{"channel":"/queue/room","text":"hi"}"#, "acked"));
    play(Case { protocol: strict::STOMP, event: "message.created", call, resumes: false, refuses: true })
        .await;
}

#[tokio::test]
async fn irc() {
    let call = Some(("message.send", r##"{"channel":"#room","text":"hi"}"##, "sent"));
    play(Case { protocol: strict::IRC, event: "message.created", call, resumes: false, refuses: true }).await;
}

#[tokio::test]
async fn eventsub() {
    let event = "x-eventsub.notified";
    play(Case { protocol: strict::EVENTSUB, event, call: None, resumes: false, refuses: false }).await;
}

/// The instance's table as the recipe has it, but at this address, and with its secrets in variables that are set.
fn configured(config: DaemonConfig, recipe: &Recipe, url: &str, dir: &Dir) -> DaemonConfig {
    let script = recipe.script.map(|(file, text)| dir.write(file, text));
    let table = recipe.config.lines().map(|line| match line.split_once(" = ") {
        Some(("url", _)) => format!("url = \"{url}\""),
        Some(("script", _)) => format!("script = {script:?}", script = script.as_deref().unwrap()),
        _ => line.to_owned(),
    });
    let table: Vec<_> = table.collect();
    let names = recipe.config.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
    let config = names.fold(config, |config, name| config.environment(name, SECRET));
    config.with(&table.join("\n"))
}

/// The name of the recipe's instance.
fn instance(recipe: &Recipe) -> &str {
    recipe.config.split_once("[connectors.").and_then(|(_, rest)| rest.split_once(']')).unwrap().0
}

async fn play(case: Case) {
    let recipe = Recipe::named(case.protocol.recipe).unwrap();
    let nats = NatsServer::options().every_right().start().await;
    let client = nats.client().await;
    let service = Strict::start(case.protocol).await;
    let dir = Dir::new(recipe.name);
    let daemon: Daemon = start(configured(DaemonConfig::new(&nats), recipe, &service.url(), &dir));
    let subject = format!("pontoon.command.{}.{}", recipe.kind, instance(recipe));
    let phase = async |wanted: &str| {
        eventually(DEADLINE, async || {
            let state = ask(&client, &format!("{subject}.status"), "", &[]).await.body["data"].take();
            state["links"][0]["phase"] == wanted && state["bus"]["publishing"] == true
        })
        .await;
    };
    phase("ready").await;
    service.until(|shared| shared.sign_ins == 1).await;
    let mut events = listen(&client, &format!("pontoon.event.*.*.{}.>", case.event)).await;
    let mut happened = async |id: &str| {
        let message = timeout(DEADLINE, events.next()).await.expect("in time").expect("subscribed");
        assert!(message.subject.ends_with("room"), "{}", message.subject);
        let body = String::from_utf8_lossy(&message.payload).into_owned();
        assert!(body.contains(id), "{id}: {body}");
        assert!(!body.contains(SECRET), "{body}");
    };
    service.happens("first");
    happened("first").await;
    if let Some((operation, body, status)) = case.call {
        let reply = ask(&client, &format!("{subject}.{operation}"), body, &[]).await;
        assert_eq!(reply.body["status"], status, "{}", reply.body);
    }

    service.until(|shared| shared.unacknowledged.is_empty()).await;

    // What was sent meanwhile comes where sessions are resumed.
    if case.resumes {
        service.is_missed("meanwhile");
    }
    service.cut();
    if case.resumes {
        happened("meanwhile").await;
        service.until(|shared| (shared.sign_ins, shared.resumed) == (1, 1)).await;
    } else {
        service.until(|shared| shared.sign_ins == 2).await;
    }
    phase("ready").await;
    service.happens("after");
    happened("after").await;

    if case.refuses {
        service.refuse(true);
        service.cut();
        phase("credentials_refused").await;
        service.refuse(false);
        let reply = ask(&client, &format!("{subject}.reconnect"), "", &[]).await;
        assert_eq!(reply.body["status"], "accepted", "{}", reply.body);
        phase("ready").await;
    }
    assert_eq!(service.breaches(), Vec::<String>::new(), "{}", daemon.log());
    assert!(!daemon.log().contains(SECRET), "{}", daemon.log());
}

#[tokio::test]
async fn slack() {
    let recipe = Recipe::named("slack").unwrap();
    let nats = NatsServer::options().every_right().start().await;
    let client = nats.client().await;
    let service = Strict::start(strict::SLACK).await;
    let opened = json(&format!(r#"{{"ok":true,"url":"{}?ticket=1"}}"#, service.url()));
    let api = Api::start(opened.clone()).await;
    let table = recipe.config.replace("https://slack.com/api", &format!("http://{}", api.address()));
    let hosts = r#"hosts = ["127.0.0.1"], addresses = ["127.0.0.1"]"#;
    let table = table
        .replace(r#"hosts = ["*.slack.com"]"#, hosts)
        .replace("wss://wss-primary.slack.com/", "ws://127.0.0.1:1/");
    let daemon = start(DaemonConfig::new(&nats).environment("SLACK_APP_TOKEN", SECRET).with(&table));
    let phase = async |wanted: &str| {
        eventually(DEADLINE, async || {
            let state =
                ask(&client, "pontoon.command.websocket.slack.status", "", &[]).await.body["data"].take();
            state["links"][0]["phase"] == wanted && state["bus"]["publishing"] == true
        })
        .await;
    };
    phase("ready").await;
    let mut events = listen(&client, "pontoon.event.websocket.slack.message.created.>").await;
    for id in ["first", "second"] {
        service.happens(id);
        let message = timeout(DEADLINE, events.next()).await.expect("in time").expect("subscribed");
        let body = String::from_utf8_lossy(&message.payload).into_owned();
        assert!(message.subject.ends_with(".room") && body.contains(id), "{body}");
        service.until(|shared| shared.unacknowledged.is_empty()).await;
        let sign_ins = service.sign_ins();
        service.cut();
        service.until(|shared| shared.sign_ins > sign_ins).await;
        phase("ready").await;
    }
    api.answers(json(r#"{"ok":false,"error":"invalid_auth"}"#));
    service.cut();
    phase("credentials_refused").await;
    api.answers(opened);
    let reply = ask(&client, "pontoon.command.websocket.slack.reconnect", "", &[]).await;
    assert_eq!(reply.body["status"], "accepted", "{}", reply.body);
    phase("ready").await;
    assert_eq!(service.breaches(), Vec::<String>::new(), "{}", daemon.log());
    assert!(!daemon.log().contains(SECRET), "{}", daemon.log());
}

#[tokio::test]
async fn an_acknowledgement_is_sent_once_nats_has_the_event_and_not_before() {
    let nats = NatsServer::options().every_right().start().await;
    let client = nats.client().await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let settings = format!(
        "url = \"ws://{}/\"\nkind = \"/t\"\nevents.m = {{ type = \"message.created\" }}\n\
         on = [{{ when = \"m\", after = \"stored\", send = {{ ack = \"${{/id}}\" }} }}, {{ when = \"ping\", send = \"pong\" }}]",
        service.address()
    );
    let _daemon = start(DaemonConfig::new(&nats).connector("any", "websocket", &settings));
    eventually(DEADLINE, async || {
        let state = ask(&client, "pontoon.command.websocket.any.status", "", &[]).await.body["data"].take();
        state["bus"]["publishing"] == true && state["links"][0]["phase"] == "ready"
    })
    .await;
    let texts = || service.received().iter().map(|frame| frame.message.to_string()).collect::<Vec<_>>();
    let has =
        async |text: &str| eventually(DEADLINE, async || texts().iter().any(|known| known == text)).await;
    service.send_text(r#"{"t":"m","id":1}"#);
    has(r#"{"ack":1}"#).await;
    // The link goes on while NATS confirms nothing.
    nats.freeze();
    service.send_text(r#"{"t":"m","id":2}"#);
    service.send_text(r#"{"t":"ping"}"#);
    has("pong").await;
    assert!(!texts().iter().any(|text| text == r#"{"ack":2}"#), "{:?}", texts());
    nats.thaw();
    has(r#"{"ack":2}"#).await;
}

#[tokio::test]
async fn every_transcript_of_a_recipe_plays() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/recipes");
    let mut transcripts = Vec::new();
    for recipe in RECIPES.iter().filter(|recipe| recipe.kind == "websocket") {
        let folder = recipes.join(recipe.name).join("transcripts");
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let text = recipe_transcript(recipe.config, &fs::read_to_string(&file).unwrap()).unwrap();
            let name = format!("{}/{}", recipe.name, file.file_name().unwrap().to_string_lossy());
            transcripts.push(Transcript::parse(&name, &text).unwrap());
        }
    }
    let profile = Profile { arguments: &["call"], ..Profile::default() };
    let suiting: Vec<_> = transcripts.into_iter().filter(|transcript| profile.suits(transcript)).collect();
    assert!(suiting.len() > 10, "{}", suiting.len());
    let player = TranscriptPlayer { binary: Path::new(BINARY), kind: "websocket", path: "/" };
    let wrong = player.play(&suiting, &profile).await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), suiting.len(), wrong.join("\n"));
}

#[test]
fn recipes_pass_the_check() {
    for recipe in RECIPES {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recipe-{}", recipe.name));
        let _ = fs::remove_dir_all(&folder);
        let mut new = std::process::Command::new(BINARY);
        let written = new.args(["new", "--recipe", recipe.name]).arg(&folder).output().unwrap();
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        let file = folder.join("config.toml");
        let names = recipe.config.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
        let mut check = std::process::Command::new(BINARY);
        check.args(["check", "--config"]).arg(&file).envs(names.map(|name| (name, SECRET)));
        let output = check.output().unwrap();
        assert!(output.status.success(), "{}: {}", recipe.name, String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn recipes_are_listed_and_printed() {
    let pontoon = |arguments: &[&str]| std::process::Command::new(BINARY).args(arguments).output().unwrap();
    let listed = String::from_utf8(pontoon(&["connectors"]).stdout).unwrap();
    for recipe in RECIPES {
        assert!(listed.contains(recipe.name), "{listed}");
        let printed = pontoon(&["sample", "--recipe", recipe.name]);
        assert_eq!(String::from_utf8_lossy(&printed.stdout), recipe.config);
    }
    let unknown = pontoon(&["sample", "--recipe", "discrod"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("known are: discord"), "{unknown:?}");
}
