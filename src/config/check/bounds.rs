//! The ranges of times, sizes and counts, and the order of those that depend on each other.

use std::time::Duration;

use pontoon_sdk::{Size, Span};

use crate::config::problem::path;
use crate::config::report::Report;
use crate::instance::router::MOST_COMMANDS;
use crate::settings::{Config, Transport};

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn all(config: &Config, report: &mut Report<'_>) {
    delivery(config, report);
    commands(config, report);
    jobs(config, report);
    span(config.shutdown.timeout, SECOND, HOUR, &["shutdown", "timeout"], report);
    for (name, instance) in &config.connectors {
        transport(name, &instance.transport, config, report);
    }
}

fn delivery(config: &Config, report: &mut Report<'_>) {
    let delivery = &config.delivery;
    if !(1..=5).contains(&delivery.replicas) {
        report.problem(&path(["delivery", "replicas"]), "is out of range; write 1 to 5");
    }
    size(delivery.max_bytes, Size::mib(1), Size::mib(1 << 24), &["delivery", "max_bytes"], report);
    span(delivery.max_age, SECOND, 365 * 24 * HOUR, &["delivery", "max_age"], report);
    if let Some(most) = delivery.max_messages {
        count(most, 1, 1 << 40, &["delivery", "max_messages"], report);
    }
    size(delivery.buffer, Size::kib(64), Size::mib(16 * 1024), &["delivery", "buffer"], report);
    count(delivery.buffer_events, 16, 1 << 24, &["delivery", "buffer_events"], report);
    size(delivery.spool.size, Size::mib(1), Size::mib(1 << 24), &["delivery", "spool", "size"], report);
    span(delivery.max_pause, Duration::ZERO, HOUR, &["delivery", "max_pause"], report);
}

fn commands(config: &Config, report: &mut Report<'_>) {
    let commands = &config.commands;
    span(commands.timeout, MILLISECOND, 24 * HOUR, &["commands", "timeout"], report);
    span(commands.max_timeout, MILLISECOND, 24 * HOUR, &["commands", "max_timeout"], report);
    if commands.timeout > commands.max_timeout {
        let longest = commands.max_timeout;
        let what =
            format!("is longer than commands.max_timeout ({longest}); write a shorter one or raise that");
        report.problem(&path(["commands", "timeout"]), what);
    }
    count(commands.max_in_flight, 1, MOST_COMMANDS, &["commands", "max_in_flight"], report);
    size(commands.max_body, Size(2), Size::mib(64), &["commands", "max_body"], report);
    count(commands.idempotency_keys, 1, 1 << 24, &["commands", "idempotency_keys"], report);
    size(
        commands.idempotency_bytes,
        Size::kib(4),
        Size::mib(16 * 1024),
        &["commands", "idempotency_bytes"],
        report,
    );
    span(commands.idempotency_time, SECOND, 24 * HOUR, &["commands", "idempotency_time"], report);
}

fn jobs(config: &Config, report: &mut Report<'_>) {
    let jobs = &config.jobs;
    size(jobs.max_bytes, Size::mib(1), Size::mib(1 << 24), &["jobs", "max_bytes"], report);
    span(jobs.max_age, SECOND, 365 * 24 * HOUR, &["jobs", "max_age"], report);
    count(jobs.max_in_flight, 1, 1_024, &["jobs", "max_in_flight"], report);
    span(jobs.expires, MILLISECOND, jobs.max_age.0, &["jobs", "expires"], report);
}

fn transport(name: &str, transport: &Transport, config: &Config, report: &mut Report<'_>) {
    let at = |key| ["connectors", name, "transport", key];
    span(transport.connect_timeout, MILLISECOND, HOUR, &at("connect_timeout"), report);
    span(transport.ping_interval, SECOND, HOUR, &at("ping_interval"), report);
    span(transport.write_timeout, MILLISECOND, HOUR, &at("write_timeout"), report);
    size(transport.message_limit, Size::kib(1), Size::mib(1024), &at("message_limit"), report);
    size(transport.send_buffer, Size::kib(1), Size::mib(1024), &at("send_buffer"), report);
    if let Some(silence) = transport.max_silence {
        span(silence, SECOND, 24 * HOUR, &at("max_silence"), report);
    }
    if let Some(Err(error)) = transport.send_rate.map(|rate| rate.check("")) {
        let key = error.pointer().unwrap_or_default().trim_start_matches('/');
        report.problem(&path(["connectors", name, "transport", "send_rate", key]), error.message());
    }
    codes(transport, at, report);
    count(transport.max_links, 1, 1 << 17, &at("max_links"), report);
    if transport.send_buffer < config.commands.max_body {
        let body = config.commands.max_body;
        let what =
            format!("is smaller than one command may be (commands.max_body, {body}); write at least that");
        report.problem(&path(at("send_buffer")), what);
    }
    // An event carries the message it came from, and the next one is read while the first is being confirmed.
    let limit = transport.message_limit;
    if config.delivery.buffer.0 / 2 < limit.0 {
        let what =
            format!("is too small for {name}, whose messages may have {limit}; write at least twice that");
        report.problem(&path(["delivery", "buffer"]), what);
    }
}

/// Checks that close codes are in the range that a service can send (RFC 6455 §7.4.2), and in one list only.
fn codes<'a>(transport: &Transport, at: impl Fn(&'static str) -> [&'a str; 4], report: &mut Report<'_>) {
    let both = [("refused_codes", &transport.refused_codes), ("slow_codes", &transport.slow_codes)];
    for (key, codes) in both {
        if let Some(code) = codes.iter().find(|code| !(1000..=4999).contains(*code)) {
            report.problem(&path(at(key)), format!("has {code}; close codes are 1000 to 4999"));
        }
    }
    if let Some(code) = transport.slow_codes.iter().find(|code| transport.refused_codes.contains(code)) {
        let what = format!("has {code}, which is in refused_codes too; take it out of one of them");
        report.problem(&path(at("slow_codes")), what);
    }
}

pub(super) fn span<const N: usize>(
    value: Span,
    low: Duration,
    high: Duration,
    at: &[&str; N],
    report: &mut Report<'_>,
) {
    if value.0 < low || value.0 > high {
        let (low, high) = (Span(low), Span(high));
        report.problem(&path(*at), format!("is {value}, which is out of range; write {low} to {high}"));
    }
}

fn size<const N: usize>(value: Size, low: Size, high: Size, at: &[&str; N], report: &mut Report<'_>) {
    if value < low || value > high {
        report.problem(&path(*at), format!("is {value}, which is out of range; write {low} to {high}"));
    }
}

pub(super) fn count<const N: usize>(
    value: usize,
    low: usize,
    high: usize,
    at: &[&str; N],
    report: &mut Report<'_>,
) {
    if value < low || value > high {
        report.problem(&path(*at), format!("is {value}, which is out of range; write {low} to {high}"));
    }
}
