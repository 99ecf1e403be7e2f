#![doc = include_str!("../README.md")]

mod answers;
mod config;
mod decode;
mod dialect;
mod message_cache;
mod messages;
mod operations;
mod pending;
mod session;
mod subscriptions;
mod uuid;

use std::sync::Arc;

use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::{Connector, DeliveryLevel, LinkKey, LinkSpec, Object, Operation, Result, SocketIo};

use config::Setup;
use session::Server;

pub use config::{Config, Dialect, Room};
pub use operations::Request;
pub use session::ElizaOsSession;

/// An ElizaOS server.
pub struct ElizaOs {
    setup: Arc<Setup>,
    endpoint: Endpoint,
    server: Arc<Server>,
}

impl Connector for ElizaOs {
    const TYPE: &'static str = "elizaos";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = SocketIo;
    type Config = Config;
    type Request = Request;
    type Session = ElizaOsSession;

    fn new(config: Config) -> Result<Self> {
        let (setup, endpoint) = Setup::new(config)?;
        Ok(Self { setup: Arc::new(setup), endpoint, server: Arc::default() })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        operations::offers(operation.name, operation.delivery, self.setup.config.dialect)
    }

    /// With parts, the agent's answer is waited for, whatever the dialect acknowledges.
    fn streamed(&self, operation: &str) -> Option<DeliveryLevel> {
        matches!(operation, "message" | "message.send").then_some(DeliveryLevel::Response)
    }

    fn links(&self) -> Vec<LinkSpec<SocketIo>> {
        vec![LinkSpec::main(self.endpoint.clone())]
    }

    fn session(&self, _: &LinkKey) -> ElizaOsSession {
        ElizaOsSession::new(Arc::clone(&self.setup), Arc::clone(&self.server))
    }

    fn scope(&self, _: &str, _: Option<&str>, body: &Object<'_>) -> Option<String> {
        body.text("roomId").or_else(|| body.text("channel"))
    }
}

#[cfg(test)]
mod tests;
