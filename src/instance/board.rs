//! The phases of an instance's links: one value, read by the state subject, readiness, gauges and `status` alike.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::LinkKey;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::metrics::InstanceMetrics;
use crate::status::{LinkStatus, Phase};

/// Tells a link from an earlier one of the same name, which may still be on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u64);

/// Where the links write their phases.
pub struct Board {
    links: Mutex<BTreeMap<LinkKey, (Seat, LinkStatus)>>,
    seats: AtomicU64,
    changed: Notify,
    metrics: Arc<InstanceMetrics>,
}

impl Board {
    /// No links yet.
    pub fn new(metrics: Arc<InstanceMetrics>) -> Self {
        Self { links: Mutex::default(), seats: AtomicU64::new(0), changed: Notify::new(), metrics }
    }

    /// A seat for a link, later than all before it.
    pub fn seat(&self) -> Seat {
        Seat(self.seats.fetch_add(1, Ordering::Relaxed))
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<LinkKey, (Seat, LinkStatus)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link's phase, and why. Nothing is written over what a later link of that name has written.
    pub fn set(
        &self,
        key: &LinkKey,
        seat: Seat,
        phase: Phase,
        detail: Option<String>,
        retry_at: Option<OffsetDateTime>,
    ) {
        let status = LinkStatus {
            key: key.as_str().to_owned(),
            phase,
            since: OffsetDateTime::now_utc(),
            detail,
            retry_at,
        };
        let mut links = self.links();
        if links.get(key).is_some_and(|(known, _)| *known > seat) {
            return;
        }
        links.insert(key.clone(), (seat, status));
        drop(links);
        self.tell();
    }

    /// A link is gone for good.
    pub fn remove(&self, key: &LinkKey, seat: Seat) {
        let mut links = self.links();
        if links.get(key).is_some_and(|(known, _)| *known == seat) {
            links.remove(key);
        }
        drop(links);
        self.tell();
    }

    /// The phase of a link, if there is one of that name.
    pub fn phase(&self, key: &LinkKey) -> Option<Phase> {
        self.links().get(key).map(|(_, link)| link.phase)
    }

    /// All links.
    pub fn list(&self) -> Vec<LinkStatus> {
        self.links().values().map(|(_, link)| link.clone()).collect()
    }

    /// Waits for a change after this call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell(&self) {
        let ready = self.links().values().filter(|(_, link)| link.phase == Phase::Ready).count();
        // A gauge is a float; the number of links is far below what it holds exactly.
        self.metrics.link_connected.set(ready as f64);
        self.changed.notify_one();
    }
}
