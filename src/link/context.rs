//! What the links of an instance share. It is made by the instance and handed down.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::gaps::{Activity, ReadyLinks};
use super::phases::LinkPhases;
use super::slots::Slots;
use crate::bus::checkpoints::Checkpoints;
use crate::bus::requests::Requester;
use crate::bus::spool::Spool;
use crate::feed::Feed;
use crate::log::Throttle;
use crate::metrics::InstanceMetrics;
use crate::transport;

/// What the links of an instance share.
pub struct Context {
    /// The name of the instance.
    pub instance: String,
    /// Events on their way to NATS.
    pub spool: Rc<Spool>,
    /// What outlives the daemon besides events.
    pub checkpoints: Rc<Checkpoints>,
    /// Whether the links are closed because the instance ends.
    pub ends: Cell<bool>,
    /// Sends requests over NATS.
    pub requester: Requester,
    /// Counts.
    pub metrics: Arc<InstanceMetrics>,
    /// How sockets are made.
    pub transport: transport::Settings,
    /// The phases of the links.
    pub phases: Rc<LinkPhases>,
    /// How many links may be open on demand.
    pub slots: Rc<Slots>,
    /// The links that were ready in this run of the instance.
    pub ready_links: Rc<ReadyLinks>,
    /// Logs links that failed and were not down before.
    pub first_failures: Throttle,
    /// Logs attempts to connect links that were down before.
    pub failures: Throttle,
    /// Logs errors that services raise.
    pub service_errors: Throttle,
    /// What people watch.
    pub feed: Feed,
    /// When the instance's thread ran.
    pub activity: Rc<Activity>,
}
