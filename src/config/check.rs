//! Checks of values, alone and in combination, that a schema cannot express. Every message says what to write instead.

mod bounds;
mod cluster;

use std::net::SocketAddr;
use std::path::Path as FilePath;

use pontoon_sdk::Secret;
use pontoon_sdk::url::{Fault, Url};
use serde_json::{Map, Value};

use super::problem::path;
use super::report::Report;
use super::{secrets, suggest};
use crate::settings::{Config, DeliveryMode, Nats, Ordering, Tls, Transport};
use crate::transport::proxy::{Environment, Proxy};

/// Subjects hold at most 255 bytes, and the tokens after the prefix need room.
const LONGEST_PREFIX: usize = 64;

/// The schemes of NATS, and the usual port.
const NATS_SCHEMES: &[(&str, u16)] = &[("nats", 4222), ("tls", 4222)];

/// Checks everything that the schema cannot express.
pub(super) fn all(config: &Config, tree: &Map<String, Value>, report: &mut Report<'_>) {
    urls(&config.nats, report);
    prefix(&config.nats.prefix, report);
    credentials(&config.nats, tree, report);
    tls(&config.nats.tls.certificates(), &["nats", "tls"], report);
    jetstream(&config.nats, report);
    stream(config, report);
    reply_prefixes(config, report);
    log_level(&config.log.level, report);
    if config.admin.listen.parse::<SocketAddr>().is_err() {
        let write = "write an address and a port, such as \"127.0.0.1:9464\" or \"[::]:9464\"";
        report.problem(&path(["admin", "listen"]), format!("is not an address to listen on; {write}"));
    }
    for name in &config.admin.hosts {
        let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(label) {
            let shown = name.escape_debug();
            let write = "write names without scheme, port and wildcards, such as \"pontoon.example\"";
            report.problem(
                &path(["admin", "hosts"]),
                format!("holds \"{shown}\", which is not a host name; {write}"),
            );
        }
    }
    if config.connectors.values().any(|instance| instance.transport.proxy.is_none()) {
        Environment::read().faults().into_iter().for_each(|fault| report.warn(&[], fault));
    }
    for (name, instance) in &config.connectors {
        transport(name, &instance.transport, report);
    }
    cluster::all(config, report);
    bounds::all(config, report);
}

fn urls(nats: &Nats, report: &mut Report<'_>) {
    let at = path(["nats", "url"]);
    if nats.url.list().is_empty() {
        report.problem(&at, "is empty; write at least one address such as nats://127.0.0.1:4222");
    }
    for url in nats.url.list() {
        let text = if url.contains("://") { url.to_owned() } else { format!("nats://{url}") };
        match Url::parse(&text, NATS_SCHEMES) {
            Ok(_) => {}
            Err(Fault::UserInfo) => report.problem(
                &at,
                "carries a user or a password, which would be printed; use nats.user and nats.password",
            ),
            Err(Fault::Malformed(what, _)) => {
                report.problem(&at, format!("{what}; write an address such as nats://127.0.0.1:4222"));
            }
            Err(Fault::Scheme(shown, _)) => report.problem(
                &at,
                format!("has the scheme {shown}; write an address such as nats://127.0.0.1:4222 or tls://127.0.0.1:4222"),
            ),
            Err(Fault::Unfit(why)) => report.problem(&at, why),
        }
    }
}

fn prefix(prefix: &str, report: &mut Report<'_>) {
    let at = path(["nats", "prefix"]);
    let good = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    if !prefix.split('.').all(good) {
        report.problem(
            &at,
            "is not a prefix of subjects; write tokens of A-Z, a-z, 0-9, _ and - with dots between them",
        );
    } else if prefix.len() > LONGEST_PREFIX {
        report.problem(
            &at,
            format!(
                "is longer than {LONGEST_PREFIX} bytes, and subjects have room for 255; write a shorter one"
            ),
        );
    } else if prefix.split('.').next().is_some_and(|first| first.starts_with("_INBOX")) {
        report.problem(&at, "begins with _INBOX, where callers wait for replies; write another");
    }
}

