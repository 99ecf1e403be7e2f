//! A service that sends numbered events to all instances, callers that send numbered commands to each, and what arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use pontoon_testkit::Sub0;
use serde_json::json;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::history::History;
use crate::support::listen;

/// How long a caller waits for a reply, which is longer than the timeout of its command.
const REPLY: Duration = Duration::from_secs(3);
const TIMEOUT: &str = "1s";

/// It ends when it is dropped.
pub(super) struct Traffic {
    tasks: JoinSet<()>,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// What was sent to an instance and arrived of it.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) history: History,
    /// How many events were sent while it had a connection.
    pub(super) sent_to_it: usize,
    /// When the first event of each epoch arrived.
    epochs: BTreeMap<u64, Instant>,
    /// When the last event arrived, and the longest time without one since [`Traffic::begin_of_silences`].
    last: Option<Instant>,
    silence: Duration,
}

impl Traffic {
    /// Starts to send; each instance gets an event and a command in each `period`.
    pub(super) async fn start(
        client: &Client,
        sub0: &Arc<Sub0>,
        instances: &[&'static str],
        period: Duration,
    ) -> Self {
        let seen = instances.iter().map(|name| ((*name).to_owned(), Seen::default())).collect();
        let mut traffic = Self { tasks: JoinSet::new(), seen: Arc::new(Mutex::new(seen)) };
        let events = listen(client, "pontoon.event.sub0.>").await;
        traffic.tasks.spawn(note_events(events, traffic.seen.clone()));
        traffic.tasks.spawn(send_events(sub0.clone(), period, traffic.seen.clone()));
        for instance in instances {
            traffic.tasks.spawn(send_commands(client.clone(), instance, period, traffic.seen.clone()));
        }
        traffic
    }

    /// The last epoch of which an event of each instance has arrived, and when its first one did.
    pub(super) fn epochs(&self) -> BTreeMap<String, (u64, Instant)> {
        let seen = self.seen.lock().unwrap();
        let last = |seen: &Seen| seen.epochs.last_key_value().map(|(epoch, at)| (*epoch, *at));
        seen.iter().filter_map(|(name, seen)| Some((name.clone(), last(seen)?))).collect()
    }

    pub(super) fn begin_of_silences(&self) {
        self.seen.lock().unwrap().values_mut().for_each(|seen| seen.silence = Duration::ZERO);
    }

    /// The longest time without an event of each instance.
    pub(super) fn silences(&self) -> Vec<Duration> {
        self.seen.lock().unwrap().values().map(|seen| seen.silence).collect()
    }

    /// Ends it.
    pub(super) async fn stop(mut self) -> BTreeMap<String, Seen> {
        self.tasks.shutdown().await;
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn send_events(sub0: Arc<Sub0>, period: Duration, seen: Arc<Mutex<BTreeMap<String, Seen>>>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Of each instance: which was its newest connection, and when it was opened.
    let mut newest: BTreeMap<String, (usize, OffsetDateTime)> = BTreeMap::new();
    for number in 1_u64.. {
        ticks.tick().await;
        let connections = sub0.connections();
        let at = OffsetDateTime::now_utc();
        for connection in &connections {
            let name = connection.request().parameter("uid").expect("each has one");
            let this = (connection.id(), at - connection.opened().elapsed());
            let known = newest.entry(name.to_owned()).or_insert(this);
            *known = if known.0 < this.0 { this } else { *known };
        }
        // Before the first event of an instance, there may be anything.
        for (name, seen) in seen.lock().unwrap().iter_mut().filter(|(_, seen)| !seen.epochs.is_empty()) {
            let opened = newest.get(name).map(|(_, opened)| *opened);
            seen.history.sent.insert(number, (at, opened));
            let is_sent = connections.iter().any(|one| one.request().parameter("uid") == Some(name));
            seen.sent_to_it += usize::from(is_sent);
        }
        sub0.broadcast("tick", &json!({"n": number}));
    }
}

async fn note_events(mut events: async_nats::Subscriber, seen: Arc<Mutex<BTreeMap<String, Seen>>>) {
    while let Some(event) = events.next().await {
        let id = event.headers.as_ref().and_then(|headers| headers.get("ce-id")).map(ToString::to_string);
        let epoch = id.and_then(|id| id.split_once('-')?.0.parse().ok());
        let instance = event.subject.split('.').nth(3).unwrap_or_default();
        if let (Some(epoch), Some(seen)) = (epoch, seen.lock().unwrap().get_mut(instance)) {
            let now = Instant::now();
            seen.epochs.entry(epoch).or_insert(now);
            let last = seen.last.replace(now);
            seen.silence = seen.silence.max(last.map_or(Duration::ZERO, |last| now - last));
        }
    }
}

/// Sends commands to an instance one after the other, each with another number.
async fn send_commands(
    client: Client,
    instance: &str,
    period: Duration,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
) {
    let note = |command: u64, status: Option<String>| {
        let mut seen = seen.lock().unwrap();
        seen.get_mut(instance).expect("it is known").history.replied.insert(command, status);
    };
    // Each instance has a resource with its name.
    let subject = format!("pontoon.command.sub0.{instance}.call.{instance}");
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for command in 0_u64.. {
        ticks.tick().await;
        note(command, None);
        let reply = request(&client, &subject, json!({"c": command}).to_string());
        if let Ok(Some(status)) = timeout(REPLY, reply).await {
            note(command, Some(status));
        }
    }
}

/// The status of the reply to a command.
async fn request(client: &Client, subject: &str, body: String) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.insert("Pontoon-Timeout", TIMEOUT);
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.ok()?;
    client.publish_with_reply_and_headers(subject.to_owned(), inbox, headers, body.into()).await.ok()?;
    let reply = replies.next().await?;
    if reply.status.is_some() {
        return Some("no responders".to_owned());
    }
    Some(reply.headers?.get("Pontoon-Status")?.as_str().to_owned())
}
