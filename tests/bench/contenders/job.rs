//! What a contender is to do: a JSON file that the harness writes.

use std::error::Error;

use serde::Deserialize;

/// Errors end a contender: the harness sees what is missing.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What is to be done.
#[derive(Deserialize)]
pub(crate) struct Job {
    /// `events`, `calls`, `calls-at-once` or `links`.
    pub(crate) task: String,
    /// The service: `ws://…`, `wss://…`, or `http://…` for Socket.IO.
    pub(crate) url: String,
    /// The certificate authority (PEM) of `wss://…`.
    pub(crate) ca_file: Option<String>,
    /// The NATS server.
    pub(crate) nats: String,
    /// Whether a stream confirms each event.
    pub(crate) jetstream: bool,
    /// The instance, as it is in ids.
    pub(crate) source: String,
    /// What subjects of events begin with, up to the channel; or the subject of calls.
    pub(crate) subject: String,
    /// The type of the events.
    pub(crate) ce_type: String,
    /// What the service calls its event.
    pub(crate) upstream: String,
    /// The headers that each event has, besides those that all have.
    pub(crate) headers: Vec<String>,
    /// How many events may wait for their confirmation.
    pub(crate) in_flight: usize,
    /// How many connections there are.
    pub(crate) links: usize,
}

impl Job {
    /// The job in the file that is the only argument.
    pub(crate) fn read() -> Result<Self> {
        let file = std::env::args().nth(1).ok_or("usage: <job.json>")?;
        Ok(serde_json::from_slice(&std::fs::read(file)?)?)
    }
}
