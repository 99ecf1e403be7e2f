//! What the tests share: the daemon with its surroundings, requests, and the contents of streams.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use pontoon_testkit::{
    Connection, Daemon, DaemonConfig, Dir, NatsOptions, NatsServer, Service, Sub0, until_ok, until_some,
};
use serde_json::Value;
use tokio::time::timeout;

/// How long anything may take that is not itself a matter of time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A daemon with one instance of Sub0, named `shop`.
pub(crate) struct Fixture {
    pub(crate) daemon: Daemon,
    pub(crate) sub0: Sub0,
    pub(crate) nats: NatsServer,
    pub(crate) client: Client,
}

impl Fixture {
    /// Everything with its defaults.
    pub(crate) async fn start() -> Self {
        Self::with(NatsServer::options(), "").await
    }

    /// With options for the server and lines of configuration.
    pub(crate) async fn with(options: NatsOptions, lines: &str) -> Self {
        let fixture = Self::unconnected(options, lines).await;
        fixture.sub0.connected(1, DEADLINE).await;
        fixture
            .state(|state| {
                state["links"][0]["phase"] == "ready"
                    && state["bus"]["publishing"] == true
                    && state["unconfirmed_events"] == 0
            })
            .await;
        fixture
    }

    /// The same, without waiting for the service or for NATS.
    pub(crate) async fn unconnected(options: NatsOptions, lines: &str) -> Self {
        let nats = options.start().await;
        let sub0 = Sub0::start().await;
        let client = nats.client().await;
        let config = DaemonConfig::new(&nats).with(lines).sub0("shop", &sub0);
        let daemon = start(config);
        Self { daemon, sub0, nats, client }
    }

    /// Sends a command, and waits for the last reply.
    pub(crate) async fn ask(&self, operation: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        ask(&self.client, &format!("pontoon.command.sub0.shop.{operation}"), body, headers).await
    }

    /// Waits until the state of the instance is as wanted.
    pub(crate) async fn state(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until_ok(DEADLINE, async || {
            let state = self.ask("status", "", &[]).await.body["data"].take();
            if wanted(&state) { Ok(state) } else { Err(self.daemon.log() + &self.nats.log()) }
        })
        .await
    }

    /// Waits until the admin endpoint's status of the instance is as wanted; needs no NATS.
    pub(crate) async fn status(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        until_ok(DEADLINE, async || {
            let (_, text) = self.daemon.get("/status").await;
            let status: Value = serde_json::from_str(&text).expect("status is JSON");
            let instance = status["instances"][0].clone();
            if wanted(&instance) { Ok(instance) } else { Err(format!("{instance}\n{}", self.daemon.log())) }
        })
        .await
    }

    /// Waits until so many events were read behind the first gap, and all of them are accounted for: the contract's sum.
    pub(crate) async fn at_rest(&mut self, events: usize) -> pontoon_testkit::Metrics {
        let labels = [("pontoon_instance", "shop"), ("type", "sub0")];
        until_ok(DEADLINE, async || {
            let metrics = self.daemon.metrics().await;
            let value = |name: &str| metrics.value(name, &labels).unwrap_or_else(|| panic!("no {name}"));
            let dropped: f64 = ["overflow", "too_large", "shutdown"]
                .iter()
                .filter_map(|reason| {
                    let labels = [("pontoon_instance", "shop"), ("type", "sub0"), ("reason", *reason)];
                    metrics.value("pontoon_events_dropped_total", &labels)
                })
                .sum();
            let waiting = value("pontoon_spool_events") + value("pontoon_publish_inflight");
            let read = value("pontoon_events_read_total");
            let sum = value("pontoon_events_published_total")
                + value("pontoon_events_deduplicated_total")
                + dropped
                + waiting;
            if waiting == 0.0 && read == sum && read > events as f64 {
                return Ok(metrics);
            }
            Err(format!("read {read}, accounted for {sum}, of them {waiting} wait"))
        })
        .await
    }
}

