//! One conversation with an ElizaOS server: which dialect it speaks, and what callers ask of it.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_sdk::accumulator::Streams;
use pontoon_sdk::socketio::Frame;
use pontoon_sdk::{
    Code, Command, CommandId, DeliveryLevel, Error, Join, Outbox, Raw, Reply, Result, Session, Uuid,
};

use crate::answers::Answers;
use crate::config::{Dialect, Setup};
use crate::message_cache::Known;
use crate::operations::{Draft, Order};
use crate::pending::{Asked, Pending};
use crate::subscriptions::{Room, Wish, Wishes};
use crate::{dialect, documented, operations};

/// How long a server may take to say by which dialect it is known. Released ones say it with the first packet.
const HESITATION: Duration = Duration::from_secs(2);

/// One conversation.
pub struct ElizaOsSession {
    pub(crate) setup: Arc<Setup>,
    pub(crate) known: Arc<Known>,
    /// Which dialect is spoken; `None` until that is known.
    pub(crate) tongue: Option<Tongue>,
    /// When it is decided without a word of the server; `None` once the server has said it, or the settings say it.
    pub(crate) decide_by: Option<Instant>,
    pub(crate) wishes: Wishes,
    pub(crate) pending: Pending,
    pub(crate) answers: Answers,
    pub(crate) streams: Streams,
    /// News that a room was joined, of which the service has told one of the two that it tells: name and payload.
    pub(crate) halves: VecDeque<(String, Raw)>,
    /// Makes the ids of our messages unlike those of any other client of the service.
    salt: String,
    messages: u64,
}

/// A dialect that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tongue {
    Documented,
    Native,
}

impl ElizaOsSession {
    pub(crate) fn new(setup: Arc<Setup>, known: Arc<Known>) -> Self {
        Self {
            wishes: Wishes::new(Arc::clone(&setup), &[]),
            setup,
            known,
            tongue: None,
            decide_by: None,
            pending: Pending::default(),
            answers: Answers::default(),
            streams: Streams::default(),
            halves: VecDeque::new(),
            salt: format!("{:016x}", RandomState::new().build_hasher().finish()),
            messages: 0,
        }
    }

    /// The dialect is known: asks again for all that the service forgets with a connection, and takes commands.
    pub(crate) fn begin(&mut self, tongue: Tongue, out: &mut Outbox<Frame>) -> Result<()> {
        self.tongue = Some(tongue);
        for room in self.wishes.rooms() {
            out.send(join(&self.setup, tongue, room)?);
            if tongue == Tongue::Native {
                self.pending.add(None, Asked::Join(room.id.clone()));
            }
        }
        if tongue == Tongue::Native && self.wishes.logs() {
            out.send(dialect::logs(true)?);
            self.pending.add(None, Asked::Logs(true));
            if let Some(filter) = self.wishes.filter() {
                out.send(dialect::filter(filter)?);
                self.pending.add(None, Asked::Filter);
            }
        }
        // What is sent behind the joins on this socket is handled behind them.
        out.ready();
        Ok(())
    }

    /// The server speaks another dialect than was taken for its own: what is said from now on answers none of what was
    /// sent until now.
    pub(crate) fn give_up(&mut self, out: &mut Outbox<Frame>) {
        for command in self.answers.clear() {
            self.pending.abandon(command, true);
            let text = "the message was sent in a dialect that the server does not speak";
            out.reply(command, Reply::Unknown(Error::rejected(Code::NoAnswer, text)));
        }
    }

    /// Tells the callers of whom it is certain by now that the service refused them.
    pub(crate) fn tell_refused(&mut self, out: &mut Outbox<Frame>) {
        for (request, words) in self.pending.refused() {
            let Some(command) = request.command else { continue };
            self.wishes.undo(command, out);
            self.answers.release(command);
            if request.waits {
                // This one is said of what was stored already, too.
                let certain = !words.contains("Error processing your message");
                let error = Error::refused(words);
                out.reply(command, if certain { Reply::Failed(error) } else { Reply::Unknown(error) });
            }
        }
    }

