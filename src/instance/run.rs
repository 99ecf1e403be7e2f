//! An instance from start to end: its parts are started, commands are taken, and at the end everything drains.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::{OnDemandLimits, Subjects};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::bus::{Bus, Moved};
use super::context::{Context, LocalCommand, Settings};
use super::jobs::Jobs;
use super::listener::{self, Accepted};
use super::local;
use super::router::{self, Router};
use super::shared::{Shared, Throttles};
use super::state::State;
use super::status;
use crate::bus::checkpoints::Checkpoints;
use crate::bus::commands;
use crate::bus::connections::Connections;
use crate::bus::requests::Requester;
use crate::bus::spool::{Left, Spool, Storage};
use crate::disk::{Directory, Intents};
use crate::envelope::Envelope;
use crate::link;
use crate::link::erased::ErasedConnector;
use crate::link::lifetime::Lifetime;
use crate::link::phases::LinkPhases;
use crate::link::slots::Slots;
use crate::log::Throttle;
use crate::reply::Stats;
use crate::reply::idempotency::{KeyRecord, Keys};
use crate::settings::{self, DeliveryMode};
use crate::transport::{self, Dial};

/// How long an instance that failed waits for its links to end, for its replies, and for the server, each.
const FAILED_LIMIT: Duration = Duration::from_secs(1);
/// How long events that are on the disk wait at the end for a server that is away.
const AWAY: Duration = Duration::from_secs(2);
/// How long the commands that were on their way may take to arrive when a subscription ends.
const LAST_COMMANDS: Duration = Duration::from_secs(1);
/// How often links that stay down are logged.
const STILL_DOWN: Duration = Duration::from_secs(30);
/// How often errors that the service raises are logged.
const SERVICE_ERRORS: Duration = Duration::from_secs(10);
/// Accepted connections that wait for their links.
const ACCEPTED: usize = 16;
/// How long the folder of the instance may stay in use by a run before this one.
const RELEASED: Duration = Duration::from_secs(5);

/// Runs until the instance is asked to stop and has drained, or until one of its parts fails as none should: then it
/// returns without a drain, and the daemon starts it again.
pub(super) async fn run<T: Dial>(
    connector: Rc<dyn ErasedConnector<T>>,
    mut context: Context,
    connections: Connections,
) {
    let shared =
        Rc::new(shared(connector.kind(), connector.on_demand_limits(), connector.asks(), &context).await);
    let mut parts = JoinSet::new();
    parts.spawn_local(status::beat(context.heartbeat.clone(), shared.link.activity.clone()));
    parts.spawn_local({
        let spool = shared.link.spool.clone();
        async move { spool.work_on_disk().await }
    });
    parts.spawn_local({
        let link = shared.link.clone();
        async move { link.checkpoints.run(&link.spool).await }
    });
    let stats = Rc::new(Stats::default());
    let operations = router::operations(&*connector, context.settings.borrow().admin_commands);
    let started = Bus::start(&context, shared.clone(), operations, stats.clone(), connections).await;
    let Some((mut bus, replies)) = started else { return };
    if shared.fence.is_fenced() && !bus.keep_keys(&context).await {
        return;
    }
    let status = context.status.subscribe();
    let mut router = Router::new(shared.clone(), connector.clone(), status, replies, stats);
    let (sender, mut accepted) = mpsc::channel(ACCEPTED);
    if let Some(listener) = connector.listener() {
        parts.spawn_local(listener::listen(
            listener,
            connector.clone(),
            shared.clone(),
            context.stop.clone(),
            sender.clone(),
        ));
    }
    for spec in connector.links() {
        if let Err(error) = router.links.open(spec, Lifetime::Permanent) {
            tracing::error!(instance = context.name, %error, "a link is not opened");
        }
    }
    router.restore();
    let mut jobs = Jobs::new(shared.clone()).await;
    jobs.follow(&bus, false);
    let part_failed = tokio::select! {
        failed = serve(&mut bus, &shared, &mut router, &mut jobs, &mut accepted, &mut context.commands, &context.stop) => failed,
        _ = parts.join_next() => true,
        () = shared.fault.cancelled() => false,
    };
    if part_failed || shared.fault.is_cancelled() {
        tracing::error!(instance = context.name, "a part of the instance has failed; all of it starts over");
    }
    if part_failed {
        // Nothing may be there to drain to, but callers are sent what is known.
        router.links.close_all();
        let _ = timeout(FAILED_LIMIT, router.links.tasks.wait()).await;
        drop(router);
        let _ = timeout(FAILED_LIMIT, bus.replied()).await;
        commands::barrier(bus.client(), FAILED_LIMIT).await;
        let _ = timeout(FAILED_LIMIT, shared.link.spool.close_disk()).await;
        let _ = timeout(FAILED_LIMIT, shared.link.checkpoints.write(&shared.link.spool)).await;
    } else {
        drain(&context, &shared, router, jobs, &mut bus).await;
    }
    shared.link.spool.abandon();
    let _ = timeout(FAILED_LIMIT, shared.intents.written()).await;
    let _ = timeout(FAILED_LIMIT, shared.keys.written()).await;
}

