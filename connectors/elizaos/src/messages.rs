//! Messages: broadcasts to a room, acknowledgements of ours, and answers of agents, whole and in parts.

use pontoon_sdk::event::{Message, MessageObject, Sender, SenderKind};
use pontoon_sdk::{Error, Event, EventType, Object, Raw, Reply, Result, socketio};

use crate::answers::{After, Candidate};
use crate::config::Dialect;
use crate::decode::{agent, error_raised, error_text, in_room, payload, room};
use crate::dialect::Outbox;
use crate::message_cache::{Observation, moment};
use crate::pending::{Expected, Request};
use crate::session::ElizaOsSession;
use crate::uuid::Uuid;

impl ElizaOsSession {
    /// A message to all in a room: a new one, a change, or an old one that is sent again.
    pub(crate) fn broadcast(&mut self, object: &Object<'_>, raw: Raw, out: &mut Outbox) -> Result<Event> {
        let (id, text) = (object.text("id"), object.words("text"));
        if id.is_none() && text.is_none() {
            return Err(Error::protocol("the message has neither id nor text"));
        }
        let (created, updated) = (object.time("createdAt"), object.time("updatedAt"));
        let observed = id.as_deref().map(|id| {
            let (text, created, updated) = (text.as_deref(), created.as_ref(), updated.as_ref());
            self.server.messages.observe(Observation { id, text, created, updated })
        });
        let (kind, is_repeated) = match &observed {
            Some(observed) => (observed.kind, observed.repeated),
            None => (EventType::MessageCreated, false),
        };
        let sender = self.sender(object);
        let can_answer = match self.dialect {
            Dialect::Native => sender.kind == Some(SenderKind::Agent) && !is_action(object),
            Dialect::Documented => sender.kind != Some(SenderKind::Own),
            Dialect::Auto => false,
        };
        if can_answer
            && kind == EventType::MessageCreated
            && !is_repeated
            && let Some(room) = &room(object)
        {
            let candidate = Candidate {
                room,
                id: id.as_deref(),
                sender: sender.id.as_deref(),
                stream: id.as_deref().and_then(|id| self.streams.number(id)),
                written: created.as_ref().and_then(|created| moment(created).ok()),
            };
            if let Some(command) = self.answers.take(&candidate) {
                out.reply(command, Reply::Response(raw.parse()?));
            }
        }
        if let Some(id) = &id {
            self.streams.end(id);
        }
        let mut event = in_room(Event::new(kind, raw), object);
        let time = if kind == EventType::MessageUpdated { updated } else { created.clone() };
        event.time = time.and_then(|time| time.time);
        event.identity = observed.map(|observed| observed.identity);
        event.fields.sender = Some(sender);
        event.fields.message = Some(Message::Object(MessageObject {
            id,
            text,
            created_at: created.map(|created| created.text),
            attachments: object.filled("attachments"),
            metadata: object.filled("metadata"),
        }));
        Ok(event)
    }

    fn sender(&self, object: &Object<'_>) -> Sender {
        let id = object.text("senderId");
        let entity: Option<Uuid> = id.as_deref().and_then(|id| id.parse().ok());
        let mut agents = self.setup.config.rooms.iter().filter_map(|room| room.agent_id);
        let is_thought = |name| object.text(name).is_some() || object.filled(name).is_some();
        // The service repeats our id of a message to us only.
        let kind = if object.has("clientMessageId") || entity == Some(self.setup.entity) {
            SenderKind::Own
        } else if is_action(object)
            || object.text("source").as_deref() == Some("agent_response")
            || is_thought("thought")
            || is_thought("actions")
            || agents.any(|agent| entity == Some(agent))
        {
            SenderKind::Agent
        } else {
            SenderKind::User
        };
        Sender { id, name: object.text("senderName"), kind: Some(kind) }
    }

    /// What the answer to our message with this id comes after.
    pub(crate) fn after(&self, message: Option<&str>) -> After {
        let written = message.and_then(|message| self.server.messages.written(message));
        After { streams: self.streams.begun(), written }
    }

    /// A message of ours was acknowledged: an agent's answer can come from now on.
    pub(crate) fn acknowledged(&mut self, object: &Object<'_>, raw: Raw, out: &mut Outbox) -> Result<Event> {
        let request = match object.text("clientMessageId") {
            Some(id) => self.confirmed(&Expected::Acknowledged(id), &raw, out)?,
            None => None,
        };
        if let Some(caller) = request.as_ref().and_then(Request::caller) {
            self.answers.acknowledged(caller, self.after(object.text("messageId").as_deref()));
        }
        let mut event = in_room(Event::new(EventType::MessageAccepted, raw), object);
        event.command = request.and_then(|request| request.command);
        Ok(event)
    }

    /// One more part of an agent's message.
    pub(crate) fn part(&mut self, object: &Object<'_>, out: &mut Outbox) -> Result<Event> {
        let id = object.text("messageId").ok_or_else(|| Error::protocol("the part names no message"))?;
        let piece = object.piece("chunk").ok_or_else(|| Error::protocol("the part has no text"))?;
        let (part, stream) = self.streams.push_numbered(&id, piece, object.value("index"));
        if let Some(room) = &room(object)
            && !self.server.messages.contains(&id)
            && let Some(command) = self.answers.part(room, &id, stream)
        {
            out.reply(command, Reply::part(&part)?);
        }
        let event = Event { fields: part, ..Event::new(EventType::MessageDelta, None) };
        let mut event = in_room(event, object);
        event.fields.sender = agent(object.text("agentId"), None);
        Ok(event)
    }

    /// An agent's message will not be whole.
    pub(crate) fn broke_off(&mut self, event: &socketio::Event, raw: Raw, out: &mut Outbox) -> Result<Event> {
        let object = payload(event)?;
        let mut event = error_raised(event, raw);
        event.fields.sender = agent(object.text("agentId"), None);
        let id = object.text("messageId");
        if let Some(room) = &event.fields.channel {
            let stream = id.as_deref().and_then(|id| self.streams.number(id));
            let candidate = Candidate { room, id: id.as_deref(), sender: None, stream, written: None };
            if let Some(command) = self.answers.take(&candidate) {
                let error = error_text(&event).unwrap_or("no reason was given");
                // The message was taken, so it is not certain that nothing was done.
                let text = format!("the message was taken, and the agent's answer broke off: {error}");
                out.reply(command, Reply::Unknown(Error::refused(text)));
            }
        }
        if let Some(id) = &id {
            self.streams.end(id);
        }
        Ok(event)
    }
}

/// Whether a message describes an agent's work, and is not an answer.
fn is_action(object: &Object<'_>) -> bool {
    object.text("source").as_deref() == Some("agent_action")
}
