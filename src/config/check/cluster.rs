//! The settings of a cluster of daemons.

use std::time::Duration;

use super::bounds::{count, span};
use crate::config::problem::path;
use crate::config::report::Report;
use crate::settings::{Config, DeliveryMode, Ordering};

/// How long a name or a label may be, in bytes.
const LONGEST: usize = 64;

pub(super) fn all(config: &Config, report: &mut Report<'_>) {
    let cluster = &config.cluster;
    span(cluster.ttl, Duration::from_secs(2), Duration::from_secs(300), &["cluster", "ttl"], report);
    let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    count(number(cluster.weight), 0, 1_000, &["cluster", "weight"], report);
    count(number(cluster.moves), 1, 10_000, &["cluster", "moves"], report);
    if cluster.name.as_deref().is_some_and(|name| !is_token(name)) {
        report.problem(&path(["cluster", "name"]), "is not a name; write 1 to 64 of A-Z, a-z, 0-9, _ and -");
    }
    if !cluster.labels.iter().all(|label| is_token(label)) {
        labels(&path(["cluster", "labels"]), report);
    }
    for (name, instance) in &config.connectors {
        if !instance.cluster.only.iter().all(|label| is_token(label)) {
            labels(&path(["connectors", name, "cluster", "only"]), report);
        }
    }
    if !cluster.enabled {
        return;
    }
    let at = path(["cluster", "enabled"]);
    if config.nats.jetstream_domain.is_some() || config.nats.jetstream_api_prefix.is_some() {
        let what = "is set beside a JetStream domain or API prefix, over which daemons do not see each other; connect \
                    to a server of the domain, and leave nats.jetstream_domain and jetstream_api_prefix out";
        report.problem(&at, what);
    }
    let is_fenced =
        config.delivery.mode == DeliveryMode::Jetstream && config.delivery.ordering == Ordering::Strict;
    if !is_fenced {
        let what = "is set without strict order: then the leases alone keep two daemons from publishing for one \
                    instance; set delivery.mode = \"jetstream\" and delivery.ordering = \"strict\" if you can";
        report.warn(&at, what);
    }
}

fn labels(at: &[String], report: &mut Report<'_>) {
    report.problem(at, "holds something that is not a label; write 1 to 64 of A-Z, a-z, 0-9, _ and -");
}

fn is_token(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=LONGEST).contains(&text.len()) && text.chars().all(good)
}
