#![doc = include_str!("../README.md")]

mod config;
mod decode;
mod operations;
mod session;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pontoon_sdk::rate::Bucket;
use pontoon_sdk::websocket::{Endpoint, Frame};
use pontoon_sdk::{Command, Connector, LinkKey, LinkSpec, OnDemandLimits, Outbox, Result, Route, WebSocket};

pub use config::{Auth, Config};
pub use operations::Request;
pub use session::AuiSession;

/// A network of agents on AUI.
pub struct Aui {
    shared: Arc<Shared>,
    endpoint: Endpoint,
}

/// What the sessions of an instance share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// The rate limit over all links.
    bucket: Option<Mutex<Bucket>>,
    /// Whether the service has accepted our key, and nothing has contradicted that since.
    pub(crate) key_accepted: AtomicBool,
}

impl Shared {
    /// Whether one more request may be sent now. If not, the session is woken when it may.
    pub(crate) fn may_send(&self, out: &mut Outbox<Frame>) -> bool {
        let token = self.bucket().map_or(Ok(()), |bucket| bucket.has_token(out.now()));
        token.map_err(|at| out.wake_at(at)).is_ok()
    }

    /// Counts a request, after [`Shared::may_send`].
    pub(crate) fn count_request(&self, now: Instant) {
        if let Some(mut bucket) = self.bucket() {
            let _ = bucket.take(now);
        }
    }

    fn bucket(&self) -> Option<MutexGuard<'_, Bucket>> {
        self.bucket.as_ref().map(|bucket| bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
        let shared = Shared { config, bucket, key_accepted: AtomicBool::new(false) };
        Ok(Self { shared: Arc::new(shared), endpoint })
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        Vec::new()
    }

    fn route(&self, _command: &Command, request: &Request) -> Result<Route<WebSocket>> {
        Ok(Route::OnDemand(LinkSpec::new(request.task()?, self.endpoint.clone())))
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
