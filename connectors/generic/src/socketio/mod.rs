#![doc = include_str!("../../socketio/README.md")]

mod commands;
mod config;
mod mapping;
mod session;
mod values;

use std::sync::Arc;

use pontoon_sdk::message::MessageSend;
use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::{Command, Connector, DeliveryLevel, LinkKey, LinkSpec, Operation, Result, Route, SocketIo};
use schemars::json_schema;

pub use config::{Config, Emit, Engine, SendTemplate};
pub use mapping::{Arguments, Mapping};
pub use session::SocketioSession;
pub use values::AuthField;

/// The one link of an instance.
const LINK: &str = "main";

/// Any Socket.IO service, as its configuration describes it.
pub struct Socketio {
    config: Arc<Config>,
    endpoint: Endpoint,
}

impl Connector for Socketio {
    const TYPE: &'static str = "socketio";
    const SAMPLE: &'static str = include_str!("../../socketio/config.toml");
    type Transport = SocketIo;
    type Config = Config;
    type Session = SocketioSession;

    fn new(config: Config) -> Result<Self> {
        let endpoint = config.endpoint()?;
        Ok(Self { config: Arc::new(config), endpoint })
    }

    fn operations() -> Vec<Operation> {
        let exact = "Without a name in the subject: {\"event\": \"…\", \"args\": [ … ], \"attachments\": [\"<base64>\", \
                     …]}. With one: a list is the arguments, anything else the one argument";
        let emitted = |name, summary, delivery| Operation {
            name,
            argument: Some("event"),
            summary,
            body: json_schema!({ "description": exact }),
            delivery,
            idempotent: false,
        };
        vec![
            emitted(commands::EMIT, "Sends an event", DeliveryLevel::Sent),
            emitted(
                commands::CALL,
                "Sends an event, and returns its acknowledgement",
                DeliveryLevel::Response,
            ),
            Operation {
                name: commands::SEND,
                argument: None,
                summary: "Sends a message, in the way that the setting `send` describes",
                body: MessageSend::schema(),
                delivery: DeliveryLevel::Acked,
                idempotent: false,
            },
        ]
    }

    fn instance_operations(&self) -> Vec<Operation> {
        let acknowledged = self.config.send.as_ref().is_some_and(|send| send.acknowledged);
        let mut operations = Self::operations();
        operations.retain(|operation| commands::allowed(operation.name, None, &self.config).is_ok());
        for operation in &mut operations {
            if operation.name == commands::SEND && !acknowledged {
                operation.delivery = DeliveryLevel::Sent;
            }
        }
        operations
    }

    fn links(&self) -> Vec<LinkSpec<SocketIo>> {
        vec![LinkSpec::new(LINK, self.endpoint.clone())]
    }

    fn route(&self, command: &Command) -> Result<Route<SocketIo>> {
        commands::allowed(command.operation, command.argument.as_deref(), &self.config)?;
        Ok(Route::To(LinkKey::new(LINK)))
    }

    fn session(&self, _link: &LinkKey) -> SocketioSession {
        SocketioSession::new(Arc::clone(&self.config))
    }
}

#[cfg(test)]
mod tests;
