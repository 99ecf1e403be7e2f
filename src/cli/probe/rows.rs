//! The status of a running daemon as rows of text.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::failure::Failure;
use crate::log::printable::printable;

/// The names of the columns.
pub(in crate::cli) const COLUMNS: [&str; 10] =
    ["INSTANCE", "TYPE", "LINK", "STATE", "FOR", "EVENTS", "PER S", "COMMANDS", "BACKLOG", "DETAIL"];

/// The state of an instance without NATS.
const NOT_CONNECTED: &str = "not connected";

/// One cell for each column, without control characters.
pub(in crate::cli) type Row = [String; COLUMNS.len()];

/// The rows of a status: for each instance one, then those of its spool, jobs and links.
pub(in crate::cli) fn read(body: &[u8], now: OffsetDateTime) -> Result<Vec<Row>, Failure> {
    let status: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::Failed(format!("/status is not JSON: {error}")))?;
    let instances = status.get("instances").unwrap_or(&status).as_array();
    let mut rows = Vec::new();
    for instance in instances.into_iter().flatten() {
        rows.push(instance_row(instance));
        rows.extend(spool_row(instance));
        rows.extend(jobs_row(instance));
        let links = instance.get("links").and_then(Value::as_array);
        rows.extend(links.into_iter().flatten().map(|link| link_row(link, now)));
    }
    Ok(rows.iter().map(|row: &Row| row.each_ref().map(|cell| printable(cell))).collect())
}

/// Where events are kept, if that should be on disk.
fn spool_row(instance: &Value) -> Option<Row> {
    let is_on_disk = instance.pointer("/spool/on_disk") == Some(&Value::Bool(true));
    let detail = text(instance, "/spool/detail");
    let state = if is_on_disk { "on disk" } else { "in memory" };
    let mut row = Row::default();
    [row[2], row[3], row[9]] = ["spool".to_owned(), state.to_owned(), detail.clone()];
    (is_on_disk || !detail.is_empty()).then_some(row)
}

/// The instance and its connection to NATS.
fn instance_row(instance: &Value) -> Row {
    let is_set = |pointer: &str| instance.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let state = match (is_set("/bus/connected"), is_set("/bus/publishing")) {
        (true, true) => "publishing",
        (true, false) => "not publishing",
        (false, _) => NOT_CONNECTED,
    };
    let number = |pointer: &str| instance.pointer(pointer).map(Value::to_string).unwrap_or_default();
    let commands = match state {
        // What it is subscribed to it does not receive.
        NOT_CONNECTED => "commands do not arrive until it is connected".to_owned(),
        _ => text(instance, "/commands/detail"),
    };
    let details = [text(instance, "/bus/detail"), commands];
    let details = details.into_iter().filter(|detail| !detail.is_empty()).collect::<Vec<_>>();
    [
        text(instance, "/instance"),
        text(instance, "/type"),
        "nats".to_owned(),
        state.to_owned(),
        String::new(),
        number("/counts/events_published"),
        number("/rates/events_published"),
        number("/counts/commands"),
        number("/unconfirmed_events"),
        details.join("; "),
    ]
}

/// The jobs of the instance, if it takes any or should.
fn jobs_row(instance: &Value) -> Option<Row> {
    let number = |pointer: &str| instance.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let detail = text(instance, "/jobs/detail");
    let taken = instance.pointer("/jobs/taken").and_then(Value::as_bool) == Some(true);
    if !taken && detail.is_empty() {
        return None;
    }
    let mut row = std::array::from_fn(|_| String::new());
    row[2] = "jobs".to_owned();
    row[3] = if taken { "taken" } else { "not taken" }.to_owned();
    row[8] = number("/jobs/waiting").to_string();
    let in_flight = Some(number("/jobs/in_flight")).filter(|number| *number > 0);
    let in_flight = in_flight.map(|number| format!("{number} in flight")).unwrap_or_default();
    row[9] = if detail.is_empty() { in_flight } else { detail };
    Some(row)
}

fn link_row(link: &Value, now: OffsetDateTime) -> Row {
    let retry = time(link, "/retry_at").map(|at| format!("next try in {}", span(at - now)));
    let last = time(link, "/last_error/at")
        .map(|at| format!("{} ago: {}", span(now - at), text(link, "/last_error/text")));
    let detail = Some(text(link, "/detail")).filter(|detail| !detail.is_empty()).or(last);
    let mut row = std::array::from_fn(|_| String::new());
    row[2] = text(link, "/key");
    row[3] = text(link, "/phase");
    row[4] = time(link, "/since").map(|since| span(now - since)).unwrap_or_default();
    row[9] = [retry, detail].into_iter().flatten().collect::<Vec<_>>().join("; ");
    row
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn time(value: &Value, pointer: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.pointer(pointer)?.as_str()?, &Rfc3339).ok()
}

/// A span in its two largest units: `2h 5m`, `17s`.
fn span(span: time::Duration) -> String {
    let seconds = span.whole_seconds().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_show_instances_and_links_and_cannot_steer_a_terminal() {
        let body = br#"{"instances":[{"instance":"shop","type":"sub0","bus":{"connected":true,"publishing":true},
            "unconfirmed_events":3,"counts":{"events_published":1204,"commands":7},"rates":{"events_published":2.5},
            "jobs":{"taken":true,"in_flight":2,"waiting":5},"links":[
                {"key":"main","phase":"waiting","since":"2026-01-02T03:04:05Z","retry_at":"2026-01-02T04:06:15Z",
                 "detail":"refused\u001b[2J"},
                {"key":"two","phase":"ready","since":"2026-01-02T04:06:00Z",
                 "last_error":{"at":"2026-01-02T04:05:00Z","text":"E1: no"}}]},
            {"instance":"desk","type":"minchat","bus":{"connected":false,"detail":"NATS is away"}}]}"#;
        let now = OffsetDateTime::parse("2026-01-02T04:06:05Z", &Rfc3339).unwrap();
        let rows = read(body, now).ok().unwrap();
        let cells = |row: &Row| row.iter().filter(|cell| !cell.is_empty()).cloned().collect::<Vec<_>>();
        let lines: Vec<_> = rows.iter().map(|row| cells(row).join(" ")).collect();
        assert_eq!(
            lines,
            [
                "shop sub0 nats publishing 1204 2.5 7 3",
                "jobs taken 5 2 in flight",
                "main waiting 1h 2m next try in 10s; refused\\u{1b}[2J",
                "two ready 5s 1m 5s ago: E1: no",
                "desk minchat nats not connected NATS is away; commands do not arrive until it is connected",
            ]
        );
    }
}
