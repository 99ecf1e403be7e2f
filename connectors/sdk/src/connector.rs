//! One kind of upstream service: its configuration, its links, its operations.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::command::{Command, DeliveryLevel};
use crate::error::{Error, Result};
use crate::event::{Event, Raw};
use crate::http::HttpRequest;
use crate::link::{LinkKey, LinkState, OnDemandLimits};
use crate::listener::{Accept, Handshake, Listener};
use crate::object::Object;
use crate::operations::{Operation, Request};
use crate::rate::RateLimiter;
use crate::session::Session;
use crate::subjects::Subjects;

/// One kind of upstream service. Built from its configuration; lives as long as the instance.
pub trait Connector: Send + Sync + Sized + 'static {
    /// The value of `type` in the configuration, and the third token of every subject.
    const TYPE: &'static str;
    /// A commented sample of an instance's table, as `pontoon sample` prints it.
    const SAMPLE: &'static str;
    /// How bytes travel: [`crate::WebSocket`], or one of your own.
    type Transport: Transport;
    /// The instance's table, without the keys that the daemon uses itself. Unknown keys must be errors.
    type Config: DeserializeOwned + JsonSchema;
    /// What callers can ask for: see [`operations!`](crate::operations!).
    type Request: Request;
    /// One conversation.
    type Session: Session<Frame = <Self::Transport as Transport>::Frame, Request = Self::Request>;

    /// Checks the configuration. No I/O, but for files that it names.
    ///
    /// # Errors
    /// `Config`, with what to write instead.
    fn new(config: Self::Config) -> Result<Self>;

    /// What callers can ask this instance for: those of [`Self::Request`], unless its configuration lists them.
    fn operations(&self) -> Vec<Operation> {
        Self::Request::operations()
    }

    /// A number that changes with what it does by files that its configuration names: a reload starts it again then.
    fn revision(&self) -> u64 {
        0
    }

    /// The most that this instance promises of an operation: no more than [`Operation::delivery`].
    ///
    /// # Errors
    /// `Rejected` if its configuration does not allow the operation: what to set. The instance does not list it then.
    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        Ok(operation.delivery)
    }

    /// What is promised of an operation of this instance whose caller asks for parts of the answer, where that is more
    /// than without.
    fn streamed(&self, _operation: &str) -> Option<DeliveryLevel> {
        None
    }

    /// The links that are wanted from the start.
    fn links(&self) -> Vec<LinkSpec<Self::Transport>>;

    /// Which link a command goes to: [`LinkKey::main`], unless a connector with other links says otherwise.
    ///
    /// # Errors
    /// `Rejected`: the caller gets it as the reply, nothing is sent.
    fn route(&self, _command: &Command, _request: &Self::Request) -> Result<Route<Self::Transport>> {
        Ok(Route::To(LinkKey::main()))
    }

    /// A new conversation for a connection that was just made.
    fn session(&self, link: &LinkKey) -> Self::Session;

    /// Takes over what [`Session::memory`] had returned last before the daemon was restarted. Called before the link is dialled
    /// for the first time, with the settings of then.
    fn restore(&self, _link: &LinkKey, _memory: &[u8]) {}

    /// What is requested over HTTP each time before this link is dialled; `None` for nothing.
    ///
    /// # Errors
    /// `Auth` if a secret in it cannot be looked up.
    fn request(&self, _link: &LinkKey) -> Result<Option<HttpRequest>> {
        Ok(None)
    }

    /// The answer to [`Connector::request`] with a status of success.
    ///
    /// # Errors
    /// `Auth`, `Throttled` or `Disconnected` if the link cannot be dialled by it; the message has no secret in it.
    fn answered(&self, _link: &LinkKey, _body: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Where this link is dialled now, if that is not where its specification says.
    fn endpoint(
        &self,
        _link: &LinkKey,
        _endpoint: &<Self::Transport as Transport>::Endpoint,
    ) -> Option<<Self::Transport as Transport>::Endpoint> {
        None
    }

    /// What answers at its address has refused this link, or the request before it. [`Connector::on_dial_error`] follows.
    fn refused(&self, _link: &LinkKey) {}

    /// The event of a connection that could not be made; `reason` has no secret in it. None, unless the service's own
    /// interface has such an event.
    fn on_dial_error(&self, _link: &LinkKey, _reason: &str) -> Option<Event> {
        None
    }

    /// Where services connect to us; `None` where every link is dialled.
    fn listener(&self) -> Option<Listener> {
        None
    }

    /// Whether a peer that has connected to the listener is accepted, and as which link.
    ///
    /// # Errors
    /// `Auth` if it has not authenticated, `Rejected` if its message is wrong: the peer is closed with it as the reason.
    fn authorize(&self, _handshake: &Handshake<'_, <Self::Transport as Transport>::Frame>) -> Result<Accept> {
        Err(Error::auth("this connector accepts no connections"))
    }

    /// Where links may lead whose URL a caller names. The daemon checks it before the instance starts.
    fn allow_list(&self) -> Option<&AllowList> {
        None
    }

    /// Subjects of NATS that sessions may send requests to. None unless settings list some.
    fn asks(&self) -> Subjects {
        Subjects::default()
    }

    /// Bounds on the links that [`Route::OnDemand`] opens.
    fn on_demand_limits(&self) -> OnDemandLimits {
        OnDemandLimits::default()
    }

    /// What limits the commands of a connection of this link; `None` for no limit. Commands that are not sent yet wait with
    /// the daemon, in order, until their time runs out. A clone of one limiter limits links together.
    fn rate_limiter(&self, _link: &LinkKey) -> Option<RateLimiter> {
        None
    }

    /// The conversation that a command belongs to, from its operation, what follows that in the subject, and its body, which
    /// is not checked yet. Of the jobs of one conversation one is under way at a time; by default, of all of the instance.
    fn scope(&self, _operation: &str, _argument: Option<&str>, _body: &Object<'_>) -> Option<String> {
        None
    }

    /// What its author should know of how it reads this frame, such as which settings found nothing in it, a line each.
    fn notes(&self, _frame: &<Self::Transport as Transport>::Frame) -> Vec<String> {
        Vec::new()
    }

    /// How long a caller waits that sets no `Pontoon-Timeout`; `None` leaves it to the daemon.
    fn timeout(&self, _operation: &str) -> Option<Duration> {
        None
    }
}

