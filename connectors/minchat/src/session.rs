//! One conversation with MinChat, over one socket.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use pontoon_sdk::event::{SenderKind, ServiceError};
use pontoon_sdk::object::cut;
use pontoon_sdk::socketio::{Ack, Answered, Calls, Frame};
use pontoon_sdk::{
    Code, Command, CommandId, Error, EventType, Join, Object, Outbox, Raw, Redactor, Reply, Result, Session,
};
use serde_json::value::RawValue;

use crate::cache::Known;
use crate::config::{Config, Links, MAX_CHATS, Place};
use crate::decode::{Ear, about, fault, in_chat, unrecognised, whole};
use crate::emits;
use crate::frames::{Message, success};
use crate::operations::{Order, Request, Room};

/// How many orders to join or leave can still be undone when it turns out that they were never written.
const MAX_UNDO: usize = 256;

/// One conversation.
pub struct MinChatSession {
    config: Arc<Config>,
    known: Arc<Known>,
    place: Place,
    /// The rooms that were joined on this connection.
    joined: BTreeSet<Room>,
    /// Orders to join or leave, and whether the room was joined before.
    undo: VecDeque<(CommandId, Room, bool)>,
    calls: Calls<Asked>,
}

/// What an acknowledgement is waited for.
struct Asked {
    name: &'static str,
    /// The message that was to be changed; none if a new one was to be written.
    message: Option<String>,
    chat: Option<String>,
}

/// What the service says of what it was asked.
enum Verdict {
    Taken(Message),
    Refused(ServiceError),
    Unclear,
}

impl MinChatSession {
    pub(crate) fn new(config: Arc<Config>, known: Arc<Known>, place: Place) -> Self {
        Self { config, known, place, joined: BTreeSet::new(), undo: VecDeque::new(), calls: Calls::default() }
    }

    fn ear(&self) -> Ear<'_> {
        Ear { config: &self.config, place: &self.place, known: &self.known }
    }

    /// The rooms that the settings name for this link, in the order in which they are joined.
    fn configured(&self) -> Vec<Room> {
        let chats = match &self.place {
            Place::User => &[],
            Place::Chat(chat) => std::slice::from_ref(chat),
            Place::Shared => self.config.chats.as_slice(),
        };
        std::iter::once(Room::User).chain(chats.iter().cloned().map(Room::Chat)).collect()
    }

    /// Notes that a room is joined, or is not, for this connection and the next ones. Returns what it was before.
    fn note(&mut self, room: &Room, join: bool, out: &mut Outbox<Frame>) -> Result<bool> {
        let before = if join { !self.joined.insert(room.clone()) } else { self.joined.remove(room) };
        // What the settings say need not be remembered.
        if join == self.configured().contains(room) {
            out.forget(key(room));
        } else {
            out.remember(Join {
                key: key(room),
                data: RawValue::from_string(join.to_string()).map_err(internal)?,
            });
        }
        Ok(before)
    }

    /// Refuses what is about a chat that this socket has not joined.
    fn check(&self, request: &Request) -> Result<()> {
        let Some(chat) = &request.chat else { return Ok(()) };
        let room = Room::Chat(chat.clone());
        match &request.order {
            Order::Enter { room: entered, join: true } if *entered == room => {
                let chats = self.joined.iter().filter(|room| **room != Room::User).count();
                if chats >= MAX_CHATS && !self.joined.contains(&room) {
                    return Err(Error::rejected(
                        Code::TooMany,
                        format!("{chats} chats are joined already; one socket joins at most {MAX_CHATS}"),
                    ));
                }
                Ok(())
            }
            Order::Enter { room: entered, .. } if *entered == room => Ok(()),
            _ if self.joined.contains(&room) => Ok(()),
            _ => Err(Error::rejected(
                Code::NotFound,
                format!("the chat {chat:?} is not joined; send room.join first, or list it in chats"),
            )),
        }
    }

    fn acknowledged(&mut self, ack: &Ack, out: &mut Outbox<Frame>) -> Result<()> {
        let Some(Answered { command, asked }) = self.calls.take(ack.id) else {
            return Err(Error::protocol("an acknowledgement that nothing waits for"));
        };
        let raw = ack.args.payload();
        let reply = match verdict(ack.args.values()) {
            Verdict::Taken(message) => {
                self.taken(command, &asked, message, &raw, out);
                Reply::Acked(raw.parse()?)
            }
            Verdict::Refused(mut error) => {
                self.mask(&mut error);
                let words = match &error.message {
                    Some(words) => words.clone(),
                    None => format!("MinChat refused the {}, and did not say why", asked.name),
                };
                out.publish(in_chat(fault(error, raw), asked.chat).upstream(asked.name));
                Reply::Failed(Error::refused(words))
            }
            Verdict::Unclear => {
                let reason = "the acknowledgement says neither that it was done nor that it was refused";
                out.publish(in_chat(unrecognised(asked.name, reason, raw), asked.chat));
                Reply::Unknown(Error::refused(reason))
            }
        };
        if let Some(command) = command {
            out.reply(command, reply);
        }
        Ok(())
    }

    /// Tells what the service took. It tells others of it, but not the socket that it got it from.
    fn taken(
        &self,
        command: Option<CommandId>,
        asked: &Asked,
        mut message: Message,
        raw: &Raw,
        out: &mut Outbox<Frame>,
    ) {
        let id = message.id.clone().or_else(|| asked.message.clone());
        let known = self.known.chat(id.as_deref().unwrap_or_default());
        // The chat of a change is only the way that its caller chose.
        let said = asked.chat.clone().filter(|_| asked.message.is_none());
        let chat = message.chat.clone().or(said).or(known);
        if let (Some(id), Some(chat)) = (&id, &chat) {
            self.known.learn(id, chat);
        }
        let chat = chat.or_else(|| asked.chat.clone());
        let mut accepted = about(EventType::MessageAccepted, id.clone(), raw.clone());
        accepted.command = command;
        out.publish(in_chat(accepted, chat.clone()).upstream(asked.name));
        let kind = match asked.message {
            None => EventType::MessageCreated,
            // The user's link has joined no chat: if another link has, the change is told there.
            Some(_) if self.place == Place::User => return,
            Some(_) => EventType::MessageUpdated,
        };
        message.id = id;
        let mut event = self.ear().said(kind, message, chat, raw.clone());
        if kind == EventType::MessageCreated {
            let sender = event.fields.sender.get_or_insert_default();
            sender.id.get_or_insert_with(|| self.config.user_id.clone());
            sender.kind = Some(SenderKind::Own);
        }
        event.caused_by = command;
        out.publish(event.upstream(asked.name));
    }

    /// Takes the key out of what people read, in case the service repeats it.
    fn mask(&self, error: &mut ServiceError) {
        if let (Ok(key), Some(words)) = (self.config.api_key.reveal(), &mut error.message) {
            *words = Redactor::new([key]).text(words).into_owned();
        }
        // Cut after that, so that no piece of the key is left.
        error.message = error.message.as_deref().map(cut);
    }
}

