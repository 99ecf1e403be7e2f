//! Metrics for Prometheus: what each instance counts, and how it is exported.
//!
//! * [`table`] holds every name, label, help text and bucket
//! * [`DropReason`] and the other sets of label values are closed, so that nothing from outside can make a series
//! * [`InstanceMetrics`] holds the handles of one instance: finding a handle costs more than counting
//! * `process` reads the system's figures of the process
//! * `openmetrics` writes everything in the form of OpenMetrics, with `exemplars`: the traces of commands
//!
//! The series of an instance exist from its start, at 0, but for those of its operations, which are many: each exists from
//! its first command. An instance that is taken out by a reload is not exported any more.

mod cluster;
mod exemplars;
mod labels;
mod openmetrics;
mod process;
pub mod table;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ::metrics::{
    Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use self::exemplars::EXEMPLARS;
use self::table::{INSTANCE, Kind, Metric, TABLE};
use crate::status::{Counts, Phase};
pub use cluster::ClusterMetrics;
pub use labels::{ConnectOutcome, DropReason, GapReason, Outcome, ReloadOutcome, TakeoverReason};

/// How often [`Exporter::upkeep`] must be called: samples of histograms pile up until then.
pub const UPKEEP: Duration = Duration::from_secs(1);

/// Reads all metrics. Clones read the same.
#[derive(Clone)]
pub struct Exporter {
    metrics: PrometheusHandle,
    /// Instances that were taken out of the configuration. The recorder cannot remove series, so they are left out here.
    removed: Arc<Mutex<BTreeSet<String>>>,
}

/// Makes this the process's recorder. Handles that were made before count nowhere, so it comes first.
///
/// # Errors
/// If there is a recorder already.
pub fn install() -> Result<Exporter, BuildError> {
    let exporter = Exporter::new(builder()?.install_recorder()?);
    describe();
    Ok(exporter)
}

impl Exporter {
    fn new(metrics: PrometheusHandle) -> Self {
        Self { metrics, removed: Arc::default() }
    }

    /// Sorts histogram samples into their buckets.
    pub fn upkeep(&self) {
        self.metrics.run_upkeep();
    }

    /// Leaves out the series of an instance from now on.
    pub fn remove(&self, instance: &str) {
        EXEMPLARS.remove(instance);
        self.removed().insert(instance.to_owned());
    }

    /// Exports the series of an instance, even if it was removed before.
    pub fn add(&self, instance: &str) {
        self.removed().remove(instance);
    }

    /// Everything, in the text format of OpenMetrics 1.0, with the traces of commands as exemplars.
    pub fn render_openmetrics(&self) -> String {
        openmetrics::from_prometheus(&self.render(), &EXEMPLARS)
    }

    /// Everything, in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = self.metrics.render();
        let removed = self.removed();
        if !removed.is_empty() {
            let names: Vec<_> = removed.iter().map(|name| format!("{INSTANCE}=\"{name}\"")).collect();
            let is_left = |line: &&str| !names.iter().any(|name| line.contains(name));
            text = text.split_inclusive('\n').filter(is_left).collect();
        }
        drop(removed);
        process::render(&mut text);
        text
    }

