//! Notifications to the service manager (`sd_notify(3)`), if `NOTIFY_SOCKET` names one: ready, watchdog, reloading,
//! stopping, and a status line.
//!
//! They are sent from a thread, so that a manager that does not read cannot block the signals. The environment variables
//! are left in place: removing one is not safe, and no child process is started that could inherit them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::InstanceStatuses;
use crate::status::Phase;

/// How long `READY=1` waits for the instances to subscribe to commands. After that it is sent regardless: NATS may be
/// away, and the manager must not end a daemon that keeps events meanwhile.
const UNTIL_READY: Duration = Duration::from_secs(10);
/// How often readiness is polled until then.
const READY_POLL: Duration = Duration::from_millis(20);
/// How often the status line is compared with the one that was sent last.
const STATUS_POLL: Duration = Duration::from_secs(1);
/// The shortest interval between keepalives, for any `WatchdogSec`.
const MIN_KEEPALIVE: Duration = Duration::from_millis(10);
/// Added to the drain's timeout in `EXTEND_TIMEOUT_USEC`.
const GRACE: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last notification to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The service manager, if there is one.
#[derive(Default)]
pub(super) struct Notify(Option<NotifyThread>);

/// The thread that sends the notifications.
struct NotifyThread {
    changes: Sender<Change>,
    /// Never receives; disconnected when the thread ends.
    ended: Receiver<()>,
}

enum Change {
    Running,
    Reloading,
    Stopping(Duration),
}

