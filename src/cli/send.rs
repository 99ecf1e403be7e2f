//! `pontoon send`: sends a command or a job to an instance, and prints its replies or its result.

mod job;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::{Message, StatusCode};
use clap::Args;
use futures_util::StreamExt as _;
use pontoon_sdk::{DeliveryLevel, Span};
use serde_json::value::RawValue;

use super::Outcome;
use super::failure::Failure;
use super::nats;
use crate::config::{self, Sources};
use crate::envelope::subject::push_token;
use crate::log::printable::printable_json;
use crate::registry::Registry;
use crate::settings::Config;

/// Added to the command's timeout: the daemon replies at its deadline, and the reply takes time to arrive.
pub(super) const GRACE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Request {
    /// The instance
    instance: String,
    /// The operation, such as `message`, `room.join` or `call.wallet`
    operation: String,
    /// The body, JSON; `-` reads it from stdin
    #[arg(default_value = "{}")]
    body: String,
    /// The delivery level to wait for: accepted, sent, acked or response
    #[arg(long, value_name = "LEVEL")]
    wait: Option<DeliveryLevel>,
    /// How long to wait, such as 5s
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Print parts of the answer as they come
    #[arg(long)]
    stream: bool,
    /// Send a job: it is kept until it has a result, also while the service or the daemon is away
    #[arg(long, conflicts_with = "stream")]
    job: bool,
    /// The id of the job; one is made up if it is not given
    #[arg(long, value_name = "ID", requires = "job", value_parser = job::id)]
    id: Option<String>,
    /// How long the job may wait before it is sent to the service, such as 10m
    #[arg(long, value_name = "TIME", requires = "job")]
    expires: Option<Span>,
    /// One more header; may be given again
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The instance's connector, if the configuration here does not hold the instance
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

impl Request {
    pub(super) fn run(self, registry: &Registry, sources: &Sources) -> Outcome {
        let (config, kinds) = config::shared(registry, sources)?;
        let place = self.place(&kinds)?;
        let prefix = &config.nats.prefix;
        let body = self.body()?;
        if self.job {
            return self.send_job(&config, &place, body);
        }
        let subject = format!("{prefix}.command.{place}");
        let wait = self.timeout.unwrap_or(config.commands.max_timeout).0 + GRACE;
        let exchange = self.exchange(&config, subject, body);
        nats::block_on(async {
            let late =
                || Failure::Failed("no reply came in time; the command may have been carried out".to_owned());
            tokio::time::timeout(wait, exchange).await.map_err(|_| late())?
        })
    }

    /// Sends the command and prints replies up to the last.
    async fn exchange(&self, config: &Config, subject: String, body: String) -> Outcome {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let (client, mut refusals) = nats::client(config).await?;
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        client
            .publish_with_reply_and_headers(subject.clone(), inbox, self.headers(), body.into())
            .await
            .map_err(|error| failed(&error))?;
        loop {
            let reply = tokio::select! {
                reply = replies.next() => reply,
                failure = refusals.next() => return Err(failure),
            };
            let Some(reply) = reply else { break };
            if reply.status == Some(StatusCode::NO_RESPONDERS) {
                let hint = "is the daemon running, with this instance and this operation?";
                return Err(Failure::Failed(format!("no subscriber on {subject}: {hint}")));
            }
            if let Some(code) = print(&reply)? {
                return Ok(code);
            }
        }
        Err(Failure::Failed("the subscription ended".to_owned()))
    }

    /// The tokens behind the kind of the subject.
    fn place(&self, kinds: &BTreeMap<String, String>) -> Result<String, Failure> {
        let kind = self.kind.as_ref().or_else(|| kinds.get(&self.instance)).ok_or_else(|| {
            let known: Vec<&str> = kinds.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let instance = &self.instance;
            Failure::Usage(format!(
                "\"{instance}\" is not configured here (known: {known}); name its connector with --type"
            ))
        })?;
        let mut place = String::new();
        for token in [kind.as_str(), &self.instance].into_iter().chain(self.operation.split('.')) {
            if token.is_empty() {
                return Err(Failure::Usage(format!("\"{}\" has an empty part", self.operation)));
            }
            if !place.is_empty() {
                place.push('.');
            }
            push_token(&mut place, token);
        }
        Ok(place)
    }

    fn body(&self) -> Result<String, Failure> {
        let mut body = self.body.clone();
        if body == "-" {
            body.clear();
            stdin()
                .read_to_string(&mut body)
                .map_err(|error| Failure::Usage(format!("stdin cannot be read: {error}")))?;
        }
        match serde_json::from_str::<&RawValue>(&body) {
            // An empty body is allowed.
            _ if body.trim().is_empty() => Ok(String::new()),
            Ok(_) => Ok(body),
            Err(error) => Err(Failure::Usage(format!("the body is not JSON: {error}"))),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let given = [
            ("Pontoon-Wait", self.wait.map(|delivery| delivery.as_str().to_owned())),
            ("Pontoon-Timeout", self.timeout.map(|timeout| timeout.to_string())),
            ("Pontoon-Stream", self.stream.then(|| "true".to_owned())),
            ("Pontoon-Expires", self.expires.map(|expires| expires.to_string())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                headers.insert(name, value.as_str());
            }
        }
        for (name, value) in &self.header {
            headers.append(name.clone(), value.clone());
        }
        headers
    }
}

/// Prints a reply. Returns the exit code if it is the last.
pub(super) fn print(reply: &Message) -> Result<Option<ExitCode>, Failure> {
    writeln!(stdout(), "{}", printable_json(&reply.payload))?;
    Ok(match status(reply).as_deref() {
        Some("part") => None,
        Some("accepted" | "sent" | "acked" | "response") => Some(ExitCode::SUCCESS),
        _ => Some(ExitCode::FAILURE),
    })
}

/// The status of a reply: the header's, or the body's where there is none.
fn status(reply: &Message) -> Option<String> {
    let header = reply.headers.as_ref().and_then(|headers| headers.get("Pontoon-Status"));
    let body = || serde_json::from_slice::<serde_json::Value>(&reply.payload).ok();
    header
        .map(|value| value.as_str().to_owned())
        .or_else(|| Some(body()?.get("status")?.as_str()?.to_owned()))
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME:VALUE")?;
    // `HeaderMap::insert` of a text panics on a line break; parsing does not.
    let name = name.trim().parse().map_err(|_| "the name may hold only letters, digits and -".to_owned())?;
    let value = value.trim().parse().map_err(|_| "the value must not hold a line break".to_owned())?;
    Ok((name, value))
}
