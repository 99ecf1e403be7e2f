//! The event that a payload becomes, by an entry of the configuration or without one.

use serde_json::Value;
use serde_json::value::RawValue;

use super::entry::{Mapping, is_message};
use super::find::{Payload, find};
use super::pointer::Document;
use super::time::time_of;
use pontoon_sdk::accumulator::{Mode, Piece};
use pontoon_sdk::event::{Event, EventType, Fields, Message, MessageObject, Raw, Sender, ServiceError};
use pontoon_sdk::json::text as text_of;
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::streams::Streams;

impl<D: Document> Mapping<D> {
    /// The event that a payload becomes. `raw` is shown in it as the payload, unless it is a part of a message; `streams`
    /// are the messages of this connection that come in parts. The service's own name for it is not set.
    pub fn event(&self, payload: Payload<'_, '_>, raw: Raw, streams: &mut Streams) -> Event {
        let fields = self.fields.iter().map(|(name, pointer)| {
            let [found] = find(payload, [Some(pointer)]);
            (name, found)
        });
        self.made(find(payload, self.pointers().map(|(_, pointer)| pointer)), fields, raw, streams)
    }

    /// The event of what was found: of [`Mapping::pointers`], and of the fields of a type that an operator names.
    pub(super) fn made<'f, 'v>(
        &self,
        found: [Option<&str>; 17],
        custom: impl Iterator<Item = (&'f String, Option<&'v str>)>,
        raw: Raw,
        streams: &mut Streams,
    ) -> Event {
        let kind = self.kind.0;
        let [
            channel,
            server,
            id,
            version,
            sender,
            sender_name,
            text,
            delta,
            time,
            title,
            status,
            level,
            code,
            resource,
            action,
            uid,
            data,
        ] = found;
        let text_at = |found: Option<&str>| found.and_then(text_of);
        let time = time.and_then(|time| time_of(time, self.time_unit));
        let (id, version) = (text_at(id), text_at(version));
        let mut event = Event::new(kind, raw);
        event.time = time.as_ref().and_then(|time| time.time);
        let fields = &mut event.fields;
        fields.channel = text_at(channel);
        fields.server = text_at(server);
        fields.sender = sender_of(text_at(sender), text_at(sender_name));
        fields.title = text_at(title);
        fields.status = text_at(status);
        fields.level = text_at(level);
        fields.resource = text_at(resource);
        fields.action = text_at(action);
        fields.uid = text_at(uid);
        for (name, found) in custom {
            let value = found.and_then(|found| RawValue::from_string(found.to_owned()).ok());
            fields.custom.extend(value.map(|value| (name.clone(), value)));
        }
        fields.data = data.and_then(|data| RawValue::from_string(data.to_owned()).ok());
        let stream = |channel: Option<&str>, id: Option<&str>| Value::from_iter([channel, id]).to_string();
        match kind {
            EventType::MessageDelta => {
                let whole = text.and_then(Piece::read).map(|piece| (Mode::Cumulative, piece));
                let part = whole.or_else(|| Some((Mode::Delta, Piece::read(delta?)?)));
                if let Some((mode, piece)) = part {
                    let part = streams.push(&stream(fields.channel.as_deref(), id.as_deref()), mode, piece);
                    (fields.delta, fields.index) = (part.delta, part.index);
                    (fields.length, fields.reset) = (part.length, part.reset);
                    event.raw = None;
                }
            }
            EventType::MessageCreated | EventType::MessageUpdated | EventType::MessageCompleted => {
                if !streams.is_empty() {
                    streams.end(&stream(fields.channel.as_deref(), id.as_deref()));
                    // Parts without an id are those of the next message that is whole.
                    if kind == EventType::MessageCompleted {
                        streams.end(&stream(fields.channel.as_deref(), None));
                    }
                }
                place_text(fields, kind, text_at(text), None);
            }
            _ => place_text(fields, kind, text_at(text), text_at(code)),
        }
        if is_message(kind) {
            place_message(fields, kind, id.clone(), time.as_ref());
        } else if kind == EventType::LogEntry {
            fields.time = time.map(|time| time.text);
        }
        event.scope.clone_from(&event.fields.channel);
        // An array is JSON, so that no part of it can run into the next.
        event.identity = id.zip(version).map(|(id, version)| {
            Value::from_iter([event.fields.channel.clone(), Some(id), Some(version)]).to_string()
        });
        event
    }
}

fn sender_of(id: Option<String>, name: Option<String>) -> Option<Sender> {
    (id.is_some() || name.is_some()).then_some(Sender { id, name, kind: None })
}

/// Puts a text, and the code of an error, where the event's type has them.
fn place_text(fields: &mut Fields, kind: EventType, text: Option<String>, code: Option<String>) {
    match kind {
        EventType::ErrorRaised if code.is_some() || text.is_some() => {
            fields.error = Some(ServiceError { code, message: text, details: None });
        }
        EventType::SocketMessage => fields.message = text.map(Message::Text),
        EventType::SocketClosed | EventType::SocketFailed => fields.reason = text,
        EventType::ErrorRaised => {}
        // Those of a message are moved to the message.
        _ => fields.text = text,
    }
}

