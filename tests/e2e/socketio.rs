//! The Socket.IO transport against a scripted server: what is confirmed, refused, pinged, resumed, and sent twice.

use std::time::Duration;

use async_nats::Client;
use pontoon_sdk::Raw;
use pontoon_sdk::socketio::{Args, Frame};
use pontoon_testkit::{
    Daemon, DaemonConfig, HostileCase, HostileOutcome, NatsServer, SocketIoServer, Timers, Welcome,
    eventually, repeat,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{DEADLINE, Reply, ask, contents, filled, link_state, listen, next, start};

const EVENTS: &str = r#"
events.said = { type = "message.created", channel = "/0/room", id = "/0/id", version = "/0/version", text = "/0/text" }
"#;

/// A daemon with one instance, named `any`, of the generic connector.
struct Scenario {
    // Dropped in this order.
    daemon: Daemon,
    service: SocketIoServer,
    nats: NatsServer,
    client: Client,
}

impl Scenario {
    async fn new(settings: &str) -> Self {
        Self::with(settings, |_| {}).await
    }

    /// The service is prepared before the daemon starts.
    async fn with(settings: &str, prepare: impl FnOnce(&SocketIoServer)) -> Self {
        let nats = NatsServer::start().await;
        let service = SocketIoServer::start().await;
        prepare(&service);
        let client = nats.client().await;
        let settings = format!("url = \"{}\"\n{EVENTS}\n{settings}", service.url());
        let daemon = start(DaemonConfig::new(&nats).connector("any", "socketio", &settings));
        Self { daemon, service, nats, client }
    }

    async fn ready(settings: &str) -> Self {
        let scenario = Self::new(settings).await;
        scenario.link(|link| link["phase"] == "ready").await;
        scenario
    }

    async fn ask(&self, operation: &str, body: &str) -> Reply {
        ask(&self.client, &format!("pontoon.command.socketio.any.{operation}"), body, &[]).await
    }

    /// Waits for a state of the link that is so, once events can be published.
    async fn link(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        link_state(&self.client, &self.daemon, "socketio", "any", wanted).await
    }

    /// The service sends a message with a number.
    fn send(&self, number: u64) {
        self.service.send(&message(&json!({"room": "r", "id": format!("m{number}"), "text": number})));
    }

    /// What the stream holds once it has this many: gaps by their reason, messages by their text.
    async fn stored(&self, number: u64) -> Vec<String> {
        filled(&self.nats, "PONTOON_ANY", number, DEADLINE).await;
        let events = contents(&self.nats, "PONTOON_ANY").await;
        let stored = events.iter().map(|(kind, body)| match kind.as_str() {
            "pontoon.gap.detected.v1" => format!("gap {}", body["reason"].as_str().unwrap_or_default()),
            "pontoon.message.created.v1" => body["message"]["text"].as_str().unwrap_or_default().to_owned(),
            other => other.to_owned(),
        });
        stored.collect()
    }
}

fn message(value: &Value) -> Frame {
    Frame::event("said", Raw::json(value).unwrap())
}

#[tokio::test]
async fn a_refusal_is_reported_with_the_services_message_and_not_hammered() {
    let refuse = |service: &SocketIoServer| service.welcome(Welcome::refuse("Valid entityId required"));
    let mut scenario = Scenario::with("auth = { token = \"sesame-open\" }", refuse).await;
    let link = scenario.link(|link| link["phase"] == "credentials_refused").await;
    assert!(link["detail"].as_str().unwrap().contains("Valid entityId required"), "{link}");
    // The server left the connection open; we did not, and are in no hurry to be back.
    scenario.service.connected(0, DEADLINE).await;
    let moment = |text: &str| {
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
    };
    let pause = moment(link["retry_at"].as_str().unwrap()) - moment(link["since"].as_str().unwrap());
    assert!(pause > Duration::from_secs(120), "{link}");
    assert_eq!(scenario.service.upgrades(), 1);
    let metrics = scenario.daemon.metrics().await;
    let labels = [("pontoon_instance", "any"), ("type", "socketio"), ("outcome", "credentials")];
    assert_eq!(metrics.value("pontoon_link_connects_total", &labels), Some(1.0));
    assert!(!scenario.daemon.log().contains("sesame-open"));
}

#[tokio::test]
async fn a_link_counts_once_the_namespace_is_confirmed() {
    let silent = |service: &SocketIoServer| service.welcome(Welcome::Silence);
    let settings =
        "namespace = \"/admin\"\nauth = { token = \"t\", level = 3 }\ntransport.connect_timeout = \"1s\"";
    let scenario = Scenario::with(settings, silent).await;
    let unconfirmed = |link: &Value| link["detail"].as_str().is_some_and(|detail| detail.contains("/admin"));
    scenario.link(|link| link["phase"] == "waiting" && unconfirmed(link)).await;
    assert_eq!(scenario.ask("emit.x", "1").await.verdict(), ("failed", Some("503")));
    scenario.service.welcome(Welcome::Confirm);
    scenario.link(|link| link["phase"] == "ready").await;
    let connect = scenario.service.peers().last().unwrap().connects[0].clone();
    assert_eq!(connect.namespace, "/admin");
    assert_eq!(connect.auth, Some(json!({"token": "t", "level": 3})));
}

#[tokio::test]
async fn pings_are_answered_and_missed_ones_noticed_while_we_write() {
    let often = Timers {
        ping_interval: Duration::from_millis(200),
        ping_timeout: Duration::from_millis(4_800),
        ..Timers::default()
    };
    let scenario = Scenario::with("", |service| service.timers(often)).await;
    scenario.link(|link| link["phase"] == "ready").await;
    eventually(DEADLINE, async || scenario.service.peer(0).pongs >= 3).await;
    assert_eq!(scenario.service.upgrades(), 1);
    // It still reads what is written, and sends nothing more.
    scenario.service.pings(false);
    let writing = repeat(Duration::from_millis(20), async || {
        scenario.ask("emit.x", "1").await;
    });
    tokio::select! {
        () = eventually(DEADLINE, async || scenario.service.upgrades() == 2) => {}
        never = writing => match never {},
    }
}

#[tokio::test]
async fn a_message_that_the_service_would_hang_up_on_is_not_sent() {
    let small = Timers { max_payload: 2_000, ..Timers::default() };
    let scenario = Scenario::with("", |service| service.timers(small)).await;
    scenario.link(|link| link["phase"] == "ready").await;
    let reply = scenario.ask("emit.x", &json!("y".repeat(2_000)).to_string()).await;
    assert_eq!(reply.verdict(), ("rejected", Some("413")));
    assert!(reply.message().contains("2000"), "{}", reply.message());
    assert_eq!(scenario.ask("emit.x", &json!("y".repeat(1_900)).to_string()).await.verdict(), ("sent", None));
    assert_eq!(scenario.service.upgrades(), 1);
}

#[tokio::test]
async fn a_disconnect_from_the_namespace_is_an_end_and_a_gap() {
    let scenario = Scenario::ready("").await;
    scenario.send(1);
    scenario.stored(1).await;
    scenario.service.disconnect();
    eventually(DEADLINE, async || scenario.service.upgrades() == 2).await;
    scenario.link(|link| link["phase"] == "ready").await;
    scenario.send(2);
    assert_eq!(scenario.stored(3).await, ["1", "gap disconnected", "2"]);
}

#[tokio::test]
async fn a_session_that_is_resumed_has_no_gap_and_one_that_is_not_has() {
    let session = |pid: &'static str| Welcome::ConfirmWith(json!({"sid": "s", "pid": pid}));
    let scenario = Scenario::with("", |service| service.welcome(session("first"))).await;
    scenario.link(|link| link["phase"] == "ready").await;
    // The server puts the place of the session behind the arguments.
    let at = |number: u64, offset: &str| {
        let value = json!({"room": "r", "id": format!("m{number}"), "text": number});
        let values = vec![Raw::json(&value).unwrap(), Raw::json(offset).unwrap()];
        Frame::Event(pontoon_sdk::socketio::Event::new("said", values))
    };
    scenario.service.send(&at(1, "offset-1"));
    scenario.stored(1).await;
    scenario.service.cut();
    scenario.service.joined(1, DEADLINE).await;
    eventually(DEADLINE, async || scenario.service.peer(1).connects.len() == 1).await;
    let asked = scenario.service.peer(1).connects[0].auth.clone().unwrap();
    assert_eq!(asked, json!({"pid": "first", "offset": "offset-1"}));
    scenario.service.send(&at(2, "offset-2"));
    assert_eq!(scenario.stored(2).await, ["1", "2"]);
    // Now the server has forgotten the session.
    scenario.link(|link| link["phase"] == "ready").await;
    scenario.service.welcome(session("second"));
    scenario.service.cut();
    eventually(DEADLINE, async || scenario.service.peer(2).connects.len() == 1).await;
    assert_eq!(scenario.service.peer(2).connects[0].auth.clone().unwrap()["offset"], "offset-2");
    scenario.link(|link| link["phase"] == "ready").await;
    scenario.service.send(&at(3, "offset-3"));
    assert_eq!(scenario.stored(4).await, ["1", "2", "gap disconnected", "3"]);
}

#[tokio::test]
async fn what_is_sent_twice_is_published_once_and_counted() {
    let mut scenario = Scenario::ready("").await;
    let first = json!({"room": "r", "id": "m1", "version": 1, "text": "a"});
    let changed = json!({"room": "r", "id": "m1", "version": 2, "text": "b"});
    for value in [&first, &first, &changed] {
        scenario.service.send(&message(value));
    }
    scenario.stored(2).await;
    // Over a break, too, as when a service replays what it sent last.
    scenario.service.cut();
    eventually(DEADLINE, async || scenario.service.upgrades() == 2).await;
    scenario.link(|link| link["phase"] == "ready").await;
    scenario.service.send(&message(&changed));
    scenario.service.send(&message(&json!({"room": "r", "id": "m2", "version": 1, "text": "c"})));
    assert_eq!(scenario.stored(4).await, ["a", "b", "gap disconnected", "c"]);
    let metrics = scenario.daemon.metrics().await;
    let labels = [("pontoon_instance", "any"), ("type", "socketio")];
    assert_eq!(metrics.value("pontoon_events_deduplicated_total", &labels), Some(2.0));
    assert_eq!(metrics.value("pontoon_events_read_total", &labels), Some(7.0));
}

#[tokio::test]
async fn binary_data_travel_in_both_directions() {
    let scenario = Scenario::ready("").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let args = Args::with_attachments(
        vec![Raw::json(&json!({"a": {"_placeholder": true, "num": 0}})).unwrap()],
        vec![every_byte.clone().into()],
    );
    let mut events = listen(&scenario.client, "pontoon.event.socketio.any.>").await;
    scenario.service.send(&Frame::Event(pontoon_sdk::socketio::Event {
        name: "file".into(),
        args: args.unwrap(),
        ack: None,
    }));
    let (_, event) = next(&mut events, |_, body| body["name"] == "file").await;
    let body =
        json!({"event": "file", "args": event["raw"]["args"], "attachments": event["raw"]["attachments"]});
    assert_eq!(scenario.ask("emit", &body.to_string()).await.verdict(), ("sent", None));
    eventually(DEADLINE, async || !scenario.service.frames().is_empty()).await;
    let frames = scenario.service.frames();
    let Frame::Event(echo) = &frames[0] else { panic!("{frames:?}") };
    assert_eq!(echo.args.attachments()[0], every_byte);
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

/// Everything that a hostile server sends costs itself at most: what came before is published, and the link goes on or
/// is dialled again.
#[tokio::test]
async fn a_hostile_server_costs_no_good_event() {
    let nats = NatsServer::options().config("max_payload: 8388608").start().await;
    let service = SocketIoServer::start().await;
    let client = nats.client().await;
    let settings = format!("url = \"{}\"\n{EVENTS}", service.url());
    let daemon = start(DaemonConfig::new(&nats).connector("any", "socketio", &settings));
    let scenario = Scenario { daemon, service, nats, client };
    scenario.link(|link| link["phase"] == "ready").await;
    // Behind the gap with which the run begins.
    eventually(DEADLINE, async || scenario.ask("status", "").await.body["data"]["unconfirmed_events"] == 0)
        .await;
    let mut events = listen(&scenario.client, "pontoon.event.socketio.any.>").await;
    let mut good = 0;
    let cases = HostileCase::all();
    assert!(cases.len() >= 60);
    for case in &cases {
        let HostileCase { name, line, .. } = case;
        let upgrades = scenario.service.upgrades();
        let connection =
            scenario.service.connections().pop().unwrap_or_else(|| panic!("{name}: no connection is open"));
        good += 1;
        scenario.send(good);
        case.send(&connection);
        let mut expected = vec![good.to_string()];
        for outcome in &case.expected {
            match outcome {
                HostileOutcome::Event(event) => expected.push(format!("event {event}")),
                HostileOutcome::Unrecognised => expected.push("unrecognised".to_owned()),
                HostileOutcome::Discarded => expected.push("gap too_large".to_owned()),
                HostileOutcome::Answer(_) => {}
                HostileOutcome::Ends => {
                    redialled(&scenario, upgrades).await;
                    expected.push("gap disconnected".to_owned());
                }
            }
        }
        good += 1;
        scenario.send(good);
        expected.push(good.to_string());
        for wanted in expected {
            let (message, body) = next(&mut events, |_, _| true).await;
            let kind = message.headers.as_ref().unwrap().get("ce-type").unwrap().as_str().to_owned();
            // Read without `raw`, which may hold what not every reader takes.
            let named: Named = serde_json::from_slice(&message.payload).unwrap();
            let got = match (kind.as_str(), named.name) {
                ("pontoon.message.created.v1", _) => body["message"]["text"].as_str().unwrap().to_owned(),
                ("pontoon.gap.detected.v1", _) => format!("gap {}", body["reason"].as_str().unwrap()),
                ("pontoon.frame.unrecognised.v1", Some(event)) => format!("event {event}"),
                ("pontoon.frame.unrecognised.v1", None) => "unrecognised".to_owned(),
                (other, _) => other.to_owned(),
            };
            let shown: String = String::from_utf8_lossy(&message.payload).chars().take(300).collect();
            assert_eq!(got, wanted, "{name} (line {line}): {shown}");
        }
        for outcome in &case.expected {
            if let HostileOutcome::Answer(text) = outcome {
                eventually(DEADLINE, async || scenario.service.texts().contains(text)).await;
            }
        }
    }
}

/// Waits until there is a new connection. The pauses between them grow; a long one is not waited for, and the daemon is
/// asked to dial only while there is no connection that this could break.
async fn redialled(scenario: &Scenario, upgrades: usize) {
    let rfc3339 = &time::format_description::well_known::Rfc3339;
    let mut asked = Value::Null;
    let back = async || {
        let link = scenario.ask("status", "").await.body["data"]["links"][0].clone();
        let retry =
            link["retry_at"].as_str().and_then(|moment| time::OffsetDateTime::parse(moment, rfc3339).ok());
        let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(1);
        if link["retry_at"] != asked && retry.is_some_and(|retry| retry > soon) {
            asked = link["retry_at"].clone();
            scenario.ask("reconnect", "").await;
        }
        scenario.service.upgrades() > upgrades && link["phase"] == "ready"
    };
    eventually(DEADLINE, back).await;
}