    fn removed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No idle timeout: it would detach the cached handles, and what they count would be lost.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in TABLE {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    Ok(builder)
}

fn describe() {
    for Metric { name, kind, help, .. } in TABLE {
        match kind {
            Kind::Counter => describe_counter!(*name, *help),
            Kind::Gauge => describe_gauge!(*name, *help),
            Kind::Histogram(_) => describe_histogram!(*name, *help),
        }
    }
}

/// What the daemon counts besides its instances.
pub struct DaemonMetrics {
    reloads: [Counter; ReloadOutcome::ALL.len()],
    reload_failed: Gauge,
    /// Lines of the log that stderr did not take.
    pub log_lines_dropped: Counter,
}

impl DaemonMetrics {
    /// Makes the series.
    pub fn new() -> Self {
        gauge!(table::BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Self {
            reloads: ReloadOutcome::ALL
                .map(|outcome| counter!(table::CONFIG_RELOADS.name, "outcome" => outcome.as_str())),
            reload_failed: gauge!(table::CONFIG_RELOAD_FAILED.name),
            log_lines_dropped: counter!(table::LOG_LINES_DROPPED.name),
        }
    }

    /// A reload has ended like this.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.reloads[outcome as usize].increment(1);
        self.reload_failed.set(f64::from(u8::from(outcome == ReloadOutcome::Failed)));
    }
}

impl Default for DaemonMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Times that an instance ended unasked and was started again. It is not the instance's own to count.
pub fn restarts(instance: &str, kind: &str) -> Counter {
    counter!(table::INSTANCE_RESTARTS.name, INSTANCE => instance.to_owned(), "type" => kind.to_owned())
}

/// What one instance counts.
pub struct InstanceMetrics {
    /// Frames read from the service.
    pub frames_received: Total,
    /// Frames written to the service.
    pub frames_sent: Total,
    /// Their bytes.
    pub bytes_received: Counter,
    /// Their bytes.
    pub bytes_sent: Counter,
    /// Events made, gaps included. At rest: published + deduplicated + dropped + spooled + in flight.
    pub events_read: Counter,
    /// Events that NATS confirmed.
    pub events_published: Total,
    /// Events that the stream held already.
    pub events_deduplicated: Counter,
    /// Errors that the service has raised.
    pub service_errors: Total,
    /// Events of type `frame.unrecognised`.
    pub events_unrecognised: Counter,
    /// Events that stand in a strict stream behind newer ones.
    pub events_reordered: Counter,
    /// Messages of other clients in a strict stream.
    pub stream_foreign_messages: Counter,
    /// From the frame read to the server's confirmation.
    pub event_latency: Histogram,
    /// Events on the wire: sent and not confirmed.
    pub publish_inflight: Gauge,
    /// Events that are not on the wire yet.
    pub spool_events: Gauge,
    /// Bytes of all events that are kept, sent or not.
    pub spool_bytes: Gauge,
    /// How many events may be kept.
    pub spool_max_events: Gauge,
    /// How many bytes of events may be kept.
    pub spool_max_bytes: Gauge,
    /// When the oldest event that is kept was read, in seconds since 1970; 0 where none is.
    pub spool_oldest_timestamp: Gauge,
    /// 1 while events are kept on disk.
    pub spool_on_disk: Gauge,
    /// Bytes of their files.
    pub spool_disk_bytes: Gauge,
    /// How many there may be.
    pub spool_disk_max_bytes: Gauge,
    /// How many files there are.
    pub spool_segments: Gauge,
    /// Places at which the files were damaged.
    pub spool_damaged: Counter,
    /// Times that the disk failed.
    pub spool_errors: Counter,
    /// Links that there are, ready or not.
    pub link_wanted: Gauge,
    /// Links that are ready.
    pub link_connected: Gauge,
    /// When the service last sent a message, in seconds since 1970.
    pub link_last_message_timestamp: Gauge,
    /// 1 while connected to NATS.
    pub nats_connected: Gauge,
    /// 1 while another daemon writes to the stream.
    pub nats_fenced: Gauge,
    /// Times that the connection to NATS was made again.
    pub nats_reconnects: Counter,
    /// Messages from NATS that the client dropped, as they came faster than they were taken.
    pub nats_messages_dropped: Counter,
    /// Replies to refused commands that found no room on their way to NATS.
    pub replies_dropped: Counter,
    /// Jobs that are under way.
    pub jobs_in_flight: Gauge,
    /// Jobs that wait.
    pub jobs_waiting: Gauge,
    running: Gauge,
    jobs: [Counter; Outcome::ALL.len()],
    down: [Gauge; Phase::DOWN.len()],
    dropped: [Total; DropReason::ALL.len()],
    commands: AtomicU64,
    gaps: [Counter; GapReason::ALL.len()],
    connects: [Counter; ConnectOutcome::ALL.len()],
    operations: Vec<Operation>,
    /// For a name that is not in the list: its counts have no series, which a closed set must not grow for.
    unlisted: Operation,
}

/// A counter whose value is known here as well, since the instance started.
pub struct Total {
    counter: Counter,
    total: AtomicU64,
}

impl Total {
    fn new(counter: Counter) -> Self {
        Self { counter, total: AtomicU64::new(0) }
    }

