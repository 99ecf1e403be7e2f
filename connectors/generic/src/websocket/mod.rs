#![doc = include_str!("../../websocket/README.md")]

mod check;
mod config;
mod content;
mod decode;
mod ids;
mod operations;
mod selector;
mod session;

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Connector, DeliveryLevel, LinkKey, LinkSpec, Operation, Result, WebSocket};

pub use config::{Answer, Call, Config, Form, Heartbeat, SendTemplate};
pub use content::{Frames, Mapping, Pointer};
use ids::RequestIds;
use operations::Request;
pub use selector::{Discriminator, Selector};
pub use session::WebsocketSession;

/// Any WebSocket service, as its configuration describes it.
pub struct Websocket {
    config: Arc<Config>,
    endpoint: Endpoint,
    ids: Arc<RequestIds>,
}

impl Connector for Websocket {
    const TYPE: &'static str = "websocket";
    const SAMPLE: &'static str = include_str!("../../websocket/config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = WebsocketSession;

    fn new(config: Config) -> Result<Self> {
        let endpoint = config.endpoint()?;
        let form = config.call.as_ref().map(|call| call.form).unwrap_or_default();
        Ok(Self { config: Arc::new(config), endpoint, ids: Arc::new(RequestIds::new(form)) })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        operations::allowed(operation.name, &self.config)?;
        let is_message = operation.name == operations::MESSAGE;
        let acknowledged = !is_message || self.config.acknowledges_messages();
        Ok(if acknowledged { operation.delivery } else { DeliveryLevel::Sent })
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        vec![LinkSpec::main(self.endpoint.clone())]
    }

    fn session(&self, _link: &LinkKey) -> WebsocketSession {
        WebsocketSession::new(Arc::clone(&self.config), Arc::clone(&self.ids))
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        let waits = matches!(operation, operations::CALL | operations::MESSAGE);
        self.config.call.as_ref().filter(|_| waits).map(|call| call.timeout.0)
    }
}

#[cfg(test)]
mod tests;
