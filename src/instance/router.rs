//! From a message on a command subject to the link that carries it out, or to a refusal.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pontoon_sdk::listener::Listener;
use pontoon_sdk::{
    Code, Command, CommandId, Connector, DeliveryLevel, Error, LinkKey, LinkState, Operation, Request as _,
    Result, Route, Span,
};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Shared;
use super::links::Links;
use crate::bus::commands::Request;
use crate::envelope::subject::{decode_token, reply_allowed};
use crate::envelope::trace_context::traceparent;
use crate::link::pending::beyond;
use crate::link::queue::{Errand, Patience};
use crate::metrics::Outcome;
use crate::reply::idempotency::{Claim, Keys, What};
use crate::reply::{Caller, Outlet, Tally};
use crate::status::{InstanceStatus, LinkStatus, Phase};
use crate::transport::Dial;

/// Operations that every instance has.
pub const RECONNECT: &str = "reconnect";
/// See [`RECONNECT`].
pub const STATUS: &str = "status";
/// The header by which a command belongs to a trace.
const TRACEPARENT: &str = "traceparent";
/// What is counted for a command that names no operation of ours.
pub const UNKNOWN: &str = "unknown";

/// The most that `commands.max_in_flight` may be. A reload may raise it up to this while links are open.
pub const MOST_COMMANDS: usize = 1 << 20;

/// All operations of an instance, with those that every instance has.
pub fn operations<C: Connector>(connector: &C) -> Vec<Operation> {
    let own = |name, summary, delivery| Operation {
        name,
        argument: None,
        summary,
        body: schemars::json_schema!({ "type": "object" }),
        delivery,
        idempotent: true,
    };
    let offered = |operation: Operation| {
        let delivery = connector.offers(&operation).ok()?;
        Some(Operation { delivery, ..operation })
    };
    let mut operations: Vec<_> = C::Request::operations().into_iter().filter_map(offered).collect();
    operations.push(own(RECONNECT, "Makes every connection of the instance anew", DeliveryLevel::Accepted));
    operations.push(own(STATUS, "Says how the instance and its links are", DeliveryLevel::Response));
    operations
}

/// Takes the commands of an instance, and owns its links.
pub struct Dispatcher<C: Connector> {
    shared: Rc<Shared>,
    connector: Arc<C>,
    operations: Vec<Operation>,
    /// Those of the connector, for the reason why this instance refuses some.
    refused: Vec<Operation>,
    /// The links.
    pub links: Links<C>,
    status: watch::Receiver<InstanceStatus>,
    replies: Outlet,
    tally: Arc<Tally>,
    permits: Arc<Semaphore>,
    keys: Arc<Keys>,
    /// Answers those in time that wait for the answer to a key; ends with this value.
    _expiry: JoinSet<()>,
    numbers: AtomicU64,
}

