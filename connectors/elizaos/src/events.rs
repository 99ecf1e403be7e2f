//! From what the service says to events.

use pontoon_sdk::event::{Message, MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::{Error, Event, EventType, Object, Raw, Result, socketio};

use crate::config::Setup;
use crate::frames::{Broadcast, channel, server};
use crate::message_cache::{Known, Look, Told};

/// A message, and what is known of it besides.
pub(crate) struct Said {
    pub(crate) event: Event,
    pub(crate) sender: SenderKind,
    /// Whether this very version of it was told before.
    pub(crate) again: bool,
}

/// A message that is told to all in its room: new, changed, or told again.
pub(crate) fn broadcast(setup: &Setup, known: &Known, broadcast: &Broadcast, raw: Raw) -> Said {
    let told = broadcast.id.as_deref().map(|id| {
        known.tell(Look {
            id,
            text: broadcast.text.as_deref(),
            created: broadcast.created.as_ref(),
            updated: broadcast.updated.as_ref(),
            written: broadcast.written(),
        })
    });
    let kind = told.as_ref().map_or(EventType::MessageCreated, |told| told.kind);
    let sender = sender(setup, broadcast);
    let mut event = Event::new(kind, raw);
    let time = match kind {
        EventType::MessageUpdated => broadcast.updated.as_ref(),
        _ => broadcast.created.as_ref(),
    };
    event.time = time.and_then(|time| time.time);
    event.fields.server = broadcast.server.clone();
    event.fields.sender = Some(Sender {
        id: broadcast.sender.clone(),
        name: broadcast.sender_name.clone(),
        kind: Some(sender),
    });
    event.fields.message = Some(Message::Object(MessageObject {
        id: broadcast.id.clone(),
        text: broadcast.text.clone(),
        created_at: broadcast.created.as_ref().map(|time| time.text.clone()),
        attachments: broadcast.attachments.clone(),
        metadata: broadcast.metadata.clone(),
    }));
    let again = told.as_ref().is_some_and(|told| told.again);
    event.identity = told.map(|Told { identity, .. }| identity);
    Said { event: in_channel(event, broadcast.channel.clone()), sender, again }
}

fn sender(setup: &Setup, broadcast: &Broadcast) -> SenderKind {
    let is = |id: String| broadcast.sender.as_ref().is_some_and(|sender| sender.eq_ignore_ascii_case(&id));
    let configured = || setup.config.rooms.iter().filter_map(|room| room.agent_id);
    if broadcast.echo || is(setup.entity.to_string()) {
        SenderKind::Own
    } else if broadcast.is_agents() || configured().any(|agent| is(agent.to_string())) {
        SenderKind::Agent
    } else {
        SenderKind::User
    }
}

/// Something that happened to a message of which no more is told than its id.
pub(crate) fn about(kind: EventType, object: &Object<'_>, id: Option<String>, raw: Raw) -> Event {
    let mut event = Event::new(kind, raw);
    event.fields.server = server(object);
    event.fields.message =
        id.map(|id| Message::Object(MessageObject { id: Some(id), ..MessageObject::default() }));
    in_channel(event, channel(object))
}

/// The same, where the id must be told.
///
/// # Errors
/// `Protocol` if it is not.
pub(crate) fn about_message(kind: EventType, object: &Object<'_>, raw: Raw) -> Result<Event> {
    match object.text("messageId") {
        Some(id) => Ok(about(kind, object, Some(id), raw)),
        None => Err(Error::protocol("the payload names no message")),
    }
}

/// Something that happened to a room.
///
/// # Errors
/// `Protocol` if the payload names none.
pub(crate) fn about_channel(kind: EventType, object: &Object<'_>, raw: Raw) -> Result<Event> {
    if channel(object).is_none() {
        return Err(Error::protocol("the payload names no room"));
    }
    let mut event = about(kind, object, None, raw);
    event.fields.title = object.object("updates").and_then(|updates| updates.text("name"));
    Ok(event)
}

/// An error that the service reports.
pub(crate) fn raised(error: ServiceError, channel: Option<String>, raw: Raw) -> Event {
    let mut event = Event::new(EventType::ErrorRaised, raw);
    event.fields.error = Some(error);
    in_channel(event, channel)
}

/// A line of the server's log.
///
/// # Errors
/// `Protocol` if it has neither level nor text.
pub(crate) fn log(entry: &Object<'_>, raw: Raw) -> Result<Event> {
    let mut event = Event::new(EventType::LogEntry, raw);
    let time = entry.time("time");
    event.fields.text = entry.words("msg");
    event.fields.level_number = entry.value("level");
    event.fields.level = match event.fields.level_number {
        Some(number) => Some(level(number).to_owned()),
        None => entry.text("level"),
    };
    if event.fields.text.is_none() && event.fields.level.is_none() {
        return Err(Error::protocol("the line has neither level nor text"));
    }
    event.time = time.as_ref().and_then(|time| time.time);
    event.fields.time = time.map(|time| time.text);
    let (id, name) = (entry.text("agentId"), entry.text("agentName"));
    if id.is_some() || name.is_some() {
        event.fields.sender = Some(Sender { id, name, kind: Some(SenderKind::Agent) });
    }
    Ok(event)
}

/// The word for a level. ElizaOS has three of its own between debug (20) and info (30): success, progress and log.
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

/// What is not understood, or has no place among the types of events: its name, why, and the whole of it.
pub(crate) fn unrecognised(event: &socketio::Event, reason: &str) -> Event {
    let raw = pontoon_sdk::connector::Frame::raw(&socketio::Frame::Event(event.clone()));
    let mut told = Event::new(EventType::FrameUnrecognised, raw).upstream(event.name.clone());
    told.fields.name = Some(event.name.clone());
    told.fields.reason = Some(reason.to_owned());
    told
}

/// The event, in its room where that is known.
pub(crate) fn in_channel(mut event: Event, channel: Option<String>) -> Event {
    event.scope.clone_from(&channel);
    event.fields.channel = channel;
    event
}
