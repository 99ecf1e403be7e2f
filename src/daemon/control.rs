//! `<prefix>.control.<operation>`: what operators ask of the daemon, where `admin.commands` is true. It is the micro service
//! `pontoon`. Every daemon of the prefix carries a command out and replies, so there is no queue group.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use pontoon_sdk::{Code, DeliveryLevel, Error, Operation};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bus::commands::Micro;
use crate::bus::{connect, replies};
use crate::envelope::rfc3339;
use crate::envelope::subject::reply_allowed;
use crate::instance::LocalCommand;
use crate::instance::context::epoch;
use crate::metrics::Outcome;
use crate::reply::{Stats, compose, outcome_of};
use crate::settings::{Config, Nats};

/// What the server's operator sees, and the name of the micro service.
const NAME: &str = "pontoon";
/// How long it waits before it tries settings for NATS again that could not be used.
const UNUSABLE: Duration = Duration::from_secs(5);
/// How long an instance may take to reply.
const REPLY: Duration = Duration::from_secs(2);
/// Commands that may wait for the daemon.
pub(super) const WAITING: usize = 16;

/// Reads the configuration again.
pub(super) const RELOAD: &str = "reload";
/// Returns what `/status` does.
pub(super) const STATUS: &str = "status";
/// Pauses every instance.
pub(super) const PAUSE: &str = "pause";
/// Has every instance go on.
pub(super) const RESUME: &str = "resume";

/// A command for the daemon.
pub(super) struct ControlCommand {
    /// One of those above.
    pub(super) operation: &'static str,
    /// Where its result goes.
    pub(super) result: oneshot::Sender<Result<Value, Error>>,
}

/// Takes commands until it is dropped.
pub(super) struct Control {
    nats: Nats,
    reply_prefixes: Vec<String>,
    _tasks: JoinSet<()>,
}

impl Control {
    /// Subscribes in the background.
    pub(super) fn start(config: &Config, commands: mpsc::Sender<ControlCommand>) -> Self {
        let (nats, reply_prefixes) = (config.nats.clone(), config.commands.reply_prefixes.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn_local(serve(nats.clone(), reply_prefixes.clone(), commands));
        Self { nats, reply_prefixes, _tasks: tasks }
    }

    /// Whether it was started with these settings.
    pub(super) fn is_of(&self, config: &Config) -> bool {
        self.nats == config.nats && self.reply_prefixes == config.commands.reply_prefixes
    }
}

fn operations() -> Vec<Operation> {
    let operation = |name, summary, idempotent| Operation {
        name,
        argument: None,
        summary,
        body: schemars::json_schema!({ "type": "object" }).into(),
        delivery: DeliveryLevel::Response,
        idempotent,
    };
    vec![
        operation(RELOAD, "Reads the configuration again, as SIGHUP does", true),
        operation(STATUS, "Returns the state of every instance and link", true),
        operation(PAUSE, "Closes the links of every instance until `resume` or a restart", true),
        operation(RESUME, "Has paused instances dial their links", true),
    ]
}

async fn serve(nats: Nats, reply_prefixes: Vec<String>, commands: mpsc::Sender<ControlCommand>) {
    let subject = format!("{}.control", nats.prefix);
    // The connection ends with the receiver of its state.
    let (client, _state) = loop {
        match connect::client(&nats, NAME, "_INBOX_control", &subject).await {
            Ok(connected) => break connected,
            Err(error) => tracing::warn!(%error, "commands for the daemon are not taken"),
        }
        sleep(UNUSABLE).await;
    };
    let stats = Rc::new(Stats::default());
    let micro = Micro {
        metadata: json!({}),
        name: NAME.to_owned(),
        description: "The daemon that bridges services with persistent sockets",
        id: format!("{:x}", epoch()),
        subject: subject.clone(),
        jobs: None,
        queue_group: None,
        operations: operations(),
        stats: stats.clone(),
        reply_prefixes: reply_prefixes.clone(),
        own_prefix: nats.prefix.clone(),
        started: rfc3339(time::OffsetDateTime::now_utc()),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn_local(micro.serve(client.clone()));
    let Ok(mut messages) = client.subscribe(format!("{subject}.*")).await else { return };
    let mut number = 0;
    while let Some(message) = messages.next().await {
        if message.reply.as_ref().is_some_and(|reply| !reply_allowed(reply, &reply_prefixes, &nats.prefix)) {
            tracing::warn!("a command for the daemon was refused: its reply subject is not allowed");
            continue;
        }
        number += 1;
        let started = Instant::now();
        let name = message.subject.strip_prefix(&format!("{subject}.")).unwrap_or_default();
        let result = carry_out(name, &message.payload, &commands).await;
        let failure = result.as_ref().err();
        let outcome = failure.map_or(Outcome::Response, outcome_of);
        if let Some(operation) = operations().iter().find(|operation| operation.name == name) {
            let error = failure.map(|error| (error.code().number(), error.message()));
            stats.count(operation.name, started.elapsed(), error);
        }
        let data = result.as_ref().ok().map(AsRef::as_ref);
        let answer = compose(&format!("control-{number}"), Some(outcome), data, failure);
        if let Some((reply, answer)) = message.reply.zip(answer) {
            replies::publish_one(&client, &reply, &answer).await;
        }
    }
}

async fn carry_out(
    name: &str,
    body: &[u8],
    commands: &mpsc::Sender<ControlCommand>,
) -> Result<Box<RawValue>, Error> {
    let operations = operations();
    let Some(operation) = operations.iter().find(|operation| operation.name == name) else {
        let known: Vec<_> = operations.iter().map(|operation| operation.name).collect();
        let text = format!("the daemon has no operation \"{name}\"; it has {}", known.join(", "));
        return Err(Error::rejected(Code::NotFound, text));
    };
    if !matches!(body.trim_ascii(), b"" | b"{}") {
        let text = format!(
            "{name} is for the whole daemon and takes no body; for one instance there is <prefix>.command.<type>.<instance>.<operation>"
        );
        return Err(Error::rejected(Code::BadBody, text));
    }
    let (result, received) = oneshot::channel();
    let stopping = |_| Error::disconnected("the daemon is stopping");
    let command = ControlCommand { operation: operation.name, result };
    commands.send(command).await.map_err(|_| Error::disconnected("the daemon is stopping"))?;
    let value = received.await.map_err(stopping)??;
    to_raw_value(&value).map_err(|error| Error::internal(error.to_string()))
}

/// Sends a command to instances. Returns the reply of each, by name.
pub(super) async fn send_to_all(
    operation: &str,
    instances: Vec<(String, mpsc::Sender<LocalCommand>)>,
) -> Map<String, Value> {
    let mut replies = Map::new();
    for (name, commands) in instances {
        let (sender, mut received) = mpsc::channel(1);
        let command = LocalCommand {
            operation: operation.to_owned(),
            headers: Vec::new(),
            body: Bytes::from_static(b"{}"),
            replies: sender,
        };
        // An instance that ends or hangs must not keep the others from theirs.
        let reply = if commands.try_send(command).is_err() {
            json!({ "status": "failed" })
        } else {
            let reply = timeout(REPLY, received.recv()).await.ok().flatten();
            let reply = reply.and_then(|reply| serde_json::from_slice(&reply).ok());
            reply.unwrap_or_else(|| json!({ "status": "unknown" }))
        };
        replies.insert(name, reply);
    }
    replies
}