impl<C: Connector> Dispatcher<C>
where
    C::Transport: Dial,
{
    /// A dispatcher without links.
    pub fn new(
        shared: Rc<Shared>,
        connector: Arc<C>,
        status: watch::Receiver<InstanceStatus>,
        replies: Outlet,
        tally: Arc<Tally>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(MOST_COMMANDS));
        let keys = Keys::new(&shared.settings().commands);
        let mut expiry = JoinSet::new();
        expiry.spawn_local(keys.clone().expire());
        Self {
            links: Links::new(shared.clone(), connector.clone()),
            shared,
            operations: operations(&*connector),
            connector,
            refused: C::Request::operations(),
            status,
            replies,
            tally,
            permits,
            keys,
            _expiry: expiry,
            numbers: AtomicU64::new(0),
        }
    }

    /// Replies to the commands that come from now on go this way.
    pub fn reply_to(&mut self, replies: Outlet) {
        self.replies = replies;
    }

    /// How many commands are under way.
    fn under_way(&self) -> usize {
        MOST_COMMANDS - self.permits.available_permits()
    }

    /// Whether no command is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way() == 0
    }

    /// A place among the commands under way, if there is one left. No command takes one in between: all are handled on
    /// the instance's thread.
    fn permit(&self, limit: usize) -> Option<OwnedSemaphorePermit> {
        let has_room = self.under_way() < limit;
        has_room.then(|| self.permits.clone().try_acquire_owned().ok()).flatten()
    }

    /// Carries out one command, or refuses it.
    pub fn handle(&mut self, request: &Request) {
        let started = Instant::now();
        let settings = self.shared.settings();
        let known = find(&self.operations, request.tokens());
        let operation = known.as_ref().map_or(UNKNOWN, |(operation, _)| operation.name);
        if let Some(reply) = request.reply()
            && !reply_allowed(reply, &settings.commands.reply_prefixes, &settings.nats.prefix)
        {
            let instance = self.shared.name.clone();
            self.shared.throttles.replies.log(move |count| {
                tracing::warn!(
                    instance,
                    operation,
                    count,
                    "a command was refused: its reply subject is not under commands.reply_prefixes"
                );
            });
            self.shared.metrics.command(operation, Outcome::BadReply).increment(1);
            return;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let delivery = known.as_ref().map_or(DeliveryLevel::Accepted, |(operation, _)| operation.delivery);
        let mut caller = Caller {
            name: self.shared.envelope.command(CommandId(number)),
            subject: request.reply().map(str::to_owned),
            wait: delivery,
            named_wait: false,
            operation,
            started,
            deadline: started,
            traceparent: request.header(TRACEPARENT).and_then(traceparent).map(Arc::from),
            replies: self.replies.clone(),
            metrics: self.shared.metrics.clone(),
            tally: self.tally.clone(),
            permit: None,
            slot: None,
            answered: false,
        };
        let Some((operation, argument)) = known else {
            return caller.refuse(&self.no_such_operation(request));
        };
        let limit = settings.commands.max_in_flight;
        let Some(permit) = self.permit(limit) else {
            let error = Error::rejected(
                Code::TooMany,
                format!("{limit} commands are under way already (commands.max_in_flight)"),
            );
            return caller.refuse(&error);
        };
        caller.permit = Some(Arc::new(permit));
        match self.command(request, &operation, argument, CommandId(number), started, &mut caller) {
            Ok(command) => self.once(request, command, &operation, caller),
            Err(error) => caller.refuse(&error),
        }
    }

    /// A command with a key is carried out once.
    fn once(&mut self, request: &Request, command: Command, operation: &Operation, caller: Caller) {
        let Some(key) = request.header("Idempotency-Key") else {
            return self.dispatch(command, operation, caller);
        };
        // Where a trace goes changes nothing of what is done.
        let headers = command.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(TRACEPARENT));
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
        let what = What::new(request.tokens(), command.body.get(), headers);
        self.keys.reconfigure(&self.shared.settings().commands);
        match self.keys.claim(key, what, caller) {
            Claim::First(caller) => self.dispatch(command, operation, caller),
            Claim::Joined => {}
            Claim::Answered(caller, answer) => caller.repeat(&answer),
            Claim::Refused(caller, error) => caller.refuse(&error),
        }
    }

    fn no_such_operation(&self, request: &Request) -> Error {
        let known: Vec<_> = self.operations.iter().map(|operation| operation.name).collect();
        let known = known.join(", ");
        // What the connector has and this instance refuses, the connector explains.
        if let Some((operation, _)) = find(&self.refused, request.tokens()) {
            return self.connector.offers(&operation).err().unwrap_or_else(|| {
                let text = format!("this instance does not offer {}; it offers {known}", operation.name);
                Error::rejected(Code::NotFound, text)
            });
        }
        let tokens: String = request.tokens().chars().take(64).collect();
        Error::rejected(Code::NotFound, format!("there is no operation \"{tokens}\"; there are {known}"))
    }

    fn command(
        &self,
        request: &Request,
        operation: &Operation,
        argument: Option<String>,
        id: CommandId,
        started: Instant,
        caller: &mut Caller,
    ) -> Result<Command> {
        let mut timeout =
            self.connector.timeout(operation.name).unwrap_or(self.shared.settings().commands.timeout.0);
        let (mut stream, mut named) = (false, None);
        let mut headers = Vec::new();
        for (name, value) in request.headers() {
            match name.to_ascii_lowercase().as_str() {
                "pontoon-wait" => named = Some(value.parse::<DeliveryLevel>()?),
                "pontoon-timeout" => timeout = self.timeout(value)?,
                "pontoon-stream" => stream = value.eq_ignore_ascii_case("true"),
                TRACEPARENT if caller.traceparent.is_none() => {}
                lower if lower.starts_with("pontoon-") || lower == TRACEPARENT => {
                    headers.push((name.to_owned(), value.to_owned()));
                }
                // Nothing else that a caller sends is passed on, least of all what begins with `Nats-`.
                _ => {}
            }
        }
        let streamed = self.connector.streamed(operation.name).filter(|_| stream);
        let delivery = streamed.unwrap_or(operation.delivery);
        caller.wait = delivery;
        if let Some(wanted) = named {
            if wanted > delivery {
                return Err(beyond(operation.name, delivery, wanted));
            }
            (caller.wait, caller.named_wait) = (wanted, true);
        }
        caller.deadline = started + timeout;
        let argument = argument.map(|tokens| decode(&tokens)).transpose()?;
        let body = self.body(request)?;
        Ok(Command {
            id,
            operation: operation.name,
            argument,
            body,
            headers,
            deadline: caller.deadline,
            stream,
        })
    }

    fn timeout(&self, value: &str) -> Result<Duration> {
        let span: Span = value
            .parse()
            .map_err(|error| Error::rejected(Code::BadBody, format!("Pontoon-Timeout: {error}")))?;
        let limit = self.shared.settings().commands.max_timeout;
        if span > limit {
            return Err(Error::rejected(
                Code::BadBody,
                format!("Pontoon-Timeout is over {limit} (commands.max_timeout)"),
            ));
        }
        Ok(span.0)
    }

    fn body(&self, request: &Request) -> Result<Box<RawValue>> {
        let bytes = request.body();
        let limit = self.shared.settings().commands.max_body;
        if bytes.len() > limit.0 {
            let text =
                format!("the body has {} bytes; at most {limit} are taken (commands.max_body)", bytes.len());
            return Err(Error::rejected(Code::TooLarge, text));
        }
        let bytes = if bytes.is_empty() { b"{}".as_slice() } else { bytes };
        serde_json::from_slice(bytes)
            .map_err(|error| Error::rejected(Code::BadBody, format!("the body is not JSON: {error}")).at(""))
    }

    fn dispatch(&mut self, command: Command, operation: &Operation, caller: Caller) {
        match operation.name {
            STATUS => match to_raw_value(&*self.status.borrow()) {
                Ok(status) => caller.answer(Outcome::Response, Some(&status), None),
                Err(error) => caller.refuse(&Error::internal(error.to_string())),
            },
            RECONNECT => {
                self.links.redial();
                caller.answer(Outcome::Accepted, None, None);
            }
            name => {
                let streamed = self.connector.streamed(name).filter(|_| command.stream);
                self.carry(command, streamed.unwrap_or(operation.delivery), caller);
            }
        }
    }

    fn carry(&mut self, command: Command, delivery: DeliveryLevel, caller: Caller) {
        // The body is read here, and nowhere after this.
        let request = match C::Request::parse(&command) {
            Ok(request) => request,
            Err(error) => return caller.refuse(&error),
        };
        let (key, patience) = match self.routed(&command, &request) {
            Ok(Way::Nowhere) => return caller.answer(Outcome::Accepted, None, None),
            Ok(Way::Answered(data)) => return caller.answer(Outcome::Response, Some(&data), None),
            Ok(Way::To(key, patience)) => (key, patience),
            Err(error) => return caller.refuse(&error),
        };
        let Some(link) = self.links.get(&key) else {
            return caller.refuse(&Error::rejected(Code::NotFound, "there is no such link"));
        };
        let stay = match (patience == Patience::Long).then(|| link.room.enter(&command)).transpose() {
            Ok(stay) => stay,
            Err(error) => return caller.refuse(&error),
        };
        let errand = Errand { request, command, delivery, caller, patience, stay };
        if let Err(refused) = link.mailbox.try_send(errand) {
            let errand = refused.into_inner();
            errand.caller.refuse(&Error::disconnected("the link takes no commands now"));
        }
    }

    /// Does what the route of a command asks for.
    fn routed(&mut self, command: &Command, request: &C::Request) -> Result<Way> {
        Ok(match self.connector.route(command, request)? {
            Route::To(key) => {
                self.connected(&key)?;
                Way::To(key, Patience::None)
            }
            Route::OnDemand(spec) => {
                let key = spec.key.clone();
                self.links.open_on_demand(spec)?;
                Way::To(key, Patience::Long)
            }
            Route::Create { spec, most } => {
                let key = spec.key.clone();
                self.links.create(spec, most)?;
                Way::To(key, Patience::First)
            }
            Route::Open(spec) => {
                self.links.open(spec)?;
                Way::Nowhere
            }
            Route::Close(key) => {
                self.links.close(&key);
                Way::Nowhere
            }
            Route::Local(inquiry) => Way::Answered(inquiry(&self.states())?),
        })
    }

    /// What is known of the links.
    fn states(&self) -> Vec<LinkState> {
        let links = self.shared.board.list().into_iter().filter(|link| link.key != Listener::NAME);
        let state = |link: LinkStatus| LinkState {
            key: LinkKey::new(link.key),
            phase: link.phase.as_str(),
            detail: link.detail,
        };
        links.map(state).collect()
    }

    /// A command flows only over a link that is ready.
    fn connected(&self, key: &LinkKey) -> Result<()> {
        match self.shared.board.phase(key) {
            Some(Phase::Ready) => Ok(()),
            Some(phase) => Err(Error::disconnected(format!(
                "there is no connection to the service ({})",
                phase.as_str()
            ))),
            None => Err(Error::rejected(Code::NotFound, format!("there is no link \"{key}\""))),
        }
    }
}

