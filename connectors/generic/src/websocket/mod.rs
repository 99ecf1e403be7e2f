#![doc = include_str!("../../websocket/README.md")]

mod address;
mod check;
mod config;
mod content;
mod decode;
mod discriminator;
mod ids;
mod operations;
mod session;
mod split;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::connector::AllowList;
use pontoon_sdk::websocket::{Endpoint, Frame};
use pontoon_sdk::{
    Connector, DeliveryLevel, Event, HttpRequest, LinkKey, LinkSpec, Operation, Result, Subjects, WebSocket,
};

use crate::mapping::Secrets;
use crate::opening::{Opening, has_names, names};
use crate::rules::Memory;
use crate::subscriptions::{SUBSCRIBE, UNSUBSCRIBE};
pub use address::{AddressFrom, BeforeConnect};
pub use config::{
    Call, Config, Form, Heartbeat, Reaction, Remember, Rules, Selector, Selectors, SendTemplate,
    Subscriptions,
};
pub use content::{Frames, Mapping, Pointer};
pub use discriminator::Discriminator;
use ids::RequestIds;
use operations::Request;
pub use session::WebsocketSession;
pub use split::Split;

/// Any WebSocket service, as its configuration describes it.
pub struct Websocket {
    config: Arc<Config>,
    rules: Arc<Rules>,
    /// What is remembered of frames; it outlives connections.
    memory: Arc<Memory>,
    endpoint: Endpoint,
    /// Where an address of the service may lead.
    allow_list: Option<AllowList>,
    ids: Arc<RequestIds>,
}

impl Connector for Websocket {
    const TYPE: &'static str = "websocket";
    const SAMPLE: &'static str = include_str!("../../websocket/config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = WebsocketSession;

    fn new(mut config: Config) -> Result<Self> {
        let rules = Arc::new(config.take_rules());
        let endpoint = config.endpoint(&rules)?;
        let allow_list = config.address.as_ref().map(AddressFrom::allow_list);
        let form = config.call.as_ref().map(|call| call.form).unwrap_or_default();
        let (config, memory, ids) = (Arc::new(config), Arc::default(), Arc::new(RequestIds::new(form)));
        Ok(Self { config, rules, memory, endpoint, allow_list, ids })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        operations::allowed(operation.name, &self.config)?;
        let subscriptions = self.config.subscriptions.as_ref().is_some_and(|settings| settings.acknowledged);
        let acknowledged = match operation.name {
            operations::MESSAGE => self.config.acknowledges_messages(),
            SUBSCRIBE | UNSUBSCRIBE => subscriptions,
            _ => true,
        };
        Ok(if acknowledged { operation.delivery } else { DeliveryLevel::Sent })
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        vec![LinkSpec::main(self.endpoint.clone())]
    }

    fn restore(&self, _link: &LinkKey, memory: &[u8]) {
        self.memory.restore(memory);
    }

    fn session(&self, _link: &LinkKey) -> WebsocketSession {
        let (config, rules) = (Arc::clone(&self.config), Arc::clone(&self.rules));
        WebsocketSession::new(config, rules, Arc::clone(&self.memory), Arc::clone(&self.ids))
    }

    fn asks(&self) -> Subjects {
        self.rules.asks()
    }

    fn allow_list(&self) -> Option<&AllowList> {
        self.allow_list.as_ref()
    }

    fn request(&self, _link: &LinkKey) -> Result<Option<HttpRequest>> {
        if has_names(&self.config.url) {
            // Without its secrets the URL is not dialled.
            Secrets::reveal(&self.config.secrets)?;
        }
        self.config.before_connect.as_ref().map(|before| before.request(self.opening())).transpose()
    }

    fn answered(&self, _link: &LinkKey, body: &[u8]) -> Result<()> {
        let Some(before) = &self.config.before_connect else { return Ok(()) };
        before.answered(body, &Secrets::reveal(&self.config.secrets)?, &self.memory)
    }

    fn endpoint(&self, _link: &LinkKey, endpoint: &Endpoint) -> Option<Endpoint> {
        let (config, opening) = (&*self.config, self.opening());
        let masked = opening.masked(names(&config.url, [&config.query, &config.headers]));
        let filled = Endpoint {
            secrets: endpoint.secrets.iter().cloned().chain(masked).collect(),
            url: opening.url(&config.url),
            query: opening.query(&config.query),
            headers: opening.headers(&config.headers),
            ..endpoint.clone()
        };
        let moved = config.address.as_ref().and_then(|address| address.endpoint(&filled, &self.memory));
        Some(moved.unwrap_or(filled))
    }

    fn refused(&self, _link: &LinkKey) {
        let Config { url, query, headers, before_connect, .. } = &*self.config;
        let before = before_connect.iter().flat_map(|before| before.names());
        names(url, [query, headers]).chain(before).for_each(|name| self.memory.forget(name));
    }

    fn on_dial_error(&self, _link: &LinkKey, _reason: &str) -> Option<Event> {
        // An address that cannot be dialled is not tried again: the usual one counts then.
        if let Some(address) = &self.config.address {
            self.memory.forget(&address.from);
        }
        None
    }

    fn notes(&self, frame: &Frame) -> Vec<String> {
        decode::notes(frame, &self.config)
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        let waits = matches!(operation, operations::CALL | operations::MESSAGE | SUBSCRIBE | UNSUBSCRIBE);
        self.config.call.as_ref().filter(|_| waits).map(|call| call.timeout.0)
    }
}

impl Websocket {
    /// What names stand for when a connection is opened.
    fn opening(&self) -> Opening<'_> {
        Opening { secrets: &self.config.secrets, memory: &self.memory }
    }
}

#[cfg(test)]
mod tests;
