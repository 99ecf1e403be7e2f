//! `pontoon check`: the configuration, and with `--connect` also whether NATS and the services can be reached with it.

use std::fmt::Display;
use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use async_nats::jetstream::ErrorCode;

use super::failure::Failure;
use super::{Outcome, nats};
use crate::bus::acks::stream_of;
use crate::bus::jetstream::{JetStream, NO_JETSTREAM};
use crate::config::{self, Loaded, Prepared, Sources};
use crate::log::printable::printable;
use crate::registry::Registry;
use crate::settings::{Config, DeliveryMode, Durability};

/// Prints every warning, and with `connect` what can be reached.
pub(super) fn check(registry: &Registry, sources: &Sources, connect: bool) -> Outcome {
    let loaded = config::load(registry, sources)?;
    for warning in &loaded.warnings {
        writeln!(stderr(), "warning: {}", printable(warning))?;
    }
    let running = loaded.instances.len();
    let all = loaded.config.connectors.len();
    let warnings = loaded.warnings.len();
    let refused = if running == 0 { ", which `pontoon run` refuses" } else { "" };
    writeln!(stdout(), "ok: {all} configured, {running} to run{refused}, {warnings} warnings")?;
    let spool = &loaded.config.delivery.spool;
    let kept = spool.folder().map_or("in memory only".to_owned(), |folder| {
        let durability = if spool.durability == Durability::Power { "power" } else { "process" };
        format!("on disk in {}, at most {} for each instance ({durability})", folder.display(), spool.size)
    });
    writeln!(stdout(), "events that are not confirmed yet are kept {}", printable(&kept))?;
    if connect { reach(loaded) } else { Ok(ExitCode::SUCCESS) }
}

/// Connects to NATS as each instance does, and dials each of its links once.
fn reach(loaded: Loaded) -> Outcome {
    let Loaded { config, instances, .. } = loaded;
    let mut is_ok = true;
    for Prepared { name, run } in instances {
        let subject = format!("{name}: NATS at {}", config.nats.url.list().join(", "));
        is_ok &= print(&subject, nats::block_on(streams(&config, &name)).map_err(Failure::text))?;
        let transport = config.connectors.get(&name).map(|instance| instance.transport.clone());
        for (link, outcome) in run.dial(transport.unwrap_or_default()) {
            let outcome =
                outcome.map(|address| format!("connected to {address}; a sign-in after that is not tried"));
            is_ok &= print(&format!("{name}: link {link}"), outcome)?;
        }
    }
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints one line. Returns whether it is a good one.
fn print(subject: &str, outcome: Result<String, String>) -> Result<bool, Failure> {
    let (word, text) = match &outcome {
        Ok(text) => ("ok", text),
        Err(text) => ("error", text),
    };
    writeln!(stdout(), "{word}: {}", printable(&format!("{subject}: {text}")))?;
    Ok(outcome.is_ok())
}

/// What NATS answers about the streams of an instance.
async fn streams(config: &Config, instance: &str) -> Result<String, Failure> {
    // An instance may subscribe to these inboxes only.
    let (client, mut refusals) = nats::client_with(config, &format!("_INBOX_{instance}")).await?;
    if config.delivery.mode == DeliveryMode::Core {
        return Ok("connected".to_owned());
    }
    let api = config.nats.jetstream_api();
    let jetstream = JetStream { client: &client, api: &api };
    let jobs = config.jobs.are_taken(config.delivery.mode);
    let jobs = jobs.then(|| [config.jobs.stream.clone(), config.jobs.results.clone()]);
    let mut text = "connected".to_owned();
    for name in [stream_of(&config.delivery, instance)].into_iter().chain(jobs.into_iter().flatten()) {
        let found = stream(config, jetstream, &name);
        let found = tokio::select! {
            found = found => found?,
            failure = refusals.next() => return Err(failure),
        };
        text += &format!("; the stream {name} {found}");
    }
    Ok(text)
}

/// Whether a stream is there, or will be.
async fn stream(config: &Config, jetstream: JetStream<'_>, name: &str) -> Result<&'static str, Failure> {
    let failed = |error: &dyn Display| Failure::Failed(format!("the stream {name}: {error}"));
    match jetstream.info(name).await {
        Ok(_) => Ok("is there"),
        Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => {
            if config.delivery.provision {
                Ok("will be created")
            } else {
                Err(failed(&"it is missing, and delivery.provision is false"))
            }
        }
        Err(error) if error.not_enabled() => {
            Err(Failure::Failed(format!("{NO_JETSTREAM}, or set delivery.mode = \"core\"")))
        }
        Err(error) => Err(failed(&error)),
    }
}
