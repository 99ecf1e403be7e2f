//! The NATS side of an instance: its connection, and what publishes and replies over it. When the shared settings change,
//! it moves to another connection, while links stay open and events are kept.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use async_nats::Client;
use pontoon_sdk::Operation;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::context::{Context, Settings};
use super::router::MOST_COMMANDS;
use super::shared::Shared;
use super::status;
use crate::bus::acks::Tracker;
use crate::bus::commands::{self, Micro, Requests};
use crate::bus::connect::{self, Connection};
use crate::bus::connections::{Connections, Opener};
use crate::bus::context;
use crate::bus::jobs::{JobIntents, WorkQueue};
use crate::bus::keys::KeyBucket;
use crate::bus::publisher::Publisher;
use crate::bus::replies::{self, Route, Target};
use crate::envelope::{Subjects, rfc3339};
use crate::reply::idempotency::KeyRecord;
use crate::reply::{ReplySender, Stats};
use crate::settings::Nats;
use crate::status::{BusStatus, InstanceStatus};

/// How long the instance waits before it tries settings for NATS again that could not be used.
const UNUSABLE: Duration = Duration::from_secs(5);
/// The queue group of commands: instances of one name that run twice without leases share their callers.
const GROUP: &str = "q";
/// What the inboxes of clients begin with.
const INBOX: &str = "_INBOX";
/// How long the former connection stays in use while the next one is not up.
const OVERLAP: Duration = Duration::from_secs(5);
/// How long a move waits for the confirmation of what is on the wire; what stays unconfirmed is sent again.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a round trip may take that shows that something has reached the server.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// The NATS side of an instance.
pub(super) struct Bus {
    shared: Rc<Shared>,
    settings: watch::Receiver<Settings>,
    micro: Micro,
    bus: watch::Sender<BusStatus>,
    status: watch::Sender<InstanceStatus>,
    connected: Connected,
    /// Those of the thread, for events.
    connections: Connections,
    /// The connection, for replies.
    current: watch::Sender<Target>,
    publishing: Publishing,
    /// What else runs over the connection, without end: the state, and the micro service.
    state: JoinSet<()>,
    micro_service: JoinSet<()>,
    /// What sends replies: one task for the current connection, and one for each former one that still has callers.
    receiver: JoinSet<()>,
    /// A change of the settings on its way.
    preparing: Option<JoinHandle<Change>>,
}

/// A client, and what it was made of.
struct Connected {
    client: Client,
    connection: watch::Receiver<Connection>,
    /// The settings, with those of a context.
    nats: Nats,
}

/// A publisher that runs. The token ends it, and gives back what it knows of the stream.
struct Publishing {
    stop: CancellationToken,
    task: JoinHandle<Option<Tracker>>,
}

/// Settings that can be put in force.
pub(super) struct Change {
    settings: Settings,
    /// Set if another connection is needed.
    next: Option<Connected>,
}

/// The bus has gone over to another connection.
pub(super) struct Moved {
    /// The way of replies to the commands that come over it. Those that came over the former one are still answered there.
    pub(super) replies: ReplySender,
    /// Whether the former connection was up.
    pub(super) former_up: bool,
}

