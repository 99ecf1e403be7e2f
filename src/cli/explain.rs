//! `pontoon explain`: what a table or a script makes of frames, without a service and without NATS.

use std::io::{Read as _, Write as _, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use pontoon_sdk::{Action, Connector, Error, Kind, Outbox, Redactor, Secret, Session as _, Transport};
use pontoon_transcript::FrameText;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::Outcome;
use super::failure::Failure;
use super::test::of_type;
use crate::config::{self, Sources};
use crate::log::printable::printable;
use crate::registry::Registry;

/// What a connector makes of frames, in lines.
type Explain = fn(&Map<String, Value>, &[&str]) -> Result<Vec<String>, Error>;

/// Shows what the instance makes of the frames in a file; `-` is stdin.
pub(super) fn run(registry: &Registry, sources: &Sources, instance: &str, file: &Path) -> Outcome {
    let loaded = config::load(registry, sources)?;
    let known = loaded.config.connectors.get(instance).ok_or_else(|| {
        let names: Vec<_> = loaded.config.connectors.keys().map(String::as_str).collect();
        Failure::Usage(format!("\"{instance}\" is not an instance; those are {}", names.join(", ")))
    })?;
    let explain: Option<Explain> = of_type!(known.kind.as_str(), &known.settings, explain);
    let explain = explain.ok_or_else(|| {
        Failure::Usage(format!(
            "{instance} is of the type \"{}\", and neither a table nor a script",
            known.kind
        ))
    })?;
    let mut text = String::new();
    let read = if file == Path::new("-") {
        stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    let lines =
        explain(&known.settings, &frames(&text)).map_err(|error| Failure::Failed(error.to_string()))?;
    let secrets = known.settings.get("secrets").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let secrets = secrets.filter_map(|secret| Secret::deserialize(secret).ok()?.reveal().ok());
    let redactor = Redactor::new(secrets);
    for line in lines {
        writeln!(stdout(), "{}", printable(&redactor.text(&line)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the service sent in lines of a transcript, such as `record` writes them; any other text is one frame.
fn frames(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("up")?.trim_start().strip_prefix("<- "));
    let received: Vec<_> = lines.collect();
    if received.is_empty() { vec![text.trim_end()] } else { received }
}

fn explain<C>(settings: &Map<String, Value>, frames: &[&str]) -> Result<Vec<String>, Error>
where
    C: Connector,
    <C::Transport as Transport>::Frame: FrameText,
{
    let config = serde_json::from_value(Value::Object(settings.clone()));
    let connector = C::new(config.map_err(|error| Error::config(error.to_string()))?)?;
    let link =
        connector.links().into_iter().next().map(|link| link.key).unwrap_or_else(pontoon_sdk::LinkKey::main);
    let mut session = connector.session(&link);
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out)?;
    out.drain();
    let mut all = Vec::new();
    for text in frames {
        if frames.len() > 1 {
            all.push(format!("<- {text}"));
        }
        let frame = FrameText::from_text(text).map_err(Error::config)?;
        let mut lines = connector.notes(&frame);
        let decoded = session.decode(&frame, &mut out);
        lines.extend(out.drain().filter_map(shown));
        let ends = decoded.as_ref().is_err_and(|error| error.kind() != Kind::Protocol);
        match decoded {
            Ok(()) => {}
            Err(error) if ends => lines.push(format!("ends the connection: {}", error.message())),
            Err(error) => lines.push(format!("publishes frame.unrecognised: {}", error.message())),
        }
        if lines.is_empty() {
            lines.push("does nothing".to_owned());
        }
        all.append(&mut lines);
        if ends {
            break;
        }
    }
    Ok(all)
}

/// What is done, in words; nothing where no caller is here to see it.
fn shown<F: FrameText>(action: Action<F>) -> Option<String> {
    Some(match action {
        Action::Publish(event) => {
            let scope = event.scope.as_ref().map(|scope| format!(" scope={scope}")).unwrap_or_default();
            let fields = serde_json::to_string(&event.fields).unwrap_or_default();
            format!("publishes {}{scope} {fields}", event.kind.as_str())
        }
        Action::Send(frame, _) => format!("sends {}", frame.to_text()),
        Action::Ready => "makes the link ready for commands".to_owned(),
        Action::Ask { subject, body, .. } => {
            format!("asks {subject} {}", String::from_utf8_lossy(body.as_bytes()))
        }
        Action::Remember(join) => format!("remembers {} {}", join.key, join.data),
        Action::Forget(key) => format!("forgets {key}"),
        Action::Log(text) => format!("logs {text}"),
        Action::Close(reason) => format!("closes the connection: {reason}"),
        Action::Move(reason) => format!("moves to a new connection: {reason}"),
        Action::Reply(..) | Action::DeliveryLevel(..) | Action::Duplicate | Action::Finish => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_a_recording_are_what_the_service_sent() {
        let recording = "# chat\nup  -> {\"hello\":1}\nup  <- {\"a\":1}\nup <- welcome\nready\n";
        assert_eq!(frames(recording), ["{\"a\":1}", "welcome"]);
        assert_eq!(frames("{\"a\":\n1}\n"), ["{\"a\":\n1}"]);
        assert_eq!(frames("up and away"), ["up and away"]);
    }
}
