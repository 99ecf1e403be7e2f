//! From a message on a command subject to the queue of the link that carries it out, or to a refusal.

pub(super) mod opened;
pub(super) mod reading;

use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use pontoon_sdk::listener::Listener;
use pontoon_sdk::{
    Code, Command, CommandId, DeliveryLevel, Error, LinkKey, LinkState, Object, Operation, Result, Route,
    Transport,
};
use schemars::{Schema, json_schema};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::links::Links;
use super::shared::Shared;
use crate::bus::commands::Request;
use crate::envelope::subject::reply_allowed;
use crate::envelope::trace_context::traceparent;
use crate::link::erased::{ErasedConnector, ErasedRequest};
use crate::link::lifetime::Lifetime;
use crate::link::queue::{QueuedCommand, WhenDown};
use crate::metrics::Outcome;
use crate::reply::idempotency::{Entry, Fingerprint, Keys};
use crate::reply::{Caller, Job, ReplySender, Stats};
use crate::status::{InstanceStatus, LinkStatus, Phase};
use crate::transport::Dial;

/// Operations that every instance has.
pub const RECONNECT: &str = "reconnect";
/// See [`RECONNECT`].
pub const STATUS: &str = "status";
/// Operations of an instance that every one has where `admin.commands` is true.
pub const PAUSE: &str = "pause";
/// See [`PAUSE`].
pub const RESUME: &str = "resume";
/// The header by which a command belongs to a trace.
const TRACEPARENT: &str = "traceparent";
/// The header by which a job may be sent again where it may have been done.
const REPEAT: &str = "Pontoon-Repeat";
/// The header that names the scope of a job.
const SCOPE: &str = "Pontoon-Scope";
/// The label for a command whose operation is unknown.
pub const UNKNOWN: &str = "unknown";

/// The most that `commands.max_in_flight` may be. A reload may raise it up to this while links are open.
pub const MOST_COMMANDS: usize = 1 << 20;

/// All operations of an instance, with those that every instance has.
pub fn operations<T: Transport>(connector: &dyn ErasedConnector<T>, admin_commands: bool) -> Vec<Operation> {
    let offered = |operation: Operation| {
        let delivery = connector.offers(&operation).ok()?;
        Some(Operation { delivery, ..operation })
    };
    let common = common_operations().into_iter().filter(|operation| admin_commands || !is_admin(operation));
    connector.operations().into_iter().filter_map(offered).chain(common).collect()
}

/// The operations that every instance has, whatever its connector.
pub fn common_operations() -> [Operation; 4] {
    static ANY: LazyLock<Arc<Schema>> = LazyLock::new(|| json_schema!({ "type": "object" }).into());
    let operation = |name, summary, delivery| Operation {
        name,
        argument: None,
        summary,
        body: ANY.clone(),
        delivery,
        idempotent: true,
    };
    [
        operation(RECONNECT, "Dials every link of the instance again", DeliveryLevel::Accepted),
        operation(STATUS, "Returns the state of the instance and its links", DeliveryLevel::Response),
        operation(
            PAUSE,
            "Closes every link and dials none until `resume` or a restart (admin.commands)",
            DeliveryLevel::Accepted,
        ),
        operation(RESUME, "Dials the links of a paused instance (admin.commands)", DeliveryLevel::Accepted),
    ]
}

/// Whether an operation is one of operators, which `admin.commands` allows.
fn is_admin(operation: &Operation) -> bool {
    [PAUSE, RESUME].contains(&operation.name)
}

/// Takes the commands of an instance, and owns its links.
pub struct Router<T: Dial> {
    shared: Rc<Shared>,
    connector: Rc<dyn ErasedConnector<T>>,
    operations: Vec<Rc<Operation>>,
    /// All of the connector, for the reason why this instance refuses some.
    known: Vec<Rc<Operation>>,
    /// The links.
    pub links: Links<T>,
    status: watch::Receiver<InstanceStatus>,
    replies: ReplySender,
    stats: Rc<Stats>,
    permits: Arc<Semaphore>,
    keys: Rc<Keys>,
    /// Answers those in time that wait for the answer to a key; ends with this value.
    _expiry: JoinSet<()>,
    last: CommandId,
}

