//! The state subject: the status of an instance, in messages of a size that NATS takes.
//!
//! An instance of up to 256 links publishes all of its status on every change and every 10 s. One of more publishes the
//! links that changed, and all links every 60 s.

use std::time::Duration;

use async_nats::Client;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::{Instant, timeout};

use crate::envelope::Envelope;
use crate::log::Throttle;
use crate::status::{Counts, InstanceStatus, LinkChanges, LinkStatus, Rates};

/// Up to this many links, every message has all of them.
const WHOLE: usize = 256;
/// How often all is published at the least.
const PERIOD: Duration = Duration::from_secs(10);
/// How often all is published where it takes more than a few messages.
const LONG_PERIOD: Duration = Duration::from_secs(60);
/// The most bytes of links in a message; fewer where NATS takes no more than twice as many.
const LINKS_SIZE: usize = 256 * 1024;
/// How many links may have changed since the last message; beyond that all are published.
const MAX_CHANGES: usize = 16_384;
/// How long NATS may take to accept a message.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Publishes the status of one instance.
#[derive(Default)]
pub struct State {
    changes: LinkChanges,
    last: Option<Last>,
    failures: Throttle,
}

/// What was published last.
struct Last {
    at: Instant,
    /// Without links, levels and counts.
    status: InstanceStatus<()>,
}

/// A message of the state subject.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(flatten)]
    status: InstanceStatus<&'a [Box<RawValue>]>,
    /// Set if `links` holds only those that changed since the last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Changed<'a>>,
    /// Which message of how many this is, where one does not hold all links.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
}

#[derive(Clone, Copy, Serialize)]
struct Changed<'a> {
    /// How many links there are.
    links_total: usize,
    /// Links that are closed.
    links_closed: &'a [&'a str],
}

#[derive(Clone, Copy, Serialize)]
struct Part {
    number: usize,
    of: usize,
}

impl State {
    /// Adds links that changed.
    pub fn add(&mut self, changes: LinkChanges) {
        self.changes.extend(changes);
        if self.changes.len() > MAX_CHANGES {
            self.changes.clear();
            self.last = None;
        }
    }

    /// The messages that are due, of at most about half of what NATS takes.
    pub fn due(&mut self, status: &InstanceStatus, max_payload: usize) -> Vec<Vec<u8>> {
        let is_large = status.links.0.len() > WHOLE;
        let period = if is_large { LONG_PERIOD } else { PERIOD };
        let Some(last) = self.last.as_mut().filter(|last| last.at.elapsed() < period) else {
            return self.all(status, max_payload);
        };
        let summary = summary(status);
        if self.changes.is_empty() && last.status == summary {
            return Vec::new();
        }
        if !is_large {
            return self.all(status, max_payload);
        }
        last.status = summary;
        let changes = std::mem::take(&mut self.changes);
        let closed = changes.iter().filter(|(_, link)| link.is_none());
        let closed: Vec<_> = closed.map(|(key, _)| key.as_str()).collect();
        let closed_size = serde_json::to_vec(&closed).map_or(0, |json| json.len());
        if closed_size > LINKS_SIZE.min(max_payload / 4) {
            return self.all(status, max_payload);
        }
        let changed = Changed { links_total: status.links.0.len(), links_closed: &closed };
        messages(status, changes.values().flatten(), Some(changed), max_payload)
    }

    /// All of it. A message that is lost is made up for by the next.
    pub fn all(&mut self, status: &InstanceStatus, max_payload: usize) -> Vec<Vec<u8>> {
        self.changes.clear();
        self.last = Some(Last { at: Instant::now(), status: summary(status) });
        messages(status, status.links.0.values(), None, max_payload)
    }

    /// Publishes messages.
    pub async fn publish(&self, client: &Client, envelope: &Envelope, messages: Vec<Vec<u8>>) {
        for message in messages {
            let sent = timeout(PUBLISH_TIMEOUT, client.publish(envelope.subjects().state(), message.into()));
            let error = match sent.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "NATS took no message for 1 s".to_owned(),
            };
            let subject = envelope.subjects().state();
            self.failures.log(move |times| {
                tracing::warn!(
                    subject,
                    times,
                    error,
                    "a message about the state of an instance was not published"
                );
            });
        }
    }
}

fn messages<'a>(
    status: &InstanceStatus,
    links: impl Iterator<Item = &'a LinkStatus>,
    mut changes: Option<Changed<'_>>,
    max_payload: usize,
) -> Vec<Vec<u8>> {
    let parts = parts(links, LINKS_SIZE.min(max_payload / 2));
    let messages = parts.iter().enumerate().filter_map(|(index, links)| {
        let part = (parts.len() > 1).then(|| Part { number: index + 1, of: parts.len() });
        let message = Message { status: status.with_links(links.as_slice()), changes, part };
        let message = serde_json::to_vec(&message).ok();
        // The links that are closed are in the first message only.
        if let Some(changes) = &mut changes {
            changes.links_closed = &[];
        }
        message
    });
    messages.collect()
}

/// What of a status is published at once when it changes: levels are not, nor how many messages were dropped.
fn summary(status: &InstanceStatus) -> InstanceStatus<()> {
    let mut summary = status.with_links(());
    (summary.unconfirmed_events, summary.unconfirmed_bytes) = (0, 0);
    (summary.counts, summary.rates) = (Counts::default(), Rates::default());
    summary.commands.dropped = summary.commands.dropped.min(1);
    summary
}

