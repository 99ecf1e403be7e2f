//! From what the service says to events. Each of its events becomes exactly one of ours.

use pontoon_sdk::event::{Message as Words, MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::{Error, Event, EventType, Object, Raw, Result, socketio};
use serde_json::value::RawValue;

use crate::cache::Known;
use crate::config::{Config, Place};
use crate::frames::{Message, User, is_falsy, message_id, success};

/// What is needed to understand an event: whose it is, and where it was heard.
pub(crate) struct Ear<'a> {
    pub(crate) config: &'a Config,
    pub(crate) place: &'a Place,
    pub(crate) known: &'a Known,
}

impl Ear<'_> {
    /// Understands an event.
    ///
    /// # Errors
    /// `Protocol` if it has no such shape as its name promises, or its name is unknown.
    pub(crate) fn hear(&self, event: &socketio::Event) -> Result<Event> {
        let nothing = Raw::null();
        let argument = event.args.values().first().unwrap_or(&nothing);
        let raw = event.args.payload();
        // `chat` and `message` name their chat even so.
        if !matches!(event.name.as_str(), "chat" | "message" | "message.update")
            && let Ok(object) = Object::of(argument)
            && success(&object) == Some(false)
        {
            return Ok(fault(object.error(), raw).upstream(event.name.clone()));
        }
        let told = match event.name.as_str() {
            "chat" => self.chat(argument, raw)?,
            "message" => self.message(EventType::MessageCreated, argument, raw)?,
            "message.update" => self.message(EventType::MessageUpdated, argument, raw)?,
            "message.delete" => self.deleted(argument, raw)?,
            "message.seen" => self.seen(argument, raw)?,
            "typing.start" => self.typing(EventType::TypingStarted, argument, raw)?,
            "typing.stop" => self.typing(EventType::TypingStopped, argument, raw)?,
            "user.status" => self.presence(argument, raw)?,
            "ai.event" => ai(event)?,
            "error" => fault(raised(argument), raw),
            _ => return Err(Error::protocol("MinChat is not known to send an event of this name")),
        };
        Ok(told.upstream(event.name.clone()))
    }

    /// A message that is new, or changed.
    fn message(&self, kind: EventType, argument: &Raw, raw: Raw) -> Result<Event> {
        let object = Object::of(argument)?;
        let message = Message::read(&object);
        let chat = message.chat.clone().or_else(|| self.place.chat().map(str::to_owned));
        if success(&object) == Some(false) {
            return Ok(in_chat(fault(object.error(), raw), chat));
        }
        if message.id.is_none() && message.text.is_none() && message.attachments.is_none() {
            return Err(Error::protocol("the message has no id, no text and no file"));
        }
        Ok(self.said(kind, message, chat, raw))
    }

    /// A message, over whichever way it was told.
    pub(crate) fn said(&self, kind: EventType, message: Message, chat: Option<String>, raw: Raw) -> Event {
        let mut event = Event::new(kind, raw);
        if let (Some(id), Some(chat)) = (&message.id, &chat) {
            self.known.learn(id, chat);
            // A message is new once. How often it changes is not told, so changes are never taken for one another.
            if kind == EventType::MessageCreated {
                event.identity = Some(format!("{chat:?} {id:?}"));
            }
        }
        if kind == EventType::MessageCreated {
            event.time = message.created.as_ref().and_then(|created| created.time);
        }
        event.fields.sender = message.author.map(|author| self.sender(author));
        event.fields.message = Some(Words::Object(MessageObject {
            id: message.id,
            text: message.text,
            created_at: message.created.map(|created| created.text),
            attachments: message.attachments,
            metadata: message.metadata,
        }));
        in_chat(event, chat)
    }

    fn chat(&self, argument: &Raw, raw: Raw) -> Result<Event> {
        let object = Object::of(argument)?;
        let id = object.text("id");
        if success(&object) == Some(false) {
            return Ok(in_chat(fault(object.error(), raw), id));
        }
        let Some(id) = id else { return Err(Error::protocol("the chat has no id")) };
        let last = object.object("last_message").and_then(|last| last.text("id"));
        let mut event = Event::new(EventType::ChannelUpdated, raw);
        event.fields.title = object.text("title");
        event.fields.participants = object.texts("participant_user_ids");
        if let Some(last) = last {
            self.known.learn(&last, &id);
            // It comes over every link, the same in every byte. Where it names no message it may mean anything.
            event.identity = Some(self.happening(&String::from_utf8_lossy(argument.as_bytes())));
        }
        Ok(in_chat(event, Some(id)))
    }

    /// A message is deleted once.
    fn deleted(&self, argument: &Raw, raw: Raw) -> Result<Event> {
        let id = message_id(argument)?;
        let chat = self.known.chat(&id).or_else(|| self.place.chat().map(str::to_owned));
        Ok(in_chat(once(EventType::MessageDeleted, id, raw), chat))
    }

    /// That a message was seen comes over links that never joined its chat, so the link says nothing of the chat.
    fn seen(&self, argument: &Raw, raw: Raw) -> Result<Event> {
        let id = message_id(argument)?;
        let chat = self.known.chat(&id);
        let kind = EventType::MessageSeen;
        // Another may have seen it, too, and the service does not say who.
        let identity = Some(self.happening(&format!("{} {id:?}", kind.as_str())));
        Ok(in_chat(Event { identity, ..about(kind, Some(id), raw) }, chat))
    }

    /// The identity of what every link is told in the same words: a link that hears them again hears of another happening.
    fn happening(&self, words: &str) -> String {
        let (count, generation) = self.known.heard(&self.place.key(), words.as_bytes());
        format!("{words} {generation}.{count}")
    }

    fn typing(&self, kind: EventType, argument: &Raw, raw: Raw) -> Result<Event> {
        let user: Box<RawValue> = argument.parse()?;
        let user = if is_falsy(&user) { None } else { User::read(&user) };
        let Some(user) = user else { return Err(Error::protocol("the payload names no user")) };
        let mut event = Event::new(kind, raw);
        event.fields.sender = Some(self.sender(user));
        Ok(in_chat(event, self.place.chat().map(str::to_owned)))
    }

    fn presence(&self, argument: &Raw, raw: Raw) -> Result<Event> {
        let object = Object::of(argument)?;
        let Some(id) = object.text("memberId") else {
            return Err(Error::protocol("the payload names no member"));
        };
        let mut event = Event::new(EventType::PresenceChanged, raw);
        event.fields.sender = Some(self.sender(User { id: Some(id), name: None }));
        event.fields.status = object.text("status");
        Ok(event)
    }

    fn sender(&self, user: User) -> Sender {
        let own = user.id.as_deref().is_some_and(|id| self.config.is_own(id));
        let kind = if own { SenderKind::Own } else { SenderKind::User };
        Sender { id: user.id, name: user.name, kind: Some(kind) }
    }
}

