//! Until when everything is known to be received that a service sent over a link.
//!
//! What waits in the socket while it is not read (the spool is full, more comes than can be handled, the process does not
//! run) may be followed by a break, and what the service sent after that is lost. So a gap begins no later than when the
//! socket was last known to be empty.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_sdk::LinkKey;
use time::OffsetDateTime;

use crate::bus::spool::{READ_WITHIN, Spool};

/// How often an instance's thread shows that it runs.
pub const BEAT: Duration = Duration::from_millis(250);
/// A thread that has not run for this long was stopped.
const STOPPED: Duration = Duration::from_millis(500);

/// When the thread of an instance ran: it may be stopped and go on later, as by SIGSTOP.
#[derive(Default)]
pub struct Activity(Cell<Beats>);

#[derive(Default, Clone, Copy)]
struct Beats {
    /// The last two. Between them the runtime has looked at its sockets.
    last: Option<(Instant, Instant)>,
    /// The last time in which the thread did not run.
    stopped: Option<(Instant, Instant)>,
}

impl Activity {
    /// The thread runs. Called every [`BEAT`].
    pub fn beat(&self, now: Instant) {
        let mut beats = self.0.get();
        let before = beats.last.map_or(now, |(_, last)| last);
        if now.saturating_duration_since(before) > STOPPED {
            beats.stopped = Some((before, now));
        }
        beats.last = Some((before, now));
        self.0.set(beats);
    }
}

impl Beats {
    /// Since when the thread did not run, if that was after `time`.
    fn stopped_since(&self, time: Instant, now: Instant) -> Option<Instant> {
        match (self.last, self.stopped) {
            (Some((_, last)), _) if now.saturating_duration_since(last) > STOPPED => Some(last),
            (_, Some((since, until))) if until >= time => Some(since),
            _ => None,
        }
    }
}

/// What was received over one link.
pub struct Received {
    link: LinkKey,
    spool: Rc<Spool>,
    activity: Rc<Activity>,
    /// When the socket was last known to be empty before a frame was read.
    complete: Option<OffsetDateTime>,
    /// Since when the socket may hold more than was read.
    behind: Option<OffsetDateTime>,
    /// The socket was found empty. The runtime reports that of one, too, whose peer has closed it behind the last data, so
    /// that it counts only once a later frame is there.
    empty: bool,
    /// When the socket was read last.
    read: Instant,
    /// The last time since when the thread did not run and that was noticed here.
    stop: Option<Instant>,
    /// Whether a frame of this connection was read.
    begun: bool,
    /// Whether the events of all links carry since when this one is behind.
    marked: bool,
}

impl Received {
    /// Nothing yet.
    pub fn new(link: LinkKey, spool: Rc<Spool>, activity: Rc<Activity>) -> Self {
        let (complete, behind, stop, read) = (None, None, None, Instant::now());
        let (empty, begun, marked) = (false, false, false);
        Self { link, spool, activity, complete, behind, empty, read, stop, begun, marked }
    }

    /// A frame is there, after the socket was waited for.
    pub fn begin(&mut self, at: OffsetDateTime) {
        let (now, beats) = (Instant::now(), self.activity.0.get());
        if std::mem::take(&mut self.empty) {
            self.catch_up();
        }
        if self.behind.is_none() {
            // The runtime may report a socket as empty that it has not looked at again: only a beat shows that it did.
            let running = beats.last.map_or(self.read, |(before, _)| before);
            let known = at - now.saturating_duration_since(running);
            self.complete = Some(self.complete.map_or(known, |complete| complete.max(known)));
        }
        if let Some(since) = beats.stopped_since(self.read, now).filter(|since| self.stop != Some(*since)) {
            self.stop = Some(since);
            self.behind.get_or_insert(at - now.saturating_duration_since(since));
            self.mark();
        }
        (self.begun, self.read) = (true, now);
    }

    /// There is no more to read now.
    pub fn is_empty(&mut self) {
        (self.empty, self.read) = (true, Instant::now());
    }

    /// There may be more to read than was read until now.
    pub fn is_behind(&mut self, at: OffsetDateTime) {
        self.pause(at);
        if self.behind.is_some_and(|behind| at - behind > READ_WITHIN) {
            self.mark();
        }
    }

    /// The socket is not read for now: what comes until it is may be read late, or be lost.
    pub fn pause(&mut self, at: OffsetDateTime) {
        (self.empty, self.read) = (false, Instant::now());
        self.behind.get_or_insert(at);
    }