/// Links as JSON, in parts of about this many bytes; one part at least.
fn parts<'a>(links: impl Iterator<Item = &'a LinkStatus>, limit: usize) -> Vec<Vec<Box<RawValue>>> {
    let (mut parts, mut size) = (vec![Vec::new()], 0);
    for link in links.filter_map(|link| to_raw_value(link).ok()) {
        let length = link.get().len() + 1;
        if size > 0 && size + length > limit {
            parts.push(Vec::new());
            size = 0;
        }
        size += length;
        if let Some(part) = parts.last_mut() {
            part.push(link);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use pontoon_sdk::LinkKey;
    use serde_json::{Value, json};
    use time::OffsetDateTime;

    use super::*;
    use crate::status::{BusStatus, CommandStatus, JobStatus, Links, Phase, SpoolStatus};

    const MAX_PAYLOAD: usize = 64 * 1024;

    fn changes(numbers: impl Iterator<Item = usize>, is_open: bool) -> LinkChanges {
        let link = |key: &LinkKey| LinkStatus {
            key: key.as_str().to_owned(),
            phase: Phase::Waiting,
            since: OffsetDateTime::UNIX_EPOCH,
            detail: Some("the address refuses connections".to_owned()),
            retry_at: None,
            last_error: None,
            joined: pontoon_sdk::Joined::default(),
            is_down: true,
        };
        let keys = numbers.map(|number| LinkKey::new(format!("link-{number:05}")));
        keys.map(|key| (key.clone(), is_open.then(|| link(&key)))).collect()
    }

    fn status(links: usize) -> InstanceStatus {
        let mut status = InstanceStatus {
            instance: "a".to_owned(),
            kind: "sub0".to_owned(),
            epoch: 1,
            bus: BusStatus::default(),
            commands: CommandStatus { subscribed: true, dropped: 0, detail: None },
            jobs: JobStatus::default(),
            links: Links::default(),
            unconfirmed_events: 0,
            unconfirmed_bytes: 0,
            room: true,
            counts: Counts::default(),
            rates: Rates::default(),
            spool: SpoolStatus::default(),
        };
        status.links.apply(&changes(0..links, true));
        status
    }

    fn parsed(messages: &[Vec<u8>]) -> Vec<Value> {
        assert!(messages.iter().all(|message| message.len() < MAX_PAYLOAD));
        messages.iter().map(|message| serde_json::from_slice(message).unwrap()).collect()
    }

    fn count(messages: &[Value]) -> usize {
        messages.iter().map(|message| message["links"].as_array().unwrap().len()).sum()
    }

    #[test]
    fn a_few_links_are_always_published_together_and_only_when_something_changed() {
        let (mut state, mut status) = (State::default(), status(2));
        let first = parsed(&state.due(&status, MAX_PAYLOAD));
        assert_eq!((first.len(), count(&first)), (1, 2));
        assert_eq!((&first[0]["part"], &first[0]["changes"]), (&Value::Null, &Value::Null));
        status.unconfirmed_events = 7;
        assert!(state.due(&status, MAX_PAYLOAD).is_empty(), "levels are published with the next change");
        state.add(changes(0..1, true));
        assert_eq!(count(&parsed(&state.due(&status, MAX_PAYLOAD))), 2);
    }

    #[test]
    fn of_many_links_all_are_published_in_parts_and_then_what_changed() {
        let (mut state, mut status) = (State::default(), status(10_000));
        let all = parsed(&state.due(&status, MAX_PAYLOAD));
        assert_eq!(count(&all), 10_000);
        for (index, message) in all.iter().enumerate() {
            assert_eq!(message["part"], json!({ "number": index + 1, "of": all.len() }));
        }
        assert!(state.due(&status, MAX_PAYLOAD).is_empty());
        for (changed, is_open, total) in [(3..5, true, 10_000), (0..2, false, 9_998)] {
            let changed = changes(changed, is_open);
            status.links.apply(&changed);
            state.add(changed);
            let messages = parsed(&state.due(&status, MAX_PAYLOAD));
            let closed = if is_open { json!([]) } else { json!(["link-00000", "link-00001"]) };
            assert_eq!((messages.len(), count(&messages)), (1, if is_open { 2 } else { 0 }));
            assert_eq!(messages[0]["changes"], json!({ "links_total": total, "links_closed": closed }));
        }
    }
    #[test]
    fn many_links_that_close_are_shown_by_all_that_are_left() {
        let (mut state, mut status) = (State::default(), status(10_000));
        state.due(&status, MAX_PAYLOAD);
        let closed = changes(0..9_000, false);
        status.links.apply(&closed);
        state.add(closed);
        let messages = parsed(&state.due(&status, MAX_PAYLOAD));
        assert_eq!((count(&messages), &messages[0]["changes"]), (1_000, &Value::Null));
        // So are more changes than are kept while NATS is away.
        state.add(changes(0..MAX_CHANGES + 1, false));
        assert!(state.changes.is_empty());
        assert_eq!(count(&parsed(&state.due(&status, MAX_PAYLOAD))), 1_000);
    }
}