impl Session for MinChatSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        self.known.listens();
        let key = self.config.api_key.reveal();
        let key = key.map_err(|error| Error::auth(format!("api_key: {}", error.message())))?;
        let mut rooms = self.configured();
        for join in joins {
            let Some(room) = room(&join.key) else { continue };
            rooms.retain(|known| *known != room);
            if join.data.get() == "true" {
                rooms.push(room);
            }
        }
        for room in &rooms {
            let (name, payload) = emits::enter(room, true, &self.config, &key)?;
            out.send(Frame::event(name, payload));
        }
        self.joined = rooms.into_iter().collect();
        // No join is confirmed. What is sent behind it on this socket is handled behind it.
        out.ready();
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let event = match frame {
            Frame::Event(event) => event,
            Frame::Ack(ack) => return self.acknowledged(ack, out),
            Frame::Malformed(malformed) => return Err(Error::protocol(malformed.reason.clone())),
        };
        let mut told = self
            .ear()
            .hear(event)
            .unwrap_or_else(|error| unrecognised(&event.name, error.message(), whole(event)));
        if let Some(error) = &mut told.fields.error {
            self.mask(error);
        }
        out.publish(told);
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        // A link of its own is all that a chat needs; the daemon knows which there are.
        if self.config.links == Links::Shared {
            self.check(&request)?;
        }
        let key = self.config.api_key.reveal();
        let key = key.map_err(|error| {
            Error::rejected(Code::NotConnected, format!("nothing was sent: api_key: {}", error.message()))
        })?;
        let Request { order, chat } = request;
        let (name, payload) = emits::emit(&order, chat.as_deref(), &self.config, &key)?;
        let frame = match order {
            Order::Enter { room, join } => {
                let before = self.note(&room, join, out)?;
                self.undo.push_back((command.id, room, before));
                if self.undo.len() > MAX_UNDO {
                    self.undo.pop_front();
                }
                Frame::event(name, payload)
            }
            Order::Message { .. } => {
                let asked = Asked { name, message: None, chat };
                Frame::call(self.calls.begin(command.id, asked), name, payload)
            }
            Order::Update { message, .. } => {
                let asked = Asked { name, message: Some(message), chat };
                Frame::call(self.calls.begin(command.id, asked), name, payload)
            }
            Order::Delete { .. } | Order::Seen { .. } | Order::Typing { .. } => Frame::event(name, payload),
        };
        out.send_for(command.id, frame);
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.calls.abandon(command, sent);
        let Some(place) = self.undo.iter().position(|(id, ..)| *id == command).filter(|_| !sent) else {
            return;
        };
        if let Some((_, room, before)) = self.undo.remove(place) {
            // What was to be remembered once can be again.
            let _ = self.note(&room, before, out);
        }
    }
}

/// What an acknowledgement says.
fn verdict(arguments: &[Raw]) -> Verdict {
    // Nothing at all is what many a service says when all is well.
    let [only] = arguments else { return Verdict::Unclear };
    if only.as_bytes() == b"false" {
        return Verdict::Refused(ServiceError::default());
    }
    let Ok(object) = Object::of(only) else { return Verdict::Unclear };
    let message = Message::read(&object);
    let error = object.error();
    match success(&object) {
        Some(false) => Verdict::Refused(error),
        Some(true) => Verdict::Taken(message),
        None => match (message.id.is_some(), error.message.is_some()) {
            (true, false) => Verdict::Taken(message),
            (false, true) => Verdict::Refused(error),
            (true, true) | (false, false) => Verdict::Unclear,
        },
    }
}

/// The key under which it is remembered that a room was joined, or left.
fn key(room: &Room) -> String {
    match room {
        Room::User => "user".to_owned(),
        Room::Chat(chat) => format!("chat:{chat}"),
    }
}

fn room(key: &str) -> Option<Room> {
    match key.strip_prefix("chat:") {
        Some(chat) => Some(Room::Chat(chat.to_owned())),
        None => (key == "user").then_some(Room::User),
    }
}

fn internal(error: serde_json::Error) -> Error {
    Error::internal(error.to_string())
}
