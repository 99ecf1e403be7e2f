//! What the service says, in either dialect: events, and answers to what callers asked.

use pontoon_sdk::event::{Message, MessageObject, Sender, SenderKind};
use pontoon_sdk::socketio::{self, Frame};
use pontoon_sdk::{Error, Event, EventType, Object, Outbox, Raw, Reply, Result};

use crate::answers::{Candidate, Since};
use crate::events::{self, about, about_channel, about_message, in_channel, raised, unrecognised};
use crate::frames::{self, Broadcast, json};
use crate::pending::Asked;
use crate::session::{ElizaOsSession, Tongue};

/// How many halves of news are kept until the other half comes.
const MAX_HALVES: usize = 64;

/// The dialect of a server that sends an event of this name, if only one has it.
fn tongue_of(name: &str) -> Option<Tongue> {
    match name {
        "connection_established"
        | "authenticated"
        | "messageAck"
        | "messageError"
        | "messageStreamChunk"
        | "messageStreamError"
        | "messageDeleted"
        | "channelCleared"
        | "channelDeleted"
        | "channelUpdated"
        | "channel_joined"
        | "room_joined"
        | "log_stream"
        | "log_subscription_confirmed"
        | "log_filters_updated" => Some(Tongue::Native),
        "world-state" | "logEntry" | "error" => Some(Tongue::Documented),
        _ => None,
    }
}

impl ElizaOsSession {
    /// Takes in an event of the service.
    pub(crate) fn hear(&mut self, event: &socketio::Event, out: &mut Outbox<Frame>) -> Result<()> {
        let stated = tongue_of(&event.name).filter(|_| self.decide_by.is_some());
        if stated.is_some() && self.tongue.is_some() && self.tongue != stated {
            self.give_up(out);
        }
        match self.understand(event, out) {
            Ok(told) => {
                if let Some(told) = told {
                    out.publish(told.upstream(event.name.clone()));
                }
            }
            Err(error) => out.publish(unrecognised(event, error.message())),
        }
        // What was taken for silence may have been hesitation.
        if let Some(tongue) = stated {
            self.decide_by = None;
            self.known.speaks(tongue);
            if self.tongue != Some(tongue) {
                return self.begin(tongue, out);
            }
        }
        Ok(())
    }

    /// What is to be told of an event, if anything.
    ///
    /// # Errors
    /// `Protocol` if it has no such shape as its name promises, or its name is unknown.
    fn understand(&mut self, event: &socketio::Event, out: &mut Outbox<Frame>) -> Result<Option<Event>> {
        let raw = event.args.payload();
        let object = || frames::object(event);
        Ok(Some(match event.name.as_str() {
            "messageBroadcast" => return self.broadcast(&object()?, raw, out).map(Some),
            "messageComplete" => about_channel(EventType::MessageCompleted, &object()?, raw)?,
            "world-state" => {
                let object = object()?;
                in_channel(Event::new(EventType::StateSnapshot, raw), frames::channel(&object))
            }
            // Lines of the log can carry the messages of others, so they are told only where they are wanted.
            "logEntry" | "log_stream" if !self.wishes.logs() => return Ok(None),
            "logEntry" => events::log(&object()?, raw)?,
            "log_stream" => {
                let object = object()?;
                let is_entry = object.text("type").as_deref() == Some("log_entry");
                let entry = object.object("payload").filter(|_| is_entry);
                let entry = entry.ok_or_else(|| Error::protocol("the payload holds no line of a log"))?;
                events::log(&entry, raw)?
            }
            "error" | "unauthorized" => {
                let channel = object().ok().and_then(|object| frames::channel(&object));
                raised(frames::fault(event), channel, raw)
            }
            "messageError" => return Ok(self.refused(event, raw, out)),
            "messageAck" => self.acknowledged(&object()?, raw, out)?,
            "messageStreamChunk" => self.part(&object()?, out)?,
            "messageStreamError" => self.broke(&object()?, raw, out)?,
            "messageDeleted" => about_message(EventType::MessageDeleted, &object()?, raw)?,
            "channelCleared" => about_channel(EventType::ChannelCleared, &object()?, raw)?,
            "channelDeleted" => about_channel(EventType::ChannelDeleted, &object()?, raw)?,
            "channelUpdated" => about_channel(EventType::ChannelUpdated, &object()?, raw)?,
            "channel_joined" | "room_joined" => return self.joined(event, raw, out),
            "log_subscription_confirmed" => return self.subscribed(event, &raw, out),
            "log_filters_updated" => return self.filtered(event, raw, out),
            // What it says is which dialect the server speaks.
            "connection_established" => return Ok(None),
            "authenticated" => {
                let entity = self.setup.entity.to_string();
                let taken_for = object()?.text("entityId");
                if taken_for.is_none_or(|id| id.eq_ignore_ascii_case(&entity)) {
                    return Ok(None);
                }
                return Err(Error::protocol("the server takes us for another entity than we said"));
            }
            "controlMessage" => {
                let reason = "it is meant for a user interface, and there is no type of event for it";
                in_channel(unrecognised(event, reason), frames::channel(&object()?))
            }
            _ => return Err(Error::protocol("ElizaOS is not known to send an event of this name")),
        }))
    }