impl Bus {
    /// Connects, and starts to publish. `None` if the instance is asked to stop before the settings for NATS can be used.
    pub(super) async fn start(
        context: &Context,
        shared: Rc<Shared>,
        operations: Vec<Operation>,
        stats: Rc<Stats>,
        connections: Connections,
    ) -> Option<(Self, ReplySender)> {
        let bus = watch::Sender::new(context.status.borrow().bus.clone());
        let kind = context.status.borrow().kind.clone();
        // A daemon that has lost its lease must not be given commands that the owner should get.
        let group =
            if shared.fence.is_fenced() { format!("{GROUP}{:x}", context.epoch) } else { GROUP.to_owned() };
        let micro = Micro {
            metadata: json!({ "instance": context.name, "type": kind }),
            name: format!("pontoon-{kind}-{}", context.name),
            description: "A service behind a persistent socket, bridged by Pontoon",
            id: format!("{:x}", context.epoch),
            subject: String::new(),
            jobs: None,
            queue_group: Some(group),
            operations,
            stats,
            reply_prefixes: Vec::new(),
            own_prefix: String::new(),
            started: rfc3339(time::OffsetDateTime::now_utc()),
        };
        let mut settings = context.settings.clone();
        let unusable = |detail: String| {
            let bus = BusStatus { detail: Some(detail), ..BusStatus::default() };
            context.status.send_modify(|status| status.bus = bus);
        };
        let (connected, used) = loop {
            let used = settings.borrow_and_update().clone();
            tokio::select! {
                () = context.stop.cancelled() => return None,
                Ok(()) = settings.changed() => {}
                connected = connect(&context.name, &kind, &used.nats, &unusable) => break (connected, used),
            }
        };
        shared.adopt(used);
        let delivery = shared.settings().delivery.clone();
        let tracker = Tracker::new(
            delivery,
            &shared.link.instance,
            connected.nats.jetstream_api(),
            shared.fence.clone(),
        );
        let mut this = Self {
            current: watch::Sender::new(connected.target(&connections)),
            publishing: Publishing::start(&connected, &connections, &shared, &bus, tracker),
            status: context.status.clone(),
            state: JoinSet::new(),
            micro_service: JoinSet::new(),
            receiver: JoinSet::new(),
            preparing: None,
            shared,
            settings,
            micro,
            bus,
            connected,
            connections,
        };
        this.shared.link.requester.send_over(this.current.subscribe());
        this.start_state();
        this.start_micro();
        let replies = this.start_replies();
        Some((this, replies))
    }

    /// The client.
    pub(super) fn client(&self) -> &Client {
        &self.connected.client
    }

    /// Whether the connection is up.
    pub(super) fn is_up(&self) -> bool {
        self.connected.connection.borrow().up
    }

    /// The work queue of the instance over the current connection, with these intents; `None` where jobs are not taken.
    pub(super) fn work_queue(&self, intents: &Rc<JobIntents>) -> Option<WorkQueue> {
        let settings = self.shared.settings();
        let taken = settings.jobs.are_taken(settings.delivery.mode);
        let Connected { client, connection, nats } = &self.connected;
        taken.then(|| WorkQueue {
            client: client.clone(),
            connection: connection.clone(),
            api: nats.jetstream_api(),
            instance: self.shared.link.instance.clone(),
            subjects: self.shared.envelope.subjects(),
            jobs: settings.jobs.clone(),
            delivery: settings.delivery.clone(),
            intents: intents.clone(),
            status: self.shared.jobs.clone(),
            suspect: Cell::default(),
            owned: Cell::default(),
        })
    }

    /// Reads the idempotency keys that other daemons have kept for the instance, and keeps further ones there. Tries until it
    /// works, or the instance is asked to stop: then it returns `false`.
    pub(super) async fn keep_keys(&self, context: &Context) -> bool {
        loop {
            let settings = self.shared.settings();
            let Connected { client, connection, nats } = &self.connected;
            let mut connection = connection.clone();
            let opened = async {
                let _ = connection.wait_for(|connection| connection.up).await;
                let (prefix, instance) = (settings.nats.prefix.clone(), context.name.clone());
                let (client, api, fence) = (client.clone(), nats.jetstream_api(), self.shared.fence.clone());
                let bucket = KeyBucket { client, api, prefix, instance, fence };
                bucket.open(settings.commands.idempotency_time.0, &settings.delivery).await
            };
            let opened = tokio::select! {
                () = context.stop.cancelled() => return false,
                opened = opened => opened,
            };
            match opened {
                Ok((store, left)) => {
                    self.shared.keys.keep_in(KeyRecord::new(store, left));
                    return true;
                }
                Err(detail) => {
                    tracing::error!(instance = context.name, %detail, "no commands are taken yet");
                    context.status.send_modify(|status| status.commands.detail = Some(detail));
                }
            }
            sleep(UNUSABLE).await;
        }
    }

    /// Subscribes to the commands of the instance.
    ///
    /// # Errors
    /// If the client was closed.
    pub(super) async fn requests(&self) -> Result<Requests, async_nats::SubscribeError> {
        let subject = self.shared.envelope.subjects().commands();
        let group = self.micro.queue_group.clone().unwrap_or_default();
        let requests = Requests::listen(self.client(), &subject, group).await?;
        if self.is_up() {
            // Not before the server has the new subscription is the former one given up.
            commands::barrier(self.client(), ROUND_TRIP).await;
        }
        Ok(requests)
    }

