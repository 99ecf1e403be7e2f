//! `pontoon tail`: prints events as they are published, one a line, or those that a stream holds.

mod filter;
pub(super) mod history;
mod line;
pub(super) mod record;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::process::ExitCode;

use async_nats::Message;
use clap::Args;
use futures_util::StreamExt as _;
use pontoon_sdk::Span;

use self::filter::Filter;
use self::history::{History, Start};
use self::line::Format;
use super::Outcome;
use super::failure::Failure;
use super::nats;
use crate::config::{self, Sources};
use crate::log::printable::printable;
use crate::registry::Registry;
use crate::settings::Config;

#[derive(Args)]
pub(super) struct Tail {
    /// An instance, a type, `minchat.support`, `message.created`, or a subject with * and >
    #[arg(default_value = ">")]
    filter: String,
    /// Print whole events as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Stop after this many events
    #[arg(long, value_name = "NUMBER")]
    count: Option<usize>,
    /// Begin with the events that the streams hold since this long ago, such as 10m
    #[arg(long, value_name = "TIME", conflicts_with = "last")]
    since: Option<Span>,
    /// Begin with this many of the last events that the streams hold
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    last: Option<u64>,
    /// Show the frames of this instance instead, in both directions and without secrets
    #[arg(long, value_name = "INSTANCE", conflicts_with_all = ["filter", "since", "last"])]
    wire: Option<String>,
}

impl Tail {
    pub(super) fn run(self, registry: &Registry, sources: &Sources) -> Outcome {
        let (config, kinds) = config::shared(registry, sources)?;
        if let Some(instance) = &self.wire {
            return wire::print(&config, instance, self.json, self.count);
        }
        let filter = Filter::new(&self.filter, &config.nats.prefix, registry, &kinds)?;
        nats::block_on(self.print(&config, &kinds, &filter))
    }

    async fn print(&self, config: &Config, kinds: &BTreeMap<String, String>, filter: &Filter) -> Outcome {
        let (client, mut refusals) = nats::client(config).await?;
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let mut events = client.subscribe(filter.subject.clone()).await.map_err(|error| failed(&error))?;
        // Data goes to stdout; a failure to write here cannot be reported.
        writeln!(stderr(), "listening on {}", printable(&filter.subject)).ok();
        let mut output = Output {
            format: Format::new(&config.nats.prefix, self.json, stdout().is_terminal()),
            left: self.count.unwrap_or(usize::MAX),
        };
        let mut shown = HashSet::new();
        let start = self.since.map(Start::Since).or(self.last.map(Start::Last));
        if let Some(start) = start {
            let mut history = tokio::select! {
                history = History::open(&client, config, kinds, filter, start) => history?,
                failure = refusals.next() => return Err(failure),
            };
            while output.left > 0 {
                let message = tokio::select! {
                    message = history.next() => message?,
                    failure = refusals.next() => return Err(failure),
                };
                let Some(message) = message else { break };
                shown.extend(id(&message));
                output.print(&message)?;
            }
        }
        while output.left > 0 {
            let message = tokio::select! {
                message = events.next() => message,
                failure = refusals.next() => return Err(failure),
            };
            let message = message.ok_or_else(|| failed(&"the subscription ended"))?;
            // Published after the subscription began, and read from the stream.
            if id(&message).is_none_or(|id| !shown.remove(&id)) {
                output.print(&message)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What identifies an event: its subject and `ce-id`.
fn id(message: &Message) -> Option<String> {
    let id = message.headers.as_ref()?.get("ce-id")?;
    Some(format!("{} {}", message.subject, id.as_str()))
}

/// Where events are printed.
struct Output {
    format: Format,
    /// How many are still to be printed.
    left: usize,
}

impl Output {
    fn print(&mut self, message: &Message) -> Result<(), Failure> {
        writeln!(stdout(), "{}", self.format.line(message))?;
        self.left -= 1;
        Ok(())
    }
}
