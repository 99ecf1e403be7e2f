//! The session of one socket: joins rooms, sends what callers ask for, and matches acknowledgements to commands.

use std::sync::Arc;

use pontoon_sdk::event::{SenderKind, ServiceError};
use pontoon_sdk::pending::{Answered, Order, Pending};
use pontoon_sdk::socketio::{Args, Frame};
use pontoon_sdk::{
    Code, Command, CommandId, Error, Event, EventType, Join, Outbox, Raw, Redactor, Reply, Result, Session,
};
use serde_json::value::RawValue;

use crate::cache::MessageCache;
use crate::config::{Config, Id, LinkKind, Links, MAX_CHATS};
use crate::decode::{Decoder, Message, Outcome};
use crate::operations::{Body, Request, Room};

/// One session.
pub struct MinChatSession {
    config: Arc<Config>,
    cache: Arc<MessageCache>,
    link: LinkKind,
    /// Requests whose acknowledgement is pending, by its number.
    pending: Pending<u64, Call, Frame>,
    /// The number of the next acknowledgement.
    next_ack: u64,
}

/// A request whose acknowledgement is pending.
struct Call {
    /// The event that was sent.
    name: &'static str,
    /// The message that is to be changed; none for a new message.
    message: Option<String>,
    chat: Option<String>,
}

impl MinChatSession {
    pub(crate) fn new(config: Arc<Config>, cache: Arc<MessageCache>, link: LinkKind) -> Self {
        Self { config, cache, link, pending: Pending::new(Order::ById), next_ack: 0 }
    }

    fn decoder(&self) -> Decoder<'_> {
        Decoder { config: &self.config, link: &self.link, cache: &self.cache }
    }

    /// The rooms that the settings name for this link, in the order in which they are joined.
    fn configured(&self) -> Vec<Room> {
        let chats = match &self.link {
            LinkKind::User => &[],
            LinkKind::Chat(chat) => std::slice::from_ref(chat),
            LinkKind::Shared => self.config.chats.as_slice(),
        };
        std::iter::once(Room::User).chain(chats.iter().cloned().map(Room::Chat)).collect()
    }

    /// The rooms that are joined, in the order in which they are: those of the settings, as changed by commands.
    fn rooms(&self, joins: &[Join]) -> Vec<Room> {
        let mut rooms = self.configured();
        for join in joins {
            let Some(room) = room_of(&join.key) else { continue };
            rooms.retain(|known| *known != room);
            if is_joined(join) {
                rooms.push(room);
            }
        }
        rooms
    }

    /// Has the daemon remember that a command joins or leaves a room.
    fn remember(&self, command: CommandId, room: &Room, join: bool, out: &mut Outbox<Frame>) -> Result<()> {
        // The settings need not be remembered.
        if join == self.configured().contains(room) {
            out.forget_for(command, join_key(room));
            return Ok(());
        }
        let data = RawValue::from_string(join.to_string());
        let data = data.map_err(|error| Error::internal(error.to_string()))?;
        out.remember_for(command, Join { key: join_key(room), data })
    }

    /// Refuses a request about a chat that this socket, the only one, has not joined.
    fn check_joined(&self, request: &Request, joins: &[Join]) -> Result<()> {
        let Some(chat) = request.chat() else { return Ok(()) };
        let key = join_key(&Room::Chat(chat.clone()));
        let changed = joins.iter().find(|join| join.key == key).map(is_joined);
        if changed.unwrap_or_else(|| self.config.chats.contains(chat))
            || matches!(request, Request::LeaveChat(_))
        {
            return Ok(());
        }
        if !matches!(request, Request::JoinChat(_)) {
            let chat = chat.as_str();
            let text = format!("the chat {chat:?} is not joined; send room.join first, or list it in chats");
            return Err(Error::rejected(Code::NotFound, text));
        }
        let chats = self.rooms(joins).iter().filter(|room| **room != Room::User).count();
        if chats < MAX_CHATS {
            return Ok(());
        }
        let text = format!("{chats} chats are joined already; one socket joins at most {MAX_CHATS}");
        Err(Error::rejected(Code::TooMany, text))
    }

    fn acknowledged(&mut self, id: u64, args: &Args, out: &mut Outbox<Frame>) -> Result<()> {
        let Some(Answered { command, context: call }) = self.pending.answered(&id, out) else {
            return Err(Error::protocol("an acknowledgement for which no request is pending"));
        };
        let raw = args.payload();
        let reply = match Outcome::read(args.values()) {
            Outcome::Accepted(message) => {
                self.accepted(command, &call, message, &raw, out);
                Reply::Acked(raw.parse()?)
            }
            Outcome::Refused(mut error) => {
                self.mask(&mut error);
                let reason = error.message.clone();
                let reason = reason
                    .unwrap_or_else(|| format!("MinChat refused the {}, and did not say why", call.name));
                out.publish(Event::error(error, raw).channel(call.chat).upstream(call.name));
                Reply::Failed(Error::refused(reason))
            }
            Outcome::Unclear => {
                let reason = "the acknowledgement says neither that it was done nor that it was refused";
                out.publish(Event::unrecognised(call.name, reason, raw).channel(call.chat));
                Reply::Unknown(Error::refused(reason))
            }
        };
        if let Some(command) = command {
            out.reply(command, reply);
        }
        Ok(())
    }

    /// Publishes the message that the service took: it is not broadcast to the socket that sent it.
    fn accepted(
        &self,
        command: Option<CommandId>,
        call: &Call,
        mut message: Message,
        raw: &Raw,
        out: &mut Outbox<Frame>,
    ) {
        let kind = if call.message.is_some() { EventType::MessageUpdated } else { EventType::MessageCreated };
        message.id = message.id.or_else(|| call.message.clone());
        // The chat of a change is the caller's choice of a link, and counts only where nothing else is known.
        let chat_of_new = call.chat.clone().filter(|_| kind == EventType::MessageCreated);
        let known = || self.cache.chat(message.id.as_deref()?);
        let chat = message.chat.clone().or(chat_of_new).or_else(known);
        if let (Some(id), Some(chat)) = (&message.id, &chat) {
            self.cache.insert(id, chat);
        }
        let chat = chat.or_else(|| call.chat.clone());
        let mut accepted = Event::new(EventType::MessageAccepted, raw.clone()).upstream(call.name);
        accepted.command = command;
        out.publish(accepted.message_id(message.id.clone()).channel(chat.clone()));
        // The user's link has joined no chat: the link that has joined this one receives the change, and publishes it.
        if kind == EventType::MessageUpdated && self.link == LinkKind::User {
            return;
        }
        let mut event = self.decoder().message_event(kind, message, chat, raw.clone());
        if kind == EventType::MessageCreated {
            let sender = event.fields.sender.get_or_insert_default();
            sender.id.get_or_insert_with(|| self.config.user_id.as_str().to_owned());
            sender.kind = Some(SenderKind::Own);
        }
        event.caused_by = command;
        out.publish(event.upstream(call.name));
    }

    /// Takes the key out of the text of an error, should the service repeat it.
    fn mask(&self, error: &mut ServiceError) {
        if let (Ok(key), Some(text)) = (self.config.api_key.reveal(), &mut error.message) {
            *text = Redactor::new([key]).text(text).into_owned();
        }
    }
}

