//! A key-value bucket of JetStream, as far as a cluster needs it (ADR-8): a stream `KV_<bucket>` with one message for
//! each key, which goes away by age. `Nats-TTL` is not used: nats-server 2.9 ignores it.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::jetstream::{JetStream, StreamError};

/// The bucket of leases, by prefix and instance.
pub const LEASES: &str = "pontoon_leases";
/// The bucket of members, by prefix and name.
pub const MEMBERS: &str = "pontoon_members";

/// The bucket of values of `Idempotency-Key`, by prefix, instance and digest.
pub const KEYS: &str = "pontoon_idempotency";

/// The header of a message that deletes a key, and its value.
const OPERATION: &str = "KV-Operation";
const DELETE: &str = "DEL";
/// The header by which a message is stored only if the last one of its subject has this sequence; 0 if there is none.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// The most that a bucket holds: a lease has about 200 bytes, a member as many for each of its instances, and a key about as
/// many and the answer.
const MAX_BYTES: i64 = 8 * 1024 * 1024;

/// What a key has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing, or nothing any more.
    Missing,
    /// It was deleted by the message with this sequence.
    Deleted(u64),
    /// A value, with its revision.
    Value(u64, Bytes),
}

/// The stream of a bucket.
pub fn stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of all keys of a bucket that begin with this prefix, or of one of them with its last tokens.
pub fn subject(bucket: &str, prefix: &str, rest: &str) -> String {
    format!("$KV.{bucket}.{prefix}.{rest}")
}

/// Finds the bucket, or creates it, and checks that its keys go away after `age`, which is that of a setting.
///
/// # Errors
/// A sentence on what is wrong with it.
pub async fn ensure(
    js: JetStream<'_>,
    bucket: &str,
    (setting, age): (&str, Duration),
    provision: bool,
    replicas: u8,
) -> Result<(), String> {
    let name = stream(bucket);
    let info = match js.info(&name).await {
        Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) && provision => {
            let config = Config {
                name: name.clone(),
                subjects: vec![format!("$KV.{bucket}.>")],
                retention: RetentionPolicy::Limits,
                storage: StorageType::File,
                num_replicas: replicas.into(),
                max_age: age,
                max_bytes: MAX_BYTES,
                max_messages: -1,
                max_messages_per_subject: 1,
                max_consumers: -1,
                max_message_size: -1,
                discard: DiscardPolicy::New,
                duplicate_window: age,
                allow_rollup: true,
                allow_direct: true,
                deny_delete: true,
                ..Config::default()
            };
            match js.create_stream(&config).await {
                // Another member has created it meanwhile.
                Err(error) if error.is(ErrorCode::STREAM_NAME_EXIST) => js.info(&name).await,
                created => created,
            }
        }
        found => found,
    };
    let config = info.map_err(|error| unusable(bucket, &error))?.config;
    if config.max_age != age || config.max_messages_per_subject != 1 {
        return Err(format!(
            "the bucket {bucket} keeps {} values of a key for {:?}, where 1 for {age:?} is needed ({setting}, the same in all \
             daemons): stop all daemons of the cluster and delete the stream {name}, or correct {setting}",
            config.max_messages_per_subject, config.max_age
        ));
    }
    Ok(())
}

fn unusable(bucket: &str, error: &StreamError) -> String {
    let name = stream(bucket);
    if error.is(ErrorCode::STREAM_NOT_FOUND) {
        return format!("the bucket {bucket} is missing; create it, or set delivery.provision = true");
    }
    format!(
        "the bucket {bucket} (stream {name}) cannot be used: {error}; a cluster needs JetStream, and rights as in \
         deploy/nats/nats-server.conf"
    )
}

/// Sets a key if its last message has this sequence, 0 if it must have none; `None` deletes it. Returns the revision.
///
/// # Errors
/// See [`StreamError`]; [`lost`] is whether the key has another message.
pub async fn set(
    js: JetStream<'_>,
    subject: String,
    value: Option<Bytes>,
    expected: u64,
) -> Result<u64, StreamError> {
    let mut headers = HeaderMap::new();
    headers.insert(EXPECTED, HeaderValue::from(expected));
    if value.is_none() {
        headers.insert(OPERATION, DELETE);
    }
    js.publish(subject, headers, value.unwrap_or_default()).await
}

/// Whether a key was not set because it has another message than the expected one.
pub fn lost(error: &StreamError) -> bool {
    // The second one: while another message of the same subject is being agreed upon by the replicas.
    error.is(ErrorCode::STREAM_WRONG_LAST_SEQUENCE)
        || error.is(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
}

/// What a key has now.
///
/// # Errors
/// See [`StreamError`].
pub async fn get(js: JetStream<'_>, bucket: &str, subject: &str) -> Result<Entry, StreamError> {
    let Some(raw) = js.last_raw(&stream(bucket), subject).await? else { return Ok(Entry::Missing) };
    let sequence = raw.sequence;
    // One that cannot be read is the value of a stranger.
    let message = StreamMessage::try_from(raw).ok();
    let is_deleted = message.as_ref().is_some_and(|message| message.headers.get(OPERATION).is_some());
    let value = message.map(|message| message.payload).unwrap_or_default();
    Ok(if is_deleted { Entry::Deleted(sequence) } else { Entry::Value(sequence, value) })
}

/// Sets a key, whatever it has.
///
/// # Errors
/// See [`StreamError`].
pub async fn put(js: JetStream<'_>, subject: String, value: Bytes) -> Result<(), StreamError> {
    js.publish(subject, HeaderMap::new(), value).await.map(|_| ())
}

/// Deletes a key, whatever it has.
///
/// # Errors
/// See [`StreamError`].
pub async fn delete(js: JetStream<'_>, subject: String) -> Result<(), StreamError> {
    let mut headers = HeaderMap::new();
    headers.insert(OPERATION, DELETE);
    js.publish(subject, headers, Bytes::new()).await.map(|_| ())
}