impl Notify {
    /// Starts the thread, if the environment names a service manager.
    pub(super) fn start(statuses: Arc<InstanceStatuses>) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        let (changes, receiver) = mpsc::channel();
        let (ends, ended) = mpsc::channel();
        let work = move || {
            let _ends: Sender<()> = ends;
            let keepalive = watchdog.map(|time| (time / 2).max(MIN_KEEPALIVE));
            run(&receiver, &statuses, InstanceStatuses::STUCK, keepalive, sd_notify::notify);
        };
        match std::thread::Builder::new().name("notify".to_owned()).spawn(work) {
            Ok(_) => Self(Some(NotifyThread { changes, ended })),
            Err(error) => {
                tracing::error!(%error, "the thread for the service manager cannot be started");
                Self(None)
            }
        }
    }

    /// The instances run with the configuration as it was read last. `READY=1` follows once they take commands, or after
    /// [`UNTIL_READY`].
    pub(super) fn running(&self) {
        self.send(Change::Running);
    }

    /// The configuration is being read again.
    pub(super) fn reloading(&self) {
        self.send(Change::Reloading);
    }

    /// The daemon stops, which may take up to `timeout`.
    pub(super) fn stopping(&self, timeout: Duration) {
        self.send(Change::Stopping(timeout));
    }

    fn send(&self, change: Change) {
        if let Some(thread) = &self.0 {
            // The thread ends only once this sender is dropped.
            drop(thread.changes.send(change));
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        if let Some(NotifyThread { changes, ended }) = self.0.take() {
            drop(changes);
            let _ = ended.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

/// Sends changes, the status line when it has changed, and keepalives while no loop is stuck.
fn run(
    changes: &Receiver<Change>,
    statuses: &InstanceStatuses,
    limit: Duration,
    keepalive: Option<Duration>,
    send: impl Fn(&[NotifyState<'_>]) -> io::Result<()>,
) {
    let mut sent_status = String::new();
    let mut last_keepalive: Option<Instant> = None;
    let mut failing = false;
    // When `READY=1` is sent at the latest.
    let mut starting: Option<Instant> = None;
    loop {
        let poll = if starting.is_some() { READY_POLL } else { STATUS_POLL };
        let mut states = match changes.recv_timeout(keepalive.unwrap_or(poll).min(poll)) {
            Ok(change) => {
                starting = matches!(change, Change::Running).then(|| Instant::now() + UNTIL_READY);
                states(change)
            }
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if starting.is_some_and(|until| until <= Instant::now() || statuses.unready().is_empty()) {
            starting = None;
            states.push(NotifyState::Ready);
        }
        let stuck = statuses.stuck(limit);
        let due = keepalive.is_some_and(|every| last_keepalive.is_none_or(|last| last.elapsed() >= every));
        if due && stuck.is_empty() {
            states.push(NotifyState::Watchdog);
            last_keepalive = Some(Instant::now());
        }
        let status = status_line(statuses, &stuck);
        if status != sent_status {
            states.push(NotifyState::Status(&status));
        }
        if states.is_empty() {
            continue;
        }
        let outcome = send(&states);
        if let Err(error) = &outcome
            && !failing
        {
            tracing::warn!(%error, "the service manager cannot be notified");
        }
        failing = outcome.is_err();
        sent_status = status;
    }
}

fn states(change: Change) -> Vec<NotifyState<'static>> {
    match change {
        Change::Running => Vec::new(),
        Change::Reloading => {
            // With `Type=notify-reload` a reload without the time is refused; other types ignore it.
            [NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now()).collect()
        }
        Change::Stopping(timeout) => {
            let timeout = u32::try_from((timeout + GRACE).as_micros()).unwrap_or(u32::MAX);
            vec![NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(timeout)]
        }
    }
}

/// Counts of instances and links, and the first reason why the daemon is stuck or not ready.
fn status_line(statuses: &InstanceStatuses, stuck: &[String]) -> String {
    let snapshots = statuses.snapshots();
    let links = || snapshots.iter().flat_map(|snapshot| snapshot.status.links.0.values());
    let ready = links().filter(|link| link.phase == Phase::Ready).count();
    let mut line = format!("instances: {}, links ready: {ready} of {}", snapshots.len(), links().count());
    let stuck = stuck.iter().map(|name| format!("{name} is stuck"));
    if let Some(reason) = stuck.chain(statuses.unready()).next() {
        line.push_str("; ");
        line.push_str(&reason);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::watch;

    use super::*;
    use crate::instance::since_start;
    use crate::status::{
        BusStatus, CommandStatus, Counts, InstanceStatus, JobStatus, Links, Rates, SpoolStatus,
    };

    /// The datagrams that were sent.
    type Sent = Arc<Mutex<Vec<String>>>;

    fn notifier(
        statuses: &Arc<InstanceStatuses>,
        limit: Duration,
        keepalive: Option<Duration>,
    ) -> (Sender<Change>, Sent) {
        let (changes, receiver) = mpsc::channel();
        let sent = Sent::default();
        let (statuses, recorder) = (statuses.clone(), sent.clone());
        std::thread::spawn(move || {
            run(&receiver, &statuses, limit, keepalive, |states| {
                recorder.lock().unwrap().push(states.iter().map(|state| format!("{state}\n")).collect());
                Ok(())
            });
        });
        (changes, sent)
    }

    fn shop() -> InstanceStatus {
        InstanceStatus {
            instance: "shop".into(),
            kind: "sub0".into(),
            epoch: 1,
            bus: BusStatus { connected: true, publishing: true, ..BusStatus::default() },
            commands: CommandStatus { subscribed: true, dropped: 0, detail: None },
            jobs: JobStatus::default(),
            links: Links::default(),
            unconfirmed_events: 0,
            unconfirmed_bytes: 0,
            room: true,
            counts: Counts::default(),
            rates: Rates::default(),
            spool: SpoolStatus::default(),
        }
    }

    /// Calls `beat` until `holds` is true of the datagrams sent from now on.
    async fn until(sent: &Sent, mut beat: impl FnMut(), holds: impl Fn(&[String]) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        sent.lock().unwrap().clear();
        while !holds(&sent.lock().unwrap()) {
            assert!(Instant::now() < end, "{:?}", sent.lock().unwrap());
            beat();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn keepalives_stop_while_an_instance_hangs_and_the_status_line_names_it() {
        let statuses = Arc::new(InstanceStatuses::default());
        let heart = Arc::new(AtomicU64::new(since_start()));
        statuses.insert(watch::channel(shop()).1, heart.clone());
        statuses.beat();
        let all_beat = || {
            statuses.beat();
            heart.store(since_start(), Ordering::Relaxed);
        };
        let keepalives = |sent: &[String]| sent.iter().filter(|text| text.contains("WATCHDOG=1\n")).count();
        let keepalive = Some(Duration::from_millis(10));
        let (changes, sent) = notifier(&statuses, Duration::from_millis(300), keepalive);
        until(&sent, all_beat, |sent| keepalives(sent) > 3).await;

        until(&sent, || statuses.beat(), |sent| sent.iter().any(|text| text.contains("shop is stuck"))).await;
        // Other notifications are still sent, keepalives are not.
        until(
            &sent,
            || {
                statuses.beat();
                changes.send(Change::Running).unwrap();
            },
            |sent| sent.len() > 20,
        )
        .await;
        assert_eq!(keepalives(&sent.lock().unwrap()), 0);

        until(&sent, all_beat, |sent| keepalives(sent) > 3).await;
    }

    #[tokio::test]
    async fn without_a_watchdog_only_changes_are_sent() {
        let statuses = Arc::new(InstanceStatuses::default());
        statuses.insert(watch::channel(shop()).1, Arc::new(AtomicU64::new(since_start())));
        let limit = Duration::from_secs(3600);
        let (changes, sent) = notifier(&statuses, limit, None);
        let all =
            [Change::Running, Change::Reloading, Change::Running, Change::Stopping(Duration::from_secs(20))];
        let mut all = all.into_iter();
        let next = || {
            if let Some(change) = all.next() {
                let _ = changes.send(change);
            }
        };
        until(&sent, next, |sent| sent.len() == 4).await;
        let sent = sent.lock().unwrap();
        assert_eq!(sent[0], "READY=1\nSTATUS=instances: 1, links ready: 0 of 0\n");
        assert!(sent[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{sent:?}");
        assert_eq!(sent[2..], ["READY=1\n", "STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000\n"]);
    }
}
