#![doc = include_str!("../README.md")]

mod answers;
mod config;
mod decode;
mod dialect;
mod documented;
mod events;
mod frames;
mod message_cache;
mod operations;
mod pending;
mod session;
mod subscriptions;

use std::sync::Arc;

use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::{Command, Connector, DeliveryLevel, LinkKey, LinkSpec, Operation, Result, Route, SocketIo};

use config::Setup;
use message_cache::Known;
use operations::Order;

pub use config::{Config, Dialect, Room};
pub use session::ElizaOsSession;

/// The one link of an instance.
const LINK: &str = "main";

/// An ElizaOS server.
pub struct ElizaOs {
    setup: Arc<Setup>,
    endpoint: Endpoint,
    known: Arc<Known>,
}

impl Connector for ElizaOs {
    const TYPE: &'static str = "elizaos";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = SocketIo;
    type Config = Config;
    type Request = Order;
    type Session = ElizaOsSession;

    fn new(config: Config) -> Result<Self> {
        let (setup, endpoint) = Setup::new(config)?;
        Ok(Self { setup: Arc::new(setup), endpoint, known: Arc::default() })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        operations::offers(operation, self.setup.config.dialect)
    }

    /// With parts, the agent's answer is waited for, whatever the dialect acknowledges.
    fn streamed(&self, operation: &str) -> Option<DeliveryLevel> {
        matches!(operation, "message" | "message.send").then_some(DeliveryLevel::Response)
    }

    fn links(&self) -> Vec<LinkSpec<SocketIo>> {
        vec![LinkSpec::new(LINK, self.endpoint.clone())]
    }

    fn route(&self, _: &Command, _: &Order) -> Result<Route<SocketIo>> {
        Ok(Route::To(LinkKey::new(LINK)))
    }

    fn session(&self, _link: &LinkKey) -> ElizaOsSession {
        ElizaOsSession::new(Arc::clone(&self.setup), Arc::clone(&self.known))
    }
}

#[cfg(test)]
mod tests;
