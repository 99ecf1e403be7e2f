//! One link: all that begins and ends with it. [`Link`] is the only owner of its state.
//!
//! * [`supervisor`]: dials, runs a session, waits, dials again; [`session`]: one connection, from open to close
//! * [`control`]: what an operator asks of all links; [`lifetime`]: why a link exists; [`context`]: what the links of an instance share
//! * [`erased`]: connectors and sessions of which only the transport is known
//! * [`queue`]: commands that wait for the link; [`pending`]: commands that were given to its session
//! * [`slots`]: how many links may be open on demand; [`phases`]: what each link is doing
//! * [`gaps`]: when the events of a link may be incomplete, and what is published about it
//! * `restore`: what an earlier run has left of a link
//! * [`redact`]: texts from outside, without secrets

pub mod context;
pub mod control;
pub mod erased;
pub mod gaps;
pub mod lifetime;
pub mod pending;
pub mod phases;
pub mod queue;
pub mod redact;
mod restore;
pub mod session;
pub mod slots;
pub mod supervisor;

use std::rc::Rc;
use std::time::Instant;

use pontoon_sdk::{Error, Join, Joined, LinkKey};
use time::OffsetDateTime;
use tracing::field::display;

use self::context::Context;
use self::gaps::GapTracker;
use self::lifetime::Lifetime;
use self::phases::PhaseHandle;
use self::queue::CommandQueue;
use self::slots::Slot;
use crate::status::Phase;

/// The state of one link, from its first connection to its last.
pub struct Link {
    /// Its name within the instance.
    pub key: LinkKey,
    /// Scheme, host and port where it is dialled, for people.
    pub address: Option<String>,
    /// Why it exists.
    pub lifetime: Lifetime,
    /// What it shares with other links.
    pub context: Rc<Context>,
    /// Commands that wait for it.
    pub queue: CommandQueue,
    /// What a session asks the service for again after each reconnect.
    pub joins: Vec<Join>,
    /// Whether everything that the service sent was received.
    pub gaps: GapTracker,
    /// What it is doing, for status and metrics.
    pub phase: PhaseHandle,
    /// Its slot, if it is open on demand.
    pub slot: Option<Slot>,
    /// Since when its connection is ready.
    pub ready_since: Option<Instant>,
}

impl Link {
    /// A link that was not dialled yet.
    pub fn new(key: LinkKey, lifetime: Lifetime, context: Rc<Context>, queue: CommandQueue) -> Self {
        let Context { spool, ready_links, activity, phases, .. } = &*context;
        let mut gaps =
            GapTracker::new(key.clone(), lifetime, spool.clone(), ready_links.clone(), activity.clone());
        if context.checkpoints.take_reopened(key.as_str()) {
            gaps.reopened();
        }
        let (phase, joins) = (phases.handle(key.clone()), restore::joins(&context, &key, lifetime));
        Self {
            key,
            address: None,
            lifetime,
            queue,
            joins,
            gaps,
            phase,
            slot: None,
            ready_since: None,
            context,
        }
    }

    /// The session is ready; `read` is when the frame was read that made it so, `rejoins` what it asks the service for again,
    /// `has_sent` whether it has sent anything.
    pub fn ready(&mut self, read: OffsetDateTime, rejoins: &Joined, has_sent: bool) {
        self.ready_since = Some(Instant::now());
        let address = self.address.as_deref().map(display);
        tracing::info!(instance = self.context.instance, link = %self.key, address, "link ready");
        self.phase.set(Phase::Ready, None, None);
        self.phase.joined(&self.joins);
        self.gaps.ready(read, rejoins, has_sent);
    }

    /// Ends the link for good. `error` is what the callers of commands that wait are sent, where more is known than that
    /// there is no connection.
    pub fn close(mut self, error: Option<Error>) {
        self.gaps.closed();
        self.slot = None;
        self.queue.refuse_all(error);
    }
}