/// What `/status` shows of an instance.
pub(crate) async fn instance(daemon: &mut Daemon, name: &str) -> Option<Value> {
    let (_, text) = daemon.get("/status").await;
    let status: Value = serde_json::from_str(&text).ok()?;
    status["instances"].as_array()?.iter().find(|instance| instance["instance"] == name).cloned()
}

/// Waits until the instance's link is in this phase. Returns the link's detail.
pub(crate) async fn link(daemon: &mut Daemon, name: &str, phase: &str) -> String {
    until_ok(DEADLINE, async || {
        let link = instance(daemon, name).await.map(|status| status["links"][0].clone()).unwrap_or_default();
        if link["phase"] == phase {
            return Ok(link["detail"].as_str().unwrap_or_default().to_owned());
        }
        Err(format!("{name} is not {phase}: {link}\n{}", daemon.log()))
    })
    .await
}

/// Waits until the first link of an instance is as wanted, once events can be published.
pub(crate) async fn link_state(
    client: &Client,
    daemon: &Daemon,
    kind: &str,
    instance: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let subject = format!("pontoon.command.{kind}.{instance}.status");
    until_ok(DEADLINE, async || {
        let mut state = ask(client, &subject, "", &[]).await.body["data"].take();
        if state["bus"]["publishing"] == true && wanted(&state["links"][0]) {
            return Ok(state["links"][0].take());
        }
        Err(format!("the state does not come: {state}\n{}", daemon.log()))
    })
    .await
}

/// The daemon that was built with these tests.
pub(crate) fn start(config: DaemonConfig) -> Daemon {
    Daemon::start(crate::BINARY, config)
}

/// A service that sends only what a test sends.
pub(crate) struct SilentService;

impl Service for SilentService {
    fn text(&self, _: &Arc<Connection>, _: &str) {}
}

/// A reply as a caller sees it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: String,
    pub(crate) code: Option<String>,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn of(message: &Message) -> Self {
        let header = |name: &str| {
            let headers = message.headers.as_ref()?;
            headers.get(name).map(|value| value.as_str().to_owned())
        };
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        let status = header("Pontoon-Status").unwrap_or_default();
        assert_eq!(body["status"], status.as_str(), "header and body agree");
        let code = header("Nats-Service-Error-Code");
        assert_eq!(code.is_some(), body.get("error").is_some());
        assert_eq!(code.is_some(), header("Nats-Service-Error").is_some());
        Self { status, code, body }
    }

    /// Status and code together, for tables.
    pub(crate) fn verdict(&self) -> (&str, Option<&str>) {
        (&self.status, self.code.as_deref())
    }

    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

/// A request, and its last reply.
pub(crate) async fn ask(client: &Client, subject: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.expect("subscribed");
    client
        .publish_with_reply_and_headers(subject.to_owned(), inbox, map, body.to_owned().into())
        .await
        .expect("published");
    let message =
        timeout(DEADLINE, replies.next()).await.unwrap_or_else(|_| panic!("no reply from {subject}"));
    let message = message.expect("the subscription lives");
    if message.status.is_some() {
        return Reply { status: "no responders".into(), code: None, body: Value::Null };
    }
    Reply::of(&message)
}

/// The answer to a request that is not a command; `None` without a subscriber.
pub(crate) async fn request(client: &Client, subject: &str) -> Option<Value> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("subscribed");
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.expect("published");
    let answer = timeout(DEADLINE, answers.next()).await.expect("in time").expect("an answer");
    answer.status.is_none().then(|| serde_json::from_slice(&answer.payload).expect("JSON"))
}

/// Sends a command as soon as the instance takes commands, and waits for the last reply.
pub(crate) async fn ask_when_served(client: &Client, subject: &str, body: &str) -> Reply {
    let served = async || {
        let reply = ask(client, subject, body, &[]).await;
        (reply.status != "no responders").then_some(reply)
    };
    until_some(DEADLINE, served).await
}

