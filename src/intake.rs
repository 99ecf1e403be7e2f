//! The way of events into the ring, and what happens when it is full: first the socket is not read, then the policy
//! applies, counted, and a gap event says what is missing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::{End, Event, EventType, Fields, LinkKey};
use time::OffsetDateTime;

use crate::config::Overflow;
use crate::dedup::Identity;
use crate::envelope::rfc3339;
use crate::instance::Shared;
use crate::metrics::{DropReason, GapReason};

/// The events of one link on their way into the ring of its instance.
pub struct Intake {
    link: LinkKey,
    shared: Arc<Shared>,
    /// What was read and finds no room; nothing more is read meanwhile.
    pending: VecDeque<Pending>,
    full_since: Option<Instant>,
    missing: Option<Missing>,
}

enum Pending {
    Event(Box<Event>, Instant, OffsetDateTime, Option<Identity>),
    Gap(Gap),
}

/// A gap that is not in the ring yet.
struct Gap {
    reason: GapReason,
    from: Option<OffsetDateTime>,
    to: OffsetDateTime,
    dropped: Option<u64>,
    /// Whether all of it came over this link.
    own: bool,
    recovered: bool,
}

/// Events that were dropped since a gap began.
struct Missing {
    from: OffsetDateTime,
    number: u64,
    own: bool,
}

impl Intake {
    /// The way of this link's events.
    pub fn new(link: LinkKey, shared: Arc<Shared>) -> Self {
        Self { link, shared, pending: VecDeque::new(), full_since: None, missing: None }
    }

    /// An event that was just read.
    pub fn publish(&mut self, mut event: Box<Event>, read_at: Instant, read: OffsetDateTime) {
        self.shared.metrics.events_read.increment(1);
        let identity = event.identity.as_deref().map(|text| self.shared.recent.identity(event.kind, text));
        if identity.is_some_and(|identity| !self.shared.recent.remember(identity)) {
            self.shared.metrics.events_deduplicated.increment(1);
            return;
        }
        if let Some(command) = event.command {
            event.fields.command = Some(self.shared.envelope.command(command));
        }
        if event.kind == EventType::FrameUnrecognised {
            self.shared.metrics.events_unrecognised.increment(1);
        }
        if self.missing.is_some() && !self.make_room() {
            return self.drop_one(read, true, identity);
        }
        if self.pending.is_empty() && self.shared.ring.has_room() {
            let mut record = self.shared.envelope.seal(*event, &self.link, read_at, read);
            record.identity = identity;
            return self.shared.ring.push(record);
        }
        self.wait(Pending::Event(event, read_at, read, identity));
    }

    /// What was just read has been published already, from another frame.
    pub fn duplicate(&mut self) {
        self.shared.metrics.events_read.increment(1);
        self.shared.metrics.events_deduplicated.increment(1);
    }

    /// Something may have been missed on this link since `from`; `recovered` is whether the service has said again what
    /// it kept.
    pub fn gap(&mut self, reason: GapReason, from: Option<OffsetDateTime>, recovered: bool) {
        self.add(Gap { reason, from, to: OffsetDateTime::now_utc(), dropped: None, own: true, recovered });
        self.settle();
    }

    fn add(&mut self, gap: Gap) {
        self.shared.metrics.gap(gap.reason).increment(1);
        self.shared.metrics.events_read.increment(1);
        self.wait(Pending::Gap(gap));
    }

    fn wait(&mut self, pending: Pending) {
        self.pending.push_back(pending);
        self.full_since.get_or_insert_with(Instant::now);
    }

    /// Whether the socket must not be read.
    pub fn is_full(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether anything has yet to be told.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.missing.is_none()
    }

