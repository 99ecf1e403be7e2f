//! Until when everything is known to be received that a service sent over a link.
//!
//! What waits in the socket while it is not read (the spool is full, more comes than can be handled, the process does not
//! run) may be followed by a break, and what the service sent after that is lost. So a gap begins no later than when the
//! socket was last known to be empty.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::LinkKey;
use time::OffsetDateTime;

use crate::bus::spool::Spool;

/// How often an instance's thread shows that it runs.
pub const BEAT: Duration = Duration::from_millis(250);
/// A thread that has not run for this long was stopped.
const STOPPED: Duration = Duration::from_millis(750);
/// A socket that was not found empty for this long is behind, so that events carry since when.
const BEHIND: Duration = Duration::from_secs(5);

/// When the thread of an instance ran: it may be stopped and go on later, as by SIGSTOP.
#[derive(Default)]
pub struct Activity {
    /// The last beat, in milliseconds since `start`.
    last: AtomicU64,
    start: Mutex<Option<Instant>>,
    /// The last time in which the thread did not run.
    stopped: Mutex<Option<(Instant, Instant)>>,
}

impl Activity {
    /// The thread runs. Called every [`BEAT`].
    pub fn beat(&self, now: Instant) {
        let start = *self.start.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        let since_start = |time: Instant| {
            u64::try_from(time.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX)
        };
        let last = start + Duration::from_millis(self.last.swap(since_start(now), Ordering::Relaxed));
        if now.saturating_duration_since(last) > STOPPED {
            *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some((last, now));
        }
    }

    /// Since when the thread did not run, if that was after `time`.
    fn stopped_since(&self, time: Instant, now: Instant) -> Option<Instant> {
        let start = (*self.start.lock().unwrap_or_else(PoisonError::into_inner))?;
        let last = start + Duration::from_millis(self.last.load(Ordering::Relaxed));
        if now.saturating_duration_since(last) > STOPPED {
            return Some(last);
        }
        let stopped = *self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.filter(|(_, until)| *until >= time).map(|(since, _)| since)
    }
}

/// What was received over one link.
pub struct Received {
    link: LinkKey,
    spool: Arc<Spool>,
    activity: Arc<Activity>,
    /// When the last frame was read.
    last: Option<OffsetDateTime>,
    /// Since when the socket may hold more than was read.
    behind: Option<OffsetDateTime>,
    /// The socket was found empty. The runtime reports that of one, too, whose peer has closed it behind the last data, so
    /// that it counts only once a later frame is there.
    empty: bool,
    /// When the socket was read last.
    read: Instant,
    /// Whether the events of all links carry since when this one is behind.
    marked: bool,
}

impl Received {
    /// Nothing yet.
    pub fn new(link: LinkKey, spool: Arc<Spool>, activity: Arc<Activity>) -> Self {
        let (last, behind, read) = (None, None, Instant::now());
        Self { link, spool, activity, last, behind, empty: false, read, marked: false }
    }

    /// A frame is there, after the socket was waited for.
    pub fn begin(&mut self, at: OffsetDateTime) {
        let now = Instant::now();
        if std::mem::take(&mut self.empty) {
            self.catch_up();
        }
        if let Some(since) = self.activity.stopped_since(self.read, now) {
            self.behind.get_or_insert(at - (now - since));
            self.mark();
        }
        (self.last, self.read) = (Some(at), now);
    }

    /// There is no more to read now.
    pub fn is_empty(&mut self) {
        (self.empty, self.read) = (self.behind.is_some(), Instant::now());
    }

    /// There may be more to read than was read until now.
    pub fn is_behind(&mut self, at: OffsetDateTime) {
        (self.empty, self.read) = (false, Instant::now());
        if at - *self.behind.get_or_insert(at) > BEHIND {
            self.mark();
        }
    }

    /// Everything that was sent before is known to be received.
    pub fn all(&mut self, at: OffsetDateTime) {
        self.last = Some(at);
    }

