//! What the page and `pontoon tail --wire` show while it happens, as server-sent events (HTML standard §9.2).
//!
//! `/live` has the status every second and events as they are published; `/wire/<instance>` has frames, and `connection` where
//! one was made or has ended. Both have `lost`, with a count, where they came faster than the client reads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{LongResponse, View};
use crate::envelope::subject::decode_token;
use crate::feed::{self, Next};
use crate::status::{Links, Phase};

/// How often the status is sent.
const PERIOD: Duration = Duration::from_secs(1);
/// How many links of an instance are sent; those that are not ready come first.
const LINKS: usize = 256;

/// Status and events.
pub(super) async fn live(
    State(view): State<View>,
    Extension(long): Extension<LongResponse>,
) -> impl IntoResponse {
    long.set();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = view.feed.events.watch();
    let next = |(view, mut ticks, mut events): (View, Interval, feed::Watch<feed::Event>)| async move {
        let event = tokio::select! {
            _ = ticks.tick() => named("status", &status(&view)),
            next = events.next() => match next {
                Next::Value(event) => named("event", &shown_event(&event)),
                Next::Lost(count) => named("lost", &json!({ "count": count })),
            },
        };
        Some((event, (view, ticks, events)))
    };
    respond(stream::unfold((view, ticks, events), next))
}

/// The frames of one instance.
pub(super) async fn wire(
    State(view): State<View>,
    Extension(long): Extension<LongResponse>,
    Path(instance): Path<String>,
) -> impl IntoResponse {
    long.set();
    let frames =
        stream::unfold(
            view.feed.frames.watch(),
            |mut frames| async move { Some((frames.next().await, frames)) },
        );
    respond(frames.filter_map(move |next| {
        let event = match next {
            Next::Value(frame) if frame.instance != instance => None,
            Next::Value(frame) => Some(named(
                if frame.passed.is_frame() { "frame" } else { "connection" },
                &shown_frame(&frame),
            )),
            Next::Lost(count) => Some(named("lost", &json!({ "count": count }))),
        };
        std::future::ready(event)
    }))
}

fn respond(events: impl Stream<Item = Event> + Send + 'static) -> impl IntoResponse {
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default())
}

fn named(name: &str, data: &Value) -> Event {
    // JSON holds no line break.
    Event::default().event(name).data(data.to_string())
}

fn status(view: &View) -> Value {
    let mut instances = view.statuses.snapshots();
    for snapshot in &mut instances {
        let links = &mut snapshot.status.links;
        if links.0.len() > LINKS {
            let mut all: Vec<_> = std::mem::take(&mut links.0).into_iter().collect();
            all.sort_by_key(|(_, link)| link.phase == Phase::Ready);
            all.truncate(LINKS);
            *links = Links(all.into_iter().collect());
        }
    }
    let cluster = view.statuses.cluster();
    json!({
        "version": env!("CARGO_PKG_VERSION"), "commands": view.commands, "instances": instances, "cluster": cluster,
    })
}

fn shown_frame(frame: &Arc<feed::Frame>) -> Value {
    let feed::Frame { link, time, passed, bytes, text, .. } = &**frame;
    let (time, direction) = (time.format(&Rfc3339).unwrap_or_default(), passed.as_str());
    if passed.is_frame() {
        json!({ "time": time, "link": link, "direction": direction, "bytes": bytes, "frame": text })
    } else {
        json!({ "time": time, "link": link, "direction": direction, "reason": text })
    }
}

fn shown_event(event: &Arc<feed::Event>) -> Value {
    let feed::Event { subject, recorded, body } = &**event;
    let mut tokens = subject.rsplit('.');
    let mut token = || tokens.next().unwrap_or_default();
    let (scope, verb, noun, instance, kind) = (token(), token(), token(), token(), token());
    json!({
        "time": recorded.format(&Rfc3339).unwrap_or_default(),
        "type": kind, "instance": instance, "kind": format!("{noun}.{verb}"),
        "scope": decode_token(scope).unwrap_or_else(|| scope.to_owned()),
        // As text, since the numbers of JavaScript have fewer digits.
        "subject": subject, "body": body,
    })
}
