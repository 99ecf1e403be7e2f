//! The settings, as plain types with their [`defaults`]. [`crate::config`] reads and checks them.

pub mod defaults;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use pontoon_sdk::rate::RateLimit;
use pontoon_sdk::{Secret, Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to reach NATS.
    pub nats: Nats,
    /// The form of events.
    pub events: Events,
    /// How events are kept until they are confirmed.
    pub delivery: Delivery,
    /// Limits on commands.
    pub commands: Commands,
    /// Commands that a stream keeps until each has a result.
    pub jobs: Jobs,
    /// Several daemons that share the instances.
    pub cluster: Cluster,
    /// The HTTP endpoint for probes and metrics.
    pub admin: Admin,
    /// Logs on stderr.
    pub log: Log,
    /// How the daemon stops.
    pub shutdown: Shutdown,
    /// One table for each use of a service; the table's name is the instance.
    pub connectors: BTreeMap<String, Instance>,
}

/// How to reach NATS.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// One address or a list of them.
    pub url: Urls,
    /// First token or tokens of every subject.
    pub prefix: String,
    /// User name, with `password`.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// Token.
    pub token: Option<Secret>,
    /// Seed of an nkey (`SU…`).
    pub nkey: Option<Secret>,
    /// A credentials file, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// Name of a NATS context, as the `nats` tool keeps it; settings here override what it holds.
    pub context: Option<String>,
    /// The JetStream domain of the streams, if it is not that of the server we connect to.
    pub jetstream_domain: Option<String>,
    /// What JetStream API subjects begin with, where an account imports them under other subjects than `$JS.API`.
    pub jetstream_api_prefix: Option<String>,
    /// Prefix of the inboxes for confirmations and replies: instance `a` uses `<inbox_prefix>.a` instead of `_INBOX_a`.
    pub inbox_prefix: Option<String>,
    /// A user JWT without a credentials file, as a context may hold it.
    #[serde(skip)]
    pub user_jwt: Option<Secret>,
    /// The seed of its nkey.
    #[serde(skip)]
    pub user_seed: Option<Secret>,
    /// TLS towards NATS.
    pub tls: NatsTls,
}

/// One address or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Urls {
    /// One.
    One(String),
    /// Several; they are tried in turn.
    Many(Vec<String>),
}

/// Certificates towards a service. Nothing here turns verification off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// A file of certificate authorities (PEM), trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (PEM), with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file` (PEM).
    pub key_file: Option<PathBuf>,
    /// Without effect: a connection to a `wss://` service always uses TLS.
    pub required: bool,
}

/// Certificates towards NATS. Nothing here turns verification off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NatsTls {
    /// A file of certificate authorities (PEM), trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (PEM), with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file` (PEM).
    pub key_file: Option<PathBuf>,
    /// Refuse a connection without TLS.
    pub required: bool,
    /// TLS before the server's first message, for a server that has `handshake_first` in its `tls` block.
    pub handshake_first: bool,
}

/// The form of events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// CloudEvents in headers, or as one JSON document.
    pub mode: EventMode,
    /// Whether the body carries the payload as it was received.
    pub raw: bool,
}

/// CloudEvents content mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventMode {
    /// Attributes in headers.
    Binary,
    /// Attributes and data in one JSON document.
    Structured,
}

/// How events are kept until they are confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// What confirms an event.
    pub mode: DeliveryMode,
    /// Whether a missing stream is created. One that exists is never changed.
    pub provision: bool,
    /// Whether we are the stream's only writer.
    pub ordering: Ordering,
    /// Whether events carry a `Nats-Msg-Id` in strict order, too, where it is not needed; in other modes they always do.
    pub message_id: bool,
    /// Name of the stream; `PONTOON_<INSTANCE>` if it is not set.
    pub stream: Option<String>,
    /// Replicas of a stream that we create.
    pub replicas: u8,
    /// How many bytes a stream that we create holds. JetStream reserves them; then the oldest events make room.
    pub max_bytes: Size,
    /// How long a stream that we create keeps an event.
    pub max_age: Span,
    /// How many events a stream that we create holds; without it, bytes and age alone bound it.
    pub max_messages: Option<usize>,
    /// How many bytes of unconfirmed events an instance keeps.
    pub buffer: Size,
    /// How many unconfirmed events it keeps.
    pub buffer_events: usize,
    /// How long a full buffer may keep us from reading the socket.
    pub max_pause: Span,
    /// What happens after that.
    pub overflow: Overflow,
    /// Where they are kept besides.
    pub spool: Spool,
}

