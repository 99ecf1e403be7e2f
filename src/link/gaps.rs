//! Gaps of a link: all that decides when its events may be incomplete, and which gap is published about it.

mod received;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pontoon_sdk::{End, Joined, Kind, LinkKey};
use time::OffsetDateTime;

pub use self::received::{Activity, BEAT, Received};
use super::lifetime::Lifetime;
use crate::bus::spool::Spool;
use crate::envelope::{Gap, Start};
use crate::metrics::GapReason;
use crate::transport::Resumed;

/// How many links an instance remembers by name.
const MAX_LINKS: usize = 16_384;

/// The links that were ready in this run of the instance, and until when everything was received from those that the
/// service opens.
#[derive(Default)]
pub struct ReadyLinks(RefCell<HashMap<LinkKey, Option<OffsetDateTime>>>);

impl ReadyLinks {
    /// Adds a link. `None` if it is ready for the first time in this run.
    fn ready(&self, key: &LinkKey) -> Option<Option<OffsetDateTime>> {
        let mut links = self.0.borrow_mut();
        let known = links.get(key).copied();
        // Beyond the bound a gap too many is published, rather than one too few.
        if known.is_none() && links.len() < MAX_LINKS {
            links.insert(key.clone(), None);
        }
        known
    }

    fn closed(&self, key: &LinkKey, received: Option<OffsetDateTime>) {
        if let Some(known) = self.0.borrow_mut().get_mut(key) {
            *known = received.max(*known);
        }
    }
}

/// Whether everything that a service sent over one link was received, from one connection to the next.
pub struct GapTracker {
    key: LinkKey,
    lifetime: Lifetime,
    spool: Rc<Spool>,
    ready_links: Rc<ReadyLinks>,
    state: State,
    /// Whether the service goes on where an earlier run of the daemon has ended, as far as is known.
    restored: bool,
    /// Whether it was open in an earlier run, by a command.
    reopened: bool,
    /// Until when everything is known to be received over the present connection.
    pub received: Received,
}

#[derive(Default)]
enum State {
    /// The link was never ready.
    #[default]
    Fresh,
    /// Nothing was missed so far.
    Whole,
    /// The connection that was read until this time is closed, and the next one, made before that, is not ready.
    Moved { since: Option<OffsetDateTime> },
    /// Something may have been missed since this time, unless the service has resumed at every connection from then on.
    Broken { reason: GapReason, since: Option<OffsetDateTime>, resumed: Resumed },
}

impl GapTracker {
    /// A link that was not ready yet.
    pub fn new(
        key: LinkKey,
        lifetime: Lifetime,
        spool: Rc<Spool>,
        ready_links: Rc<ReadyLinks>,
        activity: Rc<Activity>,
    ) -> Self {
        let received = Received::new(key.clone(), spool.clone(), activity);
        Self {
            key,
            lifetime,
            spool,
            ready_links,
            state: State::Fresh,
            restored: false,
            reopened: false,
            received,
        }
    }

    /// The next connection asks the service to go on where an earlier run has ended. `certain` is whether all that was missed
    /// before that has a gap, on this link and on others.
    pub fn restored(&mut self, certain: bool) {
        self.restored = certain;
    }

    /// The link was open in an earlier run, so that something may have been missed since.
    pub fn reopened(&mut self) {
        self.reopened = true;
    }

    /// Whether all that was missed has a gap among the events, or is sent again if the service resumes.
    pub fn is_whole(&self) -> bool {
        match &self.state {
            State::Fresh => self.restored,
            State::Whole => true,
            State::Moved { .. } => false,
            State::Broken { resumed, .. } => *resumed >= Resumed::Perhaps,
        }
    }