    /// Waits until the server has processed the subscription to commands, however long NATS is away or refuses it.
    pub(super) fn subscribed(&self) -> impl Future<Output = ()> + use<> {
        let Connected { client, connection, .. } = &self.connected;
        let (client, connection) = (client.clone(), connection.clone());
        async move { commands::subscribed(&client, connection).await }
    }

    /// Waits until all replies are sent. The senders must be gone, or nothing ends.
    pub(super) async fn replied(&mut self) {
        while self.receiver.join_next().await.is_some() {}
    }

    /// Waits until changed settings can be put in force, or until a part of the bus ends, which none should: then there
    /// is nothing to wait for any more. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) -> Option<Change> {
        loop {
            let prepared = async {
                match &mut self.preparing {
                    Some(preparing) => preparing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = self.settings.changed() => self.prepare(),
                prepared = prepared => {
                    self.preparing = None;
                    return prepared.ok();
                }
                _ = &mut self.publishing.task => return None,
                _ = self.state.join_next() => return None,
                _ = self.micro_service.join_next() => return None,
            }
        }
    }

    /// Moves the instance with every change of the settings, without end. Nothing takes commands meanwhile.
    pub(super) async fn follow(&mut self) {
        while let Some(change) = self.changed().await {
            self.put_in_force(change).await;
        }
        std::future::pending().await
    }

    fn prepare(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        let same = context::apply(&settings.nats).is_ok_and(|nats| nats == self.connected.nats);
        let (name, kind) = (self.shared.link.instance.clone(), self.status.borrow().kind.clone());
        let mut former = self.connected.connection.clone();
        let prepare = async move {
            if same {
                return Change { settings, next: None };
            }
            let mut next = connect(&name, &kind, &settings.nats, &|_| {}).await;
            tokio::select! {
                _ = next.connection.wait_for(|connection| connection.up) => {}
                _ = former.wait_for(|connection| !connection.up) => {}
                () = sleep(OVERLAP) => {}
            }
            Change { settings, next: Some(next) }
        };
        if let Some(outdated) = self.preparing.replace(spawn_local(prepare)) {
            outdated.abort();
        }
    }

    /// Puts changed settings in force. What was kept for the former connection moves to the next one, if that takes one.
    pub(super) async fn put_in_force(&mut self, change: Change) -> Option<Moved> {
        let Change { settings, next } = change;
        let before = self.shared.settings();
        if next.is_none() && before.delivery == settings.delivery && before.commands == settings.commands {
            self.shared.adopt(settings);
            return None;
        }
        let mut tracker = self.end_publishing().await;
        let api = next.as_ref().unwrap_or(&self.connected).nats.jetstream_api();
        if let Some(tracker) = &mut tracker {
            let elsewhere = next.as_ref().is_some_and(|next| elsewhere(&self.connected.nats, &next.nats));
            tracker.reconfigure(settings.delivery.clone(), api.clone(), elsewhere);
        }
        let tracker = tracker.unwrap_or_else(|| {
            let (delivery, fence) = (settings.delivery.clone(), self.shared.fence.clone());
            Tracker::new(delivery, &self.shared.link.instance, api, fence)
        });
        self.shared.adopt(settings);
        let (moves, former_up) = (next.is_some(), self.is_up());
        if let Some(next) = next {
            tracing::info!(
                instance = self.shared.link.instance,
                "the settings for NATS have changed; events go to the new connection"
            );
            self.connected = next;
            self.current.send_replace(self.connected.target(&self.connections));
        }
        self.publishing =
            Publishing::start(&self.connected, &self.connections, &self.shared, &self.bus, tracker);
        self.start_micro();
        if moves {
            self.start_state();
        }
        moves.then(|| Moved { replies: self.start_replies(), former_up })
    }

    /// Ends the publisher once nothing is on the wire, if that is soon.
    async fn end_publishing(&mut self) -> Option<Tracker> {
        self.shared.link.spool.hold(true);
        if self.is_up() {
            let _ = timeout(SETTLE, self.shared.link.spool.idle()).await;
        }
        self.publishing.stop.cancel();
        let tracker = (&mut self.publishing.task).await.ok().flatten();
        self.shared.link.spool.hold(false);
        tracker
    }

