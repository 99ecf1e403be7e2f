//! Connectors and their sessions behind traits that name only the transport, so that the daemon's code is compiled once for
//! each transport, not for each connector.

use std::any::Any;
use std::time::Duration;

use pontoon_sdk::http::HttpRequest;
use pontoon_sdk::listener::{Accept, Handshake, Listener};
use pontoon_sdk::rate::RateLimiter;
use pontoon_sdk::{
    Command, CommandId, Connector, DeliveryLevel, End, Error, Event, Join, Kind, LinkKey, LinkSpec, Object,
    OnDemandLimits, Operation, Outbox, Raw, Request as _, Result, Route, Session, Subjects, Transport,
};

/// The body of a command as its connector reads it: a [`Connector::Request`].
pub type ErasedRequest = Box<dyn Any + Send>;

/// A session of any connector of a transport with this type of frame.
pub type ErasedSession<F> = Box<dyn Session<Frame = F, Request = ErasedRequest>>;

/// Any connector of a transport. Its methods are those of [`Connector`].
#[expect(missing_docs, reason = "[`Connector`] has them")]
pub trait ErasedConnector<T: Transport>: Send + Sync {
    fn kind(&self) -> &'static str;
    fn operations(&self) -> Vec<Operation>;
    fn revision(&self) -> u64;
    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel>;
    fn streamed(&self, operation: &str) -> Option<DeliveryLevel>;
    fn links(&self) -> Vec<LinkSpec<T>>;
    fn parse(&self, command: &Command) -> Result<ErasedRequest>;
    fn route(&self, command: &Command, request: &ErasedRequest) -> Result<Route<T>>;
    fn session(&self, link: &LinkKey) -> ErasedSession<T::Frame>;
    fn restore(&self, link: &LinkKey, memory: &[u8]);
    fn request(&self, link: &LinkKey) -> Result<Option<HttpRequest>>;
    fn answered(&self, link: &LinkKey, body: &[u8]) -> Result<()>;
    fn endpoint(&self, link: &LinkKey, endpoint: &T::Endpoint) -> Option<T::Endpoint>;
    fn refused(&self, link: &LinkKey);
    fn on_dial_error(&self, link: &LinkKey, reason: &str) -> Option<Event>;
    fn listener(&self) -> Option<Listener>;
    fn authorize(&self, handshake: &Handshake<'_, T::Frame>) -> Result<Accept>;
    fn asks(&self) -> Subjects;
    fn on_demand_limits(&self) -> OnDemandLimits;
    fn rate_limiter(&self, link: &LinkKey) -> Option<RateLimiter>;
    fn scope(&self, operation: &str, argument: Option<&str>, body: &Object<'_>) -> Option<String>;
    fn timeout(&self, operation: &str) -> Option<Duration>;
}

impl<C: Connector> ErasedConnector<C::Transport> for C {
    fn kind(&self) -> &'static str {
        C::TYPE
    }

    fn operations(&self) -> Vec<Operation> {
        Connector::operations(self)
    }

    fn revision(&self) -> u64 {
        Connector::revision(self)
    }

    fn offers(&self, operation: &Operation) -> Result<DeliveryLevel> {
        Connector::offers(self, operation)
    }

    fn streamed(&self, operation: &str) -> Option<DeliveryLevel> {
        Connector::streamed(self, operation)
    }

    fn links(&self) -> Vec<LinkSpec<C::Transport>> {
        Connector::links(self)
    }

    fn parse(&self, command: &Command) -> Result<ErasedRequest> {
        Ok(Box::new(C::Request::parse(command)?))
    }

    fn route(&self, command: &Command, request: &ErasedRequest) -> Result<Route<C::Transport>> {
        Connector::route(self, command, request.downcast_ref().ok_or_else(other_type)?)
    }

    fn session(&self, link: &LinkKey) -> ErasedSession<<C::Transport as Transport>::Frame> {
        Box::new(WithErasedRequest(Connector::session(self, link)))
    }

    fn restore(&self, link: &LinkKey, memory: &[u8]) {
        Connector::restore(self, link, memory);
    }

    fn request(&self, link: &LinkKey) -> Result<Option<HttpRequest>> {
        Connector::request(self, link)
    }

    fn answered(&self, link: &LinkKey, body: &[u8]) -> Result<()> {
        Connector::answered(self, link, body)
    }

    fn endpoint(
        &self,
        link: &LinkKey,
        endpoint: &<C::Transport as Transport>::Endpoint,
    ) -> Option<<C::Transport as Transport>::Endpoint> {
        Connector::endpoint(self, link, endpoint)
    }

    fn refused(&self, link: &LinkKey) {
        Connector::refused(self, link);
    }

    fn on_dial_error(&self, link: &LinkKey, reason: &str) -> Option<Event> {
        Connector::on_dial_error(self, link, reason)
    }

    fn listener(&self) -> Option<Listener> {
        Connector::listener(self)
    }

    fn authorize(&self, handshake: &Handshake<'_, <C::Transport as Transport>::Frame>) -> Result<Accept> {
        Connector::authorize(self, handshake)
    }

    fn asks(&self) -> Subjects {
        Connector::asks(self)
    }

    fn on_demand_limits(&self) -> OnDemandLimits {
        Connector::on_demand_limits(self)
    }

    fn rate_limiter(&self, link: &LinkKey) -> Option<RateLimiter> {
        Connector::rate_limiter(self, link)
    }

    fn scope(&self, operation: &str, argument: Option<&str>, body: &Object<'_>) -> Option<String> {
        Connector::scope(self, operation, argument, body)
    }

    fn timeout(&self, operation: &str) -> Option<Duration> {
        Connector::timeout(self, operation)
    }
}

/// A request that this connector did not read.
fn other_type() -> Error {
    Error::internal("the command was read by another connector")
}

/// A session that takes its connector's requests boxed.
struct WithErasedRequest<S>(S);

// A method that is missing here would be the default for every connector.
#[deny(clippy::missing_trait_methods)]
impl<S: Session<Request: 'static>> Session for WithErasedRequest<S> {
    type Frame = S::Frame;
    type Request = ErasedRequest;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<S::Frame>) -> Result<()> {
        self.0.open(joins, out)
    }

    fn decode(&mut self, frame: &S::Frame, out: &mut Outbox<S::Frame>) -> Result<()> {
        self.0.decode(frame, out)
    }

    fn takes(&mut self, out: &mut Outbox<S::Frame>) -> bool {
        self.0.takes(out)
    }

    fn encode(&mut self, request: ErasedRequest, command: Command, out: &mut Outbox<S::Frame>) -> Result<()> {
        self.0.encode(*request.downcast().map_err(|_| other_type())?, command, out)
    }

    fn tick(&mut self, out: &mut Outbox<S::Frame>) -> Result<()> {
        self.0.tick(out)
    }

    fn awaits(&self) -> Option<&'static str> {
        self.0.awaits()
    }

    fn stored(&mut self, number: u64, out: &mut Outbox<S::Frame>) -> Result<()> {
        self.0.stored(number, out)
    }

    fn asked(&mut self, number: u64, answer: Result<Raw>, out: &mut Outbox<S::Frame>) -> Result<()> {
        self.0.asked(number, answer, out)
    }

    fn memory(&mut self) -> Option<Vec<u8>> {
        self.0.memory()
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<S::Frame>) {
        self.0.abandoned(command, sent, out);
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<S::Frame>) -> Kind {
        self.0.ended(end, out)
    }
}
