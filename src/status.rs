//! What is known of an instance right now: one value for the state subject, `/status`, readiness and gauges.

use std::collections::BTreeMap;

use pontoon_sdk::{Joined, LinkKey};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// Where one link is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Dialling, or authenticating.
    Connecting,
    /// The session is ready; commands flow.
    Ready,
    /// It ended or could not be dialled; it is tried again soon.
    Waiting,
    /// The service refused our credentials; it is tried again slowly, and the operator must act.
    CredentialsRefused,
    /// The address answers, but not as this service would; it is tried again, and the operator must act.
    WrongAddress,
    /// An operator has paused the instance.
    Paused,
}

impl Phase {
    /// Those of a link that has failed.
    pub const DOWN: [Self; 3] = [Self::Waiting, Self::CredentialsRefused, Self::WrongAddress];

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::CredentialsRefused => "credentials_refused",
            Self::WrongAddress => "wrong_address",
            Self::Paused => "paused",
        }
    }
}

/// One link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkStatus {
    /// Its name within the instance.
    pub key: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Why, where there is a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it is tried again.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<OffsetDateTime>,
    /// The last error of the link or that its service raised; it stays when the link is ready again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What callers have joined or subscribed to, which comes back on each connection.
    #[serde(skip_serializing_if = "Joined::is_empty")]
    pub joined: Joined,
    /// Whether it has failed since it was last ready, also while it is dialled again.
    #[serde(skip)]
    pub is_down: bool,
}

/// An error that is over, or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LastError {
    /// When it occurred.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What it was.
    pub text: String,
}

/// What was counted since the instance started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Frames read from the service.
    pub frames_received: u64,
    /// Frames written to the service.
    pub frames_sent: u64,
    /// Events that NATS confirmed.
    pub events_published: u64,
    /// Events that are lost.
    pub events_dropped: u64,
    /// Commands that have ended.
    pub commands: u64,
    /// Errors that the service has raised.
    pub service_errors: u64,
}

/// How many a second there were in the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Rates {
    /// Frames read from the service.
    pub frames_received: f64,
    /// Events that NATS confirmed.
    pub events_published: f64,
    /// Commands that have ended.
    pub commands: f64,
}

/// The bus, as this instance sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct BusStatus {
    /// Whether the server answers.
    pub connected: bool,
    /// Whether events are being confirmed; `false` with a reason in `detail` while, for example, the stream is missing.
    pub publishing: bool,
    /// Whether another daemon writes to the stream: until it stops, events are kept and not published.
    pub fenced: bool,
    /// Messages of other clients in a stream that should have one writer.
    #[serde(skip_serializing_if = "is_zero")]
    pub foreign_messages: u64,
    /// Events that stand in the stream behind newer ones because of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub reordered_events: u64,
    /// What the operator should know or do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Commands, as this instance takes them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandStatus {
    /// Whether NATS has processed the subscription to them since the instance started.
    pub subscribed: bool,
    /// How many messages from NATS, commands before all, were dropped because they came faster than they were taken; at
    /// least, as not every notice of that reaches us.
    pub dropped: u64,
    /// Why commands do not come in, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Jobs, as this instance takes them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct JobStatus {
    /// Whether they are taken.
    pub taken: bool,
    /// How many are under way: handed to a link, or waiting for the confirmation of their result.
    pub in_flight: u64,
    /// How many wait for their turn or for a connection; of those that are still in the stream, as many as at the last look.
    pub waiting: u64,
    /// Why they are not taken, where they should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Links, by key; in JSON a list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Links(pub BTreeMap<LinkKey, LinkStatus>);

impl Serialize for Links {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values())
    }
}

impl Links {
    /// Puts changes in force; `None` is a link that is closed.
    pub fn apply(&mut self, changes: &LinkChanges) {
        for (key, change) in changes {
            match change {
                Some(link) => self.0.insert(key.clone(), link.clone()),
                None => self.0.remove(key),
            };
        }
    }
}

/// The links that changed, by key: `None` for one that is closed.
pub type LinkChanges = BTreeMap<LinkKey, Option<LinkStatus>>;

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceStatus<L = Links> {
    /// Its name.
    pub instance: String,
    /// Its connector.
    #[serde(rename = "type")]
    pub kind: String,
    /// This start of it.
    pub epoch: u64,
    /// The bus.
    pub bus: BusStatus,
    /// Commands.
    pub commands: CommandStatus,
    /// Jobs.
    pub jobs: JobStatus,
    /// Its links.
    pub links: L,
    /// Events that wait to be confirmed.
    pub unconfirmed_events: u64,
    /// Their bytes.
    pub unconfirmed_bytes: u64,
    /// Whether there is room for more.
    pub room: bool,
    /// What was counted since the instance started.
    pub counts: Counts,
    /// How many a second.
    pub rates: Rates,
    /// Where they are kept.
    pub spool: SpoolStatus,
}

/// Where unconfirmed events are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SpoolStatus {
    /// Whether they are on disk, so that they outlive the daemon.
    pub on_disk: bool,
    /// How many of them are not written yet.
    pub unwritten_events: u64,
    /// Why they are not, if the disk cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl<L> InstanceStatus<L> {
    /// The same with other links.
    pub fn with_links<M>(&self, links: M) -> InstanceStatus<M> {
        InstanceStatus {
            instance: self.instance.clone(),
            kind: self.kind.clone(),
            epoch: self.epoch,
            bus: self.bus.clone(),
            commands: self.commands.clone(),
            jobs: self.jobs.clone(),
            links,
            unconfirmed_events: self.unconfirmed_events,
            unconfirmed_bytes: self.unconfirmed_bytes,
            room: self.room,
            counts: self.counts,
            rates: self.rates,
            spool: self.spool.clone(),
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