/// The way that a command goes.
enum Way {
    /// To this link.
    To(LinkKey, Patience),
    /// Nowhere: all that there is to do was done.
    Nowhere,
    /// Nowhere: this is the answer.
    Answered(Box<RawValue>),
}

/// The operation that these tokens name, and what follows it.
fn find(operations: &[Operation], tokens: &str) -> Option<(Operation, Option<String>)> {
    let named = operations.iter().filter_map(|operation| {
        let rest = tokens.strip_prefix(operation.name)?;
        match (rest.strip_prefix('.'), operation.argument) {
            (None, _) if rest.is_empty() => Some((operation, None)),
            (Some(rest), Some(_)) => Some((operation, Some(rest.to_owned()))),
            _ => None,
        }
    });
    // `room.join` is a longer match than `room`.
    named.max_by_key(|(operation, _)| operation.name.len()).map(|(operation, rest)| (operation.clone(), rest))
}

/// What the tokens behind an operation mean; a name with dots in it may come as several.
fn decode(tokens: &str) -> Result<String> {
    let decoded: Option<Vec<_>> = tokens.split('.').map(decode_token).collect();
    let wrong = || Error::rejected(Code::BadBody, "the subject holds a broken escape; write =HH for a byte");
    Ok(decoded.ok_or_else(wrong)?.join("."))
}
