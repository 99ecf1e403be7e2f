//! From a message on a command subject to the link that carries it out, or to a refusal.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::FutureExt as _;
use pontoon_sdk::{
    Code, Command, CommandId, Connector, Error, LinkKey, LinkSpec, Operation, Promise, Result, Route, Span,
};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use crate::bus::service::Request;
use crate::envelope::subject::{decode_token, reply_allowed};
use crate::errands::{Errand, Errands, Room};
use crate::idempotency::{Claim, Keys};
use crate::metrics::Outcome;
use crate::places::Places;
use crate::replies::{Caller, Outlet, Tally};
use crate::status::{InstanceStatus, Phase};
use crate::supervisor::Supervisor;
use crate::transport::Dial;

/// Operations that every instance has.
pub const RECONNECT: &str = "reconnect";
/// See [`RECONNECT`].
pub const STATUS: &str = "status";
/// What is counted for a command that names no operation of ours.
pub const UNKNOWN: &str = "unknown";

/// All operations of a connector, and those that every instance has.
pub fn operations<C: Connector>() -> Vec<Operation> {
    let own = |name, summary, promise| Operation {
        name,
        argument: None,
        summary,
        body: schemars::json_schema!({ "type": "object" }),
        promise,
        idempotent: true,
    };
    let mut operations = C::operations();
    operations.push(own(RECONNECT, "Makes every connection of the instance anew", Promise::Accepted));
    operations.push(own(STATUS, "Says how the instance and its links are", Promise::Response));
    operations
}

/// Takes the commands of an instance, and owns its links.
pub struct Dispatcher<C: Connector> {
    shared: Arc<Shared>,
    connector: Arc<C>,
    operations: Vec<Operation>,
    links: HashMap<LinkKey, Link>,
    /// For links that are opened on demand.
    places: Arc<Places>,
    /// The tasks of all links.
    pub tasks: TaskTracker,
    redial: watch::Sender<u64>,
    status: watch::Receiver<InstanceStatus>,
    replies: Outlet,
    tally: Arc<Tally>,
    permits: Arc<Semaphore>,
    keys: Arc<Keys>,
    numbers: AtomicU64,
}

struct Link {
    mailbox: mpsc::Sender<Errand>,
    room: Room,
    stop: CancellationToken,
}

