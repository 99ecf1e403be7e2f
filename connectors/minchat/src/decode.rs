//! Events of the service, each decoded to exactly one of ours. Payloads are read leniently: a field of a wrong type counts
//! as absent.

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::event::{Message as EventMessage, MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::socketio::{self, Frame};
use pontoon_sdk::{Error, Event, EventType, Object, Raw, Result, json};
use serde_json::value::RawValue;

use crate::cache::{MessageCache, Observation};
use crate::config::{Config, LinkKind};

/// Decodes what one link receives.
pub(crate) struct Decoder<'a> {
    pub(crate) config: &'a Config,
    pub(crate) link: &'a LinkKind,
    pub(crate) cache: &'a MessageCache,
}

impl Decoder<'_> {
    /// Decodes an event. One that is not understood becomes `frame.unrecognised` with its name.
    pub(crate) fn decode(&self, event: &socketio::Event, frame: &Frame) -> Event {
        let decoded = match event.name.as_str() {
            "ai.event" => ai_event(event, frame),
            _ => self.known_event(event),
        };
        decoded.unwrap_or_else(|error| Event::unrecognised(&event.name, error.message(), frame.raw()))
    }

    fn known_event(&self, event: &socketio::Event) -> Result<Event> {
        let nothing = Raw::null();
        let argument = event.args.values().first().unwrap_or(&nothing);
        let raw = event.args.payload();
        // These three name their chat also when `success` is false.
        if !matches!(event.name.as_str(), "chat" | "message" | "message.update")
            && let Ok(object) = Object::of(argument)
            && success(&object) == Some(false)
        {
            return Ok(Event::error(object.error(), raw).upstream(event.name.clone()));
        }
        let decoded = match event.name.as_str() {
            "chat" => self.chat(argument, raw)?,
            "message" => self.message(EventType::MessageCreated, argument, raw)?,
            "message.update" => self.message(EventType::MessageUpdated, argument, raw)?,
            "message.delete" => self.deleted(argument, raw)?,
            "message.seen" => self.seen(argument, raw)?,
            "typing.start" => self.typing(EventType::TypingStarted, argument, raw)?,
            "typing.stop" => self.typing(EventType::TypingStopped, argument, raw)?,
            "user.status" => self.presence(argument, raw)?,
            "error" => Event::error(error_of(argument), raw),
            _ => return Err(Error::protocol("MinChat is not known to send an event of this name")),
        };
        Ok(decoded.upstream(event.name.clone()))
    }

    /// The chat that the link is for, if it is for one.
    fn chat_of_link(&self) -> Option<String> {
        self.link.chat().map(|chat| chat.as_str().to_owned())
    }

    /// A message that is new, or was changed.
    fn message(&self, kind: EventType, argument: &Raw, raw: Raw) -> Result<Event> {
        let object = Object::of(argument)?;
        let message = Message::read(&object);
        let chat = message.chat.clone().or_else(|| self.chat_of_link());
        if success(&object) == Some(false) {
            return Ok(Event::error(object.error(), raw).channel(chat));
        }
        if message.id.is_none() && message.text.is_none() && message.attachments.is_none() {
            return Err(Error::protocol("the message has no id, no text and no file"));
        }
        Ok(self.message_event(kind, message, chat, raw))
    }

    /// The event of a message, which was broadcast or acknowledged.
    pub(crate) fn message_event(
        &self,
        kind: EventType,
        message: Message,
        chat: Option<String>,
        raw: Raw,
    ) -> Event {
        let mut event = Event::new(kind, raw);
        if let (Some(id), Some(chat)) = (&message.id, &chat) {
            self.cache.insert(id, chat);
            // A message is new once, but can be changed several times in the same way.
            if kind == EventType::MessageCreated {
                event.identity = Some(format!("{chat:?} {id:?}"));
            }
        }
        if kind == EventType::MessageCreated {
            event.time = message.created.as_ref().and_then(|created| created.time);
        }
        event.fields.sender = message.author.map(|author| self.sender(author));
        event.fields.message = Some(EventMessage::Object(MessageObject {
            id: message.id,
            text: message.text,
            created_at: message.created.map(|created| created.text),
            attachments: message.attachments,
            metadata: message.metadata,
        }));
        event.channel(chat)
    }

    fn chat(&self, argument: &Raw, raw: Raw) -> Result<Event> {
        let object = Object::of(argument)?;
        let id = object.text("id");
        if success(&object) == Some(false) {
            return Ok(Event::error(object.error(), raw).channel(id));
        }
        let Some(id) = id else { return Err(Error::protocol("the chat has no id")) };
        let mut event = Event::new(EventType::ChannelUpdated, raw);
        event.fields.title = object.text("title");
        event.fields.participants = object.texts("participant_user_ids");
        if let Some(last) = object.object("last_message").and_then(|last| last.text("id")) {
            self.cache.insert(&last, &id);
            // Every link receives the same bytes. Without the id of a message, equal bytes can have different causes.
            event.identity = Some(self.identity(&String::from_utf8_lossy(argument.as_bytes())));
        }
        Ok(event.channel(id))
    }

    /// A message is deleted once. MinChat does not say who did it.
    fn deleted(&self, argument: &Raw, raw: Raw) -> Result<Event> {
        let id = message_id(argument)?;
        let chat = self.cache.chat(&id).or_else(|| self.chat_of_link());
        let kind = EventType::MessageDeleted;
        let identity = Some(format!("{} {id:?}", kind.as_str()));
        Ok(Event { identity, ..Event::new(kind, raw) }.message_id(id).channel(chat))
    }

    /// MinChat sends this to links that did not join the message's chat, and a message can be seen by several users: MinChat
    /// does not say by whom it was.
    fn seen(&self, argument: &Raw, raw: Raw) -> Result<Event> {
        let id = message_id(argument)?;
        let chat = self.cache.chat(&id);
        let kind = EventType::MessageSeen;
        let identity = Some(self.identity(&format!("{} {id:?}", kind.as_str())));
        Ok(Event { identity, ..Event::new(kind, raw) }.message_id(id).channel(chat))
    }

    /// The identity of an event that every link receives.
    fn identity(&self, payload: &str) -> String {
        let Observation { count, generation } = self.cache.observe(&self.link.key(), payload.as_bytes());
        format!("{payload} {generation}.{count}")
    }

    fn typing(&self, kind: EventType, argument: &Raw, raw: Raw) -> Result<Event> {
        let user: Box<RawValue> = argument.parse()?;
        let user = if is_falsy(&user) { None } else { User::read(&user) };
        let Some(user) = user else { return Err(Error::protocol("the payload names no user")) };
        let mut event = Event::new(kind, raw);
        event.fields.sender = Some(self.sender(user));
        Ok(event.channel(self.chat_of_link()))
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

/// What a chatbot does. No type of event fits, so it is published as unrecognised, with its chat and its sender.
fn ai_event(event: &socketio::Event, frame: &Frame) -> Result<Event> {
    let nothing = Raw::null();
    let object = Object::of(event.args.values().first().unwrap_or(&nothing))?;
    let reason = "a chatbot does something for which there is no type of event";
    let mut decoded = Event::unrecognised(&event.name, reason, frame.raw());
    let sender = |name| Sender { id: None, name: Some(name), kind: Some(SenderKind::Agent) };
    decoded.fields.sender = object.text("chatbotUsername").map(sender);
    Ok(decoded.channel(object.text("chat_id")))
}

/// What an acknowledgement says.
pub(crate) enum Outcome {
    /// The service took the message.
    Accepted(Message),
    /// It did not.
    Refused(ServiceError),
    /// Neither is said.
    Unclear,
}

impl Outcome {
    /// Reads the arguments of an acknowledgement.
    pub(crate) fn read(arguments: &[Raw]) -> Self {
        // Without an argument nothing is said: many services acknowledge so what they have done.
        let [only] = arguments else { return Self::Unclear };
        if only.as_bytes() == b"false" {
            return Self::Refused(ServiceError::default());
        }
        let Ok(object) = Object::of(only) else { return Self::Unclear };
        let (message, error) = (Message::read(&object), object.error());
        match success(&object) {
            Some(false) => Self::Refused(error),
            Some(true) => Self::Accepted(message),
            None => match (message.id.is_some(), error.message.is_some()) {
                (true, false) => Self::Accepted(message),
                (false, true) => Self::Refused(error),
                (true, true) | (false, false) => Self::Unclear,
            },
        }
    }
}

/// A message.
pub(crate) struct Message {
    pub(crate) id: Option<String>,
    pub(crate) chat: Option<String>,
    text: Option<String>,
    /// A list, as other services have several.
    attachments: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
    created: Option<Timestamp>,
    author: Option<User>,
}

impl Message {
    fn read(object: &Object<'_>) -> Self {
        // MinChat's page shows `user_id` where its SDK shows `user`.
        let author = object.field("user").and_then(User::read);
        let author = author.or_else(|| Some(User { id: Some(object.text("user_id")?), name: None }));
        Self {
            id: object.text("id"),
            chat: object.text("chat_id"),
            text: object.words("text"),
            attachments: object.field("file").and_then(attachments),
            metadata: object.field("metadata").map(ToOwned::to_owned),
            created: object.time("created_at"),
            author,
        }
    }
}

/// A user.
struct User {
    id: Option<String>,
    name: Option<String>,
}

impl User {
    /// Reads a user, which is an object or an id alone.
    fn read(value: &RawValue) -> Option<Self> {
        let Some(object) = Object::within(value) else {
            let id = json::text(value.get()).filter(|id| !id.is_empty())?;
            return Some(Self { id: Some(id), name: None });
        };
        let user =
            Self { id: object.text("id"), name: object.text("name").or_else(|| object.text("username")) };
        (user.id.is_some() || user.name.is_some()).then_some(user)
    }
}

/// The id of a message: alone, as the service sends it, or in an object.
///
/// # Errors
/// `Protocol` if there is none.
fn message_id(argument: &Raw) -> Result<String> {
    let alone = argument.text().filter(|text| !text.is_empty());
    let within = || {
        let object = Object::of(argument).ok()?;
        object.text("id").or_else(|| object.text("messageId"))
    };
    alone.or_else(within).ok_or_else(|| Error::protocol("the payload names no message"))
}

/// A reported error, which is an object or a text alone.
fn error_of(argument: &Raw) -> ServiceError {
    match Object::of(argument) {
        Ok(object) => object.error(),
        Err(_) => ServiceError { message: argument.text(), ..ServiceError::default() },
    }
}

/// The field `success`, if there is one.
fn success(object: &Object<'_>) -> Option<bool> {
    object.field("success").map(|value| !is_falsy(value))
}

/// Whether a value counts as false in JavaScript, as in the service's own clients.
fn is_falsy(value: &RawValue) -> bool {
    match value.get() {
        "false" | "null" | "\"\"" => true,
        number => number.parse::<f64>().is_ok_and(|number| number == 0.0),
    }
}

/// A file, which is an object or an address alone, as a list.
fn attachments(file: &RawValue) -> Option<Box<RawValue>> {
    match file.get() {
        empty if is_falsy(file) || empty == "{}" => None,
        list if list.starts_with('[') => Some(file.to_owned()),
        one => RawValue::from_string(format!("[{one}]")).ok(),
    }
}
