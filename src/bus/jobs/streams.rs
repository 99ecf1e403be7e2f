//! The streams of jobs and of results: made where they are missing, and never changed.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use crate::bus::advice;
use crate::bus::jetstream::{DUPLICATES, JetStream, NO_JETSTREAM};
use crate::envelope::Subjects;
use crate::settings::{Delivery, Jobs, Ordering};

/// Looks both streams up, and makes those that are missing.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) async fn ensure(
    js: JetStream<'_>,
    subjects: &Subjects,
    jobs: &Jobs,
    delivery: &Delivery,
) -> Result<(), String> {
    let queue = Config {
        retention: RetentionPolicy::WorkQueue,
        // A queue that is full refuses, so that the publisher knows.
        discard: DiscardPolicy::New,
        ..config(&jobs.stream, subjects.every_job(), jobs, delivery)
    };
    one(js, queue, "jobs.stream", delivery).await?;
    let results = Config {
        discard: DiscardPolicy::Old,
        allow_direct: true,
        ..config(&jobs.results, subjects.every_result(), jobs, delivery)
    };
    one(js, results, "jobs.results", delivery).await
}

fn config(name: &str, subject: String, jobs: &Jobs, delivery: &Delivery) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subject],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: delivery.replicas.into(),
        max_age: jobs.max_age.0,
        max_bytes: i64::try_from(jobs.max_bytes.0).unwrap_or(i64::MAX),
        max_messages: -1,
        max_message_size: -1,
        max_consumers: -1,
        duplicate_window: DUPLICATES.min(jobs.max_age.0),
        metadata: [("owner".to_owned(), "pontoon".to_owned())].into(),
        ..Config::default()
    }
}

async fn one(js: JetStream<'_>, config: Config, setting: &str, delivery: &Delivery) -> Result<(), String> {
    let (stream, subject) = (config.name.clone(), config.subjects.concat());
    let info = match js.info(&stream).await {
        Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) && delivery.provision => {
            let created = js.create_stream(&config).await;
            created.map_err(|error| {
                format!(
                    "the stream {stream} cannot be created: {error}; it takes {subject} and reserves {} bytes \
                     (jobs.max_bytes): make room, or name another one in {setting}",
                    config.max_bytes
                )
            })?
        }
        Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => {
            return Err(format!(
                "the stream {stream} is missing; create it for {subject}, or set delivery.provision = true"
            ));
        }
        Err(error) if error.not_enabled() => {
            return Err(format!("{NO_JETSTREAM}, or set jobs.enabled = false"));
        }
        other => other.map_err(|error| format!("the stream {stream} cannot be looked up: {error}"))?,
    };
    if info.config.no_ack {
        return Err(format!("the stream {stream} has no_ack, so that it confirms nothing; set it to false"));
    }
    if info.config.retention != config.retention {
        return Err(format!(
            "the stream {stream} has not the retention {:?}; name another one in {setting}",
            config.retention
        ));
    }
    advice::subjects(&stream, &info.config.subjects, &subject, Ordering::BestEffort)
}