    /// A message that is told to all in its room.
    fn broadcast(&mut self, object: &Object<'_>, raw: Raw, out: &mut Outbox<Frame>) -> Result<Event> {
        let broadcast = Broadcast::read(object);
        if broadcast.id.is_none() && broadcast.text.is_none() {
            return Err(Error::protocol("the message has neither id nor text"));
        }
        let said = events::broadcast(&self.setup, &self.known, &broadcast, raw.clone());
        let can_answer = match self.tongue {
            Some(Tongue::Native) => said.sender == SenderKind::Agent && !broadcast.is_action(),
            Some(Tongue::Documented) => said.sender != SenderKind::Own,
            None => false,
        };
        // A change of a message that was told before is news of that message.
        if can_answer
            && said.event.kind == EventType::MessageCreated
            && !said.again
            && let Some(room) = &broadcast.channel
        {
            let id = broadcast.id.as_deref();
            let stream = id.and_then(|id| self.streams.number(id));
            let (sender, written) = (broadcast.sender.as_deref(), broadcast.written());
            let candidate = Candidate { room, id, sender, stream, written };
            if let Some(command) = self.answers.message(&candidate) {
                out.reply(command, Reply::Response(json(&raw)?));
            }
        }
        if let Some(id) = &broadcast.id {
            self.streams.end(id);
        }
        Ok(said.event)
    }

    /// What can be the answer to our message of this id.
    pub(crate) fn since(&self, message: Option<&str>) -> Since {
        let written = message.and_then(|message| self.known.written(message));
        Since { stream: self.streams.begun(), written }
    }

    /// The service took a message of ours.
    fn acknowledged(&mut self, object: &Object<'_>, raw: Raw, out: &mut Outbox<Frame>) -> Result<Event> {
        let message = object.text("messageId");
        let ours = object.text("clientMessageId");
        let is_it = |asked: &Asked| matches!(asked, Asked::Message { id, .. } if Some(id) == ours.as_ref());
        let request = self.pending.answered(is_it);
        let mut event = about(EventType::MessageAccepted, object, message.clone(), raw.clone());
        event.command = request.as_ref().and_then(|request| request.command);
        if let Some(request) = request.filter(|request| request.waits)
            && let Some(command) = request.command
        {
            if matches!(request.asked, Asked::Message { streamed: true, .. }) {
                let since = self.since(message.as_deref());
                self.answers.listen(command, since);
            } else {
                out.reply(command, Reply::Acked(json(&raw)?));
            }
        }
        self.tell_refused(out);
        Ok(event)
    }

    /// The service refused something, and does not say what.
    fn refused(&mut self, event: &socketio::Event, raw: Raw, out: &mut Outbox<Frame>) -> Option<Event> {
        let error = frames::fault(event);
        let words = error.message.clone();
        self.pending.error(words.unwrap_or_else(|| "ElizaOS refused it, and did not say why".to_owned()));
        self.tell_refused(out);
        let channel = frames::object(event).ok().and_then(|object| frames::channel(&object));
        Some(raised(error, channel, raw))
    }

    /// One more part of an agent's message.
    fn part(&mut self, object: &Object<'_>, out: &mut Outbox<Frame>) -> Result<Event> {
        let Some(id) = object.text("messageId") else {
            return Err(Error::protocol("the part names no message"));
        };
        let Some(piece) = object.piece("chunk") else { return Err(Error::protocol("the part has no text")) };
        let channel = frames::channel(object);
        let (part, stream) = self.streams.push_numbered(&id, piece, object.value("index"));
        if let Some(room) = &channel
            && !self.known.has(&id)
            && let Some(command) = self.answers.part(room, &id, stream)
        {
            out.reply(command, part.reply()?);
        }
        let mut event = part.event();
        event.fields.server = frames::server(object);
        event.fields.message =
            Some(Message::Object(MessageObject { id: Some(id), ..MessageObject::default() }));
        event.fields.sender = agent(object);
        Ok(in_channel(event, channel))
    }

