//! Logs on stderr: text on a terminal, JSON elsewhere. A slow stderr never holds the daemon up.

mod escape;
pub(crate) mod printable;
mod queue;
mod throttle;

use std::io::{self, IsTerminal as _};

use metrics::Counter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::{Handle, Layer as Reloaded};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::settings::{Log, LogFormat};
pub use queue::Guard;
use queue::Lines;
pub use throttle::Throttle;

/// A log that runs. Its level and its format can be changed.
pub struct Live {
    filter: Handle<EnvFilter, Registry>,
    format: Handle<Format, Filtered>,
    lines: Lines,
}

type Filtered = tracing_subscriber::layer::Layered<Reloaded<EnvFilter, Registry>, Registry>;
type Format = Box<dyn Layer<Filtered> + Send + Sync>;

impl Live {
    /// Goes over to these settings.
    ///
    /// # Errors
    /// If the filter cannot be read.
    pub fn apply(&self, log: &Log) -> Result<(), String> {
        let gone = |error| format!("the log cannot be changed: {error}");
        self.filter.reload(filter(&log.level)?).map_err(gone)?;
        self.format.reload(format(log.format, self.lines.clone())).map_err(gone)
    }
}

/// Starts to log. Lines that stderr does not take in time are counted in `dropped`.
///
/// # Errors
/// If the filter cannot be read, or there is a log already.
pub fn start(log: &Log, dropped: Counter) -> Result<(Live, Guard), String> {
    let (lines, guard) = queue::queue(io::stderr(), dropped)
        .map_err(|error| format!("the log's thread cannot be made: {error}"))?;
    let (filter_layer, filter) = Reloaded::new(filter(&log.level)?);
    let (format_layer, format) = Reloaded::new(format(log.format, lines.clone()));
    tracing_subscriber::registry()
        .with(filter_layer)
        .with(format_layer)
        .try_init()
        .map_err(|error| format!("the log cannot start: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, said = message, "a fault of the daemon (panic)");
    }));
    Ok((Live { filter, format, lines }, guard))
}

fn format(format: LogFormat, lines: Lines) -> Format {
    let terminal = io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_ansi(colour);
    if format == LogFormat::Json || format == LogFormat::Auto && !terminal {
        return layer.json().flatten_event(true).with_writer(lines.json()).boxed();
    }
    let fields = debug_fn(|out, field, value| {
        if field.name() != "message" {
            write!(out, "{field}=")?;
        }
        escape::plain(&format!("{value:?}"), out)
    });
    layer.fmt_fields(fields.delimited(" ")).with_writer(lines).boxed()
}

/// Reads a filter. The NATS client's lines name no instance, and what they report is logged with it elsewhere: they are
/// left out unless the operator names the client.
///
/// # Errors
/// A sentence on what is wrong.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let text =
        if level.contains("async_nats") { level.to_owned() } else { format!("{level},async_nats=off") };
    EnvFilter::try_new(&text).map_err(|error| format!("\"{level}\" is not a log filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nats_client_is_quiet_unless_it_is_named() {
        let filter = |text| filter(text).map(|filter| filter.to_string());
        for loud in ["trace", "debug", "info,pontoon=trace", "pontoon=debug"] {
            assert!(filter(loud).unwrap().contains("async_nats=off"), "{loud}");
        }
        assert!(filter("info,async_nats=trace").unwrap().contains("async_nats=trace"));
        assert_eq!(filter("Error").unwrap(), "async_nats=off,error");
        assert!(filter("pontoon=loud=er").unwrap_err().contains("pontoon=loud=er"));
    }
}
