//! The text of the Prometheus exporter as OpenMetrics 1.0, with exemplars
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/#text-format>).

use super::exemplars::Exemplars;

/// What has a unit ends in it.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// The same samples, under the names that OpenMetrics has for families: of a counter without `_total`.
pub(super) fn from_prometheus(text: &str, exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            describe(&mut out, typed, std::mem::take(&mut help));
        } else if let Some((series, value)) = line.rsplit_once(' ') {
            let exemplar = exemplars.of(series);
            out.extend([&canonical(series), " ", value, &exemplar, "\n"]);
        }
    }
    out + "# EOF\n"
}

/// What is known of a family, in the order of the standard.
fn describe(out: &mut String, typed: &str, help: &str) {
    let Some((name, kind)) = typed.split_once(' ') else { return };
    let family = if kind == "counter" { name.strip_suffix("_total").unwrap_or(name) } else { name };
    out.extend(["# TYPE ", family, " ", kind, "\n"]);
    if let Some((_, unit)) = family.rsplit_once('_').filter(|(_, unit)| UNITS.contains(unit)) {
        out.extend(["# UNIT ", family, " ", unit, "\n"]);
    }
    if !help.is_empty() {
        out.extend(["# HELP ", family, " ", &help.replace('"', "\\\""), "\n"]);
    }
}

/// The series, with the bound of a bucket as a float (`1.0` where Prometheus' format has `1`).
fn canonical(series: &str) -> String {
    let is_bucket = |series: &&str| series.contains("_bucket{");
    let bound = series.strip_suffix("\"}").filter(is_bucket).and_then(|series| series.rsplit_once("le=\""));
    match bound {
        Some((start, bound)) if bound.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{start}le=\"{bound}.0\"}}")
        }
        _ => series.to_owned(),
    }
}
