//! The phases of an instance's links: one value, read by the state subject, readiness, gauges and `status` alike.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::LinkKey;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::metrics::InstanceMetrics;
use crate::status::{LinkStatus, Phase};

/// Where the links write their phases.
pub struct Board {
    links: Mutex<BTreeMap<LinkKey, LinkStatus>>,
    changed: Notify,
    metrics: Arc<InstanceMetrics>,
}

impl Board {
    /// No links yet.
    pub fn new(metrics: Arc<InstanceMetrics>) -> Self {
        Self { links: Mutex::default(), changed: Notify::new(), metrics }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<LinkKey, LinkStatus>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link's phase, and why.
    pub fn set(&self, key: &LinkKey, phase: Phase, detail: Option<String>, retry_at: Option<OffsetDateTime>) {
        let status = LinkStatus {
            key: key.as_str().to_owned(),
            phase,
            since: OffsetDateTime::now_utc(),
            detail,
            retry_at,
        };
        self.links().insert(key.clone(), status);
        self.tell();
    }

    /// A link is gone for good.
    pub fn remove(&self, key: &LinkKey) {
        self.links().remove(key);
        self.tell();
    }

    /// The phase of a link, if there is one of that name.
    pub fn phase(&self, key: &LinkKey) -> Option<Phase> {
        self.links().get(key).map(|link| link.phase)
    }

    /// All links.
    pub fn list(&self) -> Vec<LinkStatus> {
        self.links().values().cloned().collect()
    }

    /// Waits for a change after this call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell(&self) {
        let ready = self.links().values().filter(|link| link.phase == Phase::Ready).count();
        // A gauge is a float; the number of links is far below what it holds exactly.
        self.metrics.link_connected.set(ready as f64);
        self.changed.notify_one();
    }
}
