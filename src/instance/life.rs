//! What runs on an instance's thread: its parts are started, commands are taken, and at the end everything drains.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use pontoon_sdk::Connector;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, unconstrained};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::commands::{self, Dispatcher};
use super::door::{self, Arrival};
use super::{Context, Shared, Throttles, since_start, state};
use crate::bus::connect::{self, Connection};
use crate::bus::context;
use crate::bus::publisher::Publisher;
use crate::bus::replies;
use crate::bus::service::{self, Micro, Requests};
use crate::bus::spool::Spool;
use crate::bus::track::Tracker;
use crate::config::{Config, DeliveryMode};
use crate::envelope::{Envelope, rfc3339};
use crate::link::gaps::ReadyLinks;
use crate::replies::{Outlet, Tally};
use crate::status::BusStatus;
use crate::transport::{self, Dial};

/// How long an instance that failed waits for each of its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Services that were let in and wait to be taken over.
const ARRIVALS: usize = 16;
/// How long the instance waits before it tries settings for NATS again that could not be used.
const UNUSABLE: Duration = Duration::from_secs(5);

/// Runs until the instance is asked to stop and has drained, or until one of its parts fails as none should: then it
/// returns without a drain, and the daemon starts it again.
pub(super) async fn live<C: Connector>(connector: Arc<C>, context: Context)
where
    C::Transport: Dial,
{
    let shared = Arc::new(share::<C>(&context));
    let Some((client, connection)) = connected(&context, &shared).await else { return };
    let (outlet, replies) = Outlet::new(shared.commands.max_in_flight);
    let tally = Arc::new(Tally::default());
    let status = context.status.subscribe();
    // As many replies in one turn as the client takes: commands come in bursts, and so do their refusals.
    let replying = unconstrained(replies::publish(client.clone(), replies, outlet.interest()));
    let replying = tokio::spawn(replying);
    let mut dispatcher = Dispatcher::new(shared.clone(), connector.clone(), status, outlet, tally.clone());
    let subscribed = service::subscribed(&client, connection.clone());
    let mut parts = parts(&context, &*connector, &shared, &client, connection, tally);
    let (knocking, mut arrivals) = mpsc::channel(ARRIVALS);
    if let Some(door) = connector.door() {
        parts.spawn(door::keep(
            door,
            connector.clone(),
            shared.clone(),
            context.stop.clone(),
            knocking.clone(),
        ));
    }
    for spec in connector.links() {
        if let Err(error) = dispatcher.links.open(spec) {
            tracing::error!(instance = context.name, %error, "a link is not opened");
        }
    }
    let part_failed = tokio::select! {
        () = serve(&client, &shared, subscribed, &mut dispatcher, &mut arrivals, &context.stop) => false,
        _ = parts.join_next() => true,
        () = shared.fault.cancelled() => false,
    };
    if part_failed || shared.fault.is_cancelled() {
        tracing::error!(instance = context.name, "a part of the instance has failed; all of it starts over");
    }
    if part_failed {
        // Nothing may be there to drain to, but callers are told what is known.
        dispatcher.links.close_all();
        let _ = timeout(LAST_WORDS, dispatcher.links.tasks.wait()).await;
        drop(dispatcher);
        let _ = timeout(LAST_WORDS, replying).await;
        service::barrier(&client, LAST_WORDS).await;
    } else {
        drain(&context, &shared, dispatcher, &client, replying).await;
    }
    shared.spool.abandon();
}

/// What runs beside the links and the commands, without end.
fn parts<C: Connector>(
    context: &Context,
    connector: &C,
    shared: &Arc<Shared>,
    client: &Client,
    connection: watch::Receiver<Connection>,
    tally: Arc<Tally>,
) -> JoinSet<()> {
    let bus = watch::Sender::new(context.status.borrow().bus.clone());
    // It could be read a moment ago, to connect.
    let nats = context::apply(&context.config.nats).unwrap_or_else(|_| context.config.nats.clone());
    let tracker = Tracker::new(shared.delivery.clone(), &shared.name, nats.jetstream_api());
    let publisher = Publisher::new(client.clone(), connection.clone(), shared.clone(), bus.clone(), tracker);
    let mut parts = JoinSet::new();
    parts.spawn(publisher.run());
    parts.spawn(state::keep(shared.clone(), bus, connection, context.status.clone(), client.clone()));
    parts.spawn(state::beat(context.heartbeat.clone()));
    parts.spawn(micro(context, connector, shared, tally).serve(client.clone()));
    parts
}

/// Takes commands until the instance is asked to stop.
async fn serve<C: Connector>(
    client: &Client,
    shared: &Shared,
    subscribed: impl Future<Output = ()>,
    dispatcher: &mut Dispatcher<C>,
    arrivals: &mut mpsc::Receiver<Arrival<C::Transport>>,
    stop: &CancellationToken,
) where
    C::Transport: Dial,
{
    let Ok(mut requests) = Requests::listen(client, &shared.envelope.subjects.commands()).await else {
        return stop.cancelled().await;
    };
    tokio::pin!(subscribed);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            request = requests.next() => {
                let Some(request) = request else { return stop.cancelled().await };
                dispatcher.handle(&request);
                while let Some(request) = requests.arrived() {
                    dispatcher.handle(&request);
                }
            }
            () = &mut subscribed, if !*shared.subscribed.borrow() => {
                tracing::info!(instance = shared.name, "subscribed to commands");
                shared.subscribed.send_replace(true);
            }
            Some(Arrival { link, connection, most }) = arrivals.recv() => {
                if let Err(error) = dispatcher.links.welcome(link, connection, most) {
                    tracing::warn!(instance = shared.name, %error, "a visitor was not let in");
                }
            }
        }
    }
    // Those that have arrived are carried out, or refused, but not forgotten.
    let ends = requests.unsubscribe().await;
    while let Some(request) = if ends { requests.next().await } else { requests.arrived() } {
        dispatcher.handle(&request);
    }
}

