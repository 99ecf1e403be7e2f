//! The traits of a transport: how a connection is dialled or accepted, read and written.

use std::time::Duration;

use pontoon_sdk::listener::{Accept, Handshake, Listener};
use pontoon_sdk::{End, Error, LinkKey};

use super::dials::Dials;
use super::wire::Wire;
use super::{resolve, tls};
use crate::fence::Fence;
use crate::{backoff, settings};

/// A transport that the daemon can dial.
pub trait Dial: pontoon_sdk::Transport {
    /// The receiving half.
    type Reader: Read<Self::Frame>;
    /// The sending half.
    type Writer: Write<Self::Frame>;

    /// State that is kept for a link from one connection to the next.
    type Memory: Default + Send;

    /// Has the next dial go on from where the connection of an earlier run of the daemon was ([`Read::position`]).
    fn restore(_memory: &mut Self::Memory, _position: &[u8]) {}

    /// Checks that this daemon can and may dial the endpoint. Called before anything is started: an instance, or a link that
    /// a command creates.
    ///
    /// # Errors
    /// The setting, or the place in the body, that is wrong, and what to write instead.
    fn check(_endpoint: &Self::Endpoint) -> Result<(), Error> {
        Ok(())
    }

    /// Scheme, host and port of the endpoint, for people; `None` if it has none that can be read.
    fn address(_endpoint: &Self::Endpoint) -> Option<String> {
        None
    }

    /// The secrets that are sent to the service, to be masked in its messages.
    fn secrets(_endpoint: &Self::Endpoint) -> Vec<String> {
        Vec::new()
    }

    /// Makes a connection within `transport.connect_timeout`.
    fn dial(
        endpoint: &Self::Endpoint,
        memory: &mut Self::Memory,
        settings: &Settings,
    ) -> impl Future<Output = Result<Dialled<Self::Reader, Self::Writer>, DialError>> + Send;

    /// Accepts an incoming connection: performs the handshake and authorizes the peer. The caller sets the deadline. By
    /// default a transport accepts none.
    ///
    /// # Errors
    /// Why it was refused.
    fn accept(
        _wire: Wire,
        _listener: &Listener,
        _settings: &Settings,
        _authorize: &Authorize<'_, Self::Frame>,
    ) -> impl Future<Output = Result<Accepted<Self::Reader, Self::Writer>, String>> + Send {
        std::future::ready(Err("this transport does not accept connections".to_owned()))
    }
}

/// A connection of a transport that was just made.
pub type DialledBy<T> = Dialled<<T as Dial>::Reader, <T as Dial>::Writer>;

/// A connection that was just made.
pub struct Dialled<R, W> {
    /// The receiving half.
    pub reader: R,
    /// The sending half.
    pub writer: W,
    /// Whether the service resumes the last connection.
    pub resumed: Resumed,
    /// The largest message that the service accepts, in bytes, if it is known.
    pub limit: Option<usize>,
}

/// Whether a service resumes the last connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resumed {
    /// No: messages in between were missed.
    No,
    /// It sends again what it has kept, which may not be everything.
    Perhaps,
    /// Yes: nothing was missed.
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
    /// From where the service goes on for the next connection, once what was read is handled; `None` if it does not.
    fn position(&self) -> Option<Vec<u8>> {
        None
    }
    /// The connection is about to be closed, and the next run of the daemon goes on from [`Read::position`]: the service must not
    /// take the close for a farewell.
    fn suspend(&mut self) {}
    /// Reads and discards until the peer has closed the connection too. The caller sets the deadline.
    fn drain(&mut self) -> impl Future<Output = ()> + Send {
        async { while self.read().await.is_ok() {} }
    }
}

/// The sending half of a connection. The caller sets the deadlines.
pub trait Write<F>: Send + 'static {
    /// Takes a message; it may wait in a buffer until [`Write::flush`].
    fn feed(&mut self, frame: F) -> impl Future<Output = Result<(), End>> + Send;
    /// Writes everything to the socket.
    fn flush(&mut self) -> impl Future<Output = Result<(), End>> + Send;
    /// Sends a ping.
    fn ping(&mut self) -> impl Future<Output = Result<(), End>> + Send;
    /// Waits until the transport itself has something to send, such as a pong; the next flush sends it. Dropping the future
    /// loses nothing.
    fn due(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
    /// Closes the connection by the transport's protocol: answers the peer's close, or starts one.
    fn close(&mut self) -> impl Future<Output = Result<(), End>> + Send;
}

/// Whether a connection is accepted: see [`pontoon_sdk::Connector::authorize`].
pub type Authorize<'a, F> = dyn Fn(&Handshake<'_, F>) -> pontoon_sdk::Result<Accept> + Send + Sync + 'a;

/// A connection that was accepted, and its link.
pub type Accepted<R, W> = (LinkKey, Dialled<R, W>);

/// How an instance's connections are made.
#[derive(Debug)]
pub struct Settings {
    /// As configured.
    pub config: settings::Transport,
    /// Trust and certificates.
    pub tls: tls::Store,
    /// Those that are being made.
    pub dials: Dials,
    /// Name lookup.
    pub resolver: resolve::Resolver,
    /// Closed while nothing may be dialled or written.
    pub fence: Fence,
}

/// The `User-Agent` where none is configured.
const USER_AGENT: &str = concat!("pontoon/", env!("CARGO_PKG_VERSION"));

impl Settings {
    /// New settings, with no certificates loaded yet.
    pub fn new(config: settings::Transport) -> Self {
        let tls = tls::Store::new(config.tls.clone(), tls::Trust::WithSystem);
        let (dials, resolver, fence) = (Dials::default(), resolve::Resolver::default(), Fence::default());
        Self { config, tls, dials, resolver, fence }
    }

    /// The same with a fence.
    #[must_use]
    pub fn fenced(self, fence: Fence) -> Self {
        Self { fence, ..self }
    }

    /// The `User-Agent` of opening handshakes.
    pub fn user_agent(&self) -> &str {
        self.config.user_agent.as_deref().unwrap_or(USER_AGENT)
    }
}

/// Why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DialError {
    /// What is done about it.
    pub kind: DialErrorKind,
    /// How long the service asked us to wait (`Retry-After`).
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
    /// The answer is not this service's: dialled again with the usual backoff, and logged as an error.
    WrongAddress,
    /// A network in front of the service (a CDN, a firewall) refused: dialled again slowly.
    Edge,
    /// The endpoint's guard forbids the address: nothing was connected.
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

    /// The answer is not this service's.
    pub fn wrong_address(message: impl Into<String>) -> Self {
        Self { kind: DialErrorKind::WrongAddress, retry_after: None, message: message.into() }
    }

    /// Dialled again slowly: it will not work soon.
    #[must_use]
    pub fn slowly(self) -> Self {
        Self { retry_after: Some(backoff::slow(self.retry_after)), ..self }
    }

    /// The endpoint's guard forbids the address.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { kind: DialErrorKind::Forbidden, retry_after: None, message: message.into() }
    }
}

impl From<Error> for DialError {
    /// A secret that cannot be resolved now may exist later.
    fn from(error: Error) -> Self {
        Self::credentials(error.to_string())
    }
}
