#![doc = include_str!("../README.md")]

mod cache;
mod config;
mod decode;
mod operations;
mod session;

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::{
    Command, Connector, DeliveryLevel, LinkKey, LinkSpec, Object, Operation, Result, Route, SocketIo,
};

use cache::MessageCache;
use config::LinkKind;
use operations::Request;

pub use config::{Config, Id, Links, User};
pub use session::MinChatSession;

/// How long an acknowledgement is awaited. The service's own clients wait without end.
const ACK_TIMEOUT: Duration = Duration::from_secs(15);

/// A user of a MinChat project.
pub struct MinChat {
    config: Arc<Config>,
    endpoint: Endpoint,
    cache: Arc<MessageCache>,
}

impl MinChat {
    fn spec(&self, link: &LinkKind) -> LinkSpec<SocketIo> {
        LinkSpec::new(link.key().as_str(), self.endpoint.clone())
    }
}

impl Connector for MinChat {
    const TYPE: &'static str = "minchat";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = SocketIo;
    type Config = Config;
    type Request = Request;
    type Session = MinChatSession;

    fn new(config: Config) -> Result<Self> {
        let endpoint = config.endpoint()?;
        Ok(Self { config: Arc::new(config), endpoint, cache: Arc::default() })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        // With a link per chat, one is opened or closed, and nothing is sent.
        let opens_link = matches!(operation.name, "room.join" | "room.leave");
        Ok(match self.config.links {
            Links::PerChat if opens_link => DeliveryLevel::Accepted,
            Links::PerChat | Links::Shared => operation.delivery,
        })
    }

    fn links(&self) -> Vec<LinkSpec<SocketIo>> {
        if self.config.links == Links::Shared {
            return vec![self.spec(&LinkKind::Shared)];
        }
        let chats = self.config.chats.iter().cloned().map(LinkKind::Chat);
        std::iter::once(LinkKind::User).chain(chats).map(|link| self.spec(&link)).collect()
    }

    fn route(&self, _: &Command, request: &Request) -> Result<Route<SocketIo>> {
        request.check()?;
        if self.config.links == Links::Shared {
            return Ok(Route::To(LinkKind::Shared.key()));
        }
        let link = request.chat().cloned().map_or(LinkKind::User, LinkKind::Chat);
        Ok(match request {
            Request::JoinChat(_) => Route::Open(self.spec(&link)),
            Request::LeaveChat(_) => Route::Close(link.key()),
            _ => Route::To(link.key()),
        })
    }

    fn session(&self, link: &LinkKey) -> MinChatSession {
        let link = LinkKind::of(link, self.config.links);
        MinChatSession::new(Arc::clone(&self.config), Arc::clone(&self.cache), link)
    }

    fn scope(&self, _: &str, _: Option<&str>, body: &Object<'_>) -> Option<String> {
        ["channel", "chat_id", "channelId"].iter().find_map(|name| body.text(name))
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        matches!(operation, "message" | "message.send" | "message.update").then_some(ACK_TIMEOUT)
    }
}

#[cfg(test)]
mod tests;