    /// Publishes the state over the current connection. Once for each, as it counts what becomes of the connection.
    fn start_state(&mut self) {
        let Connected { client, connection, .. } = &self.connected;
        let (bus, status) = (self.bus.clone(), self.status.clone());
        // What ran over the former connection ends with its set.
        self.state = JoinSet::new();
        self.state.spawn_local(status::keep(
            self.shared.clone(),
            bus,
            connection.clone(),
            status,
            client.clone(),
        ));
    }

    /// Answers as a micro service, by the settings in force.
    fn start_micro(&mut self) {
        let settings = self.shared.settings();
        let micro = Micro {
            subject: self.shared.envelope.subjects().commands(),
            jobs: Some(self.shared.envelope.subjects().jobs()),
            reply_prefixes: settings.commands.reply_prefixes.clone(),
            own_prefix: settings.nats.prefix.clone(),
            ..self.micro.clone()
        };
        self.micro_service = JoinSet::new();
        self.micro_service.spawn_local(micro.serve(self.connected.client.clone()));
    }

    /// What the subjects of replies begin with, but for what may be the beginning of other subjects that we use.
    fn reply_prefixes(&self) -> Vec<String> {
        let settings = self.shared.settings();
        let others = [format!("{}.", settings.nats.prefix), format!("{INBOX}_")];
        let prefixes = settings.commands.reply_prefixes.iter();
        prefixes.filter(|prefix| !others.iter().any(|other| other.starts_with(*prefix))).cloned().collect()
    }

    fn start_replies(&mut self) -> ReplySender {
        let (sender, outgoing) = ReplySender::new(MOST_COMMANDS);
        let route = Route {
            target: self.connected.target(&self.connections),
            current: self.current.subscribe(),
            prefixes: self.reply_prefixes(),
        };
        let liveness = sender.liveness();
        while self.receiver.try_join_next().is_some() {}
        self.receiver.spawn_local(replies::publish(route, outgoing, liveness));
        sender
    }
}

impl Connected {
    fn target(&self, connections: &Connections) -> Target {
        let Self { client, connection, nats } = self;
        let opener = Opener::new(connections.clone(), nats.clone());
        Target { client: client.clone(), connection: connection.clone(), opener }
    }
}

impl Publishing {
    fn start(
        connected: &Connected,
        connections: &Connections,
        shared: &Rc<Shared>,
        bus: &watch::Sender<BusStatus>,
        tracker: Tracker,
    ) -> Self {
        let Target { client, connection, opener } = connected.target(connections);
        let limit = shared.link.transport.config.message_limit;
        let mut publisher = Publisher::new(
            client,
            connection,
            opener,
            shared.link.spool.clone(),
            bus.clone(),
            tracker,
            limit,
        );
        let stop = CancellationToken::new();
        let task = spawn_local({
            let stop = stop.clone();
            async move {
                tokio::select! {
                    () = stop.cancelled() => Some(publisher.into_tracker()),
                    () = publisher.run() => None,
                }
            }
        });
        Self { stop, task }
    }
}

/// A publisher ends with its instance.
impl Drop for Publishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that connects in the background; settings that cannot be used now are tried again, and `unusable` is called with the reason.
async fn connect(name: &str, kind: &str, nats: &Nats, unusable: &impl Fn(String)) -> Connected {
    // A prefix of the instance alone, so that no reply to a command can pass for one of our confirmations.
    let (client, inbox) = (format!("pontoon/{name}"), format!("{INBOX}_{name}"));
    let subjects = Subjects::new(&nats.prefix, kind, name);
    loop {
        let connected = async {
            let applied = context::apply(nats)?;
            let (client, connection) = connect::client(nats, &client, &inbox, &subjects.commands()).await?;
            Ok::<_, String>(Connected { client, connection, nats: applied })
        };
        match connected.await {
            Ok(connected) => return connected,
            Err(detail) => {
                tracing::error!(instance = name, %detail, "NATS");
                unusable(detail);
                sleep(UNUSABLE).await;
            }
        }
    }
}

/// Whether these settings may lead to another server or account. With the same addresses and the same user, another
/// password, certificate or prefix leads to the same streams.
fn elsewhere(before: &Nats, after: &Nats) -> bool {
    let Nats { prefix, password, tls, .. } = before.clone();
    Nats { prefix, password, tls, ..after.clone() } != *before
}
