#![doc = include_str!("../README.md")]

mod authorize;
mod config;
mod operations;
mod peer;
mod plain;
mod session;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use pontoon_sdk::listener::{Accept, Handshake, Listener};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Command, Connector, DeliveryLevel, Event, EventType, LinkKey, LinkSpec, LinkState, Operation, Result,
    Route, WebSocket,
};

pub use config::{Config, Dynamic, Listen, Socket, Tls};
pub use session::AvatarsSession;

use crate::config::Checked;
use crate::operations::Order;
use crate::peer::Place;

/// How long the caller of `create` waits who names no time of its own.
const CREATE: Duration = Duration::from_secs(25);

/// The sockets of an app, and the scripts in it.
pub struct StreamAvatars {
    config: Arc<Checked>,
}

impl Connector for StreamAvatars {
    const TYPE: &'static str = "streamavatars";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Request = Order;
    type Session = AvatarsSession;

    fn new(config: Config) -> Result<Self> {
        Ok(Self { config: Arc::new(Checked::new(config)?) })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        self.config.allows(operation.name)?;
        Ok(operation.delivery)
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        let socket = |(title, endpoint): (&String, &_)| {
            LinkSpec::new(
                Place::Socket(title.clone()).key().as_str(),
                pontoon_sdk::websocket::Endpoint::clone(endpoint),
            )
        };
        self.config.sockets.iter().map(socket).collect()
    }

    fn route(&self, _: &Command, request: &Order) -> Result<Route<WebSocket>> {
        Ok(match request {
            Order::Create { title, url, protocols, reconnect } => {
                let endpoint = self.config.created(title, url, protocols.clone())?;
                let spec = LinkSpec::new(Place::Socket(title.clone()).key().as_str(), endpoint);
                let spec = if *reconnect { spec } else { spec.once() };
                Route::Create { spec, most: self.config.dynamic.max }
            }
            Order::Remove { title } => {
                self.config.not_configured(title)?;
                Route::Close(Place::Socket(title.clone()).key())
            }
            Order::List => Route::Local(Box::new(|links: &[LinkState]| peer::list(links))),
            Order::Say { place, text } => {
                if let Place::Script(_) = place {
                    self.config.fits_a_script(text)?;
                }
                Route::To(place.key())
            }
        })
    }

    fn session(&self, link: &LinkKey) -> AvatarsSession {
        AvatarsSession::new(Place::of(link), &self.config)
    }

    fn on_dial_error(&self, link: &LinkKey, reason: &str) -> Option<Event> {
        Some(session::event(EventType::SocketFailed, &Place::of(link), reason))
    }

    /// Longer than a connection may take to be made, so that whoever creates a socket hears how that went.
    fn timeout(&self, operation: &str) -> Option<Duration> {
        (operation == "create").then_some(CREATE)
    }

    fn listener(&self) -> Option<Listener> {
        self.config.listener()
    }

    fn authorize(&self, handshake: &Handshake<'_, Frame>) -> Result<Accept> {
        authorize::authorize(handshake, self.config.listen.as_ref())
    }
}

#[cfg(test)]
mod tests;