/// Takes commands, and follows changes of the settings, until the instance is asked to stop. Returns whether a part of the
/// bus has failed.
async fn serve<T: Dial>(
    bus: &mut Bus,
    shared: &Shared,
    router: &mut Router<T>,
    jobs: &mut Jobs,
    accepted: &mut mpsc::Receiver<Box<Accepted<T>>>,
    commands: &mut mpsc::Receiver<LocalCommand>,
    stop: &CancellationToken,
) -> bool {
    let Ok(mut requests) = bus.requests().await else { return true };
    let mut subscribed = Box::pin(bus.subscribed());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            request = requests.next() => {
                let Some(request) = request else { return true };
                router.handle(&request);
                while let Some(request) = requests.arrived() {
                    router.handle(&request);
                }
            }
            delivery = jobs.next() => {
                if let Some(delivery) = delivery {
                    let described = router.describe(&delivery.request);
                    jobs.take(delivery, described);
                }
                jobs.due().into_iter().for_each(|attempt| router.attempt(attempt));
            }
            () = &mut subscribed, if !*shared.subscribed.borrow() => {
                tracing::info!(instance = shared.link.instance, "subscribed to commands");
                shared.subscribed.send_replace(true);
            }
            Some(accepted) = accepted.recv() => {
                let Accepted { link, connection, most } = *accepted;
                if let Err(error) = router.links.accept(link, connection, most) {
                    tracing::warn!(instance = shared.link.instance, %error, "a connection was not accepted");
                }
            }
            Some(command) = commands.recv() => local::handle(router, command),
            change = bus.changed() => {
                let Some(change) = change else { return true };
                let moved = bus.put_in_force(change).await;
                jobs.follow(bus, moved.is_some());
                if let Some(Moved { replies, former_up }) = moved {
                    let Ok(next) = bus.requests().await else { return true };
                    subscribed = Box::pin(bus.subscribed());
                    // Commands that have arrived are carried out, or refused, but not lost.
                    let wait = if former_up { LAST_COMMANDS } else { Duration::ZERO };
                    let former = std::mem::replace(&mut requests, next);
                    former.take_last(wait, |request| router.handle(request)).await;
                    router.reply_to(replies);
                }
            }
        }
    }
    let wait = shared.settings().shutdown.timeout.0 / 32;
    let wait = if bus.is_up() { wait.min(LAST_COMMANDS) } else { Duration::ZERO };
    requests.take_last(wait, |request| router.handle(request)).await;
    false
}

async fn shared(kind: &str, on_demand: OnDemandLimits, asks: Subjects, context: &Context) -> Shared {
    let settings = context.settings.borrow().clone();
    let folder = format!("{}.{}", kind, context.name);
    let on_disk = match settings.delivery.spool.folder() {
        Some(root) => Some(on_disk(folder, root, &settings.delivery.spool, &context.digest).await),
        None => None,
    };
    let Settings { nats, events, delivery, .. } = &settings;
    let envelope = Rc::new(Envelope::new(&nats.prefix, kind, &context.name, context.epoch, events));
    let spool = Spool::new(&context.name, envelope.clone(), context.metrics.clone(), delivery);
    let spool = spool.watched(context.feed.clone());
    // An instance of a cluster may have run elsewhere in between.
    let is_shared = context.fences.publish.is_fenced();
    let (intents, keys, checkpoints) = match on_disk {
        None => (Intents::default(), None, Checkpoints::default()),
        Some(Ok(OnDisk { left, intents, keys, checkpoints })) => {
            spool.keep_on_disk(left);
            let checkpoints = if is_shared { Checkpoints::default() } else { checkpoints };
            checkpoints.restore_identities(&spool);
            (intents, Some(keys), checkpoints)
        }
        Some(Err(error)) => {
            tracing::error!(instance = context.name, error, "events are in memory only until the next start");
            spool.refuse_disk(error);
            (Intents::default(), None, Checkpoints::default())
        }
    };
    if delivery.mode == DeliveryMode::Core {
        // There is no stream that knows of an earlier run, so there may have been one.
        spool.previous_run(None);
    }
    let link = link::context::Context {
        instance: context.name.clone(),
        spool: Rc::new(spool),
        checkpoints: Rc::new(checkpoints),
        ends: Cell::new(false),
        requester: Requester::new(asks),
        metrics: context.metrics.clone(),
        transport: transport::Settings::new(context.transport.clone()).fenced(context.fences.service.clone()),
        phases: LinkPhases::new(context.metrics.clone()),
        slots: Slots::new(on_demand.links),
        ready_links: Rc::default(),
        first_failures: Throttle::default(),
        failures: Throttle::every(STILL_DOWN),
        service_errors: Throttle::every(SERVICE_ERRORS),
        feed: context.feed.clone(),
        activity: Rc::default(),
    };
    Shared {
        fence: context.fences.publish.clone(),
        link: Rc::new(link),
        envelope,
        intents: Rc::new(intents),
        // In a cluster they are in NATS, where the next owner has them, too.
        keys: Keys::new(&settings.commands, keys.filter(|_| !is_shared)),
        subscribed: watch::Sender::new(false),
        jobs: watch::Sender::default(),
        settings: RefCell::new(Rc::new(settings)),
        throttles: Throttles::default(),
        fault: CancellationToken::new(),
    }
}