fn credentials(nats: &Nats, tree: &Map<String, Value>, report: &mut Report<'_>) {
    // Counts what was written, not what was decoded: a wrong value has been reported already.
    let is_set = |key: &str| tree.get("nats").and_then(|nats| nats.get(key)).is_some();
    let ways: Vec<&str> =
        ["user", "token", "nkey", "credentials"].into_iter().filter(|key| is_set(key)).collect();
    if let [first, others @ ..] = ways.as_slice() {
        for other in others {
            let what =
                format!("is set beside nats.{first}; one way to sign in is enough, take one of them out");
            report.problem(&path(["nats", other]), what);
        }
    }
    if is_set("user") && !is_set("password") {
        report.problem(&path(["nats", "user"]), "has no password; set nats.password too");
    }
    if is_set("password") && !is_set("user") {
        report.problem(&path(["nats", "password"]), "has no user; set nats.user too");
    }
    if let Some(seed) = nats.nkey.as_ref().and_then(|seed| Secret::reveal(seed).ok())
        && nkeys::KeyPair::from_seed(seed.trim()).is_err()
    {
        report.problem(
            &path(["nats", "nkey"]),
            "is not the seed of an nkey; it begins with SU, as `nsc` and `nk` print it",
        );
    }
    if let Some(file) = &nats.credentials {
        let at = path(["nats", "credentials"]);
        readable(file, &at, report);
        secrets::private(&at, file, report);
    }
    if let Err(what) = crate::bus::context::apply(nats) {
        report.problem(&path(["nats", "context"]), what);
    }
}

fn tls(tls: &Tls, at: &[&str], report: &mut Report<'_>) {
    let at = |key: &str| at.iter().copied().chain([key]).map(str::to_owned).collect::<Vec<_>>();
    if tls.cert_file.is_some() && tls.key_file.is_none() {
        report.problem(&at("cert_file"), "has no key; set key_file too");
    }
    if tls.key_file.is_some() && tls.cert_file.is_none() {
        report.problem(&at("key_file"), "has no certificate; set cert_file too");
    }
    let files = [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)];
    for (key, file) in files {
        if let Some(file) = file {
            readable(file, &at(key), report);
        }
    }
    if let Some(file) = &tls.key_file {
        secrets::private(&at("key_file"), file, report);
    }
}

fn transport(name: &str, transport: &Transport, report: &mut Report<'_>) {
    tls(&transport.tls, &["connectors", name, "transport", "tls"], report);
    let at = |key| path(["connectors", name, "transport", key]);
    // One that cannot be resolved has been reported with the other secrets.
    if let Some(Ok(text)) = transport.proxy.as_ref().map(Secret::reveal)
        && let Err(why) = Proxy::read(&text)
    {
        report.problem(&at("proxy"), format!("cannot be used: {why}"));
    }
    if let Some(agent) = &transport.user_agent
        && (agent.is_empty() || !agent.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()))
    {
        report.problem(&at("user_agent"), "is not the value of a header; write ASCII such as \"mybot/1.0\"");
    }
}

/// Settings of JetStream and the inbox that become parts of subjects.
fn jetstream(nats: &Nats, report: &mut Report<'_>) {
    let good = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '*' | '>' | '.'))
    };
    if nats.jetstream_domain.as_deref().is_some_and(|domain| !good(domain)) {
        report.problem(
            &path(["nats", "jetstream_domain"]),
            "is not a domain; write the one token that the server's jetstream block has",
        );
    }
    if nats.jetstream_domain.is_some() && nats.jetstream_api_prefix.is_some() {
        report.problem(
            &path(["nats", "jetstream_api_prefix"]),
            "is set beside nats.jetstream_domain, which stands for a prefix as well; leave one out",
        );
    }
    let prefixes = [
        ("jetstream_api_prefix", nats.jetstream_api_prefix.as_deref().map(|text| text.trim_end_matches('.'))),
        ("inbox_prefix", nats.inbox_prefix.as_deref()),
    ];
    for (key, prefix) in prefixes {
        if prefix.is_some_and(|prefix| !prefix.split('.').all(good)) {
            let what = "is not the beginning of a subject; write tokens with dots between them, and without wildcards";
            report.problem(&path(["nats", key]), what);
        }
    }
}

