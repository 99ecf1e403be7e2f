//! The traits of a transport: how a connection is dialled or accepted, read and written.

use std::time::Duration;

use pontoon_sdk::listener::{Accept, Handshake, Listener};
use pontoon_sdk::{End, Error, LinkKey};

use super::wire::Wire;
use super::{resolve, tls};
use crate::{backoff, settings};

/// A transport that the daemon can dial.
pub trait Dial: pontoon_sdk::Transport {
    /// Receives messages.
    type Reader: Read<Self::Frame>;
    /// Sends messages.
    type Writer: Write<Self::Frame>;

    /// What it remembers of a link from one connection to the next.
    type Memory: Default + Send;

    /// Whether this daemon can dial that. Asked before anything is started.
    ///
    /// # Errors
    /// The setting that is wrong, and what to write instead.
    fn check(_endpoint: &Self::Endpoint) -> Result<(), Error> {
        Ok(())
    }

    /// The secrets that go to the service; what it says is shown without them.
    fn secrets(_endpoint: &Self::Endpoint) -> Vec<String> {
        Vec::new()
    }

    /// Makes a connection, within the deadline that the settings give.
    fn dial(
        endpoint: &Self::Endpoint,
        memory: &mut Self::Memory,
        settings: &Settings,
    ) -> impl Future<Output = Result<Dialled<Self::Reader, Self::Writer>, DialError>> + Send;

    /// Takes a connection that was made to us, and finds out who it is. The caller sets the deadline. Over most
    /// transports nobody can come.
    ///
    /// # Errors
    /// Why it was not let in.
    fn accept(
        _wire: Wire,
        _door: &Listener,
        _settings: &Settings,
        _judge: &Authorize<'_, Self::Frame>,
    ) -> impl Future<Output = Result<Accepted<Self::Reader, Self::Writer>, String>> + Send {
        std::future::ready(Err("nobody can come over this transport".to_owned()))
    }
}

/// A connection of a transport that was just made.
pub type DialledBy<T> = Dialled<<T as Dial>::Reader, <T as Dial>::Writer>;

/// A connection that was just made.
pub struct Dialled<R, W> {
    /// Receives messages.
    pub reader: R,
    /// Sends messages.
    pub writer: W,
    /// Whether the service goes on where the last connection ended.
    pub resumed: Resumed,
    /// The largest message that the service takes, in bytes, if it says.
    pub limit: Option<usize>,
}

/// Whether a service goes on where the last connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resumed {
    /// It begins afresh: what it said in between was missed.
    No,
    /// It says again what it has kept, which may not be all.
    Perhaps,
    /// Nothing was missed in between.
    Yes,
}

/// What a connection receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<F> {
    /// A message.
    Message(F),
    /// A message over `transport.message_limit`, which was discarded while it was received: its size in bytes.
    TooLarge(u64),
}

/// The receiving half of a connection.
pub trait Read<F>: Send + 'static {
    /// The next message. Dropping the future loses nothing.
    fn read(&mut self) -> impl Future<Output = Result<Received<F>, End>> + Send;
    /// Discards what still comes, until the peer has ended the connection too. The caller sets the deadline.
    fn drain(&mut self) -> impl Future<Output = ()> + Send {
        async { while self.read().await.is_ok() {} }
    }
}

/// The sending half of a connection. Whoever calls it sets the deadlines.
pub trait Write<F>: Send + 'static {
    /// Takes a message; it may wait in a buffer until [`Write::flush`].
    fn feed(&mut self, frame: F) -> impl Future<Output = Result<(), End>> + Send;
    /// Hands everything to the socket.
    fn flush(&mut self) -> impl Future<Output = Result<(), End>> + Send;
    /// Asks the peer for a sign of life.
    fn ping(&mut self) -> impl Future<Output = Result<(), End>> + Send;
    /// Waits until the transport has something to say of its own, such as the answer to a ping; the flush after it says
    /// that. Dropping the future loses nothing.
    fn due(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
    /// Closes the connection as the transport's protocol wants it: answers the peer's close, or leaves.
    fn close(&mut self) -> impl Future<Output = Result<(), End>> + Send;
}

/// Whether a connection is accepted: see [`pontoon_sdk::Connector::authorize`].
pub type Authorize<'a, F> = dyn Fn(&Handshake<'_, F>) -> pontoon_sdk::Result<Accept> + Send + Sync + 'a;

/// A connection that was accepted, and its link.
pub type Accepted<R, W> = (LinkKey, Dialled<R, W>);

/// How an instance's sockets are made.
#[derive(Debug)]
pub struct Settings {
    /// As configured.
    pub config: settings::Transport,
    /// Trust and certificates.
    pub tls: tls::Store,
    /// Who looks names up.
    pub resolver: resolve::Resolver,
}

/// The `User-Agent` where none is configured.
const USER_AGENT: &str = concat!("pontoon/", env!("CARGO_PKG_VERSION"));

impl Settings {
    /// These settings, with nothing loaded yet.
    pub fn new(config: settings::Transport) -> Self {
        let tls = tls::Store::new(config.tls.clone(), tls::Trust::WithSystem);
        Self { config, tls, resolver: resolve::Resolver::default() }
    }

    /// The `User-Agent` of opening handshakes.
    pub fn user_agent(&self) -> &str {
        self.config.user_agent.as_deref().unwrap_or(USER_AGENT)
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DialError {
    /// What is done about it.
    pub kind: DialErrorKind,
    /// How long the service asked us to stay away.
    pub retry_after: Option<Duration>,
    /// For the operator; never holds a secret or a query.
    pub message: String,
}

/// What is done about a failed dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialErrorKind {
    /// It may work soon: dialled again with the usual backoff.
    Unreachable,
    /// The service refused our credentials: dialled again slowly.
    Credentials,
    /// Something answers, but not this service: dialled again with the usual backoff, and said loudly.
    WrongAddress,
    /// A network in front of the service (a CDN, a firewall) refused: dialled again slowly.
    Edge,
    /// The endpoint's guard does not allow where it leads: nothing was connected.
    Forbidden,
}

impl DialError {
    /// It may work soon.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { kind: DialErrorKind::Unreachable, retry_after: None, message: message.into() }
    }

    /// The service refused our credentials.
    pub fn credentials(message: impl Into<String>) -> Self {
        Self { kind: DialErrorKind::Credentials, retry_after: None, message: message.into() }
    }

    /// Something answers, but not this service.
    pub fn wrong_address(message: impl Into<String>) -> Self {
        Self { kind: DialErrorKind::WrongAddress, retry_after: None, message: message.into() }
    }

    /// Dialled again slowly: it will not work soon.
    #[must_use]
    pub fn slowly(self) -> Self {
        Self { retry_after: Some(backoff::slow(self.retry_after)), ..self }
    }

    /// The endpoint's guard does not allow where it leads.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { kind: DialErrorKind::Forbidden, retry_after: None, message: message.into() }
    }
}

impl From<Error> for DialError {
    /// A secret that cannot be looked up now may be there later.
    fn from(error: Error) -> Self {
        Self::credentials(error.to_string())
    }
}
