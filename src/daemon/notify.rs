//! What the service manager is told, where one started us and asked (`sd_notify(3)`): that we run, that we live, that we
//! read the configuration again, that we stop, and how it stands.
//!
//! It has a thread of its own, so that a manager that takes nothing keeps nobody from hearing signals. Its variables stay
//! in the environment: taking one out is not safe, and we start no process that could inherit it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::Roster;
use crate::status::Phase;

/// How long it is waited for that commands are taken, before the manager is told that the daemon runs all the same: NATS
/// may be away, and the manager must not end a daemon that keeps events meanwhile.
const UNTIL_READY: Duration = Duration::from_secs(10);
/// How often we look for it.
const SOON: Duration = Duration::from_millis(20);
/// How often we look whether there is something new to say.
const LOOK: Duration = Duration::from_secs(1);
/// Keepalives come no more often than this, whatever is asked for.
const SHORTEST: Duration = Duration::from_millis(10);
/// How much longer than its drain the process may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long the last words may keep the process from ending.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The service manager, if there is one.
#[derive(Default)]
pub(super) struct Notify(Option<Line>);

/// The way to the thread that speaks to it.
struct Line {
    news: Sender<News>,
    /// Nothing comes here; it ends with the thread.
    ended: Receiver<()>,
}

enum News {
    Runs,
    Reloads,
    Stops(Duration),
}

impl Notify {
    /// Speaks to the manager that the environment names from now on; to nobody if it names none.
    pub(super) fn start(roster: Arc<Roster>) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        let (news, coming) = mpsc::channel();
        let (ends, ended) = mpsc::channel();
        let keep = move || {
            let _ends: Sender<()> = ends;
            let every = watchdog.map(|time| (time / 2).max(SHORTEST));
            keep(&coming, &roster, Roster::STUCK, every, sd_notify::notify);
        };
        match std::thread::Builder::new().name("notify".to_owned()).spawn(keep) {
            Ok(_) => Self(Some(Line { news, ended })),
            Err(error) => {
                tracing::error!(%error, "there is no thread to speak to the service manager on");
                Self(None)
            }
        }
    }

    /// The instances run, with the configuration as it was read last. The manager is told once they take commands, and
    /// soon even if they do not.
    pub(super) fn runs(&self) {
        self.tell(News::Runs);
    }

    /// The configuration is being read again.
    pub(super) fn reloads(&self) {
        self.tell(News::Reloads);
    }

    /// The daemon stops, which may take this long.
    pub(super) fn stops(&self, patience: Duration) {
        self.tell(News::Stops(patience));
    }

    fn tell(&self, news: News) {
        if let Some(line) = &self.0 {
            // The thread ends when it is told nothing any more, so it is there.
            drop(line.news.send(news));
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        if let Some(Line { news, ended }) = self.0.take() {
            drop(news);
            let _ = ended.recv_timeout(LAST_WORDS);
        }
    }
}

