#![doc = include_str!("../../websocket/README.md")]

mod calls;
mod commands;
mod config;
mod frames;
mod kinds;
mod session;

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::message::MessageSend;
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{
    Command, Connector, DeliveryLevel, LinkKey, LinkSpec, Operation, Result, Route, WebSocket,
};
use schemars::{Schema, json_schema};

use calls::Numbers;
pub use config::{Answer, Call, Config, Form, Heartbeat, SendTemplate};
pub use frames::{Frames, Mapping, Pointer};
pub use kinds::{Kinds, Which};
pub use session::WebsocketSession;

/// The one link of an instance.
const LINK: &str = "main";

/// Any WebSocket service, as its configuration describes it.
pub struct Websocket {
    config: Arc<Config>,
    endpoint: Endpoint,
    numbers: Arc<Numbers>,
}

impl Connector for Websocket {
    const TYPE: &'static str = "websocket";
    const SAMPLE: &'static str = include_str!("../../websocket/config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Session = WebsocketSession;

    fn new(config: Config) -> Result<Self> {
        let endpoint = config.endpoint()?;
        let form = config.call.as_ref().map(|call| call.form).unwrap_or_default();
        Ok(Self { config: Arc::new(config), endpoint, numbers: Arc::new(Numbers::new(form)) })
    }

    fn operations() -> Vec<Operation> {
        let sent = |name, summary, body| Operation {
            name,
            argument: None,
            summary,
            body,
            delivery: DeliveryLevel::Sent,
            idempotent: false,
        };
        let frame = || json_schema!({ "description": "The frame: any JSON, sent as it is" });
        vec![
            sent(commands::SEND, "Sends the body as a frame", frame()),
            sent(commands::SEND_TEXT, "Sends a text as it is", of_one("text", "The text")),
            sent(commands::SEND_BINARY, "Sends binary data", of_one("base64", "The data (RFC 4648 §4)")),
            Operation {
                delivery: DeliveryLevel::Response,
                ..sent(
                    commands::CALL,
                    "Sends the body with a number in it, and returns the answer, as the setting `call` describes",
                    json_schema!({
                        "description": "The frame, without the number",
                        "type": ["object", "array"]
                    }),
                )
            },
            Operation {
                delivery: DeliveryLevel::Acked,
                ..sent(
                    commands::MESSAGE,
                    "Sends a message, in the way that the setting `send` describes",
                    MessageSend::schema(),
                )
            },
        ]
    }

    fn instance_operations(&self) -> Vec<Operation> {
        let mut operations = Self::operations();
        operations.retain(|operation| commands::allowed(operation.name, &self.config).is_ok());
        for operation in &mut operations {
            if operation.name == commands::MESSAGE && !self.config.acknowledges_messages() {
                operation.delivery = DeliveryLevel::Sent;
            }
        }
        operations
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        vec![LinkSpec::new(LINK, self.endpoint.clone())]
    }

    fn route(&self, command: &Command) -> Result<Route<WebSocket>> {
        commands::allowed(command.operation, &self.config)?;
        Ok(Route::To(LinkKey::new(LINK)))
    }

    fn session(&self, _link: &LinkKey) -> WebsocketSession {
        WebsocketSession::new(Arc::clone(&self.config), Arc::clone(&self.numbers))
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        let waits = matches!(operation, commands::CALL | commands::MESSAGE);
        self.config.call.as_ref().filter(|_| waits).map(|call| call.timeout.0)
    }
}

/// The schema of a body with one text in it.
fn of_one(field: &str, description: &str) -> Schema {
    json_schema!({
        "type": "object",
        "properties": { field: { "description": description, "type": "string" } },
        "required": [field],
        "additionalProperties": false
    })
}

#[cfg(test)]
mod tests;
