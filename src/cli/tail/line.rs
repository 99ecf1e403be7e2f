//! One line for an event: as JSON, or short for people.

use async_nats::Message;
use pontoon_sdk::Raw;
use serde_json::Value;
use time::OffsetDateTime;

use crate::envelope::subject::decode_token;
use crate::log::printable::{printable, printable_json};

/// The longest summary, in characters.
const SUMMARY: usize = 240;

/// How events are printed.
pub(super) struct Format {
    /// What the subjects of events begin with.
    lead: String,
    json: bool,
    colour: bool,
}

impl Format {
    /// As JSON or short; in colour on a terminal, unless `NO_COLOR` is set.
    pub(super) fn new(prefix: &str, json: bool, terminal: bool) -> Self {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Self { lead: format!("{prefix}.event."), json, colour }
    }

    /// The line, without its end.
    pub(super) fn line(&self, message: &Message) -> String {
        if self.json {
            return json_line(message);
        }
        line(message, &self.lead, self.colour, &OffsetDateTime::now_utc().date().to_string())
    }
}

fn json_line(message: &Message) -> String {
    let subject = Value::from(message.subject.as_str()).to_string();
    let mut headers = serde_json::Map::new();
    for (name, values) in message.headers.iter().flat_map(|headers| headers.iter()) {
        let text = values.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(",");
        headers.insert(name.to_string(), Value::from(text));
    }
    let headers = printable_json(Value::Object(headers).to_string().as_bytes());
    let body = printable_json(&message.payload);
    format!("{{\"subject\":{},\"headers\":{headers},\"body\":{body}}}", printable_json(subject.as_bytes()))
}

fn line(message: &Message, lead: &str, colour: bool, today: &str) -> String {
    let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    let document = Raw::read::<Value>(&message.payload).map(|(document, _)| document).unwrap_or_default();
    // In structured mode the event is the document's `data`, and `time` is beside it.
    let structured = document.get("specversion").is_some();
    let body = if structured { document.get("data") } else { Some(&document) };
    let time = if structured {
        document.get("time").and_then(Value::as_str).map(str::to_owned)
    } else {
        header("ce-time")
    };
    let time = time.as_deref().map_or_else(|| "--:--:--.---".to_owned(), |time| moment(time, today));
    let tokens: Vec<&str> =
        message.subject.strip_prefix(lead).unwrap_or(&message.subject).split('.').collect();
    let (place, what, scope) = match tokens.as_slice() {
        [kind, instance, noun, verb, scope] => {
            let scope = decode_token(scope).unwrap_or_else(|| (*scope).to_owned());
            (format!("{kind}.{instance}"), format!("{noun}.{verb}"), scope)
        }
        _ => (message.subject.to_string(), String::new(), String::new()),
    };
    // A frame that was not understood has fields that explain why, and nothing else of what it is.
    let is_frame = what.starts_with("frame.");
    let parts = [(time, "2"), (place, "36"), (what, "1"), (scope, "35")];
    let shown = parts.iter().filter(|(text, _)| !text.is_empty()).map(|(text, style)| {
        let text = printable(text);
        if colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text }
    });
    let mut shown: Vec<String> = shown.collect();
    shown.push(printable(&body.map(|body| summary(body, is_frame)).unwrap_or_default()));
    shown.join("  ").trim_end().to_owned()
}

/// The time of an event in UTC to the millisecond, with its date unless that is `today`.
fn moment(time: &str, today: &str) -> String {
    match (time.get(..10), time.get(11..23)) {
        (Some(date), Some(clock)) if date == today => clock.to_owned(),
        (Some(date), Some(clock)) => format!("{date} {clock}"),
        _ => time.to_owned(),
    }
}

/// A short text for an event: sender and text if it has them, else its fields; and the payload if it is wanted.
fn summary(body: &Value, with_raw: bool) -> String {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let sender = text("/sender/name").or(text("/sender/id"));
    let content = text("/message/text")
        .or(text("/delta"))
        .or(text("/error/message"))
        .or(text("/text"))
        .or(text("/reason"));
    let whole = match (sender, content) {
        (Some(sender), Some(content)) => format!("{sender}: {content}"),
        (None, Some(content)) => content.to_owned(),
        _ => {
            let fields = body.as_object().into_iter().flatten().filter(|(key, _)| *key != "raw");
            let fields = fields.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
            if fields.is_empty() { body.get("raw").map(Value::to_string).unwrap_or_default() } else { fields }
        }
    };
    let whole = match body.get("raw") {
        Some(raw) if with_raw => format!("{whole}: {raw}"),
        _ => whole,
    };
    let mut short: String = whole.chars().take(SUMMARY).collect();
    if short.len() < whole.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, body: &str) -> Message {
        let (payload, length) = (body.to_owned().into(), body.len());
        Message {
            subject: subject.into(),
            reply: None,
            payload,
            headers: None,
            status: None,
            description: None,
            length,
        }
    }

    #[test]
    fn an_event_is_one_line_that_cannot_steer_a_terminal() {
        let body = r#"{"sender":{"name":"Eve\u001b[2J"},"message":{"text":"hi\n\u202eyou"},"raw":{}}"#;
        let shown = line(
            &message("p.event.minchat.support.message.created.room=201", body),
            "p.event.",
            false,
            "2026-01-02",
        );
        assert_eq!(
            shown,
            "--:--:--.---  minchat.support  message.created  room 1  Eve\\u{1b}[2J: hi\\n\\u{202e}you"
        );
    }

    #[test]
    fn an_event_with_half_a_surrogate_pair_in_its_payload_is_shown() {
        let body = r#"{"message":{"text":"cut"},"raw":{"t":"cut \ud83d"}}"#;
        let shown = line(&message("p.event.x.y.message.created._", body), "p.event.", false, "2026-01-02");
        assert!(shown.ends_with("cut"), "{shown}");
    }

    #[test]
    fn a_frame_that_was_not_understood_is_shown() {
        let body = r#"{"reason":"unknown action","raw":{"action":"tick"}}"#;
        let shown = line(&message("p.event.x.y.frame.unrecognised._", body), "p.event.", false, "2026-01-02");
        assert!(shown.ends_with(r#"unknown action: {"action":"tick"}"#), "{shown}");
    }

    #[test]
    fn the_date_is_shown_unless_it_is_today() {
        assert_eq!(moment("2026-01-02T03:04:05.678901Z", "2026-01-02"), "03:04:05.678");
        assert_eq!(moment("2026-01-01T03:04:05.678901Z", "2026-01-02"), "2026-01-01 03:04:05.678");
    }

    #[test]
    fn json_lines_hold_the_whole_event() {
        let shown = json_line(&message("p.event.x", "{\"n\":\n1}"));
        assert_eq!(shown, r#"{"subject":"p.event.x","headers":{},"body":{"n": 1}}"#);
    }
}