    /// Counts so many more.
    pub fn increment(&self, number: u64) {
        self.counter.increment(number);
        self.total.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// What is counted of an operation, from its first command on.
struct Operation {
    /// Of the instance and of the operation; none where nothing is exported.
    labels: Vec<Label>,
    name: &'static str,
    series: OnceLock<OperationSeries>,
}

struct OperationSeries {
    outcomes: [Counter; Outcome::ALL.len()],
    duration: Histogram,
}

impl Operation {
    fn new(name: &'static str, labels: Vec<Label>) -> Self {
        Self { labels, name, series: OnceLock::new() }
    }

    fn series(&self) -> &OperationSeries {
        self.series.get_or_init(|| {
            if self.labels.is_empty() {
                let outcomes = Outcome::ALL.map(|_| Counter::noop());
                return OperationSeries { outcomes, duration: Histogram::noop() };
            }
            let outcomes = Outcome::ALL.map(|outcome| {
                let mut labels = self.labels.clone();
                labels.push(Label::from_static_parts("outcome", outcome.as_str()));
                counter!(table::COMMANDS.name, labels)
            });
            let duration = histogram!(table::COMMAND_DURATION.name, self.labels.clone());
            OperationSeries { outcomes, duration }
        })
    }
}

impl InstanceMetrics {
    /// Makes the series of an instance. Where they exist already, counting goes on.
    pub fn new(instance: &str, kind: &'static str, operations: &[&'static str]) -> Self {
        let own = vec![Label::new(INSTANCE, instance.to_owned()), Label::from_static_parts("type", kind)];
        let with = |key, value| {
            let mut labels = own.clone();
            labels.push(Label::from_static_parts(key, value));
            labels
        };
        let count = |metric: Metric| counter!(metric.name, own.clone());
        let level = |metric: Metric| gauge!(metric.name, own.clone());
        // The series is there before the first restart.
        restarts(instance, kind).increment(0);
        let running = level(table::INSTANCE_RUNNING);
        running.set(1.0);
        let operation = |name: &&'static str| Operation::new(name, with("operation", name));
        Self {
            frames_received: Total::new(count(table::FRAMES_RECEIVED)),
            frames_sent: Total::new(count(table::FRAMES_SENT)),
            bytes_received: count(table::BYTES_RECEIVED),
            bytes_sent: count(table::BYTES_SENT),
            events_read: count(table::EVENTS_READ),
            events_published: Total::new(count(table::EVENTS_PUBLISHED)),
            events_deduplicated: count(table::EVENTS_DEDUPLICATED),
            service_errors: Total::new(count(table::SERVICE_ERRORS)),
            events_unrecognised: count(table::EVENTS_UNRECOGNISED),
            events_reordered: count(table::EVENTS_REORDERED),
            stream_foreign_messages: count(table::STREAM_FOREIGN_MESSAGES),
            event_latency: histogram!(table::EVENT_LATENCY.name, own.clone()),
            publish_inflight: level(table::PUBLISH_INFLIGHT),
            spool_events: level(table::SPOOL_EVENTS),
            spool_bytes: level(table::SPOOL_BYTES),
            spool_max_events: level(table::SPOOL_MAX_EVENTS),
            spool_max_bytes: level(table::SPOOL_MAX_BYTES),
            spool_oldest_timestamp: level(table::SPOOL_OLDEST),
            spool_on_disk: level(table::SPOOL_ON_DISK),
            spool_disk_bytes: level(table::SPOOL_DISK_BYTES),
            spool_disk_max_bytes: level(table::SPOOL_DISK_MAX_BYTES),
            spool_segments: level(table::SPOOL_SEGMENTS),
            spool_damaged: count(table::SPOOL_DAMAGED),
            spool_errors: count(table::SPOOL_ERRORS),
            link_wanted: level(table::LINK_WANTED),
            link_connected: level(table::LINK_CONNECTED),
            link_last_message_timestamp: level(table::LINK_LAST_MESSAGE),
            nats_connected: level(table::NATS_CONNECTED),
            nats_fenced: level(table::NATS_FENCED),
            nats_reconnects: count(table::NATS_RECONNECTS),
            nats_messages_dropped: count(table::NATS_MESSAGES_DROPPED),
            replies_dropped: count(table::REPLIES_DROPPED),
            jobs_in_flight: level(table::JOBS_IN_FLIGHT),
            jobs_waiting: level(table::JOBS_WAITING),
            running,
            jobs: Outcome::ALL.map(|outcome| counter!(table::JOBS.name, with("outcome", outcome.as_str()))),
            down: Phase::DOWN.map(|phase| gauge!(table::LINK_DOWN.name, with("state", phase.as_str()))),
            dropped: DropReason::ALL
                .map(|reason| counter!(table::EVENTS_DROPPED.name, with("reason", reason.as_str())))
                .map(Total::new),
            commands: AtomicU64::new(0),
            gaps: GapReason::ALL.map(|reason| counter!(table::GAPS.name, with("reason", reason.as_str()))),
            connects: ConnectOutcome::ALL
                .map(|outcome| counter!(table::LINK_CONNECTS.name, with("outcome", outcome.as_str()))),
            operations: operations.iter().map(operation).collect(),
            unlisted: Operation::new("", Vec::new()),
        }
    }

    /// How many links are down, by their phase: as many as there are in [`Phase::DOWN`], in that order.
    pub fn links_down(&self, numbers: [usize; Phase::DOWN.len()]) {
        for (gauge, number) in self.down.iter().zip(numbers) {
            // A gauge is a float; the number of links is far below what it holds exactly.
            gauge.set(number as f64);
        }
    }

    /// Events lost for this reason.
    pub fn dropped(&self, reason: DropReason) -> &Total {
        &self.dropped[reason as usize]
    }

    /// Gaps for this reason.
    pub fn gap(&self, reason: GapReason) -> &Counter {
        &self.gaps[reason as usize]
    }

    /// Attempts to connect that ended like this.
    pub fn connects(&self, outcome: ConnectOutcome) -> &Counter {
        &self.connects[outcome as usize]
    }

    /// Jobs that ended like this.
    pub fn jobs(&self, outcome: Outcome) -> &Counter {
        &self.jobs[outcome as usize]
    }

    /// A command of this operation has ended like this.
    pub fn command_ended(&self, operation: &str, outcome: Outcome) {
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.operation(operation).series().outcomes[outcome as usize].increment(1);
    }

    /// As [`Self::command_ended`], of one that took so long, and belongs to this trace (W3C Trace Context).
    pub fn command_answered(
        &self,
        operation: &str,
        outcome: Outcome,
        took: Duration,
        traceparent: Option<&str>,
    ) {
        self.command_ended(operation, outcome);
        let operation = self.operation(operation);
        operation.series().duration.record(took);
        if let Some(traceparent) = traceparent.filter(|_| !operation.labels.is_empty()) {
            EXEMPLARS.command(&operation.labels, outcome.as_str(), took, traceparent);
        }
    }

    /// What was counted since the instance started.
    pub fn counts(&self) -> Counts {
        Counts {
            frames_received: self.frames_received.get(),
            frames_sent: self.frames_sent.get(),
            events_published: self.events_published.get(),
            events_dropped: self.dropped.iter().map(Total::get).sum(),
            commands: self.commands.load(Ordering::Relaxed),
            service_errors: self.service_errors.get(),
        }
    }

    fn operation(&self, name: &str) -> &Operation {
        self.operations.iter().find(|operation| operation.name == name).unwrap_or(&self.unlisted)
    }
}

/// An instance that ended wants nothing, is not connected and keeps nothing.
impl Drop for InstanceMetrics {
    fn drop(&mut self) {
        for gauge in [
            &self.publish_inflight,
            &self.spool_events,
            &self.spool_bytes,
            &self.spool_max_events,
            &self.spool_max_bytes,
            &self.spool_oldest_timestamp,
            &self.spool_on_disk,
            &self.spool_disk_bytes,
            &self.spool_disk_max_bytes,
            &self.spool_segments,
            &self.link_wanted,
            &self.link_connected,
            &self.nats_connected,
            &self.nats_fenced,
            &self.jobs_in_flight,
            &self.jobs_waiting,
            &self.running,
        ] {
            gauge.set(0.0);
        }
        self.links_down([0; Phase::DOWN.len()]);
    }
}

#[cfg(test)]
mod tests;