    /// An agent's message will not be whole.
    fn broke(&mut self, object: &Object<'_>, raw: Raw, out: &mut Outbox<Frame>) -> Result<Event> {
        let (error, channel, id) = (frames::error(object), frames::channel(object), object.text("messageId"));
        let stream = id.as_deref().and_then(|id| self.streams.number(id));
        if let Some(room) = &channel
            && let Some(command) = self.answers.broke(room, id.as_deref(), stream)
        {
            let words = error.message.as_deref().unwrap_or("no reason was given");
            // The message itself was taken, so it is not certain that nothing was done.
            let text = format!("the message was taken, and the agent's answer broke off: {words}");
            out.reply(command, Reply::Unknown(Error::refused(text)));
        }
        if let Some(id) = &id {
            self.streams.end(id);
        }
        let mut event = raised(error, channel, raw);
        event.fields.sender = agent(object);
        event.fields.message =
            id.map(|id| Message::Object(MessageObject { id: Some(id), ..MessageObject::default() }));
        Ok(event)
    }

    /// A room was joined. The service tells it twice, under two names.
    fn joined(
        &mut self,
        event: &socketio::Event,
        raw: Raw,
        out: &mut Outbox<Frame>,
    ) -> Result<Option<Event>> {
        let object = frames::object(event)?;
        let told = about_channel(EventType::ChannelJoined, &object, raw.clone())?;
        let other = |(name, payload): &(String, Raw)| *name != event.name && *payload == raw;
        if let Some(place) = self.halves.iter().position(other) {
            self.halves.remove(place);
            out.duplicate();
            return Ok(None);
        }
        self.halves.push_back((event.name.clone(), raw.clone()));
        if self.halves.len() > MAX_HALVES {
            self.halves.pop_front();
        }
        let room = told.fields.channel.as_deref();
        let request =
            self.pending.answered(|asked| matches!(asked, Asked::Join(id) if Some(id.as_str()) == room));
        if let Some(request) = request.filter(|request| request.waits)
            && let Some(command) = request.command
        {
            out.reply(command, Reply::Acked(json(&raw)?));
        }
        self.tell_refused(out);
        Ok(Some(told))
    }

    /// The log is told from now on, or no longer.
    fn subscribed(
        &mut self,
        event: &socketio::Event,
        raw: &Raw,
        out: &mut Outbox<Frame>,
    ) -> Result<Option<Event>> {
        let Some(on) = frames::object(event)?.value("subscribed") else {
            return Err(Error::protocol("the payload does not say whether the log is subscribed to"));
        };
        let request = self.pending.answered(|asked| *asked == Asked::Logs(on));
        match request.map(|request| (request.command, request.waits)) {
            Some((Some(command), true)) => out.reply(command, Reply::Acked(json(raw)?)),
            Some((None, _)) => {}
            Some((Some(_), false)) | None => return Err(unexpected()),
        }
        Ok(None)
    }

    /// What is told of the log has changed, or cannot be.
    fn filtered(
        &mut self,
        event: &socketio::Event,
        raw: Raw,
        out: &mut Outbox<Frame>,
    ) -> Result<Option<Event>> {
        let object = frames::object(event)?;
        let Some(done) = object.value("success") else {
            return Err(Error::protocol("the payload does not say whether the filter was set"));
        };
        let request = self.pending.answered(|asked| *asked == Asked::Filter);
        let (command, waits) = match &request {
            Some(request) => (request.command, request.waits),
            None => (None, false),
        };
        if done {
            return match (request, command) {
                (Some(_), Some(command)) if waits => {
                    out.reply(command, Reply::Acked(json(&raw)?));
                    Ok(None)
                }
                (Some(_), None) => Ok(None),
                _ => Err(unexpected()),
            };
        }
        let error = frames::error(&object);
        if let Some(command) = command {
            self.wishes.undo(command, out);
            if waits {
                let words = error.message.clone();
                let words = words.unwrap_or_else(|| "ElizaOS did not set the filter".to_owned());
                out.reply(command, Reply::Failed(Error::refused(words)));
            }
        }
        Ok(Some(raised(error, None, raw)))
    }
}

fn agent(object: &Object<'_>) -> Option<Sender> {
    let id = object.text("agentId")?;
    Some(Sender { id: Some(id), name: None, kind: Some(SenderKind::Agent) })
}

fn unexpected() -> Error {
    Error::protocol("it answers nothing that anybody waits for")
}
