//! The events that streams hold: those of all instances that a filter can match, in the order in which they were stored.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{self, Config as Consumer};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::stream::{Info, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use pontoon_sdk::Span;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::filter::Filter;
use crate::bus::acks::stream_of;
use crate::cli::failure::Failure;
use crate::settings::{Config, DeliveryMode};

/// How long the server keeps a consumer that is not used any more.
const INACTIVE: Duration = Duration::from_secs(30);
/// How long a message that the stream holds may take to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// So long ago.
    Since(Span),
    /// With so many of the last events.
    Last(u64),
}

/// What streams hold, merged.
pub(in crate::cli) struct History {
    streams: Vec<Reader>,
    /// How many come first that are not wanted.
    skip: u64,
}

/// What one stream holds.
struct Reader {
    messages: pull::Stream,
    /// How many are still to be read.
    left: u64,
    next: Option<(OffsetDateTime, Message)>,
}

impl History {
    /// Opens the streams of the instances that the filter matches.
    pub(super) async fn open(
        client: &Client,
        config: &Config,
        instances: &BTreeMap<String, String>,
        filter: &Filter,
        start: Start,
    ) -> Result<Self, Failure> {
        if config.delivery.mode == DeliveryMode::Core {
            return Err(Failure::Usage("with delivery.mode = \"core\" no stream holds events".to_owned()));
        }
        let instances: Vec<&String> = match &filter.instance {
            Some(instance) => vec![instance],
            None => instances.keys().collect(),
        };
        let mut names: Vec<String> =
            instances.into_iter().map(|instance| stream_of(&config.delivery, instance)).collect();
        names.dedup();
        if names.is_empty() {
            return Err(Failure::Usage(
                "no instance is configured here, so its stream is not known; name one in the filter"
                    .to_owned(),
            ));
        }
        let jetstream = jetstream::with_prefix(client.clone(), &config.nats.jetstream_api());
        let mut streams = Vec::new();
        for name in &names {
            streams.extend(Reader::open(&jetstream, name, &filter.subject, start).await?);
        }
        let skip = match start {
            Start::Since(_) => 0,
            Start::Last(number) => {
                streams.iter().map(|reader| reader.left).sum::<u64>().saturating_sub(number)
            }
        };
        Ok(Self { streams, skip })
    }

    /// Everything that one stream holds of a subject.
    pub(in crate::cli) async fn of_stream(
        client: &Client,
        config: &Config,
        name: &str,
        subject: &str,
    ) -> Result<Self, Failure> {
        let jetstream = jetstream::with_prefix(client.clone(), &config.nats.jetstream_api());
        let reader = Reader::open(&jetstream, name, subject, Start::Last(u64::MAX)).await?;
        Ok(Self { streams: reader.into_iter().collect(), skip: 0 })
    }

    /// The next event; `None` behind the last that was there when the history was opened.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            for reader in &mut self.streams {
                reader.fill().await?;
            }
            let oldest = self.streams.iter_mut().filter(|reader| reader.next.is_some());
            let oldest = oldest.min_by_key(|reader| reader.next.as_ref().map(|(stored, _)| *stored));
            let Some((_, message)) = oldest.and_then(|reader| reader.next.take()) else { return Ok(None) };
            if self.skip == 0 {
                return Ok(Some(message));
            }
            self.skip -= 1;
        }
    }
}

impl Reader {
    /// `None` if the stream holds no such event.
    async fn open(
        jetstream: &Context,
        name: &str,
        subject: &str,
        start: Start,
    ) -> Result<Option<Self>, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("the stream {name}: {error}"));
        let mut stream = jetstream.get_stream(name).await.map_err(|error| failed(&error))?;
        let Some(subject) = narrowed(subject, &stream.cached_info().config.subjects) else { return Ok(None) };
        let subject = subject.as_str();
        let (consumer, left) = match start {
            Start::Since(span) => {
                let start_time = OffsetDateTime::now_utc() - span.0;
                let consumer = consumer(&stream, subject, DeliverPolicy::ByStartTime { start_time }).await;
                let consumer = consumer.map_err(|error| failed(&error))?;
                let left = consumer.cached_info().num_pending;
                (consumer, left)
            }
            Start::Last(number) => {
                let info = stream.info().await.map_err(|error| failed(&error))?.clone();
                last(&stream, &info, subject, number).await.map_err(|error| failed(&error))?
            }
        };
        let messages = consumer.messages().await.map_err(|error| failed(&error))?;
        Ok((left > 0).then_some(Self { messages, left, next: None }))
    }

    /// Reads the next message, unless one is there.
    async fn fill(&mut self) -> Result<(), Failure> {
        while self.next.is_none() && self.left > 0 {
            let lost = || Failure::Failed("the stream does not send what it holds".to_owned());
            let message = timeout(MESSAGE_TIMEOUT, self.messages.next()).await;
            let message = message.ok().flatten().ok_or_else(lost)?;
            let message = message.map_err(|error| Failure::Failed(error.to_string()))?;
            let info = message.info().map_err(|error| Failure::Failed(error.to_string()))?;
            let (stored, pending) = (info.published, info.pending);
            // Messages may have been removed from the stream meanwhile.
            self.left = (self.left - 1).min(pending);
            self.next = Some((stored, message.message));
        }
        Ok(())
    }
}