fn place_message(fields: &mut Fields, kind: EventType, id: Option<String>, time: Option<&Timestamp>) {
    let text = fields.text.take();
    // Only then is the time of the event surely that of the message.
    let created_at = time.filter(|_| kind == EventType::MessageCreated).map(|time| time.text.clone());
    if id.is_some() || text.is_some() || created_at.is_some() {
        let message = MessageObject { id, text, created_at, ..MessageObject::default() };
        fields.message = Some(Message::Object(message));
    }
}

/// What becomes of what no entry maps: `frame.unrecognised`, with the service's name for it if it has one.
pub fn unmapped(name: Option<String>, raw: Raw) -> Event {
    let mut event = Event::new(EventType::FrameUnrecognised, raw);
    if let Some(name) = name {
        event.fields.name = Some(name.clone());
        event.upstream = Some(name.into());
    }
    event
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::super::Json;
    use super::super::tests::{Arguments, Frames};
    use super::*;

    const ENTRY: &str =
        r#"{"type":"message.created","channel":"/0/room","id":"/0/id","version":"/1","text":"/0/text"}"#;

    /// The same entry leads into a list that is one value, and into one whose elements stand by themselves.
    #[test]
    fn one_value_and_a_list_make_the_same_event() {
        let elements = [r#"{"room":"lobby","id":7,"text":{}}"#, "2"];
        let raws = elements.map(|json| Raw::from(RawValue::from_string(json.to_owned()).unwrap()));
        let list: Mapping<Arguments> = serde_json::from_str(ENTRY).unwrap();
        let value: Mapping<Frames> = serde_json::from_str(ENTRY).unwrap();
        let document = format!("[{}]", elements.join(","));
        for event in [
            list.event(Payload::List(&raws), Raw::null(), &mut Streams::default()),
            value.event(Payload::Json(&Json::new(&document)), Raw::null(), &mut Streams::default()),
        ] {
            assert_eq!(
                serde_json::to_value(&event.fields).unwrap(),
                json!({"channel": "lobby", "message": {"id": "7"}})
            );
            assert_eq!(event.scope.as_deref(), Some("lobby"));
            assert_eq!(event.identity.as_deref(), Some(r#"["lobby","7","2"]"#));
        }
    }

    #[test]
    fn parts_hold_what_is_new_and_no_payload() {
        let delta = r#"{"type":"message.delta","channel":"/c","id":"/i","text":"/all","delta":"/new"}"#;
        let delta: Mapping<Frames> = serde_json::from_str(delta).unwrap();
        let whole: Mapping<Frames> =
            serde_json::from_str(r#"{"type":"message.created","channel":"/c","id":"/i"}"#).unwrap();
        let mut streams = Streams::default();
        for (mapping, json, fields) in [
            (&delta, r#"{"c":1,"i":2,"new":"a\ud83d"}"#, json!({"delta": "a", "index": 0, "length": 1})),
            (
                &delta,
                r#"{"c":1,"i":2,"new":"\udc4d"}"#,
                json!({"delta": "\u{1F44D}", "index": 1, "length": 2}),
            ),
            (&delta, r#"{"c":1,"i":3,"all":"ab"}"#, json!({"delta": "ab", "index": 0, "length": 2})),
            (
                &delta,
                r#"{"c":1,"i":3,"all":"abc","new":"?"}"#,
                json!({"delta": "c", "index": 1, "length": 3}),
            ),
            (
                &delta,
                r#"{"c":1,"i":3,"all":"x"}"#,
                json!({"delta": "x", "index": 2, "length": 1, "reset": true}),
            ),
            (&whole, r#"{"c":1,"i":3}"#, json!({})),
            (&delta, r#"{"c":1,"i":3,"new":"d"}"#, json!({"delta": "d", "index": 0, "length": 1})),
        ] {
            let event = mapping.event(Payload::Json(&Json::new(json)), Raw::null(), &mut streams);
            let mut got = serde_json::to_value(&event.fields).unwrap();
            assert_eq!(event.raw.is_none(), mapping.kind.0 == EventType::MessageDelta, "{json}");
            assert!(got["message"]["id"].is_string() && got["message"].get("text").is_none(), "{got}");
            let got = got.as_object_mut().unwrap();
            got.retain(|key, _| !matches!(key.as_str(), "channel" | "message"));
            assert_eq!(json!(got), fields, "{json}");
        }
        // What has no text where it is expected is published with its payload.
        let event = delta.event(Payload::Json(&Json::new(r#"{"c":1,"i":4}"#)), Raw::null(), &mut streams);
        assert!(event.raw.is_some());
    }

    #[test]
    fn what_is_not_mapped_keeps_its_name() {
        let event = unmapped(Some("weather".to_owned()), Raw::null());
        assert_eq!((event.kind, event.upstream.as_deref()), (EventType::FrameUnrecognised, Some("weather")));
        assert_eq!(event.fields.name.as_deref(), Some("weather"));
        assert_eq!(unmapped(None, Raw::null()).upstream, None);
    }
}
