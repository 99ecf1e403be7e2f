//! What people see of a connection: its frames, and the errors that its service raises.

use pontoon_sdk::connector::Frame;
use pontoon_sdk::{Event, Redactor};
use time::OffsetDateTime;

use crate::feed;
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
pub(super) fn show(link: &Link, redact: &Redactor, direction: &'static str, frame: &impl Frame) {
    let context = &link.context;
    let is_logged = tracing::enabled!(tracing::Level::TRACE);
    if !is_logged && !context.feed.frames.is_watched() {
        return;
    }
    let raw = frame.raw();
    let text = feed::cut(&redact.text(&String::from_utf8_lossy(raw.as_bytes())));
    let (instance, link, bytes) = (context.instance.clone(), link.key.to_string(), frame.size());
    if is_logged {
        tracing::trace!(instance, link, direction, bytes, frame = %text, "frame");
    }
    let time = OffsetDateTime::now_utc();
    context.feed.frames.send(feed::Frame { instance, link, time, direction, bytes, text });
}
