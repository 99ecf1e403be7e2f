//! What the daemon does for the cluster: instances run here only with a lease.

use std::time::Duration;

use super::{Daemon, Running};
use crate::cluster::Cluster;
use crate::cluster::state::Stop;
use crate::settings::Config;

impl Daemon {
    /// Shows which instances wait to be started. One that another daemon owns is ready here, too.
    pub(super) fn show_waiting(&self) {
        let waits = |name: &&String| self.cluster.as_ref().is_none_or(|cluster| cluster.owns(name));
        self.statuses.wait(self.waiting.keys().filter(waits));
    }

    /// Stops the instances whose lease is lost, or that another daemon is to run, and makes them ready to start again.
    pub(super) fn stop_lost(&mut self) {
        let stopped = self.cluster.as_ref().map(Cluster::to_stop).unwrap_or_default();
        for (name, stop) in stopped {
            let Some(Running { handle, .. }) = self.running.remove(&name) else { continue };
            match stop {
                Stop::Lost => {
                    tracing::warn!(instance = name, "the lease of the instance is lost; it stops here")
                }
                Stop::Moved => tracing::info!(
                    instance = name,
                    "another daemon is ready to run the instance; it stops here"
                ),
            }
            self.end(handle);
            self.make_ready(name, Duration::ZERO);
        }
    }

    /// Logs which changes of a configuration that was read again are not put in force.
    pub(super) fn warn_of_changes(&self, config: &Config) {
        let is_changed = self.config.cluster != config.cluster
            || (self.cluster.is_some() && self.config.nats != config.nats);
        if is_changed {
            tracing::warn!(
                "changes of [cluster], and of [nats] for its leases, take effect when the daemon is started again"
            );
        }
    }
}

/// Waits until the cluster has something to do here; forever without one.
pub(super) async fn changed(cluster: Option<&Cluster>) {
    match cluster {
        Some(cluster) => cluster.changed().await,
        None => std::future::pending().await,
    }
}
