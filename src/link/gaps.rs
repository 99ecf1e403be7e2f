//! When the events of a link may be incomplete, and which gap is published about it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pontoon_sdk::LinkKey;
use time::OffsetDateTime;

use crate::bus::spool::Spool;
use crate::envelope::{Gap, Start};
use crate::metrics::GapReason;
use crate::transport::Resumed;

/// How many links an instance remembers by name.
const MAX_LINKS: usize = 16_384;

/// The links that were ready in this run of the instance, and when those that the service opens were last received from.
#[derive(Default)]
pub struct ReadyLinks(Mutex<HashMap<LinkKey, Option<OffsetDateTime>>>);

impl ReadyLinks {
    /// Adds a link. `None` if it is ready for the first time in this run.
    fn ready(&self, key: &LinkKey) -> Option<Option<OffsetDateTime>> {
        let mut links = self.links();
        let known = links.get(key).copied();
        // Beyond the bound a gap too many is published, rather than one too few.
        if known.is_none() && links.len() < MAX_LINKS {
            links.insert(key.clone(), None);
        }
        known
    }

    fn closed(&self, key: &LinkKey, received: Option<OffsetDateTime>) {
        if let Some(known) = self.links().get_mut(key) {
            *known = received.max(*known);
        }
    }

    fn links(&self) -> MutexGuard<'_, HashMap<LinkKey, Option<OffsetDateTime>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who opens a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedBy {
    /// The daemon, from the start.
    Daemon,
    /// A command: before it, nothing was expected on the link.
    Command,
    /// The service.
    Service,
}

/// Whether everything that a service sent over one link was received, from one connection to the next.
pub struct GapTracker<'a> {
    key: LinkKey,
    opened_by: OpenedBy,
    spool: &'a Spool,
    links: &'a ReadyLinks,
    /// A panic in a session is caught while this is shared.
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    /// The link was never ready.
    #[default]
    Fresh,
    /// Nothing was missed so far.
    Whole,
    /// Something may have been missed since this time, unless the service has resumed at every connection from then on.
    Broken { reason: GapReason, since: Option<OffsetDateTime>, resumed: Resumed },
}

impl<'a> GapTracker<'a> {
    /// A link that was not ready yet.
    pub fn new(key: LinkKey, opened_by: OpenedBy, spool: &'a Spool, links: &'a ReadyLinks) -> Self {
        Self { key, opened_by, spool, links, state: Mutex::default() }
    }

    /// Something may be missed from now on. What was missed before is not forgotten.
    pub fn broke(&self, reason: GapReason, since: Option<OffsetDateTime>) {
        match &mut *self.state() {
            State::Fresh => {}
            state @ State::Whole => {
                *state = State::Broken { reason, since, resumed: Resumed::Yes };
                self.begin(since);
            }
            // What a bug has cost is not sent again.
            State::Broken { reason: known, .. } => {
                if reason == GapReason::Internal {
                    *known = reason;
                }
            }
        }
    }

    /// A connection was made. Once one does not resume, what was missed before it stays missed.
    pub fn connected(&self, by_resuming: Resumed) {
        match &mut *self.state() {
            State::Broken { resumed, .. } => *resumed = by_resuming.min(*resumed),
            // A connection before this one may have been read late, but nothing is missed before the link is ready. Where the
            // service opens links, the gap of the one before this goes on.
            State::Fresh if self.opened_by != OpenedBy::Service => self.spool.gap_is_void(&self.key),
            State::Fresh | State::Whole => {}
        }
    }

    /// The link is ready: from now on everything is received again.
    pub fn ready(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Whole);
        match before {
            // The service has kept what it would have sent meanwhile, and sends it now.
            State::Broken { reason: GapReason::Disconnected, resumed: Resumed::Yes, .. } => {
                self.spool.gap_is_void(&self.key);
            }
            State::Broken { reason, since, resumed } => {
                self.publish(reason, since, resumed >= Resumed::Perhaps);
            }
            State::Fresh if self.opened_by == OpenedBy::Command => {}
            State::Fresh => match self.links.ready(&self.key) {
                None => self.spool.gap(Gap::restarted(Some(self.key.clone()))),
                Some(received) if self.opened_by == OpenedBy::Service => {
                    self.publish(GapReason::Disconnected, received, false);
                }
                // It was closed by a command.
                Some(_) => {}
            },
            State::Whole => {}
        }
    }

    /// The link is gone for good. `received` is when something was last received on it.
    pub fn closed(&self, received: Option<OffsetDateTime>) {
        let before = std::mem::replace(&mut *self.state(), State::Fresh);
        if self.opened_by == OpenedBy::Service {
            // The service may come back; then the gap ends.
            self.links.closed(&self.key, received);
            if !matches!(before, State::Fresh) {
                self.begin(received);
            }
        } else if let State::Broken { reason, since, .. } = before {
            self.publish(reason, since, false);
        } else {
            self.spool.gap_is_void(&self.key);
        }
    }

    fn begin(&self, since: Option<OffsetDateTime>) {
        self.spool.gap_begins(&self.key, since.unwrap_or_else(OffsetDateTime::now_utc));
    }

    fn publish(&self, reason: GapReason, since: Option<OffsetDateTime>, recovered: bool) {
        let from = since.map_or(Start::Unknown, Start::At);
        self.spool.gap(Gap { recovered, ..Gap::new(reason, Some(self.key.clone()), from) });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::envelope::Envelope;
    use crate::metrics::InstanceMetrics;
    use crate::settings::{Delivery, Events};

    #[test]
    fn a_link_that_was_never_ready_marks_no_events_of_its_next_connection() {
        let envelope = Rc::new(Envelope::new("p", "t", "i", 1, &Events::default()));
        let metrics = Arc::new(InstanceMetrics::new("i", "t", &[]));
        let spool = Spool::new("i", envelope, metrics, &Delivery::default());
        let (links, key, since) = (ReadyLinks::default(), LinkKey::new("a"), OffsetDateTime::UNIX_EPOCH);
        for opened_by in [OpenedBy::Service, OpenedBy::Command, OpenedBy::Daemon] {
            // As `Received` does while a link is read late.
            spool.gap_begins(&key, since);
            GapTracker::new(key.clone(), opened_by, &spool, &links).connected(Resumed::No);
            let kept = (opened_by == OpenedBy::Service).then_some(since);
            assert_eq!(spool.ongoing_gap(), kept, "{opened_by:?}");
        }
    }
}