/// What an instance has on disk.
struct OnDisk {
    left: Left,
    intents: Intents,
    keys: KeyRecord,
    checkpoints: Checkpoints,
}

/// Opens the folder of the instance, and reads what an earlier run has left there.
async fn on_disk(
    folder: String,
    root: &Path,
    spool: &settings::Spool,
    digest: &[u8],
) -> Result<OnDisk, String> {
    let end = Instant::now() + RELEASED;
    let directory = loop {
        let (root, folder) = (root.to_owned(), folder.clone());
        let opened = spawn_blocking(move || Directory::open(&root, &folder)).await;
        match opened.map_err(|error| error.to_string())? {
            // A run of this process that has ended may have a write under way.
            Err(error)
                if error.contains(&format!("(process {})", std::process::id())) && Instant::now() < end =>
            {
                sleep(Duration::from_millis(50)).await;
            }
            opened => break Arc::new(opened?),
        }
    };
    let unreadable = |error: io::Error| format!("what is in the folder {folder} cannot be read: {error}");
    let read = spawn_blocking({
        let (directory, spool) = (directory.clone(), spool.clone());
        move || Left::read(directory, &spool)
    });
    let left = read.await.map_err(|error| error.to_string())?.map_err(unreadable)?;
    let intents = Intents::open(Some(directory.clone()), spool.durability).await.map_err(unreadable)?;
    let keys = KeyRecord::open(directory.clone(), spool.durability).await.map_err(unreadable)?;
    let checkpoints = Checkpoints::open(directory, spool.durability, digest).await.map_err(unreadable)?;
    Ok(OnDisk { left, intents, keys, checkpoints })
}

/// Ends in order: commands under way get their replies, links are closed, events are confirmed, replies are published.
async fn drain<T: Dial>(
    context: &Context,
    shared: &Shared,
    mut router: Router<T>,
    jobs: Jobs,
    bus: &mut Bus,
) {
    let limit = context.settings.borrow().shutdown.timeout.0;
    // A little is kept for the last replies and the last status.
    let end = Instant::now() + limit.mul_f64(0.85);
    let jobs = spawn_local(jobs.drain());
    let answered = async {
        // Without its lease, another daemon may run the instance soon: no link stays open for a response.
        while shared.fence.is_open() && !router.is_idle() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(limit / 4, answered).await.is_err() || !router.is_idle() {
        tracing::warn!(
            instance = context.name,
            "commands were still under way; their callers are sent what is known"
        );
    }
    router.links.close_all();
    let spool = &shared.link.spool;
    // What is on the disk need not wait for a server that is away.
    let end = if spool.storage() == Storage::Disk && !bus.is_up() {
        Instant::now() + AWAY.min(limit / 4)
    } else if shared.fence.is_open() {
        end
    } else {
        // Nothing is published any more.
        Instant::now()
    };
    let confirmed = async {
        let _ = timeout_at(end, router.links.tasks.wait()).await;
        drop(router);
        timeout_at(end, spool.empty()).await.is_ok()
    };
    // Settings for NATS that are corrected now are in time for what is kept.
    let confirmed = tokio::select! {
        confirmed = confirmed => confirmed,
        () = bus.follow() => false,
    };
    let written = timeout(limit / 16, spool.close_disk()).await.is_ok();
    let _ = timeout(limit / 32, shared.link.checkpoints.write(spool)).await;
    let level = spool.level();
    let left = level.sent + level.waiting;
    if !confirmed && written && spool.storage() == Storage::Disk {
        tracing::info!(
            instance = context.name,
            events = left,
            "NATS did not confirm these events in time; they are on the disk for the next start"
        );
    } else if !confirmed {
        tracing::error!(
            instance = context.name,
            events = left,
            "NATS did not confirm these events in time; those that it does not hold are lost"
        );
    }
    context.status.send_modify(|status| {
        status.links.apply(&shared.link.phases.take_changes());
        status::set_levels(status, &shared.link.spool);
    });
    let _ = timeout(limit / 32, bus.replied()).await;
    if timeout(limit / 32, jobs).await.is_err() && context.status.borrow().jobs.in_flight > 0 {
        tracing::warn!(instance = context.name, "the results of some jobs were not stored in time");
    }
    if !shared.fence.is_open() {
        return;
    }
    let mut state = State::default();
    let last = state.all(&context.status.borrow(), bus.client().server_info().max_payload);
    state.publish(bus.client(), &shared.envelope, last).await;
    commands::barrier(bus.client(), limit / 32).await;
}
