//! Everything that rules and dashboard ask is understood, evaluated, and about series that the daemon has: a name or a
//! label that is written wrongly would be silent for ever.

use std::time::Duration;

use async_nats::HeaderMap;
use pontoon_testkit::{DaemonConfig, NatsServer, Refusal, Sub0, eventually};
use serde_json::Value;
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::prometheus::Prometheus;
use super::{DEADLINE, shipped};
use crate::support::start;

#[tokio::test]
async fn everything_that_is_asked_has_an_answer() {
    let nats = NatsServer::start().await;
    let (shop, bank) = (Sub0::start().await, Sub0::start().await);
    // An alert that fires makes the series of alerts.
    bank.refuse(Refusal::status(401));
    let config = DaemonConfig::new(&nats).with("cluster.enabled = true");
    let mut daemon = start(config.sub0("shop", &shop).sub0("bank", &bank));
    shop.connected(1, DEADLINE).await;
    let Some(prometheus) = Prometheus::beside(&daemon.admin().await).await else { return };
    // Where there are no commands, no part of them fails; and jobs for a service that refuses the daemon expire.
    let client = nats.client().await;
    let _commands = AbortOnDropHandle::new(tokio::spawn(async move {
        let soon = HeaderMap::from_iter([("Pontoon-Expires".parse().unwrap(), "1s".parse().unwrap())]);
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let command =
                client.publish_with_reply("pontoon.command.sub0.shop.status", "_INBOX.x", "".into());
            command.await.expect("sent");
            let job = client.publish_with_headers("pontoon.job.sub0.bank.call.x", soon.clone(), "{}".into());
            job.await.expect("sent");
        }
    }));
    let dashboard: Value = serde_json::from_str(&shipped("grafana/pontoon.json")).unwrap();
    let mut asked: Vec<String> = Vec::new();
    for rule in prometheus.rules().await {
        asked.push(rule["query"].as_str().unwrap().to_owned());
    }
    collect(&dashboard, "expr", &mut asked);
    assert!(asked.len() > 50, "{asked:?}");
    for expression in &asked {
        let expression = filled_in(expression);
        // Evaluated as well: what cannot be matched with each other shows only then.
        prometheus.query(&expression).await;
        let selectors = selectors(&expression);
        assert!(!selectors.is_empty(), "{expression}");
        for selector in selectors {
            eprintln!("{selector}");
            eventually(DEADLINE, async || !prometheus.query(&selector).await.is_empty()).await;
        }
    }
    // What the menus of the dashboard are filled with.
    let mut menus = Vec::new();
    collect(&dashboard["templating"], "query", &mut menus);
    let menus: Vec<_> = menus.iter().filter_map(|menu| menu.strip_prefix("label_values(")).collect();
    assert_eq!(menus.len(), 2);
    for menu in menus {
        let (selector, label) = menu.trim_end_matches(')').rsplit_once(", ").unwrap();
        let values = prometheus.query(&format!("count by ({label}) ({})", filled_in(selector))).await;
        assert!(values.iter().any(|value| value["metric"][label].is_string()), "{menu}");
    }
}

/// Every text under this key.
fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, found)),
        _ => {}
    }
}

/// As the dashboard would ask it for everything.
fn filled_in(expression: &str) -> String {
    let filled = expression
        .replace("$__rate_interval", "1m")
        .replace("\"$daemon\"", "\".*\"")
        .replace("\"$instance\"", "\".*\"");
    assert!(!filled.contains('$'), "{filled}");
    filled
}

/// The series that an expression names, with their labels.
fn selectors(expression: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| is_word(c) || c == '"' || c == '[') {
        rest = &rest[start..];
        match rest.as_bytes()[0] {
            b'"' => rest = &rest[after(rest, '"')..],
            b'[' => rest = &rest[after(rest, ']')..],
            first => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                let next = behind.trim_start();
                rest = behind;
                match word {
                    // These name labels.
                    "by" | "without" | "on" | "ignoring" => rest = &next[after(next, ')')..],
                    "and" | "or" | "unless" | "bool" => {}
                    // A number, or a function, or one of those that may name labels first.
                    _ if first.is_ascii_digit() || next.starts_with('(') => {}
                    _ if next.starts_with("by (") || next.starts_with("without (") => {}
                    _ if next.starts_with('{') => {
                        let (labels, behind) = next.split_at(after(next, '}'));
                        found.push(format!("{word}{labels}"));
                        rest = behind;
                    }
                    _ => found.push(word.to_owned()),
                }
            }
        }
    }
    found
}

/// Where what begins here is over: behind this sign, which counts in no quotes.
fn after(text: &str, close: char) -> usize {
    let mut quoted = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == close && !quoted {
            return at + 1;
        }
        quoted ^= c == '"';
    }
    panic!("there is no {close} in {text}");
}

#[test]
fn selectors_are_found_wherever_they_stand() {
    let expression = r#"max without (b) (label_replace(a_b / (c:d > 0.5), "e", "f(g)", "", "")) or bool
        rate(h{i=~"j}|k", l="m"}[5m]) and on (n) o == bool 1"#;
    assert_eq!(selectors(expression), ["a_b", "c:d", r#"h{i=~"j}|k", l="m"}"#, "o"]);
}