impl<T: Dial> Router<T> {
    /// A router without links.
    pub fn new(
        shared: Rc<Shared>,
        connector: Rc<dyn ErasedConnector<T>>,
        status: watch::Receiver<InstanceStatus>,
        replies: ReplySender,
        stats: Rc<Stats>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(MOST_COMMANDS));
        let keys = shared.keys.clone();
        let mut expiry = JoinSet::new();
        expiry.spawn_local(keys.clone().expire());
        Self {
            links: Links::new(shared.clone(), connector.clone()),
            shared,
            operations: operations(&*connector, true).into_iter().map(Rc::new).collect(),
            known: connector.operations().into_iter().map(Rc::new).collect(),
            connector,
            status,
            replies,
            stats,
            permits,
            keys,
            _expiry: expiry,
            last: CommandId(0),
        }
    }

    /// Sends the replies to the commands that come from now on to this outlet.
    pub fn reply_to(&mut self, replies: ReplySender) {
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

    /// A permit for a command under way, if there is one left. No command takes one in between: all are handled in one task.
    fn permit(&self, limit: usize) -> Option<OwnedSemaphorePermit> {
        let has_room = self.under_way() < limit;
        has_room.then(|| self.permits.clone().try_acquire_owned().ok()).flatten()
    }

    /// Carries out one command, or refuses it. Without the lease it is left to the owner of the instance, which gets it too.
    pub fn handle(&mut self, request: &Request) {
        if !self.shared.fence.is_open() {
            return;
        }
        self.handle_for(request, self.replies.clone());
    }

    /// The subject of replies that do not go over NATS, which is one that is allowed.
    pub fn local_reply(&self) -> String {
        let settings = self.shared.settings();
        format!("{}page", settings.commands.reply_prefixes.first().map_or("_INBOX.", String::as_str))
    }

    /// The same with another place for the replies.
    pub fn handle_for(&mut self, request: &Request, replies: ReplySender) {
        let settings = self.shared.settings();
        if let Some(reply) = request.reply()
            && !reply_allowed(reply, &settings.commands.reply_prefixes, &settings.nats.prefix)
        {
            let instance = self.shared.link.instance.clone();
            let operation = find(&self.operations, request.tokens());
            let operation = operation.map_or(UNKNOWN, |(operation, _)| operation.name);
            self.shared.throttles.replies.log(move |count| {
                tracing::warn!(
                    instance,
                    operation,
                    count,
                    "a command was refused: its reply subject is not under commands.reply_prefixes"
                );
            });
            self.shared.link.metrics.command_ended(operation, Outcome::BadReply);
            return;
        }
        let subject = request.reply().map(str::to_owned);
        self.take(request, Origin { name: None, subject, replies, job: None });
    }

    /// Makes one attempt of a job.
    pub fn attempt(&mut self, attempt: Attempt) {
        let Attempt { request, id, sequence, job, replies } = attempt;
        let subject = Some(sequence.to_string());
        self.take(&request, Origin { name: Some(id), subject, replies, job: Some(job) });
    }

    /// What is known of a job before it is carried out.
    pub fn describe(&self, request: &Request) -> Described {
        let known = find(&self.operations, request.tokens());
        let idempotent = known.as_ref().is_some_and(|(operation, _)| operation.idempotent);
        let repeats = request.header(REPEAT).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let named = request.header(SCOPE).map(str::to_owned);
        let scope = named.or_else(|| {
            let (operation, argument) = known?;
            let body: Object<'_> = serde_json::from_slice(request.body()).ok()?;
            self.connector.scope(operation.name, argument.as_deref(), &body)
        });
        Described { scope: scope.unwrap_or_default(), repeatable: idempotent || repeats }
    }

    fn take(&mut self, request: &Request, origin: Origin) {
        let started = Instant::now();
        let settings = self.shared.settings();
        let known = find(&self.operations, request.tokens());
        let operation = known.as_ref().map_or(UNKNOWN, |(operation, _)| operation.name);
        let id = CommandId(self.last.0 + 1);
        self.last = id;
        let delivery = known.as_ref().map_or(DeliveryLevel::Accepted, |(operation, _)| operation.delivery);
        let mut caller = Caller {
            name: origin.name.unwrap_or_else(|| self.shared.envelope.command(id)),
            subject: origin.subject,
            wait: delivery,
            named_wait: false,
            operation,
            started,
            deadline: started,
            traceparent: request.header(TRACEPARENT).and_then(traceparent).map(Arc::from),
            replies: origin.replies,
            metrics: self.shared.link.metrics.clone(),
            stats: self.stats.clone(),
            permit: None,
            begin: None,
            on_answer: None,
            job: origin.job.map(Box::new),
            answered: false,
        };
        if let Some(error) = caller.job.as_ref().and_then(|job| hopeless(job, started)) {
            return caller.refuse(&error);
        }
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
        match self.command(request, &operation, argument, id, started, &mut caller) {
            Ok(command) => self.carry_out_once(request, command, &operation, caller),
            Err(error) => caller.refuse(&error),
        }
    }

    /// Carries out a command; one with a key once.
    fn carry_out_once(&mut self, request: &Request, command: Command, operation: &Operation, caller: Caller) {
        let Some(key) = request.header("Idempotency-Key") else {
            return self.carry_out(command, operation, caller);
        };
        // Where a trace goes changes nothing of what is done.
        let headers = command.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(TRACEPARENT));
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
        let fingerprint = Fingerprint::new(request.tokens(), command.body.get(), headers);
        self.keys.reconfigure(&self.shared.settings().commands);
        match self.keys.entry(key, fingerprint, caller) {
            Entry::First(caller) => self.carry_out(command, operation, caller),
            Entry::Joined => {}
            Entry::Answered(caller, answer) => caller.repeat(&answer),
            Entry::Refused(caller, error) => caller.refuse(&error),
        }
    }

    fn no_such_operation(&self, request: &Request) -> Error {
        let is_allowed =
            |operation: &&Rc<Operation>| self.shared.settings().admin_commands || !is_admin(operation);
        let known: Vec<_> =
            self.operations.iter().filter(is_allowed).map(|operation| operation.name).collect();
        let known = known.join(", ");
        // What the connector has and this instance refuses, the connector explains.
        if let Some((operation, _)) = find(&self.known, request.tokens()) {
            return self.connector.offers(&operation).err().unwrap_or_else(|| {
                let text = format!("this instance does not offer {}; it offers {known}", operation.name);
                Error::rejected(Code::NotFound, text)
            });
        }
        let tokens: String = request.tokens().chars().take(64).collect();
        Error::rejected(Code::NotFound, format!("there is no operation \"{tokens}\"; there are {known}"))
    }

    fn carry_out(&mut self, command: Command, operation: &Operation, caller: Caller) {
        if is_admin(operation) && !self.shared.settings().admin_commands {
            let text = format!("{} is not allowed; `admin.commands = true` allows it", operation.name);
            return caller.refuse(&Error::rejected(Code::Forbidden, text));
        }
        match operation.name {
            STATUS => match to_raw_value(&*self.status.borrow()) {
                Ok(status) => caller.answer(Outcome::Response, Some(&status), None),
                Err(error) => caller.refuse(&Error::internal(error.to_string())),
            },
            RECONNECT => {
                self.links.redial();
                caller.answer(Outcome::Accepted, None, None);
            }
            PAUSE | RESUME => {
                tracing::info!(operation = operation.name, "an operator pauses or resumes the instance");
                self.links.pause(operation.name == PAUSE);
                caller.answer(Outcome::Accepted, None, None);
            }
            name => {
                let streamed = self.connector.streamed(name).filter(|_| command.stream);
                self.route(command, streamed.unwrap_or(operation.delivery), caller);
            }
        }
    }

    fn route(&mut self, command: Command, delivery: DeliveryLevel, caller: Caller) {
        // The body is read here, and nowhere after this.
        let request = match self.connector.parse(&command) {
            Ok(request) => request,
            Err(error) => return caller.refuse(&error),
        };
        let (key, when_down) = match self.destination(&command, &request) {
            Ok(Destination::Link(key, when_down)) => (key, when_down),
            Ok(Destination::Accepted) => return caller.answer(Outcome::Accepted, None, None),
            Ok(Destination::Response(data)) => return caller.answer(Outcome::Response, Some(&data), None),
            Err(error) => return caller.refuse(&error),
        };
        match self.links.commands(&key) {
            Some(link) => link.push(QueuedCommand { request, command, delivery, caller, when_down }),
            None => caller.refuse(&Error::rejected(Code::NotFound, "there is no such link")),
        }
    }

    /// Does what the route of a command asks for, up to the queue of its link.
    fn destination(&mut self, command: &Command, request: &ErasedRequest) -> Result<Destination> {
        Ok(match self.connector.route(command, request)? {
            Route::To(key) => {
                self.require_ready(&key)?;
                Destination::Link(key, WhenDown::Fail)
            }
            Route::OnDemand(spec) => {
                let key = spec.key.clone();
                self.links.open(spec, Lifetime::OnDemand)?;
                Destination::Link(key, WhenDown::Wait)
            }
            Route::Create { spec, most } => {
                let (key, outlives) = (spec.key.clone(), spec.redial);
                self.links.create(spec, most)?;
                self.keep_opening(&key, outlives.then_some(command));
                Destination::Link(key, WhenDown::WaitForFirstDial)
            }
            Route::Open(spec) => {
                let key = spec.key.clone();
                self.links.open(spec, Lifetime::Permanent)?;
                self.keep_opening(&key, Some(command));
                Destination::Accepted
            }
            Route::Close(key) => {
                self.keep_closing(&key, command);
                self.links.close(&key);
                Destination::Accepted
            }
            Route::Local(reply) => Destination::Response(reply(&self.states())?),
        })
    }

    /// What is known of the links.
    fn states(&self) -> Vec<LinkState> {
        let links = self.shared.link.phases.list().into_iter().filter(|link| link.key != Listener::NAME);
        let state = |link: LinkStatus| LinkState {
            key: LinkKey::new(link.key),
            phase: link.phase.as_str(),
            detail: link.detail,
        };
        links.map(state).collect()
    }

    /// A command goes only to a link that is ready.
    fn require_ready(&self, key: &LinkKey) -> Result<()> {
        match self.shared.link.phases.get(key) {
            Some(Phase::Ready) => Ok(()),
            Some(phase) => Err(Error::disconnected(format!(
                "there is no connection to the service ({})",
                phase.as_str()
            ))),
            None => Err(Error::rejected(Code::NotFound, format!("there is no link \"{key}\""))),
        }
    }
}

