//! What people see of a connection: its frames, and the errors that its service raises.

use pontoon_sdk::connector::Frame;
use pontoon_sdk::{End, Event, Redactor};
use time::OffsetDateTime;

use crate::feed::{self, Passed};
use crate::link::Link;

/// Counts and logs an error that the service has raised, and shows it in the state of the link.
pub(super) fn service_error(link: &Link, event: &Event) {
    let context = &link.context;
    context.metrics.service_errors.increment(1);
    let error = event.fields.error.as_ref();
    let code = error.and_then(|error| error.code.as_deref());
    let message = error.and_then(|error| error.message.as_deref()).or(event.fields.reason.as_deref());
    let texts: Vec<&str> = [code, message].into_iter().flatten().collect();
    let text = if texts.is_empty() { "an error without a text".to_owned() } else { texts.join(": ") };
    link.phase.error(&text);
    let (instance, link) = (context.instance.clone(), link.key.clone());
    context.service_errors.log(move |count| {
        tracing::warn!(instance, %link, count, error = %text, "the service has raised an error");
    });
}

/// Shows a frame to those who watch the wire, and in the log at `trace`.
pub(super) fn show(link: &Link, redact: &Redactor, passed: Passed, frame: &impl Frame) {
    let context = &link.context;
    let is_logged = tracing::enabled!(tracing::Level::TRACE);
    if !is_logged && !context.feed.frames.is_watched() {
        return;
    }
    let raw = frame.raw();
    let text = feed::cut(&redact.text(&String::from_utf8_lossy(raw.as_bytes())));
    let (instance, link, bytes) = (context.instance.clone(), link.key.to_string(), frame.size());
    if is_logged {
        let direction = passed.as_str();
        tracing::trace!(instance, link, direction, bytes, frame = %text, "frame");
    }
    let time = OffsetDateTime::now_utc();
    context.feed.frames.send(feed::Frame { instance, link, time, passed, bytes, text });
}

/// Shows to those who watch the wire that the connection was made or has ended. The reason of an end has no secrets.
pub(super) fn show_connection(link: &Link, passed: Passed, end: Option<&End>) {
    let context = &link.context;
    if !context.feed.frames.is_watched() {
        return;
    }
    let code = end.and_then(|end| end.code).map(|code| code.to_string());
    let reason = end.map(|end| end.reason.clone()).filter(|reason| !reason.is_empty());
    let text = code.into_iter().chain(reason).collect::<Vec<_>>().join(" ");
    let (instance, link, time) = (context.instance.clone(), link.key.to_string(), OffsetDateTime::now_utc());
    context.feed.frames.send(feed::Frame { instance, link, time, passed, bytes: 0, text });
}
