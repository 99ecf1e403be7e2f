//! From the events that the service sends, in either dialect, to ours, and to replies. A field of a wrong type counts as
//! absent.

use pontoon_sdk::event::{Sender, SenderKind, ServiceError};
use pontoon_sdk::socketio::{self, Frame};
use pontoon_sdk::{Error, Event, EventType, Object, Raw, Reply, Result};

use crate::dialect::Outbox;
use crate::pending::{Expected, Request};
use crate::session::ElizaOsSession;

/// How many events of joins are kept until their pair comes.
const MAX_UNPAIRED: usize = 64;

impl ElizaOsSession {
    /// Decodes an event.
    ///
    /// # Errors
    /// `Protocol` if it does not have the shape that its name promises, or its name is unknown.
    pub(crate) fn event(&mut self, event: &socketio::Event, out: &mut Outbox) -> Result<Option<Event>> {
        use EventType as Kind;
        let raw = event.args.payload();
        let object = || payload(event);
        Ok(Some(match event.name.as_str() {
            "connection_established" => return Ok(None),
            "authenticated" => {
                let entity = object()?.text("entityId");
                if entity.is_some_and(|id| id.parse() != Ok(self.setup.entity)) {
                    return Err(Error::protocol("the server takes us for another entity than ours"));
                }
                return Ok(None);
            }
            "messageBroadcast" => self.broadcast(&object()?, raw, out)?,
            "messageAck" => self.acknowledged(&object()?, raw, out)?,
            "messageStreamChunk" => self.part(&object()?, out)?,
            "messageStreamError" => self.broke_off(event, raw, out)?,
            "messageDeleted" => about_message(Kind::MessageDeleted, &object()?, raw)?,
            "messageComplete" => about_room(Kind::MessageCompleted, &object()?, raw)?,
            "channelCleared" => about_room(Kind::ChannelCleared, &object()?, raw)?,
            "channelDeleted" => about_room(Kind::ChannelDeleted, &object()?, raw)?,
            "channelUpdated" => about_room(Kind::ChannelUpdated, &object()?, raw)?,
            "channel_joined" | "room_joined" => return self.joined(event, raw, out),
            "world-state" => in_room(Event::new(Kind::StateSnapshot, raw), &object()?),
            // Lines of the log can carry the messages of others.
            "logEntry" | "log_stream" if !self.subscriptions(out).logs() => return Ok(None),
            "logEntry" => log_entry(&object()?, raw)?,
            "log_stream" => {
                let object = object()?;
                let is_entry = object.text("type").as_deref() == Some("log_entry");
                let entry = object.object("payload").filter(|_| is_entry);
                log_entry(&entry.ok_or_else(|| Error::protocol("the payload holds no line of a log"))?, raw)?
            }
            "log_subscription_confirmed" => return self.subscribed(&object()?, &raw, out),
            "log_filters_updated" => return self.filtered(event, raw, out),
            "error" | "unauthorized" => error_raised(event, raw),
            "messageError" => self.refused(event, raw, out),
            "controlMessage" => {
                let reason = "it is meant for a user interface, and there is no type of event for it";
                let raw = pontoon_sdk::connector::Frame::raw(&Frame::Event(event.clone()));
                in_room(Event::unrecognised(event.name.clone(), reason, raw), &object()?)
            }
            _ => return Err(Error::protocol("ElizaOS is not known to send an event of this name")),
        }))
    }

    /// Takes the request that this answer confirms, and replies to its caller, unless that waits for an agent's answer.
    pub(crate) fn confirmed(
        &mut self,
        answer: &Expected,
        raw: &Raw,
        out: &mut Outbox,
    ) -> Result<Option<Request>> {
        let request = self.pending.answered(answer);
        if let Some(caller) = request.as_ref().and_then(Request::caller)
            && !self.answers.contains(caller)
        {
            out.reply(caller, Reply::Acked(raw.parse()?));
        }
        self.reply_refused(out);
        Ok(request)
    }

    /// An error that does not say which request it belongs to.
    fn refused(&mut self, event: &socketio::Event, raw: Raw, out: &mut Outbox) -> Event {
        let event = error_raised(event, raw);
        let text = error_text(&event).unwrap_or("ElizaOS refused it, and did not say why");
        self.pending.error(text.to_owned());
        self.reply_refused(out);
        event
    }

    /// A room was joined. The service sends this twice, under two names.
    fn joined(&mut self, event: &socketio::Event, raw: Raw, out: &mut Outbox) -> Result<Option<Event>> {
        let joined = about_room(EventType::ChannelJoined, &payload(event)?, raw.clone())?;
        let is_pair = |(name, payload): &(String, Raw)| *name != event.name && *payload == raw;
        if let Some(place) = self.unpaired.iter().position(is_pair) {
            self.unpaired.remove(place);
            out.duplicate();
            return Ok(None);
        }
        self.unpaired.push_back((event.name.clone(), raw.clone()));
        if self.unpaired.len() > MAX_UNPAIRED {
            self.unpaired.pop_front();
        }
        if let Some(room) = &joined.scope {
            self.confirmed(&Expected::Joined(room.clone()), &raw, out)?;
        }
        Ok(Some(joined))
    }