impl Session for MinChatSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        self.cache.connected();
        let key = self.config.api_key.reveal();
        let key = key.map_err(|error| Error::auth(format!("api_key: {}", error.message())))?;
        for room in self.rooms(joins) {
            let (name, payload) = Request::join(room).event(&self.config, &key)?;
            out.send(Frame::event(name, payload));
        }
        // No join is confirmed. What is sent after it on this socket is handled after it.
        out.ready();
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let event = match frame {
            Frame::Event(event) => event,
            Frame::Ack { id, args } => return self.acknowledged(*id, args, out),
            Frame::Malformed { reason, .. } => return Err(Error::protocol(reason.clone())),
        };
        let mut decoded = self.decoder().decode(event, frame);
        if let Some(error) = &mut decoded.fields.error {
            self.mask(error);
        }
        out.publish(decoded);
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        // With a link per chat the daemon knows which links there are.
        if self.config.links == Links::Shared {
            self.check_joined(&request, out.joins())?;
        }
        let key = self.config.api_key.reveal();
        let key = key.map_err(|error| {
            Error::rejected(Code::NotConnected, format!("nothing was sent: api_key: {}", error.message()))
        })?;
        let (name, payload) = request.event(&self.config, &key)?;
        if let Some((room, join)) = request.room() {
            self.remember(command.id, &room, join, out)?;
        }
        let chat = request.chat().map(|chat| chat.as_str().to_owned());
        let message = match &request {
            Request::Message(_) | Request::MessageSend(_) => None,
            Request::Update(Body(update)) => Some(update.message_id.as_str().to_owned()),
            _ => {
                out.send_for(command.id, Frame::event(name, payload));
                return Ok(());
            }
        };
        let ack = self.next_ack;
        self.next_ack += 1;
        let frame = Frame::call(ack, name, payload);
        self.pending.send(&command, ack, Call { name, message, chat }, frame, out)
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.pending.abandoned(command, sent, out);
    }
}

/// What stands before a chat's id in the key of a join.
const CHAT: &str = "chat:";

/// The key under which the daemon remembers that a room was joined, or left.
fn join_key(room: &Room) -> String {
    match room {
        Room::User => "user".to_owned(),
        Room::Chat(chat) => format!("{CHAT}{}", chat.as_str()),
    }
}

/// The room of such a key.
fn room_of(key: &str) -> Option<Room> {
    match key.strip_prefix(CHAT) {
        Some(chat) => Id::try_from(chat.to_owned()).ok().map(Room::Chat),
        None => (key == "user").then_some(Room::User),
    }
}

/// Whether the room was joined, and not left.
fn is_joined(join: &Join) -> bool {
    join.data.get() == "true"
}
