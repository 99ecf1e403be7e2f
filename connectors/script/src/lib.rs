#![doc = include_str!("../README.md")]

mod body;
mod codecs;
mod config;
mod engine;
mod event;
mod operations;
mod protocol;
mod script;
mod session;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

pub use config::{Config, Limits, Protocol, ScriptFile};
pub use operations::Request;
use pontoon_sdk::{
    Command, Connector, LinkKey, LinkSpec, Operation, Result, Route, SocketIo, Subjects, Transport, WebSocket,
};
use protocol::{Frames, Speaks};
use script::Script;
pub use session::ScriptSession;

/// The types of what scripts see, for editors.
pub const DECLARATIONS: &str = include_str!("../pontoon.d.ts");

/// A script to begin with, and its transcript.
pub const EXAMPLE: &str = include_str!("../feed.js");
/// See [`EXAMPLE`].
pub const EXAMPLE_TRANSCRIPT: &str = include_str!("../transcripts/feed.txt");

/// A script over WebSocket.
pub type WebsocketScript = ScriptOver<WebSocket>;
/// A script over Socket.IO.
pub type SocketioScript = ScriptOver<SocketIo>;

/// Any service, as a script describes it.
pub struct ScriptOver<T: Transport> {
    script: Arc<Script>,
    endpoint: T::Endpoint,
    transport: PhantomData<fn() -> T>,
}

impl<T> Connector for ScriptOver<T>
where
    T: Speaks,
    T::Frame: Frames,
{
    const TYPE: &'static str = "script";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = T;
    type Config = Config;
    type Request = Request;
    type Session = ScriptSession<T::Frame>;

    fn new(config: Config) -> Result<Self> {
        let endpoint = T::endpoint(&config)?;
        Ok(Self { script: Arc::new(Script::new(config)?), endpoint, transport: PhantomData })
    }

    fn operations(&self) -> Vec<Operation> {
        self.script.listings.iter().map(|listing| listing.operation.clone()).collect()
    }

    fn revision(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.script.source.text.hash(&mut hasher);
        hasher.finish()
    }

    fn links(&self) -> Vec<LinkSpec<T>> {
        vec![LinkSpec::main(self.endpoint.clone())]
    }

    fn route(&self, command: &Command, _: &Request) -> Result<Route<T>> {
        if let Some(listing) = self.script.listing(command.operation) {
            listing.check(command)?;
        }
        Ok(Route::To(LinkKey::main()))
    }

    fn asks(&self) -> Subjects {
        self.script.config.ask.clone()
    }

    fn session(&self, _: &LinkKey) -> ScriptSession<T::Frame> {
        ScriptSession::new(Arc::clone(&self.script))
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        self.script.listing(operation)?.timeout
    }
}

#[cfg(test)]
mod tests;