/// Says what is new, and how it stands when that changes. While every loop comes round, says so too, every so often.
fn keep(
    coming: &Receiver<News>,
    roster: &Roster,
    limit: Duration,
    every: Option<Duration>,
    say: impl Fn(&[NotifyState<'_>]) -> io::Result<()>,
) {
    let mut said = String::new();
    let mut lived: Option<Instant> = None;
    let mut trouble = false;
    // Until when it is waited for that commands are taken.
    let mut starting: Option<Instant> = None;
    loop {
        let look = if starting.is_some() { SOON } else { LOOK };
        let news = coming.recv_timeout(every.unwrap_or(look).min(look));
        let mut states = match news {
            Ok(news) => {
                starting = matches!(news, News::Runs).then(|| Instant::now() + UNTIL_READY);
                states(news)
            }
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if starting.is_some_and(|until| until <= Instant::now() || roster.unready().is_empty()) {
            starting = None;
            states.push(NotifyState::Ready);
        }
        let stuck = roster.stuck(limit);
        let due = every.is_some_and(|every| lived.is_none_or(|lived| lived.elapsed() >= every));
        if due && stuck.is_empty() {
            states.push(NotifyState::Watchdog);
            lived = Some(Instant::now());
        }
        let stands = stands(roster, &stuck);
        if stands != said {
            states.push(NotifyState::Status(&stands));
        }
        if states.is_empty() {
            continue;
        }
        let outcome = say(&states);
        if let Err(error) = &outcome
            && !trouble
        {
            tracing::warn!(%error, "the service manager cannot be told how it stands");
        }
        trouble = outcome.is_err();
        said = stands;
    }
}

fn states(news: News) -> Vec<NotifyState<'static>> {
    match news {
        News::Runs => Vec::new(),
        News::Reloads => {
            // Managers that want the time refuse a reload without it; others ignore it.
            [NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now()).collect()
        }
        News::Stops(patience) => {
            let patience = u32::try_from((patience + GRACE).as_micros()).unwrap_or(u32::MAX);
            vec![NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(patience)]
        }
    }
}

/// How it stands, in a line.
fn stands(roster: &Roster, stuck: &[String]) -> String {
    let shown = roster.shown();
    let links = || shown.iter().flat_map(|shown| &shown.status.links);
    let ready = links().filter(|link| link.phase == Phase::Ready).count();
    let mut line = format!("instances: {}, links ready: {ready} of {}", shown.len(), links().count());
    let stuck = stuck.iter().map(|name| format!("{name} is stuck"));
    if let Some(reason) = stuck.chain(roster.unready()).next() {
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
    use crate::status::{BusStatus, CommandStatus, InstanceStatus};

    /// What was said, a datagram each.
    type Said = Arc<Mutex<Vec<String>>>;

    fn speaking(roster: &Arc<Roster>, limit: Duration, every: Option<Duration>) -> (Sender<News>, Said) {
        let (news, coming) = mpsc::channel();
        let said = Said::default();
        let (roster, heard) = (roster.clone(), said.clone());
        std::thread::spawn(move || {
            keep(&coming, &roster, limit, every, |states| {
                heard.lock().unwrap().push(states.iter().map(|state| format!("{state}\n")).collect());
                Ok(())
            });
        });
        (news, said)
    }

    fn shop() -> InstanceStatus {
        InstanceStatus {
            instance: "shop".into(),
            kind: "sub0".into(),
            epoch: 1,
            bus: BusStatus { connected: true, publishing: true, ..BusStatus::default() },
            commands: CommandStatus { subscribed: true, dropped: 0, detail: None },
            links: Vec::new(),
            unconfirmed_events: 0,
            unconfirmed_bytes: 0,
            room: true,
        }
    }

    /// Lets loops come round until this holds of what is said from now on.
    async fn until(said: &Said, mut beat: impl FnMut(), holds: impl Fn(&[String]) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        said.lock().unwrap().clear();
        while !holds(&said.lock().unwrap()) {
            assert!(Instant::now() < end, "{:?}", said.lock().unwrap());
            beat();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn keepalives_stop_while_an_instance_hangs_and_the_status_names_it() {
        let roster = Arc::new(Roster::default());
        let heart = Arc::new(AtomicU64::new(since_start()));
        roster.insert(watch::channel(shop()).1, heart.clone());
        roster.beat();
        let all_beat = || {
            roster.beat();
            heart.store(since_start(), Ordering::Relaxed);
        };
        let keepalives = |said: &[String]| said.iter().filter(|text| text.contains("WATCHDOG=1\n")).count();
        let every = Some(Duration::from_millis(10));
        let (news, said) = speaking(&roster, Duration::from_millis(300), every);
        until(&said, all_beat, |said| keepalives(said) > 3).await;

        until(&said, || roster.beat(), |said| said.iter().any(|text| text.contains("shop is stuck"))).await;
        // Whatever else is to be said, that it lives is not.
        until(
            &said,
            || {
                roster.beat();
                news.send(News::Runs).unwrap();
            },
            |said| said.len() > 20,
        )
        .await;
        assert_eq!(keepalives(&said.lock().unwrap()), 0);

        until(&said, all_beat, |said| keepalives(said) > 3).await;
    }

    #[tokio::test]
    async fn without_a_watchdog_it_says_only_what_is_new() {
        let roster = Arc::new(Roster::default());
        roster.insert(watch::channel(shop()).1, Arc::new(AtomicU64::new(since_start())));
        let limit = Duration::from_secs(3600);
        let (news, said) = speaking(&roster, limit, None);
        let all = [News::Runs, News::Reloads, News::Runs, News::Stops(Duration::from_secs(20))];
        let mut all = all.into_iter();
        let next = || {
            if let Some(one) = all.next() {
                let _ = news.send(one);
            }
        };
        until(&said, next, |said| said.len() == 4).await;
        let said = said.lock().unwrap();
        assert_eq!(said[0], "READY=1\nSTATUS=instances: 1, links ready: 0 of 0\n");
        assert!(said[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said:?}");
        assert_eq!(said[2..], ["READY=1\n", "STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000\n"]);
    }
}
