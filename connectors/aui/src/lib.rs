#![doc = include_str!("../README.md")]

mod config;
mod decode;
mod operations;
mod session;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::rate::Bucket;
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Command, Connector, LinkKey, LinkSpec, OnDemandLimits, Result, Route, WebSocket};

pub use config::{Auth, Config, TextMode};
pub use session::AuiSession;

use crate::operations::Request;

/// A network of agents on AUI.
pub struct Aui {
    shared: Arc<Shared>,
    endpoint: Endpoint,
}

/// What the sessions of an instance share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// What all links together may send.
    bucket: Option<Mutex<Bucket>>,
    /// Whether the service has taken our key, and nothing has spoken against it since.
    pub(crate) proven: AtomicBool,
}

impl Shared {
    /// Takes a token for a request, or says when there is one.
    pub(crate) fn take_token(&self, now: Instant) -> Result<(), Instant> {
        self.bucket.as_ref().map_or(Ok(()), |bucket| lock(bucket).take(now))
    }

    /// Puts a token back that was not used.
    pub(crate) fn give_back_token(&self) {
        if let Some(bucket) = &self.bucket {
            lock(bucket).give_back();
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connector for Aui {
    const TYPE: &'static str = "aui";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = AuiSession;

    fn new(config: Config) -> Result<Self> {
        let endpoint = config.endpoint()?;
        let bucket = config.rate_limit.map(|limit| Mutex::new(Bucket::new(limit)));
        let shared = Shared { config, bucket, proven: AtomicBool::new(false) };
        Ok(Self { shared: Arc::new(shared), endpoint })
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        Vec::new()
    }

    fn route(&self, _: &Command, request: &Request) -> Result<Route<WebSocket>> {
        Ok(Route::OnDemand(LinkSpec::new(&request.task, self.endpoint.clone())))
    }

    fn session(&self, link: &LinkKey) -> AuiSession {
        AuiSession::new(Arc::clone(&self.shared), link.as_str())
    }

    fn on_demand_limits(&self) -> OnDemandLimits {
        self.shared.config.on_demand_limits()
    }

    fn timeout(&self, _operation: &str) -> Option<Duration> {
        Some(self.shared.config.answer_timeout.0)
    }
}

#[cfg(test)]
mod tests;
