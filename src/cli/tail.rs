//! `pontoon tail`: prints events as they are published, one a line.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;

use async_nats::Message;
use clap::Args;
use futures_util::StreamExt as _;
use pontoon_sdk::Raw;
use serde_json::Value;

use super::Outcome;
use super::failure::Failure;
use super::nats;
use crate::config::{self, Sources};
use crate::envelope::subject::decode_token;
use crate::log::printable::{printable, printable_json};
use crate::registry::Registry;

/// The longest summary, in characters.
const SUMMARY: usize = 240;

#[derive(Args)]
pub(super) struct Tail {
    /// A subject, or what follows `<prefix>.event.`: `minchat.support.>`, `*.*.message.created.>`
    #[arg(default_value = ">")]
    filter: String,
    /// Print whole events as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Stop after this many events
    #[arg(long, value_name = "NUMBER")]
    count: Option<usize>,
}

impl Tail {
    pub(super) fn run(self, registry: &Registry, sources: &Sources) -> Outcome {
        let (config, _) = config::shared(registry, sources)?;
        let prefix = &config.nats.prefix;
        let subject = subject(prefix, &self.filter)?;
        let lead = format!("{prefix}.event.");
        nats::block_on(async {
            let (client, mut refusals) = nats::client(&config).await?;
            let mut events =
                client.subscribe(subject).await.map_err(|error| Failure::Failed(error.to_string()))?;
            let colour =
                stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            let mut left = self.count.unwrap_or(usize::MAX);
            while left > 0 {
                let message = tokio::select! {
                    message = events.next() => message,
                    failure = refusals.next() => return Err(failure),
                };
                let Some(message) = message else {
                    return Err(Failure::Failed("the subscription ended".to_owned()));
                };
                let line = if self.json { json_line(&message) } else { line(&message, &lead, colour) };
                writeln!(stdout(), "{line}")?;
                left -= 1;
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The subject to subscribe to: the filter itself if it begins with the prefix, else below `<prefix>.event.`.
fn subject(prefix: &str, filter: &str) -> Result<String, Failure> {
    let wrong =
        filter.split('.').any(str::is_empty) || filter.chars().any(|c| c.is_whitespace() || c.is_control());
    if wrong {
        return Err(Failure::Usage(format!(
            "\"{filter}\" is not a filter; write tokens with dots between them, or * and >"
        )));
    }
    let is_full = filter == prefix || filter.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    Ok(if is_full { filter.to_owned() } else { format!("{prefix}.event.{filter}") })
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

fn line(message: &Message, lead: &str, colour: bool) -> String {
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
    let time = time.as_deref().and_then(|time| time.get(11..23)).unwrap_or("--:--:--.---").to_owned();
    let tokens: Vec<&str> =
        message.subject.strip_prefix(lead).unwrap_or(&message.subject).split('.').collect();
    let (place, what, scope) = match tokens.as_slice() {
        [kind, instance, noun, verb, scope] => {
            let scope = decode_token(scope).unwrap_or_else(|| (*scope).to_owned());
            (format!("{kind}.{instance}"), format!("{noun}.{verb}"), scope)
        }
        _ => (message.subject.to_string(), String::new(), String::new()),
    };
    let parts = [(time, "2"), (place, "36"), (what, "1"), (scope, "35")];
    let shown = parts.iter().filter(|(text, _)| !text.is_empty()).map(|(text, style)| {
        let text = printable(text);
        if colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text }
    });
    let mut shown: Vec<String> = shown.collect();
    shown.push(printable(&body.map(summary).unwrap_or_default()));
    shown.join("  ").trim_end().to_owned()
}

/// A short text for an event: sender and text if it has them, else its fields.
fn summary(body: &Value) -> String {
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
    fn a_filter_is_a_subject_or_what_follows_the_events() {
        let subject = |filter| subject("acme.pontoon", filter).ok();
        assert_eq!(subject(">").as_deref(), Some("acme.pontoon.event.>"));
        assert_eq!(subject("sub0.shop.>").as_deref(), Some("acme.pontoon.event.sub0.shop.>"));
        assert_eq!(subject("acme.pontoon.state.>").as_deref(), Some("acme.pontoon.state.>"));
        assert_eq!(subject("a b"), None);
        assert_eq!(subject("a..b"), None);
    }

    #[test]
    fn an_event_is_one_line_that_cannot_steer_a_terminal() {
        let body = r#"{"sender":{"name":"Eve\u001b[2J"},"message":{"text":"hi\n\u202eyou"},"raw":{}}"#;
        let shown =
            line(&message("p.event.minchat.support.message.created.room=201", body), "p.event.", false);
        assert_eq!(
            shown,
            "--:--:--.---  minchat.support  message.created  room 1  Eve\\u{1b}[2J: hi\\n\\u{202e}you"
        );
    }

    #[test]
    fn an_event_with_half_a_surrogate_pair_in_its_payload_is_shown() {
        let body = r#"{"message":{"text":"cut"},"raw":{"t":"cut \ud83d"}}"#;
        let shown = line(&message("p.event.x.y.message.created._", body), "p.event.", false);
        assert!(shown.ends_with("cut"), "{shown}");
    }

    #[test]
    fn json_lines_hold_the_whole_event() {
        let shown = json_line(&message("p.event.x", "{\"n\":\n1}"));
        assert_eq!(shown, r#"{"subject":"p.event.x","headers":{},"body":{"n": 1}}"#);
    }
}
