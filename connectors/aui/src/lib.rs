#![doc = include_str!("../README.md")]

mod config;
mod decode;
mod operations;
mod session;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pontoon_sdk::rate::RateLimiter;
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Command, Connector, LinkKey, LinkSpec, Object, OnDemandLimits, Result, Route, WebSocket};

pub use config::{Auth, Config};
pub use operations::Request;
pub use session::AuiSession;
use session::Shared;

/// A network of agents on AUI.
pub struct Aui {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    /// One for all links.
    limiter: Option<RateLimiter>,
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
        let limiter = config.rate_limit.map(RateLimiter::new);
        let shared = Arc::new(Shared { config, key_accepted: AtomicBool::new(false) });
        Ok(Self { shared, endpoint, limiter })
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

    fn rate_limiter(&self, _link: &LinkKey) -> Option<RateLimiter> {
        self.limiter.clone()
    }

    fn scope(&self, _: &str, _: Option<&str>, body: &Object<'_>) -> Option<String> {
        body.text("task_id").or_else(|| body.text("channel"))
    }

    fn timeout(&self, _operation: &str) -> Option<Duration> {
        Some(self.shared.config.answer_timeout.0)
    }
}

#[cfg(test)]
mod tests;
