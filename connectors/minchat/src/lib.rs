#![doc = include_str!("../README.md")]

mod cache;
mod config;
mod decode;
mod emits;
mod frames;
mod operations;
mod session;

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::{Command, Connector, DeliveryLevel, LinkKey, LinkSpec, Operation, Result, Route, SocketIo};

use cache::Known;
use config::Place;
use operations::{Order, Request, Room};

pub use config::{Config, Links, User};
pub use session::MinChatSession;

/// How long an acknowledgement is waited for: the service's own clients wait without end.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(15);

/// A user of a MinChat project.
pub struct MinChat {
    config: Arc<Config>,
    endpoint: Endpoint,
    known: Arc<Known>,
}

impl MinChat {
    fn spec(&self, place: &Place) -> LinkSpec<SocketIo> {
        LinkSpec::new(place.key().as_str(), self.endpoint.clone())
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
        Ok(Self { config: Arc::new(config), endpoint, known: Arc::default() })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        // A link is opened or closed for it, and nothing is sent.
        let of_chats = matches!(operation.name, "room.join" | "room.leave");
        let per_chat = self.config.links == Links::PerChat;
        Ok(if of_chats && per_chat { DeliveryLevel::Accepted } else { operation.delivery })
    }

    fn links(&self) -> Vec<LinkSpec<SocketIo>> {
        if self.config.links == Links::Shared {
            return vec![self.spec(&Place::Shared)];
        }
        let chats = self.config.chats.iter().cloned().map(Place::Chat);
        std::iter::once(Place::User).chain(chats).map(|place| self.spec(&place)).collect()
    }

    fn route(&self, _: &Command, request: &Request) -> Result<Route<SocketIo>> {
        let Request { order, chat } = request;
        if self.config.links == Links::Shared {
            return Ok(Route::To(Place::Shared.key()));
        }
        Ok(match order {
            Order::Enter { room: Room::Chat(chat), join: true } => {
                Route::Open(self.spec(&Place::Chat(chat.clone())))
            }
            Order::Enter { room: Room::Chat(chat), join: false } => {
                Route::Close(Place::Chat(chat.clone()).key())
            }
            _ => Route::To(chat.clone().map_or(Place::User, Place::Chat).key()),
        })
    }

    fn session(&self, link: &LinkKey) -> MinChatSession {
        let place = Place::of(link, self.config.links);
        MinChatSession::new(Arc::clone(&self.config), Arc::clone(&self.known), place)
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        matches!(operation, "message" | "message.send" | "message.update").then_some(ACKNOWLEDGEMENT)
    }
}

#[cfg(test)]
mod tests;
