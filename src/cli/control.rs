//! `pontoon control`: sends a command for the whole daemon (`<prefix>.control.<operation>`), and prints the replies.

use std::process::ExitCode;
use std::time::Duration;

use async_nats::StatusCode;
use clap::Args;
use futures_util::StreamExt as _;

use super::Outcome;
use super::failure::Failure;
use super::nats;
use super::send::{GRACE, print};
use crate::config::{self, Sources};
use crate::registry::Registry;
use crate::settings::Config;

/// How long the replies of other daemons are waited for behind the last one.
const OTHERS: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct Control {
    /// What every daemon of the prefix does; each replies, and those that take over half a second longer than others are missed
    #[arg(value_parser = ["status", "reload", "pause", "resume"])]
    operation: String,
}

impl Control {
    pub(super) fn run(&self, registry: &Registry, sources: &Sources) -> Outcome {
        let (config, _) = config::shared(registry, sources)?;
        nats::block_on(self.exchange(&config))
    }

    async fn exchange(&self, config: &Config) -> Outcome {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let subject = format!("{}.control.{}", config.nats.prefix, self.operation);
        let (client, mut refusals) = nats::client(config).await?;
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        let sent = client.publish_with_reply(subject.clone(), inbox, "".into()).await;
        sent.map_err(|error| failed(&error))?;
        let (mut wait, mut code) = (config.commands.max_timeout.0 + GRACE, None);
        loop {
            let reply = tokio::select! {
                reply = tokio::time::timeout(wait, replies.next()) => reply.ok().flatten(),
                failure = refusals.next() => return Err(failure),
            };
            let Some(reply) = reply else { break };
            if reply.status == Some(StatusCode::NO_RESPONDERS) {
                let hint = "is a daemon running, with admin.commands = true?";
                return Err(Failure::Failed(format!("no subscriber on {subject}: {hint}")));
            }
            let printed = print(&reply)?.unwrap_or(ExitCode::FAILURE);
            code = Some(if code == Some(ExitCode::FAILURE) { ExitCode::FAILURE } else { printed });
            wait = OTHERS;
        }
        code.ok_or_else(|| {
            Failure::Failed("no reply came in time; the command may have been carried out".to_owned())
        })
    }
}
