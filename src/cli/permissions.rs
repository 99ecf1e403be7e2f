//! `pontoon nats-permissions`: the users of a nats-server for this configuration, as its `authorization` block.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::process::ExitCode;

use super::Outcome;
use super::failure::Failure;
use crate::bus::acks::stream_of;
use crate::bus::bucket::{self, KEYS, LEASES, MEMBERS};
use crate::cluster::INBOX;
use crate::config::{self, Sources};
use crate::envelope::subject::Subjects;
use crate::instance::router::{PAUSE, RECONNECT, RESUME, STATUS};
use crate::registry::Registry;
use crate::settings::{Config, DeliveryMode};

/// A user, and the subjects that it needs.
struct User {
    name: String,
    /// The variable of the server's environment that holds its password.
    variable: String,
    purpose: &'static str,
    publish: Vec<String>,
    /// What it may not publish to of these.
    deny: Vec<String>,
    subscribe: Vec<String>,
}

/// Prints the users.
pub(super) fn print(registry: &Registry, sources: &Sources) -> Outcome {
    let (config, kinds) = config::shared(registry, sources)?;
    if kinds.is_empty() {
        return Err(Failure::Usage("no instance is configured, so no user needs permissions".to_owned()));
    }
    let mut daemon = daemon(&config, &kinds);
    daemon.publish.extend(config::asks(registry, sources)?);
    let mut users = vec![daemon, reader(&config, &kinds)];
    users.extend(kinds.iter().map(|(name, kind)| caller(&config, name, kind)));
    if config.admin.commands {
        users.push(operator(&config));
    }
    stdout().write_all(block(&users).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The streams of the instances.
fn streams(config: &Config, kinds: &BTreeMap<String, String>) -> Vec<String> {
    if config.delivery.mode == DeliveryMode::Core {
        return Vec::new();
    }
    let mut streams: Vec<_> = kinds.keys().map(|name| stream_of(&config.delivery, name)).collect();
    streams.dedup();
    streams
}

/// The inboxes of a client: of an instance with `_`, of a user with a dot between.
fn inboxes(config: &Config, separator: char, name: &str) -> String {
    match &config.nats.inbox_prefix {
        Some(prefix) => format!("{prefix}.{name}.>"),
        None => format!("_INBOX{separator}{name}.>"),
    }
}

fn daemon(config: &Config, kinds: &BTreeMap<String, String>) -> User {
    let (prefix, api) = (&config.nats.prefix, config.nats.jetstream_api());
    let mut publish: Vec<_> = ["event", "state", "dead"].map(|what| format!("{prefix}.{what}.>")).into();
    // A permission is of whole tokens.
    let replies = config.commands.reply_prefixes.iter().map(|replies| match replies.rsplit_once('.') {
        Some((tokens, _)) => format!("{tokens}.>"),
        None => ">".to_owned(),
    });
    publish.extend(replies);
    let own: Vec<_> = kinds.keys().map(|name| inboxes(config, '_', name)).collect();
    publish.extend(own.clone());
    let streams = streams(config, kinds);
    for stream in &streams {
        publish.push(format!("{api}.STREAM.INFO.{stream}"));
        if config.delivery.provision {
            publish.push(format!("{api}.STREAM.CREATE.{stream}"));
        }
        publish.push(format!("{api}.STREAM.MSG.GET.{stream}"));
    }
    if !streams.is_empty() {
        publish.push(format!("{api}.STREAM.NAMES"));
    }
    if config.jobs.are_taken(config.delivery.mode) {
        publish.extend(jobs(config, kinds));
    }
    let mut subscribe = vec![format!("{prefix}.command.>"), "$SRV.>".to_owned()];
    if config.cluster.enabled {
        publish.extend(cluster(config));
        subscribe.push(bucket::subject(MEMBERS, prefix, "*"));
        subscribe.push(cluster_inboxes(config));
    }
    subscribe.extend(own);
    if config.admin.commands {
        subscribe.push(format!("{prefix}.control.*"));
    }
    let name = config.nats.user.clone().unwrap_or_else(|| "pontoon".to_owned());
    let variable = "NATS_PASSWORD".to_owned();
    User { name, variable, purpose: "The daemon.", publish, deny: Vec::new(), subscribe }
}

/// The inboxes of the connection for leases.
fn cluster_inboxes(config: &Config) -> String {
    inboxes(config, '_', INBOX.trim_start_matches("_INBOX_"))
}

/// What the daemon publishes to for leases.
fn cluster(config: &Config) -> Vec<String> {
    let (prefix, api) = (&config.nats.prefix, config.nats.jetstream_api());
    let mut publish = Vec::new();
    for bucket in [LEASES, MEMBERS] {
        let stream = bucket::stream(bucket);
        publish.push(format!("{api}.STREAM.INFO.{stream}"));
        if config.delivery.provision {
            publish.push(format!("{api}.STREAM.CREATE.{stream}"));
        }
        publish.push(bucket::subject(bucket, prefix, "*"));
    }
    publish.push(format!("{api}.STREAM.MSG.GET.{}", bucket::stream(LEASES)));
    publish.push(cluster_inboxes(config));
    let keys = bucket::stream(KEYS);
    publish.extend(["INFO", "MSG.GET"].map(|what| format!("{api}.STREAM.{what}.{keys}")));
    if config.delivery.provision {
        publish.push(format!("{api}.STREAM.CREATE.{keys}"));
    }
    publish.push(bucket::subject(KEYS, prefix, "*.*"));
    publish
}

/// What the daemon publishes to for jobs.
fn jobs(config: &Config, kinds: &BTreeMap<String, String>) -> Vec<String> {
    let (prefix, api, jobs) = (&config.nats.prefix, config.nats.jetstream_api(), &config.jobs.stream);
    let mut publish = vec![format!("{prefix}.result.>")];
    for stream in [jobs, &config.jobs.results] {
        publish.push(format!("{api}.STREAM.INFO.{stream}"));
        if config.delivery.provision {
            publish.push(format!("{api}.STREAM.CREATE.{stream}"));
        }
    }
    for name in kinds.keys() {
        publish.push(format!("{api}.CONSUMER.INFO.{jobs}.{name}"));
        publish.push(format!("{api}.CONSUMER.CREATE.{jobs}.{name}.{prefix}.job.>"));
        publish.push(format!("{api}.CONSUMER.MSG.NEXT.{jobs}.{name}"));
        publish.push(format!("$JS.ACK.{jobs}.{name}.>"));
    }
    publish
}

fn reader(config: &Config, kinds: &BTreeMap<String, String>) -> User {
    let api = config.nats.jetstream_api();
    let of_stream = |stream: &String| {
        [
            format!("{api}.STREAM.INFO.{stream}"),
            format!("{api}.CONSUMER.CREATE.{stream}.>"),
            format!("{api}.CONSUMER.DURABLE.CREATE.{stream}.>"),
            format!("{api}.CONSUMER.INFO.{stream}.*"),
            format!("{api}.CONSUMER.DELETE.{stream}.*"),
            format!("{api}.CONSUMER.MSG.NEXT.{stream}.*"),
            format!("$JS.ACK.{stream}.>"),
            format!("$JS.FC.{stream}.>"),
        ]
    };
    let prefix = &config.nats.prefix;
    User {
        name: "reader".to_owned(),
        variable: "READER_PASSWORD".to_owned(),
        purpose: "A reader of events, live or from the streams. Its clients need the inbox prefix that is below.",
        publish: streams(config, kinds).iter().flat_map(of_stream).collect(),
        deny: Vec::new(),
        subscribe: vec![
            format!("{prefix}.event.>"),
            format!("{prefix}.state.>"),
            inboxes(config, '.', "reader"),
        ],
    }
}

fn caller(config: &Config, name: &str, kind: &str) -> User {
    let (user, subjects) = (format!("caller_{name}"), Subjects::new(&config.nats.prefix, kind, name));
    let mut publish = vec![format!("{}.>", subjects.commands())];
    let mut subscribe = vec![inboxes(config, '.', &user)];
    let mut places = vec![subjects.commands()];
    if config.jobs.are_taken(config.delivery.mode) {
        publish.push(subjects.all_jobs());
        places.push(subjects.jobs());
        subscribe.push(subjects.all_results());
    }
    let deny =
        places.iter().flat_map(|place| [PAUSE, RESUME].map(|operation| format!("{place}.{operation}")));
    User {
        deny: deny.collect(),
        variable: format!("CALLER_{}_PASSWORD", name.to_uppercase()),
        purpose: "A client that may send commands and jobs to one instance. It needs the inbox prefix that is below.",
        publish,
        subscribe,
        name: user,
    }
}

fn operator(config: &Config) -> User {
    let prefix = &config.nats.prefix;
    let mut publish = vec![format!("{prefix}.control.*")];
    let operations = [PAUSE, RESUME, RECONNECT, STATUS];
    publish.extend(operations.map(|operation| format!("{prefix}.command.*.*.{operation}")));
    User {
        name: "operator".to_owned(),
        variable: "OPERATOR_PASSWORD".to_owned(),
        purpose: "An operator, who pauses, resumes and reloads. Its clients need the inbox prefix that is below.",
        publish,
        deny: Vec::new(),
        subscribe: vec![inboxes(config, '.', "operator")],
    }
}

/// The block, as the configuration of nats-server has it.
fn block(users: &[User]) -> String {
    let mut text = "authorization {\n  users: [\n".to_owned();
    for User { name, variable, purpose, publish, deny, subscribe } in users {
        let list = |subjects: &[String]| {
            let quoted = subjects.iter().map(|subject| format!("          \"{subject}\"\n"));
            format!("[\n{}        ]", quoted.collect::<String>())
        };
        // An empty list of permissions allows everything.
        let publish = match (publish.is_empty(), deny.is_empty()) {
            (true, _) => "{ deny: \">\" }".to_owned(),
            (false, true) => list(publish),
            (false, false) => {
                format!("{{\n        allow: {}\n        deny: {}\n        }}", list(publish), list(deny))
            }
        };
        // Writing to a String cannot fail.
        write!(
            text,
            "    # {purpose}\n    {{\n      user: \"{name}\"\n      password: ${variable}\n      permissions: {{\n        \
             publish: {publish}\n        subscribe: {}\n      }}\n    }}\n",
            list(subscribe)
        )
        .ok();
    }
    text + "  ]\n}\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHIPPED: &str = include_str!("../../deploy/nats/nats-server.conf");

    /// The subjects of the lists.
    fn subjects(text: &str) -> BTreeSet<&str> {
        let lines =
            text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.contains("user:"));
        lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
    }

    #[test]
    fn they_are_the_users_that_are_shipped() {
        let mut config = Config::default();
        config.admin.commands = true;
        config.cluster.enabled = true;
        let kinds = BTreeMap::from([("shop".to_owned(), "sub0".to_owned())]);
        let users = [
            daemon(&config, &kinds),
            reader(&config, &kinds),
            caller(&config, "shop", "sub0"),
            operator(&config),
        ];
        let printed = block(&users).replace("caller_shop", "caller");
        let (_, shipped) = SHIPPED.split_once("authorization {").unwrap();
        assert_eq!(subjects(&printed), subjects(shipped));
    }

    #[test]
    fn they_follow_the_settings() {
        let mut config = Config::default();
        config.nats.prefix = "acme.bridge".into();
        config.nats.jetstream_domain = Some("hub".into());
        config.nats.inbox_prefix = Some("acme.inbox".into());
        config.delivery.stream = Some("EVENTS".into());
        config.delivery.provision = false;
        config.jobs.enabled = false;
        let kinds = BTreeMap::from(["a", "b"].map(|name| (name.to_owned(), "sub0".to_owned())));
        let text = block(&[daemon(&config, &kinds)]);
        for wanted in
            ["acme.bridge.event.>", "$JS.hub.API.STREAM.INFO.EVENTS", "acme.inbox.a.>", "acme.inbox.b.>"]
        {
            assert!(subjects(&text).contains(wanted), "{wanted} in {text}");
        }
        assert!(!text.contains("STREAM.CREATE") && text.matches("STREAM.INFO").count() == 1, "{text}");
        config.delivery.mode = DeliveryMode::Core;
        assert!(block(&[reader(&config, &kinds)]).contains("publish: { deny: \">\" }"));
    }
}
