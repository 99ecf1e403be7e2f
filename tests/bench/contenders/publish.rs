//! From a frame to an event on NATS, with async-nats.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::header::{HeaderName, HeaderValue};
use async_nats::jetstream::context::{Context, ContextBuilder, PublishAckFuture};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

use crate::job::{Job, Result};

/// Publishes the events of one job.
pub(crate) struct Publisher {
    client: Client,
    stream: Option<(Context, mpsc::UnboundedSender<PublishAckFuture>)>,
    headers: Vec<(HeaderName, Value)>,
    subject: String,
    source: String,
    epoch: u64,
    number: AtomicU64,
    /// The time as text, and the millisecond that it was made in.
    clock: Mutex<(i128, HeaderValue)>,
}

/// Where a header's value comes from.
enum Value {
    Constant(HeaderValue),
    MessageId,
    Id,
    Sequence,
    Time,
    Link,
    Channel,
    ExpectedSequence,
}

impl Publisher {
    /// Connects to NATS.
    pub(crate) async fn connect(job: &Job) -> Result<Self> {
        let client = async_nats::connect(&job.nats).await?;
        let constant = |text: &str| Value::Constant(HeaderValue::from(text));
        let headers = job.headers.iter().map(|name| {
            Ok(match name.as_str() {
                "Content-Type" => (HeaderName::from_static("Content-Type"), constant("application/json")),
                "ce-datacontenttype" => {
                    (HeaderName::from_static("ce-datacontenttype"), constant("application/json"))
                }
                "ce-specversion" => (HeaderName::from_static("ce-specversion"), constant("1.0")),
                "ce-source" => {
                    let source = format!("urn:pontoon:{}", job.source.replace('.', ":"));
                    (HeaderName::from_static("ce-source"), constant(&source))
                }
                "ce-type" => (HeaderName::from_static("ce-type"), constant(&job.ce_type)),
                "ce-link" => (HeaderName::from_static("ce-link"), Value::Link),
                "ce-upstreamevent" => (HeaderName::from_static("ce-upstreamevent"), constant(&job.upstream)),
                "ce-subject" => (HeaderName::from_static("ce-subject"), Value::Channel),
                "ce-time" => (HeaderName::from_static("ce-time"), Value::Time),
                "ce-id" => (HeaderName::from_static("ce-id"), Value::Id),
                "ce-sequence" => (HeaderName::from_static("ce-sequence"), Value::Sequence),
                "Nats-Msg-Id" => (HeaderName::from_static("Nats-Msg-Id"), Value::MessageId),
                "Nats-Expected-Last-Sequence" => {
                    (HeaderName::from_static("Nats-Expected-Last-Sequence"), Value::ExpectedSequence)
                }
                _ => return Err(format!("the loop does not know the header {name}: teach it that").into()),
            })
        });
        let headers = headers.collect::<Result<_>>()?;
        let epoch = OffsetDateTime::now_utc().unix_timestamp() as u64 * 1000;
        let mut stream = None;
        if job.jetstream {
            let context = ContextBuilder::new()
                .max_ack_inflight(job.in_flight)
                .backpressure_on_inflight(true)
                .build(client.clone());
            stream = Some((context, spawn_acks()));
        }
        Ok(Self {
            client,
            stream,
            headers,
            subject: job.subject.clone(),
            source: job.source.clone(),
            epoch,
            number: AtomicU64::new(0),
            clock: Mutex::new((0, HeaderValue::new())),
        })
    }

    /// Publishes an event of a channel that was received over a link. Waits where too many are not confirmed yet.
    pub(crate) async fn publish(&self, link: &HeaderValue, channel: &str, body: Bytes) -> Result<()> {
        let headers = self.headers(link, channel)?;
        let subject = format!("{}{}", self.subject, token(channel));
        match &self.stream {
            None => self.client.publish_with_headers(subject, headers, body).await?,
            Some((context, acks)) => {
                let ack = context.publish_with_headers(subject, headers, body).await?;
                acks.send(ack).map_err(|_| "an event was not confirmed")?;
            }
        }
        Ok(())
    }

    fn headers(&self, link: &HeaderValue, channel: &str) -> Result<HeaderMap> {
        let (epoch, number) = (self.epoch, self.number.fetch_add(1, Ordering::Relaxed) + 1);
        let now = OffsetDateTime::now_utc();
        let millisecond = now.unix_timestamp_nanos() / 1_000_000;
        let mut clock = self.clock.lock().map_err(|_| "a publish has failed")?;
        if clock.0 != millisecond {
            let now = now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(now);
            *clock = (millisecond, now.format(&Rfc3339).unwrap_or_default().into());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let value = match value {
                Value::Constant(value) => value.clone(),
                Value::MessageId => format!("{}:{epoch}-{number}", self.source).into(),
                Value::Id => format!("{epoch}-{number}").into(),
                Value::Sequence => format!("{epoch:015}-{number:012}").into(),
                Value::Time => clock.1.clone(),
                Value::Link => link.clone(),
                Value::Channel => channel.into(),
                Value::ExpectedSequence => (number - 1).into(),
            };
            headers.insert(name.clone(), value);
        }
        Ok(headers)
    }
}

/// Confirmations are awaited beside the reading, or each event would wait for the one behind it.
fn spawn_acks() -> mpsc::UnboundedSender<PublishAckFuture> {
    let (sender, mut acks) = mpsc::unbounded_channel::<PublishAckFuture>();
    tokio::spawn(async move {
        while let Some(ack) = acks.recv().await {
            if let Err(error) = ack.await {
                eprintln!("an event was not confirmed: {error}");
                return;
            }
        }
    });
    sender
}

/// A channel as a token of a subject.
fn token(channel: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut token = String::with_capacity(channel.len());
    for byte in channel.bytes() {
        if plain(&byte) {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("={byte:02X}"));
        }
    }
    token
}

/// The body of an event: its channel, and the message as it was received.
pub(crate) fn body(channel: &str, raw: &str) -> Result<Bytes> {
    let mut body = Vec::with_capacity(channel.len() + raw.len() + 32);
    body.extend_from_slice(b"{\"channel\":");
    serde_json::to_writer(&mut body, channel)?;
    body.extend_from_slice(b",\"raw\":");
    body.extend_from_slice(raw.as_bytes());
    body.push(b'}');
    Ok(body.into())
}
