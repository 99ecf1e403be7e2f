//! `pontoon status` and `pontoon health`: what a running daemon knows, from its admin endpoint.

mod cluster;
pub(super) mod rows;

use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use time::OffsetDateTime;

use super::failure::Failure;
use super::{Outcome, admin};
use crate::config::{self, Sources};
use crate::log::printable::{printable, printable_json};
use crate::registry::Registry;
use crate::settings::Config;

/// How often `--watch` reads the status.
const PERIOD: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Status {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Print it again every two seconds
    #[arg(long, short)]
    watch: bool,
    /// Print the members of the cluster, and the owner of each instance
    #[arg(long)]
    cluster: bool,
}

impl Status {
    /// Prints the status of every instance and link.
    pub(super) fn run(&self, registry: &Registry, sources: &Sources) -> Outcome {
        let (config, _) = config::shared(registry, sources)?;
        loop {
            let text = self.text(&config)?;
            // From the top of an empty screen.
            let clear = if self.watch && stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "" };
            write!(stdout(), "{clear}{text}")?;
            if !self.watch {
                return Ok(ExitCode::SUCCESS);
            }
            stdout().flush()?;
            std::thread::park_timeout(PERIOD);
        }
    }

    fn text(&self, config: &Config) -> Result<String, Failure> {
        let body = body(config)?;
        if self.cluster {
            return cluster::table(&body, self.json);
        }
        if self.json {
            return Ok(printable_json(&body) + "\n");
        }
        let mut rows = vec![rows::COLUMNS.map(str::to_owned)];
        rows.extend(rows::read(&body, OffsetDateTime::now_utc())?);
        Ok(aligned(&rows))
    }
}

/// The status as JSON.
pub(super) fn body(config: &Config) -> Result<Vec<u8>, Failure> {
    let response = admin::get(config, "/status")?;
    let code = response.code;
    let body = response.body()?;
    if code != 200 {
        let text = String::from_utf8_lossy(&body);
        return Err(Failure::Failed(format!("the admin endpoint answered {code}: {text}")));
    }
    Ok(body)
}

/// Prints whether the daemon is ready; exit code 1 if not.
pub(super) fn health(registry: &Registry, sources: &Sources, strict: bool) -> Outcome {
    let (config, _) = config::shared(registry, sources)?;
    let response = admin::get(&config, if strict { "/readyz?strict" } else { "/readyz" })?;
    let code = response.code;
    let text = String::from_utf8_lossy(&response.body()?).trim().lines().map(printable).collect::<Vec<_>>();
    writeln!(stdout(), "{}", text.join("\n"))?;
    Ok(if code == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut lines = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}