/// A consumer that begins with the last `number` messages of this subject, or a few more, and how many there are.
async fn last(
    stream: &Stream,
    info: &Info,
    subject: &str,
    number: u64,
) -> Result<(PullConsumer, u64), jetstream::stream::ConsumerError> {
    let (first, end) = (info.state.first_sequence, info.state.last_sequence + 1);
    // Messages of other subjects are among them, so more are looked at until there are enough.
    let mut window = number;
    loop {
        let start_sequence = end.saturating_sub(window).max(first).max(1);
        let consumer = consumer(stream, subject, DeliverPolicy::ByStartSequence { start_sequence }).await?;
        let pending = consumer.cached_info().num_pending;
        if pending >= number || start_sequence <= first.max(1) {
            return Ok((consumer, pending));
        }
        window = window.saturating_mul(8);
    }
}

/// A filter as a part of what the stream takes: nats-server 2.9 refuses any other. `None` if it takes nothing of it. Where
/// several of its subjects have a part, the filter stays as it is.
fn narrowed(filter: &str, subjects: &[String]) -> Option<String> {
    let mut parts = subjects.iter().filter_map(|subject| intersection(filter, subject));
    match (parts.next(), parts.next()) {
        (Some(part), None) => Some(part),
        (None, _) if !subjects.is_empty() => None,
        _ => Some(filter.to_owned()),
    }
}

fn joined<'a>(mut tokens: Vec<&'a str>, rest: impl Iterator<Item = &'a str>) -> String {
    tokens.extend(rest);
    tokens.join(".")
}

/// The subject that matches what both match.
fn intersection(one: &str, other: &str) -> Option<String> {
    let (mut one, mut other) = (one.split('.').peekable(), other.split('.').peekable());
    let mut tokens = Vec::new();
    loop {
        match (one.peek().copied(), other.peek().copied()) {
            (None, None) => return Some(tokens.join(".")),
            (Some(">"), Some(_)) => return Some(joined(tokens, other)),
            (Some(_), Some(">")) => return Some(joined(tokens, one)),
            (Some("*"), Some(token)) | (Some(token), Some("*")) => tokens.push(token),
            (Some(token), Some(known)) if token == known => tokens.push(token),
            _ => return None,
        }
        one.next();
        other.next();
    }
}

async fn consumer(
    stream: &Stream,
    subject: &str,
    deliver_policy: DeliverPolicy,
) -> Result<PullConsumer, jetstream::stream::ConsumerError> {
    let config = Consumer {
        // A user may be allowed to create consumers of a stream, whose names are a part of the subject.
        name: Some(format!("pontoon-{:016x}", rand::random::<u64>())),
        deliver_policy,
        filter_subject: subject.to_owned(),
        ack_policy: AckPolicy::None,
        inactive_threshold: INACTIVE,
        ..Consumer::default()
    };
    stream.create_consumer(config).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_narrowed_to_what_the_stream_takes() {
        let subjects = |all: &[&str]| all.iter().map(|subject| (*subject).to_owned()).collect::<Vec<_>>();
        for (filter, stream, narrowed_to) in [
            ("e.*.*.a.b.>", &["e.t.i.>"][..], Some("e.t.i.a.b.>")),
            ("e.*.i.>", &["e.t.i.>"], Some("e.t.i.>")),
            ("e.>", &["e.t.i.>"], Some("e.t.i.>")),
            ("e.t.i.a", &["e.>"], Some("e.t.i.a")),
            ("e.*.j.>", &["e.t.i.>"], None),
            ("e.t", &["e.t.>"], None),
            ("e.*.x", &["e.a.x", "e.b.x"], Some("e.*.x")),
            ("e.a.x", &["e.a.*", "f.>"], Some("e.a.x")),
            ("e.>", &[], Some("e.>")),
        ] {
            assert_eq!(narrowed(filter, &subjects(stream)).as_deref(), narrowed_to, "{filter} {stream:?}");
        }
    }
}
