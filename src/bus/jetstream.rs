//! The JetStream API, as far as one stream per instance needs it (ADR-8, ADR-31).
//!
//! Spoken directly, because the client's own calls hide the error codes that decide what is done.

use std::time::Duration;

use async_nats::Client;
use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::inbox::{RequestError, request};
use crate::envelope::parse_time;
use crate::settings::Delivery;

const API_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stream remembers message ids. It may not be longer than it keeps messages.
const DUPLICATES: Duration = Duration::from_secs(120);

/// JetStream's own error codes, where something is done about them.
pub mod code {
    /// The account or the server has no JetStream.
    pub const NOT_ENABLED: [u32; 3] = [10_039, 10_076, 10_035];
    /// There is no such stream.
    pub const STREAM_NOT_FOUND: u32 = 10_059;
    /// There is no message with this sequence.
    pub const NO_MESSAGE: u32 = 10_037;
    /// The message is larger than the stream takes.
    pub const TOO_LARGE: u32 = 10_054;
    /// Another stream takes subjects that this one should take.
    pub const OVERLAP: u32 = 10_065;
    /// There is not enough of the file store, or of what the account may have of it.
    pub const NO_SPACE: [u32; 5] = [10_047, 10_028, 10_023, 10_002, 10_122];
    /// The account may have no more streams.
    pub const TOO_MANY_STREAMS: u32 = 10_027;
    /// There are not enough servers for the replicas.
    pub const NO_PEERS: [u32; 2] = [10_005, 10_074];
    /// The stream is full, and refuses rather than forgets.
    pub const FULL: u32 = 10_077;
}

/// Where the JetStream API is reached.
#[derive(Clone, Copy)]
pub struct JetStream<'a> {
    /// The connection.
    pub client: &'a Client,
    /// What its subjects begin with: `$JS.API`, or that of another domain or account.
    pub api: &'a str,
}

/// A stream's answer to a publish, or the API's to a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// What went wrong.
    pub error: Option<ApiError>,
    /// The stream that stored the message.
    pub stream: String,
    /// The stream's sequence of the message.
    pub seq: u64,
    /// Whether the message was there already.
    pub duplicate: bool,
    streams: Vec<String>,
    state: Option<StreamState>,
    config: Option<StreamConfig>,
    created: Option<String>,
    message: Option<StoredMessage>,
}

/// An error of JetStream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ApiError {
    /// As in HTTP.
    pub code: u32,
    /// The precise reason.
    pub err_code: u32,
    /// In words.
    pub description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamState {
    last_seq: u64,
    messages: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamConfig {
    subjects: Vec<String>,
    no_ack: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StoredMessage {
    hdrs: Option<String>,
    data: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    time: Option<OffsetDateTime>,
}

/// What a stream says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The sequence of the last message that was ever stored.
    pub last_sequence: u64,
    /// How many messages it holds.
    pub messages: u64,
    /// The subjects it takes.
    pub subjects: Vec<String>,
    /// When it was made; another value is another stream.
    pub created: String,
    /// Whether it confirms nothing.
    pub no_ack: bool,
}

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its `Nats-Msg-Id`.
    pub message_id: Option<String>,
    /// When its frame was read: what an event says of itself.
    recorded: Option<OffsetDateTime>,
    /// Since when a link was down whose gap was not published yet.
    ongoing_gap: Option<OffsetDateTime>,
}

impl Stored {
    /// Until when all events of the instance are accounted for, up to this one.
    pub fn covered_until(&self) -> Option<OffsetDateTime> {
        self.recorded.map(|recorded| self.ongoing_gap.map_or(recorded, |since| since.min(recorded)))
    }
}

/// Why a call did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// No answer: the server is away, or there is no JetStream.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// JetStream refused.
    #[error("{} (code {})", .0.description, .0.err_code)]
    Api(ApiError),
    /// The answer was not what JetStream sends.
    #[error("the answer of JetStream cannot be read")]
    Unreadable,
}

impl StreamError {
    /// Whether the server has no JetStream, or not for this account.
    pub fn not_enabled(&self) -> bool {
        match self {
            Self::Request(RequestError::NoResponders(_)) => true,
            _ => self.is_any(&code::NOT_ENABLED),
        }
    }

    /// Whether it is JetStream's error with one of these codes.
    pub fn is_any(&self, codes: &[u32]) -> bool {
        codes.iter().any(|code| self.is(*code))
    }

    /// Whether it is JetStream's error with this code.
    pub fn is(&self, code: u32) -> bool {
        matches!(self, Self::Api(error) if error.err_code == code)
    }
}

/// Reads the answer to a publish or a call.
///
/// # Errors
/// `Unreadable` if it is no JSON.
pub fn answer(payload: &[u8]) -> Result<Answer, StreamError> {
    serde_json::from_slice(payload).map_err(|_| StreamError::Unreadable)
}

async fn call(js: JetStream<'_>, operation: String, body: Bytes) -> Result<Answer, StreamError> {
    let subject = format!("{}.{operation}", js.api);
    let message = request(js.client, &subject, body, API_TIMEOUT).await?;
    let mut answer = answer(&message.payload)?;
    match answer.error.take() {
        Some(error) => Err(StreamError::Api(error)),
        None => Ok(answer),
    }
}

/// What the stream says of itself.
///
/// # Errors
/// See [`StreamError`].
pub async fn info(js: JetStream<'_>, stream: &str) -> Result<Info, StreamError> {
    describe(call(js, format!("STREAM.INFO.{stream}"), Bytes::new()).await?)
}