    /// A connection was made. Once one does not resume, what was missed before it stays missed.
    pub fn connected(&mut self, by_resuming: Resumed) {
        match &mut self.state {
            State::Broken { resumed, .. } => *resumed = by_resuming.min(*resumed),
            State::Fresh if self.restored => {
                self.restored = by_resuming == Resumed::Yes;
                self.spool.resumes_run(self.restored);
            }
            // A connection before this one may have been read late, but nothing is missed before the link is ready. Where the
            // service opens links, the gap of the one before this goes on.
            State::Fresh if self.lifetime != Lifetime::Accepted => self.spool.gap_is_void(&self.key),
            State::Fresh | State::Whole | State::Moved { .. } => {}
        }
    }

    /// The link is ready: from now on everything is received again. `read` is when the frame was read that made it ready,
    /// `rejoins` what the service is asked for again, `has_sent` whether it was sent anything before.
    pub fn ready(&mut self, read: OffsetDateTime, rejoins: &Joined, has_sent: bool) {
        self.received.ready(read);
        let rejoins = (!rejoins.is_empty()).then(|| Box::new(rejoins.clone()));
        match std::mem::replace(&mut self.state, State::Whole) {
            // The service has kept what it would have sent meanwhile, and sends it now.
            State::Broken { reason: GapReason::Disconnected, resumed: Resumed::Yes, .. } => {
                self.spool.gap_is_void(&self.key);
            }
            // The service sends over the new connection what it would have sent over the one before, by itself.
            State::Moved { .. } if rejoins.is_none() && !has_sent => self.spool.gap_is_void(&self.key),
            State::Moved { since } => {
                self.spool.gap(Gap { rejoins, ..self.since(GapReason::Disconnected, since) });
            }
            State::Broken { reason, since, resumed } => {
                let recovered = resumed >= Resumed::Perhaps;
                self.spool.gap(Gap { recovered, rejoins, ..self.since(reason, since) });
            }
            // Before the command that opened the link, nothing was expected on it.
            State::Fresh
                if !self.reopened && (self.lifetime.is_on_demand() || self.lifetime.is_dynamic()) => {}
            State::Fresh => match self.ready_links.ready(&self.key) {
                None => {
                    let gap = Gap::restarted(Some(self.key.clone()));
                    self.spool.gap(Gap { recovered: self.restored, rejoins, ..gap });
                }
                Some(received) if self.lifetime == Lifetime::Accepted => {
                    self.spool.gap(Gap { rejoins, ..self.since(GapReason::Disconnected, received) });
                }
                // It was closed by a command.
                Some(_) => {}
            },
            State::Whole => {}
        }
    }

    /// A connection has ended. `closed` is whether that closes the link for good because the daemon or the session wants it.
    pub fn disconnected(&mut self, end: &End, closed: bool) {
        if end.kind == Kind::Internal {
            return self.failed();
        }
        let received = self.received.end();
        // A link that is not dialled again, and whose service ends it in order, misses nothing.
        if !closed && (self.lifetime.redials() || !end.orderly) {
            self.broken(GapReason::Disconnected, received);
        }
    }

    /// A connection has ended after the next one was made. If it ended in order, all was read that the service sent over it.
    pub fn moved(&mut self, end: &End) {
        if !end.orderly {
            return self.disconnected(end, false);
        }
        let since = self.received.end();
        if matches!(self.state, State::Whole) {
            self.state = State::Moved { since };
            self.begin(since);
        }
    }

    /// A bug of the daemon or of a connector has ended the connection.
    pub fn failed(&mut self) {
        let received = self.received.end();
        self.broken(GapReason::Internal, received);
    }

    /// The link is closed for good.
    pub fn closed(&mut self) {
        let received = self.received.end();
        let before = std::mem::take(&mut self.state);
        if self.lifetime == Lifetime::Accepted {
            // The service may connect again; then the gap ends.
            self.ready_links.closed(&self.key, received);
            if !matches!(before, State::Fresh) {
                self.begin(received);
            }
            return;
        }
        match before {
            State::Broken { reason, since, .. } => self.spool.gap(self.since(reason, since)),
            State::Moved { since } => self.spool.gap(self.since(GapReason::Disconnected, since)),
            State::Fresh | State::Whole => self.spool.gap_is_void(&self.key),
        }
    }

