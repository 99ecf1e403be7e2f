//! Reads what the streams hold.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::DeliverPolicy, consumer::pull::OrderedConfig};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use super::history::{Content, Gap, Micros, Stored};

/// How long the next message may take.
const NEXT: Duration = Duration::from_secs(20);
/// How many consumers are tried.
const ATTEMPTS: usize = 3;

/// The stream of an instance.
pub(crate) fn name(instance: &str) -> String {
    format!("PONTOON_{}", instance.to_uppercase())
}

/// The number of the newest event in the stream of an instance, if there is one.
pub(crate) async fn newest(client: &Client, instance: &str) -> Option<usize> {
    let stream = jetstream::new(client.clone()).get_stream(name(instance)).await.ok()?;
    let mut sequence = stream.cached_info().state.last_sequence;
    // Gaps and answers may stand behind it.
    for _ in 0..100 {
        let message = stream.get_raw_message(sequence).await.ok()?;
        if let Content::Event(number) = content(&message.headers, &message.payload) {
            return Some(number);
        }
        sequence -= 1;
    }
    None
}

/// What the stream of an instance holds.
///
/// # Panics
/// If it cannot be read.
pub(crate) async fn contents(client: &Client, instance: &str) -> Vec<Stored> {
    let stream =
        jetstream::new(client.clone()).get_stream(name(instance)).await.expect("the stream is there");
    let number = stream.cached_info().state.messages;
    read(&stream, number).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Removes what the stream of an instance holds, and returns it.
pub(crate) async fn purge(client: &Client, instance: &str) -> Option<Vec<Stored>> {
    let stream = jetstream::new(client.clone()).get_stream(name(instance)).await.ok()?;
    let state = &stream.cached_info().state;
    let all = read(&stream, state.messages).await.ok()?;
    stream.purge().sequence(state.last_sequence + 1).await.ok()?;
    Some(all)
}

/// Reads the first so many messages. What a consumer does not deliver, the next one is asked for, as servers that were killed may
/// lose a consumer, or have counted messages that are not there.
async fn read(stream: &jetstream::stream::Stream, number: u64) -> Result<Vec<Stored>, String> {
    let (mut all, mut last) = (Vec::new(), 0);
    for _ in 0..ATTEMPTS {
        let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: last + 1 };
        let config = OrderedConfig { deliver_policy, ..OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let mut messages = consumer.messages().await.expect("messages");
        while (all.len() as u64) < number {
            let Ok(Some(Ok(message))) = timeout(NEXT, messages.next()).await else { break };
            let info = message.info().expect("a message of a stream");
            last = info.stream_sequence;
            let is_last = info.pending == 0;
            let published = info.published;
            let headers = message.headers.clone().unwrap_or_default();
            let id = header(&headers, "ce-id");
            let epoch = id.split('-').next().and_then(|epoch| epoch.parse().ok()).expect("an epoch");
            let sequence = header(&headers, "ce-sequence").to_owned();
            let content = content(&headers, &message.payload);
            all.push(Stored { epoch, sequence, at: micros(published), content });
            if is_last {
                return Ok(all);
            }
        }
        if all.len() as u64 == number {
            return Ok(all);
        }
    }
    Err(format!("of {number} messages, {} were delivered, up to sequence {last}", all.len()))
}

fn content(headers: &HeaderMap, body: &[u8]) -> Content {
    let body: Value = serde_json::from_slice(body).expect("the body is JSON");
    let kind = header(headers, "ce-type");
    match (kind, body["raw"]["data"]["n"].as_u64()) {
        ("pontoon.gap.detected.v1", _) => Content::Gap(Gap {
            reason: body["reason"].as_str().unwrap_or_default().to_owned(),
            from: body["from"].as_str().map(time),
            to: time(body["to"].as_str().expect("a gap ends")),
        }),
        (_, Some(number)) => Content::Event(usize::try_from(number).expect("a number that was sent")),
        ("pontoon.resource.responded.v1", _) => Content::Answer,
        _ => Content::Other(format!("{kind}: {body}")),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.as_str()).unwrap_or_default()
}

fn time(text: &str) -> Micros {
    micros(OffsetDateTime::parse(text, &Rfc3339).expect("RFC 3339"))
}

fn micros(time: OffsetDateTime) -> Micros {
    Micros::try_from(time.unix_timestamp_nanos() / 1_000).expect("a time of this century")
}
