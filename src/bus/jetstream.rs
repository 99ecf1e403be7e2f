//! The JetStream API, as far as one stream per instance needs it (ADR-8, ADR-31).
//!
//! The types are those of the client, but not its calls: a request of the client that times out leaves an entry behind for
//! ever, while a subscription that is dropped does not.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RawMessage, RetentionPolicy, StorageType};
use async_nats::jetstream::{Error, ErrorCode};
use async_nats::{Client, HeaderMap, Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::envelope::parse_time;
use crate::settings::Delivery;

const API_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stream remembers message ids. It may not be longer than it keeps messages.
pub(super) const DUPLICATES: Duration = Duration::from_secs(120);
/// The largest message that a stream takes, in bytes.
const MAX_MESSAGE: i32 = 1 << 20;

/// What to do without JetStream.
pub const NO_JETSTREAM: &str =
    "NATS has no JetStream for this account; enable it in the server's configuration (nats-server -js)";
/// The account or the server has no JetStream.
const NOT_ENABLED: [ErrorCode; 3] =
    [ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT, ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::NO_ACCOUNT];
/// There is not enough of the file store, or of what the account may have of it.
pub const NO_SPACE: [ErrorCode; 5] = [
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
];
/// There are not enough servers for the replicas.
pub const NO_PEERS: [ErrorCode; 2] = [ErrorCode::CLUSTER_NO_PEERS, ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED];

/// What a stream answers to a publish. One comes for each event, and the client's type would be read twice.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PubAck<'a> {
    /// Why the message was not stored.
    pub error: Option<Error>,
    /// The stream that stored the message.
    #[serde(borrow)]
    pub stream: Cow<'a, str>,
    /// The stream's sequence of the message.
    pub seq: u64,
    /// Whether the message was there already.
    pub duplicate: bool,
}

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There is no JetStream, or it may not be used.
    #[error("nothing answers on {0}")]
    NoResponders(String),
    /// No answer came in time.
    #[error("no answer from {0} in time")]
    TimedOut(String),
    /// The message is larger than the server takes.
    #[error("the message is larger than the max_payload of NATS")]
    TooLarge,
    /// The client was closed.
    #[error("the connection to NATS was closed")]
    Closed,
    /// JetStream refused.
    #[error("{0}")]
    Api(Error),
    /// The answer was not what JetStream sends.
    #[error("the answer of JetStream cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl StreamError {
    /// Whether the server has no JetStream, or not for this account.
    pub fn not_enabled(&self) -> bool {
        matches!(self, Self::NoResponders(_)) || self.is_any(&NOT_ENABLED)
    }

    /// Whether it is JetStream's error with one of these codes.
    pub fn is_any(&self, codes: &[ErrorCode]) -> bool {
        codes.iter().any(|code| self.is(*code))
    }

    /// Whether it is JetStream's error with this code.
    pub fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Api(error) if error.error_code() == code)
    }
}

/// Where the JetStream API is reached.
#[derive(Clone, Copy)]
pub struct JetStream<'a> {
    /// The connection.
    pub client: &'a Client,
    /// What its subjects begin with: `$JS.API`, or that of another domain or account.
    pub api: &'a str,
}