/// What a chatbot is doing. No type of event fits, so it goes as what is unknown, with all that can be said of it.
fn ai(event: &socketio::Event) -> Result<Event> {
    let nothing = Raw::null();
    let object = Object::of(event.args.values().first().unwrap_or(&nothing))?;
    let reason = "a chatbot does something for which there is no type of event";
    let mut told = unrecognised(&event.name, reason, whole(event));
    told.fields.sender = object.text("chatbotUsername").map(|name| Sender {
        id: None,
        name: Some(name),
        kind: Some(SenderKind::Agent),
    });
    Ok(in_chat(told, object.text("chat_id")))
}

/// What is not understood: its name, why, and the whole of it.
pub(crate) fn unrecognised(name: &str, reason: &str, raw: Raw) -> Event {
    let mut event = Event::new(EventType::FrameUnrecognised, raw).upstream(name.to_owned());
    event.fields.name = Some(name.to_owned());
    event.fields.reason = Some(reason.to_owned());
    event
}

/// An event with its name and all of its arguments, as the daemon publishes what is not understood.
pub(crate) fn whole(event: &socketio::Event) -> Raw {
    pontoon_sdk::connector::Frame::raw(&socketio::Frame::Event(event.clone()))
}

/// An error that the service reports.
pub(crate) fn fault(error: ServiceError, raw: Raw) -> Event {
    let mut event = Event::new(EventType::ErrorRaised, raw);
    event.fields.error = Some(error);
    event
}

/// Something that happened to a message of which no more is told than its id.
pub(crate) fn about(kind: EventType, message: Option<String>, raw: Raw) -> Event {
    let mut event = Event::new(kind, raw);
    event.fields.message =
        message.map(|id| Words::Object(MessageObject { id: Some(id), ..Default::default() }));
    event
}

/// Something that happens to a message once. MinChat does not say through whom it did.
fn once(kind: EventType, message: String, raw: Raw) -> Event {
    let identity = Some(format!("{} {message:?}", kind.as_str()));
    Event { identity, ..about(kind, Some(message), raw) }
}

/// The event, in its chat where that is known.
pub(crate) fn in_chat(mut event: Event, chat: Option<String>) -> Event {
    event.scope.clone_from(&chat);
    event.fields.channel = chat;
    event
}

/// The words of an `error`, which is an object or a text alone.
fn raised(argument: &Raw) -> ServiceError {
    match Object::of(argument) {
        Ok(object) => object.error(),
        Err(_) => ServiceError { message: argument.text(), ..ServiceError::default() },
    }
}