/// The next message that is wanted.
pub(crate) async fn next(
    messages: &mut Subscriber,
    wanted: impl Fn(&Message, &Value) -> bool,
) -> (Message, Value) {
    let found = timeout(DEADLINE, async {
        loop {
            let message = messages.next().await.expect("the subscription lives");
            let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            if wanted(&message, &body) {
                return (message, body);
            }
        }
    });
    found.await.expect("the message comes")
}

/// Subscribes, and waits until the server knows.
pub(crate) async fn listen(client: &Client, subject: &str) -> Subscriber {
    let messages = client.subscribe(subject.to_owned()).await.expect("subscribed");
    round_trip(client).await;
    messages
}

/// Everything that was sent before has reached the server.
pub(crate) async fn round_trip(client: &Client) {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.expect("subscribed");
    client.publish(inbox, "".into()).await.expect("published");
    timeout(DEADLINE, back.next()).await.expect("the server answers");
}

/// Every message of a stream, as kind and body, in the stream's order, behind the gap with which the first run begins.
pub(crate) async fn contents(nats: &NatsServer, stream: &str) -> Vec<(String, Value)> {
    let jetstream = async_nats::jetstream::new(nats.client().await);
    let stream = jetstream.get_stream(stream).await.expect("the stream is there");
    let total = stream.get_info().await.expect("info").state.messages;
    // A server of a cluster that was just killed may be asked first.
    let ordered = async_nats::jetstream::consumer::pull::OrderedConfig::default;
    let consumer = until_some(DEADLINE, async || stream.create_consumer(ordered()).await.ok()).await;
    let mut messages = consumer.messages().await.expect("messages");
    let mut all = Vec::new();
    for _ in 0..total {
        let message =
            timeout(DEADLINE, messages.next()).await.expect("in time").expect("more").expect("a message");
        let kind = message.headers.as_ref().and_then(|headers| headers.get("ce-type"));
        let kind = kind.map(|kind| kind.as_str().to_owned()).unwrap_or_default();
        all.push((kind, serde_json::from_slice(&message.payload).expect("JSON")));
    }
    let first_gap = |(_, body): &(String, Value)| body["reason"] == "restarted" && body["from"].is_null();
    let gaps = usize::from(all.first().is_some_and(first_gap));
    all.split_off(gaps)
}

/// Waits until the stream holds this many messages behind the gap with which the first run begins.
pub(crate) async fn filled(nats: &NatsServer, stream: &str, number: u64, deadline: Duration) {
    let jetstream = async_nats::jetstream::new(nats.client().await);
    let reached = until_some(deadline, async || {
        let stream = jetstream.get_stream(stream).await.ok()?;
        let held = stream.get_info().await.ok()?.state.messages;
        (held > number).then_some(())
    });
    reached.await;
}

/// The frame of a numbered broadcast, about 300 bytes.
pub(crate) fn numbered(number: usize) -> String {
    let pad = "x".repeat(230);
    format!(r#"{{"uid":null,"action":"tick","data":{{"n":{number},"text":"{pad}"}}}}"#)
}

/// The numbers of the numbered broadcasts among these events, in their order.
pub(crate) fn numbers(events: &[(String, Value)]) -> Vec<u64> {
    events.iter().filter_map(|(_, body)| body["data"]["n"].as_u64()).collect()
}

/// A small disk, which can be full.
pub(crate) struct Tmpfs(Dir);

impl Tmpfs {
    /// With so much room, such as `4m`; `None` if it may not be mounted.
    pub(crate) fn new(size: &str) -> Option<Self> {
        let dir = Dir::new("tmpfs");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        let mounted = mount.stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The file that takes the room; remove it to make room again.
    pub(crate) fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        for block in [1 << 20, 64 << 10, 4 << 10] {
            while file.write_all(&vec![0; block]).is_ok() {}
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: the daemon may not have ended yet.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
