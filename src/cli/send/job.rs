//! `pontoon send --job`: publishes a job, and waits for its result.

use std::io::{Write as _, stderr};

use async_nats::header::HeaderValue;
use async_nats::{Client, Message, StatusCode};
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::{GRACE, Request, print};
use crate::bus::jobs::LONGEST_ID;
use crate::cli::Outcome;
use crate::cli::failure::Failure;
use crate::cli::nats;
use crate::cli::tail::history::History;
use crate::log::printable::printable;
use crate::settings::Config;

/// What the stream answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    error: Option<Refused>,
    stream: String,
    duplicate: bool,
}

#[derive(Deserialize)]
struct Refused {
    description: String,
}

impl Request {
    pub(super) fn send_job(&self, config: &Config, place: &str, body: String) -> Outcome {
        let expires = self.expires.unwrap_or(config.jobs.expires).0;
        let wait = expires + self.timeout.unwrap_or(config.commands.max_timeout).0 + GRACE;
        let id = self.id.clone().unwrap_or_else(|| format!("send-{:016x}", rand::random::<u64>()));
        nats::block_on(async {
            let late = || {
                let stream = &config.jobs.results;
                Failure::Failed(format!(
                    "no result of the job {id} came in time; the stream {stream} keeps results"
                ))
            };
            let exchange = self.exchange_job(config, place, &id, body);
            tokio::time::timeout(wait, exchange).await.map_err(|_| late())?
        })
    }

    async fn exchange_job(&self, config: &Config, place: &str, id: &str, body: String) -> Outcome {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let prefix = &config.nats.prefix;
        let (subject, result) = (format!("{prefix}.job.{place}"), format!("{prefix}.result.{place}"));
        let (client, mut refusals) = nats::client(config).await?;
        let mut results = client.subscribe(result.clone()).await.map_err(|error| failed(&error))?;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        let mut headers = self.headers();
        headers.insert("Nats-Msg-Id", id.parse::<HeaderValue>().map_err(|error| failed(&error))?);
        let sent = client.publish_with_reply_and_headers(subject.clone(), inbox, headers, body.into()).await;
        sent.map_err(|error| failed(&error))?;
        let earlier = earlier(&client, config, &result, id);
        let (mut earlier, mut is_repeated) = (std::pin::pin!(earlier), false);
        let mut is_looked_up = false;
        loop {
            tokio::select! {
                failure = refusals.next(), if !is_repeated => return Err(failure),
                found = &mut earlier, if is_repeated => {
                    is_repeated = false;
                    match found {
                        Ok(Some(result)) if let Some(code) = print(&result)? => return Ok(code),
                        Ok(_) => {}
                        Err(error) => writeln!(
                            stderr(),
                            "warning: its result is awaited, as those that are stored cannot be read: {}",
                            printable(&error.text())
                        )?,
                    }
                }
                Some(answer) = answers.next() => {
                    if answer.status == Some(StatusCode::NO_RESPONDERS) {
                        let hint = "is the daemon running, with jobs.enabled and JetStream?";
                        return Err(Failure::Failed(format!("no stream takes {subject}: {hint}")));
                    }
                    let stored: Stored = serde_json::from_slice(&answer.payload).unwrap_or_default();
                    if let Some(Refused { description }) = stored.error {
                        return Err(Failure::Failed(format!("the job was not stored: {description}")));
                    }
                    if stored.duplicate {
                        writeln!(stderr(), "warning: a job with this id was stored before, in {}", stored.stream)?;
                        is_repeated = !is_looked_up;
                        is_looked_up = true;
                    }
                }
                Some(result) = results.next() => {
                    if is_of(&result, id) && let Some(code) = print(&result)? {
                        return Ok(code);
                    }
                }
                else => return Err(Failure::Failed("the subscription ended".to_owned())),
            }
        }
    }
}

/// The result of a job that was stored before, if there is one already.
async fn earlier(
    client: &Client,
    config: &Config,
    subject: &str,
    id: &str,
) -> Result<Option<Message>, Failure> {
    let mut results = History::of_stream(client, config, &config.jobs.results, subject).await?;
    while let Some(result) = results.next().await? {
        if is_of(&result, id) {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

fn is_of(result: &Message, id: &str) -> bool {
    let job = result.headers.as_ref().and_then(|headers| headers.get("Pontoon-Job"));
    job.is_some_and(|job| job.as_str() == id)
}

/// The id of a job.
pub(super) fn id(text: &str) -> Result<String, String> {
    let fits = (1..=LONGEST_ID).contains(&text.len()) && text.parse::<HeaderValue>().is_ok();
    if fits { Ok(text.to_owned()) } else { Err(format!("write 1 to {LONGEST_ID} bytes without line breaks")) }
}