    /// When [`Intake::overflow`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.full_since.map(|since| since + self.shared.delivery.max_pause.0)
    }

    /// Moves on what waits, as far as there is room.
    pub fn settle(&mut self) {
        while self.shared.ring.has_room() {
            if let Some(Missing { from, number, own }) = self.missing.take() {
                let to = OffsetDateTime::now_utc();
                self.add(Gap {
                    reason: GapReason::Overflow,
                    from: Some(from),
                    to,
                    dropped: Some(number),
                    own,
                    recovered: false,
                });
            }
            let Some(pending) = self.pending.pop_front() else { break };
            let record = match pending {
                Pending::Event(event, read_at, read, identity) => {
                    let mut record = self.shared.envelope.seal(*event, &self.link, read_at, read);
                    record.identity = identity;
                    record
                }
                Pending::Gap(gap) => self.shared.envelope.gap(gap.fields(&self.link), Instant::now()),
            };
            self.shared.ring.push(record);
        }
        if self.pending.is_empty() {
            self.full_since = None;
        }
    }

    /// The ring was full for too long: goes on by the policy.
    ///
    /// # Errors
    /// If the policy is to close the connection.
    pub fn overflow(&mut self) -> Result<(), End> {
        match self.shared.delivery.overflow {
            Overflow::Disconnect => {
                self.full_since = None;
                return Err(End::disconnected("NATS does not take events, and there is no room for more"));
            }
            Overflow::DropNewest => self.say("new ones"),
            Overflow::DropOldest => {
                self.say("the oldest");
                while !self.pending.is_empty() && self.make_room() {
                    let missing = self.missing.take();
                    self.settle();
                    self.missing = missing;
                }
            }
        }
        // What is still here finds no room by any policy.
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Event(_, _, read, identity) => self.drop_one(read, true, identity),
                Pending::Gap(gap) => {
                    self.drop_one(gap.from.unwrap_or(gap.to), gap.own, None);
                    // What it would have said is said by the gap that takes its place.
                    if let Some(missing) = &mut self.missing {
                        missing.number += gap.dropped.unwrap_or(0);
                    }
                }
            }
        }
        self.full_since = None;
        Ok(())
    }

    fn say(&self, which: &str) {
        let (instance, link) = (&self.shared.name, &self.link);
        tracing::warn!(instance, %link, "there is no room for events: {which} are dropped until there is");
    }

    /// Whether there is room, made by dropping older events where the policy says so.
    fn make_room(&mut self) -> bool {
        while self.shared.delivery.overflow == Overflow::DropOldest && !self.shared.ring.has_room() {
            let Some(oldest) = self.shared.ring.drop_oldest() else { break };
            let own = *oldest.link() == self.link;
            self.drop_one(oldest.read(), own, oldest.identity);
        }
        self.shared.ring.has_room()
    }

    /// Counts an event as lost; the gap that will say so begins with the earliest of them.
    fn drop_one(&mut self, read: OffsetDateTime, own: bool, identity: Option<Identity>) {
        if let Some(identity) = identity {
            self.shared.recent.forget(identity);
        }
        self.shared.metrics.dropped(DropReason::Overflow).increment(1);
        let missing = self.missing.get_or_insert(Missing { from: read, number: 0, own });
        missing.number += 1;
        missing.from = missing.from.min(read);
        missing.own &= own;
    }

    /// Waits until there is room for what waits, or for the event that says what is missing.
    pub async fn room(&self) {
        if self.is_settled() {
            return std::future::pending().await;
        }
        self.shared.ring.room().await;
    }
}

/// What was read and never found room is lost, and counted.
impl Drop for Intake {
    fn drop(&mut self) {
        let lost = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        self.shared.metrics.dropped(DropReason::Shutdown).increment(lost);
    }
}

impl Gap {
    fn fields(self, link: &LinkKey) -> Fields {
        Fields {
            link: self.own.then(|| link.as_str().to_owned()),
            reason: Some(self.reason.as_str().into()),
            from: self.from.map(rfc3339),
            to: Some(rfc3339(self.to)),
            recovered: Some(self.recovered),
            dropped: self.dropped,
            ..Fields::default()
        }
    }
}
