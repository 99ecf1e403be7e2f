//! A spool that fills up: reading waits for publishing. Once it is full nothing more is read, and after
//! `delivery.max_pause` the policy of `delivery.overflow` applies.

use std::time::Instant;

use pontoon_sdk::{End, LinkKey};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::state::{PROGRESS, State};
use super::{Spool, WINDOW};
use crate::envelope::{Gap, Identity, Record, Start};
use crate::metrics::{DropReason, GapReason};
use crate::settings::Overflow;

/// Reading waits for publishing once this many events wait to be sent: more would only be moved out of the processor's
/// caches and published later.
const AHEAD: usize = 2 * WINDOW;
/// It goes on once no more than this many wait.
const CAUGHT_UP: usize = WINDOW;

impl Spool {
    /// Whether reading is ahead: of publishing, while NATS confirms what is published, or of the disk.
    pub fn is_ahead(&self) -> bool {
        self.state.borrow().is_ahead(AHEAD)
    }

    /// Waits until publishing has caught up, or makes no progress, and so has the disk, or has not in `delivery.max_pause`.
    pub async fn caught_up(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.state.borrow().is_ahead(CAUGHT_UP) {
                return;
            }
            let _ = timeout(PROGRESS, freed).await;
            self.judge_disk();
        }
    }

    /// Whether there is room for one more record. Before the policy applies there always is: then only the frames that were
    /// read already bring any.
    pub(super) fn makes_room(&self, state: &mut State) -> bool {
        if !state.overflowing && !state.is_overdue() {
            return true;
        }
        while state.delivery.overflow == Overflow::DropOldest && !state.fits() {
            if !self.drop_oldest(state) {
                break;
            }
        }
        state.fits()
    }

    /// Drops the oldest event that is not on the wire: the gap in its place grows by it. Gaps stay.
    fn drop_oldest(&self, state: &mut State) -> bool {
        let is_event = |record: &Record| record.gap.is_none();
        let Some(index) = state.records.range(state.sent..).position(is_event) else { return false };
        let index = state.sent + index;
        let Some(oldest) = state.records.get(index) else { return false };
        let (link, at, identity) = (oldest.link.clone(), oldest.recorded, oldest.identity);
        self.count_dropped(state, identity);
        let before = index.checked_sub(1).filter(|before| *before >= state.sent);
        let gap_before = before.and_then(|before| {
            let gap = state.records.get(before)?.gap.as_deref()?;
            (gap.reason == GapReason::Overflow).then(|| (before, gap.clone()))
        });
        match gap_before {
            Some((before, gap)) => {
                let link = gap.link.filter(|known| *known == link);
                let gap = Gap { to: at, link, dropped: gap.dropped.map(|number| number + 1), ..gap };
                self.replace_by_gap(state, before, gap);
                if let Some(dropped) = state.remove(index) {
                    state.noted.remove(&dropped.sequence);
                }
            }
            None => {
                let gap = Gap::new(GapReason::Overflow, Some(link), Start::At(at));
                let gap = Gap { to: at, dropped: Some(1), ..gap };
                self.count_gap(&gap);
                self.replace_by_gap(state, index, gap);
            }
        }
        true
    }

    pub(super) fn drop_new(
        &self,
        state: &mut State,
        link: &LinkKey,
        read: OffsetDateTime,
        identity: Option<Identity>,
    ) {
        self.count_dropped(state, identity);
        let gap = Gap::new(GapReason::Overflow, Some(link.clone()), Start::At(read));
        state.miss(Gap { dropped: Some(1), ..gap });
    }

    fn count_dropped(&self, state: &mut State, identity: Option<Identity>) {
        self.metrics.dropped(DropReason::Overflow).increment(1);
        // It may be published after all if the service sends it again.
        if let Some(identity) = identity {
            state.recent.forget(identity);
        }
    }

    /// Whether sockets must not be read.
    pub fn is_full(&self) -> bool {
        let state = self.state.borrow();
        state.full_since.is_some() && !state.overflowing
    }

    /// Whether the policy for a full spool is to disconnect.
    pub fn disconnects(&self) -> bool {
        self.state.borrow().delivery.overflow == Overflow::Disconnect
    }

    /// When [`Spool::overflow`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.state.borrow();
        state.full_since.filter(|_| !state.overflowing).map(|since| since + state.delivery.max_pause.0)
    }

    /// There was no room for too long: from now on the policy applies, until there is room.
    ///
    /// # Errors
    /// If the policy is to close the connection.
    pub fn overflow(&self) -> Result<(), End> {
        let mut state = self.state.borrow_mut();
        let dropped = match state.delivery.overflow {
            Overflow::Disconnect => {
                return Err(End::disconnected("NATS does not take events, and there is no room for more"));
            }
            Overflow::DropNewest => "new events",
            Overflow::DropOldest => "the oldest events",
        };
        if state.full_since.is_some() && !std::mem::replace(&mut state.overflowing, true) {
            tracing::warn!(
                instance = self.instance,
                "no room for events: {dropped} are dropped until there is"
            );
        }
        drop(state);
        self.freed.notify_waiters();
        Ok(())
    }

    /// Waits until sockets may be read again, or until the policy applies.
    pub async fn room(&self) {
        self.freed_until(|state| state.full_since.is_none() || state.overflowing).await;
    }

    /// Whether there is room for more events.
    pub fn has_room(&self) -> bool {
        self.state.borrow().full_since.is_none()
    }
}
