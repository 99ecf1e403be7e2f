//! The event that a frame becomes, by an entry of `events` or without one.

use pontoon_sdk::event::{Message, MessageObject, Sender, ServiceError};
use pontoon_sdk::lenient::Timestamp;
use pontoon_sdk::{Event, EventType, Fields, Raw};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::frames::{Words, text_of};
use crate::mapping::{Mapping, TimeUnit, is_message};
use crate::pointer;

impl Mapping {
    /// The event that a frame becomes. `document` is what pointers lead into.
    pub(crate) fn event(&self, document: &str, raw: Raw) -> Event {
        let kind = self.kind.0;
        let pointers = self.pointers().map(|(_, pointer)| pointer);
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
        ] = pointer::find(document, pointers);
        let text_at = |found: Option<&str>| found.and_then(text_of);
        let time = time.and_then(|time| read_time(time, self.time_unit));
        let (id, version) = (text_at(id), text_at(version));
        let mut event = Event::new(kind, raw);
        event.time = time.as_ref().and_then(|time| time.time);
        let fields = &mut event.fields;
        fields.channel = text_at(channel);
        fields.server = text_at(server);
        fields.sender = sender_of(text_at(sender), text_at(sender_name));
        fields.delta = text_at(delta);
        fields.title = text_at(title);
        fields.status = text_at(status);
        fields.level = text_at(level);
        fields.resource = text_at(resource);
        fields.action = text_at(action);
        fields.uid = text_at(uid);
        fields.data = data.and_then(|data| RawValue::from_string(data.to_owned()).ok());
        place_words(fields, kind, text_at(text), text_at(code));
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

/// Reads a time. Without a unit a number counts milliseconds, and a text is RFC 3339; with one a text of digits is a
/// number, too.
fn read_time(json: &str, unit: Option<TimeUnit>) -> Option<Timestamp> {
    let text = text_of(json)?;
    let number = unit.or((!json.starts_with('"')).then_some(TimeUnit::Milliseconds));
    let read = number.and_then(|unit| unit.millis(&text)).map(Timestamp::of_millis);
    // A number that is no time is shown as it came.
    Some(read.filter(|read| read.time.is_some()).unwrap_or_else(|| Timestamp::of_text(&text)))
}

impl TimeUnit {
    /// The milliseconds that a number of this unit counts; what is finer is cut off.
    fn millis(self, number: &str) -> Option<i64> {
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let whole: i64 = whole.parse().ok()?;
        // `1.7e9` is a number, too, and no service writes a time so.
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        match self {
            Self::Seconds => {
                let part: i64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
                let part = if number.starts_with('-') { -part } else { part };
                whole.checked_mul(1_000)?.checked_add(part)
            }
            Self::Milliseconds => Some(whole),
            Self::Microseconds => Some(whole.div_euclid(1_000)),
            Self::Nanoseconds => Some(whole.div_euclid(1_000_000)),
        }
    }
}

fn sender_of(id: Option<String>, name: Option<String>) -> Option<Sender> {
    (id.is_some() || name.is_some()).then_some(Sender { id, name, kind: None })
}

/// Puts words, and the code of an error, where the event's type has them.
fn place_words(fields: &mut Fields, kind: EventType, words: Option<String>, code: Option<String>) {
    match kind {
        EventType::ErrorRaised if code.is_some() || words.is_some() => {
            fields.error = Some(ServiceError { code, message: words, details: None });
        }
        EventType::SocketMessage => fields.message = words.map(Message::Text),
        EventType::SocketClosed | EventType::SocketFailed => fields.reason = words,
        EventType::ErrorRaised => {}
        // Those of a message are moved to the message.
        _ => fields.text = words,
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

/// What a frame becomes that no entry of `events` speaks of.
pub(crate) fn unmapped(kind: Option<String>, raw: Raw) -> Event {
    let mut event = Event::new(EventType::FrameUnrecognised, raw);
    if let Some(kind) = kind {
        event.fields.name = Some(kind.clone());
        event.upstream = Some(kind.into());
    }
    event
}

/// What the service's refusal of our credentials becomes where no entry of `events` speaks of it.
pub(crate) fn refusal(words: Words, raw: Raw) -> Event {
    let mut event = Event::new(EventType::ErrorRaised, raw);
    let Words { message, code } = words;
    event.fields.error = Some(ServiceError { code, message, details: None });
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_what_they_count() {
        use TimeUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
        let moment = "2023-11-14T22:13:20.123Z";
        for (unit, json, wanted) in [
            (Some(Seconds), "1700000000.123456", moment),
            (Some(Seconds), "\"1700000000.123\"", moment),
            (Some(Seconds), "1700000000", "2023-11-14T22:13:20Z"),
            (Some(Seconds), "1700000000.1", "2023-11-14T22:13:20.1Z"),
            (Some(Seconds), "-0.5", "1969-12-31T23:59:59.5Z"),
            (Some(Milliseconds), "\"1700000000123\"", moment),
            (Some(Microseconds), "1700000000123999", moment),
            (Some(Nanoseconds), "1700000000123999999", moment),
            (Some(Seconds), "\"2023-11-14T22:13:20.123Z\"", moment),
            (None, "1700000000123", moment),
            (None, "1700000000123.0", moment),
            (None, "\"2023-11-14T22:13:20.123Z\"", moment),
        ] {
            let time = read_time(json, unit).unwrap();
            assert_eq!(time.text, wanted, "{unit:?} {json}");
            assert!(time.time.is_some(), "{unit:?} {json}");
        }
    }

    #[test]
    fn what_is_no_time_is_shown_as_it_came() {
        for (unit, json) in [
            (Some(TimeUnit::Seconds), "\"yesterday\""),
            (Some(TimeUnit::Seconds), "99999999999999999999"),
            (Some(TimeUnit::Seconds), "9223372036854775807"),
            (Some(TimeUnit::Seconds), "999999999999"),
            (Some(TimeUnit::Seconds), "\"1.x\""),
            (Some(TimeUnit::Seconds), "\"1.\u{e9}\u{e9}\""),
            (None, "1.7e12"),
            (None, "\"\""),
            (None, "\"1700000000123\""),
        ] {
            let time = read_time(json, unit).unwrap();
            assert_eq!((time.text.as_str(), time.time), (json.trim_matches('"'), None), "{unit:?} {json}");
        }
        assert_eq!(read_time("null", None), None);
        assert_eq!(read_time("{}", None), None);
    }
}
