#![doc = include_str!("../README.md")]

mod config;
mod decode;
mod operations;
mod session;

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Connector, LinkKey, LinkSpec, Object, Result, WebSocket};

pub use config::{Config, Correlation};
pub use operations::Request;
pub use session::Sub0Session;

/// A backend on Sub0.
pub struct Sub0 {
    config: Arc<Config>,
    endpoint: Endpoint,
}

impl Connector for Sub0 {
    const TYPE: &'static str = "sub0";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = Sub0Session;

    fn new(config: Config) -> Result<Self> {
        let endpoint = config.endpoint()?;
        Ok(Self { config: Arc::new(config), endpoint })
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        vec![LinkSpec::main(self.endpoint.clone())]
    }

    fn session(&self, _link: &LinkKey) -> Sub0Session {
        Sub0Session::new(Arc::clone(&self.config))
    }

    fn scope(&self, _: &str, resource: Option<&str>, _: &Object<'_>) -> Option<String> {
        resource.map(str::to_owned)
    }

    fn timeout(&self, _operation: &str) -> Option<Duration> {
        Some(self.config.call_timeout.0)
    }
}

#[cfg(test)]
mod tests;
