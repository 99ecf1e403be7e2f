#![doc = include_str!("../README.md")]

mod config;
mod decode;
mod operations;
mod session;

use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Connector, LinkKey, LinkSpec, Result, WebSocket};

pub use config::Config;
pub use operations::Request;
pub use session::BoardSession;

/// A notice board.
pub struct Board {
    endpoint: Endpoint,
}

impl Connector for Board {
    const TYPE: &'static str = "board";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = BoardSession;

    fn new(config: Config) -> Result<Self> {
        Ok(Self { endpoint: config.endpoint()? })
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        vec![LinkSpec::main(self.endpoint.clone())]
    }

    fn session(&self, _: &LinkKey) -> BoardSession {
        BoardSession::new()
    }
}

#[cfg(test)]
mod tests;
