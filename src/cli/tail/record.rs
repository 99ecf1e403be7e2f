//! `pontoon record`: what passes over the wire of an instance, and where it breaks, as the lines of a transcript.

use std::io::{Write as _, stderr, stdout};

use pontoon_sdk::{Raw, socketio, websocket};
use pontoon_transcript::FrameText as _;
use serde_json::Value;
use serde_json::value::RawValue;

use super::wire;
use crate::cli::Outcome;
use crate::log::printable::printable;
use crate::settings::Config;

/// Prints frames as a transcript, up to `count` of them. Secrets are masked by the daemon.
pub(in crate::cli) fn print(config: &Config, instance: &str, count: Option<usize>) -> Outcome {
    writeln!(stderr(), "recording the wire of {}", printable(instance)).ok();
    writeln!(stdout(), "# Recorded; write what it shows, and what each line causes.")?;
    let mut link = None;
    wire::watch(config, instance, count, |frame| {
        let text = |key: &str| frame.get(key).and_then(Value::as_str).unwrap_or_default();
        if let Some(lost) = frame.get("count") {
            return Ok(writeln!(stdout(), "# {lost} frames came too fast and are missing.")?);
        }
        if link.as_deref() != Some(text("link")) {
            link = Some(text("link").to_owned());
            writeln!(stdout(), "# link {}", printable(text("link")))?;
        }
        let line = match text("direction") {
            "sent" => format!("up  -> {}", written(text("frame"))),
            "received" => format!("up  <- {}", written(text("frame"))),
            "opened" => "up open".to_owned(),
            // A transcript ends a connection so, or expects that the session does.
            "closed" => format!("up closed {}", text("reason")),
            _ => format!("up close {}", text("reason")),
        };
        Ok(writeln!(stdout(), "{}", printable(line.trim_end()))?)
    })
}

/// A frame as a transcript writes it. What is shown of one is JSON: of a WebSocket message its content, or a string, or
/// `{"base64": …}`; of a Socket.IO event the list of its name and its arguments.
fn written(shown: &str) -> String {
    if let Ok(text) = serde_json::from_str::<String>(shown) {
        return websocket::Frame::text(text).to_text();
    }
    let list: Option<Vec<Box<RawValue>>> = serde_json::from_str(shown).ok();
    let mut values = list.into_iter().flatten();
    let name = values.next().and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    match name {
        Some(name) => {
            let event = socketio::Event::new(name, values.map(Raw::from).collect());
            socketio::Frame::Event(event).to_text()
        }
        None => shown.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_as_transcripts_read_them() {
        for (shown, wanted) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#""ping""#, "ping"),
            (r#""a\nb""#, r#"text "a\nb""#),
            (r#"["message",{"a":1},2]"#, r#"message {"a":1} 2"#),
            ("[1,2]", "[1,2]"),
            (r#"{"base64":"AAE="}"#, r#"{"base64":"AAE="}"#),
            ("cut… (9 bytes)", "cut… (9 bytes)"),
        ] {
            assert_eq!(written(shown), wanted);
        }
    }
}