impl JetStream<'_> {
    /// Configuration and state of a stream.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn info(self, stream: &str) -> Result<Info, StreamError> {
        self.call(format!("STREAM.INFO.{stream}"), Bytes::new()).await
    }

    /// The subjects of a stream that match `filter` and have messages.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn subjects(self, stream: &str, filter: &str) -> Result<Vec<String>, StreamError> {
        #[derive(Deserialize)]
        struct Found {
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            subjects: Option<HashMap<String, u64>>,
        }
        let body = json!({ "subjects_filter": filter }).to_string().into();
        let found: Found = self.call(format!("STREAM.INFO.{stream}"), body).await?;
        Ok(found.state.subjects.unwrap_or_default().into_keys().collect())
    }

    /// Makes the stream of an instance.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn create(
        self,
        stream: &str,
        subject: &str,
        instance: &str,
        delivery: &Delivery,
    ) -> Result<Info, StreamError> {
        let metadata = [("owner", "pontoon"), ("instance", instance), ("schema", "1")];
        let max_age = delivery.max_age.0;
        let config = Config {
            name: stream.to_owned(),
            subjects: vec![subject.to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: delivery.replicas.into(),
            max_age,
            max_bytes: i64::try_from(delivery.max_bytes.0).unwrap_or(i64::MAX),
            max_message_size: MAX_MESSAGE,
            max_messages: delivery.max_messages.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX)),
            max_consumers: -1,
            discard: DiscardPolicy::Old,
            duplicate_window: DUPLICATES.min(max_age),
            allow_direct: true,
            deny_delete: true,
            metadata: metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Config::default()
        };
        self.create_stream(&config).await
    }

    /// Makes a stream.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn create_stream(self, config: &Config) -> Result<Info, StreamError> {
        self.call(format!("STREAM.CREATE.{}", config.name), serde_json::to_vec(config)?.into()).await
    }

    /// Description and state of a consumer.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn consumer(self, stream: &str, name: &str) -> Result<ConsumerInfo, StreamError> {
        self.call(format!("CONSUMER.INFO.{stream}.{name}"), Bytes::new()).await
    }

    /// Makes a consumer of the messages that match `filter`, or changes it.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn create_consumer(
        self,
        stream: &str,
        name: &str,
        filter: &str,
        config: &Value,
    ) -> Result<ConsumerInfo, StreamError> {
        let body = json!({ "stream_name": stream, "config": config }).to_string();
        self.call(format!("CONSUMER.CREATE.{stream}.{name}.{filter}"), body.into()).await
    }

    /// Publishes a message, and waits until a stream has stored it. Returns its sequence.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn publish(self, subject: String, headers: HeaderMap, body: Bytes) -> Result<u64, StreamError> {
        let message = self.exchange(subject, Some(headers), body).await?;
        let ack: PubAck<'_> = serde_json::from_slice(&message.payload)?;
        match ack.error {
            Some(error) => Err(StreamError::Api(error)),
            None => Ok(ack.seq),
        }
    }

    /// Acknowledges a message of a consumer, and waits for the confirmation.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn acknowledge(self, subject: String) -> Result<(), StreamError> {
        self.exchange(subject, None, "+ACK".into()).await.map(|_| ())
    }

    /// The names of the streams that take some of these subjects.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn names(self, subject: &str) -> Result<Vec<String>, StreamError> {
        #[derive(Deserialize)]
        struct Names {
            streams: Option<Vec<String>>,
        }
        let body = json!({ "subject": subject }).to_string().into();
        let names: Names = self.call("STREAM.NAMES".to_owned(), body).await?;
        Ok(names.streams.unwrap_or_default())
    }

    /// The message with this sequence; `None` if it is not there any more.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn message(self, stream: &str, sequence: u64) -> Result<Option<Stored>, StreamError> {
        Ok(self.get(stream, &json!({ "seq": sequence })).await?.map(Stored::from))
    }

    /// The last message with one of these subjects; `None` if there is none.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn last_message(self, stream: &str, subjects: &str) -> Result<Option<Stored>, StreamError> {
        Ok(self.last_raw(stream, subjects).await?.map(Stored::from))
    }

    /// The same as it was published.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn last_raw(self, stream: &str, subjects: &str) -> Result<Option<RawMessage>, StreamError> {
        self.get(stream, &json!({ "last_by_subj": subjects })).await
    }

    async fn get(self, stream: &str, which: &Value) -> Result<Option<RawMessage>, StreamError> {
        #[derive(Deserialize)]
        struct Found {
            message: RawMessage,
        }
        match self.call(format!("STREAM.MSG.GET.{stream}"), which.to_string().into()).await {
            Ok(Found { message }) => Ok(Some(message)),
            Err(error) if error.is(ErrorCode::NO_MESSAGE_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn call<T: DeserializeOwned>(self, operation: String, body: Bytes) -> Result<T, StreamError> {
        let message = self.exchange(format!("{}.{operation}", self.api), None, body).await?;
        match serde_json::from_slice(&message.payload)? {
            Response::Ok(answer) => Ok(answer),
            Response::Err { error } => Err(StreamError::Api(error)),
        }
    }

    async fn exchange(
        self,
        subject: String,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<Message, StreamError> {
        exchange(self.client, subject, headers, body, API_TIMEOUT).await
    }
}

/// Publishes a request, and waits for the first answer, for as long as this.
///
/// # Errors
/// See [`StreamError`].
pub(super) async fn exchange(
    client: &Client,
    subject: String,
    headers: Option<HeaderMap>,
    body: Bytes,
    limit: Duration,
) -> Result<Message, StreamError> {
    let exchange = async {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|_| StreamError::Closed)?;
        let headers = headers.unwrap_or_default();
        let sent = client.publish_with_reply_and_headers(subject.clone(), inbox, headers, body).await;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => StreamError::TooLarge,
            _ => StreamError::Closed,
        })?;
        answers.next().await.ok_or(StreamError::Closed)
    };
    let answer = timeout(limit, exchange).await;
    let answer = answer.unwrap_or_else(|_| Err(StreamError::TimedOut(subject.clone())))?;
    match answer.status {
        Some(StatusCode::NO_RESPONDERS) => Err(StreamError::NoResponders(subject)),
        _ => Ok(answer),
    }
}

