//! One connection to an ElizaOS server: its dialect, its subscriptions, and the commands that it carries out.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::socketio::Frame;
use pontoon_sdk::streams::Streams;
use pontoon_sdk::{Code, Command, CommandId, DeliveryLevel, Error, Event, Join, Raw, Reply, Result, Session};

use crate::answers::Answers;
use crate::config::{Dialect, Setup};
use crate::dialect::{self, Outbox};
use crate::message_cache::MessageCache;
use crate::operations::{self, Message, Request};
use crate::pending::{self, Expected, Pending};
use crate::subscriptions::{Change, Subscriptions};

/// How long a server may take to greet. Released ones greet with the first packet.
const GREETING: Duration = Duration::from_secs(2);

/// The state of one connection.
pub struct ElizaOsSession {
    pub(crate) setup: Arc<Setup>,
    pub(crate) server: Arc<Server>,
    /// The dialect of this connection; `Auto` until it is decided.
    pub(crate) dialect: Dialect,
    /// When it is decided without a greeting.
    decide_by: Option<Instant>,
    pub(crate) pending: Pending,
    pub(crate) answers: Answers,
    pub(crate) streams: Streams,
    /// Events of joins whose pair has not come: name and payload.
    pub(crate) unpaired: VecDeque<(String, Raw)>,
    /// Makes the ids of our messages unlike those of any other client of the service.
    salt: String,
    messages: u64,
}

/// What is known of the server, over all connections of an instance.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) messages: MessageCache,
    /// Whether it has greeted: then silence does not make it documented, for the greeting may lie unread.
    has_greeted: AtomicBool,
}

impl ElizaOsSession {
    pub(crate) fn new(setup: Arc<Setup>, server: Arc<Server>) -> Self {
        Self {
            setup,
            server,
            dialect: Dialect::Auto,
            decide_by: None,
            pending: Pending::default(),
            answers: Answers::default(),
            streams: Streams::default(),
            unpaired: VecDeque::new(),
            salt: format!("{:016x}", RandomState::new().build_hasher().finish()),
            messages: 0,
        }
    }

    /// What is subscribed to.
    pub(crate) fn subscriptions<'a>(&'a self, out: &'a Outbox) -> Subscriptions<'a> {
        Subscriptions { setup: &self.setup, joins: out.joins() }
    }

    /// The dialect is decided: subscribes again to all that the service forgets with a connection, and takes commands.
    fn start(&mut self, dialect: Dialect, out: &mut Outbox) -> Result<()> {
        self.dialect = dialect;
        self.decide_by = None;
        let is_native = dialect == Dialect::Native;
        let subscriptions = self.subscriptions(out);
        let (rooms, logs, filter) = (subscriptions.rooms(), subscriptions.logs(), subscriptions.filter());
        for room in rooms {
            out.send(dialect::join(&self.setup, dialect, &room)?);
            if is_native {
                self.pending.add(None, Expected::Joined(room.room_id));
            }
        }
        if is_native && logs {
            out.send(dialect::logs(true)?);
            self.pending.add(None, Expected::Subscribed(true));
            if let Some(filter) = filter {
                out.send(dialect::filter(&filter)?);
                self.pending.add(None, Expected::Filtered);
            }
        }
        // Frames behind the joins on this socket are handled behind them.
        out.ready();
        Ok(())
    }

    /// The server has greeted, as only native ones do.
    fn greeted(&mut self, out: &mut Outbox) -> Result<()> {
        self.server.has_greeted.store(true, Ordering::Relaxed);
        match self.dialect {
            Dialect::Auto => self.start(Dialect::Native, out),
            Dialect::Documented if self.setup.config.dialect == Dialect::Auto => {
                let text = "the server greeted after its silence was taken for the documented dialect";
                Err(Error::disconnected(text))
            }
            Dialect::Documented | Dialect::Native => Ok(()),
        }
    }

    /// Replies to the callers whose requests were certainly refused by now.
    pub(crate) fn reply_refused(&mut self, out: &mut Outbox) {
        for (request, text) in self.pending.refused() {
            // This error comes also after the message was stored.
            let is_certain = !text.contains("Error processing your message");
            let error = Error::refused(text);
            let reply = if is_certain { Reply::Failed(error) } else { Reply::Unknown(error) };
            self.fail(&request, reply, out);
        }
    }

    /// Undoes what the command of a refused request changed, and replies to its caller.
    pub(crate) fn fail(&mut self, request: &pending::Request, reply: Reply, out: &mut Outbox) {
        let Some(command) = request.command else { return };
        out.undo(command);
        self.answers.remove(command);
        if let Some(caller) = request.caller() {
            out.reply(caller, reply);
        }
    }