impl<C: Connector> Dispatcher<C>
where
    C::Transport: Dial,
{
    /// A dispatcher without links.
    pub fn new(
        shared: Arc<Shared>,
        connector: Arc<C>,
        status: watch::Receiver<InstanceStatus>,
        replies: Outlet,
        tally: Arc<Tally>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(shared.commands.max_in_flight));
        let places = Places::new(connector.on_demand().links);
        Self {
            shared,
            connector,
            places,
            operations: operations::<C>(),
            links: HashMap::new(),
            tasks: TaskTracker::new(),
            redial: watch::Sender::new(0),
            status,
            replies,
            tally,
            permits,
            keys: Arc::default(),
            numbers: AtomicU64::new(0),
        }
    }

    /// Opens a link, unless it is there.
    ///
    /// # Errors
    /// `Rejected` with 429 if the instance has too many.
    pub fn open(&mut self, spec: LinkSpec<C::Transport>) -> Result<()> {
        self.open_at(spec, None)
    }

    /// Opens a link once it has a place, unless it is there.
    fn open_at(&mut self, spec: LinkSpec<C::Transport>, places: Option<Arc<Places>>) -> Result<()> {
        self.links.retain(|_, link| !link.mailbox.is_closed());
        if self.links.contains_key(&spec.key) {
            return Ok(());
        }
        let limit = self.shared.transport.config.max_links;
        // Those that are still saying goodbye count: else whoever closes and opens makes sockets without bound.
        if self.tasks.len() >= limit {
            return Err(Error::rejected(
                Code::TooMany,
                format!("the instance has {limit} links already (transport.max_links)"),
            ));
        }
        let (mailbox, errands) = mpsc::channel(self.shared.commands.max_in_flight);
        let stop = CancellationToken::new();
        let key = spec.key.clone();
        let supervisor = Supervisor {
            spec,
            connector: self.connector.clone(),
            shared: self.shared.clone(),
            stop: stop.clone(),
            redial: self.redial.subscribe(),
            places,
        };
        let fault = self.shared.fault.clone();
        self.tasks.spawn(async move {
            if AssertUnwindSafe(supervisor.run(Errands::new(errands))).catch_unwind().await.is_err() {
                fault.cancel();
            }
        });
        let room = Room::new(self.connector.on_demand());
        self.links.insert(key, Link { mailbox, room, stop });
        Ok(())
    }

    /// Closes every link. Their tasks end on their own.
    pub fn close(&mut self) {
        for (_, link) in self.links.drain() {
            link.stop.cancel();
        }
        self.tasks.close();
    }

    /// Whether no command is under way.
    pub fn is_idle(&self) -> bool {
        self.permits.available_permits() == self.shared.commands.max_in_flight
    }

    /// Carries out one command, or refuses it.
    pub fn handle(&mut self, request: &Request) {
        let started = Instant::now();
        let known = self.find(request.tokens());
        let operation = known.as_ref().map_or(UNKNOWN, |(operation, _)| operation.name);
        if let Some(reply) = request.reply()
            && !reply_allowed(reply, &self.shared.commands.reply_prefixes, &self.shared.prefix)
        {
            tracing::warn!(
                operation,
                "a command was refused: its reply subject is not under commands.reply_prefixes"
            );
            self.shared.metrics.command(operation, Outcome::BadReply).increment(1);
            return;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let promise = known.as_ref().map_or(Promise::Accepted, |(operation, _)| operation.promise);
        let mut caller = Caller {
            name: self.shared.envelope.command(CommandId(number)),
            subject: request.reply().map(str::to_owned),
            wait: promise,
            operation,
            started,
            replies: self.replies.clone(),
            metrics: self.shared.metrics.clone(),
            tally: self.tally.clone(),
            permit: None,
            slot: None,
            answered: false,
        };
        let Some((operation, argument)) = known else {
            return caller.refuse(&self.no_such_operation(request.tokens()));
        };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let limit = self.shared.commands.max_in_flight;
            let error = Error::rejected(
                Code::TooMany,
                format!("{limit} commands are under way already (commands.max_in_flight)"),
            );
            return caller.refuse(&error);
        };
        caller.permit = Some(permit);
        match self.command(request, &operation, argument, CommandId(number), started, &mut caller) {
            Ok(command) => self.once(request, command, &operation, caller),
            Err(error) => caller.refuse(&error),
        }
    }

    /// A command with a key is carried out once.
    fn once(&mut self, request: &Request, command: Command, operation: &Operation, mut caller: Caller) {
        let Some((_, key)) = request.headers().find(|(name, _)| name.eq_ignore_ascii_case("Idempotency-Key"))
        else {
            return self.dispatch(command, operation, caller);
        };
        let what = [request.tokens().as_bytes(), command.body.get().as_bytes()];
        match self.keys.claim(key, what, request.reply()) {
            Claim::First(slot) => {
                caller.slot = Some(slot);
                self.dispatch(command, operation, caller);
            }
            Claim::Joined => caller.join(),
            Claim::Answered(answer) => caller.repeat(&answer),
            Claim::Clash => {
                let error =
                    Error::rejected(Code::KeyReused, "the Idempotency-Key was used for another command");
                caller.refuse(&error);
            }
            Claim::Unusable => {
                let error = Error::rejected(
                    Code::BadBody,
                    "the Idempotency-Key must have 1 to 256 bytes, and few may wait for one",
                );
                caller.refuse(&error);
            }
        }
    }

    fn no_such_operation(&self, tokens: &str) -> Error {
        let known: Vec<_> = self.operations.iter().map(|operation| operation.name).collect();
        let tokens: String = tokens.chars().take(64).collect();
        Error::rejected(
            Code::NotFound,
            format!("there is no operation \"{tokens}\"; there are {}", known.join(", ")),
        )
    }

    /// The operation that these tokens name, and what follows it.
    fn find(&self, tokens: &str) -> Option<(Operation, Option<String>)> {
        let named = self.operations.iter().filter_map(|operation| {
            let rest = tokens.strip_prefix(operation.name)?;
            match (rest.strip_prefix('.'), operation.argument) {
                (None, _) if rest.is_empty() => Some((operation, None)),
                (Some(rest), Some(_)) => Some((operation, Some(rest.to_owned()))),
                _ => None,
            }
        });
        // `room.join` is a longer match than `room`.
        named
            .max_by_key(|(operation, _)| operation.name.len())
            .map(|(operation, rest)| (operation.clone(), rest))
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
        let mut timeout = self.connector.timeout(operation.name).unwrap_or(self.shared.commands.timeout.0);
        let mut stream = false;
        let mut headers = Vec::new();
        for (name, value) in request.headers() {
            match name.to_ascii_lowercase().as_str() {
                "pontoon-wait" => caller.wait = wait(value, operation)?,
                "pontoon-timeout" => timeout = self.timeout(value)?,
                "pontoon-stream" => stream = value.eq_ignore_ascii_case("true"),
                lower if lower.starts_with("pontoon-") || lower == "traceparent" => {
                    headers.push((name.to_owned(), value.to_owned()));
                }
                // Nothing else that a caller sends is passed on, least of all what begins with `Nats-`.
                _ => {}
            }
        }
        let argument = argument.map(|tokens| decode(&tokens)).transpose()?;
        let body = self.body(request)?;
        Ok(Command {
            id,
            operation: operation.name,
            argument,
            body,
            headers,
            deadline: started + timeout,
            stream,
        })
    }

    fn timeout(&self, value: &str) -> Result<std::time::Duration> {
        let span: Span = value
            .parse()
            .map_err(|error| Error::rejected(Code::BadBody, format!("Pontoon-Timeout: {error}")))?;
        let limit = self.shared.commands.max_timeout;
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
        let limit = self.shared.commands.max_body;
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
                self.redial.send_modify(|number| *number += 1);
                caller.answer(Outcome::Accepted, None, None);
            }
            _ => self.carry(command, operation.promise, caller),
        }
    }

    fn carry(&mut self, command: Command, promise: Promise, caller: Caller) {
        let mut patient = false;
        let routed = self.connector.route(&command).and_then(|route| match route {
            Route::To(key) => self.connected(&key).map(|()| Some(key)),
            Route::Through(spec) => {
                patient = true;
                let (key, places) = (spec.key.clone(), self.places.clone());
                self.open_at(spec, Some(places)).map(|()| Some(key))
            }
            Route::Open(spec) => self.open(spec).map(|()| None),
            Route::Close(key) => {
                if let Some(link) = self.links.remove(&key) {
                    link.stop.cancel();
                }
                Ok(None)
            }
        });
        match routed {
            Err(error) => caller.refuse(&error),
            Ok(None) => caller.answer(Outcome::Accepted, None, None),
            Ok(Some(key)) => {
                let Some(link) = self.links.get(&key) else {
                    return caller.refuse(&Error::rejected(Code::NotFound, "there is no such link"));
                };
                let stay = match patient.then(|| link.room.enter(&command)).transpose() {
                    Ok(stay) => stay,
                    Err(error) => return caller.refuse(&error),
                };
                let errand = Errand { command, promise, caller, patient, stay };
                if let Err(refused) = link.mailbox.try_send(errand) {
                    let errand = refused.into_inner();
                    errand.caller.refuse(&Error::disconnected("the link takes no commands now"));
                }
            }
        }
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

fn wait(value: &str, operation: &Operation) -> Result<Promise> {
    let wanted: Promise = value.parse()?;
    if wanted > operation.promise {
        let text = format!(
            "{} can be waited for up to \"{}\", not \"{value}\"",
            operation.name,
            operation.promise.as_str()
        );
        return Err(Error::rejected(Code::BadBody, text));
    }
    Ok(wanted)
}

/// What the tokens behind an operation mean; a name with dots in it may come as several.
fn decode(tokens: &str) -> Result<String> {
    let decoded: Option<Vec<_>> = tokens.split('.').map(decode_token).collect();
    let wrong = || Error::rejected(Code::BadBody, "the subject holds a broken escape; write =HH for a byte");
    Ok(decoded.ok_or_else(wrong)?.join("."))
}
