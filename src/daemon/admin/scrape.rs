//! `/metrics`: in Prometheus' text format, or as OpenMetrics where the client asks for it (RFC 9110, section 12.5.1).

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};

use super::View;

const PROMETHEUS: &str = "text/plain";
const OPENMETRICS: &str = "application/openmetrics-text";
/// The one version of OpenMetrics that is written.
const VERSION: &str = "1.0.0";

/// Renders all metrics.
pub(super) async fn scrape(State(view): State<View>, headers: HeaderMap) -> Response {
    let (content_type, text) = if prefers_openmetrics(&headers) {
        (format!("{OPENMETRICS}; version={VERSION}; charset=utf-8"), view.metrics.render_openmetrics())
    } else {
        (format!("{PROMETHEUS}; version=0.0.4; charset=utf-8"), view.metrics.render())
    };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Whether the client names OpenMetrics, and likes Prometheus' format no better.
fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<_> = accept.flat_map(|value| value.split(',')).collect();
    let quality = |name| ranges.iter().filter_map(|range| quality(range, name)).fold(0.0, f32::max);
    let openmetrics = quality(OPENMETRICS);
    openmetrics > 0.0 && openmetrics >= quality(PROMETHEUS)
}

/// How much a media range likes this type, from 0 to 1; `None` if it is about another one.
fn quality(range: &str, name: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(name) {
        return None;
    }
    let mut quality = 1.0;
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().unwrap_or(0.0),
            "version" if name == OPENMETRICS && value.trim().trim_matches('"') != VERSION => return None,
            _ => {}
        }
    }
    Some(quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_clients_that_ask_for_it_in_the_version_that_is_written() {
        let prefers = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (header::ACCEPT, line.parse().unwrap()));
            prefers_openmetrics(&lines.collect())
        };
        for asked in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8",
            "text/plain;q=0.5, application/openmetrics-text ; version=1.0.0 ; q=0.5",
            // Prometheus 2.42 and 3.5.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert!(prefers(&[asked]), "{asked}");
        }
        assert!(prefers(&["text/html", "application/openmetrics-text"]), "in a second line");
        for other in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0,text/plain",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=much",
            "application/openmetrics-text;q=0.3,text/plain;q=0.5",
            "application/openmetrics-text-not",
        ] {
            assert!(!prefers(&[other]), "{other}");
        }
        assert!(!prefers(&[]));
    }
}
