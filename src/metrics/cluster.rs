//! What a member of a cluster counts.

use std::time::Duration;

use ::metrics::{Counter, Gauge, counter, gauge};

use super::labels::TakeoverReason;
use super::table;

/// What a member of a cluster counts.
pub struct ClusterMetrics {
    owned: Gauge,
    lease_age: Gauge,
    members: Gauge,
    unowned: Gauge,
    takeovers: [Counter; TakeoverReason::ALL.len()],
}

/// Makes the series.
impl Default for ClusterMetrics {
    fn default() -> Self {
        Self {
            owned: gauge!(table::CLUSTER_OWNED.name),
            lease_age: gauge!(table::CLUSTER_LEASE_AGE.name),
            members: gauge!(table::CLUSTER_MEMBERS.name),
            unowned: gauge!(table::CLUSTER_UNOWNED.name),
            takeovers: TakeoverReason::ALL
                .map(|reason| counter!(table::CLUSTER_TAKEOVERS.name, "reason" => reason.as_str())),
        }
    }
}

impl ClusterMetrics {
    /// Shows how many leases there are, how old the oldest renewal of one is, and how many members there are.
    pub fn show(&self, owned: usize, lease_age: Option<Duration>, members: usize) {
        // Gauges are floats; these numbers are far below what they hold exactly.
        self.owned.set(owned as f64);
        self.lease_age.set(lease_age.unwrap_or_default().as_secs_f64());
        self.members.set(members as f64);
    }

    /// Shows how many instances no member is known to have.
    pub fn unowned(&self, instances: usize) {
        self.unowned.set(instances as f64);
    }

    /// Instances that were taken for this reason.
    pub fn takeover(&self, reason: TakeoverReason) -> &Counter {
        &self.takeovers[reason as usize]
    }
}
