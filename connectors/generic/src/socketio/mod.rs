#![doc = include_str!("../../socketio/README.md")]

mod config;
mod operations;
mod session;

use std::marker::PhantomData;
use std::sync::Arc;

use pontoon_sdk::socketio::{Endpoint, Frame};
use pontoon_sdk::{
    Connector, DeliveryLevel, HttpRequest, LinkKey, LinkSpec, Operation, Result, SocketIo, Subjects,
    Transport,
};

use crate::mapping::Secrets;
use crate::opening::{Opening, has_names, names};
use crate::rules::Memory;
use crate::subscriptions::{SUBSCRIBE, UNSUBSCRIBE};
use operations::Request;

pub use config::{
    Arguments, Config, Emit, Engine, Heartbeat, Mapping, Reaction, Remember, Rules, Selector, Selectors,
    SendTemplate, Subscriptions,
};
pub use session::SocketioSession;

/// Any Socket.IO service, as its configuration describes it.
pub type Socketio = SocketioOver<SocketIo>;

/// The same, over connections that `T` makes.
pub struct SocketioOver<T> {
    config: Arc<Config>,
    rules: Arc<Rules>,
    /// What is remembered of events; it outlives connections.
    memory: Arc<Memory>,
    endpoint: Endpoint,
    transport: PhantomData<fn() -> T>,
}

impl<T: Transport<Frame = Frame, Endpoint = Endpoint>> Connector for SocketioOver<T> {
    const TYPE: &'static str = "socketio";
    const SAMPLE: &'static str = include_str!("../../socketio/config.toml");
    type Transport = T;
    type Config = Config;
    type Request = Request;
    type Session = SocketioSession;

    fn new(mut config: Config) -> Result<Self> {
        let rules = Arc::new(config.take_rules());
        let endpoint = config.endpoint(&rules)?;
        let (config, memory) = (Arc::new(config), Arc::default());
        Ok(Self { config, rules, memory, endpoint, transport: PhantomData })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        operations::allowed(operation.name, &self.config)?;
        let Config { send, subscriptions, .. } = &*self.config;
        let acknowledged = match operation.name {
            operations::SEND => send.as_ref().is_some_and(|send| send.acknowledged),
            SUBSCRIBE | UNSUBSCRIBE => subscriptions.as_ref().is_some_and(|settings| settings.acknowledged),
            _ => true,
        };
        Ok(if acknowledged { operation.delivery } else { DeliveryLevel::Sent })
    }

    fn links(&self) -> Vec<LinkSpec<T>> {
        vec![LinkSpec::main(self.endpoint.clone())]
    }

    fn restore(&self, _link: &LinkKey, memory: &[u8]) {
        self.memory.restore(memory);
    }

    fn request(&self, _link: &LinkKey) -> Result<Option<HttpRequest>> {
        if has_names(&self.config.url) {
            // Without its secrets the URL is not dialled.
            Secrets::reveal(&self.config.secrets)?;
        }
        Ok(None)
    }

    fn endpoint(&self, _link: &LinkKey, endpoint: &Endpoint) -> Option<Endpoint> {
        let Config { url, query, headers, secrets, .. } = &*self.config;
        let opening = Opening { secrets, memory: &self.memory };
        let masked = opening.masked(names(url, [query, headers]));
        let secrets = endpoint.secrets.iter().cloned().chain(masked).collect();
        let (url, query, headers) = (opening.url(url), opening.query(query), opening.headers(headers));
        Some(Endpoint { url, query, headers, secrets, ..endpoint.clone() })
    }

    fn refused(&self, _link: &LinkKey) {
        let Config { url, query, headers, .. } = &*self.config;
        names(url, [query, headers]).for_each(|name| self.memory.forget(name));
    }

    fn asks(&self) -> Subjects {
        self.rules.asks()
    }

    fn session(&self, _link: &LinkKey) -> SocketioSession {
        SocketioSession::new(Arc::clone(&self.config), Arc::clone(&self.rules), Arc::clone(&self.memory))
    }
}

#[cfg(test)]
mod tests;