/// What is read of a consumer.
#[derive(Debug, Deserialize)]
pub struct ConsumerInfo {
    config: Described,
    /// Up to where it has delivered.
    pub delivered: Delivered,
    /// How many requests for messages wait for some.
    pub num_waiting: u64,
    /// How many messages were delivered and not acknowledged.
    pub num_ack_pending: u64,
}

#[derive(Debug, Deserialize)]
struct Described {
    #[serde(default)]
    description: String,
}

/// Up to where a consumer has delivered.
#[derive(Debug, Deserialize)]
pub struct Delivered {
    /// The stream's sequence.
    pub stream_seq: u64,
}

impl ConsumerInfo {
    /// The description that it was made with.
    pub fn description(&self) -> &str {
        &self.config.description
    }
}

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its `Nats-Msg-Id`.
    pub message_id: Option<String>,
    /// The source and the id of an event.
    pub source: Option<String>,
    /// See `source`.
    pub id: Option<String>,
    /// When the frame of an event was read; of another message, when it was stored.
    recorded: OffsetDateTime,
    /// Since when a link was down whose gap was not published yet.
    ongoing_gap: Option<OffsetDateTime>,
}

/// What is read of an event in structured mode.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    source: Option<String>,
    id: Option<String>,
    time: Option<String>,
    recordedtime: Option<String>,
    ongoinggap: Option<String>,
}

impl Stored {
    /// Until when all events of the instance are accounted for, up to this one.
    pub fn covered_until(&self) -> OffsetDateTime {
        self.ongoing_gap.map_or(self.recorded, |since| since.min(self.recorded))
    }
}