/// A client that connects in the background; settings that cannot be used now are tried again.
async fn connected(context: &Context, shared: &Shared) -> Option<(Client, watch::Receiver<Connection>)> {
    loop {
        // A prefix of its own, so that no reply to a command can pass for one of our confirmations.
        let (name, inbox) = (format!("pontoon/{}", context.name), format!("_INBOX_{}", context.name));
        let subjects = &shared.envelope.subjects;
        let (events, commands) = (subjects.events(), subjects.commands());
        match connect::client(&context.config.nats, &name, &inbox, events, &commands).await {
            Ok(connected) => return Some(connected),
            Err(detail) => {
                tracing::error!(instance = context.name, detail = %detail.escape_debug(), "NATS");
                let bus = BusStatus { detail: Some(detail), ..BusStatus::default() };
                context.status.send_modify(|status| status.bus = bus);
                context.heartbeat.store(since_start(), Ordering::Relaxed);
                tokio::select! {
                    () = context.stop.cancelled() => return None,
                    () = sleep(UNUSABLE) => {}
                }
            }
        }
    }
}

fn share<C: Connector>(context: &Context) -> Shared {
    let Config { nats, events, delivery, commands, .. } = &context.config;
    let envelope = Arc::new(Envelope::new(&nats.prefix, C::TYPE, &context.name, context.epoch, events));
    let spool = Spool::new(&context.name, envelope.clone(), context.metrics.clone(), delivery);
    if delivery.mode == DeliveryMode::Core {
        // There is no stream that knows of an earlier run, so there may have been one.
        spool.previous_run(None);
    }
    context.metrics.spool_max_bytes.set(delivery.buffer.0 as f64);
    context.metrics.spool_max_events.set(delivery.buffer_events as f64);
    Shared {
        name: context.name.clone(),
        prefix: nats.prefix.clone(),
        spool: Arc::new(spool),
        envelope,
        ready_links: ReadyLinks::default(),
        metrics: context.metrics.clone(),
        board: Board::new(context.metrics.clone()),
        subscribed: watch::Sender::new(false),
        delivery: delivery.clone(),
        commands: commands.clone(),
        transport: transport::Settings::new(context.transport.clone()),
        throttles: Throttles::default(),
        fault: CancellationToken::new(),
    }
}

fn micro<C: Connector>(context: &Context, connector: &C, shared: &Shared, tally: Arc<Tally>) -> Micro {
    Micro {
        metadata: json!({ "instance": context.name, "type": C::TYPE }),
        name: format!("pontoon-{}-{}", C::TYPE, context.name),
        id: format!("{:x}", context.epoch),
        subject: shared.envelope.subjects.commands(),
        operations: commands::operations(connector),
        tally,
        reply_prefixes: shared.commands.reply_prefixes.clone(),
        own_prefix: shared.prefix.clone(),
        started: rfc3339(time::OffsetDateTime::now_utc()),
    }
}

/// Ends in order: commands under way get their answers, links say goodbye, events are confirmed, replies are out.
async fn drain<C: Connector>(
    context: &Context,
    shared: &Shared,
    mut dispatcher: Dispatcher<C>,
    client: &Client,
    replying: JoinHandle<()>,
) where
    C::Transport: Dial,
{
    let limit = context.config.shutdown.timeout.0;
    // A little is kept for the words at the end.
    let end = Instant::now() + limit.mul_f64(0.9);
    let answered = async {
        while !dispatcher.is_idle() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(limit / 4, answered).await.is_err() {
        tracing::warn!(
            instance = context.name,
            "commands were still under way; their callers are told what is known"
        );
    }
    dispatcher.links.close_all();
    let _ = timeout_at(end, dispatcher.links.tasks.wait()).await;
    drop(dispatcher);
    let confirmed = timeout_at(end, shared.spool.empty()).await.is_ok();
    let level = shared.spool.level();
    let left = level.sent + level.waiting;
    if !confirmed {
        tracing::error!(
            instance = context.name,
            events = left,
            "NATS did not confirm these events in time; those that it does not hold are lost"
        );
    }
    context.status.send_modify(|status| {
        status.links = shared.board.list();
        status.unconfirmed_events = u64::try_from(left).unwrap_or(u64::MAX);
        status.unconfirmed_bytes = u64::try_from(level.bytes).unwrap_or(u64::MAX);
    });
    let _ = timeout(limit / 32, replying).await;
    let last = context.status.borrow().clone();
    state::publish(client, shared, &last).await;
    service::barrier(client, limit / 32).await;
}