/// How bytes travel between a service and a session. The daemon knows how to dial it.
pub trait Transport: 'static {
    /// One message, in either direction.
    type Frame: Frame;
    /// Where to connect, and how.
    type Endpoint: Clone + Send + Sync + 'static;
}

/// One message of a transport.
pub trait Frame: Send + Sync + 'static {
    /// Its size in bytes on the wire, without framing.
    fn size(&self) -> usize;
    /// The size in bytes of the largest of the messages that it travels as; services limit that.
    fn largest(&self) -> usize {
        self.size()
    }
    /// The whole frame as JSON, for `frame.unrecognised`.
    fn raw(&self) -> Raw;
}

/// One socket that an instance wants.
pub struct LinkSpec<T: Transport> {
    /// Its name within the instance.
    pub key: LinkKey,
    /// Where it goes.
    pub endpoint: T::Endpoint,
    /// Whether it is dialled again when its connection ends or cannot be made. One that is not ends with it.
    pub redial: bool,
}

impl<T: Transport> LinkSpec<T> {
    /// A link of this name, to there, which is dialled again and again.
    pub fn new(name: impl AsRef<str>, endpoint: T::Endpoint) -> Self {
        Self { key: LinkKey::new(name), endpoint, redial: true }
    }

    /// The only link of an instance: [`LinkKey::main`].
    pub fn main(endpoint: T::Endpoint) -> Self {
        Self { key: LinkKey::main(), endpoint, redial: true }
    }

    /// The same, dialled only once.
    pub fn once(self) -> Self {
        Self { redial: false, ..self }
    }
}

impl<T: Transport> Clone for LinkSpec<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), endpoint: self.endpoint.clone(), redial: self.redial }
    }
}

/// Where a link may lead whose URL a caller names: to the hosts that are listed here, and of these only to public
/// addresses and those that are listed as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    /// `"ws.example.com"`; `"*.example.com"` for all below it, but not for itself; `"*"` for any. With a port behind it
    /// (`"ws.example.com:8443"`), only that port.
    pub hosts: Vec<String>,
    /// Addresses that may be dialled although they are not public: `"127.0.0.1"`, `"10.1.0.0/16"`, `"::1"`.
    pub addresses: Vec<String>,
    /// Whether a proxy is used, if one is configured. It looks names up by itself: then only hosts are checked.
    pub proxy: bool,
    /// The table of these settings as a JSON pointer (RFC 6901), such as `/dynamic`, for errors.
    pub pointer: &'static str,
}

/// Where a command goes.
pub enum Route<T: Transport> {
    /// To the session of this link.
    To(LinkKey),
    /// To the session of this link, which is opened if it is not there. The command waits for the link to be ready, for
    /// as long as its caller does.
    OnDemand(LinkSpec<T>),
    /// Nowhere: this link is opened, unless it is there, and kept until it is closed. The reply is `accepted`.
    Open(LinkSpec<T>),
    /// Nowhere: this link is closed for good, if it is there. The reply is `accepted`.
    Close(LinkKey),
    /// To the session of a new link, in the place of one of its name that is there. The command waits until the link is
    /// ready; if it cannot be dialled, the reply is why. If it is dialled again ([`LinkSpec::redial`]), the reply after the
    /// first attempt is `accepted`.
    Create {
        /// The link.
        spec: LinkSpec<T>,
        /// How many links that were created so may be open; one more is refused with 403.
        most: usize,
    },
    /// Nowhere: answered from what is known of the links.
    Local(fn(&[LinkState]) -> Result<Box<RawValue>>),
}
