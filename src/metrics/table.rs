//! The table of all metrics: every name, label, help text and bucket. Nothing is exported that does not stand here.
//!
//! Names end in their unit (`_seconds`, `_bytes`) or in what they count, counters in `_total`.

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// What is recorded.
    pub kind: Kind,
    /// Its labels; each has a closed set of values, so that nothing from outside can make a series.
    pub labels: &'static [&'static str],
    /// Its help text.
    pub help: &'static str,
}

/// How a metric is recorded.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets with these upper bounds, in seconds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Its name in the exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

const LATENCY: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
pub(super) const DURATION: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The label that names an instance. Prometheus adds `instance` itself, for the address that it scrapes.
pub(super) const INSTANCE: &str = "pontoon_instance";
const OF_INSTANCE: &[&str] = &[INSTANCE, "type"];
const BY_REASON: &[&str] = &[INSTANCE, "type", "reason"];
const BY_OUTCOME: &[&str] = &[INSTANCE, "type", "outcome"];
const BY_STATE: &[&str] = &[INSTANCE, "type", "state"];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

macro_rules! table {
    ($($constant:ident = $metric:expr;)*) => {
        $(pub(super) const $constant: Metric = $metric;)*

        /// Every metric there is.
        pub const TABLE: &[Metric] = &[$($constant),*];
    };
}

