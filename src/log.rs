//! Logs on stderr: text on a terminal, JSON elsewhere, and never in the way of what they tell about.

mod escape;
mod queue;
mod throttle;

use std::io::{self, IsTerminal as _};

use metrics::Counter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::debug_fn;

use crate::config::{Log, LogFormat};
pub use queue::Guard;
pub use throttle::Throttle;

/// Starts to log. Lines that stderr does not take in time are counted in `dropped`.
///
/// # Errors
/// If the filter cannot be read, or somebody logs already.
pub fn start(log: &Log, dropped: Counter) -> Result<Guard, String> {
    let filter = filter(&log.level)?;
    let terminal = io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (lines, guard) = queue::queue(io::stderr(), json, dropped)
        .map_err(|error| format!("the log's thread cannot be made: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(colour);
    let started = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        let fields = debug_fn(|out, field, value| {
            if field.name() != "message" {
                write!(out, "{field}=")?;
            }
            escape::plain(&format!("{value:?}"), out)
        });
        builder.fmt_fields(fields.delimited(" ")).try_init()
    };
    started.map_err(|error| format!("the log cannot start: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, said = message, "a fault of the daemon (panic)");
    }));
    Ok(guard)
}

/// Reads a filter. The NATS client tells of every slow message at `info` and of its traffic below that, so it is kept
/// at `warn` unless the operator names it or wants to hear even less.
///
/// # Errors
/// A sentence on what is wrong.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let mut words = level.split(',').map(str::trim);
    let quieter = words.any(|word| ["off", "error"].iter().any(|less| word.eq_ignore_ascii_case(less)));
    let text = if quieter || level.contains("async_nats") {
        level.to_owned()
    } else {
        format!("{level},async_nats=warn")
    };
    EnvFilter::try_new(&text).map_err(|error| format!("\"{level}\" is no log filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nats_client_is_quiet_unless_it_is_named() {
        let filter = |text| filter(text).map(|filter| filter.to_string());
        for loud in ["trace", "debug", "info,pontoon=trace", "pontoon=debug"] {
            assert!(filter(loud).unwrap().contains("async_nats=warn"), "{loud}");
        }
        assert!(filter("info,async_nats=trace").unwrap().contains("async_nats=trace"));
        assert_eq!(filter("off").unwrap(), "off");
        assert_eq!(filter("Error").unwrap(), "error");
        assert!(filter("pontoon=loud=er").unwrap_err().contains("pontoon=loud=er"));
    }
}