    fn native(&mut self, id: CommandId, order: Order, stream: bool, out: &mut Outbox<Frame>) -> Result<()> {
        match order {
            Order::Join { room, agent } => {
                let room = self.enter(room, agent, id, out)?;
                self.ask(id, Asked::Join(room.id.clone()), join(&self.setup, Tongue::Native, &room)?, out);
            }
            Order::Leave { room, .. } => {
                // There is no leaving: the next connection does without.
                out.delivery(id, DeliveryLevel::Accepted);
                self.wishes.set(Wish::Out(room), Some(id), out)?;
            }
            Order::Message(draft) => self.message(id, draft, stream, out)?,
            Order::WorldState { .. } => return Err(absent()),
            Order::Logs(on) => {
                let frame = dialect::logs(on)?;
                self.wishes.set(Wish::Logs(on), Some(id), out)?;
                // The service begins without a filter each time.
                self.wishes.set(Wish::Filter(None), Some(id), out)?;
                self.ask(id, Asked::Logs(on), frame, out);
            }
            Order::Filter(filter) => {
                let frame = dialect::filter(&filter)?;
                let whole = self.wishes.filter().cloned().unwrap_or_default().with(&filter);
                self.wishes.set(Wish::Filter(Some(whole)), Some(id), out)?;
                self.ask(id, Asked::Filter, frame, out);
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        command: CommandId,
        draft: Draft,
        stream: bool,
        out: &mut Outbox<Frame>,
    ) -> Result<()> {
        if let Some(id) = draft.id.as_deref().filter(|id| self.pending.has_message(id)) {
            let text = format!(
                "a message {id:?} was sent and is not acknowledged yet; give this one an id of its own, or none"
            );
            return Err(Error::rejected(Code::BadBody, text).at("/messageId"));
        }
        let id = draft.id.clone().unwrap_or_else(|| {
            self.messages += 1;
            format!("pontoon-{}-{}", self.messages, self.salt)
        });
        let frame = dialect::message(&self.setup, &draft, self.wishes.agent_of(&draft.room), &id)?;
        if stream {
            self.listen_in(&draft, command)?;
        }
        self.ask(command, Asked::Message { id, streamed: stream }, frame, out);
        Ok(())
    }

    fn documented(
        &mut self,
        id: CommandId,
        order: Order,
        stream: bool,
        out: &mut Outbox<Frame>,
    ) -> Result<()> {
        let frame = match order {
            Order::Join { room, agent } => {
                let room = self.enter(room, agent, id, out)?;
                join(&self.setup, Tongue::Documented, &room)?
            }
            Order::Leave { room, agent } => {
                let frame = documented::leave(&room, agent.or_else(|| self.wishes.agent_of(&room)))?;
                self.wishes.set(Wish::Out(room), Some(id), out)?;
                frame
            }
            Order::Message(draft) => {
                let frame = documented::message(&self.setup, &draft)?;
                if stream {
                    self.listen_in(&draft, id)?;
                    self.answers.listen(id, self.since(None));
                    out.send_for(id, frame);
                    return Ok(());
                }
                frame
            }
            Order::WorldState { room } => documented::world_state(&room)?,
            Order::Logs(_) | Order::Filter(_) => return Err(absent()),
        };
        // This dialect acknowledges nothing.
        out.delivery(id, DeliveryLevel::Sent);
        out.send_for(id, frame);
        Ok(())
    }

    /// Notes that a room is joined, with the agent that the settings name if the caller names none.
    fn enter(
        &mut self,
        room: String,
        agent: Option<Uuid>,
        command: CommandId,
        out: &mut Outbox<Frame>,
    ) -> Result<Room> {
        self.wishes.check_room_for(&room)?;
        let agent = agent.or_else(|| self.wishes.agent_of(&room));
        let room = Room { id: room, agent };
        self.wishes.set(Wish::In(room.clone()), Some(command), out)?;
        Ok(room)
    }

    /// A caller will wait for the agent's answer to a message.
    fn listen_in(&mut self, draft: &Draft, command: CommandId) -> Result<()> {
        let room = draft.room.as_str();
        if self.wishes.room(room).is_none() {
            let text =
                format!("the room {room:?} is not joined, so that no answer would be heard; send join first");
            return Err(Error::rejected(Code::NotFound, text));
        }
        self.answers.claim(room, command, draft.user.unwrap_or(self.setup.entity))
    }

    fn ask(&mut self, command: CommandId, asked: Asked, frame: Frame, out: &mut Outbox<Frame>) {
        self.pending.add(Some(command), asked);
        out.send_for(command, frame);
    }
}

impl Session for ElizaOsSession {
    type Frame = Frame;
    type Request = Order;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        self.wishes = Wishes::new(Arc::clone(&self.setup), joins);
        match self.setup.config.dialect {
            Dialect::Documented => self.begin(Tongue::Documented, out),
            Dialect::Native => self.begin(Tongue::Native, out),
            Dialect::Auto => {
                let decide_by = out.now() + HESITATION;
                self.decide_by = Some(decide_by);
                out.wake_at(decide_by);
                Ok(())
            }
        }
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        match frame {
            Frame::Event(event) => self.hear(event, out),
            Frame::Ack(_) => Err(Error::protocol("an acknowledgement, and none was asked for")),
            Frame::Malformed(malformed) => Err(Error::protocol(malformed.reason.clone())),
        }
    }

    fn encode(&mut self, order: Order, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let dialect = match self.tongue {
            Some(Tongue::Native) => Dialect::Native,
            Some(Tongue::Documented) => Dialect::Documented,
            None => Dialect::Auto,
        };
        operations::check(command.operation, dialect)?;
        match self.tongue {
            Some(Tongue::Native) => self.native(command.id, order, command.stream, out),
            Some(Tongue::Documented) => self.documented(command.id, order, command.stream, out),
            None => Err(Error::rejected(Code::NotConnected, "it is not known yet what the server speaks")),
        }
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        match self.decide_by {
            Some(decide_by) if self.tongue.is_none() && decide_by <= out.now() => {
                // What a server has said itself may lie unread; silence means no other than it said last.
                self.begin(self.known.spoken().unwrap_or(Tongue::Documented), out)
            }
            _ => Ok(()),
        }
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.answers.release(command);
        self.pending.abandon(command, sent);
        if !sent {
            self.wishes.undo(command, out);
        }
        self.tell_refused(out);
    }
}

fn join(setup: &Setup, tongue: Tongue, room: &Room) -> Result<Frame> {
    match tongue {
        Tongue::Native => dialect::join(setup, &room.id, room.agent),
        Tongue::Documented => documented::join(&room.id, room.agent),
    }
}

/// What was checked before.
fn absent() -> Error {
    Error::internal("an operation that this dialect does not have was not refused")
}
