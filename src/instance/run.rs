//! What runs on an instance's thread: its parts are started, commands are taken, and at the end everything drains.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pontoon_sdk::Connector;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::bus::{Bus, Moved};
use super::listener::{self, Arrival};
use super::router::{self, Dispatcher};
use super::{Context, Settings, Shared, Throttles, status};
use crate::bus::commands;
use crate::bus::spool::Spool;
use crate::envelope::Envelope;
use crate::link::gaps::ReadyLinks;
use crate::link::phases::Board;
use crate::reply::Tally;
use crate::settings::DeliveryMode;
use crate::transport::{self, Dial};

/// How long an instance that failed waits for each of its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the commands that were on their way may take to arrive when a subscription ends.
const LAST_COMMANDS: Duration = Duration::from_secs(1);
/// Services that were let in and wait to be taken over.
const ARRIVALS: usize = 16;

/// Runs until the instance is asked to stop and has drained, or until one of its parts fails as none should: then it
/// returns without a drain, and the daemon starts it again.
pub(super) async fn live<C: Connector>(connector: Arc<C>, context: Context)
where
    C::Transport: Dial,
{
    let shared = Rc::new(share::<C>(&context));
    let mut parts = JoinSet::new();
    parts.spawn_local(status::beat(context.heartbeat.clone(), shared.activity.clone()));
    let tally = Arc::new(Tally::default());
    let started = Bus::start(&context, shared.clone(), router::operations(&*connector), tally.clone()).await;
    let Some((mut bus, replies)) = started else { return };
    let status = context.status.subscribe();
    let mut dispatcher = Dispatcher::new(shared.clone(), connector.clone(), status, replies, tally);
    let (knocking, mut arrivals) = mpsc::channel(ARRIVALS);
    if let Some(listener) = connector.listener() {
        parts.spawn_local(listener::keep(
            listener,
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
        failed = serve(&mut bus, &shared, &mut dispatcher, &mut arrivals, &context.stop) => failed,
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
        let _ = timeout(LAST_WORDS, bus.replied()).await;
        commands::barrier(bus.client(), LAST_WORDS).await;
    } else {
        drain(&context, &shared, dispatcher, &mut bus).await;
    }
    shared.spool.abandon();
}

/// Takes commands, and follows changes of the settings, until the instance is asked to stop. Returns whether a part of the
/// bus has failed.
async fn serve<C: Connector>(
    bus: &mut Bus,
    shared: &Shared,
    dispatcher: &mut Dispatcher<C>,
    arrivals: &mut mpsc::Receiver<Arrival<C::Transport>>,
    stop: &CancellationToken,
) -> bool
where
    C::Transport: Dial,
{
    let Ok(mut requests) = bus.requests().await else { return true };
    let mut subscribed = Box::pin(bus.subscribed());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            request = requests.next() => {
                let Some(request) = request else { return true };
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
            change = bus.changed() => {
                let Some(change) = change else { return true };
                if let Some(Moved { replies, former_up }) = bus.put_in_force(change).await {
                    let Ok(next) = bus.requests().await else { return true };
                    subscribed = Box::pin(bus.subscribed());
                    // Those that have arrived are carried out, or refused, but not forgotten.
                    let wait = if former_up { LAST_COMMANDS } else { Duration::ZERO };
                    let former = std::mem::replace(&mut requests, next);
                    former.take_last(wait, |request| dispatcher.handle(request)).await;
                    dispatcher.reply_to(replies);
                }
            }
        }
    }
    let wait = shared.settings().shutdown.timeout.0 / 32;
    let wait = if bus.is_up() { wait.min(LAST_COMMANDS) } else { Duration::ZERO };
    requests.take_last(wait, |request| dispatcher.handle(request)).await;
    false
}

fn share<C: Connector>(context: &Context) -> Shared {
    let settings = context.settings.borrow().clone();
    let Settings { nats, events, delivery, .. } = &settings;
    let envelope = Rc::new(Envelope::new(&nats.prefix, C::TYPE, &context.name, context.epoch, events));
    let spool = Spool::new(&context.name, envelope.clone(), context.metrics.clone(), delivery);
    if delivery.mode == DeliveryMode::Core {
        // There is no stream that knows of an earlier run, so there may have been one.
        spool.previous_run(None);
    }
    Shared {
        name: context.name.clone(),
        spool: Rc::new(spool),
        envelope,
        ready_links: ReadyLinks::default(),
        activity: Arc::default(),
        metrics: context.metrics.clone(),
        board: Board::new(context.metrics.clone()),
        subscribed: watch::Sender::new(false),
        settings: Mutex::new(Arc::new(settings)),
        transport: transport::Settings::new(context.transport.clone()),
        throttles: Throttles::default(),
        fault: CancellationToken::new(),
    }
}

/// Ends in order: commands under way get their answers, links say goodbye, events are confirmed, replies are out.
async fn drain<C: Connector>(context: &Context, shared: &Shared, mut dispatcher: Dispatcher<C>, bus: &mut Bus)
where
    C::Transport: Dial,
{
    let limit = context.settings.borrow().shutdown.timeout.0;
    // A little is kept for the words at the end.
    let end = Instant::now() + limit.mul_f64(0.85);
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
    let confirmed = async {
        let _ = timeout_at(end, dispatcher.links.tasks.wait()).await;
        drop(dispatcher);
        timeout_at(end, shared.spool.empty()).await.is_ok()
    };
    // Settings for NATS that are corrected now are in time for what is kept.
    let confirmed = tokio::select! {
        confirmed = confirmed => confirmed,
        () = bus.follow() => false,
    };
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
    let _ = timeout(limit / 32, bus.replied()).await;
    let last = context.status.borrow().clone();
    status::publish(bus.client(), shared, &last).await;
    commands::barrier(bus.client(), limit / 32).await;
}