/// Unconfirmed events on disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// A folder that the daemon may write; each instance has a folder in it. `$STATE_DIRECTORY` if it is not set; if that is
    /// not set either, events are in memory only.
    pub path: Option<PathBuf>,
    /// How many bytes of disk the events of an instance may take.
    pub size: Size,
    /// What they survive.
    pub durability: Durability,
}

/// What unconfirmed events survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// NATS that is away.
    Memory,
    /// The end of the process, too: they are written to the disk.
    Process,
    /// The end of the host, too: they are synced.
    Power,
}

impl Spool {
    /// The folder, if events are kept on disk.
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| self.durability != Durability::Memory)
    }
}

/// What confirms an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// The stream that stored it.
    Jetstream,
    /// The server that received it, without storing it.
    Core,
}

/// Whether the stream has other writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// It has none: the stream enforces order and uniqueness.
    Strict,
    /// It may have: order holds while nothing fails.
    BestEffort,
}

/// What happens to events while the buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// They are dropped and counted, and a gap event is published.
    DropNewest,
    /// The oldest that were not sent yet make room.
    DropOldest,
    /// The link is closed until there is room.
    Disconnect,
}

/// Limits on commands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Commands {
    /// The timeout of a command without `Pontoon-Timeout`, unless the connector sets another.
    pub timeout: Span,
    /// The longest timeout that a caller may set.
    pub max_timeout: Span,
    /// How many commands an instance may have in flight; one more is answered 429.
    pub max_in_flight: usize,
    /// The largest body.
    pub max_body: Size,
    /// How many values of `Idempotency-Key` an instance keeps; past that, commands with a new one are answered 429.
    pub idempotency_keys: usize,
    /// How many bytes the keys and the answers to their commands may take; past that likewise.
    pub idempotency_bytes: Size,
    /// How long a key is kept after its command was answered.
    pub idempotency_time: Span,
    /// Prefixes of subjects that replies may go to.
    pub reply_prefixes: Vec<String>,
}

/// Commands that a stream keeps until each has a result.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// Whether jobs are taken. They need JetStream, so with `delivery.mode = "core"` they are not.
    pub enabled: bool,
    /// Name of the stream that keeps the jobs of all instances: a work queue.
    pub stream: String,
    /// Name of the stream that keeps their results.
    pub results: String,
    /// How many bytes each of these streams holds, if we create it. JetStream reserves them. A full queue refuses more
    /// jobs; the oldest results make room.
    pub max_bytes: Size,
    /// How long each of them keeps a message, if we create it.
    pub max_age: Span,
    /// How many jobs of an instance may be under way at once.
    pub max_in_flight: usize,
    /// How long after it was stored a job without `Pontoon-Expires` may be sent.
    pub expires: Span,
}

/// Daemons with the same instances, of which each runs in one daemon at a time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Whether this daemon shares its instances with others.
    pub enabled: bool,
    /// How long a lease of an instance lasts if it is not renewed. The same in all daemons.
    pub ttl: Span,
    /// The name of this daemon, which no other one has; the name of the host if it is not set.
    pub name: Option<String>,
    /// How many instances it is to run, in proportion to other daemons. With 0 it runs none.
    pub weight: u32,
    /// What instances may ask for in `cluster.only`.
    pub labels: Vec<String>,
    /// How many instances it may hand over in a minute while both daemons are well.
    pub moves: u32,
    /// What happens while NATS cannot be reached, so that no lease can be renewed.
    pub on_nats_loss: OnNatsLoss,
}

/// What happens to the links of an instance while its lease cannot be renewed because NATS is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNatsLoss {
    /// They are closed before the lease ends, so that another daemon can take the instance.
    StepDown,
    /// They stay open, and events are kept. If another daemon reaches NATS, the service has two connections meanwhile.
    Hold,
}

/// Which daemons of a cluster may run an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// Only daemons with one of these labels (`cluster.labels`); all of them if it is empty.
    pub only: Vec<String>,
}

/// The HTTP endpoint for probes, metrics and the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether the endpoint is enabled.
    pub enabled: bool,
    /// Address and port; port 0 takes a free one and logs it.
    pub listen: String,
    /// Host names that requests may use, besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The bearer token of the page and of what it shows. Without it the page works at a loopback address only; probes,
    /// metrics and `/status` need none.
    #[serde(skip_serializing)]
    pub token: Option<Secret>,
    /// Whether the page can send commands, and operators can pause, resume and reload over NATS.
    pub commands: bool,
}