/// Makes the stream of an instance.
///
/// # Errors
/// See [`StreamError`].
pub async fn create(
    js: JetStream<'_>,
    stream: &str,
    subject: &str,
    instance: &str,
    delivery: &Delivery,
) -> Result<Info, StreamError> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let max_age = delivery.max_age.0;
    let config = json!({
        "name": stream,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "num_replicas": delivery.replicas,
        "max_age": nanoseconds(max_age),
        "max_bytes": delivery.max_bytes.0,
        "max_msg_size": 1 << 20,
        "max_msgs": delivery.max_messages.map_or(json!(-1), |most| json!(most)),
        "max_consumers": -1,
        "discard": "old",
        "duplicate_window": nanoseconds(DUPLICATES.min(max_age)),
        "allow_direct": true,
        "deny_delete": true,
        "allow_rollup_hdrs": false,
        "metadata": { "owner": "pontoon", "instance": instance, "schema": "1" },
    });
    describe(call(js, format!("STREAM.CREATE.{stream}"), config.to_string().into()).await?)
}

/// The streams that take some of these subjects.
///
/// # Errors
/// See [`StreamError`].
pub async fn names(js: JetStream<'_>, subject: &str) -> Result<Vec<String>, StreamError> {
    let body = json!({ "subject": subject }).to_string().into();
    Ok(call(js, "STREAM.NAMES".to_owned(), body).await?.streams)
}

fn describe(answer: Answer) -> Result<Info, StreamError> {
    let (Some(state), Some(config), Some(created)) = (answer.state, answer.config, answer.created) else {
        return Err(StreamError::Unreadable);
    };
    let StreamConfig { subjects, no_ack } = config;
    Ok(Info { last_sequence: state.last_seq, messages: state.messages, subjects, created, no_ack })
}

/// The message with this sequence; `None` if it is not there any more.
///
/// # Errors
/// See [`StreamError`].
pub async fn message(js: JetStream<'_>, stream: &str, sequence: u64) -> Result<Option<Stored>, StreamError> {
    get(js, stream, &json!({ "seq": sequence })).await
}

/// The last message with one of these subjects; `None` if there is none.
///
/// # Errors
/// See [`StreamError`].
pub async fn last_message(
    js: JetStream<'_>,
    stream: &str,
    subjects: &str,
) -> Result<Option<Stored>, StreamError> {
    get(js, stream, &json!({ "last_by_subj": subjects })).await
}

async fn get(js: JetStream<'_>, stream: &str, which: &Value) -> Result<Option<Stored>, StreamError> {
    match call(js, format!("STREAM.MSG.GET.{stream}"), which.to_string().into()).await {
        Ok(answer) => Ok(answer.message.as_ref().map(stored)),
        Err(error) if error.is(code::NO_MESSAGE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an event says of itself in structured mode.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    time: Option<String>,
    recordedtime: Option<String>,
    ongoinggap: Option<String>,
}

fn stored(message: &StoredMessage) -> Stored {
    let decode = |text: Option<&str>| base64::engine::general_purpose::STANDARD.decode(text?).ok();
    let headers = decode(message.hdrs.as_deref()).unwrap_or_default();
    let headers = String::from_utf8_lossy(&headers);
    let header = |name: &str| {
        let value = headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    };
    let document = match header("ce-id") {
        Some(_) => Document {
            time: header("ce-time"),
            recordedtime: header("ce-recordedtime"),
            ongoinggap: header("ce-ongoinggap"),
        },
        None => decode(message.data.as_deref())
            .and_then(|data| serde_json::from_slice(&data).ok())
            .unwrap_or_default(),
    };
    let time = |text: Option<String>| text.as_deref().and_then(parse_time);
    // Without `recordedtime` the event's time is that of reading. A message of another client has neither.
    let recorded = time(document.recordedtime).or_else(|| time(document.time)).or(message.time);
    Stored { message_id: header("Nats-Msg-Id"), recorded, ongoing_gap: time(document.ongoinggap) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_server_are_read() {
        let ack = answer(br#"{"stream":"S","seq":22,"duplicate":true}"#).unwrap();
        assert_eq!((ack.seq, ack.duplicate, ack.error), (22, true, None));
        let refused = answer(br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"S","seq":0}"#);
        assert_eq!(refused.unwrap().error.unwrap().err_code, 10_071);
        assert!(answer(b"").is_err());
    }

    #[test]
    fn the_message_id_is_found_among_the_headers() {
        let hdrs = base64::engine::general_purpose::STANDARD
            .encode("NATS/1.0\r\nce-id: 1-2\r\nNats-Msg-Id: sub0.a:1-2\r\n\r\n");
        let message = StoredMessage { hdrs: Some(hdrs), ..StoredMessage::default() };
        assert_eq!(stored(&message).message_id.as_deref(), Some("sub0.a:1-2"));
        assert_eq!(stored(&StoredMessage::default()).message_id, None);
    }

    #[test]
    fn an_event_tells_until_when_all_are_accounted_for() {
        let encode = |text: &str| Some(base64::engine::general_purpose::STANDARD.encode(text));
        let at = |second: i64| OffsetDateTime::from_unix_timestamp(second).unwrap();
        let binary = |headers: &str| StoredMessage {
            hdrs: encode(&format!("NATS/1.0\r\nce-id: 1-2\r\n{headers}\r\n\r\n")),
            data: None,
            time: Some(at(100)),
        };
        let structured = |body: &str| StoredMessage {
            hdrs: encode("NATS/1.0\r\nContent-Type: application/cloudevents+json\r\n\r\n"),
            data: encode(body),
            time: Some(at(100)),
        };
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
        ] {
            assert_eq!(stored(&message).covered_until(), Some(at(until)), "{message:?}");
        }
        assert_eq!(stored(&StoredMessage::default()).covered_until(), None);
    }
}