    /// The log is subscribed to, or no longer.
    fn subscribed(&mut self, object: &Object<'_>, raw: &Raw, out: &mut Outbox) -> Result<Option<Event>> {
        let Some(on) = object.value("subscribed") else {
            return Err(Error::protocol("the payload does not say whether the log is subscribed to"));
        };
        expected(self.confirmed(&Expected::Subscribed(on), raw, out)?)
    }

    /// The filter of the log was set, or could not be.
    fn filtered(&mut self, event: &socketio::Event, raw: Raw, out: &mut Outbox) -> Result<Option<Event>> {
        match payload(event)?.value("success") {
            Some(true) => return expected(self.confirmed(&Expected::Filtered, &raw, out)?),
            Some(false) => {}
            None => return Err(Error::protocol("the payload does not say whether the filter was set")),
        }
        let event = error_raised(event, raw);
        if let Some(request) = self.pending.answered(&Expected::Filtered) {
            let text = error_text(&event).unwrap_or("ElizaOS did not set the filter");
            self.fail(&request, Reply::Failed(Error::refused(text)), out);
        }
        Ok(Some(event))
    }
}

/// A confirmation is not published, unless the caller of its request does not wait any more.
///
/// # Errors
/// `Protocol` then, or if it belongs to no request.
fn expected(request: Option<Request>) -> Result<Option<Event>> {
    match request {
        Some(request) if request.command.is_none() || request.caller().is_some() => Ok(None),
        _ => Err(Error::protocol("no request waits for this answer")),
    }
}

/// The first argument of an event.
///
/// # Errors
/// `Protocol` if there is none, or it is not an object.
pub(crate) fn payload(event: &socketio::Event) -> Result<Object<'_>> {
    event.args.values().first().map_or_else(|| Err(Error::protocol("the payload is no object")), Object::of)
}

/// The room: newer servers call it a channel, older ones know no other name, and some give both.
pub(crate) fn room(object: &Object<'_>) -> Option<String> {
    object.text("channelId").or_else(|| object.text("roomId"))
}

pub(crate) fn agent(id: Option<String>, name: Option<String>) -> Option<Sender> {
    (id.is_some() || name.is_some()).then_some(Sender { id, name, kind: Some(SenderKind::Agent) })
}

/// The event, with the room, the server and the message that a payload names.
pub(crate) fn in_room(event: Event, object: &Object<'_>) -> Event {
    let mut event = event.channel(room(object)).message_id(object.text("messageId"));
    event.fields.server = object.text("messageServerId").or_else(|| object.text("serverId"));
    event
}

/// An event about a message.
///
/// # Errors
/// `Protocol` if the payload names none.
fn about_message(kind: EventType, object: &Object<'_>, raw: Raw) -> Result<Event> {
    let event = in_room(Event::new(kind, raw), object);
    if event.fields.message.is_some() {
        Ok(event)
    } else {
        Err(Error::protocol("the payload names no message"))
    }
}

/// An event about a room.
///
/// # Errors
/// `Protocol` if the payload names none.
fn about_room(kind: EventType, object: &Object<'_>, raw: Raw) -> Result<Event> {
    let mut event = in_room(Event::new(kind, raw), object);
    event.fields.title = object.object("updates").and_then(|updates| updates.text("name"));
    if event.scope.is_some() { Ok(event) } else { Err(Error::protocol("the payload names no room")) }
}

/// The error that an event reports, as an object or as a text alone.
pub(crate) fn error_raised(event: &socketio::Event, raw: Raw) -> Event {
    let Ok(object) = payload(event) else {
        let message = event.args.values().first().and_then(Raw::text);
        return Event::error(ServiceError { message, ..ServiceError::default() }, raw);
    };
    in_room(Event::error(object.error(), raw), &object)
}

pub(crate) fn error_text(event: &Event) -> Option<&str> {
    event.fields.error.as_ref()?.message.as_deref()
}

/// A line of the server's log.
///
/// # Errors
/// `Protocol` if it has neither level nor text.
fn log_entry(entry: &Object<'_>, raw: Raw) -> Result<Event> {
    let mut event = Event::new(EventType::LogEntry, raw);
    event.fields.text = entry.words("msg");
    event.fields.level_number = entry.value("level");
    event.fields.level = match event.fields.level_number {
        Some(number) => Some(level(number).to_owned()),
        None => entry.text("level"),
    };
    if event.fields.text.is_none() && event.fields.level.is_none() {
        return Err(Error::protocol("the line has neither level nor text"));
    }
    if let Some(time) = entry.time("time") {
        event.time = time.time;
        event.fields.time = Some(time.text);
    }
    event.fields.sender = agent(entry.text("agentId"), entry.text("agentName"));
    Ok(event)
}

/// The name of a level. ElizaOS adds three between debug (20) and info (30): success, progress and log.
fn level(number: i64) -> &'static str {
    match number {
        60.. => "fatal",
        50..60 => "error",
        40..50 => "warn",
        27..40 => "info",
        20..27 => "debug",
        ..20 => "trace",
    }
}
