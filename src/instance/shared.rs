//! What the parts of an instance share, on the instance's thread.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::Settings;
use crate::disk::Intents;
use crate::envelope::Envelope;
use crate::fence::Fence;
use crate::link;
use crate::log::Throttle;
use crate::reply::idempotency::Keys;
use crate::status::JobStatus;

/// What the parts of an instance share.
pub struct Shared {
    /// What its links share, too.
    pub link: Rc<link::context::Context>,
    /// Closed while nothing may be published.
    pub fence: Fence,
    /// What is made of events.
    pub envelope: Rc<Envelope>,
    /// Which commands were begun that may not be carried out twice; they outlive the daemon if there is a spool on disk.
    pub intents: Rc<Intents>,
    /// The values of `Idempotency-Key`; they outlive the daemon likewise.
    pub keys: Rc<Keys>,
    /// Whether NATS has processed the subscription to commands in this start of the instance.
    pub subscribed: watch::Sender<bool>,
    /// What is known of jobs.
    pub jobs: watch::Sender<JobStatus>,
    /// The settings in force.
    pub(super) settings: RefCell<Rc<Settings>>,
    /// Log lines that others can cause as often as they like.
    pub throttles: Throttles,
    /// A part of the instance has failed as none should: all of it starts over.
    pub fault: CancellationToken,
}

impl Shared {
    /// The settings in force.
    pub fn settings(&self) -> Rc<Settings> {
        self.settings.borrow().clone()
    }

    /// Puts other settings in force, as far as the bus need not move for them. Events that are kept stay as they are; only
    /// the prefix of their subjects follows.
    pub(super) fn adopt(&self, settings: Settings) {
        let (delivery, link::context::Context { spool, metrics, .. }) = (&settings.delivery, &*self.link);
        let (now, next) = (self.settings(), delivery.spool.folder());
        if now.delivery.spool.folder() != next {
            tracing::warn!(
                instance = self.link.instance,
                path = ?next,
                "delivery.spool.path has changed: the daemon uses it from its next start on"
            );
        }
        spool.reconfigure(delivery);
        let on_disk = delivery.spool.folder().map_or(0, |_| delivery.spool.size.0);
        metrics.spool_disk_max_bytes.set(on_disk as f64);
        spool.gauge();
        spool.reshape(&settings.nats.prefix, &settings.events);
        *self.settings.borrow_mut() = Rc::new(settings);
    }
}

/// Log lines that others can cause as often as they like.
#[derive(Default)]
pub struct Throttles {
    /// Connections to the listener that were not accepted.
    pub handshakes: Throttle,
    /// Commands whose reply subject is not allowed.
    pub replies: Throttle,
}