    fn message(
        &mut self,
        mut message: Message,
        command: &Command,
        out: &Outbox,
    ) -> Result<(Option<Frame>, Option<Expected>)> {
        let room = message.room_id.clone();
        let writer = *message.user_id.get_or_insert(self.setup.entity);
        message.name.get_or_insert_with(|| self.setup.config.name.clone());
        if self.dialect == Dialect::Native {
            if let Some(id) = message.message_id.as_deref().filter(|id| self.pending.has_message(id)) {
                let text = format!(
                    "a message {id:?} was sent and is not acknowledged yet; give this one another id, or none"
                );
                return Err(Error::rejected(Code::BadBody, text).at("/messageId"));
            }
            message.message_id.get_or_insert_with(|| {
                self.messages += 1;
                format!("pontoon-{}-{}", self.messages, self.salt)
            });
        }
        let subscriptions = self.subscriptions(out);
        let frame = dialect::message(&self.setup, self.dialect, &message, subscriptions.agent_in(&room))?;
        if command.stream {
            if subscriptions.room(&room).is_none() {
                let text = format!(
                    "the room {room:?} is not joined, so that no answer would be received; send join first"
                );
                return Err(Error::rejected(Code::NotFound, text));
            }
            self.answers.add(&room, command.id, writer)?;
            if self.dialect == Dialect::Documented {
                self.answers.acknowledged(command.id, self.after(None));
            }
        }
        Ok((Some(frame), message.message_id.map(Expected::Acknowledged)))
    }
}

impl Session for ElizaOsSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _: &[Join], out: &mut Outbox) -> Result<()> {
        match self.setup.config.dialect {
            Dialect::Auto => {
                let decide_by = out.now() + GREETING;
                self.decide_by = Some(decide_by);
                out.wake_at(decide_by);
                Ok(())
            }
            forced => self.start(forced, out),
        }
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox) -> Result<()> {
        let event = match frame {
            Frame::Event(event) => event,
            Frame::Ack { .. } => return Err(Error::protocol("an acknowledgement, and none was asked for")),
            Frame::Malformed { reason, .. } => return Err(Error::protocol(reason.clone())),
        };
        match self.event(event, out) {
            Ok(None) => {}
            Ok(Some(decoded)) => out.publish(decoded.upstream(event.name.clone())),
            Err(error) => {
                out.publish(Event::unrecognised(event.name.clone(), error.message(), frame.raw()));
            }
        }
        match event.name.as_str() {
            "connection_established" | "authenticated" => self.greeted(out),
            _ => Ok(()),
        }
    }

    fn encode(&mut self, mut request: Request, command: Command, out: &mut Outbox) -> Result<()> {
        if self.dialect == Dialect::Auto {
            return Err(Error::rejected(Code::NotConnected, "the server's dialect is not decided yet"));
        }
        let delivery = operations::offers(command.operation, DeliveryLevel::Acked, self.dialect)?;
        let (id, is_native) = (command.id, self.dialect == Dialect::Native);
        let is_answered = command.stream && matches!(request, Request::Message(_) | Request::MessageSend(_));
        if let Request::Join(room) | Request::Leave(room) = &mut request {
            room.agent_id = room.agent_id.or_else(|| self.subscriptions(out).agent_in(&room.room_id));
        }
        let (frame, expected) = match request {
            Request::Join(room) => {
                let frame = dialect::join(&self.setup, self.dialect, &room)?;
                let expected = Expected::Joined(room.room_id.clone());
                Change::Join(room).keep(&self.setup, id, out)?;
                (Some(frame), Some(expected))
            }
            Request::Leave(room) => {
                // Natively there is no leaving: the next connection does not join.
                let frame = if is_native { None } else { Some(dialect::leave(&room)?) };
                Change::Leave(room.room_id).keep(&self.setup, id, out)?;
                (frame, None)
            }
            Request::Message(message) => self.message(message, &command, out)?,
            Request::MessageSend(message) => self.message(message.into(), &command, out)?,
            Request::WorldState(body) => (Some(dialect::world_state(&body)?), None),
            Request::Subscribe | Request::Unsubscribe => {
                let on = matches!(request, Request::Subscribe);
                Change::Logs(on).keep(&self.setup, id, out)?;
                // A subscription begins without a filter.
                Change::Filter(None).keep(&self.setup, id, out)?;
                (Some(dialect::logs(on)?), Some(Expected::Subscribed(on)))
            }
            Request::Filter(filter) => {
                filter.check()?;
                let frame = dialect::filter(&filter)?;
                let merged = self.subscriptions(out).filter().unwrap_or_default().with(filter);
                Change::Filter(Some(merged)).keep(&self.setup, id, out)?;
                (Some(frame), Some(Expected::Filtered))
            }
        };
        if delivery < DeliveryLevel::Acked && !is_answered {
            out.delivery(id, delivery);
        }
        if let Some(expected) = expected.filter(|_| is_native) {
            self.pending.add(Some(id), expected);
        }
        if let Some(frame) = frame {
            out.send_for(id, frame);
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut Outbox) -> Result<()> {
        if self.decide_by.is_none_or(|decide_by| decide_by > out.now()) {
            return Ok(());
        }
        let has_greeted = self.server.has_greeted.load(Ordering::Relaxed);
        self.start(if has_greeted { Dialect::Native } else { Dialect::Documented }, out)
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox) {
        self.answers.remove(command);
        self.pending.abandoned(command, sent);
        self.reply_refused(out);
    }
}