    /// Until when everything is known to be received.
    pub fn until(&self) -> Option<OffsetDateTime> {
        self.behind.or(self.last)
    }

    /// The connection has ended: the next one begins with an empty socket. Returns until when everything is known to be
    /// received.
    pub fn end(&mut self) -> Option<OffsetDateTime> {
        let until = self.until();
        (self.last, self.behind, self.empty, self.marked) = (until, None, false, false);
        self.read = Instant::now();
        until
    }

    fn mark(&mut self) {
        if let Some(since) = self.behind
            && !std::mem::replace(&mut self.marked, true)
        {
            self.spool.gap_begins(&self.link, since);
        }
    }

    fn catch_up(&mut self) {
        self.behind = None;
        if std::mem::take(&mut self.marked) {
            self.spool.gap_is_void(&self.link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Delivery, Events};
    use crate::envelope::Envelope;
    use crate::metrics::InstanceMetrics;

    fn received() -> (Received, Arc<Activity>, Arc<Spool>) {
        let envelope = Arc::new(Envelope::new("p", "t", "i", 1, &Events::default()));
        let metrics = Arc::new(InstanceMetrics::new("i", "t", &[]));
        let spool = Arc::new(Spool::new("i", envelope, metrics, &Delivery::default()));
        let activity = Arc::new(Activity::default());
        activity.beat(Instant::now());
        (Received::new(LinkKey::new("main"), spool.clone(), activity.clone()), activity, spool)
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    #[test]
    fn a_socket_that_is_read_to_its_end_is_complete_until_its_last_frame() {
        let (mut received, ..) = received();
        for second in 1..4 {
            received.begin(at(second));
            received.is_empty();
        }
        assert_eq!(received.until(), Some(at(3)));
        assert_eq!(received.end(), Some(at(3)));
    }

    #[test]
    fn one_that_is_not_is_complete_until_it_was_last_empty() {
        let (mut received, ..) = received();
        for second in 1..4 {
            received.begin(at(second));
            received.is_behind(at(second));
        }
        // The end of the connection may stand behind what was read.
        received.begin(at(4));
        received.is_empty();
        assert_eq!(received.until(), Some(at(1)));
        received.begin(at(5));
        received.is_empty();
        assert_eq!(received.until(), Some(at(5)));
    }

    #[test]
    fn a_thread_that_was_stopped_may_have_read_late() {
        let (mut received, activity, spool) = received();
        received.begin(at(1));
        received.is_empty();
        // The beat comes before the link, or not.
        for beat_first in [true, false] {
            let (mut received, activity) = (
                Received {
                    read: Instant::now(),
                    ..Received::new(LinkKey::new("main"), spool.clone(), activity.clone())
                },
                activity.clone(),
            );
            received.read -= Duration::from_secs(1);
            activity.last.store(0, Ordering::Relaxed);
            *activity.start.lock().unwrap() = Some(Instant::now() - Duration::from_secs(10));
            if beat_first {
                activity.beat(Instant::now());
            }
            received.begin(at(100));
            assert_eq!(received.until().map(OffsetDateTime::unix_timestamp), Some(90), "{beat_first}");
            assert_eq!(spool.ongoing_gap().map(OffsetDateTime::unix_timestamp), Some(90), "{beat_first}");
            received.is_empty();
            activity.beat(Instant::now());
            received.begin(at(101));
            assert_eq!((received.until(), spool.ongoing_gap()), (Some(at(101)), None), "{beat_first}");
        }
    }

    #[test]
    fn a_link_that_stays_behind_marks_the_events_of_the_others() {
        let (mut received, _, spool) = received();
        for second in 1..10 {
            received.begin(at(second));
            received.is_behind(at(second));
            assert_eq!(spool.ongoing_gap(), (second > 6).then(|| at(1)), "{second}");
        }
        assert_eq!(received.end(), Some(at(1)));
    }
}