    /// Something may be missed from now on. What was missed before is not forgotten.
    fn broken(&mut self, reason: GapReason, since: Option<OffsetDateTime>) {
        match &mut self.state {
            State::Fresh => {}
            State::Whole => {
                self.state = State::Broken { reason, since, resumed: Resumed::Yes };
                self.begin(since);
            }
            // The gap was begun in the spool when the link moved.
            State::Moved { since } => {
                self.state = State::Broken { reason, since: *since, resumed: Resumed::No };
            }
            // What a bug has cost is not sent again.
            State::Broken { reason: known, .. } => {
                if reason == GapReason::Internal {
                    *known = reason;
                }
            }
        }
    }

    fn begin(&self, since: Option<OffsetDateTime>) {
        self.spool.gap_begins(&self.key, since.unwrap_or_else(OffsetDateTime::now_utc));
    }

    /// A gap of the link that ends now.
    fn since(&self, reason: GapReason, since: Option<OffsetDateTime>) -> Gap {
        Gap::new(reason, Some(self.key.clone()), since.map_or(Start::Unknown, Start::At))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::envelope::Envelope;
    use crate::metrics::InstanceMetrics;
    use crate::settings::{Delivery, Events};

    fn spool() -> Rc<Spool> {
        let envelope = Rc::new(Envelope::new("p", "t", "i", 1, &Events::default()));
        let metrics = Arc::new(InstanceMetrics::new("i", "t", &[]));
        Rc::new(Spool::new("i", envelope, metrics, &Delivery::default()))
    }

    #[test]
    fn a_link_that_moves_has_a_gap_unless_all_was_read_and_the_next_connection_needs_nothing_of_us() {
        let some = Joined { count: 1, keys: vec!["room".to_owned()] };
        for (orderly, rejoins, has_sent, has_gap) in [
            (true, Joined::default(), false, false),
            (false, Joined::default(), false, true),
            (true, Joined::default(), true, true),
            (true, some, false, true),
        ] {
            let (spool, key) = (spool(), LinkKey::new("a"));
            let mut gaps = GapTracker::new(
                key.clone(),
                Lifetime::Permanent,
                spool.clone(),
                Rc::default(),
                Rc::default(),
            );
            gaps.connected(Resumed::No);
            gaps.ready(OffsetDateTime::UNIX_EPOCH, &Joined::default(), false);
            let before = spool.level().waiting;
            gaps.moved(&End { orderly, ..End::disconnected("moved") });
            gaps.connected(Resumed::No);
            // Frames of the next connection that come before it is ready do not put the gap off.
            gaps.received.begin(OffsetDateTime::now_utc());
            assert_eq!(spool.ongoing_gap(), Some(OffsetDateTime::UNIX_EPOCH));
            assert!(!gaps.is_whole() || !orderly);
            gaps.ready(OffsetDateTime::now_utc(), &rejoins, has_sent);
            assert_eq!((spool.ongoing_gap(), gaps.is_whole()), (None, true));
            assert_eq!(spool.level().waiting - before, usize::from(has_gap), "{orderly} {has_sent}");
        }
    }

    #[test]
    fn a_link_that_was_never_ready_marks_no_events_of_its_next_connection() {
        let spool = spool();
        let (key, since) = (LinkKey::new("a"), OffsetDateTime::UNIX_EPOCH);
        for lifetime in [Lifetime::Accepted, Lifetime::OnDemand, Lifetime::Permanent] {
            // As `Received` does while a link is read late.
            spool.gap_begins(&key, since);
            GapTracker::new(key.clone(), lifetime, spool.clone(), Rc::default(), Rc::default())
                .connected(Resumed::No);
            let kept = (lifetime == Lifetime::Accepted).then_some(since);
            assert_eq!(spool.ongoing_gap(), kept, "{lifetime:?}");
        }
    }
}
