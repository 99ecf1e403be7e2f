#![doc = include_str!("../README.md")]

mod authorize;
mod config;
mod decode;
mod operations;
mod peer;
mod session;

use std::time::Duration;

use pontoon_sdk::connector::AllowList;
use pontoon_sdk::listener::{Accept, Handshake, Listener};
use pontoon_sdk::rate::RateLimiter;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Command, Connector, DeliveryLevel, Event, EventType, LinkKey, LinkSpec, Object, Operation, Result, Route,
    WebSocket,
};

pub use config::{Config, Dynamic, Listen, Socket};
pub use session::AvatarsSession;

use crate::config::Checked;
use crate::operations::{Request, check_protocols};
use crate::peer::Peer;

/// How long `create` may take where its caller names no time.
const CREATE_TIMEOUT: Duration = Duration::from_secs(25);

/// The sockets of an app, and the scripts in it.
pub struct StreamAvatars {
    config: Checked,
}

impl StreamAvatars {
    fn send(&self, peer: &Peer, text: &str) -> Result<Route<WebSocket>> {
        if peer.is_script() {
            self.config.check_frame(text)?;
        }
        Ok(Route::To(peer.key()))
    }
}

impl Connector for StreamAvatars {
    const TYPE: &'static str = "streamavatars";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = AvatarsSession;

    fn new(config: Config) -> Result<Self> {
        Ok(Self { config: Checked::new(config)? })
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        self.config.allows(operation.name).map(|()| operation.delivery)
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        let sockets = self.config.sockets.iter();
        sockets.map(|(title, endpoint)| LinkSpec::new(title.as_str(), endpoint.clone())).collect()
    }

    fn route(&self, _: &Command, request: &Request) -> Result<Route<WebSocket>> {
        Ok(match request {
            Request::Create(create) => {
                check_protocols(&create.protocols)?;
                let endpoint = self.config.created(create)?;
                let spec = LinkSpec::new(create.title.as_str(), endpoint);
                let spec = if create.reconnect { spec } else { spec.once() };
                Route::Create { spec, most: self.config.max_dynamic }
            }
            Request::Remove(remove) => {
                self.config.not_configured(&remove.title)?;
                Route::Close(Peer::Socket(remove.title.clone()).key())
            }
            Request::List => Route::Local(peer::list),
            Request::Send(body) => self.send(&Peer::Socket(body.title.clone()), &body.message)?,
            Request::ScriptSend(body) => self.send(&Peer::Script(body.title.clone()), &body.message.0)?,
            Request::MessageSend(body) => self.send(&body.peer, &body.text)?,
        })
    }

    fn allow_list(&self) -> Option<&AllowList> {
        Some(&self.config.allow_list)
    }

    fn session(&self, link: &LinkKey) -> AvatarsSession {
        AvatarsSession::new(Peer::of(link), self.config.listen.as_ref())
    }

    fn on_dial_error(&self, link: &LinkKey, reason: &str) -> Option<Event> {
        Some(decode::socket_event(EventType::SocketFailed, &Peer::of(link), reason))
    }

    fn rate_limiter(&self, link: &LinkKey) -> Option<RateLimiter> {
        let listen = self.config.listen.as_ref().filter(|_| Peer::of(link).is_script());
        listen.map(|listen| RateLimiter::new(listen.rate_limit))
    }

    /// Longer than a connection may take to be made, so that the caller of `create` gets to know how that went.
    fn scope(&self, _: &str, _: Option<&str>, body: &Object<'_>) -> Option<String> {
        body.text("title").or_else(|| body.text("channel"))
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        (operation == "create").then_some(CREATE_TIMEOUT)
    }

    fn listener(&self) -> Option<Listener> {
        self.config.listen.as_ref().map(Listen::listener)
    }

    fn authorize(&self, handshake: &Handshake<'_, Frame>) -> Result<Accept> {
        authorize::authorize(handshake, self.config.listen.as_ref())
    }
}

#[cfg(test)]
mod tests;
