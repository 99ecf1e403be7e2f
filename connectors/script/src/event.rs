//! The event that a script publishes.

use std::collections::BTreeMap;

use pontoon_sdk::accumulator::Mode;
use pontoon_sdk::event::{Fields, Message, MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::streams::Streams;
use pontoon_sdk::{Event, EventType, Object, Piece, Raw};
use serde_json::value::RawValue;

type Listed = BTreeMap<String, Box<RawValue>>;

/// Reads an event. `raw` is its payload unless it has one itself; `streams` are the messages that come in parts.
///
/// # Errors
/// Which field is wrong, and what to write.
pub(crate) fn read(json: &str, raw: Option<&Raw>, streams: &mut Streams) -> Result<Event, String> {
    let listed: Listed =
        serde_json::from_str(json).map_err(|_| "an event is an object with a type".to_owned())?;
    let kind = listed.get("type").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
    let kind: EventType = kind
        .ok_or("an event has a type, such as \"message.created\"")?
        .parse()
        .map_err(|error: pontoon_sdk::Error| error.message().to_owned())?;
    let mut event = Event::new(kind, raw.cloned());
    let mut scope = None;
    for (name, value) in listed {
        if value.get() == "null" {
            continue;
        }
        let text = || text(&name, &value);
        let fields = &mut event.fields;
        match name.as_str() {
            "type" => {}
            "scope" => scope = Some(text()?),
            "upstream" => event.upstream = Some(text()?.into()),
            "identity" => event.identity = Some(text()?),
            "traceparent" => event.traceparent = Some(text()?),
            "stored" => event.stored = Some(whole(&name, &value)?),
            "raw" => event.raw = Some(Raw::from(value)),
            "time" => place_time(&mut event, &value)?,
            "channel" => fields.channel = Some(text()?),
            "server" => fields.server = Some(text()?),
            "message" => fields.message = Some(message(&value)?),
            "sender" => fields.sender = Some(sender(&value)?),
            "delta" => fields.delta = Some(text()?),
            "title" => fields.title = Some(text()?),
            "participants" => fields.participants = Some(parsed(&name, &value, "a list of texts")?),
            "status" => fields.status = Some(text()?),
            "level" => fields.level = Some(text()?),
            "level_number" => fields.level_number = Some(parsed(&name, &value, "a whole number")?),
            "text" => fields.text = Some(text()?),
            "resource" => fields.resource = Some(text()?),
            "action" => fields.action = Some(text()?),
            "uid" => fields.uid = Some(text()?),
            "data" => fields.data = Some(value),
            "code" => fields.code = Some(parsed(&name, &value, "a number up to 65535")?),
            "reason" => fields.reason = Some(text()?),
            "error" => fields.error = Some(error(&value)?),
            "name" => fields.name = Some(text()?),
            "fields" => fields.custom = custom(kind, &value)?,
            _ => {
                return Err(format!(
                    "an event has no field {name}; those of a type x-… stand in fields: {{ {name}: … }}"
                ));
            }
        }
    }
    event.scope = scope.or_else(|| event.fields.channel.clone());
    if kind == EventType::MessageDelta {
        count(&mut event, streams);
    }
    Ok(event)
}

/// Counts a part of a message, and shows nothing but what is new.
fn count(event: &mut Event, streams: &mut Streams) {
    let id = match &event.fields.message {
        Some(Message::Object(message)) => message.id.as_deref(),
        _ => None,
    };
    let key = serde_json::Value::from_iter([event.fields.channel.as_deref(), id]).to_string();
    let written =
        event.fields.delta.take().and_then(|delta| Piece::read(&serde_json::Value::from(delta).to_string()));
    if let Some(piece) = written {
        let Fields { delta, index, length, reset, .. } = streams.push(&key, Mode::Delta, piece);
        event.fields = Fields { delta, index, length, reset, ..std::mem::take(&mut event.fields) };
    }
    event.raw = None;
}

fn place_time(event: &mut Event, value: &RawValue) -> Result<(), String> {
    let time: Timestamp = parsed("time", value, "a time (RFC 3339) or milliseconds since 1970")?;
    event.time = time.time;
    if event.kind == EventType::LogEntry {
        event.fields.time = Some(time.text);
    } else if event.time.is_none() {
        return Err(format!("time is {value}; write a time (RFC 3339) or milliseconds since 1970"));
    }
    Ok(())
}

fn message(value: &RawValue) -> Result<Message, String> {
    if value.get().starts_with('"') {
        return text("message", value).map(Message::Text);
    }
    let listed: Listed = parsed("message", value, "an object or a text")?;
    let mut message = MessageObject::default();
    for (name, value) in listed {
        if value.get() == "null" {
            continue;
        }
        match name.as_str() {
            "id" => message.id = Some(text(&name, &value)?),
            "text" => message.text = Some(text(&name, &value)?),
            "created_at" => message.created_at = Some(parsed::<Timestamp>(&name, &value, "a time")?.text),
            "attachments" => message.attachments = Some(value),
            "metadata" => message.metadata = Some(value),
            _ => return Err(format!("a message has no field {name}; put it in metadata: {{ {name}: … }}")),
        }
    }
    Ok(Message::Object(message))
}

fn sender(value: &RawValue) -> Result<Sender, String> {
    let object = Object::within(value).ok_or("sender is not an object such as { id, name, kind }")?;
    let kind = match object.text("kind").as_deref() {
        None => None,
        Some("user") => Some(SenderKind::User),
        Some("agent") => Some(SenderKind::Agent),
        Some("self") => Some(SenderKind::Own),
        Some(other) => return Err(format!("a sender's kind is user, agent or self, and not {other}")),
    };
    Ok(Sender { id: object.text("id"), name: object.text("name"), kind })
}

fn error(value: &RawValue) -> Result<ServiceError, String> {
    let object = Object::within(value).ok_or("error is not an object such as { code, message }")?;
    Ok(ServiceError {
        code: object.text("code"),
        message: object.text("message"),
        details: object.filled("details"),
    })
}

fn custom(kind: EventType, value: &RawValue) -> Result<Listed, String> {
    if !matches!(kind, EventType::Custom(_)) {
        return Err(format!("only a type x-… has fields, and {} does not", kind.as_str()));
    }
    parsed("fields", value, "an object")
}

/// A text, or a number or truth value as text.
fn text(name: &str, value: &RawValue) -> Result<String, String> {
    pontoon_sdk::json::text(value.get()).ok_or_else(|| format!("{name} is not a text"))
}

fn whole(name: &str, value: &RawValue) -> Result<u64, String> {
    parsed(name, value, "a whole number")
}

fn parsed<T: serde::de::DeserializeOwned>(name: &str, value: &RawValue, wanted: &str) -> Result<T, String> {
    Raw::checked(value.get().to_owned()).parse().map_err(|_| format!("{name} is not {wanted}"))
}