table! {
    BUILD_INFO = gauge("pontoon_build_info", &["version"], "Always 1; the label says which version runs.");
    CONFIG_RELOADS = counter("pontoon_config_reloads_total", &["outcome"],
        "Reloads of the configuration, by how they ended.");
    CONFIG_RELOAD_FAILED = gauge("pontoon_config_reload_failed", &[],
        "1 while the last reload of the configuration failed, so that what runs is not what is written, else 0.");
    LOG_LINES_DROPPED = counter("pontoon_log_lines_dropped_total", &[],
        "Lines of the log that were dropped because stderr took no more.");

    LINK_WANTED = gauge("pontoon_link_wanted", OF_INSTANCE,
        "Links that are wanted now, ready or not; one that is opened on demand only while there is demand.");
    LINK_CONNECTED = gauge("pontoon_link_connected", OF_INSTANCE, "Links that are ready.");
    LINK_DOWN = gauge("pontoon_link_down", BY_STATE,
        "Links that are wanted and have failed since they were last ready, by what they are at; one that is dialled again stays in its state until it is ready.");
    LINK_CONNECTS = counter("pontoon_link_connects_total", BY_OUTCOME,
        "Attempts to connect a link, by how they ended.");
    LINK_LAST_MESSAGE = gauge("pontoon_link_last_message_timestamp_seconds", OF_INSTANCE,
        "When the service last sent a message, in seconds since 1970; 0 if it has not.");
    FRAMES_RECEIVED = counter("pontoon_frames_received_total", OF_INSTANCE, "Frames read from the service.");
    FRAMES_SENT = counter("pontoon_frames_sent_total", OF_INSTANCE, "Frames written to the service.");
    BYTES_RECEIVED = counter("pontoon_bytes_received_total", OF_INSTANCE,
        "Bytes of the frames read from the service, without framing.");
    BYTES_SENT = counter("pontoon_bytes_sent_total", OF_INSTANCE,
        "Bytes of the frames written to the service, without framing.");

    EVENTS_READ = counter("pontoon_events_read_total", OF_INSTANCE,
        "Events made, gaps included. At rest it is published + deduplicated + dropped + spooled + in flight.");
    EVENTS_PUBLISHED = counter("pontoon_events_published_total", OF_INSTANCE,
        "Events that NATS confirmed.");
    EVENTS_DEDUPLICATED = counter("pontoon_events_deduplicated_total", OF_INSTANCE,
        "Events that the stream held already when they were sent again.");
    EVENTS_DROPPED = counter("pontoon_events_dropped_total", BY_REASON,
        "Events that are lost: no room (overflow), larger than NATS or transport.message_limit takes (too_large), or not confirmed when the instance ended (shutdown).");
    SERVICE_ERRORS = counter("pontoon_service_errors_total", OF_INSTANCE,
        "Errors that the service has raised (events of type error.raised).");
    EVENTS_UNRECOGNISED = counter("pontoon_events_unrecognised_total", OF_INSTANCE,
        "Events of type frame.unrecognised: the connector did not understand the frame.");
    EVENT_LATENCY = Metric { name: "pontoon_event_latency_seconds", kind: Kind::Histogram(LATENCY),
        labels: OF_INSTANCE, help: "From the frame read to the confirmation by NATS." };
    EVENTS_REORDERED = counter("pontoon_events_reordered_total", OF_INSTANCE,
        "Events that stand in a strict stream behind newer ones, because another client wrote to it.");
    STREAM_FOREIGN_MESSAGES = counter("pontoon_stream_foreign_messages_total", OF_INSTANCE,
        "Messages of other clients in a stream that should have one writer.");
    GAPS = counter("pontoon_gaps_total", BY_REASON, "Times in which something may have been missed, by reason.");
    PUBLISH_INFLIGHT = gauge("pontoon_publish_inflight", OF_INSTANCE,
        "Events sent to NATS and not yet confirmed.");
    SPOOL_EVENTS = gauge("pontoon_spool_events", OF_INSTANCE,
        "Events kept that are not yet sent to NATS; those sent and not confirmed are in pontoon_publish_inflight.");
    SPOOL_BYTES = gauge("pontoon_spool_bytes", OF_INSTANCE,
        "Bytes of all events that are kept, sent or not.");
    SPOOL_MAX_EVENTS = gauge("pontoon_spool_max_events", OF_INSTANCE,
        "How many events may be kept, sent or not (delivery.buffer_events); 0 on disk, where their bytes alone bound them.");
    SPOOL_MAX_BYTES = gauge("pontoon_spool_max_bytes", OF_INSTANCE,
        "How many bytes of events may be kept (delivery.buffer, or on disk seven eighths of delivery.spool.size).");
    SPOOL_OLDEST = gauge("pontoon_spool_oldest_timestamp_seconds", OF_INSTANCE,
        "When the oldest event that is kept was read, in seconds since 1970; 0 if none is kept.");
    SPOOL_ON_DISK = gauge("pontoon_spool_on_disk", OF_INSTANCE,
        "1 while events are kept on disk; 0 while they are in memory only, as configured or because the disk fails.");
    SPOOL_DISK_BYTES = gauge("pontoon_spool_disk_bytes", OF_INSTANCE,
        "Bytes of the files in which events are kept on disk.");
    SPOOL_DISK_MAX_BYTES = gauge("pontoon_spool_disk_max_bytes", OF_INSTANCE,
        "How many bytes of disk events may take (delivery.spool.size); 0 if they are in memory only.");
    SPOOL_SEGMENTS = gauge("pontoon_spool_segments", OF_INSTANCE, "Files in which events are kept on disk.");
    SPOOL_DAMAGED = counter("pontoon_spool_damaged_total", OF_INSTANCE,
        "Places at which the files of events were damaged, so that what was there is lost; a gap is published about each that was needed.");
    SPOOL_ERRORS = counter("pontoon_spool_errors_total", OF_INSTANCE,
        "Times that events could not be written to the disk, synced or read back.");

    COMMANDS = counter("pontoon_commands_total", &[INSTANCE, "type", "operation", "outcome"],
        "Commands, by the outcome that was replied.");
    COMMAND_DURATION = Metric { name: "pontoon_command_duration_seconds", kind: Kind::Histogram(DURATION),
        labels: &[INSTANCE, "type", "operation"], help: "From a command's arrival to the last word to its caller." };

    JOBS = counter("pontoon_jobs_total", BY_OUTCOME,
        "Jobs that have ended, by the outcome in their result; each is a command as well.");
    JOBS_IN_FLIGHT = gauge("pontoon_jobs_in_flight", OF_INSTANCE,
        "Jobs that are under way: handed to a link, or waiting for the confirmation of their result.");
    JOBS_WAITING = gauge("pontoon_jobs_waiting", OF_INSTANCE,
        "Jobs that wait for their turn or for a connection to the service; of those still in the stream, as many as at the last look.");
    REPLIES_DROPPED = counter("pontoon_replies_dropped_total", OF_INSTANCE,
        "Replies to refused commands that were dropped because too many waited for NATS; the commands are counted.");

    NATS_CONNECTED = gauge("pontoon_nats_connected", OF_INSTANCE,
        "1 while the instance is connected to NATS, else 0.");
    NATS_RECONNECTS = counter("pontoon_nats_reconnects_total", OF_INSTANCE,
        "Times that the connection to NATS was made again.");
    NATS_FENCED = gauge("pontoon_nats_fenced", OF_INSTANCE,
        "1 while another daemon writes to the stream of the instance, so that this one publishes nothing, else 0.");
    NATS_MESSAGES_DROPPED = counter("pontoon_nats_messages_dropped_total", OF_INSTANCE,
        "Messages from NATS that were dropped because they came faster than they were taken (slow consumer), such as commands; at least so many.");
    INSTANCE_RUNNING = gauge("pontoon_instance_running", OF_INSTANCE,
        "1 while the instance runs; 0 until it is started again.");
    INSTANCE_RESTARTS = counter("pontoon_instance_restarts_total", OF_INSTANCE,
        "Times that the instance ended unasked and was started again.");

    CLUSTER_MEMBERS = gauge("pontoon_cluster_members", &[],
        "Members of the cluster that this daemon knows to be alive, itself included; only with cluster.enabled, as the following.");
    CLUSTER_OWNED = gauge("pontoon_cluster_instances_owned", &[], "Instances whose lease this daemon has.");
    CLUSTER_UNOWNED = gauge("pontoon_cluster_instances_unowned", &[],
        "Instances of the configuration that no member is known to have.");
    CLUSTER_LEASE_AGE = gauge("pontoon_cluster_lease_age_seconds", &[],
        "How long ago the lease was renewed whose last renewal is the oldest; near cluster.ttl leases are lost. 0 without leases.");
    CLUSTER_TAKEOVERS = counter("pontoon_cluster_takeovers_total", &["reason"],
        "Instances that this daemon has taken: no other member was known to have it (free), one has given it up (released), or one has not renewed its lease (expired).");

    // By Prometheus' convention metrics that are the same for every program have no prefix.
    PROCESS_CPU = counter("process_cpu_seconds_total", &[], "Time on processors, in seconds.");
    PROCESS_MEMORY = gauge("process_resident_memory_bytes", &[], "Resident memory.");
    PROCESS_FDS = gauge("process_open_fds", &[], "Open file descriptors.");
    PROCESS_MAX_FDS = gauge("process_max_fds", &[], "How many file descriptors may be open.");
    PROCESS_THREADS = gauge("process_threads", &[], "Threads.");
    PROCESS_START = gauge("process_start_time_seconds", &[], "Start of the process, in seconds since 1970.");
}