/// Logs on stderr.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or a filter as `tracing-subscriber` reads it (`info,pontoon=debug`).
    pub level: String,
    /// `auto` is text on a terminal and JSON elsewhere.
    pub format: LogFormat,
}

/// Form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the daemon stops.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long a drain may take.
    pub timeout: Span,
}

/// One configured use of a service: the daemon's keys, and the connector's settings.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Instance {
    /// Which connector.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What it shares with other instances.
    #[serde(default)]
    pub isolation: Isolation,
    /// How its connections are made.
    #[serde(default)]
    pub transport: Transport,
    /// Which daemons of a cluster may run it.
    #[serde(default)]
    pub cluster: Placement,
    /// Changes with the files that the settings name.
    #[serde(skip)]
    pub revision: u64,
    /// The connector's settings, checked by the connector.
    #[serde(flatten)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// What an instance shares with other instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A thread, and the connection to NATS for its events.
    #[default]
    Shared,
    /// Nothing.
    Own,
}

/// How an instance's connections are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Transport {
    /// Certificates.
    pub tls: Tls,
    /// The HTTP proxy that connections go through (`http://user:password@host:3128`), or `none`. Without it HTTPS_PROXY,
    /// HTTP_PROXY, ALL_PROXY and NO_PROXY of the environment decide.
    #[serde(skip_serializing)]
    pub proxy: Option<Secret>,
    /// The `User-Agent` of opening handshakes; `pontoon/<version>` if it is not set.
    pub user_agent: Option<String>,
    /// One deadline over name lookup, TCP, proxy, TLS and upgrade.
    pub connect_timeout: Span,
    /// How often we ping; a peer that is silent for twice as long is dead. A Socket.IO service sets its interval.
    pub ping_interval: Span,
    /// How long a write may take.
    pub write_timeout: Span,
    /// The largest message that is read. A larger one is discarded and leaves a gap; one of more than 64 times the limit
    /// closes the connection with 1009, and the link is dialled again slowly.
    pub message_limit: Size,
    /// How long the service may send no message before the link is redialled; pings and pongs of the protocol do not
    /// count. Without it only a peer that sends nothing at all is dead.
    pub max_silence: Option<Span>,
    /// Close codes by which the service refuses our credentials: the link is dialled again slowly.
    pub refused_codes: Vec<u16>,
    /// Close codes by which the service asks for fewer requests: the link is dialled again slowly.
    pub slow_codes: Vec<u16>,
    /// How many bytes may wait to be written.
    pub send_buffer: Size,
    /// How many messages are written in a time, of each connection; more wait in the buffer. Without it as many as there are.
    pub send_rate: Option<RateLimit>,
    /// How many links the instance may have.
    pub max_links: usize,
}

fn yes() -> bool {
    true
}

impl Nats {
    /// What the subjects of the JetStream API begin with, without the last dot.
    pub fn jetstream_api(&self) -> String {
        match (&self.jetstream_domain, &self.jetstream_api_prefix) {
            (Some(domain), _) => format!("$JS.{domain}.API"),
            (None, Some(prefix)) => prefix.trim_end_matches('.').to_owned(),
            (None, None) => "$JS.API".to_owned(),
        }
    }
}

impl NatsTls {
    /// The certificates alone.
    pub fn certificates(&self) -> Tls {
        let Self { ca_file, cert_file, key_file, required, .. } = self.clone();
        Tls { ca_file, cert_file, key_file, required }
    }
}

impl Jobs {
    /// Whether jobs are taken where events are delivered so.
    pub fn are_taken(&self, mode: DeliveryMode) -> bool {
        self.enabled && mode == DeliveryMode::Jetstream
    }
}

impl Urls {
    /// The addresses, in order.
    pub fn list(&self) -> Vec<&str> {
        match self {
            Self::One(url) => url.split(',').map(str::trim).collect(),
            Self::Many(urls) => urls.iter().map(String::as_str).collect(),
        }
    }
}

/// Shows no settings: a connector's secrets are among them.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, enabled, isolation, transport, cluster, revision: _, settings } = self;
        let keys: Vec<_> = settings.keys().collect();
        f.debug_struct("Instance")
            .field("type", kind)
            .field("enabled", enabled)
            .field("isolation", isolation)
            .field("transport", transport)
            .field("cluster", cluster)
            .field("settings", &keys)
            .finish()
    }
}