/// Where a command comes from.
struct Origin {
    /// Its id in replies, if it has one.
    name: Option<String>,
    /// Where its caller receives replies.
    subject: Option<String>,
    replies: ReplySender,
    job: Option<Job>,
}

/// One attempt of a job.
pub struct Attempt {
    /// What the work queue delivered.
    pub request: Rc<Request>,
    /// The job's id.
    pub id: String,
    /// Its sequence, which its answer is sent with as the subject.
    pub sequence: u64,
    /// Its bounds.
    pub job: Job,
    /// Where its answer goes.
    pub replies: ReplySender,
}

/// What is known of a job before it is carried out.
pub struct Described {
    /// Jobs of one scope are carried out one after the other.
    pub scope: String,
    /// Whether the job may be sent again where it may have been done.
    pub repeatable: bool,
}

/// Why an attempt of a job must not be made.
fn hopeless(job: &Job, now: Instant) -> Option<Error> {
    if job.begun && !job.repeatable {
        let text = "the daemon ended or lost NATS while the job was under way; it may have been carried out";
        return Some(Error::rejected(Code::NoAnswer, text));
    }
    (job.expires <= now).then(|| Error::rejected(Code::Expired, "its time ran out before it was sent"))
}

/// Where a command goes.
enum Destination {
    /// To the queue of this link.
    Link(LinkKey, WhenDown),
    /// Nowhere: all that there is to do was done.
    Accepted,
    /// Nowhere: this is the response.
    Response(Box<RawValue>),
}

/// The operation that these tokens name, and what follows it.
fn find(operations: &[Rc<Operation>], tokens: &str) -> Option<(Rc<Operation>, Option<String>)> {
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
