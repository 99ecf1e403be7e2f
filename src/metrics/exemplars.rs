//! Exemplars: the trace of the last command that each series counted, for formats that show them
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars>).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ::metrics::Label;

use super::table::{self, DURATION, INSTANCE};

/// Those of the process, as the recorder is.
pub(super) static EXEMPLARS: Exemplars = Exemplars(Mutex::new(BTreeMap::new()));

/// By the series as it is exported, so at most one for each series of commands.
pub(super) struct Exemplars(Mutex<BTreeMap<String, Exemplar>>);

/// A trace that a series has counted.
struct Exemplar {
    trace_id: String,
    span_id: String,
    value: f64,
    /// Since 1970.
    time: Duration,
}

impl Exemplars {
    /// A command has ended that belongs to a trace. `labels` are those of its operation. One whose caller does not record
    /// the trace is passed over: it would lead nowhere.
    pub(super) fn command(&self, labels: &[Label], outcome: &str, took: Duration, traceparent: &str) {
        // Version, trace, span and flags; the lowest bit of the flags is "sampled".
        let mut parts = traceparent.split('-').skip(1);
        let (Some(trace_id), Some(span_id), Some(flags)) = (parts.next(), parts.next(), parts.next()) else {
            return;
        };
        if u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 0) {
            return;
        }
        let took = took.as_secs_f64();
        let bound = DURATION.iter().find(|bound| took <= **bound);
        let bound = bound.map_or_else(|| "+Inf".to_owned(), f64::to_string);
        let exemplar = |value| Exemplar {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
            value,
            time: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
        };
        let labels: Vec<_> =
            labels.iter().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
        let labels = labels.join(",");
        let (counter, histogram) = (table::COMMANDS.name, table::COMMAND_DURATION.name);
        let mut all = self.all();
        all.insert(format!("{counter}{{{labels},outcome=\"{outcome}\"}}"), exemplar(1.0));
        all.insert(format!("{histogram}_bucket{{{labels},le=\"{bound}\"}}"), exemplar(took));
    }

    /// Drops those of an instance.
    pub(super) fn remove(&self, instance: &str) {
        let own = format!("{INSTANCE}=\"{instance}\"");
        self.all().retain(|series, _| !series.contains(&own));
    }

    /// The exemplar of a series as OpenMetrics has it behind a sample, or nothing.
    pub(super) fn of(&self, series: &str) -> String {
        let all = self.all();
        let Some(Exemplar { trace_id, span_id, value, time }) = all.get(series) else {
            return String::new();
        };
        let time = time.as_secs_f64();
        format!(" # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {value} {time:.3}")
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Exemplar>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