impl From<RawMessage> for Stored {
    fn from(message: RawMessage) -> Self {
        let stored = message.time;
        // Of a message of another client, headers and payload may be anything.
        let message = StreamMessage::try_from(message).ok();
        let header = |name| message.as_ref()?.headers.get(name).map(ToString::to_string);
        let payload = message.as_ref().map(|message| message.payload.clone()).unwrap_or_default();
        let document = match header("ce-id") {
            Some(id) => Document {
                source: header("ce-source"),
                id: Some(id),
                time: header("ce-time"),
                recordedtime: header("ce-recordedtime"),
                ongoinggap: header("ce-ongoinggap"),
            },
            None => serde_json::from_slice(&payload).unwrap_or_default(),
        };
        let time = |text: Option<String>| text.as_deref().and_then(parse_time);
        // Without `recordedtime` the event's time is that of reading. A message of another client has neither.
        let recorded = time(document.recordedtime).or_else(|| time(document.time)).unwrap_or(stored);
        let (message_id, ongoing_gap) = (header("Nats-Msg-Id"), time(document.ongoinggap));
        Self { message_id, source: document.source, id: document.id, recorded, ongoing_gap }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    /// A message as JetStream gives it, stored 100 s after 1970.
    fn message(headers: &str, data: &str) -> Stored {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let headers = (!headers.is_empty()).then(|| encode(&format!("NATS/1.0\r\n{headers}\r\n\r\n")));
        let raw =
            RawMessage { subject: "s".into(), sequence: 1, payload: encode(data), headers, time: at(100) };
        raw.into()
    }

    #[test]
    fn acks_of_a_server_are_read() {
        let read = serde_json::from_slice::<PubAck>;
        let ack = read(br#"{"stream":"S","seq":22,"duplicate":true}"#).unwrap();
        assert!((ack.seq, ack.duplicate) == (22, true) && ack.error.is_none());
        let refused = read(br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"S","seq":0}"#);
        let error = refused.unwrap().error.unwrap();
        assert_eq!(error.error_code(), ErrorCode::STREAM_WRONG_LAST_SEQUENCE);
        assert!(read(b"").is_err());
    }

    #[test]
    fn the_ids_of_an_event_are_found_in_both_modes() {
        let ids =
            |stored: Stored| [stored.message_id, stored.source, stored.id].map(Option::unwrap_or_default);
        let binary = message("ce-id: 1-2\r\nce-source: urn:a\r\nNats-Msg-Id: sub0.a:1-2", r#"{"id":"x"}"#);
        assert_eq!(ids(binary), ["sub0.a:1-2", "urn:a", "1-2"]);
        let structured = message(
            "Content-Type: application/cloudevents+json",
            r#"{"id":"1-2","source":"urn:a","data":{}}"#,
        );
        assert_eq!(ids(structured), ["", "urn:a", "1-2"]);
        for foreign in [message("", "x"), message("no header", "x"), message("", "[1]")] {
            assert_eq!(ids(foreign), ["", "", ""]);
        }
    }

    #[test]
    fn an_event_shows_until_when_all_are_accounted_for() {
        let binary = |headers: &str| message(&format!("ce-id: 1-2\r\n{headers}"), "{}");
        let structured = |body: &str| message("Content-Type: application/cloudevents+json", body);
        let foreign = message("", "");
        for (message, until) in [
            (binary("ce-time: 1970-01-01T00:00:50.000Z"), 50),
            (binary("ce-time: 1970-01-01T00:02:50.000Z"), 170),
            (binary("ce-time: 1970-01-01T00:00:50Z\r\nce-recordedtime: 1970-01-01T00:00:60.000Z"), 50),
            (binary("ce-time: 1970-01-01T00:00:50Z\r\nce-recordedtime: 1970-01-01T00:00:59.000Z"), 59),
            (binary("ce-time: 1970-01-01T00:00:50Z\r\nce-ongoinggap: 1970-01-01T00:00:40.000Z"), 40),
            (structured(r#"{"time":"1970-01-01T00:00:50.000Z","data":{}}"#), 50),
            (structured(r#"{"time":"1970-01-01T00:00:10Z","recordedtime":"1970-01-01T00:00:50Z"}"#), 50),
            (structured("{}"), 100),
            (structured("no JSON"), 100),
            (foreign, 100),
        ] {
            assert_eq!(message.covered_until(), at(until), "{message:?}");
        }
    }
}