fn readable(file: &FilePath, at: &[String], report: &mut Report<'_>) {
    let opened = std::fs::File::open(file).and_then(|file| file.metadata());
    match opened {
        Err(error) => {
            report.problem(
                at,
                format!(
                    "names {}, which cannot be read: {error}; correct the path or the rights",
                    file.display()
                ),
            );
        }
        Ok(metadata) if !metadata.is_file() => {
            report.problem(at, format!("names {}, which is not a file", file.display()));
        }
        Ok(_) => {}
    }
}

fn stream(config: &Config, report: &mut Report<'_>) {
    let (delivery, jobs) = (&config.delivery, &config.jobs);
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let names = [
        (["delivery", "stream"], delivery.stream.as_deref()),
        (["jobs", "stream"], Some(jobs.stream.as_str())),
        (["jobs", "results"], Some(jobs.results.as_str())),
    ];
    for (at, name) in names {
        if name.is_some_and(|name| !(1..=255).contains(&name.len()) || !name.chars().all(good)) {
            report.problem(&path(at), "is not a name for a stream; write A-Z, a-z, 0-9, _ and -");
        }
    }
    if jobs.results == jobs.stream {
        report.problem(
            &path(["jobs", "results"]),
            "is jobs.stream, which keeps nothing that has ended; write another",
        );
    }
    if delivery.stream.is_none() {
        return;
    }
    let at = path(["delivery", "stream"]);
    let writers = config.connectors.values().filter(|instance| instance.enabled).count();
    if writers > 1 && delivery.mode == DeliveryMode::Jetstream && delivery.ordering == Ordering::Strict {
        let choose = "leave it out, so that each has its own, or set delivery.ordering = \"best_effort\"";
        report.problem(
            &at,
            format!("is one stream for {writers} instances, and strict order needs one writer; {choose}"),
        );
    }
}

fn reply_prefixes(config: &Config, report: &mut Report<'_>) {
    let at = path(["commands", "reply_prefixes"]);
    if config.commands.reply_prefixes.is_empty() {
        report.problem(&at, "is empty, so that no caller could be answered; write [\"_INBOX.\"]");
    }
    let own = format!("{}.", config.nats.prefix);
    for prefix in &config.commands.reply_prefixes {
        let shown = prefix.escape_debug();
        let what = if prefix.is_empty() {
            "holds an empty prefix, which would allow every subject; write \"_INBOX.\"".to_owned()
        } else if prefix.starts_with('$') {
            format!("holds \"{shown}\": a reply to a subject with $ could have the server act; take it out")
        } else if prefix.contains(['*', '>']) {
            format!("holds \"{shown}\" with a wildcard; write the fixed beginning of the subjects")
        } else if prefix.chars().any(|c| c.is_whitespace() || c.is_control()) {
            format!("holds \"{shown}\" with white space in it; no subject has any")
        } else if prefix.starts_with('.') || prefix.contains("..") {
            format!("holds \"{shown}\" with an empty token; no subject has any")
        } else if own.starts_with(prefix.as_str()) || prefix.starts_with(&own) {
            format!("holds \"{shown}\", which covers our own subjects below {own}; write another prefix")
        } else {
            continue;
        };
        report.problem(&at, what);
    }
}

/// The filter's parser takes a misspelled level for the name of a module, which would log nothing or everything.
fn log_level(level: &str, report: &mut Report<'_>) {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let at = path(["log", "level"]);
    let filter = level.trim();
    let unknown = filter.split(',').map(str::trim).find(|word| {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric());
        plain && !LEVELS.contains(&word.to_ascii_lowercase().as_str())
    });
    let near = unknown
        .and_then(|word| suggest::nearest(word, &LEVELS))
        .map(|near| format!("did you mean \"{near}\"? "));
    if unknown.is_some() || crate::log::filter(filter).is_err() {
        let near = near.unwrap_or_default();
        let write = format!("write one of {}, or a filter such as info,pontoon=debug", LEVELS.join(", "));
        report.problem(&at, format!("is not a level or a filter; {near}{write}"));
    }
}