    /// The link is ready: what was sent before it is not missed.
    pub fn ready(&mut self, at: OffsetDateTime) {
        if !self.begun {
            self.complete = Some(at);
        }
    }

    /// Until when everything is known to be received.
    pub fn until(&self) -> Option<OffsetDateTime> {
        match (self.behind, self.complete) {
            (Some(behind), Some(complete)) => Some(behind.min(complete)),
            (behind, complete) => behind.or(complete),
        }
    }

    /// The connection has ended: the next one begins with an empty socket. Returns until when everything is known to be
    /// received.
    pub fn end(&mut self) -> Option<OffsetDateTime> {
        let until = self.until();
        (self.complete, self.behind) = (until, None);
        (self.empty, self.begun, self.marked) = (false, false, false);
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
    use std::sync::Arc;

    use super::*;
    use crate::envelope::Envelope;
    use crate::metrics::InstanceMetrics;
    use crate::settings::{Delivery, Events};

    fn received() -> Received {
        let envelope = Rc::new(Envelope::new("p", "t", "i", 1, &Events::default()));
        let metrics = Arc::new(InstanceMetrics::new("i", "t", &[]));
        let spool = Rc::new(Spool::new("i", envelope, metrics, &Delivery::default()));
        let activity = Rc::new(Activity::default());
        activity.beat(Instant::now());
        Received::new(LinkKey::new("main"), spool, activity)
    }

    /// Shifts what is known into the past.
    fn elapse(received: &mut Received, time: Duration) {
        received.read -= time;
        let mut beats = received.activity.0.get();
        beats.last = beats.last.map(|(before, last)| (before - time, last - time));
        received.activity.0.set(beats);
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    fn until(received: &Received) -> i64 {
        (received.until().unwrap() + Duration::from_millis(500)).unix_timestamp()
    }

    #[test]
    fn a_socket_that_is_read_to_its_end_is_complete_until_it_was_last_empty() {
        let mut received = received();
        received.ready(at(1));
        assert_eq!(until(&received), 1);
        received.begin(at(2));
        received.is_empty();
        // Nothing came for a while, but the thread ran.
        elapse(&mut received, Duration::from_secs(10));
        let now = Instant::now();
        received.activity.beat(now - Duration::from_millis(400));
        received.activity.0.set(Beats { stopped: None, ..received.activity.0.get() });
        received.activity.beat(now);
        received.begin(at(12));
        assert_eq!(until(&received), 12);
        received.is_empty();
        assert_eq!((received.behind, received.end().is_some()), (None, true));
        assert_eq!(until(&received), 12);
    }

    #[test]
    fn one_that_is_not_is_complete_until_it_fell_behind() {
        let mut received = received();
        for second in 1..4 {
            received.begin(at(second));
            received.is_behind(at(second));
        }
        // The end of the connection may stand behind what was read.
        received.begin(at(4));
        received.is_empty();
        assert_eq!(until(&received), 1);
        received.begin(at(5));
        received.is_empty();
        assert_eq!(until(&received), 5);
    }

    #[test]
    fn one_that_was_not_read_for_a_while_is_complete_until_then() {
        let mut received = received();
        received.begin(at(1));
        received.is_empty();
        received.pause(at(2));
        received.pause(at(3));
        received.begin(at(30));
        received.is_behind(at(30));
        assert_eq!(until(&received), 1);
    }

    #[test]
    fn a_thread_that_was_stopped_may_have_read_late() {
        // The beat comes before the link, or not.
        for beat_first in [true, false] {
            let mut received = received();
            received.begin(at(1));
            received.is_empty();
            elapse(&mut received, Duration::from_secs(10));
            if beat_first {
                received.activity.beat(Instant::now());
            }
            received.begin(at(100));
            assert_eq!(until(&received), 90, "{beat_first}");
            assert_eq!(received.spool.ongoing_gap(), received.until(), "{beat_first}");
            received.is_empty();
            received.activity.beat(Instant::now());
            received.activity.beat(Instant::now());
            received.begin(at(101));
            assert_eq!((until(&received), received.spool.ongoing_gap()), (101, None), "{beat_first}");
        }
    }

    #[test]
    fn a_link_that_stays_behind_marks_the_events_of_the_others() {
        let mut received = received();
        for second in 1..10 {
            received.begin(at(second));
            received.is_behind(at(second));
            assert_eq!(received.spool.ongoing_gap(), (second > 2).then(|| at(1)), "{second}");
        }
        received.end();
        assert_eq!(until(&received), 1);
    }
}
